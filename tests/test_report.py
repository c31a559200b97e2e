"""The report of check_setup: as text, as JSON, as HTML, and without a secret."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from support.checkup import (
    CHECK_IDS,
    NOBODY,
    USER,
    always,
    everything,
    failures,
    inbox_of,
    issuing,
    report_on,
    trusting,
)
from support.html_page import Page
from support.scripted_imap import GREETING, LOGOUT, ScriptedImap, Step, capability

from exo_imap_oauth.checkup import Check, SetupReport, check_setup

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange

# ---- nothing leaks ---------------------------------------------------------------------------

SECRET = "s3cr3t~Value+with/odd=chars&of.an.application"
TOKEN = "eyJhbGciOiJub25lIn0." + "QWxsIHRoaXMgaXMgc2VjcmV0" * 30 + ".c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("NO you sent {token}", id="the token"),
        pytest.param("NO it was {token} and AUTHENTICATE failed.", id="in a known text"),
        pytest.param("NO {part}", id="a part of it"),
        pytest.param("BAD {sasl}", id="the SASL message"),
        pytest.param("NO {secret}, and as a form: {form}", id="the secret"),
    ],
)
def test_what_a_server_echoes_of_token_and_secret_is_hidden(
    exchange: ReadyExchange,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(exchange._issuer, "issue", always(TOKEN))
    monkeypatch.setattr(exchange._directory, "find_secret", always(exchange.secret))
    sasl = base64.b64encode(f"user={USER}\x01auth=Bearer {TOKEN}\x01\x01".encode()).decode()
    form = urlencode({"s": SECRET})[2:]
    reply = said.format(token=TOKEN, part=TOKEN[30:90], sasl=sasl, secret=SECRET, form=form)
    challenge = base64.b64encode(json.dumps({"status": "401", "token": TOKEN}).encode()).decode()
    script = [
        GREETING,
        capability(),
        Step("{tag} AUTHENTICATE XOAUTH2 .+", f"+ {challenge}"),
        Step("", f"{{tag}} {reply}"),
    ]
    with ScriptedImap([*script, LOGOUT], tls=True) as server:
        inbox = inbox_of(exchange, host=server.host, port=server.port, client_secret=SECRET)
        report = check_setup(inbox, ssl_context=trusting(exchange))
    assert failures(report) == ["authenticate"]
    seen = everything(report) + caplog.text
    for secret in (TOKEN, SECRET, sasl, form):
        for start in range(0, len(secret) - 16, 8):
            assert secret[start : start + 16] not in seen
    assert "(hidden)" in seen or "(the token)" in seen


def test_claims_that_hold_the_secret_do_not_get_it_into_the_advice(
    exchange: ReadyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = exchange.secret.value
    issuing(exchange, monkeypatch, aud=value, oid=value, tid=value, roles=[value])
    report = check_setup(
        inbox_of(exchange), enterprise_object_id=NOBODY, ssl_context=exchange.ssl_context
    )
    assert {"tenant", "object-id", "audience"} <= set(failures(report))
    assert value[:20] not in everything(report)
    assert "(hidden)" in str(report)


# ---- the report ------------------------------------------------------------------------------


def test_the_text_is_readable_at_80_columns_and_commands_stay_whole() -> None:
    report, done = report_on("consent", "right object id")
    lines = str(report).splitlines()
    unbreakable = [line for line in lines if len(line) > 80]
    assert all("https://" in line or line.startswith("        ") for line in unbreakable)
    assert str(report).isascii()
    assert "FAILED   role" in str(report)
    assert "    Cause and fix: those of role." in lines
    new = (
        f"        New-ServicePrincipal -AppId '{done.app.client_id}'"
        f" -ObjectId '{done.app.enterprise_object_id}'"
    )
    assert new in lines
    assert not any(line != line.rstrip() for line in lines)


def test_the_dict_is_json_and_says_the_same() -> None:
    report, _ = report_on("mailbox permission")
    found = json.loads(json.dumps(report.as_dict()))
    assert found["ok"] is False
    assert found["mailbox"] == USER
    assert found["first_failure"] == "mailbox"
    assert [each["id"] for each in found["checks"]] == CHECK_IDS
    last = found["checks"][-1]
    assert set(last) == {"id", "title", "status", "detail", "advice"}
    assert last["advice"]["id"] == "mailbox-not-connected"
    assert last["advice"]["commands"]
    assert found["checks"][0]["advice"] is None


def test_a_report_survives_pickle() -> None:
    report, _ = report_on("mailbox permission")
    assert pickle.loads(pickle.dumps(report)) == report


def test_the_html_says_the_same_needs_nothing_else_and_runs_nothing() -> None:
    report, done = report_on("mailbox permission", "permission")
    page = Page(report._repr_html_())
    for each in report.checks:
        assert each.title in page.text
        assert each.detail in page.text
        if each.advice:
            assert each.advice.cause in page.text
            assert all(command in page.text for command in each.advice.commands)
    links = [value or "" for name, value in page.attributes if name == "href"]
    assert all(link.startswith("https://") for link in links)
    assert any(done.app.client_id in link for link in links)


def test_the_html_escapes_everything(exchange: ReadyExchange) -> None:
    hostile = """a"b'&<!--@contoso.example"""
    report = check_setup(
        inbox_of(exchange, user=hostile, folder="<b>&amp;"), ssl_context=exchange.ssl_context
    )
    page = Page(report._repr_html_())
    assert hostile in page.text
    assert "b" in page.tags  # the badges
    assert hostile not in report._repr_html_()


def test_the_badge_of_the_report_is_that_of_its_worst_check() -> None:
    checks = [Check(str(uuid.uuid4()), "", "passed", "")]
    for status in ("skipped", "warning", "failed"):
        checks.insert(0, replace(checks[0], status=status))
        header, _, _ = SetupReport(USER, tuple(checks))._repr_html_().partition("</header>")
        badge = "passed" if status == "skipped" else status
        assert f'<b class="{badge}">' in header
