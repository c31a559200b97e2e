"""Clouds: their hosts and scopes."""

from __future__ import annotations

import pytest

from exo_imap_oauth import Cloud
from exo_imap_oauth.clouds import differing_clouds


@pytest.mark.parametrize("cloud", Cloud)
def test_clouds_are_consistent(cloud: Cloud) -> None:
    assert cloud.authority.startswith("https://login.")
    assert cloud.scope == f"https://{cloud.imap_host}/.default"


@pytest.mark.parametrize(
    ("one", "other", "clouds"),
    [
        ("partner.outlook.cn", f"{Cloud.WORLDWIDE.authority}/x", (Cloud.CHINA, Cloud.WORLDWIDE)),
        (Cloud.US_GOVERNMENT.scope, Cloud.CHINA.authority, (Cloud.US_GOVERNMENT, Cloud.CHINA)),
        ("outlook.office.com", Cloud.WORLDWIDE.authority, None),
        ("localhost", Cloud.CHINA.authority, None),
        ("https://[x/", Cloud.CHINA.authority, None),
        ("", "", None),
    ],
)
def test_clouds_differ_where_both_are_known(
    one: str, other: str, clouds: tuple[Cloud, Cloud] | None
) -> None:
    assert differing_clouds(one, other) == clouds
