"""The tree of errors: what is what, how they read, and that they survive pickle and copy."""

from __future__ import annotations

import copy
import imaplib
import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from exo_imap_oauth import errors
from exo_imap_oauth.advice import explain
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConfigError,
    ConfigProblem,
    ConnectionFailed,
    ExoImapOAuthError,
    ImapError,
    MessageUnavailable,
    PropertiesError,
    SessionExpired,
    Throttled,
    TokenEndpointUnavailable,
    TokenRequestRejected,
)
from exo_imap_oauth.listener import MessageNotHandled

if TYPE_CHECKING:
    from pathlib import Path

ADVICE = explain("secret-wrong", client_id="6a1d2c3b-0f4e-4d5c-8b7a-9e8f7a6b5c4d")
ERRORS: list[ExoImapOAuthError] = [
    ConfigError("two", problems=[ConfigProblem("a.b", "x.properties", 3, "is empty.", "Fill it.")]),
    PropertiesError("malformed", source="x.properties", line=7),
    TokenRequestRejected(
        "refused", advice=ADVICE, error="invalid_client", error_codes=[7000215], status=401
    ),
    TokenEndpointUnavailable("later", retry_after=5),
    AuthenticationRefused("no", challenge={"status": "401"}),
    Throttled("slow", retry_after=300),
    SessionExpired("over"),
    ConnectionFailed("gone", last_reply="BYE"),
    MessageUnavailable("not there", uid=7, size=1234),
    MessageNotHandled("not handled", advice=ADVICE, uid=7, attempts=2),
]
EXPLAINED: list[ExoImapOAuthError] = [
    *ERRORS,
    ConfigError("odd", warnings=[ConfigProblem("b", "environment", 0, "is odd.", "Mend it.")]),
    PropertiesError("bad", problems=[ConfigProblem("", "x", 7, "is cut off.", "End it.")], line=7),
    TokenEndpointUnavailable(
        "not trusted", advice=explain("certificate-untrusted"), retryable=False
    ),
    ConnectionFailed("not trusted", advice=explain("certificate-untrusted"), retryable=False),
    Throttled("slower", advice=explain("throttled"), retry_after=300),
    ImapError("moved", advice=explain("mailbox-moved"), retryable=True),
    SessionExpired("ended", advice=explain("session-expired")),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_survive_pickle_and_copy(error: ExoImapOAuthError) -> None:
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert twin is not error
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def assert_nothing_is_lost(twin: BaseException | None, error: ExoImapOAuthError) -> None:
    assert isinstance(twin, ExoImapOAuthError)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    known = ("advice", "retryable", "retry_after", "problems", "warnings", "line")
    for name in known:
        assert getattr(twin, name, None) == getattr(error, name, None)


@pytest.mark.parametrize(
    "error", EXPLAINED, ids=lambda error: f"{type(error).__name__}-{error.args[0]}"
)
def test_what_keeps_only_the_args_keeps_the_fix(error: ExoImapOAuthError) -> None:
    args = json.loads(json.dumps(error.args))
    twin = type(error)(*args)
    assert_nothing_is_lost(twin, error)
    assert_nothing_is_lost(type(twin)(*json.loads(json.dumps(twin.args))), error)  # and once more
    assert_nothing_is_lost(pickle.loads(pickle.dumps(twin)), error)
    assert args[0] == str(error).splitlines()[0]


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
@pytest.mark.parametrize(
    "error", EXPLAINED, ids=lambda error: f"{type(error).__name__}-{error.args[0]}"
)
def test_celery_gives_the_error_to_whoever_waits_for_the_result(
    error: ExoImapOAuthError, serializer: str, tmp_path: Path
) -> None:
    celery = pytest.importorskip("celery")
    app = celery.Celery(
        backend=tmp_path.as_uri(), result_serializer=serializer, accept_content=[serializer]
    )
    app.backend.mark_as_failure("one", error)
    with pytest.raises(type(error)) as raised:
        app.AsyncResult("one").get(timeout=10)
    assert_nothing_is_lost(raised.value, error)


def _fail(error: ExoImapOAuthError) -> NoReturn:
    raise error


@pytest.mark.parametrize("index", range(len(EXPLAINED)))
def test_an_error_comes_whole_out_of_another_process(index: int, processes: Any) -> None:
    error = EXPLAINED[index]
    for failure in (
        processes[0].submit(_fail, error).exception(timeout=60),
        _error_of(lambda: processes[1].apply(_fail, (error,))),
    ):
        assert_nothing_is_lost(failure, error)
        assert vars(failure) == vars(error)


def _error_of(call: Any) -> BaseException | None:
    try:
        call()
    except ExoImapOAuthError as error:
        error.__cause__ = None
        return error
    return None


@pytest.fixture(name="processes", scope="module")
def _processes() -> Any:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as executor, context.Pool(1) as pool:
        yield executor, pool


class _Theirs(ExoImapOAuthError):
    """A subclass of a user's, with a constructor of its own."""

    def __init__(self, mailbox: str) -> None:
        super().__init__(f"{mailbox} is closed", advice=ADVICE)


def test_a_subclass_need_not_take_more_than_its_message() -> None:
    error = _Theirs("inbox")
    error.args = (f"at night: {error.args[0]}", *error.args[1:])  # as people do
    assert str(error).startswith("at night: inbox is closed\n  Cause: ")
    twin = pickle.loads(pickle.dumps(_Theirs("inbox")))
    assert twin.advice == ADVICE
    assert repr(twin).count("Cause") == 0


def test_an_unreachable_token_endpoint_is_what_programs_catch_as_a_network_error() -> None:
    error = TokenEndpointUnavailable("later", advice=ADVICE)
    assert isinstance(error, ConnectionError)
    assert error.errno is None
    assert str(error).startswith("later\n  Cause: ")


def test_an_error_reads_well_in_a_log() -> None:
    first, *rest = str(ERRORS[2]).splitlines()
    assert first == "refused"
    assert [line.split(":")[0] for line in rest] == ["  Cause", "  Fix", "  See"]
    problems = str(ERRORS[0]).splitlines()
    assert problems == ["two", "  x.properties:3: a.b: is empty. Fill it."]


def test_the_tree_is_the_contracts() -> None:
    bases = {
        "ConfigError": ValueError,
        "ImapError": imaplib.IMAP4.error,
        "SessionExpired": imaplib.IMAP4.abort,
        "ConnectionFailed": imaplib.IMAP4.abort,
        "PropertiesError": ConfigError,
        "AuthenticationRefused": ImapError,
    }
    for name, base in bases.items():
        assert issubclass(getattr(errors, name), base)
    assert not issubclass(AuthenticationRefused, imaplib.IMAP4.abort)
    retryable = {type(error).__name__ for error in ERRORS if error.retryable}
    assert retryable == {
        "TokenEndpointUnavailable",
        "Throttled",
        "SessionExpired",
        "ConnectionFailed",
        "MessageUnavailable",
        "MessageNotHandled",
    }
