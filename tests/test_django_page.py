"""docs/how-to/django.md as a Django project, run by its own manage.py."""

from __future__ import annotations

import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from support.concurrency import until
from support.missing import skip_or_fail
from support.pages import DOCS, blocks

from exo_imap_oauth.testing import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

PAGE = DOCS / "how-to/django.md"
EXCHANGE = "from project.settings_mail import EXCHANGE_INBOX\n"
SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
INSTALLED_APPS = ["mail"]
"""
HELPDESK = """
from project.settings import *
INSTALLED_APPS = [
    "mail", "helpdesk", "rest_framework", "django.contrib.auth",
    "django.contrib.contenttypes", "django.contrib.humanize", "django.contrib.messages",
    "django.contrib.sessions", "django.contrib.sites", "django.contrib.staticfiles",
]
SITE_ID = 1
ROOT_URLCONF = "project.urls"
HELPDESK_TEAMS_MODE_ENABLED = False
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
MEDIA_ROOT = "media"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
"""
URLS = """
from django.urls import include, path
urlpatterns = [path("helpdesk/", include("helpdesk.urls", namespace="helpdesk"))]
"""
MAKE_QUEUES = """
from helpdesk.models import IgnoreEmail, Queue
for slug, user in ("orders", {mailbox!r}), ("lost", "nobody@contoso.example"):
    Queue.objects.create(
        title=slug, slug=slug, email_box_type="oauth", email_box_user=user,
        email_address=user, allow_email_submission=True, email_box_imap_folder="INBOX",
    )
IgnoreEmail.objects.create(name="x", email_address="spam@example.org", keep_in_mailbox=False)
"""


@pytest.fixture(name="project")
def _project(tmp_path: Path) -> Path:
    """A folder with the files of the page; each block names its own."""
    pytest.importorskip("django", reason="pip install django")
    files = {
        each.text.partition("\n")[0].removeprefix("# "): each for each in blocks(PAGE, "python")
    }
    for name, block in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
    for folder in ("project", "mail", "mail/management", "mail/management/commands"):
        tmp_path.joinpath(folder, "__init__.py").touch()
    (tmp_path / "project/settings.py").write_text(EXCHANGE + SETTINGS)
    (tmp_path / "project/settings_helpdesk.py").write_text(HELPDESK)
    (tmp_path / "project/urls.py").write_text(URLS)
    return tmp_path


def at(exchange: ReadyExchange, project: Path, mailbox: str = "") -> None:
    """Have the settings of the project name the servers of this exchange."""
    path = project / "project/settings_mail.py"
    text = path.read_text()
    values = {
        "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token": (
            exchange.token_uri()
        ),
        "22222222-2222-4222-8222-222222222222": exchange.app.client_id,
        mailbox or "inbox@contoso.example": mailbox or exchange.mailbox,
    }
    for example, value in values.items():
        assert example in text
        text = text.replace(example, value)
    server = {"host": exchange.host, "port": exchange.port}
    path.write_text(f"{text}\nEXCHANGE_INBOX |= {server!r}\n")


def environment(secret: str, settings: str) -> dict[str, str]:
    own = {
        "EXCHANGE_CLIENT_SECRET": secret,
        "DJANGO_SETTINGS_MODULE": settings,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {**os.environ, **own}


def run(
    project: Path, *arguments: str, secret: str, settings: str = "project.settings"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=project,
        env=environment(secret, settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def done(*arguments: Any, **options: Any) -> str:
    result = run(*arguments, **options)
    assert result.returncode == 0, result.stderr
    assert options["secret"] not in result.stdout + result.stderr
    return result.stdout + result.stderr


def rows(project: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(project / "db.sqlite3", timeout=60)) as database:
        return database.execute(query).fetchall()


def test_the_system_check_names_what_is_wrong(project: Path) -> None:
    (console,) = blocks(PAGE, "console")
    command, _, shown = console.text.partition("\n")
    assert command == "$ python manage.py check"
    result = run(project, "django", "check", secret="")
    assert result.returncode == 1
    assert result.stderr == shown


def test_the_command_notes_each_message_once(
    trusted_exchange: ReadyExchange, project: Path
) -> None:
    at(trusted_exchange, project)
    secret = trusted_exchange.secret.value
    done(project, "django", "migrate", "--run-syncdb", "-v0", secret=secret)
    for _ in range(2):
        assert done(project, "django", "read_inbox", secret=secret) == ""
    assert rows(project, "SELECT subject FROM mail_note ORDER BY id") == [
        (f"Sample message {number}",) for number in (1, 2, 3)
    ]


@pytest.mark.parametrize("is_known", [True, False])
def test_the_exit_status_says_whether_to_come_back(
    is_known: bool, trusted_exchange: ReadyExchange, project: Path
) -> None:
    at(trusted_exchange, project)
    if is_known:
        trusted_exchange.set_cas_mailbox(trusted_exchange.mailbox, imap_enabled=False)
    else:
        trusted_exchange.drop_connections()
        path = project / "project/settings_mail.py"
        path.write_text(path.read_text() + "EXCHANGE_INBOX['port'] = 1\n")
    result = run(project, "django", "read_inbox", secret=trusted_exchange.secret.value)
    assert result.returncode == (1 if is_known else 75)
    assert "Fix:" in result.stderr
    assert "Traceback" not in result.stderr


def left_unread(exchange: ReadyExchange) -> bytes:
    with exchange.inbox.open(readonly=True) as imap:
        return bytes(imap.uid("SEARCH", "UNSEEN")[1][0])


def test_the_place_of_a_message_is_its_key(trusted_exchange: ReadyExchange, project: Path) -> None:
    """Not its Message-ID: here it is missing twice, twice the same, and in two mailboxes."""
    exchange, text = trusted_exchange, (project / "project/settings_mail.py").read_text()
    for headers in (b"", b"", b"Message-ID: <sample-1@fabrikam.example>\r\n"):
        exchange.deliver(exchange.mailbox, b"Subject: order\r\n" + headers + b"\r\n")
    exchange.add_mailbox("sales@contoso.example", messages=3)
    exchange.add_mailbox_permission("sales@contoso.example", exchange.app.enterprise_object_id)
    at(exchange, project)
    secret = exchange.secret.value
    done(project, "django", "migrate", "--run-syncdb", "-v0", secret=secret)
    done(project, "django", "read_inbox", secret=secret)
    assert rows(project, "SELECT COUNT(*) FROM mail_note") == [(6,)]
    (project / "project/settings_mail.py").write_text(
        text.replace("inbox@contoso.example", "sales@contoso.example")
    )
    at(exchange, project, mailbox="sales@contoso.example")
    done(project, "django", "read_inbox", secret=secret)
    assert rows(project, "SELECT COUNT(*) FROM mail_note") == [(9,)]


RAISE = 'if mail.uid == 102: raise OSError(28, "No space left on device")'


@pytest.mark.parametrize(
    ("fault", "work", "status"),
    [
        (Fault.IMAP_FETCH_NOTHING, "...", 75),
        (Fault.IMAP_FETCH_STAND_IN, "...", 75),
        (Fault.IMAP_FETCH_FOREIGN_FIRST, "...", 0),
        (None, RAISE, 1),
    ],
)
def test_one_message_does_not_stop_another(
    trusted_exchange: ReadyExchange, project: Path, fault: Fault | None, work: str, status: int
) -> None:
    at(trusted_exchange, project)
    models = project / "mail/models.py"
    text = models.read_text()
    assert "        ...  # the work" in text
    models.write_text(text.replace("        ...  # the work", f"        {work}  # the work"))
    secret = trusted_exchange.secret.value
    done(project, "django", "migrate", "--run-syncdb", "-v0", secret=secret)
    if fault:
        trusted_exchange.inject(fault, uid=102)
    result = run(project, "django", "read_inbox", secret=secret)
    assert result.returncode == status
    assert ("message 102 failed once" in result.stderr) == (status != 0)
    assert left_unread(trusted_exchange) == (b"102" if status else b"")
    noted = {uid for (uid,) in rows(project, "SELECT uid FROM mail_note")}
    assert noted == ({101, 103} if status else {101, 102, 103})
    models.write_text(text)
    done(project, "django", "read_inbox", secret=secret)
    assert rows(project, "SELECT COUNT(*) FROM mail_note") == [(3,)]


def test_the_other_command_listens_until_sigterm(
    trusted_exchange: ReadyExchange, project: Path
) -> None:
    at(trusted_exchange, project)
    secret = trusted_exchange.secret.value
    done(project, "django", "migrate", "--run-syncdb", "-v0", secret=secret)
    with subprocess.Popen(
        [sys.executable, "-m", "django", "listen_to_inbox"],
        cwd=project,
        env=environment(secret, "project.settings"),
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        until(lambda: len(rows(project, "SELECT * FROM mail_note")) == 3)
        program.send_signal(signal.SIGTERM)
        _, told = program.communicate(timeout=60)
    assert (program.returncode, told) == (0, "")


@pytest.mark.slow  # .ci/run installs pytest-django for these alone
def test_the_tests_pass_under_pytest_django(project: Path) -> None:
    if importlib.util.find_spec("pytest_django") is None:
        skip_or_fail("pip install pytest-django")
    told = done(
        project, "pytest", "-q", "-p", "no:cacheprovider", "mail/test_with_pytest.py", secret="x"
    )
    assert "2 passed" in told


def test_the_tests_pass_under_djangos_test_runner(project: Path) -> None:
    told = done(project, "django", "test", "mail.tests", secret="x")
    assert "Ran 1 test" in told


@pytest.mark.slow
def test_django_helpdesk_makes_tickets_from_every_queue_that_opens(
    trusted_exchange: ReadyExchange, project: Path
) -> None:
    if importlib.util.find_spec("helpdesk") is None:
        skip_or_fail("pip install django-helpdesk")
    at(trusted_exchange, project)
    spam = b"From: spam@example.org\r\nSubject: Spam\r\n\r\nBuy this.\r\n"
    trusted_exchange.deliver(trusted_exchange.mailbox, spam)
    options = {"secret": trusted_exchange.secret.value, "settings": "project.settings_helpdesk"}
    done(project, "django", "migrate", "--run-syncdb", "-v0", **options)
    queues = MAKE_QUEUES.format(mailbox=trusted_exchange.mailbox)
    done(project, "django", "shell", "-c", queues, **options)

    result = run(project, "django", "get_tickets", **options)
    assert result.returncode == 1
    assert "queue lost: localhost refused" in result.stderr
    assert "not read, as logged: 1" in result.stderr
    assert "Traceback" not in result.stderr
    tickets = "SELECT title, submitter_email FROM helpdesk_ticket ORDER BY id"
    found = rows(project, tickets)
    assert found == [(f"Sample message {number}", "erika@fabrikam.example") for number in (1, 2, 3)]
    with trusted_exchange.inbox.open(readonly=True) as imap:
        assert imap.search(None, "UNSEEN") == ("OK", [b""])
        assert imap.search(None, "DELETED") == ("OK", [b"4"])

    trusted_exchange.inject(Fault.IMAP_FETCH_NOTHING, uid=105)
    answer = (
        b"From: erika@fabrikam.example\r\nSubject: Re: [orders-1] Sample message 1\r\n\r\nYes.\r\n"
    )
    trusted_exchange.deliver(trusted_exchange.mailbox, answer)
    result = run(project, "django", "get_tickets", **options)
    assert "queue orders: message 105 stays unread" in result.stderr
    assert left_unread(trusted_exchange) == b"105"
    run(project, "django", "get_tickets", **options)
    assert left_unread(trusted_exchange) == b""
    assert rows(project, tickets) == found
    assert len(rows(project, "SELECT * FROM helpdesk_followup WHERE ticket_id = 1")) == 2
