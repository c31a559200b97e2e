"""Steps in threads of their own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from support.checkup import check, inbox_of

from exo_imap_oauth._threads import in_thread
from exo_imap_oauth.checkup import check_setup

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange


def test_a_step_gives_its_result_or_its_error() -> None:
    thread = in_thread("step", threading.current_thread).result()
    assert thread.daemon
    assert thread.name == "exo_imap_oauth-step"

    def end() -> NoReturn:
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        in_thread("step", end).result()


def test_a_timeout_of_a_credential_itself_is_not_one_of_the_step(exchange: ReadyExchange) -> None:
    class Credential:
        def get_token(self, *_: str) -> Any:
            raise TimeoutError("the broker is busy")

    report = check_setup(
        inbox_of(exchange), token_source=Credential(), ssl_context=exchange.ssl_context
    )
    assert check(report, "token").detail == "TimeoutError: the broker is busy"
