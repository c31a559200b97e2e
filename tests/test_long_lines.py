"""A server's line of a megabyte costs next to nothing, wherever it is said."""

from __future__ import annotations

import time

import pytest
from support.echoing_imap import EchoingImap

from exo_imap_oauth import open_mailbox
from exo_imap_oauth.errors import ImapError

MOST = 0.05  # s of this thread's time on the processor
LENGTH = 990_000  # characters; imaplib takes no line above a million
SHAPES = {
    "untagged": "* OK %s",
    "NO": "{tag} NO %s",
    "BAD": "{tag} BAD %s",
    "BYE": "* BYE %s",
    "challenge": "+ %s",
    "capability": "* CAPABILITY %s",
}
FILLINGS = ["x", "command error: NO [b'", "%7E", "Zq7"]


@pytest.mark.parametrize("stage", ["GREETING", "CAPABILITY", "AUTHENTICATE", "SELECT"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_line_of_a_megabyte_costs_next_to_nothing(stage: str, shape: str) -> None:
    costs: dict[str, float] = {}
    with EchoingImap() as server:
        for filling in FILLINGS:
            line = SHAPES[shape].replace("%s", filling * (LENGTH // len(filling)))
            server.replies = {stage: f"{line}\r\n"}
            costs[filling] = _cost(server)
    assert max(costs.values()) < MOST, costs


def _cost(server: EchoingImap) -> float:
    """The lesser of two, since the processor's caches are shared."""
    costs: list[float] = []
    for _ in range(2):
        began = time.thread_time()
        with pytest.raises(ImapError):
            with open_mailbox(
                "inbox@contoso.example",
                "header.payload.signature",
                host=server.host,
                port=server.port,
                ssl_context=server.ssl_context,
            ):
                pass
        costs.append(time.thread_time() - began)
    return min(costs)
