"""Clouds: their hosts and scopes."""

from __future__ import annotations

import pytest

from exo_imap_oauth import Cloud


@pytest.mark.parametrize("cloud", Cloud)
def test_clouds_are_consistent(cloud: Cloud) -> None:
    assert cloud.authority.startswith("https://login.")
    assert cloud.scope == f"https://{cloud.imap_host}/.default"
