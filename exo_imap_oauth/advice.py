"""What a message from Entra or Exchange means: its likely cause, the fix, ready commands.

Codes count first, then the words that carry the meaning, whatever client wrote them down; what the
table in ``_advice_table`` does not know gets no advice.
"""

from __future__ import annotations

import html
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, unquote_plus

from exo_imap_oauth._advice_table import (
    INSTEAD,
    PAGES,
    PLAIN_TEXT,
    PROXY,
    RULES,
    TABLE,
    Row,
    Stage,
)
from exo_imap_oauth._arguments import Instead, require_text
from exo_imap_oauth._text import is_guid, one_line
from exo_imap_oauth.clouds import Cloud, cloud_of, is_exchange_audience
from exo_imap_oauth.powershell import environment_option, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ADVICE_IDS", "RETRYABLE", "Advice", "Stage", "advise", "explain"]

# AADSTS700016: …, or its number alone where nothing else can be meant: in a list of error_codes, or
# behind an error of RFC 6749.
_CODE: Final = re.compile(
    r"(?<![A-Za-z0-9_])(?i:AADSTS)\W{0,2}(\d{2,9})\b|"
    r"\b(?:invalid|unauthorized|unsupported)_(?:client|request|grant|scope|resource|tenant|"
    r"grant_type)\W{1,6}(\d{5,9})\b"
)
_CODE_LIST: Final = re.compile(r"(?i:error_?codes|errorNo)((?:[\W_\d]|Array){1,200})")
_ESCAPE: Final = re.compile(
    r"\\{1,8}(?:u00([0-7][0-9A-Fa-f])|x([0-7][0-9A-Fa-f])|([nrt])|(?=['\"/]))"
)
_PAGE: Final = "reference/api/advice"
_TEXTS: Final = {
    "builtins.Exception": Instead("pass its text: str(error)"),
    "builtins.int": Instead("pass it as text, such as '993'"),
    "builtins.list": Instead("join them with spaces: ' '.join(roles)"),
}
_QUOTES: Final = dict.fromkeys(
    map(ord, '"`\u00ab\u00bb\u2018\u2019\u201a\u201c\u201d\u201e\u2039\u203a'), "'"
)
# Who was asked, where a text says so.
_ASKED_ENTRA: Final = re.compile(r"login\.(?:microsoftonline|partner\.microsoftonline)\.")
_ASKED_EXCHANGE: Final = re.compile(r"office365\.(?:com|us)(?!:443|'?, port=443|/)|\boutlook\.cn\b")
_URL: Final = re.compile(r"https?://([^/:?#@\s]+)(?::(\d+))?")
_OPTIONAL: Final = re.compile(r"\[([^\]]*)\]")
_FIELD: Final = re.compile(r"\{(\w+)\}")

_SECRET_ID_PASTED: Final = replace(
    TABLE[0],
    cause="The client secret has the form of an ID: the column Secret ID was copied instead of"
    " the column Value.",
)

ADVICE_IDS: Final = tuple(row.id for row in TABLE)
"""Every id that an :class:`Advice` can have."""

RETRYABLE: Final = frozenset(row.id for row in TABLE if row.retryable)
"""The ids of the advice whose cause can pass without anybody changing anything."""

_BY_ID: Final = {row.id: row for row in TABLE}
_BY_CODE: Final = {code: row for row in TABLE for code in row.codes.split()}
_BY_OPEN_CODE: Final = {code: row for row in TABLE for code in row.open_codes.split()}
_OTHER_SERVICES: Final = frozenset({"25", "110", "465", "587", "995"})  # ports of SMTP and POP


@dataclass(frozen=True, slots=True)
class Advice:
    """What probably went wrong and what to do about it.

    Attributes:
        id: A short, stable name, one of :data:`ADVICE_IDS`.
        cause: The likely cause, in plain English.
        fix: What to do now; names the page of the Entra admin center where that is the place.
        commands: Commands to paste, mostly Exchange Online PowerShell, with the known values
            filled in and ``<placeholders>`` for the others.
        url: Microsoft's page on the subject.
    """

    id: str
    cause: str
    fix: str
    commands: tuple[str, ...]
    url: str


def advise(message: str, *, stage: Stage | None = None, **known: str) -> Advice | None:
    """The advice for an error message, or None where its meaning is not known for sure.

    The message may be a whole JSON body, a line of another program's log or the text of an
    exception; nothing of it is repeated in the advice. Where it names several causes, the one
    that explains the others counts. The time taken grows linearly with its length.

    Args:
        message: What the token endpoint, the IMAP server or the connection to them said.
        stage: What was being done: getting the token, ``AUTHENTICATE``, the first command on the
            mailbox, or later work on it. Some texts, such as ``Connection refused``, mean
            nothing without it.
        **known: What is known, all optional; other names are ignored.

            - ``tenant_id``, ``client_id``, ``enterprise_object_id``, ``mailbox``, ``host``,
              ``port``, ``token_uri``, ``scope``, ``thumbprint`` (of a certificate): fill the texts
              and commands.
            - ``aud``, ``oid``, ``roles``: claims of the token that was refused, the roles
              separated by spaces, empty for none. They tell ``role-missing``,
              ``audience-wrong`` and ``object-id-mismatch`` from ``authenticate-refused``.
            - ``proxy``, ``proxy_variable``: the host and port of the proxy on the way to the token
              endpoint, and the variable that names it; ``proxy_problem``: its answer, ``403`` or
              ``407``. ``bundle``, ``bundle_variable``: a file of CA certificates that cannot be
              read. ``silent``: whether the server was connected before; ``offered``: the
              mechanisms of a server that does not offer XOAUTH2. :func:`explain` and errors use
              them.
            - ``client_secret_format="guid"``: the client secret looks like a Secret ID. The
              secret itself is never needed.

    Returns:
        The advice, or None.

    Examples:
        >>> advise("AADSTS7000222: The provided client secret keys are expired.").id
        'secret-expired'
        >>> advise("A1 NO AUTHENTICATE failed.", stage="authenticate", roles="").id
        'role-missing'
        >>> advise("a1 NO [AUTHENTICATIONFAILED] Authentication failed.") is None
        True
    """
    require_text("message", message, _PAGE, _TEXTS)
    if stage is not None:
        require_text("stage", stage, _PAGE)
    _check_known(known)
    text = _undone(message)
    codes = _codes(text)
    row = (
        _first(_BY_CODE, codes) or _by_words(text, stage) or _first(_BY_OPEN_CODE, codes)
    )  # in this order, since some codes have more than one meaning
    if row is None:
        return None
    if row.id == "authenticate-refused":
        return _explained(_refused(known), known)
    if row is PLAIN_TEXT and known.get("port") in _OTHER_SERVICES:
        return _explained("wrong-port", known)
    return _filled(_row(row, known), known)


def explain(advice_id: str, **known: str) -> Advice:
    """The advice with a given id, for callers who know the cause without a message.

    Args:
        advice_id: One of :data:`ADVICE_IDS`.
        **known: The same names as for :func:`advise`.

    Returns:
        The advice, with what is known filled in.

    Raises:
        KeyError: If there is no such id.
    """
    require_text("advice_id", advice_id, _PAGE)
    _check_known(known)
    return _explained(advice_id, known)


def _check_known(known: Mapping[str, object]) -> None:
    """Check that what is known are texts; None is not known."""
    for name, value in known.items():
        if value is not None:
            require_text(name, value, _PAGE, _TEXTS)


def _explained(advice_id: str, known: dict[str, str]) -> Advice:
    return _filled(_row(_BY_ID[advice_id], known), known)


def _filled(row: Row, known: dict[str, str]) -> Advice:
    values = _Known(known)
    return Advice(
        row.id,
        values.fill(row.cause),
        values.fill(row.fix) + values.page(row.page),
        tuple(values.command(command) for command in row.commands),
        row.url,
    )


def _row(row: Row, known: dict[str, str]) -> Row:
    """The row, or where more is known than its id tells, the one that says it."""
    if row.id == "secret-wrong" and known.get("client_secret_format") == "guid":
        return _SECRET_ID_PASTED
    if row.id == PROXY[""].id and "proxy" in known:
        return PROXY.get(known.get("proxy_problem", ""), PROXY[""])
    others = (other for other in INSTEAD if other.id == row.id)
    return next((other for other in others if all(map(known.get, other.needs.split()))), row)


# ---- from a text to its row ------------------------------------------------------------------


def _undone(message: str) -> str:
    """The text without what a client, JSON, HTML or a form made of it."""
    text = html.unescape(message)
    if "error_description=" in text:
        text = unquote_plus(text)
    elif "%" in text:
        text = unquote(text)
    text = _ESCAPE.sub(_unescaped, text)
    return text.translate(_QUOTES)


def _unescaped(escape: re.Match[str]) -> str:
    if digits := escape[1] or escape[2]:
        return chr(int(digits, 16))
    return "\n" if escape[3] else ""


def _codes(text: str) -> list[str]:
    codes = [code or behind for code, behind in _CODE.findall(text)]
    for listing in _CODE_LIST.findall(text):
        codes += re.findall(r"\d{2,9}", listing)
    return codes


def _first(rows: dict[str, Row], codes: list[str]) -> Row | None:
    return next((rows[code] for code in codes if code in rows), None)


def _by_words(text: str, stage: Stage | None) -> Row | None:
    stages = {stage} if stage else _evident_stages(text)
    for row in RULES:
        may_match = stage is None or stage in row.stages
        if may_match and row.words and _pattern(row.words).search(text):
            return row
        if row.vague and stages.intersection(row.stages) and _pattern(row.vague).search(text):
            return row
    return None


def _evident_stages(text: str) -> set[Stage]:
    """Where no stage is given: what may be under way with the server that the text names."""
    if _ASKED_ENTRA.search(text):
        return {"token"}
    return {"authenticate", "post_auth", "runtime"} if _ASKED_EXCHANGE.search(text) else set()


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of a row, as :class:`Row` describes it."""
    spaced = pattern.replace(" ", r"(?:[\s_]+)")
    return re.compile(spaced, re.IGNORECASE | re.MULTILINE | re.DOTALL)


def _refused(known: dict[str, str]) -> str:
    """Tell from the token's claims why Exchange gave its one answer to every refusal."""
    audience, roles, oid = known.get("aud"), known.get("roles"), known.get("oid")
    expected = known.get("enterprise_object_id")
    if audience and not is_exchange_audience(audience):
        return "audience-wrong"  # first: a token for another resource lacks the role anyway
    if roles is not None and "IMAP.AccessAsApp" not in roles.split():
        return "role-missing"
    if oid and expected and oid.lower() != expected.strip().lower():
        return "object-id-mismatch"
    return "authenticate-refused"


class _Known:
    """What is known, and how it goes into texts, commands and links."""

    def __init__(self, known: dict[str, str]) -> None:
        self._values = {name: value for name, value in known.items() if value}
        if "roles" in known:
            self._values["roles"] = known["roles"] or "none"
        if server := _server(self._values):
            self._values["server"] = server
        self._cloud = _cloud(self._values)

    def fill(self, text: str) -> str:
        """A cause or fix, without the optional parts for which a value is missing."""
        values = {name: one_line(value[:200]) for name, value in self._values.items()}
        cloud = self._cloud
        values |= {
            "authority": cloud.authority,
            "exchange_scope": cloud.scope,
            "imap_host": cloud.imap_host,
        }

        def part(match: re.Match[str]) -> str:
            return match[1] if values.keys() >= {*_FIELD.findall(match[1])} else ""

        return _OPTIONAL.sub(part, text).format_map(values)

    def command(self, template: str) -> str:
        """A command, with values as PowerShell writes them."""
        # The token's object is the service principal, whose ID the commands ask for.
        oid = {"enterprise_object_id": self._values["oid"]} if "oid" in self._values else {}
        literals = _Literals(oid | self._values)
        literals["environment"] = environment_option(self._cloud)
        return template.format_map(literals)

    def page(self, name: str) -> str:
        """A link to a page of the admin center, if the IDs in it are known to be IDs.

        In the other clouds it is the beginning of their portal: their links are not known.
        """
        if not name:
            return ""
        if self._cloud is not Cloud.WORLDWIDE:
            return f" Portal: {self._cloud.portal}"
        values = self._values
        if "oid" in values:  # of two object IDs the one in the token is right
            values = values | {"enterprise_object_id": values["oid"]}
        ids = {field: value for field, value in values.items() if is_guid(value)}
        try:
            return f" Page: {PAGES[name].format_map(ids)}"
        except KeyError:  # an ID is missing
            return ""


def _server(known: dict[str, str]) -> str:
    """Host and port in question; where no host is given, those of the token endpoint."""
    if "host" in known:
        return f"{known['host']}:{known.get('port') or 993}"
    endpoint = _URL.match(known.get("token_uri", ""))
    return f"{endpoint[1]}:{endpoint[2] or 443}" if endpoint else ""


def _cloud(known: dict[str, str]) -> Cloud:
    return cloud_of(*(known.get(name, "") for name in ("token_uri", "aud", "host", "scope")))


class _Literals(dict[str, str]):
    """The known values as PowerShell literals; what is unknown or unfit stays a placeholder."""

    def __init__(self, known: dict[str, str]) -> None:
        for name, value in known.items():
            with suppress(ValueError):
                self[name] = quote(value)

    def __missing__(self, name: str) -> str:
        return f"'<{name}>'"
