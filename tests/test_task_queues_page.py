"""docs/how-to/task-queues.md with a real Celery worker, and with Airflow's exception."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from support.pages import DOCS, blocks, run

from exo_imap_oauth.errors import (
    ConnectionFailed,
    MailboxNotConnected,
    Throttled,
    TokenRequestRejected,
)
from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to/task-queues.md"
CELERY, CALLER, AIRFLOW = blocks(PAGE, "python")
READ_ONLY = "EXAMINE"


@pytest.fixture(name="exchange", autouse=True)
def _exchange(
    trusted_exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReadyExchange:
    monkeypatch.chdir(tmp_path)
    trusted_exchange.write_config(tmp_path)
    return trusted_exchange


@pytest.fixture(name="names", scope="module")
def _names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the page's first block defines, and a worker that runs its task."""
    worker: Any = pytest.importorskip("celery.contrib.testing.worker")
    signals: Any = importlib.import_module("celery.signals")

    def left_alone(**_: object) -> None:
        """With a receiver of this signal, Celery does not set up the logging of the process."""

    signals.setup_logging.connect(left_alone)
    results = tmp_path_factory.mktemp("results")
    text = CELERY.text.replace("redis://redis.example/0", "memory://")
    text = text.replace("redis://redis.example/1", results.as_uri())
    # A task's name holds the module's, and Celery registers it with each app of the process.
    names: dict[str, Any] = {"__name__": f"page_of_{results.parent.name}_{results.name}"}
    run(CELERY._replace(text=text), names)
    with worker.start_worker(
        names["app"], pool="solo", perform_ping_check=False, shutdown_timeout=30
    ):
        yield names


def asked(exchange: ReadyExchange) -> int:
    return len(exchange.logins)


# ---- Celery ----------------------------------------------------------------------------------


def test_the_caller_gets_what_the_task_returns(names: dict[str, Any]) -> None:
    assert run(CALLER, names) == "3\n"


def test_a_mailbox_that_is_closed_is_tried_once_and_the_caller_gets_the_fix(
    names: dict[str, Any], exchange: ReadyExchange
) -> None:
    exchange.remove_mailbox_permission(exchange.mailbox, exchange.app.enterprise_object_id)
    printed = run(CALLER, names)
    assert "FullAccess" in printed
    assert asked(exchange) == 1
    with pytest.raises(MailboxNotConnected) as raised:
        names["count_unread"].delay().get(timeout=60)
    assert raised.value.advice is not None
    assert raised.value.advice.id == "mailbox-not-connected"
    assert not raised.value.retryable
    assert "Add-MailboxPermission" in str(raised.value)


def test_a_wrong_secret_is_tried_once(names: dict[str, Any], exchange: ReadyExchange) -> None:
    exchange.expire_client_secret(exchange.secret)
    with pytest.raises(TokenRequestRejected, match="Certificates & secrets"):
        names["count_unread"].delay().get(timeout=60)
    assert len(exchange.token_requests) == 1


def test_a_lost_connection_is_tried_again(names: dict[str, Any], exchange: ReadyExchange) -> None:
    exchange.inject(Fault.IMAP_CONNECTION_CLOSED, times=1, command=READ_ONLY)
    assert names["count_unread"].delay().get(timeout=60) == 3
    assert asked(exchange) == 2


def test_the_server_says_how_long_to_wait(
    names: dict[str, Any], exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.inject(Fault.IMAP_THROTTLED, times=None, seconds=300, command=READ_ONLY)
    task = names["count_unread"]
    asked_for: list[float] = []

    def retry(**how: Any) -> Exception:
        asked_for.append(how["countdown"])
        assert isinstance(how["exc"], Throttled)
        return LookupError("later")

    monkeypatch.setattr(task, "retry", retry)
    with pytest.raises(LookupError, match="later"):
        task("default")
    assert asked_for == [300.0]


# ---- Airflow, by its exception ---------------------------------------------------------------


@pytest.fixture(name="in_airflow")
def _in_airflow(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Callable[[], object], type[Exception]]:
    class AirflowFailException(Exception):
        """It fails the task without retrying."""

    package, exceptions = ModuleType("airflow"), ModuleType("airflow.exceptions")
    exceptions.AirflowFailException = AirflowFailException  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "airflow", package)
    monkeypatch.setitem(sys.modules, "airflow.exceptions", exceptions)
    imports = "\n".join(re.findall(r"^from exo.*$", CELERY.text, re.MULTILINE))
    names: dict[str, Any] = {"__name__": "page"}
    exec(imports, names)
    run(AIRFLOW, names)
    return names["count_unread_in_airflow"], AirflowFailException


def test_airflow_tries_again_what_is_retryable_only(
    in_airflow: tuple[Callable[[], object], type[Exception]], exchange: ReadyExchange
) -> None:
    count, fail = in_airflow
    assert count() == 3
    exchange.inject(Fault.IMAP_CONNECTION_CLOSED, times=1, command=READ_ONLY)
    with pytest.raises(ConnectionFailed):
        count()
    exchange.remove_mailbox_permission(exchange.mailbox, exchange.app.enterprise_object_id)
    with pytest.raises(fail, match="Add-MailboxPermission") as raised:
        count()
    assert isinstance(raised.value.__cause__, MailboxNotConnected)
