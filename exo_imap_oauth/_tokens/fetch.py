"""One fetch of a token: its thread, the cache or the endpoint, and those who wait for it."""

from __future__ import annotations

import _thread
import copy
import threading
import time
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING

from exo_imap_oauth._process_lock import no_fork
from exo_imap_oauth._text import described
from exo_imap_oauth._threads import let_program_end
from exo_imap_oauth.access_token import AccessToken, expires_at, refresh_at
from exo_imap_oauth.errors import ExoImapOAuthError, TokenEndpointUnavailable, TokenError

if TYPE_CHECKING:
    from exo_imap_oauth._tokens.request import TokenRequest
    from exo_imap_oauth._tokens.slot import Flight, Slot

_GRACE = 0.1  # s for a fetch that met its deadline to say what happened
_SHORTEST_DEADLINE = 0.1  # s; for a fetch that begins late, which may help the next caller
_LOOK_AGAIN = 0.05  # s between looks into a cache whose lock another process holds
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
    # In the context of the caller: a tracer finds the span that the request belongs to, a log
    # filter its request ID, and a secret's function what the program has set.
    thread = threading.Thread(
        target=copy_context().run,
        args=(_fetch, slot, request, flight),
        name="exo_imap_oauth-token",
    )
    let_program_end(thread)
    if not is_awaited:
        _start_detached(slot, flight, thread)
    elif not _started(thread):
        _fetch(slot, request, flight)


def _start_detached(slot: Slot, flight: Flight, thread: threading.Thread) -> None:
    """Start a thread from another one: ``start()`` waits for it, whoever has an answer need not."""
    failure = TokenError("no thread can be started")

    def start_or_land() -> None:
        if not _started(thread):
            slot.land(flight, failure)

    try:
        _thread.start_new_thread(start_or_land, ())
    except RuntimeError:  # it would be a daemon, or one too many
        start_or_land()


def _started(thread: threading.Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


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
    # It only reads, so a cache whose answer comes too late holds no lock that nobody knows of.
    if (token := _cached(slot, flight, may_fetch=True)) is not None:
        return token
    # As long as one exchange may take. A lock saves requests, and no caller fails because of it:
    # who has waited for a whole lease fetches, with at least as much time left.
    lease = min(request.timeout, request.deadline / 2)
    while True:
        with slot.cache.lock(slot.cache_key, lease) as ours:
            spent = time.monotonic() - began_at
            may_fetch = ours or flight.forced or spent >= lease
            if (token := _cached(slot, flight, may_fetch=may_fetch)) is not None:
                return token
            if may_fetch:
                left = max(request.deadline - spent, _SHORTEST_DEADLINE)
                return _requested(slot, request, flight, left)
        time.sleep(_LOOK_AGAIN)


def _cached(slot: Slot, flight: Flight, *, may_fetch: bool) -> AccessToken | None:
    return None if flight.forced else slot.cached(may_fetch=may_fetch)


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
    result, flight.in_vain = outcome.result, outcome.in_vain
    if isinstance(result, AccessToken):
        try:
            slot.cache.set(slot.cache_key, result)
        except Exception as error:  # noqa: BLE001 - as above, but this one knows the new token
            return _failure("the token cache failed", error, request, result)
    return result


def _failure(what: str, error: Exception, request: TokenRequest, token: AccessToken) -> TokenError:
    secrets = [token.token, *request.credential.secrets]
    return TokenError(f"{what}: {described(error, secrets)}")
