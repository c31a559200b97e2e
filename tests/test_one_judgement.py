"""One value, one judgement: an inbox, a token source and the script refuse the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from exo_imap_oauth import Cloud, InboxConfig, TokenSource, exchange_setup_script

if TYPE_CHECKING:
    from collections.abc import Callable

USER = "inbox@contoso.example"
CLIENT, OBJECT = "6731de76-14a6-49ae-97bc-6eba6914391e", "33333333-3333-4333-8333-333333333333"
SECRET = "Abc8Q~defghijklmnopqrstuvwxyz012345.6789"


def script(tenant: str = "contoso.example", user: str = USER) -> object:
    return exchange_setup_script(
        tenant_id=tenant, client_id=CLIENT, enterprise_object_id=OBJECT, mailboxes=[user]
    )


def inbox(tenant: str = "contoso.example", user: str = USER) -> object:
    return InboxConfig.for_tenant(tenant, user=user, client_id=CLIENT, client_secret=SECRET)


def by_uri(tenant: str) -> object:
    uri = f"{Cloud.WORLDWIDE.authority}/{tenant}/oauth2/v2.0/token"
    return TokenSource("contoso.example", CLIENT, SECRET, token_uri=uri)


TENANT_DOORS: list[Callable[[str], object]] = [
    inbox,
    script,
    by_uri,
    lambda tenant: TokenSource(tenant, CLIENT, SECRET),
]


def refuses(call: Callable[[Any], object], value: str) -> bool:
    try:
        call(value)
    except ValueError:  # a ConfigError is one
        return True
    return False


@pytest.mark.parametrize(
    ("tenant", "is_refused"),
    [
        ("b1f6ab12-3c4d-4e5f-8a9b-0c1d2e3f4a5b", False),
        ("B1F6AB12-3C4D-4E5F-8A9B-0C1D2E3F4A5B", False),
        ("contoso.onmicrosoft.com", False),
        ("mail.contoso.co.uk", False),
        ("contoso", True),
        ("common", True),
        ("Organizations", True),
        ("consumers", True),
        ("9188040d-6c67-4c5b-b112-36a304b66dad", True),
        ("9188040D-6C67-4C5B-B112-36A304B66DAD", True),
        ("b1f6ab12-3c4d-4e5f-8a9b-0c1d2e3f4a5", True),
        ("00000000-0000-0000-0000-000000000000", True),
        ("contoso..com", True),
        ("-contoso.com", True),
        ("contoso_x.com", True),
        (f"{'a' * 64}.com", True),
    ],
)
def test_a_tenant(tenant: str, is_refused: bool) -> None:
    assert [refuses(door, tenant) for door in TENANT_DOORS] == [is_refused] * len(TENANT_DOORS)


@pytest.mark.parametrize(
    ("address", "is_refused"),
    [
        (USER, False),
        ("o'brien@contoso.com", False),
        ("jörg@contoso.example", False),
        ("inbox@müller.example", False),
        ("first.last+tag@mail.contoso.co.uk", False),
        ("a..b@contoso.example", True),
        (".a@contoso.example", True),
        ("inbox@contoso", True),
        ("inbox@-contoso.example", True),
        ("'inbox@contoso.example'", True),
        ("'inbox@contoso.example", True),
        ("inbox", True),
        ("a@b@contoso.example", True),
        ("inbox@contoso.example;b@contoso.example", True),
        (f"{'a' * 250}@b.example", True),
    ],
)
def test_an_address(address: str, is_refused: bool) -> None:
    doors: list[Callable[[str], object]] = [
        lambda user: inbox(user=user),
        lambda user: script(user=user),
    ]
    assert [refuses(door, address) for door in doors] == [is_refused] * len(doors)


def test_a_token_source_says_what_is_wrong_with_its_tenant() -> None:
    with pytest.raises(ValueError, match=r"'common' stands for many tenants.*Directory \(tenant\)"):
        TokenSource("common", CLIENT, SECRET)
    with pytest.raises(ValueError, match="the tenant alone, not a URL"):
        TokenSource("https://login.microsoftonline.com/contoso.example", CLIENT, SECRET)
