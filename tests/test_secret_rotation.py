"""A client secret is replaced while a token source is in use, and no call fails."""

from __future__ import annotations

import os
import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.leaks import everything_in
from support.token_endpoint import CLIENT, SECRET, TokenEndpoint, http, rejected, token

from exo_imap_oauth import InboxConfig, _files, load_config
from exo_imap_oauth._credentials.secret_file import SecretFile
from exo_imap_oauth.errors import ConfigError, TokenError, TokenRequestRejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_imap_oauth import TokenSource

NEW = "n3w~secret/Value"
VAULT_TOKEN = "hvs.CAESIJ8dF0m2kq7nXvT1yR3uLw9zBcE5gHs4oPqA6iKjMxNz"


class Vault:
    """Gives the secret that is set, and counts."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        return self.secret


class Tenant(TokenEndpoint):
    """A token endpoint that knows which secrets are valid, as Entra does."""

    def __init__(self, *secrets: str) -> None:
        super().__init__(self.judge)
        self.secrets = set(secrets)
        self.issued = 0

    def judge(self, connection: Any) -> None:
        if self.forms[-1]["client_secret"] in self.secrets:
            self.issued += 1
            connection.sendall(token(f"token-{self.issued}"))
        else:
            connection.sendall(rejected(7000222))


def expire(source: TokenSource) -> None:
    """Have the token that is held come to its end."""
    source.invalidate(source._slot.token)


def fetch_ahead(source: TokenSource) -> None:
    """Have the time come to fetch the next token, ask for one, and wait for that fetch."""
    slot = source._slot
    due = replace(slot.token, refresh_on=int(slot.token.obtained_on) - 1)
    slot.cache.set(slot.cache_key, due)
    slot.hold(due)
    assert source.get_token() == due  # at once, whatever comes of the fetch
    limit = time.monotonic() + 60
    while slot.flight is not None:
        assert time.monotonic() < limit
        threading.Event().wait(0.005)


# ---- a callable ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [7000222, 7000215])
def test_a_secret_that_was_replaced_is_used_at_once_after_a_refusal(code: int) -> None:
    vault = Vault(SECRET)
    with TokenEndpoint(rejected(code), token("new")) as endpoint:
        source = endpoint.source(vault)
        with pytest.raises(TokenRequestRejected):
            source.get_token()
        vault.secret = NEW
        assert source.get_token().token == "new"
    assert [form["client_secret"] for form in endpoint.forms] == [SECRET, NEW]


def test_the_same_secret_is_not_sent_again_at_once_after_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vault = Vault(SECRET)
    with TokenEndpoint(rejected()) as endpoint:
        source = endpoint.source(vault)
        errors: list[TokenRequestRejected] = []
        for _ in range(4):
            # As programs do that open their mailbox anew each time.
            with pytest.raises(TokenRequestRejected) as raised:
                endpoint.source(vault).get_token()
            errors.append(raised.value)
        assert len(endpoint.forms) == 1
        assert vault.calls == 4
        assert len({str(error) for error in errors}) == 1
        assert len({id(error) for error in errors}) == 4

        until = source._slot.refused_until
        with pytest.raises(TokenRequestRejected):
            source.get_token()
        assert source._slot.refused_until == until  # what is repeated is not remembered for longer
        monkeypatch.setattr(source._slot, "refused_until", 0.0)  # 5 s later
        with pytest.raises(TokenRequestRejected):
            source.get_token()
        assert len(endpoint.forms) == 2


def test_a_secret_id_that_a_callable_gives_is_called_one() -> None:
    with TokenEndpoint(rejected(7000215)) as endpoint:
        with pytest.raises(TokenRequestRejected, match="the column Secret ID was copied"):
            endpoint.source(Vault("0b5e1c9a-1d3f-4a67-9c1e-2f6f3c1d7a10")).get_token()


def test_a_forced_fetch_sends_even_the_refused_secret() -> None:
    with TokenEndpoint(rejected(), token("forced")) as endpoint:
        source = endpoint.source(Vault(SECRET))
        with pytest.raises(TokenRequestRejected):
            source.get_token()
        assert source.get_token(claims="{}").token == "forced"


def test_two_applications_with_one_vault_do_not_share_a_refusal() -> None:
    vault = Vault(SECRET)
    with TokenEndpoint(rejected(), token("other")) as endpoint:
        with pytest.raises(TokenRequestRejected):
            endpoint.source(vault).get_token()
        other = endpoint.source(vault, scope="https://outlook.office.com/.default")
        assert other.get_token().token == "other"


@pytest.mark.parametrize("returned", ["", "a\nb", None, b"bytes"])
def test_a_callable_that_gives_no_secret_is_reported_and_nothing_is_sent(returned: Any) -> None:
    with TokenEndpoint(token()) as endpoint:
        with pytest.raises(TokenError, match="the client_secret callable gave no usable secret"):
            endpoint.source(Vault(returned)).get_token()
    assert endpoint.forms == []


def test_what_a_callable_gave_is_not_shown_when_it_is_echoed_or_in_its_error() -> None:
    def fails() -> str:
        raise RuntimeError(f"refused:\n{VAULT_TOKEN} " + 10_000 * "x")

    with TokenEndpoint(http(400, {"error": "x", "error_description": f"bad {NEW}"})) as endpoint:
        with pytest.raises(TokenError) as echoed:
            endpoint.source(Vault(NEW)).get_token()
        with pytest.raises(TokenError, match="RuntimeError: refused") as raised:
            endpoint.source(fails).get_token()
    assert NEW not in everything_in(echoed.value)
    assert VAULT_TOKEN not in everything_in(raised.value)
    assert len(raised.value.args[0]) < 600
    assert "\n" not in raised.value.args[0]


# ---- rotation --------------------------------------------------------------------------------


def test_no_call_fails_while_a_secret_is_rotated_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "client_secret"
    file.write_text(f"{SECRET}\n")
    with Tenant(SECRET) as tenant:
        source = tenant.source(SecretFile(file))
        assert source.get_token().token == "token-1"

        tenant.secrets.add(NEW)  # the administrator makes a second one,
        fetch_ahead(source)
        assert source.get_token().token == "token-2"

        replace_file(file, NEW)  # has it put into the file,
        expire(source)
        assert source.get_token().token == "token-3"

        tenant.secrets.remove(SECRET)  # and deletes the old one
        expire(source)
        assert source.get_token().token == "token-4"
    assert [form["client_secret"] for form in tenant.forms] == [SECRET, SECRET, NEW, NEW]


def test_no_call_fails_where_the_old_secret_ends_before_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "client_secret"
    file.write_text(SECRET)
    with Tenant(SECRET) as tenant:
        source = tenant.source(SecretFile(file))
        source.get_token()
        tenant.secrets = {NEW}
        fetch_ahead(source)
        assert source.get_token().token == "token-1"  # still, since that fetch was refused
        replace_file(file, NEW)
        expire(source)
        assert source.get_token().token == "token-2"
    assert [form["client_secret"] for form in tenant.forms] == [SECRET, SECRET, NEW]


def configured(tenant: Tenant, file: Path) -> InboxConfig:
    """An inbox of a cmsbs-conf whose secret is in a file."""
    prefix = "cmsbs.mail.imap."
    lines = {
        "server": "localhost",
        "port": "993",
        "ssl": "true",
        "user": "inbox@contoso.example",
        "authenticationMethod": "oauth2",
        "oauth2.accessTokenUri": tenant.url,
        "oauth2.clientId": CLIENT,
        "oauth2.clientSecret$file": file.name,
        "oauth2.grantType": "client_credentials",
    }
    conf = file.with_name("um.properties")
    conf.write_text("".join(f"{prefix}{key} = {value}\n" for key, value in lines.items()))
    return load_config(conf, environ={}).default


def from_environment(tenant: Tenant, file: Path) -> InboxConfig:
    """An inbox of a container whose secret is in a file."""
    variables = {
        "USER": "inbox@contoso.example",
        "TOKEN_URI": tenant.url,
        "CLIENT_ID": CLIENT,
        "CLIENT_SECRET_FILE": str(file),
    }
    return InboxConfig.from_env("X_", environ={f"X_{name}": v for name, v in variables.items()})


@pytest.mark.parametrize("inbox_of", [configured, from_environment])
def test_no_call_fails_while_the_file_that_a_configuration_names_is_rotated(
    tmp_path: Path, inbox_of: Callable[[Tenant, Path], InboxConfig]
) -> None:
    file = tmp_path / "client_secret"
    file.write_text(f"{SECRET}\n")
    with Tenant(SECRET) as tenant:
        inbox = inbox_of(tenant, file)
        assert pickle.loads(pickle.dumps(inbox)) == inbox
        assert SECRET not in repr(inbox)
        source = inbox.token_source(ssl_context=tenant.ssl_context)
        assert source == inbox_of(tenant, file).token_source(ssl_context=tenant.ssl_context)
        assert source.get_token().token == "token-1"
        tenant.secrets.add(NEW)
        replace_file(file, NEW)
        fetch_ahead(source)
        tenant.secrets.remove(SECRET)
        expire(source)
        assert source.get_token().token == "token-3"
    assert [form["client_secret"] for form in tenant.forms] == [SECRET, NEW, NEW]


@pytest.mark.parametrize("inbox_of", [configured, from_environment])
@pytest.mark.parametrize("content", [None, "", "<client_secret>", f"{CLIENT}"])
def test_the_secret_in_a_file_is_checked_when_the_configuration_is_read(
    tmp_path: Path, inbox_of: Callable[[Tenant, Path], InboxConfig], content: str | None
) -> None:
    file = tmp_path / "client_secret"
    if content is not None:
        file.write_text(content)
    with Tenant() as tenant, pytest.raises(ConfigError):
        inbox_of(tenant, file)


def replace_file(file: Path, text: str) -> None:
    """As container platforms do it: at no moment is there half a file."""
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)


# ---- SecretFile ------------------------------------------------------------------------------


def test_a_secret_file_gives_what_is_in_it_now_without_one_line_end(tmp_path: Path) -> None:
    file = tmp_path / "client_secret"
    read = SecretFile(file)
    for written in (b"a~b", b"a~b\n", b"a~b\r\n", b"\xef\xbb\xbfa~b"):
        file.write_bytes(written)
        assert read() == "a~b"
    file.write_bytes(b"a~b \n\n")
    assert read() == "a~b \n"


def test_a_relative_path_stays_the_same_file_wherever_the_program_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "client_secret").write_text("a~b")
    monkeypatch.chdir(tmp_path)
    read = SecretFile(Path("client_secret"))
    monkeypatch.chdir("/")
    assert read() == "a~b"


def test_secret_files_are_equal_by_path_pickle_and_show_nothing(tmp_path: Path) -> None:
    file = SecretFile(tmp_path / "a")
    assert file == SecretFile(tmp_path / "a")
    assert hash(file) == hash(SecretFile(tmp_path / "a"))
    assert file != SecretFile(tmp_path / "b")
    assert file != tmp_path / "a"
    assert pickle.loads(pickle.dumps(file)) == file
    assert repr(file) == "<SecretFile>"


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    binary, large, pipe = tmp_path / "binary", tmp_path / "large", tmp_path / "pipe"
    binary.write_bytes(b"s\xff\xfe")
    large.write_bytes(b"s" * 65_537)
    os.mkfifo(pipe)
    for file, why in (
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (binary, "it is not text in UTF-8"),
        (large, "it is larger than 65,536 bytes"),
        (pipe, "it is a device, a pipe or a socket"),
    ):
        with pytest.raises(OSError, match=why) as raised:
            SecretFile(file)()
        assert str(file) in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"first part"])
def test_a_file_that_waits_for_more_is_no_file(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /proc/kmsg does, which calls itself a regular file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(_files, "_require_file", print)
    with pipe.open("r+b", buffering=0) as writer:
        writer.write(content)
        with pytest.raises(OSError, match="it is a device, a pipe or a socket, not a file"):
            SecretFile(pipe)()


def test_a_missing_file_is_named_in_the_error_of_the_token_request(tmp_path: Path) -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source(SecretFile(tmp_path / "client_secret"))
        with pytest.raises(TokenError, match="could not be obtained: OSError: ") as raised:
            source.get_token()
    assert "client_secret cannot be read: No such file or directory" in str(raised.value)
