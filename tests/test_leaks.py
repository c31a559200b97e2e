"""No secret and no token leaves by any channel, whatever the servers, libraries and users do."""

from __future__ import annotations

import base64
import gc
import html
import imaplib
import itertools
import logging
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote_plus

import pytest
from support.echoing_imap import EchoingImap
from support.leak_calls import bad_paths, good_paths
from support.leak_certificates import certificate_paths
from support.leak_channels import (
    CHANNELS,
    MUST_HOLD,
    Recorder,
    Several,
    channels_of_client,
    channels_of_error,
    channels_of_value,
)
from support.leak_configs import config_paths
from support.leak_listening import listening_paths, raising_paths, reply_paths
from support.leak_paths import (
    IMAP_STAGES,
    LeakPath,
    World,
    imap_paths,
    token_endpoint_paths,
)
from support.leak_proxies import proxy_paths
from support.leak_services import listener_paths, redis_paths
from support.leaks import SECRET, TESTS, TOKEN, leaks_in
from support.token_endpoint import TokenEndpoint, rejected, token

from exo_imap_oauth import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Compare = Callable[[Any, Any], str]

_SLICES = 8  # of the longest stage, so that several workers share it


def _stages() -> dict[str, list[LeakPath]]:
    stages = {f"IMAP, {stage}": [*imap_paths(stage)] for stage in IMAP_STAGES}
    endpoint = [*token_endpoint_paths()]
    for number in range(_SLICES):
        stages[f"token endpoint, {number + 1} of {_SLICES}"] = endpoint[number::_SLICES]
    stages["calls that end well"] = [*good_paths()]
    stages["wrong calls"] = [*bad_paths()]
    stages["proxies and CA bundles"] = [*proxy_paths()]
    stages["certificates"] = [*certificate_paths()]
    stages["configuration"] = [*config_paths()]
    stages["a cache in Redis"] = [*redis_paths()]
    stages["a listener"] = [*listener_paths()]
    listening = [*listening_paths()]
    for number in range(2 * _SLICES):
        stages[f"listening, {number + 1} of {2 * _SLICES}"] = listening[number :: 2 * _SLICES]
    stages["functions of a listener"] = [*raising_paths()]
    stages["replies"] = [*reply_paths()]
    return stages


STAGES = _stages()
_MANY = ("IMAP", "token endpoint", "listening")
SLOW_STAGES = {name for name in STAGES if name.startswith(_MANY)} - {
    "IMAP, GREETING",
    f"token endpoint, 1 of {_SLICES}",
    f"listening, 1 of {2 * _SLICES}",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two IMAP servers and a token endpoint for all paths."""
    with TokenEndpoint(token()) as endpoint, EchoingImap() as imap:
        with EchoingImap(tls=False) as starttls:
            yield World(endpoint, imap, starttls, tmp_path_factory.mktemp("leaks"))


@pytest.fixture
def world(servers: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The servers; a fetch that may be repeated fails at once, since no pause is short enough."""

    def longer_than_any_deadline(_low: float, _high: float) -> float:
        return 1e6

    monkeypatch.setattr("random.uniform", longer_than_any_deadline)
    yield servers
    with warnings.catch_warnings():  # what is left open is the business of test_fault_matrix
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def compare(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """What pytest shows of a comparison that fails, with ``-vv``."""
    monkeypatch.setattr(pytestconfig.option, "verbose", 2)

    def compare(left: Any, right: Any) -> str:
        explanations: list[list[str] | None] = pytestconfig.hook.pytest_assertrepr_compare(
            config=pytestconfig, op="==", left=left, right=right
        )
        return "\n".join(line for lines in explanations for line in lines or [])

    return compare


class Hit(NamedTuple):
    """Something that leaked."""

    path: str
    what: str
    channel: str


def hits_on(path: LeakPath, world: World, compare: Compare, seen: set[str]) -> Iterator[Hit]:
    """Go a path and look into every channel; ``seen`` takes the names of the channels."""
    failure: BaseException | None = None
    value: object = None
    with Recorder(imaplib_speaks=not path.echoes) as recorder:
        try:
            value = path.go(world, *path.arguments)
        except AssertionError:  # of the path itself, which did not go where it was to go
            raise
        except Exception as error:
            failure = error
            logging.getLogger("tests").exception("it failed")
    shown = value if failure is None else failure
    searched: dict[str, set[str]] = {}
    for channel, text in itertools.chain(recorder.channels(), _channels_of(shown, compare)):
        seen.add(channel)
        if text not in searched:
            searched[text] = leaks_in(text)
        if searched[text] and (type(shown).__name__, channel) not in MUST_HOLD:
            yield Hit(path.name, " and ".join(sorted(searched[text])), channel)


def _channels_of(shown: object, compare: Compare) -> Iterator[tuple[str, str]]:
    if isinstance(shown, Several):
        return itertools.chain.from_iterable(_channels_of(part, compare) for part in shown)
    if isinstance(shown, BaseException):
        return channels_of_error(shown, compare)
    if isinstance(shown, imaplib.IMAP4):
        return channels_of_client(shown)
    return channels_of_value(shown, compare)


def _report(hits: set[Hit]) -> Iterator[str]:
    """A line for each path and what leaked on it."""
    by_path: dict[tuple[str, str], list[str]] = {}
    for hit in sorted(hits):
        by_path.setdefault((hit.path, hit.what), []).append(hit.channel)
    for (path, what), channels in by_path.items():
        yield f"{path}: {what} in {', '.join(channels)}"


@pytest.mark.parametrize(
    "stage",
    [pytest.param(s, marks=pytest.mark.slow) if s in SLOW_STAGES else s for s in STAGES],
)
def test_nothing_leaks(stage: str, world: World, compare: Compare) -> None:
    seen: set[str] = set()
    hits = {hit for path in STAGES[stage] for hit in hits_on(path, world, compare, seen)}
    summary = f"{stage}: {len(STAGES[stage])} paths, {len(seen)} channels, {len(hits)} hits"
    print(summary)  # noqa: T201 - it is what this test is asked for, with pytest -s
    assert seen <= set(CHANNELS)
    if hits:  # no assert, whose diff would be longer than its message
        pytest.fail("\n".join([summary, *_report(hits)]), pytrace=False)


def test_there_are_paths_and_channels_enough() -> None:
    paths = sum(map(len, STAGES.values()))
    print(f"{paths} paths, {len(set(CHANNELS))} channels")  # noqa: T201 - as above
    assert paths >= 1_000
    assert len(set(CHANNELS)) >= 25


# ---- the harness itself ----------------------------------------------------------------------


def _an_inbox_without_answers(world: World) -> object:
    world.endpoint.then(rejected())
    return world.source().get_token()


def _found(go: Callable[[World], object], world: World, compare: Compare) -> set[str]:
    return {hit.channel for hit in hits_on(LeakPath("planted", go), world, compare, set())}


def test_without_a_planted_leak_nothing_is_found(world: World, compare: Compare) -> None:
    assert _found(_an_inbox_without_answers, world, compare) == set()


def test_a_leak_planted_in_an_error_is_found(
    world: World, compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(_: errors.ExoImapOAuthError) -> str:
        return f"refused {SECRET[3:25]}"

    monkeypatch.setattr(errors.ExoImapOAuthError, "__str__", leaky)
    found = _found(_an_inbox_without_answers, world, compare)
    assert {"str", "printed traceback", "log with tracebacks"} <= found


def test_a_leak_planted_in_an_attribute_is_found(world: World, compare: Compare) -> None:
    def go(world: World) -> object:
        try:
            return _an_inbox_without_answers(world)
        except errors.TokenError as error:
            vars(error)["form"] = {"client_secret": SECRET}
            raise

    found = _found(go, world, compare)
    assert {"attributes", "pickle", "copy", "pprint", "pytest: assertion diff"} <= found


def test_a_leak_planted_behind_an_error_is_found(world: World, compare: Compare) -> None:
    def go(_: World) -> object:
        try:
            raise OSError(f"sent {quote_plus(SECRET)}")  # noqa: TRY301 - it is planted
        except OSError:
            raise errors.TokenError("refused") from None

    assert {"str", "args", "repr"} <= _found(go, world, compare)


@pytest.mark.parametrize(
    ("channel", "speak"),
    [
        ("log messages", lambda: logging.getLogger("exo_imap_oauth.x").debug("with %s", TOKEN)),
        ("log messages", lambda: logging.getLogger("urllib3.x").debug(base64_of(TOKEN))),
        ("warnings", lambda: warnings.warn(TOKEN[:200], stacklevel=1)),
        ("stdout, debug output of http.client", lambda: print(html.escape(SECRET))),  # noqa: T201 - planted
        ("stderr, debug output of imaplib", lambda: sys.stderr.write(TOKEN[-40:])),
        ("hooks of threads and of what cannot be raised", lambda: _fail_in_a_thread()),  # noqa: PLW0108 - defined below
    ],
    ids=["package", "urllib3", "warning", "stdout", "stderr", "thread"],
)
def test_a_leak_planted_on_the_way_is_found(
    channel: str, speak: Callable[[], object], world: World, compare: Compare
) -> None:
    def go(_: World) -> object:
        speak()
        return None

    assert channel in _found(go, world, compare)


def test_a_leak_planted_in_a_value_is_found(world: World, compare: Compare) -> None:
    @dataclass
    class Careless:
        name: str
        secret: str

    found = _found(lambda _: Careless("a", SECRET), world, compare)
    assert {"repr", "format", "pprint", "pytest: assertion diff", "pytest: locals"} <= found


def test_what_must_hold_a_secret_is_excused_there_and_nowhere_else(
    world: World, compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {path.name: path.go for path in STAGES["calls that end well"] + STAGES["configuration"]}
    excused: dict[str, Callable[..., object]] = {
        "AccessToken": calls["an access token"],
        "InboxConfig": calls["an inbox"],
        "Property": calls["properties.parse"],
        "Setting": calls["load_config, a setting"],
    }
    for kind, go in excused.items():
        assert _found(go, world, compare) == set(), kind
    for place in [*MUST_HOLD]:
        monkeypatch.delitem(MUST_HOLD, place)
    found = {(kind, at) for kind, go in excused.items() for at in _found(go, world, compare)}
    monkeypatch.undo()
    assert found == set(MUST_HOLD)


def base64_of(text: str) -> str:
    """With something before it, so that the characters are other ones."""
    return base64.b64encode(b"user=" + text.encode()).decode()


def _fail_in_a_thread() -> None:
    def fail() -> None:
        raise ValueError(TOKEN)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


# ---- pytest itself ---------------------------------------------------------------------------

_FAILING_TESTS = """
from exo_imap_oauth import AccessToken, InboxConfig, TokenSource, load_config, properties
from support.leaks import FILE_SECRET, SECRET, TOKEN

FIELDS = dict(
    token_uri="https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token",
    client_id="6a1d2c3b-0f4e-4d5c-8b7a-9e8f7a6b5c4d",)

SECRETS = [SECRET, FILE_SECRET]  # two that differ, or a diff would leave them out

def settings_of(tmp_path, name, secret):
    path = tmp_path / name
    lines = dict(server="outlook.office365.com", port="993", ssl="true", user="a@b.example",
                 authenticationMethod="oauth2")
    lines |= {f"oauth2.{key}": value for key, value in dict(
        accessTokenUri=FIELDS["token_uri"], clientId=FIELDS["client_id"],
        clientSecret=secret).items()}
    path.write_text("".join(f"cmsbs.mail.imap.{k} = {v}\\n" for k, v in lines.items()))
    return load_config(path, environ={})

def test_tokens():
    one, other = (AccessToken(TOKEN + x, expires_on=1, refresh_on=1, obtained_on=0.0) for x in "ab")
    assert one == other

def test_inboxes():
    one, other = (InboxConfig(user="a@b.example", client_secret=s, **FIELDS) for s in SECRETS)
    assert one == other

def test_settings(tmp_path):
    key = "cmsbs.mail.imap.oauth2.clientSecret"
    one, other = (settings_of(tmp_path, s[:3], s).settings[key] for s in SECRETS)
    assert one == other

def test_configurations(tmp_path):
    one, other = (settings_of(tmp_path, s[:3], s) for s in SECRETS)
    assert one == other

def test_properties():
    one, other = (properties.parse(f"a.clientSecret = {s}")[0] for s in SECRETS)
    assert one == other

def test_sources():
    one, other = (TokenSource("contoso.example", "one", s) for s in SECRETS)
    assert one == other
"""


def test_a_failing_test_of_a_user_shows_nothing(tmp_path: Path) -> None:
    """``pytest -vv -l`` as a user runs it, in a process of its own."""
    file = tmp_path / "test_of_a_user.py"
    file.write_text(_FAILING_TESTS, "utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-vv", "-l", "-p", "no:cacheprovider", "-p", "no:xdist",
         "-o", f"pythonpath={TESTS}", "--rootdir", tmp_path, "--tb=long", file.name],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "6 failed" in run.stdout, run.stdout[-2000:]
    shown = [line for line in run.stdout.splitlines() if leaks_in(line)]
    assert shown == []


def test_what_is_excused_stands_in_the_threat_model_word_for_word() -> None:
    text = " ".join((Path(TESTS).parent / ".github" / "SECURITY.md").read_text("utf-8").split())
    plain = text.replace("`", "")
    assert [excuse for excuse in MUST_HOLD.values() if excuse not in plain] == []
