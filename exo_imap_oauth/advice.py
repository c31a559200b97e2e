"""What a message of Entra or Exchange means: its likely cause, the fix, ready commands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advice:
    """What probably went wrong and what to do about it."""

    id: str
    cause: str
    fix: str
    commands: tuple[str, ...]
    url: str
