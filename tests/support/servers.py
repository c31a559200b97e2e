"""The one Dovecot of a test session, and the loopback Exchange whose tokens it accepts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from exo_imap_oauth import TokenSource, open_mailbox
from exo_imap_oauth.testing import LoopbackExchange, ready_exchange
from support.dovecot import Dovecot

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

INBOX, DENIED, WAITING, LISTENED = (
    f"{name}@contoso.example" for name in ("inbox", "denied", "waiting", "listened")
)
"""The mailboxes of the Exchange's application; the second is denied to everyone."""

ISSUER = "https://sts.windows.net/6babcaad-604b-40ac-a9d7-9fd97c0b779f/"
AUDIENCE = "https://outlook.office365.com"
KID = "key1"
OBJECT_ID = "71487acd-ec93-476d-bd0e-6c8b31831053"
OTHER_OBJECT_ID = "2f1c6ad8-9a44-4d5b-9a3f-1a5f7d1b0c11"
SUPPORT, SALES = "support@contoso.example", "sales@contoso.example"
"""The mailboxes of the tokens that a test signs itself."""


class Servers(NamedTuple):
    """The two servers, and a key for tokens that no Entra would issue."""

    exchange: ReadyExchange
    dovecot: Dovecot
    key: rsa.RSAPrivateKey

    def source(self, **options: Any) -> TokenSource:
        """A source of the Exchange's tokens."""
        app = self.exchange.app
        return TokenSource(
            app.tenant_id,
            app.client_id,
            self.exchange.secret.value,
            token_uri=self.exchange.token_uri(),
            ssl_context=self.exchange.ssl_context,
            **options,
        )

    def open(self, token: Any, user: str = INBOX, **options: Any) -> Any:
        """A mailbox on Dovecot."""
        options = {"port": self.dovecot.port} | options
        return open_mailbox(
            user, token, host=self.dovecot.host, ssl_context=self.dovecot.ssl_context, **options
        )


@contextlib.contextmanager
def running_servers(binary: str, folder: Path) -> Generator[Servers]:
    """Both servers, running."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    with ready_exchange(trust=False) as exchange:
        with Dovecot(
            {KID: public_pem(key.public_key()), **_keys(exchange, folder)},
            issuers=[ISSUER, f"https://sts.windows.net/{exchange.app.tenant_id}/"],
            audience=AUDIENCE,
            users={
                exchange.app.enterprise_object_id: [INBOX, DENIED, WAITING, LISTENED],
                OBJECT_ID: [SUPPORT, DENIED],
                OTHER_OBJECT_ID: SALES,
            },
            denied=[DENIED],
            binary=binary,
        ) as dovecot:
            yield Servers(exchange, dovecot, key)


def public_pem(key: rsa.RSAPublicKey) -> bytes:
    """The key as Dovecot reads it."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _keys(exchange: LoopbackExchange, folder: Path) -> dict[str, bytes]:
    """The keys that the Exchange publishes, by their names."""
    ca = exchange.write_ca(folder / "ca.pem")
    uri = f"{exchange.authority}/{exchange.tenant_id}/discovery/v2.0/keys"
    with requests.Session() as session:
        session.trust_env = False
        with session.get(uri, verify=str(ca)) as response:
            keys = response.json()["keys"]
    return {key["kid"]: public_pem(jwt.PyJWK(key).key) for key in keys}
