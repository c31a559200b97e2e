"""One fetch of a token: its thread, the cache or the endpoint, and those who wait for it."""

from __future__ import annotations

import _thread
import copy
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from exo_imap_oauth._process_lock import no_fork
from exo_imap_oauth._text import described
from exo_imap_oauth._threads import started, thread_of
from exo_imap_oauth._tokens.visit import CacheVisit
from exo_imap_oauth.access_token import AccessToken, expires_at, refresh_at
from exo_imap_oauth.errors import ExoImapOAuthError, TokenEndpointUnavailable, TokenError

if TYPE_CHECKING:
    import threading

    from exo_imap_oauth._tokens.request import TokenRequest
    from exo_imap_oauth._tokens.slot import Flight, Slot

_GRACE = 0.1  # s for a fetch that met its deadline to say what happened
_SHORTEST_DEADLINE = 0.1  # s; for a fetch that begins late, which may help the next caller
_LONGEST_WAIT = 1.0  # s; a longer one was seen to swallow Ctrl-C on busy machines


def get_token(slot: Slot, request: TokenRequest, *, forced: bool = False) -> AccessToken:
    """A valid token: the one held, while the next is fetched if it is time, or a new one.

    Raises:
        TokenError: There is none; for each caller a copy of its own.
        InsecureConnectionError: The TLS context no longer verifies.
    """
    token, flight, outage, starts_flight = slot.ask(
        request.deadline, forced=forced, may_have_changed=request.credential.may_change
    )
    if starts_flight:
        assert flight is not None
        _start(slot, request, flight, is_awaited=token is None and outage is None)
    if token is not None:
        return token
    if outage is not None:
        raise outage
    assert flight is not None
    return _wait_for(slot, request, flight)


# ---- the caller ------------------------------------------------------------------------------


def _start(slot: Slot, request: TokenRequest, flight: Flight, *, is_awaited: bool) -> None:
    """Fetch in a thread of its own; where none can start, here, or not at all."""
    thread = thread_of("token", _fetch, slot, request, flight)
    if not is_awaited:
        _start_detached(slot, flight, thread)
    elif not started(thread):
        _fetch(slot, request, flight)


def _start_detached(slot: Slot, flight: Flight, thread: threading.Thread) -> None:
    """Start a thread from another one: ``start()`` waits for it, whoever has an answer need not."""
    failure = TokenError("no thread can be started")

    def start_or_land() -> None:
        if not started(thread):
            slot.land(flight, failure)

    try:
        _thread.start_new_thread(start_or_land, ())
    except RuntimeError:  # it would be a daemon, or one too many
        start_or_land()


def _wait_for(slot: Slot, request: TokenRequest, flight: Flight) -> AccessToken:
    """What the flight brings; its token, or a copy of its error for this caller alone."""
    in_time = _wait(flight.done, request.deadline + _GRACE)
    outcome, latest, now = flight.outcome, slot.token, slot.clock()
    if isinstance(outcome, AccessToken):
        if outcome is latest and refresh_at(outcome) <= now < expires_at(outcome):
            return get_token(slot, request)  # it came from the cache: have the next one fetched
        return outcome
    if not flight.forced and now < expires_at(latest):
        return latest  # of a later flight, after this one was given up for lost
    if not in_time or outcome is None:
        failure = _no_answer(request, "no answer")
        slot.give_up(flight, failure)
        raise copy.copy(failure)
    raise copy.copy(outcome)


def _wait(event: threading.Event, seconds: float) -> bool:
    give_up_at = time.monotonic() + seconds
    while not event.wait(max(0.0, min(give_up_at - time.monotonic(), _LONGEST_WAIT))):
        if time.monotonic() >= give_up_at:
            return False
    return True


def _no_answer(request: TokenRequest, what: str) -> TokenEndpointUnavailable:
    with no_fork:
        from exo_imap_oauth.advice import explain  # noqa: PLC0415 - seldom needed

    return TokenEndpointUnavailable(
        f"{request.token_uri}: {what} for {request.deadline:g} s",
        advice=explain("token-endpoint-unreachable", token_uri=request.token_uri),
    )


# ---- its thread ------------------------------------------------------------------------------


def _fetch(slot: Slot, request: TokenRequest, flight: Flight) -> None:
    outcome: AccessToken | ExoImapOAuthError = TokenError("the token request was interrupted")
    try:
        outcome = _cached_or_requested(slot, request, flight)
    except Exception as error:  # noqa: BLE001 - a user's cache may raise anything
        outcome = _failure("getting a token failed", error, request, slot.token)
    except BaseException as error:  # noqa: BLE001 - Ctrl-C, where the caller itself fetches
        raise error.with_traceback(None) from None  # whose frames hold the form
    finally:
        slot.land(flight, outcome)


def _cached_or_requested(
    slot: Slot, request: TokenRequest, flight: Flight
) -> AccessToken | ExoImapOAuthError:
    began_at = time.monotonic()
    if request.credential.is_in_file:
        current = _current(request, request.deadline)
        if isinstance(current, Exception):
            return current
        request, slot.cache_key = current, current.cache_key
    # A third for another process that fetches, half for the cache with that, and the rest for the
    # endpoint, of whose time the cache takes nothing.
    lease = min(request.timeout, request.deadline / 3)
    with CacheVisit(slot, flight, lease) as visit:
        found = visit.find(request.deadline / 2)
        if isinstance(found, Exception):
            return _failure("getting a token failed", found, request, slot.token)
        if found is not None:
            return found
        left = request.deadline - (time.monotonic() - began_at)
        result = _requested(slot, request, flight, max(left, _SHORTEST_DEADLINE))
        fetched = result if isinstance(result, AccessToken) else None
        left = request.deadline - (time.monotonic() - began_at)
        failure = visit.end(fetched, max(left / 2, 0.0))
    if fetched is not None and failure is not None:
        return _failure("the token cache failed", failure, request, fetched)
    return result


def _current(request: TokenRequest, deadline: float) -> TokenRequest | ExoImapOAuthError:
    """The request with its credential as it is now, or why there can be none."""
    try:
        return replace(request, credential=request.credential.current(), deadline=deadline)
    except ExoImapOAuthError as error:
        return error.with_traceback(None)


def _requested(
    slot: Slot, request: TokenRequest, flight: Flight, deadline: float
) -> AccessToken | ExoImapOAuthError:
    """A new token of the endpoint; or its last refusal, if it would say the same again."""
    current = _current(request, deadline)
    if isinstance(current, Exception):
        return current
    request, flight.credential = current, current.credential.fingerprint
    if (refusal := slot.refusal_of(flight)) is not None:
        return refusal
    with no_fork:
        from exo_imap_oauth._tokens.endpoint import ask_until_deadline  # noqa: PLC0415 - slow

    outcome = ask_until_deadline(request)
    flight.in_vain = outcome.in_vain
    return outcome.result


def _failure(what: str, error: Exception, request: TokenRequest, token: AccessToken) -> TokenError:
    secrets = [token.token, *request.credential.secrets]
    return TokenError(f"{what}: {described(error, secrets)}")
