"""An error in a notebook: the caller's frames and the message, not thirty frames of ours."""

from __future__ import annotations

import sys
import traceback
import types

import pytest
from support.notebooks import run_in_kernel

from exo_imap_oauth import load_config
from exo_imap_oauth.errors import ConfigError

HINT = "The frames inside exo_imap_oauth are left out; %tb Plain shows them."
_START = """# %%
from contextlib import ExitStack
from exo_imap_oauth import load_config
from exo_imap_oauth.testing import ready_exchange

stack = ExitStack()
exchange = stack.enter_context(ready_exchange())
exchange.remove_mailbox_permission(exchange.mailbox, exchange.app.enterprise_object_id)
inbox = exchange.inbox

def read_all():
    with inbox.open() as imap:
        return imap.search(None, "ALL")
"""
_CELLS = {
    "refused": "read_all()",
    "handling": """
try:
    try:
        1 / 0
    except ZeroDivisionError:
        read_all()
except Exception:
    load_config("nowhere")
""",
    "noted": """
try:
    read_all()
except Exception as error:
    error.add_note("while reading orders")
    raise
""",
    "%tb": "%tb",
    "%tb Plain": "%tb Plain",
    "frames of %debug": """
step = get_ipython().InteractiveTB.tb
while step.tb_next:
    step = step.tb_next
print(step.tb_frame.f_globals["__name__"])
""",
    "%xmode Verbose": "%xmode Verbose",
    "verbose": "read_all()",
    "end": "stack.close()",
}
_RAISES = ("refused", "handling", "noted", "verbose")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each cell shows, in one kernel."""
    source = _START
    for name, text in _CELLS.items():
        tag = ' tags=["raises-exception"]' if name in _RAISES else ""
        source += f"\n# %%{tag}\n{text.strip()}\n"
    _, *outputs = run_in_kernel(source, tmp_path_factory.mktemp("kernel"))
    return {name: output.text for name, output in zip(_CELLS, outputs, strict=True)}


def _holds_frames_of_ours(text: str) -> bool:
    return any(name in text for name in ("exo_imap_oauth/", "contextlib.py", "imaplib.py"))


@pytest.mark.slow
def test_a_notebook_shows_the_callers_frames_and_the_whole_message(shown: dict[str, str]) -> None:
    lines = shown["refused"].splitlines()
    assert "----> 1 read_all()" in lines
    assert any("with inbox.open() as imap:" in line for line in lines)
    assert not _holds_frames_of_ours(shown["refused"])
    assert "MailboxNotConnected: localhost did not open INBOX of" in shown["refused"]
    assert "    Add-MailboxPermission -Identity 'inbox@contoso.example'" in shown["refused"]
    assert lines[-1] == HINT
    assert len(lines) < 30


@pytest.mark.slow
def test_the_errors_that_the_caller_was_handling_are_shown_as_short(shown: dict[str, str]) -> None:
    first, second, third = shown["handling"].split("During handling of the above exception")
    assert "ZeroDivisionError: division by zero" in first
    assert "MailboxNotConnected: localhost did not open" in second
    assert "ConfigError: nowhere cannot be used" in third
    assert not _holds_frames_of_ours(shown["handling"])


@pytest.mark.slow
def test_notes_are_shown(shown: dict[str, str]) -> None:
    assert "while reading orders" in shown["noted"].splitlines()


@pytest.mark.slow
def test_all_frames_are_a_command_away_and_the_debugger_has_them(shown: dict[str, str]) -> None:
    assert shown["%tb"].splitlines()[-1] == HINT
    assert _holds_frames_of_ours(shown["%tb Plain"])
    assert HINT not in shown["%tb Plain"]
    assert shown["frames of %debug"].startswith("exo_imap_oauth.")


@pytest.mark.slow
def test_whoever_chose_another_mode_gets_all_frames(shown: dict[str, str]) -> None:
    assert _holds_frames_of_ours(shown["verbose"])
    assert "MailboxNotConnected" in shown["verbose"]


@pytest.mark.slow
def test_no_secret_is_shown_with_all_variables_either(shown: dict[str, str]) -> None:
    text = "\n".join(shown.values())
    assert "x8Q~" not in text  # as in each client secret of the loopback Exchange
    assert "eyJ" not in text


# ---- without IPython -------------------------------------------------------------------------


def _error() -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config("nowhere")
    return caught.value


def _usual(error: ConfigError) -> str:
    return "".join(traceback.format_exception(error))


def test_without_ipython_it_is_the_usual_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    error = _error()
    assert "\n".join(error._render_traceback_()) + "\n" == _usual(error)


@pytest.mark.parametrize("shell", [None, object()], ids=["no shell", "another shell"])
def test_an_ipython_of_another_kind_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, shell: object
) -> None:
    ipython = types.ModuleType("IPython")
    vars(ipython)["get_ipython"] = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    error = _error()
    assert "\n".join(error._render_traceback_()) + "\n" == _usual(error)


def _error_while_another_is_handled() -> ConfigError:
    try:
        number = 1 / 0
    except ZeroDivisionError:
        return _error()
    raise AssertionError(number)


class _Formatter:
    """As much of IPython's formatter of errors as is used."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.tb: types.TracebackType | None = None

    def structured_traceback(
        self, kind: type[BaseException], error: BaseException, step: types.TracebackType | None
    ) -> list[str]:
        return traceback.format_exception(kind, error, step)


def _shown_by(formatter: _Formatter, error: ConfigError, monkeypatch: pytest.MonkeyPatch) -> str:
    shell = types.SimpleNamespace(InteractiveTB=formatter)
    ipython = types.ModuleType("IPython")
    vars(ipython)["get_ipython"] = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    return "".join(error._render_traceback_())


def test_the_frames_of_ours_are_left_out_of_what_ipython_formats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = _error_while_another_is_handled()
    error.add_note("while reading orders")
    formatter = _Formatter("Context")
    text = _shown_by(formatter, error, monkeypatch)
    assert "ZeroDivisionError" in text
    assert "while reading orders" in text
    assert text.endswith(HINT)
    assert 'load_config("nowhere")' in text
    assert "config.py" not in text
    assert formatter.tb is error.__traceback__


class _Unreadable(ConfigError):
    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(f"{folder}: {reason}")


def test_an_error_of_the_callers_own_class_is_shortened_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(_Unreadable) as caught:
        raise _Unreadable("conf", "locked")
    text = _shown_by(_Formatter("Context"), caught.value, monkeypatch)
    assert "_Unreadable: conf: locked" in text
    assert text.endswith(HINT)


def test_in_another_mode_ipython_formats_all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _shown_by(_Formatter("Verbose"), _error(), monkeypatch)
    assert "config.py" in text
    assert HINT not in text
