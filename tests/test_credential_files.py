"""A credential in a file is known by its content: those who read the same share a token."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from support.redis_server import RedisServer
from support.token_endpoint import CLIENT, SECRET, TokenEndpoint, rejected, token

from exo_imap_oauth import InboxConfig, load_config
from exo_imap_oauth._credentials.secret_file import SecretFile
from exo_imap_oauth.errors import TokenRequestRejected
from exo_imap_oauth.token_cache import MemoryTokenCache

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from exo_imap_oauth import TokenSource

KEY = Fernet.generate_key()
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQifQ.c2lnbmF0dXJl"
NEW_JWT = JWT.replace("c2lnbmF0dXJl", "bmV3LXNpZ25hdHVyZQ")
NEW = "n3w~secret/Value"


# ---- a secret and an assertion, however the file is named ------------------------------------


def environment(endpoint: TokenEndpoint, file: Path, name: str) -> InboxConfig:
    variables = {
        "USER": "inbox@contoso.example",
        "TOKEN_URI": endpoint.url,
        "CLIENT_ID": CLIENT,
        name: str(file),
    }
    return InboxConfig.from_env("X_", environ={f"X_{n}": v for n, v in variables.items()})


def secret_file(endpoint: TokenEndpoint, file: Path) -> InboxConfig:
    return environment(endpoint, file, "CLIENT_SECRET_FILE")


def assertion_file(endpoint: TokenEndpoint, file: Path) -> InboxConfig:
    return environment(endpoint, file, "ASSERTION_FILE")


def dollar_file(endpoint: TokenEndpoint, file: Path) -> InboxConfig:
    prefix = "cmsbs.mail.imap."
    lines = {
        "server": "outlook.office365.com",
        "port": "993",
        "ssl": "true",
        "user": "inbox@contoso.example",
        "authenticationMethod": "oauth2",
        "oauth2.accessTokenUri": endpoint.url,
        "oauth2.clientId": CLIENT,
        "oauth2.clientSecret$file": str(file),
    }
    conf = file.with_name("um.properties")
    conf.write_text("".join(f"{prefix}{key} = {value}\n" for key, value in lines.items()))
    return load_config(conf, environ={}).default


KINDS: list[tuple[Callable[[TokenEndpoint, Path], InboxConfig], str, str]] = [
    (secret_file, SECRET, NEW),
    (dollar_file, SECRET, NEW),
    (assertion_file, JWT, NEW_JWT),
]
of_each_kind = pytest.mark.parametrize(
    ("inbox_of", "old", "new"), KINDS, ids=[kind.__name__ for kind, _, _ in KINDS]
)


class Process:
    """What another process has: a source with slots of its own, and a cache that is shared."""

    def __init__(self, shared: MemoryTokenCache, lock: Callable[[], object] = lambda: None) -> None:
        self._shared, self._on_lock = shared, lock
        self.get, self.set, self.discard = shared.get, shared.set, shared.discard

    @contextlib.contextmanager
    def lock(self, *_: object) -> Generator[bool]:
        self._on_lock()
        yield True


def source_of(endpoint: TokenEndpoint, inbox: InboxConfig, cache: Any) -> TokenSource:
    return inbox.token_source(ssl_context=endpoint.ssl_context, cache=cache)


@of_each_kind
def test_processes_that_read_the_same_file_share_a_token(
    tmp_path: Path, inbox_of: Any, old: str, new: str
) -> None:
    file, shared = tmp_path / "credential", MemoryTokenCache()
    file.write_text(old)
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        inbox = inbox_of(endpoint, file)
        for _ in range(4):
            assert source_of(endpoint, inbox, Process(shared)).get_token().token == "one"
        file.write_text(new)
        assert source_of(endpoint, inbox, Process(shared)).get_token().token == "two"
    assert len(endpoint.forms) == 2


@of_each_kind
def test_a_file_with_another_content_gets_no_token_of_the_first_one(
    tmp_path: Path, inbox_of: Any, old: str, new: str
) -> None:
    here, there, shared = tmp_path / "here", tmp_path / "there", MemoryTokenCache()
    here.write_text(old)
    there.write_text(new)
    with TokenEndpoint(token("one"), token("two"), token("three")) as endpoint:
        first = source_of(endpoint, inbox_of(endpoint, here), Process(shared))
        other = source_of(endpoint, inbox_of(endpoint, there), Process(shared))
        assert first.get_token().token == "one"
        assert other.get_token().token == "two"
        # What it changes to meanwhile counts, not what it was when the source was built.
        here.write_text(new)
        first.invalidate(first.get_token())
        assert first.get_token().token == "two"
        there.write_text(old)
        other.invalidate(other.get_token())
        assert other.get_token().token == "three"


@of_each_kind
def test_a_file_that_changes_during_a_fetch_gives_its_token_no_other_name(
    tmp_path: Path, inbox_of: Any, old: str, new: str
) -> None:
    file, shared = tmp_path / "credential", MemoryTokenCache()
    file.write_text(old)
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        inbox = inbox_of(endpoint, file)
        replacing = Process(shared, lambda: file.write_text(new))
        assert source_of(endpoint, inbox, replacing).get_token().token == "one"
        sent = endpoint.forms[0]
        assert old in (sent.get("client_secret"), sent.get("client_assertion"))
        assert source_of(endpoint, inbox, Process(shared)).get_token().token == "two"


@of_each_kind
def test_a_new_file_is_tried_at_once_after_a_refusal_and_the_old_one_is_not(
    tmp_path: Path, inbox_of: Any, old: str, new: str
) -> None:
    file = tmp_path / "credential"
    file.write_text(old)
    with TokenEndpoint(rejected(7000222), token("new")) as endpoint:
        source = source_of(endpoint, inbox_of(endpoint, file), MemoryTokenCache())
        for _ in range(3):
            with pytest.raises(TokenRequestRejected):
                source.get_token()
        assert len(endpoint.forms) == 1
        file.write_text(new)
        assert source.get_token().token == "new"


def test_a_secret_in_a_file_is_the_secret_that_a_variable_holds(tmp_path: Path) -> None:
    """Two paths and a plain text, in one process: one request."""
    cache = MemoryTokenCache()
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        credentials: list[Any] = [SECRET]
        for name in ("a", "b"):
            (tmp_path / name).write_text(f"{SECRET}\n")
            credentials.append(SecretFile(tmp_path / name))
        sources = [endpoint.source(each, cache=cache) for each in credentials]
        assert [source.get_token().token for source in sources] == ["one"] * 3
    assert len(endpoint.forms) == 1


def test_a_token_that_was_refused_is_dropped_for_all_who_read_the_file(tmp_path: Path) -> None:
    file, shared = tmp_path / "secret", MemoryTokenCache()
    file.write_text(SECRET)
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        source = endpoint.source(SecretFile(file), cache=Process(shared))
        source.invalidate(source.get_token())
        assert endpoint.source(SecretFile(file), cache=Process(shared)).get_token().token == "two"


def test_an_assertion_is_not_a_secret_of_the_same_text(tmp_path: Path) -> None:
    file, cache = tmp_path / "credential", MemoryTokenCache()
    file.write_text(JWT)
    with TokenEndpoint(token("one"), token("two")) as endpoint:
        secret = endpoint.source(SecretFile(file), cache=cache)
        assertion = endpoint.source(None, assertion=SecretFile(file), cache=cache)
        assert secret != assertion
        assert (secret.get_token().token, assertion.get_token().token) == ("one", "two")


# ---- real processes and a real Redis ---------------------------------------------------------


MEMBERS = """
import json, os, ssl, sys
from cryptography.fernet import Fernet
import redis
from exo_imap_oauth import InboxConfig
from exo_imap_oauth.redis_cache import RedisTokenCache

arguments = json.loads(sys.argv[1])
held, let_go = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.close(let_go)
        os.read(held, 1)
        inbox = InboxConfig.from_env(environ=arguments["environment"])
        context = ssl.create_default_context(cadata=arguments["ca"])
        cache = RedisTokenCache(
            redis.Redis.from_url(arguments["redis"], socket_timeout=2, socket_connect_timeout=2),
            key=arguments["key"].encode(),
        )
        inbox.token_source(cache=cache, ssl_context=context).get_token()
        os._exit(0)
os.close(let_go)
sys.exit(any(os.wait()[1] for _ in range(4)))
"""


@pytest.mark.parametrize("variable", ["CLIENT_SECRET", "CLIENT_SECRET_FILE", "ASSERTION_FILE"])
def test_four_processes_and_a_credential_in_a_file_make_one_request(
    exchange: Any, redis_binary: str, tmp_path: Path, variable: str
) -> None:
    value = exchange.secret.value
    if variable == "ASSERTION_FILE":
        trust = exchange.add_federated_credential(
            exchange.app, "https://cluster.example/", "reader"
        )
        value = trust.assertion()
    if variable.endswith("_FILE"):
        (tmp_path / "credential").write_text(f"{value}\n")
        value = str(tmp_path / "credential")
    environment = {
        "EXO_IMAP_USER": exchange.mailbox,
        "EXO_IMAP_TOKEN_URI": exchange.token_uri(),
        "EXO_IMAP_CLIENT_ID": exchange.app.client_id,
        f"EXO_IMAP_{variable}": value,
    }
    with RedisServer(redis_binary, tmp_path) as server:
        arguments = {
            "environment": environment,
            "ca": exchange.write_ca(tmp_path / "ca").read_text(),
            "redis": server.url,
            "key": KEY.decode(),
        }
        run = subprocess.run(
            [sys.executable, "-c", MEMBERS, json.dumps(arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    assert len(exchange.token_requests) == 1
