"""What is an error at Microsoft's servers is a warning elsewhere; who is who, in odd spellings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exo_imap_oauth.config import load_config
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth.errors import ConfigProblem

TENANT = "b1f6ab12-3c4d-4e5f-8a9b-0c1d2e3f4a5b"
GOOD = {
    "server": "outlook.office365.com",
    "port": "993",
    "ssl": "true",
    "user": "inbox@contoso.example",
    "authenticationMethod": "oauth2",
    "oauth2.accessTokenUri": f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token",
    "oauth2.clientId": "6731de76-14a6-49ae-97bc-6eba6914391e",
    "oauth2.clientSecret": "Abc8Q~defghijklmnopqrstuvwxyz012345.6789",
}


def errors_and_warnings(folder: Path, **changes: str) -> tuple[list[str], list[str]]:
    """The keys of the problems in the block with these changes."""
    lines = (f"cmsbs.mail.imap.{name} = {value}" for name, value in {**GOOD, **changes}.items())
    folder.joinpath("cmsbs.properties").write_text("\n".join(lines))
    problems: tuple[ConfigProblem, ...] = ()
    try:
        warnings = load_config(folder, environ={}).warnings
    except ConfigError as error:
        problems, warnings = error.problems, error.warnings
    keys = [problem.key.removeprefix("cmsbs.mail.imap.") for problem in problems]
    return keys, [problem.key.removeprefix("cmsbs.mail.imap.") for problem in warnings]


@pytest.mark.parametrize(
    ("server", "is_exchange"),
    [
        ("outlook.office365.com", True),
        ("Outlook.Office365.COM", True),
        ("OUTLOOK.OFFICE.COM", True),
        ("imap.fabrikam.example", False),
    ],
)
def test_a_user_without_an_address_is_an_error_at_exchange_however_it_is_spelt(
    tmp_path: Path, server: str, is_exchange: bool
) -> None:
    errors, warnings = errors_and_warnings(tmp_path, server=server, user="inbox")
    assert (errors, warnings) == ((["user"], []) if is_exchange else ([], ["server", "user"]))


@pytest.mark.parametrize("host", ["login.microsoftonline.com", "LOGIN.Microsoftonline.com"])
def test_a_wrong_path_is_an_error_at_entra_however_it_is_spelt(tmp_path: Path, host: str) -> None:
    changes = {"oauth2.accessTokenUri": f"https://{host}/token"}
    assert errors_and_warnings(tmp_path, **changes)[0] == ["oauth2.accessTokenUri"]


@pytest.mark.parametrize(
    "uri",
    [
        f"https:///{TENANT}/oauth2/v2.0/token",
        f"https://:443/{TENANT}/oauth2/v2.0/token",
        f"https://login.microsoftonline.com:0/{TENANT}/oauth2/v2.0/token",
        f"https://login.microsoftonline.com:65536/{TENANT}/oauth2/v2.0/token",
    ],
)
def test_a_token_uri_without_a_host_or_with_an_impossible_port_is_an_error(
    tmp_path: Path, uri: str
) -> None:
    errors, _ = errors_and_warnings(tmp_path, **{"oauth2.accessTokenUri": uri})
    assert errors == ["oauth2.accessTokenUri"]


def test_the_block_itself_is_without_a_problem(tmp_path: Path) -> None:
    assert errors_and_warnings(tmp_path) == ([], [])
