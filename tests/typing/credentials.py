"""What type checkers see of credentials; checked by mypy and pyright, never executed."""

from __future__ import annotations

import imaplib
from pathlib import Path
from typing import assert_type

from azure.identity import (
    CertificateCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from exo_imap_oauth import (
    ClientCertificate,
    InboxConfig,
    TokenSource,
    authenticate_xoauth2,
    check_setup,
    open_mailbox,
)
from exo_imap_oauth.listener import InboxListener

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

# ---- whatever gives tokens
inbox = InboxConfig(user="inbox@contoso.com")


class Issued:
    token = "text"


def issue() -> Issued:
    return Issued()


async def fetch() -> str:
    return "text"


class AioCredential:
    """As those of azure.identity.aio are."""

    async def get_token(self, *scopes: str) -> Issued:
        raise LookupError(scopes)


managed = ManagedIdentityCredential()
inbox.open(token=managed)
inbox.open(token=WorkloadIdentityCredential())
open_mailbox("inbox@contoso.com", ClientSecretCredential("contoso.com", "id", "secret"))
open_mailbox("inbox@contoso.com", CertificateCredential("contoso.com", "id", "bot.pem"))
open_mailbox("inbox@contoso.com", Rotated())
open_mailbox("inbox@contoso.com", issue)
open_mailbox("inbox@contoso.com", lambda: TokenSource("contoso.com", "id", "secret").get_token())
authenticate_xoauth2(imaplib.IMAP4_SSL(), "inbox@contoso.com", Path("token").read_text)
InboxListener(inbox, print, token=managed)
check_setup(inbox, token_source=managed)
check_setup(inbox, token_source=issue)
inbox.open(token=fetch)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # nobody awaits it
inbox.open(token=lambda: 5)  # type: ignore[arg-type] # pyright: ignore # noqa: PGH003 - no token
inbox.open(token=AioCredential())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # nobody awaits it
