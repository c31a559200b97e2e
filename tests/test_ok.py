"""ok: what imaplib returns, as its data or as the error that it stands for."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth import open_mailbox
from exo_imap_oauth.errors import ImapError, MailboxNotConnected, Throttled
from exo_imap_oauth.imap import ok

USER, TOKEN = "inbox@contoso.example", "header.payload.signature"


def test_the_data_of_an_ok_is_given_as_it_is() -> None:
    data: list[Any] = [(b"1 (BODY[] {3}", b"abc"), b")"]
    assert ok(("OK", data)) is data
    assert ok(("OK", [None])) == [None]


@pytest.mark.parametrize("status", ["NO", "BAD"])
def test_a_throttled_command_says_how_long_to_wait(status: str) -> None:
    said = b"Request is throttled. Suggested Backoff Time: 299961 milliseconds"
    with pytest.raises(Throttled) as raised:
        ok((status, [said]))
    assert raised.value.retryable
    assert raised.value.retry_after == pytest.approx(299.961)


def test_a_known_text_is_typed_and_another_an_imap_error() -> None:
    with pytest.raises(MailboxNotConnected):
        ok(("BAD", [b"User is authenticated but not connected."]))
    with pytest.raises(ImapError, match="NO The message is gone") as raised:
        ok(("NO", [b"The message is gone."]))
    assert type(raised.value) is ImapError
    with pytest.raises(ImapError, match="refused the command: NO"):
        ok(("NO", [None]))


@pytest.mark.parametrize("status", ["NO", "BAD"])
@pytest.mark.parametrize(
    ("code", "advice"),
    [("UNAVAILABLE", "server-unavailable"), ("INUSE", None), ("LIMIT", None), ("serverbug", None)],
)
def test_what_a_response_code_calls_temporary_is_retryable(
    status: str, code: str, advice: str | None
) -> None:
    with pytest.raises(ImapError) as raised:
        ok((status, [f"[{code}] Not now.".encode()]))
    assert type(raised.value) is ImapError
    assert raised.value.retryable
    assert (raised.value.advice and raised.value.advice.id) == advice


def test_other_response_codes_are_not_temporary() -> None:
    for said in (b"[NOPERM] no", b"[ALERT] [INUSE]", b"it says [INUSE]"):
        with pytest.raises(ImapError) as raised:
            ok(("NO", [said]))
        assert not raised.value.retryable


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (b"Command received in Invalid state.", "folder-readonly"),
        (b"[READ-ONLY] Mailbox is read-only.", "folder-readonly"),
        (b"The specified message set is invalid.", "command-rejected"),
        (b"[BADCHARSET (US-ASCII)] The specified charset is not supported.", "charset-unsupported"),
    ],
)
def test_a_refused_command_says_what_to_change(said: bytes, advice: str) -> None:
    with pytest.raises(ImapError) as raised:
        ok(("NO", [said]))
    assert raised.value.advice is not None
    assert raised.value.advice.id == advice
    assert not raised.value.retryable


@pytest.mark.parametrize("reply", [None, "OK", ["OK", []], ("OK",), (None, []), ("OK", b"1")])
def test_what_is_no_reply_is_a_type_error(reply: Any) -> None:
    with pytest.raises(TypeError, match="pair"):
        ok(reply)


@pytest.mark.parametrize("status", ["EXISTS", "PREAUTH", "ok", ""])
def test_a_status_that_is_none_is_a_value_error(status: str) -> None:
    with pytest.raises(ValueError, match="OK, NO or BAD"):
        ok((status, [None]))


def test_what_the_server_says_is_one_bounded_line_without_what_looks_like_a_token() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9." + "aB3" * 30
    with pytest.raises(ImapError) as raised:
        ok(("NO", [b"\x1b[31m\r\nno " + token.encode(), b"x" * 1_000_000]))
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 600
    assert token[:16] not in str(raised.value)


def test_a_search_that_is_throttled_is_never_taken_for_messages() -> None:
    script = [
        GREETING,
        capability(),
        Step("{tag} AUTHENTICATE .+", "* CAPABILITY IMAP4rev1\n{tag} OK done."),
        Step("{tag} SELECT .+", "* 0 EXISTS\n{tag} OK [READ-WRITE] done."),
        Step(
            "{tag} SEARCH UNSEEN",
            "{tag} NO Request is throttled. Suggested Backoff Time: 7000 milliseconds",
        ),
        LOGOUT,
    ]
    with ScriptedImap(script, tls=True) as server:
        with pytest.raises(Throttled) as raised:
            with open_mailbox(
                USER, TOKEN, host=server.host, port=server.port, ssl_context=server.ssl_context
            ) as imap:
                ok(imap.search(None, "UNSEEN"))
    assert raised.value.retry_after == 7


OPENING = [
    GREETING,
    capability(),
    Step("{tag} AUTHENTICATE .+", "* CAPABILITY IMAP4rev1\n{tag} OK done."),
    Step("{tag} SELECT .+", "* 0 EXISTS\n{tag} OK [READ-WRITE] done."),
]


def test_logout_says_bye_and_has_succeeded() -> None:
    with ScriptedImap([*OPENING, LOGOUT], tls=True) as server:
        with open_mailbox(
            USER, TOKEN, host=server.host, port=server.port, ssl_context=server.ssl_context
        ) as imap:
            assert ok(imap.logout()) == [b"Logging out"]


def as_url(token: str) -> str:
    return "".join(f"%{octet:02x}" for octet in token.encode())


def in_pieces(token: str) -> str:
    return " ".join(token[at : at + 20] for at in range(0, len(token), 20))


def its_end(token: str) -> str:
    return token[-30:]


@pytest.mark.parametrize("encode", [str, as_url, in_pieces, its_end])
def test_a_refusal_that_repeats_the_token_is_quoted_without_it(encode: Any) -> None:
    token = "opaque-tokens-have-no-form-by-which-they-could-be-known-for-one"
    echo = f"before {encode(token)} after"
    script = [*OPENING, Step("{tag} SEARCH UNSEEN", f"{{tag}} NO {echo}"), LOGOUT]
    with ScriptedImap(script, tls=True) as server:
        with (
            pytest.raises(ImapError) as raised,
            open_mailbox(
                USER, token, host=server.host, port=server.port, ssl_context=server.ssl_context
            ) as imap,
        ):
            ok(imap.search(None, "UNSEEN"))
    assert str(raised.value).startswith("the server refused the command: NO before (hidden)")
    frames = traceback.TracebackException.from_exception(raised.value, capture_locals=True).stack
    ours = "".join(str(frame.locals) for frame in frames if "exo_imap_oauth" in frame.filename)
    assert encode(token)[:16] not in str(raised.value) + ours


def test_what_the_server_says_stays_in_no_frame() -> None:
    with pytest.raises(ImapError) as raised:
        ok(("NO", [b"said of another client"]))
    frames = traceback.TracebackException.from_exception(raised.value, capture_locals=True).stack
    in_ok = next(frame for frame in frames if frame.name == "ok")
    assert in_ok.locals is not None
    assert {"reply", "data", "said"}.isdisjoint(in_ok.locals)
