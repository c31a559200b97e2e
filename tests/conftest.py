"""Fixtures for all tests."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from support.concurrency import until
from support.config import HOW_TO
from support.dovecot import find_dovecot
from support.missing import skip_or_fail
from support.redis_server import find_redis
from support.servers import Servers, running_servers

from exo_imap_oauth import access_token
from exo_imap_oauth._tokens import slot as slots
from exo_imap_oauth.testing import ready_exchange
from exo_imap_oauth.testing._pool import ExchangePool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.oidc_provider import OidcProvider

    from exo_imap_oauth.testing import ReadyExchange


# As Hypothesis has it in CI by itself: a busy machine fails no test, and every run tries the same.
settings.register_profile(
    "any machine",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def no_fetch_outlives_its_test() -> Iterator[None]:
    """What goes on would ask an endpoint of a later test that happens to get the same port."""
    yield
    if not _threads():
        return

    def never(*_: object) -> bool:
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exo_imap_oauth._tokens.endpoint._slept", never)  # no more tries
        until(lambda: not _threads())


def _threads() -> list[threading.Thread]:
    """Those of the library, also if they are only just starting."""
    return [t for t in threading.enumerate() if t.name.startswith("exo_imap_oauth-")]


@pytest.fixture(scope="session")
def dovecot_binary() -> str:
    """Dovecot's path; without one the test is skipped, in CI it fails."""
    path = find_dovecot()
    if path is None:
        skip_or_fail("install it: apt-get install dovecot-core dovecot-imapd")
    return path


@pytest.fixture(scope="session")
def redis_binary() -> str:
    """redis-server's path; without one the test is skipped, in CI it fails."""
    path = find_redis()
    if path is None:
        skip_or_fail("install it: apt-get install redis-server")
    return path


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A cmsbs-conf folder with the how-to's block, filled in."""
    folder = tmp_path / "cmsbs-conf"
    folder.joinpath("conf.d").mkdir(parents=True)
    folder.joinpath("cmsbs.properties").write_text(HOW_TO, encoding="latin-1")
    return folder


@pytest.fixture
def exchange() -> Iterator[ReadyExchange]:
    """A loopback Exchange where every step of the administrator is done."""
    with ready_exchange(trust=False) as exchange:
        yield exchange


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The clock that the life of tokens is counted by, which the test moves by so many seconds."""
    offset = 0.0

    def move(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    def moved() -> float:
        return time.monotonic() + offset

    monkeypatch.setattr(slots, "SYSTEM_CLOCK", moved)
    stand_in = SimpleNamespace(monotonic=moved, time=lambda: time.time())  # noqa: PLW0108 - it may be set
    monkeypatch.setattr(access_token, "time", stand_in)
    return move


@pytest.fixture
def longest_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries at 0 s and 0.5 s and then not before 1.5 s, in place of pauses of random length.

    A deadline in between ends with the second answer, and not in the middle of a try.
    """

    def longest(_: float, high: float) -> float:
        return high

    monkeypatch.setattr("random.uniform", longest)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries one after the other, in place of pauses of random length."""

    def shortest(low: float, _: float) -> float:
        return low

    monkeypatch.setattr("random.uniform", shortest)


@pytest.fixture
def trusted_exchange() -> Iterator[ReadyExchange]:
    """The same, in the default trust, and tokens are cached for this test alone."""
    with ExchangePool() as pool, pool.factory() as factory:
        yield factory(ready=True)


@pytest.fixture(scope="session")
def oidc_provider() -> Iterator[OidcProvider]:
    """A certified OpenID provider; without Node.js the test is skipped, in CI it fails."""
    from support import oidc_provider as node

    reason = node.why_no_node()
    if reason is None:
        try:
            folder = node.install()
        except RuntimeError as error:
            reason = str(error)
        else:
            with node.OidcProvider(folder) as provider:
                yield provider
            return
    skip_or_fail(reason)


@pytest.fixture(scope="session")
def servers(dovecot_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A Dovecot, and an Exchange whose tokens it accepts; no test changes either for others."""
    with running_servers(dovecot_binary, tmp_path_factory.mktemp("servers")) as servers:
        yield servers
