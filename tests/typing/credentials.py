"""What type checkers see of credentials; checked by mypy and pyright, never executed."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from exo_imap_oauth import ClientCertificate, TokenSource

certificate = ClientCertificate.from_pem("bot.pem", password="passphrase")
assert_type(certificate, ClientCertificate)
assert_type(certificate.expires_on, int)
assert_type(certificate.thumbprint, str)
ClientCertificate.from_pem(Path("bot.pem"), password=b"passphrase")
ClientCertificate.from_pfx(b"bytes")
ClientCertificate.from_pfx(5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # neither path nor bytes

TokenSource("contoso.com", "id", certificate=certificate)
TokenSource("contoso.com", "id", assertion=Path("token").read_text)
TokenSource("contoso.com", "id", assertion="text")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # a callable returns it
TokenSource("contoso.com", "id", certificate="bot.pem")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # it has to be read


class Rotated:
    """A secret that changes."""

    def __call__(self) -> str:
        return "secret"


TokenSource("contoso.com", "id", Rotated())
