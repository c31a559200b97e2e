"""SIGINT in tests, which is ignored where the suite runs in the background (``nohup … &``)."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextlib.contextmanager
def sigint_handled() -> Generator[None]:
    """A ``with`` block in which SIGINT raises KeyboardInterrupt, here and in what is started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
