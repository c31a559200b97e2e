"""The Exchange script, read with a real PowerShell grammar; and what no value can do to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import tree_sitter_powershell
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.examples import EXAMPLES
from support.pages import DOCS, blocks, run
from tree_sitter import Language, Parser

from exo_imap_oauth.powershell import exchange_setup_script, is_guid, quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

TENANT = "contoso.onmicrosoft.com"
CLIENT = "22222222-2222-4222-8222-222222222222"
OBJECT = "33333333-3333-4333-8333-333333333333"
MAILBOXES = ["inbox@contoso.example", "o'brien@contoso.example"]
SINGLE_QUOTES = "'\u2018\u2019\u201a\u201b"  # PowerShell takes each of them for '
DOUBLE_QUOTES = '"\u201c\u201d\u201e'  # and each of these for "
HOSTILE = f"{SINGLE_QUOTES}{DOUBLE_QUOTES}`$(){{}}[]<>;|&#@%!,.=+-*/\\?:^~ \n\r\t\0\x1b\u2028ab0é"
SET_UP = DOCS / "how-to/set-up.md"
PARSER = Parser(Language(tree_sitter_powershell.language()))


def script(
    *,
    tenant_id: str = TENANT,
    client_id: str = CLIENT,
    enterprise_object_id: str = OBJECT,
    mailboxes: list[str] = MAILBOXES,
    display_name: str | None = "cmsbs-mail-bot",
) -> str:
    return exchange_setup_script(
        tenant_id=tenant_id,
        client_id=client_id,
        enterprise_object_id=enterprise_object_id,
        mailboxes=mailboxes,
        display_name=display_name,
    )


# ---- reading PowerShell ----------------------------------------------------------------------


def nodes(source: str, kind: str) -> list[str]:
    """All parts of one kind, in order; fails on a syntax error."""

    def walk(node: Node) -> Iterator[Node]:
        yield node
        for child in node.children:
            yield from walk(child)

    root = PARSER.parse(source.encode()).root_node
    assert not root.has_error, source
    texts = (node.text for node in walk(root) if node.type == kind)
    return [text.decode() for text in texts if text is not None]


def read_literal(source: str) -> str | None:
    """The value of one single-quoted string as PowerShell's own tokenizer reads it.

    It ends at the first single quote of any form that no other one follows; of two, the first is
    taken. None if the source is anything but one such string.
    """
    quotes = f"[{SINGLE_QUOTES}]"
    whole = re.fullmatch(f"{quotes}((?:{quotes}{{2}}|[^{SINGLE_QUOTES}])*){quotes}", source)
    return None if whole is None else re.sub(f"({quotes}){quotes}", r"\1", whole[1])


# ---- the script ------------------------------------------------------------------------------


def test_the_script_takes_an_administrator_through_all_steps_in_order() -> None:
    assert nodes(script(), "command_name") == [
        "Get-Module",
        "Install-Module",
        "Connect-ExchangeOnline",
        "Get-ServicePrincipal",
        "New-ServicePrincipal",
        "Get-MailboxPermission",
        "Where-Object",
        "Add-MailboxPermission",
        "Set-CASMailbox",
        "Get-ServicePrincipal",
        "Format-List",
        "Get-MailboxPermission",
        "Format-List",
        "Get-CASMailbox",
        "Format-List",
    ]


def test_every_value_stands_in_the_script_once_in_one_string() -> None:
    literals = [read_literal(literal) for literal in nodes(script(), "string_literal")]
    for value in (TENANT, CLIENT, OBJECT, *MAILBOXES, "cmsbs-mail-bot"):
        assert literals.count(value) == 1


def test_the_service_principal_is_registered_by_object_id() -> None:
    assert "New-ServicePrincipal -AppId $appId -ObjectId $objectId" in script()
    assert "-ServiceId" not in script()
    assert f"$objectId = '{OBJECT}'" in script()


def test_the_script_is_one_block_so_that_a_paste_stops_where_something_fails() -> None:
    comment, block = script().split("\n", 1)
    assert comment.startswith("#")
    assert block.startswith("& {")
    assert block.endswith("\n}\n")


def test_what_was_set_up_before_is_not_set_up_again() -> None:
    lines = [line.strip() for line in script().splitlines()]
    for condition, command in (
        ("if (-not (Get-Module", "Install-Module"),
        ("if (-not $principal)", "New-ServicePrincipal"),
        ("if (-not $granted)", "Add-MailboxPermission"),
    ):
        (position,) = (i for i, line in enumerate(lines) if line.startswith(condition))
        assert lines[position + 1].startswith(command)


def test_without_a_display_name_exchange_gets_none() -> None:
    assert "-DisplayName" not in script(display_name=None)
    assert nodes(script(display_name=None), "command_name")


def test_a_mailbox_named_twice_is_granted_once() -> None:
    once = script(mailboxes=MAILBOXES)
    assert script(mailboxes=[*MAILBOXES, MAILBOXES[0]]) == once


def test_a_tenant_is_named_by_its_id_or_by_a_domain() -> None:
    assert f"-Organization '{OBJECT}'" in script(tenant_id=OBJECT)
    assert f"-Organization '{TENANT}'" in script(tenant_id=TENANT)


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mailboxes": []}, "mailboxes is empty"),
        ({"mailboxes": ["inbox"]}, "'inbox' is not a mailbox address"),
        ({"mailboxes": ["inbox@contoso"]}, "'inbox@contoso' is not a mailbox address"),
        ({"mailboxes": ["a b@contoso.example"]}, "is not a mailbox address"),
        ({"mailboxes": ["<mailbox_name>"]}, "is not a mailbox address"),
        ({"mailboxes": ["inbox@contoso.example\n"]}, "is not a mailbox address"),
        ({"mailboxes": [f"{'a' * 250}@b.example"]}, "is not a mailbox address"),
        ({"mailboxes": [""]}, "'' is not a mailbox address"),
        ({"tenant_id": "contoso"}, "tenant_id 'contoso' is neither a complete GUID"),
        ({"tenant_id": "common"}, "tenant_id 'common' stands for many tenants"),
        ({"tenant_id": "9188040d-6c67-4c5b-b112-36a304b66dad"}, "stands for many tenants"),
        ({"client_id": "00000002-0000-0ff1-ce00-000000000000"}, "an application of yours"),
        ({"tenant_id": ""}, "tenant_id"),
        ({"client_id": OBJECT[:-1]}, "client_id"),
        ({"client_id": f"{CLIENT}\n"}, "client_id"),
        ({"enterprise_object_id": "<enterprise_object_id>"}, "enterprise_object_id"),
        ({"enterprise_object_id": f"{{{OBJECT}}}"}, "enterprise_object_id"),
        ({"client_id": OBJECT.upper()}, "the same"),
        ({"display_name": "  "}, "display_name is empty"),
        ({"display_name": "two\nlines"}, "U+000A"),
        ({"display_name": "no-break\u00a0space"}, "U+00A0"),
        ({"display_name": "\u202egnp.tob"}, "U+202E"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        script(**wrong)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"tenant_id.*client_id.*'x' is not a mailbox address"):
        script(tenant_id="?", client_id="?", mailboxes=["x"])


def test_one_string_is_no_list_of_mailboxes() -> None:
    with pytest.raises(TypeError, match="list of addresses"):
        exchange_setup_script(
            tenant_id=TENANT,
            client_id=CLIENT,
            enterprise_object_id=OBJECT,
            mailboxes="inbox@contoso.example",
        )


# ---- what no value can do --------------------------------------------------------------------

hostile_text = st.text(HOSTILE, min_size=1, max_size=12)
hostile_values = st.fixed_dictionaries(
    {},
    optional={
        "display_name": hostile_text,
        "mailboxes": st.lists(
            hostile_text.map(lambda local: f"{local}@contoso.example"),
            min_size=2,
            max_size=2,
            unique=True,
        ),
        "tenant_id": hostile_text.map(lambda name: f"{name}.example"),
        "client_id": hostile_text,
        "enterprise_object_id": st.builds(str.__add__, st.just(OBJECT), hostile_text),
    },
)
ACCEPTED = ["$(Get-Date)", "`$x", "a'b", "'; Get-Date; '", '"$env:PATH"', "# no comment", "@'", "%"]


@settings(max_examples=EXAMPLES)
@given(hostile_values)
@example({"display_name": "' -WhatIf; Remove-Mailbox 'x"})
@example({"mailboxes": ["'$`{x}'@contoso.example", "''@contoso.example"]})
def test_a_hostile_value_is_refused_or_stays_within_its_string(values: dict[str, Any]) -> None:
    harmless = script()
    try:
        source = script(**values)
    except ValueError:
        return
    assert len(nodes(source, "command")) == len(nodes(harmless, "command"))
    assert_same_but_for_the_values(source, harmless, values)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_name_with_signs_of_powershell_is_taken_as_it_is(name: str) -> None:
    assert_same_but_for_the_values(script(display_name=name), script(), {"display_name": name})


def assert_same_but_for_the_values(source: str, harmless: str, values: dict[str, Any]) -> None:
    given_instead: dict[str | None, str] = {
        "cmsbs-mail-bot": values.get("display_name", "cmsbs-mail-bot"),
        TENANT: values.get("tenant_id", TENANT),
        **dict(zip(MAILBOXES, values.get("mailboxes", MAILBOXES), strict=False)),
    }
    expected = [read_literal(literal) for literal in nodes(harmless, "string_literal")]
    assert [read_literal(literal) for literal in nodes(source, "string_literal")] == [
        given_instead.get(value, value) for value in expected
    ]


@pytest.mark.parametrize("character", [*SINGLE_QUOTES])
def test_each_single_quote_of_powershell_is_doubled(character: str) -> None:
    assert quote(f"a{character}b") == f"'a{character}{character}b'"
    assert read_literal(quote(character)) == character
    assert f"'x{character}{character}; y'" in script(display_name=f"x{character}; y")


@pytest.mark.parametrize("character", [*DOUBLE_QUOTES])
def test_each_double_quote_of_powershell_means_nothing_in_single_quotes(character: str) -> None:
    assert quote(f"a{character}$b") == f"'a{character}$b'"
    assert nodes(script(display_name=f"{character}; y"), "command_name") == nodes(
        script(), "command_name"
    )


@settings(max_examples=EXAMPLES)
@given(st.text(HOSTILE) | st.text())
def test_any_value_is_refused_or_quoted_as_exactly_one_literal(value: str) -> None:
    try:
        literal = quote(value)
    except ValueError:
        assert not value.isprintable()
        return
    assert read_literal(literal) == value


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x1b", "\x85", "\u2028", "\u200b", "\t"])
def test_what_does_not_show_is_refused_by_its_number(character: str) -> None:
    with pytest.raises(ValueError, match=rf"U\+{ord(character):04X}"):
        quote(f"a{character}b")


def test_an_id_has_its_form_whatever_its_case() -> None:
    assert is_guid("ABCDEFab-0000-4000-8000-000000000000")
    assert not is_guid("ABCDEFab000040008000000000000000")
    assert not is_guid(f"{OBJECT}\n")


def test_the_set_up_page_shows_a_call_that_works() -> None:
    call, *_ = blocks(SET_UP, "python")
    assert nodes(run(call), "command_name") == nodes(script(), "command_name")


def test_the_commands_of_the_set_up_page_parse() -> None:
    by_hand, later = (nodes(block.text, "command_name") for block in blocks(SET_UP, "powershell"))
    assert set(by_hand) <= set(nodes(script(), "command_name"))
    assert "Get-CASMailbox" in later
