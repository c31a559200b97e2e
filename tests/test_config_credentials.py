"""A cmsbs-conf whose inboxes prove who they are without a client secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.config import HOW_TO, IMAP

from exo_imap_oauth import load_config
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def assertion() -> str:
    return "header.payload.signature"


@pytest.mark.parametrize("secret", ["", "<client_secret>", None, "$file"])
def test_an_assertion_stands_in_place_of_every_secret(tmp_path: Path, secret: str | None) -> None:
    lines = [line for line in HOW_TO.splitlines() if "clientSecret" not in line]
    if secret == "$file":
        lines.append(f"{IMAP}oauth2.clientSecret$file = /no/such/file")
    elif secret is not None:
        lines.append(f"{IMAP}oauth2.clientSecret = {secret}")
    tmp_path.joinpath("cmsbs.properties").write_text("\n".join(lines))
    with pytest.raises(ConfigError):
        load_config(tmp_path, environ={})
    config = load_config(tmp_path, environ={}, assertion=assertion)
    assert config.warnings == ()
    assert config.default.client_secret is None
    assert config.default.assertion is assertion


def test_other_mistakes_are_found_as_ever(tmp_path: Path) -> None:
    text = HOW_TO.replace("port = 993", "port = x")
    tmp_path.joinpath("cmsbs.properties").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, environ={}, assertion=assertion)
    assert [problem.key for problem in caught.value.problems] == [f"{IMAP}port"]
