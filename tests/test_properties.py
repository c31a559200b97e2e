"""The grammar against the JDK's own answers and against javaproperties."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import re
import time
import traceback
from pathlib import Path
from typing import Any

import javaproperties
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import EXAMPLES

from exo_imap_oauth.errors import PropertiesError
from exo_imap_oauth.properties import Property, parse, read_entries

CASES: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("data").joinpath("java-properties-cases.json").read_bytes()
)


def as_dict(entries: list[Property]) -> dict[str, str]:
    return {entry.key: entry.value for entry in entries}


# ---- the JDK ---------------------------------------------------------------------------------


def test_all_150_cases_are_there() -> None:
    assert len(CASES) == 150
    assert sum("error" in case for case in CASES) == 9


@pytest.mark.parametrize("as_text", [False, True], ids=["bytes", "str"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_a_file_is_read_as_the_jdk_reads_it(case: dict[str, Any], *, as_text: bool) -> None:
    raw = base64.b64decode(case["bytes_base64"])
    data = raw.decode("latin-1") if as_text else raw
    if "error" not in case:
        assert as_dict(parse(data)) == case["expected"]
        return
    with pytest.raises(PropertiesError, match=r"four hexadecimal digits"):
        parse(data)
    errors: list[PropertiesError] = []
    entries = read_entries(raw.decode("latin-1"), source="x.properties", errors=errors)
    before = [entry for entry, _, _ in list(entries) if entry.line < errors[0].line]
    assert as_dict(before) == case["partial"]


def test_a_reader_of_utf_8_gets_what_the_jdk_gets() -> None:
    checked = 0
    for case in CASES:
        if "ok" not in case.get("utf8", {}):
            continue  # no UTF-8, or the same as in Latin-1
        text = base64.b64decode(case["bytes_base64"]).decode("utf-8")
        assert as_dict(parse(text)) == case["utf8"]["ok"], case["name"]
        checked += 1
    assert checked > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\", {"": ""}),
        ("\\\n", {"": ""}),
        ("\\\r", {"": ""}),
        ("\\\r\n", {}),
        ("\\\n\n", {}),
        ("\\\n#a=b", {}),
        ("\\\na=b", {"a": "b"}),
        ("a\\\n#b", {"a#b": ""}),
        ("a\\\n\nb", {"a": "", "b": ""}),
        ("a=\\U0041\\u0041", {"a": "U0041A"}),
        ("a=\\ud83d\\uDE00", {"a": "\N{GRINNING FACE}"}),
        ("a=\\ude00\\ud83d", {"a": "\ude00\ud83d"}),
        ("#c\\\na=b", {"a": "b"}),
        ("a = b \n# c = d", {"a": "b "}),
        ("", {}),
    ],
)
def test_corners_that_the_jdk_was_asked_about(text: str, expected: dict[str, str]) -> None:
    assert as_dict(parse(text)) == expected


# ---- javaproperties --------------------------------------------------------------------------


def has_an_entry_that_begins_with_a_lone_backslash(text: str) -> bool:
    """Javaproperties makes it an entry; in Java a comment or an empty line may follow it."""
    continued = False
    for line in re.split(r"\r\n|\r|\n", text):
        if not continued and line.strip(" \t\f") == "\\":
            return True
        comment = not continued and line.lstrip(" \t\f")[:1] in ("#", "!")
        continued = not comment and (len(line) - len(line.rstrip("\\"))) % 2 == 1
    return False


blanks = st.text(" \t\f", max_size=2)
line_ends = st.sampled_from(["\n", "\r", "\r\n"])
plain = st.text(st.characters(exclude_characters="\\\r\n"), max_size=6)
escapes = st.sampled_from(
    [
        "\\=",
        "\\:",
        "\\ ",
        "\\#",
        "\\!",
        "\\\\",
        "\\t",
        "\\n",
        "\\f",
        "\\r",
        "\\z",
        "\\U0041",
        "\\u0041",
        "\\u00e4",
        "\\u20AC",
        "\\ud83d\\ude00",
        "\\ude00",
        "\\u00g0",
        "\\u12",
        '"',
        "'",
        "=",
        ":",
        "#",
        "!",
        " ",
    ]
)
continuations = st.builds("\\{}{}".format, line_ends, blanks)
texts = st.lists(plain | escapes | escapes | continuations, max_size=5).map("".join)
first = st.sampled_from(["a", "b.c", "\\:", "\\\\", "\u00e4", "=", ":"])
entries = st.builds(
    "{}{}{}{}{}{}{}".format, blanks, first, texts, blanks, st.sampled_from("=: "), blanks, texts
)
comments = st.builds(
    "{}{}{}{}".format, blanks, st.sampled_from("#!"), plain, st.just("\\") | blanks
)
files = st.lists(
    st.builds("{}{}".format, entries | entries | comments | blanks, line_ends), max_size=8
).map("".join) | st.text("ab=: \t\f\r\n#!u0", max_size=12)


def test_any_file_is_read_as_javaproperties_reads_it() -> None:
    seen = discarded = malformed = 0

    @settings(max_examples=EXAMPLES)
    @given(files)
    def agree(text: str) -> None:
        nonlocal seen, discarded, malformed
        seen += 1
        if has_an_entry_that_begins_with_a_lone_backslash(text):
            discarded += 1
            return
        try:
            expected = javaproperties.loads(text)
        except javaproperties.InvalidUEscapeError:
            malformed += 1
            with pytest.raises(PropertiesError):
                parse(text)
        else:
            assert as_dict(parse(text)) == expected

    agree()
    print(f"{seen} examples, {malformed} malformed, {discarded} discarded")  # noqa: T201 - asked for
    assert seen >= EXAMPLES
    assert malformed > 0
    assert discarded < 0.02 * seen


# ---- line numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_each_entry_knows_the_line_in_which_it_begins(end: str) -> None:
    lines = [
        "# a comment that ends in a backslash \\",
        "first = 1",
        "",
        "   second = a\\",
        "      b\\",
        "      c",
        "! comment",
        "third",
        "fo\\u0075rth : 4",
        "\\",
        "   fifth = 5",
    ]
    entries = parse(end.join(lines), source="x.properties")
    assert [(entry.key, entry.value, entry.line) for entry in entries] == [
        ("first", "1", 2),
        ("second", "abc", 4),
        ("third", "", 8),
        ("fourth", "4", 9),
        ("fifth", "5", 11),
    ]
    assert {entry.source for entry in entries} == {"x.properties"}


def test_duplicates_are_kept_in_their_order() -> None:
    assert [(entry.value, entry.line) for entry in parse("a=1\nb=2\na=3")] == [
        ("1", 1),
        ("2", 2),
        ("3", 3),
    ]


def test_quotes_and_trailing_blanks_are_part_of_the_value() -> None:
    assert parse('a = "x" \n')[0].value == '"x" '


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_an_entry_comes_with_its_lines_as_they_stand_in_the_file(end: str) -> None:
    lines = ["a = 1", "  b\\", "  = \\\\x \\", "  y", "# c", "d", "e = \\"]
    errors: list[PropertiesError] = []
    entries = list(read_entries(end.join(lines), source="x.properties", errors=errors))
    assert [(entry.key, entry.line, raw, following) for entry, raw, following in entries] == [
        ("a", 1, "a = 1", "  b\\"),
        ("b", 2, "b\\\n  = \\\\x \\\n  y", "# c"),
        ("d", 6, "d", "e = \\"),
        ("e", 7, "e = \\\n", ""),
    ]
    assert errors == []


# ---- size and strange input ------------------------------------------------------------------

MEBI = 1 << 20


@pytest.mark.parametrize(
    "unit",
    [
        "x",
        "\\",
        "\\\n",
        "a\\\n ",
        "\\u0041",
        "\\a",
        "# c\n",
        "\n",
        " ",
        "=:",
        "\0",
        "abc = def\r",
        "\ud800",
    ],
    ids=repr,
)
@pytest.mark.parametrize("prefix", ["", "a="])
def test_time_grows_with_the_length_and_not_faster(prefix: str, unit: str) -> None:
    def seconds(size: int) -> float:
        text = prefix + unit * (size // len(unit))
        best = float("inf")
        for _ in range(3):
            started = time.thread_time()
            parse(text)
            best = min(best, time.thread_time() - started)
        return best

    small, large = seconds(MEBI // 64), seconds(MEBI // 4)
    assert large < 16 * 5 * small + 0.02  # quadratic would be 256 times


def test_one_line_of_a_mebibyte_is_one_entry() -> None:
    (entry,) = parse(b"key = " + b"x" * MEBI)
    assert len(entry.value) == MEBI


def test_a_hundred_thousand_lines_have_a_hundred_thousand_numbers() -> None:
    entries = parse("".join(f"key.{number} = {number}\n" for number in range(100_000)))
    assert [entry.line for entry in entries] == list(range(1, 100_001))


def test_nul_and_lone_surrogates_are_characters_like_others() -> None:
    assert as_dict(parse("a\0b = \0\n\ud800=\udfff")) == {"a\0b": "\0", "\ud800": "\udfff"}


# ---- errors and secrets ----------------------------------------------------------------------


def test_a_malformed_escape_names_file_and_line_and_hides_the_value() -> None:
    text = "a=1\n\nsecret = Abc8Q~hidden\\u12\nb=2"
    with pytest.raises(PropertiesError) as caught:
        parse(text, source="cmsbs.properties")
    error = caught.value
    assert (error.source, error.line) == ("cmsbs.properties", 3)
    assert "cmsbs.properties:3" in str(error)
    report = "".join(
        traceback.TracebackException.from_exception(error, capture_locals=True).format()
    )
    own_frames = report.split("properties.py")[-1]
    assert "hidden" not in str(error) + own_frames
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (twin.source, twin.line, str(twin)) == (error.source, error.line, str(error))


def test_entries_after_a_malformed_one_are_read_when_errors_are_collected() -> None:
    errors: list[PropertiesError] = []
    text = "a=1\nb=\\u\nc=\\uD8\nd=4"
    entries = list(read_entries(text, source="x.properties", errors=errors))
    assert as_dict([entry for entry, _, _ in entries]) == {"a": "1", "d": "4"}
    assert [error.line for error in errors] == [2, 3]


def test_repr_of_an_entry_leaves_its_value_out() -> None:
    (entry,) = parse("a = Abc8Q~hidden")
    assert repr(entry) == "Property(key='a', value=..., source='<string>', line=1)"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("a = my Secret", True),
        ("A.PASSWORD = x", True),
        ("pa\u00dfword = x", True),  # which folds to ss
        ("p\\u0061ssword = x", True),
        ("a = pass\\\n  word x", True),
        ("a = pass\nword = x", False),
    ],
)
def test_a_value_is_hidden_however_its_file_writes_what_it_speaks_of(
    text: str, hidden: bool
) -> None:
    entry = parse(text)[-1]
    assert (repr(entry.value) == "(hidden)") == hidden
    both = parse(f"{text}\nb = plain\nc = secret")
    assert [repr(each.value) == "(hidden)" for each in both[-3:]] == [hidden, False, True]
