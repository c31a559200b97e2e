"""What may be shown of a text from outside."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_imap_oauth._text import check_seconds, hide, one_line, quotable

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "abC8Q~x/+y=\"'<&>öz.4-sentinel-of-a-client-secret"

ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda s: s,
    "URL": quote,
    "form": quote_plus,
    "every byte of a URL": lambda s: "".join(f"%{octet:02x}" for octet in s.encode()),
    "HTML": html.escape,
    "HTML by number": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "HTML by hexadecimal number": lambda s: "".join(f"&#x{ord(c):x};" for c in s),
    "JSON": lambda s: json.dumps(s)[1:-1],
    "every character of JSON": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_a_secret_is_hidden_in_every_encoding(encode: Callable[[str], str]) -> None:
    assert hide(f"before {encode(SECRET)} after", [SECRET]) == "before (hidden) after"


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_a_part_of_a_secret_is_hidden_too(encode: Callable[[str], str]) -> None:
    assert hide(f"before {encode(SECRET[7:29])} after", [SECRET]) == "before (hidden) after"


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_hidden_in_base64_wherever_it_begins(
    before: bytes, encode: Callable[[bytes], bytes]
) -> None:
    shown = hide(encode(before + SECRET.encode() + b"..").decode(), [SECRET])
    rest = shown.replace("(hidden)", "")
    assert "(hidden)" in shown
    assert len(rest) <= 16  # what it shares with its neighbours


@pytest.mark.parametrize("between", ["\0", "\u200b", "\x01", "\r\n", "\xad"])
def test_invisible_characters_in_a_secret_do_not_disguise_it(between: str) -> None:
    echo = between.join(SECRET[at : at + 8] for at in range(0, len(SECRET), 8))
    assert hide(f"before {echo} after", [SECRET]) == "before (hidden) after"


@pytest.mark.parametrize("between", ["\0", "\x01", "\r\n"])
def test_nor_do_they_as_escapes_of_bytes(between: str) -> None:
    echo = between.join(SECRET[at : at + 8] for at in range(0, len(SECRET), 8))
    said = repr(echo.encode())[2:-1]  # as imaplib quotes what a server said
    assert hide(f"before {said} after", [SECRET]) == "before (hidden) after"


def test_a_secret_in_utf_16_is_hidden() -> None:
    said = repr(SECRET.encode("utf-16-le"))[2:-1]  # as imaplib quotes what a server said
    assert hide(f"before {said} after", [SECRET]).startswith("before (hidden)")
    assert SECRET[:16] not in hide(said, [SECRET]).replace("\\x00", "")


def test_a_short_secret_is_hidden() -> None:
    assert hide("the pin is pin4, not pin", ["pin4"]) == "the pin is (hidden), not pin"


@pytest.mark.parametrize("secret", ["p", "pi", "pin4"])
def test_a_short_secret_is_hidden_where_the_text_begins_with_it(secret: str) -> None:
    assert hide(f"{secret} was sent", [secret]) == "(hidden) was sent"


def test_the_shortest_secret_that_is_hidden_in_base64_has_seven_bytes() -> None:
    encoded = base64.b64encode(b"s3cr3t~Vl!!!").decode()
    assert hide(encoded, ["s3cr3t~"]) == "(hidden)" + encoded[8:]
    assert hide(encoded, ["s3cr3t"]) == encoded


def test_a_short_secret_is_hidden_in_base64() -> None:
    secret = "s3cr3t~Vl+x8"
    shown = hide(base64.b64encode(f"id:{secret}!".encode()).decode(), [secret])
    assert "(hidden)" in shown
    assert len(shown.replace("(hidden)", "")) <= 12  # what it shares with its neighbours


@given(st.text(max_size=60), st.text(min_size=16, max_size=60), st.text(max_size=60))
def test_no_secret_survives_in_any_surroundings(before: str, secret: str, after: str) -> None:
    assert secret not in hide(before + secret + after, [secret])


@given(st.text())
def test_what_holds_no_secret_stays(text: str) -> None:
    if "\0" not in text:
        assert hide(text, ["another text, which is not in it"]) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\r\nb\tc  d\n", "a b c d"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202eexe.txt", r"\u202eexe.txt"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("lone \ud800", r"lone \ud800"),
        ("Grüße, 世界", "Grüße, 世界"),
    ],
)
def test_one_line_is_printable(text: str, line: str) -> None:
    assert one_line(text) == line


def test_one_line_is_bounded() -> None:
    assert len(one_line("x" * 1_000_000)) == 401
    assert len(one_line("\x1b" * 1_000_000)) == 401


@pytest.mark.parametrize(
    "text",
    [
        "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL291dGxvb2sifQ.c2lnbmF0dXJlMQ",
        "a68Q~VY9XqNd7v2NlhJkE4eC3pTqM0aXbUcZ1",
    ],
)
def test_what_looks_like_a_token_is_blanked_though_nobody_knows_it(text: str) -> None:
    assert quotable(f"NO {text} is bad") == "NO (hidden) is bad"


@pytest.mark.parametrize(
    "text",
    [
        "AADSTS7000215: Invalid client secret. Trace ID: 6731DE76-14a6-49ae-97bc-6eba6914391e",
        "Thumbprint of key used by client: 'DA39A3EE5E6B4B0D3255BFEF95601890AFD80709'",
        "Proxy=AM0PR03MB1234.eurprd03.prod.outlook.com:993:SSL Service=Imap4",
        "Microsoft.Exchange.Data.Storage.WrongServerException:Cross Server access",
        "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token",
    ],
)
def test_what_explains_a_failure_is_shown(text: str) -> None:
    assert quotable(text) == text


@pytest.mark.parametrize("value", [None, "30", [1]])
def test_what_is_no_number_of_seconds_is_a_type_error_in_words(value: Any) -> None:
    with pytest.raises(TypeError, match="timeout must be a number of seconds"):
        check_seconds("timeout", value)
