"""What a message from Entra or Exchange means: its likely cause, the fix, ready commands.

Codes count first, then the stable part of the wording; what the table in ``_advice_table``
does not know gets no advice.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from exo_imap_oauth._advice_table import BUNDLE, PAGES, PROXY, TABLE, Row, Stage
from exo_imap_oauth._arguments import Instead, wrong_kind
from exo_imap_oauth._text import is_guid, one_line
from exo_imap_oauth.clouds import Cloud, cloud_of, is_exchange_audience
from exo_imap_oauth.powershell import environment_option, quote

__all__ = ["ADVICE_IDS", "RETRYABLE", "Advice", "Stage", "advise", "explain"]

_CODE: Final = re.compile(r"(?<![A-Z0-9_])AADSTS(\d{2,9})\b")
_CODE_LIST: Final = re.compile(r"""["']error_codes\\{0,3}["']\s{0,9}:\s{0,9}\[([\d,\s]{1,200})\]""")
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
              read. :func:`explain` and errors use them.
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
    if not isinstance(message, str):
        instead = {"builtins.Exception": Instead("pass its text: str(error)")}
        page = "reference/api/advice"
        raise wrong_kind("message", message, "a string", page=page, instead=instead)
    row = _by_code(message) or _by_wording(message, stage)
    if row is None:
        return None
    return explain(_refused(known) if row.id == "authenticate-refused" else row.id, **known)


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
    row = _row(advice_id, known)
    values = _Known(known)
    return Advice(
        row.id,
        values.fill(row.cause),
        values.fill(row.fix) + values.page(row.page),
        tuple(values.command(command) for command in row.commands),
        row.url,
    )


def _row(advice_id: str, known: dict[str, str]) -> Row:
    """The row of an id; where more is known than the id tells, the one that says it."""
    if advice_id == "secret-wrong" and known.get("client_secret_format") == "guid":
        return _SECRET_ID_PASTED
    if advice_id == BUNDLE.id and known.get("bundle") and known.get("bundle_variable"):
        return BUNDLE
    if advice_id == PROXY[""].id and "proxy" in known:
        return PROXY.get(known.get("proxy_problem", ""), PROXY[""])
    return _BY_ID[advice_id]


def _by_code(message: str) -> Row | None:
    codes: list[str] = _CODE.findall(message)
    for listing in _CODE_LIST.findall(message):
        codes += listing.replace(",", " ").split()
    rows = (_BY_CODE.get(code) for code in codes)
    return next(filter(None, rows), None)


def _by_wording(message: str, stage: Stage | None) -> Row | None:
    for row in TABLE:
        may_match = stage is None or stage in row.stages
        if may_match and row.wording and re.search(row.wording, message, re.MULTILINE):
            return row
        if stage in row.stages and row.vague and re.search(row.vague, message, re.MULTILINE):
            return row
    return None


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
        values["authority"], values["exchange_scope"] = self._cloud.authority, self._cloud.scope

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
