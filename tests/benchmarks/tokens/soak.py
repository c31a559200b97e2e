"""Keeps threads on a source of short-lived tokens while their endpoint fails and stalls.

Run from the root of the repository: python -m tests.benchmarks.tokens.soak [--seconds 600]
"""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import argparse
import faulthandler
import sys
import threading
import time
from collections import Counter

from exo_imap_oauth import AccessToken, TokenSource
from exo_imap_oauth.errors import TokenError

from .behaviour import FAILURES, Behaviour
from .contenders import CLIENT, SECRET
from .server import TokenServer

THREADS = 32
LIFE = 5  # s
FAILING, STALLING = 0.30, 0.05
TIMEOUT, DEADLINE = 1.0, 3.0  # s
_NOISE = 2.0  # s, that a caller may exceed the deadline by on a busy machine
_IDLE = 0.005  # s between a thread's calls
_SETTLED = 0.5  # s after which an error cannot be older than the token that others have


class Soak:
    """The threads, and what they saw."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._expires_on = 0  # of the newest token seen
        self._seen_at = 0.0
        self._stop = threading.Event()
        self.counts: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.longest = 0.0  # s, of any call
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(THREADS)]

    def run(self, seconds: float) -> None:
        for thread in self.threads:
            thread.start()
        time.sleep(seconds)
        self._stop.set()
        for thread in self.threads:
            thread.join(DEADLINE + _NOISE)
            if thread.is_alive():
                self.violations["deadlock"] += 1

    def _run(self) -> None:
        while not self._stop.wait(_IDLE):
            outcome: AccessToken | Exception
            started = time.monotonic()
            try:
                outcome = self._source.get_token()
            except Exception as error:  # noqa: BLE001 - it is what is counted
                outcome = error
            self._judge(outcome, time.monotonic() - started, time.time())

    def _judge(self, outcome: AccessToken | Exception, took: float, now: float) -> None:
        with self._lock:
            self.counts["calls"] += 1
            self.longest = max(self.longest, took)
            if took > DEADLINE + _NOISE:
                self.violations["beyond the deadline"] += 1
            if isinstance(outcome, AccessToken):
                if outcome.expires_on > self._expires_on:
                    self._expires_on, self._seen_at = outcome.expires_on, now
                self.counts["tokens"] += 1
                if now - took >= outcome.expires_on:
                    self.violations["an expired token"] += 1
                return
            self.counts["errors without a valid token"] += 1
            if not isinstance(outcome, TokenError):
                self.violations[f"a {type(outcome).__name__}"] += 1
            if self._seen_at + _SETTLED < now < self._expires_on:
                self.violations["an error while a valid token is held"] += 1


def behaviour() -> Behaviour:
    """Fails in all ways that leave the port open, and stalls."""
    failures = [kind for kind in FAILURES if kind not in ("refused", "stall")]
    share = FAILING / len(failures)
    kinds = [(kind, share) for kind in failures] + [("stall", STALLING)]
    healthy = ("token", 1 - FAILING - STALLING)
    return Behaviour((healthy, *kinds), expires_in=LIFE, refresh_in=None, hold=10**6)


def main() -> int:
    """Print the counts; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    seconds: float = parser.parse_args().seconds
    faulthandler.dump_traceback_later(seconds + 60, exit=True)  # even if all hangs
    with TokenServer() as server:
        endpoint = server.open(behaviour())
        source = TokenSource(
            "contoso.com",
            CLIENT,
            SECRET,
            token_uri=endpoint.token_uri("contoso.com"),
            timeout=TIMEOUT,
            deadline=DEADLINE,
        )
        soak = Soak(source)
        soak.run(seconds)
        seen = endpoint.counts()
    if seen.at_once > 1:
        soak.violations["requests in flight at once"] = seen.at_once
    print(f"{THREADS} threads, {seconds:.0f} s, tokens of {LIFE} s")
    print(f"callers: {dict(soak.counts)}, the longest call {soak.longest:.2f} s")
    print(f"endpoint: {seen._asdict()}")
    print(f"violations: {dict(soak.violations) or 'none'}")
    return bool(soak.violations)


if __name__ == "__main__":
    sys.exit(main())
