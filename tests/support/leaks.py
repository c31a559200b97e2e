"""What a report of an error could show, for tests that look for a secret in it."""

from __future__ import annotations

from pathlib import Path

TESTS = str(Path(__file__).parents[1])


def everything_in(error: BaseException) -> str:
    """An error's texts, arguments, notes and attributes, and the locals of its frames.

    The errors behind it count too. The frames of the tests themselves do not: they hold the
    secrets that are looked for.
    """
    seen: list[str] = []
    errors: list[BaseException | None] = [error]
    while errors:
        current = errors.pop()
        if current is None:
            continue
        seen += [str(current), repr(current.args), repr(vars(current))]
        step = current.__traceback__
        while step is not None:
            if not step.tb_frame.f_code.co_filename.startswith(TESTS):
                seen.append(repr(step.tb_frame.f_locals))
            step = step.tb_next
        errors += [current.__cause__, current.__context__]
    return "\n".join(seen)
