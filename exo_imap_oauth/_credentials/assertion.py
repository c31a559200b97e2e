"""An assertion as the proof of identity, and what it has in common with a certificate's."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, NoReturn, Protocol, Self

from typing_extensions import override

from exo_imap_oauth._credentials.callables import Asked, problem_of_callable
from exo_imap_oauth._text import HiddenText
from exo_imap_oauth.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Callable

_JWT = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}"  # compiled on use
_LONGEST_JWT = 65_536  # characters; Kubernetes' have about 1,000


class Purpose(Protocol):
    """What a credential has to know of the token request that it is for."""

    @property
    def token_uri(self) -> str:
        """The token endpoint."""
        ...

    @property
    def client_id(self) -> str:
        """The application (client) ID."""
        ...


class ClientAssertion:
    """A callable that returns a JWT which another issuer signed (RFC 7523 section 2.2).

    The issuer, such as a Kubernetes cluster, is registered with the application as a federated
    credential. The callable is asked for each token request.

    Args:
        assertion: Returns the current assertion; spaces and line ends around it are dropped.

    Raises:
        TypeError: It is not callable.
    """

    __slots__ = ("_assertion", "fingerprint")

    fingerprint: bytes
    """A digest, equal for equal callables, which are not called for it."""

    def __init__(self, assertion: Callable[[], str]) -> None:
        problem = problem_of_callable("assertion", assertion, "a callable")
        if problem is not None:
            del assertion  # somebody gave the assertion itself
            raise problem
        self._assertion: str | Asked = Asked(assertion, "assertion")
        self.fingerprint = sha256(b"assertion" + self._assertion.fingerprint).digest()

    @classmethod
    def _of(cls, assertion: str) -> Self:
        """What a file holds now: it does not change any more, and its text stands for it."""
        self = cls.__new__(cls)
        self._assertion = HiddenText(assertion)
        self.fingerprint = sha256(b"\0assertion\0" + assertion.encode()).digest()
        return self

    @property
    def known(self) -> dict[str, str]:
        """Nothing."""
        return {}

    @property
    def may_change(self) -> bool:
        """Whether a refused one may be followed by a better one at once, as in a file.

        An issuer that signs a new assertion for each call would have Entra asked in vain as
        often as somebody wants a token.
        """
        return self.is_in_file

    @property
    def is_in_file(self) -> bool:
        """Whether it is read from a file, for which its content stands."""
        return isinstance(self._assertion, Asked) and self._assertion.is_file

    @property
    def secrets(self) -> list[str]:
        """The assertion that was used last, which no text may show."""
        return [self._assertion.last if isinstance(self._assertion, Asked) else self._assertion]

    def current(self) -> ClientAssertion:
        """That in the file, as it is now; of a function, which may sign a new one each time, this.

        Raises:
            TokenError: As for :meth:`form_fields`.
        """
        if not self.is_in_file:
            return self
        return ClientAssertion._of(self._value())

    def form_fields(self, purpose: Purpose) -> dict[str, str]:  # noqa: ARG002 - the issuer's
        """The form fields with the current assertion.

        Raises:
            TokenError: The callable raised something, or returned no JWT.
        """
        return assertion_fields(self._value())

    def _value(self) -> str:
        if isinstance(self._assertion, str):
            return self._assertion
        assertion = self._assertion()
        kind = type(assertion).__name__
        if isinstance(assertion, str):
            assertion, kind = assertion.strip(), "another text"
            if len(assertion) <= _LONGEST_JWT and re.fullmatch(_JWT, assertion):
                return assertion
            kind = kind if assertion else "an empty text"
        del assertion
        raise TokenError(
            f"the assertion callable must return a JWT (three parts joined by dots), not {kind}"
        )

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("a client assertion is not pickled")


def assertion_fields(assertion: str) -> dict[str, str]:
    """The form fields that carry an assertion (RFC 7523 section 2.2)."""
    return {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }
