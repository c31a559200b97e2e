"""Settings, where they were made, and what is found to be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from exo_imap_oauth._cmsbs.mistakes import MISTAKES
from exo_imap_oauth.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, where it was made, and what it overrode.

    Attributes:
        key: The key or environment variable as it is written.
        value: What is written there, for a ``$file`` key the path; left out of ``repr()``.
        source: The file, or ``environment``.
        line: The line in that file, from 1; 0 in the environment.
        overrode: The earlier setting of the same key, or None; left out of ``repr()`` and of
            comparisons, which would go down a chain of any length.
        names_file: Whether the value is the path of a file that holds the value.
        raw: The beginning of its lines as they stand in the file, escapes and all.
        following: The beginning of the line below.
    """

    key: str
    value: str = field(repr=False)
    source: str
    line: int
    overrode: Setting | None = field(default=None, repr=False, compare=False)
    names_file: bool = False
    raw: str = field(default="", repr=False)
    following: str = field(default="", repr=False)


class Findings:
    """What is found to be wrong, and the order in which it is reported."""

    def __init__(self) -> None:
        self.sources: list[str] = []  # in the order of reading
        self.incomplete = False  # something could not be read, so nothing counts as missing
        # Dictionaries keep the order, and the same problem of several inboxes is one.
        self.errors: dict[ConfigProblem, None] = {}
        self._warnings: dict[ConfigProblem, None] = {}

    def add(
        self,
        mistake_id: str,
        at: Setting,
        *,
        severity: Literal["error", "warning"] | None = None,
        **details: str,
    ) -> ConfigProblem:
        """Note a mistake, with its own severity unless another is given."""
        mistake = MISTAKES[mistake_id]
        message, fix = mistake.message.format(**details), mistake.fix.format(**details)
        problem = ConfigProblem(at.key, at.source, at.line, message, fix)
        is_error = (severity or mistake.severity) == "error"
        (self.errors if is_error else self._warnings)[problem] = None
        return problem

    @property
    def warnings(self) -> tuple[ConfigProblem, ...]:
        """All warnings, in the order of files and lines."""
        return self._sorted(self._warnings)

    def error(self, path: str) -> ConfigError | None:
        """One error for all that was found, or None."""
        if not self.errors:
            return None
        message = f"{path} cannot be used; mistakes found: {len(self.errors)}"
        return ConfigError(message, problems=self._sorted(self.errors), warnings=self.warnings)

    def _sorted(self, problems: Iterable[ConfigProblem]) -> tuple[ConfigProblem, ...]:
        order = {source: number for number, source in enumerate(self.sources)}
        return tuple(sorted(problems, key=lambda p: (order.get(p.source, -1), p.line)))
