"""Settings, where they were made, and what is found to be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from exo_imap_oauth._cmsbs.mistakes import MISTAKES
from exo_imap_oauth._text import HiddenText, one_line
from exo_imap_oauth.errors import ConfigError, ConfigProblem
from exo_imap_oauth.properties import hidden_if_secret

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Setting:  # noqa: PLW1641 - dataclass adds __hash__
    """One setting, where it was made, and what it overrode.

    Attributes:
        key: The key or environment variable as it is written.
        value: What is written there, for a ``$file`` key the path; left out of ``repr()``. Its
            own ``repr()`` is ``(hidden)`` where it, or the key, speaks of a secret or password.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", hidden_if_secret(self.key, self.value))
        object.__setattr__(self, "raw", HiddenText(self.raw))
        object.__setattr__(self, "following", HiddenText(self.following))

    # pytest takes a dataclass apart, and shows its fields, unless it has an __eq__ of its own.
    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Setting):
            return NotImplemented
        return self._compared() == other._compared()

    def _compared(self) -> tuple[object, ...]:
        return tuple(getattr(self, each.name) for each in fields(self) if each.compare)


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
        # Names of listeners and folders may hold anything.
        shown = (at.key, mistake.message.format(**details), mistake.fix.format(**details))
        key, message, fix = map(one_line, shown)
        problem = ConfigProblem(key, at.source, at.line, message, fix)
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
        message = f"{one_line(path)} cannot be used; mistakes found: {len(self.errors)}"
        return ConfigError(message, problems=self._sorted(self.errors), warnings=self.warnings)

    def _sorted(self, problems: Iterable[ConfigProblem]) -> tuple[ConfigProblem, ...]:
        order = {source: number for number, source in enumerate(self.sources)}
        return tuple(sorted(problems, key=lambda p: (order.get(p.source, -1), p.line)))
