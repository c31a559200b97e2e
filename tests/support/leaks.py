"""Secrets to plant, and every way in which a program might show them: what the leak tests use.

Paths (what is done) stand in :mod:`support.leak_paths`; here stand the sentinels, the search
for them in a text, and the channels.
"""

from __future__ import annotations

import base64
import functools
import html
import itertools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

TESTS = str(Path(__file__).parents[1])

# ---- what is looked for ----------------------------------------------------------------------

_CLAIMS = {
    "aud": "https://outlook.office365.com",
    "appid": "6a1d2c3b-0f4e-4d5c-8b7a-9e8f7a6b5c4d",
    "tid": "0b0e7b5d-57d2-4a9f-9f0d-5a1f3f6f2c11",
    "oid": "71487acd-ec93-476d-bd0e-6c8b31831053",
    "roles": ["IMAP.AccessAsApp"],
    "exp": 4_000_000_000,
}


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


# Each as its issuer makes them: with the characters that forms, JSON and HTML escape.
SECRET = "Zq7~wR.3xT=pL/k+V&m9@bN<4>sJ\"h2Yd8F'c"
CALLED_SECRET = "cAl~8Qz.W5+e/R=tY&u1@I<o>P3a\"S6d'F0gH"
FILE_SECRET = "fIl~3Mn.B7+v/C=xZ&l2@K<j>H9g\"F4d'S1aP"
ASSERTION = f"{_part({'kid': 'wOrkl0ad'})}.{_part({'sub': 'wl-7'})}.aS5" + "ErT10n" * 9
PASSPHRASE = "pAss~Phr4se.of+the/k3y=File&2Be#Hidden"
TOKEN = f"{_part({'typ': 'JWT', 'kid': 'tOk3n'})}.{_part(_CLAIMS)}.sIg" + "N4tur3" * 9
REDIS_KEY = base64.urlsafe_b64encode(b"rEdis-k3y-of-32-bytes-for-Fernet").decode()
PROXY_PASSWORD = "pRoxy~P4ssw0rd.for-the+gate_K33per"

SENTINELS: dict[str, str] = {
    "secret": SECRET,
    "callable's secret": CALLED_SECRET,
    "$file secret": FILE_SECRET,
    "assertion": ASSERTION,
    "passphrase": PASSPHRASE,
    "token": TOKEN,
    "Redis key": REDIS_KEY,
    "proxy's password": PROXY_PASSWORD,
}


def plant(name: str, secret: str) -> None:
    """Look for another secret too, such as a private key that is made when it is needed."""
    SENTINELS[name] = secret
    _blocks.cache_clear()
    _parts.cache_clear()


# ---- the search ------------------------------------------------------------------------------

PARTIAL = 16  # characters in a row that count as a leak
_BLOCK = PARTIAL // 2  # any 16 characters hold one of the blocks of 8 that a secret is cut into
_ESCAPES = re.compile(r"""\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(["'\\/]))""")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-]{22,}")  # 16 characters make 22


def leaks_in(text: str) -> set[str]:
    """The names of the sentinels of which the text holds 16 characters in a row.

    It is read as it is, as what it means where it is URL-, HTML- or JSON-encoded, and all of
    these with their base64 undone.
    """
    plain = {text, *_unquoted(text)}
    for readings in (plain, map(_base64_undone, plain)):
        for reading in readings:
            if found := _held_by(reading):
                return found
    return set()


def _held_by(text: str) -> set[str]:
    if not any(block in text for block in _blocks()):
        return set()
    return {name for name, part in _parts() if part in text}


@functools.cache
def _blocks() -> list[str]:
    forms = [form for secret in SENTINELS.values() for form in _forms_of(secret)]
    return [*{form[at : at + _BLOCK] for form in forms for at in range(0, len(form) - 7, _BLOCK)}]


@functools.cache
def _parts() -> list[tuple[str, str]]:
    return [
        (name, form[at : at + PARTIAL])
        for name, secret in SENTINELS.items()
        for form in _forms_of(secret)
        for at in range(len(form) - PARTIAL + 1)
    ]


def _forms_of(secret: str) -> set[str]:
    return {secret, secret.replace("+", " ")}  # forms write a blank as a plus


def _unquoted(text: str) -> Iterator[str]:
    """What it means as a URL, as HTML, as a string of JSON or Python, and as one in another."""
    readers = (_url_undone, html.unescape, _escapes_undone)
    for first, second in itertools.permutations(readers, 2):
        yield second(first(text))


def _url_undone(text: str) -> str:
    return unquote(text, errors="replace") if "%" in text else text


def _escapes_undone(text: str) -> str:
    return _ESCAPES.sub(_unescaped, text) if "\\" in text else text


def _unescaped(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2]
    return chr(int(digits, 16)) if digits else escape[3]


def _base64_undone(text: str) -> str:
    """What all that may be base64 stands for, wherever in it the first of four begins."""
    runs = _BASE64.findall(text)
    return "\n".join(_decoded(run[at:]) for run in runs for at in range(4))


def _decoded(run: str) -> str:
    whole = run.replace("-", "+").replace("_", "/")
    return base64.b64decode(whole[: len(whole) // 4 * 4]).decode("latin-1")


# ---- one error, for tests with a sentinel of their own ---------------------------------------


def everything_in(error: BaseException) -> str:
    """An error's texts, arguments, notes and attributes, and the locals of its frames.

    The errors behind it count too. The frames of the tests themselves do not: they hold the
    secrets that are looked for.
    """
    seen: list[str] = []
    for current in chain_of(error):
        seen += [str(current), repr(current.args), repr(vars(current))]
        seen += [repr(frame.f_locals) for frame in frames_of(current)]
    return "\n".join(seen)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """An error and all that are behind it, shown or not; each once."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [current.__cause__, current.__context__]
            if isinstance(current, BaseExceptionGroup):
                waiting += cast("BaseExceptionGroup[BaseException]", current).exceptions


def frames_of(error: BaseException) -> Iterator[FrameType]:
    """The frames of an error's traceback, without those of the tests."""
    step = error.__traceback__
    while step is not None:
        if not step.tb_frame.f_code.co_filename.startswith(TESTS):
            yield step.tb_frame
        step = step.tb_next
