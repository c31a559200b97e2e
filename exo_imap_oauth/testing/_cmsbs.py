"""Writes the configuration of the how-to: a ``cmsbs-conf`` folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_AT_A_LOOPBACK = "= https://localhost:"


def check_replaceable(folder: Path) -> None:
    """Raise :exc:`FileExistsError` if there is a configuration of a real tenant."""
    file = folder / "cmsbs-conf" / "cmsbs.properties"
    if file.exists() and _AT_A_LOOPBACK not in file.read_text("latin-1"):
        text = f"{file} is not one that write_config made, so it is kept; choose another folder"
        raise FileExistsError(text)


def write_cmsbs_conf(folder: Path, settings: Mapping[str, str]) -> Path:
    """Write ``cmsbs-conf/cmsbs.properties``, readable by its owner only.

    Args:
        folder: Where to make the folder ``cmsbs-conf``.
        settings: Keys without the prefix ``cmsbs.mail.imap.``, and values as they are.

    Returns:
        The folder ``cmsbs-conf``.
    """
    conf = folder / "cmsbs-conf"
    (conf / "conf.d").mkdir(parents=True, exist_ok=True)
    file = conf / "cmsbs.properties"
    file.touch(mode=0o600)
    file.chmod(0o600)
    lines = (f"cmsbs.mail.imap.{key} = {_escape(value)}\n" for key, value in settings.items())
    file.write_text("".join(lines), encoding="ascii")
    return conf


def _escape(value: str) -> str:
    """The value as ``java.util.Properties`` reads it back."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = f'"{value}"'  # the dialect takes one enclosing pair away
    value = value.replace("\\", "\\\\")
    if value[:1] == " ":
        value = "\\" + value
    units = value.encode("utf-16-be", "surrogatepass")
    codes = (int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
    return "".join(chr(code) if 0x20 <= code < 0x7F else f"\\u{code:04x}" for code in codes)  # noqa: PLR2004 - printable ASCII
