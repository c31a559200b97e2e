"""Text from outside, made fit to be quoted."""

_MAX_QUOTE = 400
_MAX_READ = 10 * _MAX_QUOTE  # a server may send a line of a megabyte


def one_line(text: str) -> str:
    """One line of printable text, cut to what a log line bears."""
    printable = "".join(c if c.isprintable() else " " for c in text[:_MAX_READ])
    line = " ".join(printable.split())
    return line if len(line) <= _MAX_QUOTE else line[:_MAX_QUOTE] + "…"
