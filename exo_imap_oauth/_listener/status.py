"""What a listener does at a moment, for whoever asks from another thread."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["stopped", "connecting", "listening", "pausing", "handling"]


class ListenerStatus(NamedTuple):
    """What a listener does at this moment, for a health check.

    Attributes:
        state: What it does.
        since: Since when, Unix seconds.
        last_look: When it last asked the server what is unread, Unix seconds; None if never.
        handled: For how many messages ``handle`` has returned.
        failing: How many messages failed at their last attempt and are tried again.
        last_error: What went wrong last with the connection or the token; None if nothing has
            since a message was handled, or a connection lasted a minute.
    """

    state: State
    since: float
    last_look: float | None
    handled: int
    failing: int
    last_error: Exception | None


ListenerStatus.__module__ = "exo_imap_oauth.listener"  # where users find it
