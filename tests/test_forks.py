"""Forks: a child never waits for a module that another thread of its parent was loading."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import load_pem_x509_certificate
from support import HOST, client_context
from support.connect_proxy import ConnectProxy

from exo_imap_oauth import _process_lock
from exo_imap_oauth._process_lock import no_fork, using_openssl
from exo_imap_oauth._trust import secured
from exo_imap_oauth.testing import ready_exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


class Folder(NamedTuple):
    """Where a program finds all that it needs to log in."""

    path: Path
    environment: dict[str, str]

    def run(self, program: str, **more: str) -> str:
        """What a program prints there."""
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=False,
            cwd=self.path,
            env=self.environment | more,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def as_pfx(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, RSAPrivateKey)
    certificate = load_pem_x509_certificate(pem)
    unencrypted = serialization.NoEncryption()
    return pkcs12.serialize_key_and_certificates(None, key, certificate, None, unencrypted)


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    path = tmp_path_factory.mktemp("forks")
    with ready_exchange(trust=False, certificate=True) as exchange:
        inbox = exchange.inbox
        assert exchange.certificate is not None
        federated = exchange.add_federated_credential(
            exchange.app, issuer="https://issuer.example", subject="mail-bot"
        )
        exchange.write_config(path)
        path.joinpath("app.pem").write_bytes(exchange.certificate.pem)
        path.joinpath("app.pfx").write_bytes(as_pfx(exchange.certificate.pem))
        path.joinpath("secret").write_text(exchange.secret.value)
        path.joinpath("assertion").write_text(federated.assertion())
        with ConnectProxy(("localhost", int(exchange.authority.rpartition(":")[2]))) as proxy:
            yield Folder(
                path,
                os.environ
                | {
                    "PYTHONPATH": str(ROOT),
                    "SSL_CERT_FILE": str(exchange.write_ca(path / "ca.pem")),
                    "PROXY": f"http://{HOST}:{proxy.port}",
                    "EXO_IMAP_USER": inbox.user,
                    "EXO_IMAP_HOST": inbox.host,
                    "EXO_IMAP_PORT": str(inbox.port),
                    "EXO_IMAP_CLIENT_ID": str(inbox.client_id),
                    "EXO_IMAP_TOKEN_URI": str(inbox.token_uri),
                },
            )


# ---- every module is loaded under the lock -------------------------------------------------------

# Prints where a module is looked for without the lock for which fork waits, or while the other
# lock is held, which has to be the inner one.
WATCHED = """
import imaplib, os, ssl, sys, threading, traceback  # by the program itself, before its threads
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
import exo_imap_oauth as e
from exo_imap_oauth import Cloud
from exo_imap_oauth._process_lock import no_fork, process_lock

class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if no_fork._is_owned() and not process_lock._is_owned():
            return
        frames = traceback.extract_stack()[:-1]
        where = [f"{f.filename}:{f.lineno}" for f in frames if not f.filename.startswith("<frozen")]
        print(name, "in", *where[-3:])

sys.meta_path.insert(0, Watch)

def watched(function):
    def call(*arguments, **options):
        if not no_fork._is_owned():
            print(function.__qualname__, "without the lock")
        return function(*arguments, **options)
    return call

# Where OpenSSL is without the interpreter's lock, so that a fork can come.
ssl.create_default_context = watched(ssl.create_default_context)
ssl.SSLContext.load_verify_locations = watched(ssl.SSLContext.load_verify_locations)
ssl.SSLContext.wrap_socket = watched(ssl.SSLContext.wrap_socket)
ssl.SSLSocket.do_handshake = watched(ssl.SSLSocket.do_handshake)

def from_env(**variables):
    variables = {f"EXO_IMAP_{name.upper()}": value for name, value in variables.items()}
    return e.InboxConfig.from_env(environ=os.environ | variables)

def open_in(inbox, **options):
    with inbox.open(**options) as imap:
        imap.noop()
"""
LOGINS = {
    "secret": "open_in(from_env(client_secret=Path('secret').read_text()))",
    "secret in a file": "open_in(from_env(client_secret_file='secret'))",
    "configuration": "open_in(e.load_config('cmsbs-conf').default)",
    "debug": "open_in(from_env(client_secret_file='secret', debug='true'))",
    "function": (
        "inbox = from_env(client_secret_file='secret')\n"
        "secret = Path('secret').read_text()\n"
        "open_in(replace(inbox, client_secret=lambda: secret))"
    ),
    "certificate in a variable": "open_in(from_env(certificate_file='app.pem'))",
    "certificate": (
        "inbox = from_env(client_secret_file='secret')\n"
        "certificate = e.ClientCertificate.from_pem('app.pem')\n"
        "open_in(replace(inbox, client_secret=None, certificate=certificate))"
    ),
    "certificate in PFX": (
        "inbox = from_env(client_secret_file='secret')\n"
        "certificate = e.ClientCertificate.from_pfx('app.pfx')\n"
        "open_in(replace(inbox, client_secret=None, certificate=certificate))"
    ),
    "assertion": "open_in(from_env(assertion_file='assertion'))",
    "proxy": (
        "os.environ['HTTPS_PROXY'] = os.environ['PROXY']\n"
        "open_in(from_env(client_secret_file='secret'))"
    ),
    "foreign credential": (
        "inbox = from_env(client_secret_file='secret')\n"
        "text = inbox.token_source().get_token().token\n"
        "open_in(inbox, token=SimpleNamespace(get_token=lambda scope: SimpleNamespace(token=text)))"
    ),
    "token as text": (
        "try: e.open_mailbox(os.environ['EXO_IMAP_USER'], 'x' * 40, host='localhost', port=9,"
        " folder='Gr\u00fc\u00dfe').__enter__()\n"
        "except e.errors.ConnectionFailed as error: assert error.advice"
    ),
    "client of the program": (
        "inbox = from_env(client_secret_file='secret')\n"
        "with no_fork: context = ssl.create_default_context()\n"
        "sys.meta_path.remove(Watch)  # what imaplib does is none of our business\n"
        "with no_fork: imap = imaplib.IMAP4_SSL(inbox.host, inbox.port, ssl_context=context)\n"
        "sys.meta_path.insert(0, Watch)\n"
        "with imap:\n"
        "    e.authenticate_xoauth2(imap, inbox.user, inbox.token_source())"
    ),
    "token source": (
        "inbox = from_env()\n"
        "source = e.TokenSource('contoso.example', inbox.client_id, Path('secret').read_text(),"
        " token_uri=inbox.token_uri)\n"
        "source.get_token(claims='{}')\n"
        "with e.open_mailbox(inbox.user, source, host=inbox.host, port=inbox.port): pass"
    ),
    "folder that is not there": (
        "try: open_in(from_env(client_secret_file='secret', folder='Gr\\u00fc\\u00dfe'))\n"
        "except e.errors.ImapError as error: assert error.advice"
    ),
    "mailbox that is not there": (
        "try: open_in(from_env(client_secret_file='secret', user='nobody@contoso.example'))\n"
        "except e.errors.ImapError as error: assert error.advice"
    ),
    "refused secret": (
        "try: open_in(from_env(client_secret='x' * 40))\n"
        "except e.errors.TokenError as error: assert error.advice"
    ),
    "no token endpoint": (
        "inbox = from_env(client_secret_file='secret', token_uri='https://127.0.0.1:9/t/oauth2')\n"
        "try: inbox.token_source(deadline=0.1).get_token()\n"
        "except e.errors.ConnectionFailed: assert False\n"
        "except e.errors.TokenError as error: assert error.advice"
    ),
    "untrusted server": (
        "del os.environ['SSL_CERT_FILE']\n"
        "try: open_in(from_env(client_secret_file='secret'), token='x' * 40)\n"
        "except e.errors.ConnectionFailed as error: assert error.advice"
    ),
    "no server": (
        "try: open_in(from_env(client_secret_file='secret', port='9'))\n"
        "except e.errors.ConnectionFailed as error: assert error.advice"
    ),
}


@pytest.mark.parametrize("login", LOGINS)
def test_modules_are_loaded_and_openssl_works_under_the_lock_for_which_fork_waits(
    login: str, folder: Folder
) -> None:
    assert folder.run(f"{WATCHED}{LOGINS[login]}\nsys.meta_path.remove(Watch)") == ""


def test_no_module_takes_the_lock_while_it_is_loaded(folder: Folder) -> None:
    """A program may load it without the lock, while a login that has the lock waits for it."""
    program = """
        import importlib, pkgutil, sys, threading
        import exo_imap_oauth
        from exo_imap_oauth._process_lock import no_fork

        names = [
            module.name
            for module in pkgutil.walk_packages(exo_imap_oauth.__path__, "exo_imap_oauth.")
        ]
        assert "exo_imap_oauth._imap.client" in names

        def load_all():
            for name in names:
                importlib.import_module(name)
            print(len(names), "loaded")

        thread = threading.Thread(target=load_all, daemon=True)
        with no_fork:
            thread.start()
            thread.join(60)
            assert not thread.is_alive(), sys._current_frames()[thread.ident]
    """
    assert folder.run(dedent(program)).endswith(" loaded\n")


def test_a_server_that_is_silent_in_the_handshake_keeps_no_fork_waiting() -> None:
    with socket.create_server((HOST, 0)) as server:
        connection = socket.create_connection(server.getsockname())
        connection.settimeout(120)
        peer, _ = server.accept()
        with peer, ThreadPoolExecutor(1) as pool:
            done = pool.submit(secured, connection, client_context(), server_hostname=HOST)
            assert peer.recv(1)  # its first message has come
            assert no_fork.acquire(timeout=60)
            no_fork.release()
            assert not done.done()
            peer.close()
            assert isinstance(done.exception(), OSError)


LOOK_UP = """
import os, socket, sys, threading, time
from exo_imap_oauth._reach import addresses_of

begun, may_end, ended = threading.Event(), threading.Event(), []

def look_up(*arguments, **options):
    begun.set()
    may_end.wait()
    time.sleep(0.05)
    ended.append(True)
    return []

socket.getaddrinfo = look_up
threading.Thread(target=addresses_of, args=("localhost", 993), daemon=True).start()
begun.wait()
os.register_at_fork(before={before})
child = os.fork()
if not child:
    os._exit(len(ended))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needs_fork
@pytest.mark.parametrize(
    ("before", "is_over"),
    [("may_end.set", 1), ("begun.set", 0)],
    ids=["soon", "never"],
)
def test_a_fork_waits_a_while_for_a_name_to_be_looked_up(
    before: str, is_over: int, folder: Folder
) -> None:
    """The name service's locks would be held by nobody in the child."""
    output = folder.run(LOOK_UP.format(before=before))
    assert output == f"{is_over}\n"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="it reads what Linux tells")
def test_a_fork_waits_for_a_thread_that_used_openssl_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it ends, outside of Python, OpenSSL takes a lock."""
    monkeypatch.setattr(_process_lock, "_of_openssl", {})
    may_end = threading.Event()

    def use() -> None:
        with using_openssl():
            pass
        used.set()
        may_end.wait()

    used = threading.Event()
    thread = threading.Thread(target=use)
    thread.start()
    used.wait()
    assert not _process_lock._is_one_ending()  # it is in Python
    may_end.set()
    thread.join()
    give_up_at = time.monotonic() + 60
    while _process_lock._is_one_ending():
        assert time.monotonic() < give_up_at
    # One that left Python, and that the system still knows.
    monkeypatch.setattr(_process_lock, "_of_openssl", {-1: threading.get_native_id()})
    assert _process_lock._is_one_ending()
    _process_lock._wait_for_others()  # not for ever


# ---- cold forks ----------------------------------------------------------------------------------

COLD_FORKS = int(os.environ.get("EXO_COLD_FORKS", "120"))
CHILDREN = 12  # of one program
# Each child tells where it was if it is not done in time, and is gone.
COLD = """
import faulthandler, os, sys, threading, time
from exo_imap_oauth import load_config

def log_in():
    with load_config("cmsbs-conf").default.open():
        pass

for _ in range(3):
    threading.Thread(target=log_in, daemon=True).start()
children = []
for _ in range({children}):
    time.sleep(0.15 / {children})
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(60, exit=True)
        status = 1
        try:
            log_in()
            status = 0
        except Exception as error:
            faulthandler.dump_traceback()
            print(error, file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(status)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


@needs_fork
@pytest.mark.slow
def test_children_that_are_forked_during_the_first_login_log_in(folder: Folder) -> None:
    for _ in range(COLD_FORKS // CHILDREN):
        folder.run(COLD.format(children=CHILDREN))
