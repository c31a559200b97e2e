r"""What the leak tests do with a listener on a mail server that repeats the token.

After the login there are other places for it than before: what SEARCH found, what FETCH tells of
a message, what a STORE did, what is said before, with and after the ``+`` of IDLE.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

from exo_imap_oauth import imap as imap_calls
from exo_imap_oauth import mail
from exo_imap_oauth.errors import ImapError
from support.leak_channels import Several
from support.leak_paths import ENCODINGS, LeakPath, World
from support.leaks import SECRET, TOKEN
from support.listening import LIMIT, Listening, listener_of
from support.mail_answers import stand_in_for
from support.mail_server import IDLING, MailServer, literal
from support.token_endpoint import CLIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from exo_imap_oauth import InboxConfig
    from exo_imap_oauth.listener import InboxListener
    from exo_imap_oauth.mail import Mail
    from support.mail_answers import Answer
    from support.mail_server import Reply

_FEW = ("verbatim", "SASL", "URL", "JSON numbers", "a part", "with escapes", "HTML numbers")
_WHOLE = ("verbatim", "SASL", "URL")  # in which a token is known by its looks
_MESSAGE = b"Subject: 1\r\n\r\nHello\r\n"
_ENOUGH = 2  # looks: in between a message is fetched and marked, and IDLE begins and ends

# ---- where the token stands ------------------------------------------------------------------

# What has no tag comes before the usual answer, except that BYE is the last word.
_ANYWHERE = {
    "NO": "{tag} NO %s\r\n",
    "NO with a code": "{tag} NO [UNAVAILABLE] %s\r\n",
    "NO in a code": "{tag} NO [%s] refused\r\n",
    "throttled": "{tag} NO Request is throttled. Suggested Backoff Time: 1 milliseconds %s\r\n",
    "not connected": "{tag} BAD User is authenticated but not connected. %s\r\n",
    "BAD": "{tag} BAD %s\r\n",
    "OK": "{tag} OK [X %s] done %s\r\n",
    "word of a reply": "{tag} %s\r\n",
    "other tag": "%s OK done\r\n",
    "untagged": "* %s\r\n",
    "untagged OK": "* OK [ALERT] %s\r\n",
    "untagged number": "* 1 %s\r\n",
    "untagged, then NO": "* NO %s\r\n{tag} NO refused\r\n",
    "BYE": "* BYE %s\r\n",
    "BYE of an expiry": "* BYE Session invalidated - AccessTokenExpired %s\r\n",
    "BYE, then NO": "* BYE %s\r\n{tag} NO %s\r\n",
    "garbage": "%s\r\n",
}
_DONE = "{tag} OK done\r\n"
_BODY = "BODY[] {%d}\r\n%s" % (len(_MESSAGE), _MESSAGE.decode())  # noqa: UP031 - braces
_STAND_IN = "BODY[] " + literal(stand_in_for(1)).decode()
_OF_COMMANDS: dict[str, dict[str, str]] = {
    "UID SEARCH": {
        "SEARCH": f"* SEARCH %s\r\n{_DONE}",
        "SEARCH behind a number": f"* SEARCH 1 %s\r\n{_DONE}",
        "SEARCH in a range": f"* SEARCH 1:%s\r\n{_DONE}",
        "MODSEQ": f"* SEARCH 1 (MODSEQ %s)\r\n{_DONE}",
        "ESEARCH": f"* ESEARCH %s\r\n{_DONE}",
        "tag of ESEARCH": f'* ESEARCH (TAG "%s") UID ALL 1\r\n{_DONE}',
        "ESEARCH behind a number": f'* ESEARCH (TAG "{{tag}}") UID ALL 1,,%s\r\n{_DONE}',
        "two lines": f"* SEARCH 1\r\n* SEARCH %s\r\n{_DONE}",
    },
    "UID FETCH": {
        "FLAGS": f"* 1 FETCH (UID 1 FLAGS (%s) {_BODY})\r\n{_DONE}",
        "FLAGS without a message": f"* 1 FETCH (UID 1 FLAGS (\\Draft %s))\r\n{_DONE}",
        "FLAGS with a stand-in": f"* 1 FETCH (UID 1 FLAGS (%s) {_STAND_IN})\r\n{_DONE}",
        "INTERNALDATE": f'* 1 FETCH (UID 1 INTERNALDATE "%s" {_BODY})\r\n{_DONE}',
        "INTERNALDATE without a message": f'* 1 FETCH (UID 1 INTERNALDATE "%s")\r\n{_DONE}',
        "INTERNALDATE with a stand-in": f'* 1 FETCH (INTERNALDATE "%s" {_STAND_IN})\r\n{_DONE}',
        "RFC822.SIZE": f"* 1 FETCH (UID 1 RFC822.SIZE %s BODY[] NIL)\r\n{_DONE}",
        "UID": f"* 1 FETCH (UID %s {_BODY})\r\n{_DONE}",
        "name of an item": f"* 1 FETCH (UID 1 %s NIL)\r\n{_DONE}",
        "no list": f"* 1 FETCH %s\r\n{_DONE}",
        "stand-in itself": f"* 1 FETCH (UID 1 {_STAND_IN} %s)\r\n{_DONE}",
        "size of a literal": "* 1 FETCH (UID 1 BODY[] {9%s}\r\n" + _DONE,
        "endless literal": "* 1 FETCH (%s {1000000000000}\r\n" + _DONE,
    },
    "UID STORE": {
        "FLAGS": f"* 1 FETCH (UID 1 FLAGS (%s))\r\n{_DONE}",
        "FLAGS of another": f"* 2 FETCH (UID 2 FLAGS (\\Seen %s))\r\n{_DONE}",
        "no list": f"* 1 FETCH %s\r\n{_DONE}",
    },
    "LOGOUT": {
        "BYE, then OK": f"* BYE %s\r\n{_DONE}",
        "BYE, then BAD": "* BYE see you\r\n{tag} BAD %s\r\n",
    },
    "SELECT": {
        "UIDVALIDITY": "* OK [UIDVALIDITY %s] %s\r\n",
        "PERMANENTFLAGS": "* OK [PERMANENTFLAGS (%s)] %s\r\n",
        "PERMANENTFLAGS without a list": "* OK [PERMANENTFLAGS %s] x\r\n",
        "UIDNEXT": "* OK [UIDNEXT %s] x\r\n",
        "EXISTS": "* 1 EXISTS %s\r\n",
        "FLAGS": "* FLAGS (%s)\r\n",
    },
}
_IDLE_ENDS = {
    "NO": "{tag} NO %s\r\n",
    "NO with a code": "{tag} NO [UNAVAILABLE] %s\r\n",
    "throttled": _ANYWHERE["throttled"],
    "BAD": "{tag} BAD %s\r\n",
    "OK": "{tag} OK %s\r\n",
    "word of a reply": "{tag} %s\r\n",
    "other tag": f"%s OK done\r\n{_DONE}",
    "BYE": "* BYE %s\r\n",
    "BYE of an expiry": _ANYWHERE["BYE of an expiry"],
    "untagged": f"* %s\r\n{_DONE}",
    "untagged, then NO": "* OK %s\r\n{tag} NO refused\r\n",
}  # fmt: skip
_IDLE_BEGINNINGS = {
    "untagged before the plus": "* OK %s\r\n+ idling\r\n",
    "garbage before the plus": "%s\r\n+ idling\r\n",
    "with the plus": "+ %s\r\n",
    "EXISTS before the plus": "* 1 EXISTS %s\r\n+ idling\r\n",
    "behind the plus": "+ idling\r\n* OK %s\r\n",
    "EXISTS behind the plus": "+ idling\r\n* 1 EXISTS %s\r\n",
    "garbage behind the plus": "+ idling\r\n%s\r\n",
}
_IDLE_REFUSALS = ("NO", "NO with a code", "BAD", "OK", "BYE", "BYE, then NO", "untagged, then NO",
                  "word of a reply", "throttled", "not connected")  # fmt: skip


def _said(text: str) -> Answer:
    """This, and the usual answer where there is no tag in it; BYE is the last word."""

    def answer(reply: Reply) -> None:
        said = text.replace("{tag}", reply.tag).encode()
        if "{tag}" in text:
            reply.send(said)
        elif text.startswith("* BYE"):
            reply.send(said)
            reply.close()
        else:
            reply.usual(before=said)

    return answer


def _idles(beginning: str, end: str) -> Answer:
    """IDLE that begins so and, after DONE, ends so."""

    def answer(reply: Reply) -> None:
        reply.send(beginning.encode())
        if end.startswith("* BYE"):
            _said(end)(reply)
        reply.line_of_client()
        _said(end)(reply)

    return answer


def _opens(line: str) -> Answer:
    """SELECT that says this last, so that it counts."""

    def answer(reply: Reply) -> None:
        reply.server.permanent_flags = None
        reply.server.select_extra = [line.removesuffix("\r\n").encode()]
        reply.usual()

    return answer


def _answers() -> Iterator[tuple[str, str, str, Callable[[str], Answer]]]:
    """Command, place, and what makes an answer of a line that has the token in it."""
    for command, own in _OF_COMMANDS.items():
        for place, line in (_ANYWHERE | own).items():
            if command == "SELECT" and place in _ANYWHERE:
                continue  # they are paths of the way in
            yield command, place, line, _opens if command == "SELECT" else _said
    for place, line in _IDLE_ENDS.items():
        yield "IDLE", f"its end, {place}", line, functools.partial(_idles, IDLING.decode())
    for place, line in _IDLE_BEGINNINGS.items():
        yield "IDLE", place, line, lambda line: _idles(line, _DONE)
    for place in _IDLE_REFUSALS:
        yield "IDLE", f"its refusal, {place}", _ANYWHERE[place], _said


# ---- what is done ----------------------------------------------------------------------------


def listening_paths() -> Iterator[LeakPath]:
    """A listener on a server that echoes at each place after the login, once and in a row."""
    for (command, place, line, answer_of), encoding in itertools.product(_answers(), _FEW):
        answer = answer_of(line.replace("%s", ENCODINGS[encoding](TOKEN)))
        what = f"echo at {command} in {place}: {encoding}"
        # imaplib says what it does, or keeps it in its buffer.
        yield LeakPath(f"InboxListener.run, {what}", _run, (command, answer))
        if command != "IDLE" and encoding in _WHOLE:
            yield LeakPath(f"run_once, {what}", _run_once, (command, answer), echoes=True)


@contextlib.contextmanager
def _listening(
    command: str,
    answer: Answer | None,
    handle: Callable[[Mail], object] | None = None,
    **options: Any,
) -> Generator[tuple[MailServer, Listening, list[Any]]]:
    listening, clients = Listening(handle), list[Any]()
    with MailServer(_MESSAGE) as server:
        if answer is not None:
            server.at(command, answer)
        defaults: dict[str, Any] = {"token": TOKEN, "poll_interval": 0.01, "timeout": 10.0}
        try:
            listener = listener_of(server, listening, **defaults | options)
        except Exception as error:
            raise AssertionError("the path does not begin") from error
        opening = listener._opening.open

        def open_and_note() -> Any:
            if (opened := opening()) is not None:
                clients.append(opened.imap)
            return opened

        with mock.patch.object(listener._opening, "open", open_and_note):
            yield server, listening, clients


def _run(_world: World, command: str, answer: Answer) -> object:
    """Listen until something fails with the connection, or there is nothing new."""
    with _listening(command, answer, initial_backoff=30.0, max_backoff=30.0) as (
        server,
        listening,
        clients,
    ):
        listener = listening.listener
        thread = threading.Thread(target=listener.run)
        thread.start()
        try:
            _wait(lambda: _is_over(server, listener))
            status = listener.status
        finally:
            listener.stop()
            thread.join(LIMIT)
        return _shown(listening, clients, status)


def _is_over(server: MailServer, listener: InboxListener) -> bool:
    looks = sum(line.startswith("UID SEARCH UNSEEN") for line in [*server.log])
    return looks >= _ENOUGH or listener.status.state == "pausing"


def _wait(predicate: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + LIMIT
    while not predicate():
        assert time.monotonic() < ends_at
        time.sleep(0.001)


def _run_once(_world: World, command: str, answer: Answer) -> object:
    with _listening(command, answer) as (_server, listening, clients):
        try:
            listening.listener.run_once()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
            return _shown(listening, clients, error)
        return _shown(listening, clients)


def _shown(listening: Listening, clients: list[Any], *others: object) -> Several:
    listener = listening.listener
    logs = [str(getattr(imap, "_cmd_log", "")) for imap in clients]
    return Several([listener, listener.status, *listening.errors, *others, *logs])


# ---- functions that raise --------------------------------------------------------------------


def raising_paths() -> Iterator[LeakPath]:
    """What ``handle`` and ``on_failure`` raise is their author's; what is said of it is ours."""
    for encoding in _FEW:
        text = ENCODINGS[encoding](TOKEN)
        for kind in (ValueError, ImapError):
            what = f"{kind.__name__}: {encoding}"
            for place, error_of in _RAISED.items():
                name = f"InboxListener, handle raises it in {place} of {what}"
                yield LeakPath(name, _raise_in_handle, (error_of, kind, text))
            yield LeakPath(
                f"InboxListener, on_failure raises {what}", _raise_when_told, (kind, text)
            )
    for place, error_of in _RAISED.items():
        name = f"InboxListener, handle raises the inbox's secret in {place}"
        yield LeakPath(name, _raise_in_handle, (error_of, ValueError, f"for {SECRET}"))


def _in_text(kind: type[Exception], text: str) -> Exception:
    return kind(f"refused {text}")


def _in_note(kind: type[Exception], text: str) -> Exception:
    error = kind("refused")
    error.add_note(f"see\n{text}")
    return error


def _behind(kind: type[Exception], text: str) -> Exception:
    error = kind("refused")
    error.__cause__ = LookupError(text)
    return error


def _in_group(kind: type[Exception], text: str) -> Exception:
    return ExceptionGroup("several", [kind(text)])


_RAISED: dict[str, Callable[[type[Exception], str], Exception]] = {
    "the text": _in_text,
    "a note": _in_note,
    "the cause": _behind,
    "a group": _in_group,
}


def _raise_in_handle(
    world: World, error_of: Callable[[type[Exception], str], Exception], kind: Any, text: str
) -> object:
    def handle(_mail: Mail) -> None:
        raise error_of(kind, text)

    own = {"token_uri": world.endpoint.url, "client_id": CLIENT, "client_secret": SECRET}
    with _listening("", None, handle, inbox=own) as (_, listening, _clients):
        listening.listener.run_once()
        assert listening.told
        return Several([listening.listener, listening.listener.status])


def _raise_when_told(_world: World, kind: type[Exception], text: str) -> object:
    def on_failure(_inbox: InboxConfig, _error: Exception, _pause: float) -> None:
        raise kind(text)

    def handle(_mail: Mail) -> None:
        raise ZeroDivisionError

    with _listening("", None, handle, on_failure=on_failure) as (_, listening, _clients):
        listening.listener.run_once()
        return Several([listening.listener, listening.listener.status])


# ---- replies that a program reads itself -----------------------------------------------------


def reply_paths() -> Iterator[LeakPath]:
    """``message(reply)`` and ``ok(reply)``, with the token in the reply or in what is none."""
    for encoding in _FEW:
        text = ENCODINGS[encoding](TOKEN)
        for name, data in _replies(text.encode()).items():
            yield LeakPath(f"message, {name}: {encoding}", _read, (mail.message, ("OK", data)))
            yield LeakPath(f"message, data of {name}: {encoding}", _read, (mail.message, data))
        for name, wrong in _wrong(text).items():
            for call in (mail.message, imap_calls.ok):
                yield LeakPath(f"{call.__name__}, {name}: {encoding}", _read, (call, wrong))
    for encoding, status in itertools.product(_WHOLE, ("NO", "BAD")):
        refusal = status, [ENCODINGS[encoding](TOKEN).encode()]
        for call in (mail.message, imap_calls.ok):
            name = f"{call.__name__}, {status}: {encoding}"
            yield LeakPath(name, _read, (call, refusal))


def _replies(text: bytes) -> dict[str, list[Any]]:
    flags = b"1 (UID 1 FLAGS (%b) BODY[] {9}" % text
    return {
        "FLAGS of a stand-in": [(flags, stand_in_for(1)), b")"],
        "two messages": [(flags, _MESSAGE), b")", (b"2 (BODY[] {9}", _MESSAGE), b" %b)" % text],
        "two messages of aioimaplib": [
            b"1 FETCH (BODY[] {9}", bytearray(_MESSAGE), b" FLAGS (%b))" % text,
            b"2 FETCH (BODY[] {9}", bytearray(_MESSAGE), b")", text,
        ],
        "no message": [b"1 (FLAGS (%b))" % text, text],
    }  # fmt: skip


def _wrong(text: str) -> dict[str, Any]:
    return {
        "text": text,
        "list of text": ["OK", text],
        "pair of bytes": (text.encode(), [text.encode()]),
        "pair of texts": ("OK", text),
        "three": ("OK", [text], text),
        "dictionary": {"OK": text},
        "list of lists": ("OK", [[text]]),
        "status": ("A1", [text.encode()]),
    }


def _read(_world: World, call: Callable[[Any], object], reply: object) -> object:
    call(reply)
    return None
