"""Access tokens: RS256 JWTs in the shape of Entra's app-only tokens."""

from __future__ import annotations

import hashlib
import secrets
from functools import cache
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from exo_imap_oauth.testing._directory import IMAP_ROLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jwt.types import Options

    from exo_imap_oauth.testing._clock import Clock
    from exo_imap_oauth.testing._records import App

EXCHANGE_AUDIENCES = frozenset({"https://outlook.office365.com", "https://outlook.office.com"})


class TokenRefused(Exception):
    """Exchange does not accept this token; the text says why.

    Attributes:
        client_id: The application of the token, or None if the token is not a genuine one.
    """

    def __init__(self, reason: str, client_id: str | None = None) -> None:
        super().__init__(reason)
        self.client_id = client_id


@cache
def _signing_key() -> rsa.RSAPrivateKey:
    """One key per process: generating it is the slowest part of starting."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class TokenIssuer:
    """Signs access tokens, and verifies them as a resource does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = _signing_key()
        self._public_key = self._key.public_key()
        der = self._public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._key_id = hashlib.sha256(der).hexdigest()[:32]

    def issue(self, app: App, audience: str, roles: list[str]) -> str:
        """A token for one resource; without the claim ``roles`` if there are none."""
        issued_at = int(self._clock.now())
        claims: dict[str, Any] = {
            "aud": audience,
            "iss": _issuer(app.tenant_id),
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + app.token_lifetime,
            "appid": app.client_id,
            "idtyp": "app",
            "oid": app.enterprise_object_id,
            "sub": app.enterprise_object_id,
            "tid": app.tenant_id,
            "uti": secrets.token_urlsafe(16),  # no two tokens are equal
            "ver": "1.0",
        }
        if roles:
            claims["roles"] = roles
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._key_id})

    def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that Exchange may let in.

        Raises:
            TokenRefused: Malformed, forged, expired, for another resource, or without the
                role that IMAP needs.
        """
        # Times are checked below, by the service's clock instead of the system's.
        options: Options = {
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
            "verify_aud": False,
        }
        try:
            claims = jwt.decode(token, self._public_key, algorithms=["RS256"], options=options)
        except jwt.InvalidTokenError:
            reason = "not a token of this Entra"
            raise TokenRefused(reason) from None
        now = self._clock.now()
        if not claims["nbf"] <= now < claims["exp"]:
            reason = (
                "the token has expired" if now >= claims["exp"] else "the token is not valid yet"
            )
        elif claims["aud"] not in EXCHANGE_AUDIENCES:
            reason = f"the token is for {claims['aud']}"
        elif IMAP_ROLE not in claims.get("roles", ()):
            reason = f"the token lacks the role {IMAP_ROLE}"
        else:
            return claims
        raise TokenRefused(reason, claims["appid"])

    def jwks(self) -> dict[str, Any]:
        """The public key, as a JSON Web Key Set."""
        key = RSAAlgorithm.to_jwk(self._public_key, as_dict=True)
        return {"keys": [key | {"use": "sig", "kid": self._key_id}]}


def _issuer(tenant_id: str) -> str:
    return f"https://sts.windows.net/{tenant_id}/"
