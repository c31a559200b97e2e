"""Creates and drops many identities, and prints what stays in memory; run by the benchmark."""

# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import gc
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_imap_oauth._tokens.answers import Outcome
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.token_cache import MemoryTokenCache
from exo_imap_oauth.token_source import TokenSource

if TYPE_CHECKING:
    from exo_imap_oauth._tokens.request import TokenRequest

CREATED = 100_000
MAXIMUM = 10_000  # the default of MemoryTokenCache


def _in_use() -> tuple[float, int]:
    """Resident MiB, which threads and fragments blur, and Python's objects, which are exact."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20, sys.getallocatedblocks()


def _answer(request: TokenRequest) -> Outcome:
    """Stands for the network, which would take 100,000 TLS handshakes."""
    now = int(time.time())
    text = (request.tenant_id * 400)[:2000]
    return Outcome(AccessToken(text, now + 3600, now + 3300, float(now)))


def _create_and_drop(tenant: str, cache: MemoryTokenCache) -> None:
    secret = partial(str, f"secret of {tenant}")  # its callable is remembered, too
    assert TokenSource(tenant, "client", secret, cache=cache).get_token()


def main() -> None:
    """Print one JSON object."""
    from exo_imap_oauth._tokens import endpoint as token_endpoint

    stand_in: Any = _answer
    token_endpoint.ask_until_deadline = stand_in
    cache = MemoryTokenCache(MAXIMUM)
    started = full = _in_use()
    for number in range(1, CREATED + 1):
        _create_and_drop(f"tenant-{number}.example", cache)
        if number == 2 * MAXIMUM:  # the cache has been full for a while
            full = _in_use()
    end = _in_use()
    found: dict[str, float] = {"created": CREATED, "cache_maximum": MAXIMUM}
    found["cached"] = len(cache._tokens)
    found |= {"mebibytes_full": full[0] - started[0], "mebibytes_end": end[0] - started[0]}
    found |= {"objects_full": full[1] - started[1], "objects_end": end[1] - started[1]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
