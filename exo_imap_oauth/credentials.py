"""What an application proves its identity with at the token endpoint.

A secret, a certificate or a federated assertion: each knows the form fields that carry it. All
keep what is secret out of ``repr()`` and, since tracebacks hold frames, out of the locals of
frames that an error leaves: what raises has deleted it before.
"""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NoReturn, Self

from typing_extensions import override

from exo_imap_oauth._arguments import CERTIFICATE, FILES, wrong_kind
from exo_imap_oauth._credentials.assertion import ClientAssertion, Purpose, assertion_fields
from exo_imap_oauth._credentials.callables import Asked, problem_of_callable
from exo_imap_oauth._process_lock import no_fork
from exo_imap_oauth._text import HiddenText, is_guid
from exo_imap_oauth.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from exo_imap_oauth._credentials.certificate import KeyPair
    from exo_imap_oauth._credentials.certificate_file import CertificateFile

__all__ = ["ClientAssertion", "ClientCertificate", "ClientSecret", "Purpose"]

_ASSERTION_LIFETIME = 300  # s; Entra takes up to 10 minutes


# ---- a secret --------------------------------------------------------------------------------


class ClientSecret:
    """A client secret, or a callable that returns the current one (RFC 6749 section 2.3.1).

    Args:
        secret: The secret's *Value* as the Entra admin center showed it once.

    Raises:
        TypeError: It is neither a string nor callable.
        ValueError: It is empty, or holds a line end or another invisible character.
    """

    __slots__ = ("_secret", "fingerprint")

    fingerprint: bytes
    """A digest, equal for equal secrets and for equal callables, which are not called for it."""

    def __init__(self, secret: str | Callable[[], str]) -> None:
        problem = _problem_of(secret)
        if problem is not None:
            del secret
            raise problem
        self._secret: str | Asked
        if isinstance(secret, str):
            self._secret = HiddenText(secret)
            self.fingerprint = sha256(secret.encode()).digest()
        else:
            self._secret = Asked(secret, "client secret")
            self.fingerprint = self._secret.fingerprint

    @property
    def known(self) -> dict[str, str]:
        """Whether this is probably the secret's ID from the portal, not its Value."""
        looks_like_id = isinstance(self._secret, str) and is_guid(self._secret)
        return {"client_secret_format": "guid"} if looks_like_id else {}

    @property
    def may_change(self) -> bool:
        """Whether it is a callable."""
        return not isinstance(self._secret, str)

    @property
    def is_in_file(self) -> bool:
        """Whether it is read from a file, for which its content stands."""
        return not isinstance(self._secret, str) and self._secret.is_file

    @property
    def secrets(self) -> list[str]:
        """The secret, or what the callable returned last, which no text may show."""
        return [self._secret if isinstance(self._secret, str) else self._secret.last]

    def current(self) -> ClientSecret:
        """The secret that the callable returns now.

        Raises:
            TokenError: The callable raised something, or returned what cannot be a secret.
        """
        return ClientSecret(self._value()) if self.may_change else self

    def form_fields(self, purpose: Purpose) -> dict[str, str]:  # noqa: ARG002 - the same for all
        """The form field that carries the secret in a token request.

        Raises:
            TokenError: As for :meth:`current`.
        """
        return {"client_secret": self._value()}

    def _value(self) -> str:
        if isinstance(self._secret, str):
            return self._secret
        secret = self._secret()
        problem = _problem_of_text(secret)
        if problem is not None:
            del secret
            raise TokenError(f"the client_secret callable gave no usable secret: {problem}")
        return secret

    @override
    def __reduce__(self) -> str:
        raise TypeError("a client secret is not pickled")


def _problem_of(secret: object) -> TypeError | ValueError | None:
    """Why this can be neither a secret nor a callable that returns one, or None."""
    if isinstance(secret, str):
        return _problem_of_text(secret)
    return problem_of_callable("client_secret", secret, "a string or a callable")


def _problem_of_text(secret: object) -> ValueError | None:
    if not isinstance(secret, str):
        return ValueError(f"the callable returned {type(secret).__name__}, not a client secret")
    if not secret:
        return ValueError("the client secret is empty")
    if not secret.isprintable() or secret.isspace():
        return ValueError("the client secret holds a line end or another invisible character")
    return None


# ---- a certificate ---------------------------------------------------------------------------


class ClientCertificate:
    """A certificate with its private key, which signs an assertion for each token request.

    Entra knows the certificate, uploaded to the app registration, and never sees the key. This
    needs the extra ``certificate``: ``pip install 'exo-imap-oauth[certificate]'``. Make one with
    :meth:`from_pem` or :meth:`from_pfx`. Two that were made from one certificate are equal.

    A file that has changed is read again before the next token request, so that a renewed
    certificate needs no restart. The identity stays that of the first one: the token at hand is
    not dropped, and what was equal stays equal.

    It cannot be pickled, since it holds a private key; load it in each process.
    """

    __slots__ = ("_file", "_first", "fingerprint")

    fingerprint: bytes
    """A digest of the certificate that was read first."""

    def __init__(self, pair: KeyPair, file: CertificateFile | None = None) -> None:
        if not hasattr(pair, "thumbprint"):  # but a path, which from_pem() or from_pfx() takes
            raise wrong_kind("pair", pair, CERTIFICATE, page="how-to/certificate", instead=FILES)
        self._first = pair
        self._file = file
        self.fingerprint = pair.digest

    @classmethod
    def from_pem(
        cls, path_or_bytes: str | PathLike[str] | bytes, *, password: str | bytes | None = None
    ) -> Self:
        """Read a private key and its certificate from PEM text.

        Args:
            path_or_bytes: A file that holds both, or the bytes of one or two such files, joined.
                The key is PKCS #8 or PKCS #1, encrypted or not. Of several certificates, as in a
                chain, the key's own is used.
            password: The passphrase of the key, if it is encrypted.

        Raises:
            TypeError: An argument has a wrong type.
            ValueError: What was given cannot work: no key, no certificate, one that has expired
                or belongs to another key, no RSA key of 2,048 bits or more, a wrong passphrase;
                the text says which, and what to do.
            OSError: The file cannot be read.
            ImportError: The extra ``certificate`` is not installed.
        """
        with no_fork:
            from exo_imap_oauth._credentials.certificate_file import (  # noqa: PLC0415 - on use
                read,
                usable,
            )

        found = read(path_or_bytes, password, "PEM")
        del path_or_bytes, password
        return cls(*usable(found))

    @classmethod
    def from_pfx(
        cls, path_or_bytes: str | PathLike[str] | bytes, *, password: str | bytes | None = None
    ) -> Self:
        """Read a private key and its certificate from a PFX (PKCS #12, ``.pfx`` or ``.p12``).

        Args:
            path_or_bytes: The file, or its bytes.
            password: Its passphrase, if it has one.

        Raises:
            Exception: As for :meth:`from_pem`.
        """
        with no_fork:
            from exo_imap_oauth._credentials.certificate_file import (  # noqa: PLC0415 - on use
                read,
                usable,
            )

        found = read(path_or_bytes, password, "PFX")
        del path_or_bytes, password
        return cls(*usable(found))

    @property
    def _pair(self) -> KeyPair:
        return self._first if self._file is None else self._file.pair

    @property
    def expires_on(self) -> int:
        """When the certificate expires, in Unix seconds."""
        return self._pair.expires_on

    @property
    def thumbprint(self) -> str:
        """Its SHA-1 digest, as the portal shows it: 40 hexadecimal digits in capitals."""
        return self._pair.thumbprint

    @property
    def known(self) -> dict[str, str]:
        """Its thumbprint."""
        return {"thumbprint": self.thumbprint}

    @property
    def may_change(self) -> bool:
        """Whether it was read from a file."""
        return self._file is not None

    @property
    def is_in_file(self) -> bool:
        """It was read already."""
        return False

    @property
    def secrets(self) -> list[str]:
        """Nothing, since the key is in no text."""
        return []

    def current(self) -> ClientCertificate:
        """The certificate that is in the file now, if it was read from one."""
        if self._file is None:
            return self
        self._file.look_again()
        return ClientCertificate(self._pair)

    def form_fields(self, purpose: Purpose) -> dict[str, str]:
        """The form fields with a new assertion, which is valid for five minutes.

        See https://learn.microsoft.com/entra/identity-platform/certificate-credentials

        Raises:
            TokenError: The certificate has expired since it was read.
        """
        with no_fork:  # loaded on use
            import uuid  # noqa: PLC0415

            import jwt  # noqa: PLC0415

            from exo_imap_oauth.advice import explain  # noqa: PLC0415

        if self._file is not None:
            return self.current().form_fields(purpose)
        if problem := self._pair.problem():
            advice = explain(
                "certificate-not-registered", client_id=purpose.client_id, **self.known
            )
            raise TokenError(f"no token can be asked for: {problem}", advice=advice)
        now = int(time.time())
        claims = {
            "aud": purpose.token_uri,
            "iss": purpose.client_id,
            "sub": purpose.client_id,
            "jti": str(uuid.uuid4()),
            "nbf": now,
            "iat": now,
            "exp": now + _ASSERTION_LIFETIME,
        }
        key, headers = self._pair.key, {"typ": "JWT", "x5t#S256": self._pair.x5t_s256}
        return assertion_fields(jwt.encode(claims, key, algorithm="PS256", headers=headers))

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClientCertificate):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    @override
    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @override
    def __repr__(self) -> str:
        if not hasattr(self, "fingerprint"):  # in a traceback of __init__
            return object.__repr__(self)
        until = self._pair.certificate.not_valid_after_utc
        return f"<{type(self).__name__} {self.thumbprint} until {until:%Y-%m-%d}>"

    # A copy would hold the key once more, and dataclasses.asdict() copies what it finds.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a ClientCertificate is not pickled, it holds a private key; load it in each process"
            " with from_pem() or from_pfx()"
        )
