"""The service's clock, which tests can move."""

from __future__ import annotations

import threading
import time


class Clock:
    """The system's clock plus what it has been advanced by."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Unix seconds."""
        return time.time() + self._offset

    def advance(self, seconds: float) -> None:
        """Move the clock forward, or back if negative."""
        with self._lock:
            self._offset += seconds

    def reset(self) -> None:
        """Set the clock right."""
        with self._lock:
            self._offset = 0.0
