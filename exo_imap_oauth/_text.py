"""Text from outside, made fit to be quoted."""

_MAX_QUOTE = 400


def one_line(text: str) -> str:
    """One line of printable text, cut to what a log line bears."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MAX_QUOTE else line[:_MAX_QUOTE] + "…"
