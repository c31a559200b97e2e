"""docs/how-to/containers.md: its files are sound, and its program runs as they say."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.pages import DOCS, blocks, run

from exo_imap_oauth import Cloud, InboxConfig, load_config

if TYPE_CHECKING:
    from exo_imap_oauth.testing import ReadyExchange

yaml = pytest.importorskip("yaml", reason="pip install pyyaml")

PAGE = DOCS / "how-to/containers.md"
PROGRAM, FEDERATED = blocks(PAGE, "python")
COMPOSE, KUBERNETES, WORKLOAD_IDENTITY = (
    list(yaml.safe_load_all(block.text)) for block in blocks(PAGE, "yaml")
)
DOCKERFILE = [line.partition(" ") for (block,) in [blocks(PAGE, "dockerfile")]
              for line in block.text.splitlines()]  # fmt: skip
SECRET = "the-Value-of-the-client-secret"
INBOX = InboxConfig.for_tenant(
    "contoso.onmicrosoft.com",
    user="inbox@contoso.example",
    client_id="22222222-2222-4222-8222-222222222222",
    client_secret=SECRET,
)


def service() -> dict[str, Any]:
    found: dict[str, Any] = COMPOSE[0]["services"]["reader"]
    return found


def pod(documents: list[Any]) -> dict[str, Any]:
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


def container(documents: list[Any]) -> dict[str, Any]:
    (found,) = pod(documents)["containers"]
    result: dict[str, Any] = found
    return result


def variables(documents: list[Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(documents)["env"]}


# ---- the files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["compose", "kubernetes"])
def test_the_variables_make_an_inbox_with_the_secret_in_its_file(
    which: str, tmp_path: Path
) -> None:
    environ = dict(service()["environment"]) if which == "compose" else variables(KUBERNETES)
    named = Path(environ["EXO_IMAP_CLIENT_SECRET_FILE"])
    secret = tmp_path / named.name
    secret.write_text(f"{SECRET}\n")
    inbox = InboxConfig.from_env(environ=environ | {"EXO_IMAP_CLIENT_SECRET_FILE": str(secret)})
    assert callable(inbox.client_secret)
    assert replace(inbox, client_secret=inbox.client_secret()) == INBOX
    assert inbox.warnings == ()


def test_the_secret_is_mounted_where_the_variable_says() -> None:
    assert service()["secrets"] == list(COMPOSE[0]["secrets"]) == ["client_secret"]
    path = Path(service()["environment"]["EXO_IMAP_CLIENT_SECRET_FILE"])
    assert path == Path("/run/secrets/client_secret")  # where Compose mounts it

    secret, path = KUBERNETES[0], Path(variables(KUBERNETES)["EXO_IMAP_CLIENT_SECRET_FILE"])
    mounts = {each["mountPath"]: each for each in container(KUBERNETES)["volumeMounts"]}
    volumes = {each["name"]: each for each in pod(KUBERNETES)["volumes"]}
    mount = mounts[str(path.parent)]
    volume = volumes[mount["name"]]
    assert "subPath" not in mount
    assert volume["secret"] == {"secretName": secret["metadata"]["name"], "defaultMode": 0o440}
    assert secret["stringData"] == {path.name: SECRET}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)


def test_nothing_runs_as_root_or_writes_beside_its_temporary_folder() -> None:
    lines = {instruction: value for instruction, _, value in DOCKERFILE}
    user, group = map(int, lines["USER"].split(":"))
    context = pod(KUBERNETES)["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (user, group)
    assert context["runAsNonRoot"] is True
    assert context["fsGroup"] == group  # so that the secret can be read
    assert container(KUBERNETES)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (service()["read_only"], service()["tmpfs"]) == (True, ["/tmp"])


@pytest.mark.parametrize("documents", [KUBERNETES, WORKLOAD_IDENTITY])
def test_one_pod_reads_the_mailbox_at_a_time(documents: list[Any]) -> None:
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    spec = deployment["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()


def test_the_probe_fails_while_one_message_takes_more_than_ten_minutes(tmp_path: Path) -> None:
    command = container(KUBERNETES)["livenessProbe"]["exec"]["command"]
    probe = [each.replace("/tmp", str(tmp_path)) for each in command]
    assert probe != command

    def code() -> int:
        return subprocess.run(probe, check=False, timeout=60).returncode

    assert code() == 0
    working = tmp_path / "working"
    working.touch()
    assert code() == 0
    long_ago = time.time() - 700
    os.utime(working, (long_ago, long_ago))
    assert code() == 1


def test_the_settings_of_universal_messenger_read_the_mounted_secret(tmp_path: Path) -> None:
    (block,) = blocks(PAGE, "properties")
    secret = tmp_path / "client_secret"
    secret.write_text(f"{SECRET}\n")
    folder = tmp_path / "cmsbs-conf"
    folder.mkdir()
    text = block.text.replace("/run/secrets/reader/client_secret", str(secret))
    assert text != block.text
    (folder / "cmsbs.properties").write_text(text)
    config = load_config(folder, environ={})
    assert callable(config.default.client_secret)
    assert replace(config.default, client_secret=config.default.client_secret()) == INBOX
    assert config.warnings == ()


# ---- the program -------------------------------------------------------------------------------


def environment(exchange: ReadyExchange, folder: Path) -> dict[str, str]:
    """The variables of the page, in a tenant that exists, and what the image sets."""
    kept = {name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")}
    (image,) = (value for instruction, _, value in DOCKERFILE if instruction == "ENV")
    page = variables(KUBERNETES)
    del page["EXO_IMAP_TENANT_ID"]
    own = {
        "EXO_IMAP_USER": exchange.mailbox,
        "EXO_IMAP_TOKEN_URI": exchange.token_uri(),
        "EXO_IMAP_CLIENT_ID": exchange.app.client_id,
        "EXO_IMAP_CLIENT_SECRET_FILE": str(folder / "..data" / "client_secret"),
        "EXO_IMAP_HOST": exchange.host,
        "EXO_IMAP_PORT": str(exchange.port),
    }
    return kept | dict(each.split("=") for each in shlex.split(image)) | page | own


def mount(folder: Path, secret: str, name: str) -> None:
    """Put a secret into a folder as Kubernetes does: by another target of a link."""
    (folder / name).mkdir(parents=True)
    (folder / name / "client_secret").write_text(secret)
    (folder / "new").symlink_to(name)
    (folder / "new").rename(folder / "..data")


def command(tmp_path: Path) -> list[str]:
    """What the image runs, with the program in a folder of the test."""
    lines = {instruction: value for instruction, _, value in DOCKERFILE}
    program = tmp_path / "reader.py"
    program.write_text(PROGRAM.text.replace("/tmp/working", str(tmp_path / "tmp/working")))
    source, target = lines["COPY"].split()
    assert source == program.name
    python, *arguments = json.loads(lines["CMD"])
    assert (python, arguments) == ("python", [target])
    return [sys.executable, "-W", "error", str(program)]


def test_the_program_reads_until_sigterm_and_leaves_no_file(
    trusted_exchange: ReadyExchange, tmp_path: Path
) -> None:
    secrets, cwd = tmp_path / "secrets", tmp_path / "cwd"
    mount(secrets, trusted_exchange.secret.value, "first")
    cwd.mkdir()
    (tmp_path / "tmp").mkdir()
    environ = environment(trusted_exchange, secrets) | {"HOME": str(cwd), "TMPDIR": str(cwd)}
    with subprocess.Popen(
        command(tmp_path), cwd=cwd, env=environ, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        told = [program.stdout.readline() for _ in range(3)]
        program.send_signal(signal.SIGTERM)
        rest, _ = program.communicate(timeout=60)
    assert program.returncode == 0
    assert [line.rpartition(" INFO ")[2] for line in told] == [
        f"default: Sample message {number}\n" for number in (1, 2, 3)
    ]
    assert trusted_exchange.secret.value not in "".join(told) + rest
    assert list(cwd.iterdir()) == list((tmp_path / "tmp").iterdir()) == []


def test_the_program_forgets_its_last_run_and_says_which_variable_is_wrong(
    trusted_exchange: ReadyExchange, tmp_path: Path
) -> None:
    environ = environment(trusted_exchange, tmp_path)  # where no secret is mounted
    left_behind = tmp_path / "tmp/working"
    left_behind.parent.mkdir()
    left_behind.touch()
    result = subprocess.run(
        command(tmp_path), env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 1
    assert "EXO_IMAP_CLIENT_SECRET_FILE: its file" in result.stderr
    assert not left_behind.exists()  # the probe would have the next container killed for it


def test_a_secret_that_kubernetes_replaces_is_read_for_the_next_token(
    trusted_exchange: ReadyExchange, tmp_path: Path
) -> None:
    exchange = trusted_exchange
    mount(tmp_path, exchange.secret.value, "first")
    inbox = InboxConfig.from_env(environ=environment(exchange, tmp_path))
    source = inbox.token_source()
    source.get_token()
    exchange.expire_client_secret(exchange.secret)
    mount(tmp_path, exchange.add_client_secret(exchange.app).value, "second")
    source.get_token(claims="{}")
    assert [request.outcome for request in exchange.token_requests] == ["issued", "issued"]


def test_the_command_for_a_running_pod_prints_the_report(
    trusted_exchange: ReadyExchange, tmp_path: Path
) -> None:
    (block,) = blocks(PAGE, "sh")
    words = shlex.split(block.text)
    python, *arguments = words[words.index("--") + 1 :]
    assert (words[0], python) == ("kubectl", "python")
    mount(tmp_path, trusted_exchange.secret.value, "first")
    result = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=environment(trusted_exchange, tmp_path),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.startswith("Set-up of inbox@contoso.example: 12 passed, 1 skipped\n")


def test_the_token_that_the_cluster_replaces_opens_the_mailbox(
    trusted_exchange: ReadyExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = trusted_exchange
    (account,) = (each for each in WORKLOAD_IDENTITY if each["kind"] == "ServiceAccount")
    assert pod(WORKLOAD_IDENTITY)["serviceAccountName"] == account["metadata"]["name"]
    subject = f"system:serviceaccount:mail:{account['metadata']['name']}"
    cluster = exchange.add_federated_credential(exchange.app, "https://cluster.example/", subject)
    file = tmp_path / "azure-identity-token"
    file.write_text(cluster.assertion())
    authority = exchange.token_uri().partition(f"/{exchange.app.tenant_id}")[0]
    monkeypatch.setattr(Cloud.WORLDWIDE, "authority", authority)
    for name, value in variables(WORKLOAD_IDENTITY).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZURE_TENANT_ID", exchange.app.tenant_id)
    monkeypatch.setenv("AZURE_CLIENT_ID", exchange.app.client_id)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    names: dict[str, Any] = {}
    run(FEDERATED, names)
    inbox = replace(names["inbox"], host=exchange.host, port=exchange.port)
    with inbox.open():
        pass

    exchange.advance_clock(7200)  # the first one has expired
    file.write_text(cluster.assertion())
    assert inbox.token_source().get_token(claims="{}").claims["appid"] == exchange.app.client_id
