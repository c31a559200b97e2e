"""The errors that need nothing of imaplib: the root of the tree, configuration, tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exo_imap_oauth.advice import Advice

__all__ = [
    "ConfigError",
    "ConfigProblem",
    "ExoImapOAuthError",
    "InsecureConnectionError",
    "PropertiesError",
    "TokenEndpointUnavailable",
    "TokenError",
    "TokenRequestRejected",
    "UnverifiedTlsWarning",
]


class ExoImapOAuthError(Exception):
    """Base class of every error of this library.

    Attributes:
        advice: Likely cause and fix, or None where the message is not known.
        retryable: Whether the same call may succeed later without anybody changing anything.
        retry_after: Seconds that the server asked to wait, or None.
        args: The message, and what else an error of this class is built from again: Celery's
            JSON keeps nothing else, and calls ``type(error)(*args)``.
    """

    advice: Advice | None
    retryable: bool
    retry_after: float | None

    # Other arguments than the message have defaults and land in __dict__: this is what lets
    # BaseException.__reduce__ pickle and copy every class of the tree.
    def __init__(
        self,
        message: str,
        advice: Advice | None = None,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.advice = advice
        self.retryable = retryable
        self.retry_after = retry_after
        if isinstance(advice, Mapping):  # out of the args of another one
            self._take_over(advice)

    def _take_over(self, kept: Mapping[str, Any]) -> None:
        from exo_imap_oauth.advice import Advice  # noqa: PLC0415 - seldom needed

        fields: dict[str, Any] | None = kept["advice"]
        if fields is not None:
            fields = {**fields, "commands": tuple(fields["commands"])}
        self.advice = None if fields is None else Advice(**fields)
        self.retryable, self.retry_after = kept["retryable"], kept["retry_after"]

    def _arguments(self) -> tuple[object, ...]:
        """What follows the message in :attr:`args`; it consists of JSON's types."""
        advice = None if self.advice is None else asdict(self.advice)
        return ({"advice": advice, "retryable": self.retryable, "retry_after": self.retry_after},)

    if not TYPE_CHECKING:  # where it stays an attribute

        @property
        def args(self):  # noqa: ANN202 - see above
            return (*super().args[:1], *self._arguments())

        @args.setter
        def args(self, args) -> None:  # noqa: ANN001
            BaseException.args.__set__(self, args)

    @override
    def __str__(self) -> str:
        """One line that says what happened, then cause, fix and commands, indented."""
        message = str(self.args[0])
        if self.advice is None:
            return message
        return "\n  ".join([message, *lines_of(self.advice)])

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of thirty frames: the caller's, and this message."""
        from exo_imap_oauth._notebook import notebook_traceback  # noqa: PLC0415 - only there

        return notebook_traceback(self)


def lines_of(advice: Advice) -> list[str]:
    """Cause, fix and commands, as they stand below an error."""
    commands = [f"  {line}" for command in advice.commands for line in command.splitlines()]
    return [
        f"Cause: {advice.cause}",
        f"Fix: {advice.fix}",
        *commands,
        f"See: {advice.url}",
    ]


# ---- configuration ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One mistake in the configuration.

    Attributes:
        key: The key as it is written, or the documented one where it is missing; empty where
            the file as a whole is meant.
        source: The file, or ``environment``.
        line: The line in that file, from 1; 0 where there is none.
        message: What is wrong and why; never a secret value.
        fix: What to do about it.
    """

    key: str
    source: str
    line: int
    message: str
    fix: str

    @override
    def __str__(self) -> str:
        where = f"{self.source}:{self.line}" if self.line else self.source
        return ": ".join(filter(None, (where, self.key, f"{self.message} {self.fix}")))


class ConfigError(ExoImapOAuthError, ValueError):
    """The configuration cannot work.

    Attributes:
        problems: Everything that was found, in the order of files and lines.
        warnings: What is suspicious but can work; it may explain the rest.
    """

    def __init__(
        self,
        message: str,
        problems: Iterable[ConfigProblem] = (),
        warnings: Iterable[ConfigProblem] = (),
    ) -> None:
        super().__init__(message)
        self.problems: tuple[ConfigProblem, ...] = tuple(map(_problem, problems))
        self.warnings: tuple[ConfigProblem, ...] = tuple(map(_problem, warnings))

    @override
    def _arguments(self) -> tuple[object, ...]:
        return [*map(astuple, self.problems)], [*map(astuple, self.warnings)]

    @override
    def __str__(self) -> str:
        warnings = (f"(warning) {warning}" for warning in self.warnings)
        return "\n  ".join([str(self.args[0]), *map(str, self.problems), *warnings])


def _problem(problem: ConfigProblem | Iterable[Any]) -> ConfigProblem:
    """A problem as it is, or out of the args of another error."""
    return problem if isinstance(problem, ConfigProblem) else ConfigProblem(*problem)


class PropertiesError(ConfigError):
    """A ``.properties`` file is malformed.

    Attributes:
        source: The file.
        line: The line, from 1.
    """

    def __init__(
        self,
        message: str,
        problems: Iterable[ConfigProblem] = (),
        source: str = "<string>",
        line: int = 0,
    ) -> None:
        super().__init__(message, problems=problems)
        self.source = source
        self.line = line

    @override
    def _arguments(self) -> tuple[object, ...]:
        return [*map(astuple, self.problems)], self.source, self.line


# ---- tokens and connections ------------------------------------------------------------------


class TokenError(ExoImapOAuthError):
    """No access token could be obtained."""


class TokenRequestRejected(TokenError):
    """The token endpoint refused the request (RFC 6749 section 5.2).

    Attributes:
        error: The OAuth 2.0 error code, such as ``invalid_client``.
        error_codes: The AADSTS numbers; Microsoft changes them, so treat them as text for people.
        correlation_id: What Microsoft's support asks for, or None.
        trace_id: The same, or None.
        status: The HTTP status.
    """

    def __init__(
        self,
        message: str,
        advice: Advice | None = None,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        error: str = "",
        error_codes: Iterable[int] = (),
        correlation_id: str | None = None,
        trace_id: str | None = None,
        status: int = 0,
    ) -> None:
        super().__init__(message, advice=advice, retryable=retryable, retry_after=retry_after)
        self.error = error
        self.error_codes: tuple[int, ...] = tuple(error_codes)
        self.correlation_id = correlation_id
        self.trace_id = trace_id
        self.status = status


class TokenEndpointUnavailable(TokenError, ConnectionError):
    """The token endpoint gave no usable answer before the deadline. Also a ``ConnectionError``.

    Retryable, unless a person must change something first, such as a certificate or a path.
    """

    def __init__(
        self,
        message: str,
        advice: Advice | None = None,
        *,
        retryable: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, advice=advice, retryable=retryable, retry_after=retry_after)


class InsecureConnectionError(ExoImapOAuthError):
    """A token or secret would have been sent without TLS or over unverified TLS; it was not."""


class UnverifiedTlsWarning(UserWarning):
    """A token is sent over unverified TLS, as the caller allowed; given once per process."""


for _name in __all__:  # where users find them, and where pickles and texts of errors look
    globals()[_name].__module__ = "exo_imap_oauth.errors"
