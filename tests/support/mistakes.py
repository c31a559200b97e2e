"""The how-to's block with mistakes, and what is found in it."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

from exo_imap_oauth._cmsbs.mistakes import MISTAKES
from exo_imap_oauth.config import CmsbsConfig, load_config
from exo_imap_oauth.errors import ConfigError, ConfigProblem
from support.config import CLIENT, SECRET, TENANT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


AUTHORITY = "https://login.microsoftonline.com/"
GOOD = {
    "server": "outlook.office365.com",
    "port": "993",
    "ssl": "true",
    "user": "inbox@contoso.example",
    "authenticationMethod": "oauth2",
    "oauth2.accessTokenUri": f"{AUTHORITY}{TENANT}/oauth2/v2.0/token",
    "oauth2.clientId": CLIENT,
    "oauth2.clientSecret": SECRET,
    "oauth2.scope": "https://outlook.office.com/.default",
    "oauth2.grantType": "client_credentials",
    "oauth2.debug": "true",
}
LINES = {name: number for number, name in enumerate(GOOD, 1)}
IMAP = "cmsbs.mail.imap."
SALES = "cmsbs.bouncelistener.sales."
SALES_BLOCK = (
    f"{SALES}mail.imap.server = outlook.office365.com\n{SALES}mail.imap.user = s@contoso.example\n"
)
WITH_SALES = f"cmsbs.bounce.listeners = sales\n{SALES_BLOCK}"
ELSEWHERE = "https://login.contoso.example/realms/mail/token"


def block(changes: Mapping[str, str | None] | None = None) -> str:
    """The how-to's block, with values changed, or left out where None."""
    values = {**GOOD, **(changes or {})}
    return "".join(
        f"{IMAP}{name} = {value}\n" for name, value in values.items() if value is not None
    )


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> CmsbsConfig:
    folder.joinpath("cmsbs.properties").write_bytes(text.encode("utf-16"))
    return load_config(folder, environ=environ or {})


def problems_of(
    folder: Path, text: str, environ: Mapping[str, str] | None = None
) -> tuple[tuple[ConfigProblem, ...], tuple[ConfigProblem, ...]]:
    """Errors and warnings."""
    try:
        return (), load(folder, text, environ).warnings
    except ConfigError as error:
        return error.problems, error.warnings


def is_of(mistake_id: str, problem: ConfigProblem) -> bool:
    template = re.split(r"\{\w+\}", MISTAKES[mistake_id].message)
    return re.fullmatch(".*".join(map(re.escape, template)), problem.message) is not None


URI, ID, PW, SCOPE = (
    f"oauth2.{name}" for name in ("accessTokenUri", "clientId", "clientSecret", "scope")
)
FOLDER = "folder.inbox"


def assert_nothing_leaks(text: str, secret: str = SECRET) -> None:
    parts = [secret[start : start + 5] for start in range(len(secret) - 4)]
    assert [part for part in parts if part in text] == []


def everything_that_is_shown(folder: Path, text: str, environ: Mapping[str, str]) -> str:
    folder.joinpath("cmsbs.properties").write_bytes(text.encode("utf-16"))
    try:
        config = load_config(folder, environ=environ)
    except ConfigError as error:
        caught = error
    else:
        return f"{config.warnings!r} {config.settings!r}"  # a secret in user is shown as the user
    report = traceback.TracebackException.from_exception(caught, capture_locals=True)
    frames = [frame for frame in report.stack if "exo_imap_oauth" in frame.filename]
    assert frames
    assert caught.__context__ is None
    shown = [frame.locals for frame in frames]
    return f"{caught} {caught!r} {caught.problems!r} {caught.warnings!r} {shown}"
