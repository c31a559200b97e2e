"""docs/how-to/logging.md is true: its messages are those of the code, its examples run."""

from __future__ import annotations

import ast
import logging
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.concurrency import until
from support.pages import DOCS, blocks, run
from support.token_endpoint import TokenEndpoint, rejected, token

import exo_imap_oauth
from exo_imap_oauth.errors import ExoImapOAuthError
from exo_imap_oauth.imap import ok
from exo_imap_oauth.listener import InboxListener
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_imap_oauth import InboxConfig
    from exo_imap_oauth.testing import ReadyExchange

PACKAGE = Path(exo_imap_oauth.__file__).parent
PAGE = DOCS / "how-to/logging.md"
TEXT = PAGE.read_text()
SWITCHED_ON, COUNTER, OPENTELEMETRY = blocks(PAGE, "python")
(EXAMPLE,) = blocks(PAGE, "text")
HEADINGS = {
    "debug": "## DEBUG",
    "info": "## INFO",
    "warning": "## Warnings",
    "exception": "## Warnings",
}


def logged() -> Iterator[tuple[str, str, str]]:
    """Of each call of a logger in the package: the module, the level and the format."""
    for path in PACKAGE.rglob("*.py"):
        if "testing" in path.parts:
            continue
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "_logger"
            ):
                first = node.args[0]
                assert isinstance(first, ast.Constant)
                yield ".".join(parts), node.func.attr, str(first.value)


@pytest.mark.parametrize(("module", "level", "text"), list(logged()))
def test_each_message_stands_on_the_page_under_its_level(
    module: str, level: str, text: str
) -> None:
    section = TEXT.partition(f"\n{HEADINGS[level]}")[2].partition("\n## ")[0]
    pieces = [piece.strip(" :.\n") for piece in re.split(r"%[-.\d]*[sdf]|\n", text)]
    words = [piece for piece in pieces if len(piece) > 1]
    rows = [row for row in section.splitlines() if all(word in row for word in words)]
    assert words
    assert rows
    assert level == "info" or any(f"`{module}`" in row for row in rows)


# ---- what an inbox with `debug` tells ----------------------------------------------------------


def alike(line: str) -> str:
    """A line without what differs from one tenant to the next."""
    line = re.sub(r"https://\S+?(?=[', ]|$)|\S+@\S+ at \S+", "X", line)
    line = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", line)
    return re.sub(r"\d+", "N", line)


def test_the_lines_of_the_example_are_told(
    exchange: ReadyExchange, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exo_imap_oauth")
    inbox = replace(exchange.inbox, debug=True)
    options: dict[str, Any] = {"ssl_context": exchange.ssl_context}
    with inbox.open(**options):
        pass
    exchange.inject(Fault.IMAP_AUTHENTICATE_FAILED)
    exchange.inject(Fault.IMAP_THROTTLED, command="SEARCH", reply="NO")
    with pytest.raises(ExoImapOAuthError), inbox.open(**options) as imap:
        ok(imap.search(None, "ALL"))
    told = {alike(record.getMessage()) for record in caplog.records}
    assert {alike(line) for line in EXAMPLE.text.splitlines()} - told == set()
    assert {vars(record)["exo_inbox"] for record in caplog.records} == {"default"}


# ---- the examples ----------------------------------------------------------------------------


@pytest.fixture
def counter() -> Iterator[Any]:
    names: dict[str, Any] = {}
    run(COUNTER, names)
    yield names["warnings_by_advice"].counts
    logging.getLogger("exo_imap_oauth").removeHandler(names["warnings_by_advice"])


def test_the_handler_counts_a_fetch_ahead_that_failed(counter: Any) -> None:
    with TokenEndpoint(token("held"), rejected(7000222)) as endpoint:
        source = endpoint.source()
        slot = source._slot
        source.get_token()
        due = replace(slot.token, refresh_on=int(slot.token.obtained_on) - 1)
        slot.cache.set(slot.key, due)
        slot.hold(due)
        source.get_token()
        until(lambda: counter["secret-expired"] == 1)


def test_the_handler_counts_what_listeners_warn_of(
    trusted_exchange: ReadyExchange, counter: Any, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = replace(trusted_exchange.inbox, name="orders\x1b[31m")
    trusted_exchange.inject(Fault.IMAP_CONNECTION_CLOSED, command="SELECT")
    listener: InboxListener

    def fail(_inbox: InboxConfig, _message: object) -> None:
        listener.stop()
        raise LookupError

    listener = InboxListener(inbox, fail, initial_backoff=0.001, max_backoff=0.001)
    listener.run()
    assert counter == {"connection-closed": 1, "other": 1}
    assert {vars(record)["exo_inbox"] for record in caplog.records} == {"orders\\x1b[31m"}
    assert "\x1b" not in caplog.text


def test_it_is_switched_on_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    configured: list[dict[str, Any]] = []

    def configure(**options: Any) -> None:
        configured.append(options)

    monkeypatch.setattr(logging, "basicConfig", configure)
    logger = logging.getLogger("exo_imap_oauth")
    before = logger.level
    try:
        run(SWITCHED_ON)
        assert logger.isEnabledFor(logging.INFO)
    finally:
        logger.setLevel(before)
    assert set(configured[0]) == {"format"}


def test_a_token_request_is_a_child_of_the_callers_span(exchange: ReadyExchange) -> None:
    reason = "pip install opentelemetry-sdk opentelemetry-instrumentation-requests"
    pytest.importorskip("opentelemetry.sdk", reason=reason)
    pytest.importorskip("opentelemetry.instrumentation.requests", reason=reason)
    trace: Any = sys.modules["opentelemetry.trace"]
    sdk: Any = pytest.importorskip("opentelemetry.sdk.trace")
    export: Any = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory: Any = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    requests: Any = sys.modules["opentelemetry.instrumentation.requests"]
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    inbox = replace(exchange.inbox, debug=False)
    source = inbox.token_source(ssl_context=exchange.ssl_context)

    class Inbox:
        def open(self) -> Any:
            return inbox.open(token=source, ssl_context=exchange.ssl_context)

    try:
        run(OPENTELEMETRY, {"inbox": Inbox()})
    finally:
        requests.RequestsInstrumentor().uninstrument()
    request, whole = exporter.get_finished_spans()
    assert (request.name, whole.name) == ("POST", "read the inbox")
    assert request.parent.span_id == whole.context.span_id
    assert exchange.secret.value not in str(dict(request.attributes))
