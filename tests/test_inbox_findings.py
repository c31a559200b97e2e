"""A mistake of a value is the same finding in a cmsbs-conf, by hand and in a variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support.leaks import everything_in

from exo_imap_oauth import Cloud, InboxConfig, load_config
from exo_imap_oauth._cmsbs.keys import KEYS, documented
from exo_imap_oauth._inbox_rules import RULES
from exo_imap_oauth.errors import ConfigError
from exo_imap_oauth.testing._cmsbs import write_cmsbs_conf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exo_imap_oauth.errors import ConfigProblem

TENANT = "b1f6ab12-3c4d-4e5f-8a9b-0c1d2e3f4a5b"
CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"
SECRET = "Abc8Q~defghijklmnopqrstuvwxyz012345.6789"
AUTHORITY = "https://login.microsoftonline.com"
URI = f"{AUTHORITY}/{TENANT}/oauth2/v2.0/token"
GOOD = {
    "user": "inbox@contoso.example",
    "token_uri": URI,
    "client_id": CLIENT,
    "client_secret": SECRET,
    "scope": "https://outlook.office365.com/.default",
    "host": "outlook.office365.com",
    "port": "993",
    "tls": "implicit",
    "folder": "INBOX",
    "debug": "false",
}
NAMES = {key.field: key.name for key in KEYS.values()}
TLS = {"implicit": "true", "starttls": "tls", "none": "false"}


class Case(NamedTuple):
    rule: str
    field: str
    value: str


CASES = [
    Case("too-long", "host", "x" * 4097),
    Case("too-long", "client_secret", "x" * 4097),
    Case("empty", "user", ""),
    Case("empty", "host", ""),
    Case("empty", "token_uri", ""),
    Case("empty", "client_id", ""),
    Case("empty", "client_secret", ""),
    Case("placeholder-object-id", "client_id", "<enterprise_object_id>"),
    Case("placeholder", "user", "<mailbox_name>"),
    Case("placeholder", "token_uri", f"{AUTHORITY}/<tenant_id>/oauth2/v2.0/token"),
    Case("placeholder", "scope", "${scope}"),
    Case("placeholder-whole", "client_secret", "<client_secret>"),
    Case("placeholder-whole", "folder", "{{ folder }}"),
    Case("control-character", "user", "inbox@contoso.example\x01auth=Bearer"),
    Case("control-character", "folder", "IN\nBOX"),
    Case("secret-line-break", "client_secret", f"{SECRET}\n"),
    Case("folder-control", "folder", "Sent\u2028Orders"),
    Case("invisible-character", "host", "outlook.office365.com\u00a0"),
    Case("invisible-character", "client_secret", f"{SECRET}\u200b"),
    Case("odd-character", "client_id", f"\u201c{CLIENT}\u201d"),
    Case("odd-character", "client_secret", f"\u201c{SECRET}"),
    Case("padded", "user", " inbox@contoso.example"),
    Case("padded", "client_id", f"{CLIENT}\t"),
    Case("padded", "folder", "INBOX "),
    Case("server-no-host", "host", "https://outlook.office365.com"),
    Case("port-no-number", "port", "-1"),
    Case("port-and-ssl", "port", "143"),
    Case("ssl-unknown", "tls", "yes"),
    Case("ssl-off", "tls", "none"),
    Case("host-of-another-cloud", "host", "partner.outlook.cn"),
    Case("user-no-address", "user", "inbox"),
    Case("uri-http", "token_uri", f"http{URI[5:]}"),
    Case("uri-no-url", "token_uri", URI.removeprefix("https://")),
    Case("uri-user", "token_uri", f"https://user:word@localhost/{TENANT}/oauth2/v2.0/token"),
    Case("uri-path", "token_uri", f"{AUTHORITY}/{TENANT}/oauth2/token"),
    Case("uri-no-path", "token_uri", "https://login.contoso.example"),
    Case("tenant-not-specific", "token_uri", f"{AUTHORITY}/common/oauth2/v2.0/token"),
    Case("tenant-malformed", "token_uri", f"{AUTHORITY}/{TENANT[1:]}/oauth2/v2.0/token"),
    Case("uri-host", "token_uri", f"https://login.contoso.example/{TENANT}/oauth2/v2.0/token"),
    Case("client-id-quoted", "client_id", f"'{CLIENT}'"),
    Case("client-id-address", "client_id", "inbox@contoso.example"),
    Case("client-id-no-guid", "client_id", CLIENT[1:]),
    Case("client-id-is-tenant", "client_id", TENANT.upper()),
    Case("server-host", "host", "imap.gmail.com"),
    Case("client-id-exchange", "client_id", "00000002-0000-0FF1-CE00-000000000000"),
    Case("secret-token", "client_secret", f"eyJ{'x' * 40}.eyJ{'y' * 40}.{'z' * 40}"),
    Case("secret-thumbprint", "client_secret", "0F" * 20),
    Case("secret-id", "client_secret", "0d1c2b3a-1111-2222-3333-444455556666"),
    Case("secret-blanks", "client_secret", f"{SECRET} "),
    Case("secret-quoted", "client_secret", f"'{SECRET}'"),
    Case("scope-graph", "scope", "https://graph.microsoft.com/.default"),
    Case("scope-not-default", "scope", "https://outlook.office.com/IMAP.AccessAsApp"),
    Case("scope-of-another-cloud", "scope", "https://outlook.office365.us/.default"),
    Case("scope-resource", "scope", "https://management.azure.com/.default"),
    Case("debug-unknown", "debug", "yes"),
    Case("not-plain", "token_uri", "https://login.contoso.example/t\u00f6ken"),
]


def found(make: Callable[[], InboxConfig]) -> tuple[list[ConfigProblem], list[ConfigProblem]]:
    """Errors and warnings."""
    try:
        return [], list(make().warnings)
    except ConfigError as error:
        seen = everything_in(error)
        problems, warnings = list(error.problems), list(error.warnings)
    assert SECRET not in seen
    return problems, warnings


def from_cmsbs(folder: Path, values: dict[str, str]) -> tuple[list[ConfigProblem], ...]:
    settings = {NAMES[field]: value for field, value in values.items()}
    settings["ssl"] = TLS.get(values["tls"], values["tls"])
    settings["authenticationMethod"] = "oauth2"
    try:
        return [], list(load_config(write_cmsbs_conf(folder, settings), environ={}).warnings)
    except ConfigError as error:
        return list(error.problems), list(error.warnings)


def by_hand(values: dict[str, str]) -> InboxConfig:
    fields: dict[str, Any] = dict(values)
    fields["port"] = int(values["port"])
    fields["debug"] = values["debug"] == "true"
    return InboxConfig(**fields)


def from_variables(values: dict[str, str]) -> InboxConfig:
    environ = {f"EXO_IMAP_{field.upper()}": value for field, value in values.items()}
    return InboxConfig.from_env(environ=environ)


def told(problem: ConfigProblem) -> str:
    """What a problem says, in the words of an inbox where a cmsbs-conf has others."""
    text = f"{problem.message} {problem.fix}"
    for word, other in (
        ("EXO_IMAP_TLS", "tls"),
        ("ssl", "tls"),
        ("Write true,", "Write implicit,"),
    ):
        text = text.replace(word, other)
    text = text.replace("true (TLS) nor tls", "implicit (TLS) nor starttls")
    text = text.replace("for true, 143 for tls", "for implicit, 143 for starttls")
    return text.replace("tls = true", "tls = implicit").replace("Write true.", "Write implicit.")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}-{case.field}")
def test_a_mistake_is_the_same_finding_however_it_is_written(tmp_path: Path, case: Case) -> None:
    values = {**GOOD, case.field: case.value}
    rule = next(rule for rule in RULES if rule.id == case.rule)
    expected = from_cmsbs(tmp_path, values)
    ways = [
        (found(lambda: from_variables(values)), f"EXO_IMAP_{case.field.upper()}", "environment")
    ]
    if case.rule.endswith("-quoted"):  # what is said of every variable is tried with the others
        ways.clear()
    if case.field != "debug":  # which is a bool by hand
        ways.append((found(lambda: by_hand(values)), case.field, "InboxConfig"))
    key = documented(NAMES[case.field], "default")
    assert any(p.key == key for problems in expected for p in problems), rule
    for result, name, source in ways:
        for problems, of_cmsbs in zip(result, expected, strict=True):
            assert [told(problem) for problem in problems] == [told(p) for p in of_cmsbs]
            assert {problem.source for problem in problems} <= {source}
        assert any(p.key == name for problems in result for p in problems)


def test_every_rule_is_tried() -> None:
    assert {case.rule for case in CASES} == {rule.id for rule in RULES}


def test_an_inbox_without_a_mistake_has_no_warning() -> None:
    assert by_hand(GOOD).warnings == from_variables(GOOD).warnings == ()
    assert by_hand(GOOD) == from_variables(GOOD)


# ---- by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("user", None, "is of type NoneType; it must be a str."),
        ("user", b"inbox@contoso.example", "is of type bytes; it must be a str."),
        ("port", "993", "is of type str; it must be an int."),
        ("port", True, "is of type bool; it must be an int."),
        pytest.param("port", 10**5_000, "is not a number from 1 to 65535.", id="port: huge"),
        ("debug", "true", "is of type str; it must be a bool."),
        ("client_secret", SECRET.encode(), "is of type bytes; it must be a str, a function"),
        ("certificate", "cert.pem", "is of type str; it must be a ClientCertificate or None."),
        ("assertion", "eyJ", "is of type str; it must be a function that returns a str"),
        ("name", 1, "is of type int; it must be a str."),
        ("tls", None, "is of type NoneType; it must be a str."),
        ("tls", "true", "is neither implicit (TLS) nor starttls (STARTTLS)."),
    ],
)
def test_a_value_of_a_wrong_type_is_a_problem_of_its_field(
    field: str, value: object, told: str
) -> None:
    fields: dict[str, Any] = {**GOOD, "port": 993, "debug": False}
    if field in ("certificate", "assertion"):
        del fields["client_secret"]
    fields[field] = value
    with pytest.raises(ConfigError) as caught:
        InboxConfig(**fields)
    (problem,) = caught.value.problems
    assert (problem.key, problem.source, problem.line) == (field, "InboxConfig", 0)
    assert problem.message.startswith(told)
    assert problem.fix
    assert SECRET not in everything_in(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        InboxConfig(
            user="<mailbox_name>",
            token_uri=f"{AUTHORITY}/common/oauth2/v2.0/token",
            client_id="x",
            client_secret=SECRET + " ",
            port=0,
            tls="none",
        )
    assert sorted(problem.key for problem in caught.value.problems) == [
        "client_id",
        "client_secret",
        "port",
        "tls",
        "token_uri",
        "user",
    ]
    assert "InboxConfig cannot be used; mistakes found: 6" in str(caught.value)
    assert SECRET not in everything_in(caught.value)


def test_a_credential_needs_an_application_and_a_token_endpoint() -> None:
    with pytest.raises(ConfigError) as caught:
        InboxConfig(user="inbox@contoso.example", client_secret=SECRET)
    assert [problem.key for problem in caught.value.problems] == ["token_uri", "client_id"]


def test_two_credentials_contradict_each_other() -> None:
    with pytest.raises(ConfigError) as caught:
        InboxConfig.for_tenant(
            TENANT,
            user="inbox@contoso.example",
            client_id=CLIENT,
            client_secret=SECRET,
            assertion=lambda: "x",
        )
    (problem,) = caught.value.problems
    assert (problem.key, problem.fix) == ("assertion", "Keep one of them.")
    assert "beside client_secret" in problem.message


def test_without_a_credential_it_can_be_opened_with_a_token_only() -> None:
    inbox = InboxConfig(user="inbox@contoso.example")
    assert inbox.tenant_id is None
    assert inbox.open(token="opaque")
    with pytest.raises(ConfigError) as caught:
        inbox.token_source()
    assert [p.key for p in caught.value.problems] == ["token_uri", "client_id", "client_secret"]
    assert "open(token=...)" in str(caught.value)


def test_an_empty_folder_cannot_be_opened_and_is_refused() -> None:
    with pytest.raises(ConfigError, match="folder: is empty") as raised:
        InboxConfig(user="inbox@contoso.example", folder=" ")
    assert [problem.key for problem in raised.value.problems] == ["folder"]


def test_a_secret_may_be_a_function_that_is_not_called_before_it_is_needed() -> None:
    def secret() -> str:
        raise AssertionError

    inbox = InboxConfig.for_tenant(
        TENANT, user="inbox@contoso.example", client_id=CLIENT, client_secret=secret
    )
    assert inbox.client_secret is secret
    inbox.token_source()


# ---- a tenant --------------------------------------------------------------------------------


@pytest.mark.parametrize("cloud", Cloud)
def test_a_cloud_supplies_endpoint_host_and_scope(cloud: Cloud) -> None:
    inbox = InboxConfig.for_tenant(TENANT, cloud=cloud, user="inbox@contoso.example")
    assert inbox.token_uri == f"{cloud.authority}/{TENANT}/oauth2/v2.0/token"
    assert (inbox.host, inbox.scope, inbox.tenant_id) == (cloud.imap_host, cloud.scope, TENANT)
    assert inbox.warnings == ()
    other = InboxConfig.for_tenant(
        TENANT, cloud=cloud, user="inbox@contoso.example", host="localhost", port=1993
    )
    assert (other.host, other.port, other.scope) == ("localhost", 1993, cloud.scope)


@pytest.mark.parametrize(
    ("tenant", "told"),
    [
        ("<tenant_id>", "a placeholder is left in."),
        ("", "is empty."),
        (None, "is empty."),
        ("common", "names common, organizations or consumers"),
        ("contoso", "neither a complete GUID nor a DNS name"),
        (f"{TENANT}/oauth2", "neither a complete GUID nor a DNS name"),
        ("a@b.example", "neither a complete GUID nor a DNS name"),
        ("contoso.example?x", "neither a complete GUID nor a DNS name"),
        (f"{TENANT}\u200b", "invisible character"),
    ],
)
def test_a_tenant_that_is_none_is_named_as_the_tenant(tenant: Any, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        InboxConfig.for_tenant(
            tenant, user="inbox@contoso.example", client_id=CLIENT, client_secret=SECRET
        )
    (problem,) = caught.value.problems
    assert problem.key == "tenant_id"
    assert told in problem.message
    assert "login.microsoftonline.com" not in problem.fix
    assert SECRET not in everything_in(caught.value)


def test_a_cloud_that_is_none_is_a_type_error_without_the_secret() -> None:
    with pytest.raises(TypeError, match="cloud must be a Cloud, not str") as caught:
        InboxConfig.for_tenant(TENANT, cloud="china", user="x", client_secret=SECRET)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # what is tested
    assert SECRET not in everything_in(caught.value)


def test_a_tenant_and_an_endpoint_are_too_much() -> None:
    with pytest.raises(TypeError, match="token_uri") as caught:
        InboxConfig.for_tenant(TENANT, user="x", token_uri=URI, client_secret=SECRET)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] # what is tested
    assert SECRET not in everything_in(caught.value)


@pytest.mark.parametrize(
    "scope", ["https://ps.outlook.com/.default", "00000002-0000-0ff1-ce00-000000000000/.default"]
)
def test_a_scope_that_may_be_one_of_exchange_is_not_suspicious(scope: str) -> None:
    values: dict[str, Any] = GOOD | {"port": 993, "debug": False, "scope": scope}
    assert InboxConfig(**values).warnings == ()
