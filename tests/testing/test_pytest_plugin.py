"""The fixtures, in the test runs of other projects."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import exo_imap_oauth

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., pytest.RunResult]

pytest_plugins = ("pytester",)

ENTRY_POINT = "[pytest11]\nexo_imap_oauth = exo_imap_oauth.pytest_plugin\n"
METADATA = "Metadata-Version: 2.1\nName: exo-imap-oauth\nVersion: 0\n"


@pytest.fixture(scope="session", autouse=True)
def _everything_imported() -> None:
    """What is imported while pytester works is forgotten afterwards, and then there twice."""
    for module in pkgutil.walk_packages(exo_imap_oauth.__path__, "exo_imap_oauth."):
        if module.name != "exo_imap_oauth.pytest_plugin":
            importlib.import_module(module.name)


@pytest.fixture(name="run")
def _run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run tests where the package is installed, warnings being errors."""
    installed = pytester.mkdir("site-packages")
    metadata = installed / "exo_imap_oauth-0.dist-info"
    metadata.mkdir()
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)
    (metadata / "METADATA").write_text(METADATA)
    package = Path(exo_imap_oauth.__path__[0])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed), str(package.parent)]))
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments: str, inside: bool = False, **tests: str) -> pytest.RunResult:
        pytester.makeini("[pytest]\nfilterwarnings = error\npythonpath = .\n")
        pytester.makepyfile(**tests)
        # Randomly: some tests tell one story in order. Benchmark: it warns of xdist. Hypothesis:
        # a third of a run's start goes into it.
        unwanted = ("cacheprovider", "randomly", "benchmark", "hypothesispytest")
        arguments = (*(f"-pno:{plugin}" for plugin in unwanted), *arguments)
        if inside:
            pytester.syspathinsert(installed)
            return pytester.runpytest_inprocess(*arguments)
        return pytester.runpytest_subprocess(*arguments)

    return run


# What another project has: a program that knows nothing of tests, and tests of it that import
# nothing but the public API.
PROGRAM = r"""
from exo_imap_oauth import load_config

def subjects(path):
    with load_config(path).default.open() as imap:
        _, (numbers,) = imap.search(None, "UNSEEN")
        return [imap.fetch(n, "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0][1].decode().strip()
                for n in numbers.split()]
"""
PROJECT = r"""
import os

import pytest
import requests

from exo_imap_oauth.errors import MailboxNotConnected, SessionExpired, Throttled
from exo_imap_oauth.testing import Fault
from program import subjects

def test_new_mail_is_read(exchange_online, tmp_path):
    conf = exchange_online.write_config(tmp_path)
    assert len(subjects(conf)) == 3
    exchange_online.deliver(exchange_online.mailbox, b"Subject: hello\r\n\r\n")
    assert subjects(conf)[3] == "Subject: hello"
    assert len(exchange_online.token_requests) == 1
    assert {login.outcome for login in exchange_online.logins} == {"connected"}

@pytest.mark.parametrize("run", [1, 2])
def test_every_test_starts_clean(exchange_online, tmp_path, run):
    assert (exchange_online.token_requests, exchange_online.logins) == ((), ())
    assert len(subjects(exchange_online.write_config(tmp_path))) == 3
    assert len(exchange_online.token_requests) == 1  # no token was kept
    exchange_online.deliver(exchange_online.mailbox, b"")
    exchange_online.inject(Fault.IMAP_BYE_GREETING, times=None)
    exchange_online.advance_clock(1e9)

def test_a_missing_permission(exchange_online, exchange_inbox):
    app = exchange_online.app
    exchange_online.remove_mailbox_permission(exchange_inbox.user, app.enterprise_object_id)
    with pytest.raises(MailboxNotConnected), exchange_inbox.open():
        pass

def test_throttling(exchange_online, exchange_inbox):
    exchange_online.inject(Fault.IMAP_THROTTLED, seconds=60, command="SELECT")
    with pytest.raises(Throttled) as caught, exchange_inbox.open():
        pass
    assert caught.value.retry_after == 60

def test_an_expired_token(exchange_online, exchange_inbox):
    with pytest.raises(SessionExpired), exchange_inbox.open() as imap:
        exchange_online.advance_clock(3600)
        imap.noop()

def test_several_exchanges(exchange_factory, exchange_inbox):
    empty, ready = exchange_factory(), exchange_factory(ready=True)
    assert len({empty.port, ready.port, exchange_inbox.port}) == 3
    for exchange in (empty, ready):
        tenant = f"{exchange.authority}/{exchange.tenant_id}"
        assert requests.get(f"{tenant}/v2.0/.well-known/openid-configuration", timeout=9).ok
    with exchange_inbox.open():
        pass
    empty.__exit__(None, None, None)

def test_a_stopped_exchange_is_not_used_again(exchange_factory):
    exchange_factory().add_mailbox("inbox@contoso.example")

def test_the_environment_is_left_alone():
    assert "SSL_CERT_FILE" not in os.environ
    assert "REQUESTS_CA_BUNDLE" not in os.environ
"""


def test_another_project_tests_its_program(run: Run) -> None:
    result = run(inside=True, program=PROGRAM, test_program=PROJECT)
    result.assert_outcomes(passed=9)


@pytest.mark.slow
def test_workers_of_xdist_do_not_meet(run: Run) -> None:
    pytest.importorskip("xdist")
    result = run("-n", "2", program=PROGRAM, test_program=PROJECT)
    result.assert_outcomes(passed=9)


def test_servers_are_shared_by_the_tests_of_a_run(run: Run) -> None:
    tests = """
        import threading

        from exo_imap_oauth.token_cache import default_cache

        ports = []
        caches = [default_cache()]

        def test_one(exchange_online):
            caches.append(default_cache())
            ports.append((exchange_online.port, exchange_online.ca_pem))

        def test_two(exchange_online, exchange_inbox):
            ports.append((exchange_online.port, exchange_online.ca_pem))
            assert ports[0] == ports[1]
            assert default_cache() not in caches
            assert [t.name for t in threading.enumerate()] == ["MainThread", "LoopbackExchange"]

        def test_three():
            assert default_cache() is caches[0]
    """
    run(test_ports=tests).assert_outcomes(passed=3)


def test_what_was_trusted_before_stays_trusted(run: Run) -> None:
    tests = """
        import os, ssl
        import pytest, trustme

        ca = trustme.CA()

        @pytest.fixture(params=["file", "folder"])
        def company(request, monkeypatch, tmp_path):
            (tmp_path / "company.pem").write_bytes(ca.cert_pem.bytes())
            path = tmp_path if request.param == "folder" else tmp_path / "company.pem"
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "company.pem"))
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
            return str(path)

        def test_trust(company, exchange_online):
            for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
                context = ssl.create_default_context(cafile=os.environ[name])
                trusted = context.get_ca_certs(binary_form=True)
                for authority in (ca.cert_pem.bytes(), exchange_online.ca_pem):
                    assert ssl.PEM_cert_to_DER_cert(authority.decode()) in trusted
            del os.environ["REQUESTS_CA_BUNDLE"]

        @pytest.fixture
        def afterwards():
            yield
            assert os.environ["REQUESTS_CA_BUNDLE"]

        def test_order(company, afterwards, exchange_online):
            pass
    """
    run(test_trust=tests).assert_outcomes(passed=4)


def test_a_run_that_does_not_use_it_imports_next_to_nothing(run: Run) -> None:
    tests = """
        import sys

        def test_modules():
            ours = {name for name in sys.modules if name.startswith("exo_imap_oauth")}
            assert ours <= {
                "exo_imap_oauth", "exo_imap_oauth._version", "exo_imap_oauth.pytest_plugin"
            }
            assert not {"requests", "imaplib", "pymap", "trustme", "cachetools"} & set(sys.modules)
    """
    run(test_modules=tests).assert_outcomes(passed=1)


def test_without_the_extra_it_says_what_to_install(run: Run) -> None:
    result = run(
        conftest="import sys; sys.modules['pymap'] = None",
        test_inbox="def test_one(exchange_inbox): pass\ndef test_two(exchange_factory): pass",
    )
    result.assert_outcomes(errors=2)
    output = result.stdout.str()
    assert len(re.findall(r"^exo_imap_oauth\.testing needs pymap,.*$", output, re.MULTILINE)) == 2
    assert "pip install 'exo-imap-oauth[testing]'" in output
    assert "Traceback" not in output


def test_the_fixtures_explain_themselves(run: Run) -> None:
    output = run("--fixtures", test_nothing="").stdout.str()
    for fixture in ("exchange_online", "exchange_inbox", "exchange_factory"):
        assert re.search(rf"^{fixture} -- .*pytest_plugin\.py:\d+\n {{4}}\w", output, re.MULTILINE)
