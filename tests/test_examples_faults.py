"""The examples and the programs of the pages, where mail and servers are not as they should be."""

from __future__ import annotations

import asyncio
import errno
import gc
import importlib
import time
from collections import Counter
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pytest
from cryptography.fernet import Fernet
from support.pages import DOCS, blocks, example, run

from exo_imap_oauth import load_config
from exo_imap_oauth._tokens import fetch
from exo_imap_oauth.testing import Fault, ReadyExchange

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from types import ModuleType

    from exo_imap_oauth import InboxConfig
    from exo_imap_oauth.mail import Mail

SAME_ID = "Message-ID: <sample-1@fabrikam.example>\r\n"
OTHER = "sales@contoso.example"
BAD = 104  # UID of the message at which it goes wrong; one mailbox has it


class Case(NamedTuple):
    """What goes wrong with one message, and for how long."""

    fault: Fault
    times: int | None = 1
    command: str | None = None

    def inject(self, exchange: ReadyExchange) -> None:
        exchange.inject(self.fault, uid=BAD, times=self.times, command=self.command)


NOTHING_ONCE = Case(Fault.IMAP_FETCH_NOTHING)
NOTHING = Case(Fault.IMAP_FETCH_NOTHING, times=None)
NIL = Case(Fault.IMAP_FETCH_NIL, times=None)
STAND_IN = Case(Fault.IMAP_FETCH_STAND_IN, times=None)
FOREIGN_FIRST = Case(Fault.IMAP_FETCH_FOREIGN_FIRST)
ALWAYS_FOREIGN_FIRST = Case(Fault.IMAP_FETCH_FOREIGN_FIRST, times=None)
POISON = Case(Fault.IMAP_RESET, times=None, command="UID FETCH")
RESET_ONCE = Case(Fault.IMAP_RESET, command="UID FETCH")
NOT_MARKED = Case(Fault.IMAP_STORE_REFUSED, times=None)


def named(case: object) -> str | None:
    if not isinstance(case, Case):
        return None
    return f"{case.fault.value}-{'once' if case.times else 'always'}"


@pytest.fixture(name="exchange")
def _exchange(trusted_exchange: ReadyExchange) -> ReadyExchange:
    """Two mailboxes with unread messages, five and three, whose Message-IDs are the same."""
    for number in (4, 5):
        head = f"Subject: Sample message {number}\r\n{SAME_ID}\r\n"
        trusted_exchange.deliver(trusted_exchange.mailbox, head.encode())
    trusted_exchange.add_mailbox(OTHER, messages=3)
    principal = trusted_exchange.app.enterprise_object_id
    trusted_exchange.add_mailbox_permission(OTHER, principal)
    return trusted_exchange


@pytest.fixture(name="conf")
def _conf(exchange: ReadyExchange, tmp_path: Path) -> Path:
    conf = exchange.write_config(tmp_path)
    (conf / "conf.d/sales.properties").write_text(
        "cmsbs.bounce.listeners = sales\n"
        f"cmsbs.bouncelistener.sales.mail.imap.user = {OTHER}\n"
        f"cmsbs.bouncelistener.sales.mail.imap.server = {exchange.host}\n"
    )
    return conf


def unread(inbox: InboxConfig) -> list[int]:
    with inbox.open(readonly=True) as imap:
        return [int(uid) for uid in imap.uid("SEARCH", "UNSEEN")[1][0].split()]


def with_attachment(name: str, content: bytes = b"%PDF") -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = "an attachment"
    mail.set_content("see there")
    mail.add_attachment(content, maintype="application", subtype="pdf", filename=name)
    return mail


# ---- save_attachments.py -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "status"),
    [
        (NOTHING_ONCE, 75),
        (NOTHING, 75),
        (NIL, 75),
        (STAND_IN, 75),
        (FOREIGN_FIRST, 0),
        (ALWAYS_FOREIGN_FIRST, 0),
        (RESET_ONCE, 0),
        (POISON, 75),
        (NOT_MARKED, 1),
    ],
    ids=named,
)
def test_the_job_leaves_one_message_and_takes_all_others(
    exchange: ReadyExchange,
    conf: Path,
    caplog: pytest.LogCaptureFixture,
    case: Case,
    status: int,
) -> None:
    case.inject(exchange)
    left = [BAD] if status else []
    inboxes, out = load_config(conf), conf.parent / "out"
    assert example("save_attachments").main(conf, out) == status
    assert unread(inboxes["default"]) == left
    assert unread(inboxes["sales"]) == []
    assert (f"message {BAD} failed" in caplog.text) == bool(left)
    if case.times:  # it is over
        assert example("save_attachments").main(conf, out) == 0
        assert unread(inboxes["default"]) == []


def test_each_message_has_a_folder_of_its_own(exchange: ReadyExchange, conf: Path) -> None:
    for _ in range(2):
        exchange.deliver(exchange.mailbox, b"Subject: without a Message-ID\r\n\r\n")
    out = conf.parent / "out"
    assert example("save_attachments").main(conf, out) == 0
    folders = set(out.glob("*/*"))
    assert Counter(path.parent.name for path in folders) == {"default": 7, "sales": 3}
    exchange.change_uidvalidity(exchange.mailbox)
    exchange.deliver(exchange.mailbox, with_attachment("a.pdf"))
    assert example("save_attachments").main(conf, out) == 0
    (saved,) = out.glob("*/*/1-a.pdf")
    assert saved.parent not in folders


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("发" * 90 + ".pdf", "1-" + "发" * 65 + ".pdf"),
        ("a" + "发" * 90, "1-a" + "发" * 66),
        ("x" * 300 + "." + "y" * 300, "1-" + "x" * 200),
        ("../../.ssh/authorized_keys", "1-_.._.ssh_authorized_keys"),
        ("C:\\temp\\a.pdf", "1-C_temp_a.pdf"),
        (".profile", "1-profile"),
        ("...", "1-attachment"),
        ("", "1-attachment"),
        ("a\x00\r\nb.pdf", "1-a_b.pdf"),
    ],
    ids=[
        "cjk",
        "no ending",
        "long ending",
        "path",
        "windows",
        "hidden",
        "dots",
        "empty",
        "control",
    ],
)
def test_no_file_name_stops_the_job(
    exchange: ReadyExchange, conf: Path, name: str, saved: str
) -> None:
    job, out = example("save_attachments"), conf.parent / "out"
    assert f"1-{job.safe_name(name)}" == saved
    assert len(job.safe_name(name).encode()) <= 200
    exchange.deliver(exchange.mailbox, with_attachment("".join(c for c in name if c >= " ")))
    assert job.main(conf, out) == 0
    assert len(list(out.glob("default/*-106/1-*"))) == 1


def test_a_message_that_is_an_attachment_is_saved(exchange: ReadyExchange, conf: Path) -> None:
    head = b'Content-Type: application/pdf\r\nContent-Disposition: attachment; filename="s.pdf"\r\n'
    exchange.deliver(exchange.mailbox, head + b"\r\n%PDF")
    out = conf.parent / "out"
    assert example("save_attachments").main(conf, out) == 0
    (saved,) = out.glob("default/*-106/*")
    assert (saved.name, saved.read_bytes().strip()) == ("1-s.pdf", b"%PDF")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError()])
def test_a_message_that_cannot_be_saved_stays_unread(
    exchange: ReadyExchange,
    conf: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    exchange.deliver(exchange.mailbox, with_attachment("large.pdf", b"too large"))
    exchange.deliver(exchange.mailbox, with_attachment("small.pdf"))
    exchange.deliver(OTHER, with_attachment("other.pdf"))
    write = Path.write_bytes

    def write_bytes(path: Path, content: bytes) -> int:
        if content == b"too large":
            raise error
        return write(path, content)

    out, inboxes = conf.parent / "out", load_config(conf)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        assert example("save_attachments").main(conf, out) == 1
    assert (unread(inboxes["default"]), unread(inboxes["sales"])) == ([106], [])
    assert "message 106 failed once" in caplog.text
    assert {path.name for path in out.glob("*/*/*")} == {"1-small.pdf", "1-other.pdf"}
    assert example("save_attachments").main(conf, out) == 0
    assert unread(inboxes["default"]) == []


@pytest.mark.parametrize("error", [OSError("no descriptors"), ValueError("odd")], ids=repr)
def test_whatever_is_wrong_with_an_inbox_the_others_are_read(
    exchange: ReadyExchange,
    conf: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    job = example("save_attachments")
    listener = job.InboxListener

    def broken(inbox: InboxConfig, *args: Any, **options: Any) -> object:
        if inbox.user == exchange.mailbox:
            raise error
        return listener(inbox, *args, **options)

    monkeypatch.setattr(job, "InboxListener", broken)
    assert job.main(conf, conf.parent / "out") == 1
    assert f"default: {type(error).__name__}: {error}" in capsys.readouterr().err
    assert unread(load_config(conf)["sales"]) == []


def test_an_outage_of_entra_costs_the_job_once(
    exchange: ReadyExchange,
    conf: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    wait = fetch._wait

    def noted(event: threading.Event, seconds: float) -> bool:
        waits.append(seconds)
        return wait(event, seconds)

    def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(fetch, "_wait", noted)
    monkeypatch.setattr("exo_imap_oauth._tokens.endpoint._slept", never)  # the deadline is over
    exchange.inject(Fault.TOKEN_REFUSE, times=None)
    assert example("save_attachments").main(conf, conf.parent / "out") == 75
    assert len(waits) == 1
    said = capsys.readouterr().err
    assert said.count("TokenEndpointUnavailable") == 2


# ---- read_inbox.py -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", [NOTHING, NIL, STAND_IN, FOREIGN_FIRST], ids=named)
def test_the_list_says_what_is_missing_from_it(
    exchange: ReadyExchange,
    conf: Path,
    capsys: pytest.CaptureFixture[str],
    case: Case,
) -> None:
    case.inject(exchange)
    assert example("read_inbox").read_config(conf) == 75
    printed = capsys.readouterr()
    assert printed.out.count("Sample message") == 4 + 3
    assert "default: message 4" in printed.err


# ---- celery_worker.py --------------------------------------------------------------------------


class Lock:
    """The lease of a mailbox."""

    def acquire(self) -> bool:
        return True

    def reacquire(self) -> None:
        pass

    def owned(self) -> bool:
        return False


class Client:
    def lock(self, *_: object, **_options: object) -> Lock:
        return Lock()


@pytest.fixture(name="worker")
def _worker(conf: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The worker without a Redis; tasks run where they are called."""
    pytest.importorskip("celery")
    monkeypatch.setenv("REDIS_URL", "redis://localhost:1")
    monkeypatch.setenv("FERNET_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("CMSBS_CONF", str(conf))
    importlib.import_module("celery.app.builtins")  # its own tasks
    state: Any = importlib.import_module("celery._state")
    # Celery would register its task with every app that this process makes from now on.
    monkeypatch.setattr(state, "_on_app_finalizers", set(state._on_app_finalizers))
    worker = example("celery_worker")
    monkeypatch.setattr(worker, "client", Client())
    monkeypatch.setattr(worker, "tokens", None)
    return worker


@pytest.mark.parametrize(
    "case",
    [NOTHING_ONCE, NOTHING, NIL, STAND_IN, FOREIGN_FIRST, POISON, NOT_MARKED],
    ids=named,
)
def test_the_worker_leaves_one_message_and_takes_all_others(
    exchange: ReadyExchange,
    conf: Path,
    worker: ModuleType,
    caplog: pytest.LogCaptureFixture,
    case: Case,
) -> None:
    case.inject(exchange)
    assert worker.read_inbox.apply(["default"]).failed()
    inbox = load_config(conf)["default"]
    assert unread(inbox) == [BAD]
    if case is not POISON:
        assert f"default: message {BAD} stays unread" in caplog.text
    if case.times:  # it is over
        assert worker.read_inbox.apply(["default"]).successful()
        assert unread(inbox) == []


def test_a_throttled_worker_waits_as_long_as_the_server_asks(
    exchange: ReadyExchange, worker: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    retry = worker.read_inbox.retry

    def noted(**options: Any) -> object:
        asked.append(options["countdown"])
        return retry(**options)

    monkeypatch.setattr(worker.read_inbox, "retry", noted)
    exchange.inject(Fault.IMAP_THROTTLED, command="UID FETCH", seconds=60, reply="NO")
    assert worker.read_inbox.apply(["default"]).successful()
    assert asked == [60]


def test_the_worker_hands_over_what_to_remember_a_message_by(
    exchange: ReadyExchange, conf: Path, worker: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.deliver(exchange.mailbox, b"Subject: without a Message-ID\r\n\r\n")
    handled: list[tuple[object, ...]] = []

    def handle(inbox: InboxConfig, mail: Mail) -> None:
        if mail.uid == BAD:
            raise OSError(errno.ENOSPC, "No space left on device")
        handled.append((inbox.host, inbox.user, mail.folder, mail.uidvalidity, mail.uid))

    monkeypatch.setattr(worker, "handle", handle)
    assert worker.read_inbox.apply(["default"]).failed()
    assert worker.read_inbox.apply(["sales"]).successful()
    assert len(set(handled)) == len(handled) == 5 + 3
    assert all(folder == "INBOX" and uidvalidity for _, _, folder, uidvalidity, _ in handled)
    inboxes = load_config(conf)
    assert (unread(inboxes["default"]), unread(inboxes["sales"])) == ([BAD], [])


# ---- asyncio.md --------------------------------------------------------------------------------

SOON = 20.0  # s, for what takes about one, as with `listen`, on an idle machine


class Async:
    """The page's program, listening to two inboxes."""

    def __init__(self, inboxes: list[InboxConfig]) -> None:
        (block,) = blocks(DOCS / "how-to/asyncio.md", "python")
        self.page: dict[str, Any] = {"__name__": "async_listener"}
        run(block, self.page)
        self.inboxes = inboxes
        self.handled: Counter[tuple[str, str]] = Counter()
        self.fails = 0  # how often `handle` still raises

    async def handle(self, inbox: InboxConfig, mail: Mail) -> None:
        assert (mail.folder, bool(mail.uid), bool(mail.uidvalidity)) == ("INBOX", True, True)
        if self.fails and "4" in mail["Subject"]:
            self.fails -= 1
            raise ValueError("cannot parse")
        self.handled[inbox.user, mail["Subject"]] += 1

    async def handled_all(self, number: int, within: float = 30.0) -> None:
        end = time.monotonic() + within
        while len(self.handled) < number:
            assert time.monotonic() < end, self.handled
            await asyncio.sleep(0.02)

    def run(self, what: Callable[[], Any]) -> None:
        async def listening() -> None:
            listen = self.page["listen"]
            tasks = [asyncio.create_task(listen(each, self.handle)) for each in self.inboxes]
            try:
                await what()
                assert not any(task.done() for task in tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(listening())
        gc.collect()


@pytest.fixture(name="program")
def _program(exchange: ReadyExchange) -> Async:
    return Async([exchange.inbox, replace(exchange.inbox, user=OTHER, name="sales")])


@pytest.mark.parametrize("how", ["in idle", "at a command", "while handled"])
def test_a_lost_connection_is_noticed_at_once(
    exchange: ReadyExchange, program: Async, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async def lose_it() -> None:
        await program.handled_all(8)
        if how == "in idle":
            await asyncio.sleep(0.3)
            exchange.drop_connections()
        else:
            command = "UID FETCH" if how == "at a command" else "UID STORE"
            exchange.inject(Fault.IMAP_RESET, command=command)
        exchange.deliver(exchange.mailbox, b"Subject: Hello\r\n\r\n")
        await program.handled_all(9, SOON)
        end = time.monotonic() + SOON  # what is handled may come before what is logged
        while "ConnectionResetError('the connection was lost')" not in caplog.text:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)

    program.run(lose_it)


@pytest.mark.parametrize(
    "case", [NOTHING_ONCE, NOTHING, STAND_IN, FOREIGN_FIRST, POISON], ids=named
)
def test_the_coroutine_gets_all_messages_but_one(
    exchange: ReadyExchange, program: Async, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    case.inject(exchange)

    async def deliver() -> None:
        await program.handled_all(7)  # of both inboxes
        exchange.deliver(exchange.mailbox, b"Subject: Hello\r\n\r\n")
        await program.handled_all(8 + bool(case.times), 90)  # what did not come, at the next look

    program.run(deliver)
    assert unread(exchange.inbox) == ([] if case.times else [BAD])
    if case is not POISON:
        assert f"message {BAD} stays unread" in caplog.text


def test_mail_that_comes_while_others_are_handled_does_not_wait(
    exchange: ReadyExchange, program: Async, caplog: pytest.LogCaptureFixture
) -> None:
    handle = program.handle

    async def deliver_and_handle(inbox: InboxConfig, mail: Mail) -> None:
        if mail["Subject"] == "Sample message 2":
            exchange.deliver(inbox.user, b"Subject: Hello\r\n\r\n")
        await handle(inbox, mail)

    program.handle = deliver_and_handle  # type: ignore[method-assign]

    async def wait() -> None:
        await program.handled_all(10, SOON)

    caplog.set_level("INFO", "aioimaplib")
    program.run(wait)
    assert "ignored untagged response : b'6 EXISTS'" in caplog.text


def test_a_handler_that_raises_ends_nothing(
    exchange: ReadyExchange, program: Async, caplog: pytest.LogCaptureFixture
) -> None:
    program.fails = 1

    async def deliver() -> None:
        await program.handled_all(7)
        await asyncio.sleep(0.3)
        exchange.deliver(exchange.mailbox, b"Subject: Hello\r\n\r\n")
        exchange.deliver(OTHER, b"Subject: Hello\r\n\r\n")
        await program.handled_all(10)

    program.run(deliver)
    assert set(program.handled.values()) == {1}
    assert caplog.text.count("ValueError: cannot parse") == 1
    assert unread(exchange.inbox) == []


def test_a_throttled_program_waits_as_long_as_the_server_asks(
    exchange: ReadyExchange, program: Async, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.inject(Fault.IMAP_THROTTLED, uid=BAD, command="UID FETCH", seconds=1, reply="NO")

    async def wait() -> None:
        await program.handled_all(8)

    program.run(wait)
    assert "stays unread" not in caplog.text
    assert "default: Throttled(" in caplog.text


# ---- programs that only look -------------------------------------------------------------------


class FaultyExchange(ReadyExchange):
    """One that sends nothing in place of a message."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.inject(Fault.IMAP_FETCH_NOTHING)
        return self


@pytest.mark.parametrize(
    ("page", "number", "shown"),
    [
        ("tutorial/first-login.md", 0, ["Sample message 2", "Sample message 3"]),
        ("how-to/without-universal-messenger.md", 1, ["None"]),
    ],
)
def test_a_page_that_looks_goes_on_without_the_message(
    monkeypatch: pytest.MonkeyPatch, page: str, number: int, shown: list[str]
) -> None:
    monkeypatch.setattr("exo_imap_oauth.testing.ready_exchange", FaultyExchange)
    printed = run(blocks(DOCS / page, "python")[number])
    assert [line.rpartition(": ")[2] for line in printed.splitlines()] == shown


def test_the_program_of_the_testing_page_goes_on_without_the_message(
    exchange: ReadyExchange,
) -> None:
    names: dict[str, Any] = {}
    run(blocks(DOCS / "how-to/testing.md", "python")[0], names)
    NOTHING.inject(exchange)
    subjects = names["unread_subjects"](exchange.inbox)
    assert subjects == [f"Sample message {number}" for number in (1, 2, 3, 5)]


def test_no_page_takes_a_part_of_a_reply_by_its_place() -> None:
    sources = [*DOCS.glob("examples/*.py"), *DOCS.glob("notebooks/*.py")]
    sources += [page for page in DOCS.rglob("*.md") if "explanation" not in page.parts]
    for source in sources:
        text = source.read_text("utf-8")
        for wrong in ("[0][1]", "parts[", "(part, *_)", "message_from_bytes", "part[1]"):
            assert wrong not in text, (source, wrong)
