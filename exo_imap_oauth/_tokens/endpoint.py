"""One token request: the form, the HTTP exchange, and its tries.

Importing this module loads requests, so token sources do it at their first fetch only.
"""

from __future__ import annotations

import copy
import logging
import random
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import requests
from requests.exceptions import ChunkedEncodingError, ContentDecodingError

from exo_imap_oauth._text import quotable
from exo_imap_oauth._tokens.answers import (
    Outcome,
    Reply,
    meaning_of,
    no_connection,
    no_credential,
    no_trust,
)
from exo_imap_oauth._tokens.https import exchange, proxy_of
from exo_imap_oauth._trust import default_context
from exo_imap_oauth._version import __version__
from exo_imap_oauth.access_token import AccessToken, ticks
from exo_imap_oauth.errors import InsecureConnectionError, TokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo_imap_oauth._tokens.request import TokenRequest
    from exo_imap_oauth.errors import ExoImapOAuthError

_logger = logging.getLogger(__name__)

_MAX_BODY = 1_048_576  # bytes
_SHORTEST_TRY = 0.1  # s; with less than that left of the deadline, no answer would come in time
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 8.0
_PASSING_FAILURES = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)
_SECRET_FIELDS = ("client_secret", "client_assertion")


def request_token(request: TokenRequest) -> AccessToken | ExoImapOAuthError:
    """Ask the token endpoint, again where that may help, until the deadline.

    It never raises.

    Returns:
        The token, or the error for the caller to raise: the last answer of the endpoint, since
        a try that found nobody, or ran out of time, tells less.
    """
    return ask_until_deadline(request).result


def ask_until_deadline(request: TokenRequest) -> Outcome:
    """The same, and whether the deadline was used up in vain.

    It was not if the endpoint's first answer asks for a pause that is longer.
    """
    give_up_at = time.monotonic() + request.deadline
    backoff = _FIRST_BACKOFF
    last_answer: ExoImapOAuthError | None = None
    while True:
        began = time.monotonic()
        # Even the first try may begin late, and no timeout may be negative.
        left = max(_left(give_up_at), _SHORTEST_TRY)
        outcome = _tried(request, min(request.timeout, left))
        result = outcome.result
        if isinstance(result, AccessToken) or not outcome.may_heal:
            return outcome
        if outcome.is_answer:
            last_answer = result
        # From try to try: an endpoint that keeps silent has had its pause. "Retry-After: 0" is no
        # invitation to spin.
        pause = random.uniform(0, backoff) - (time.monotonic() - began)  # noqa: S311 - no secret
        pause = max(pause, result.retry_after or 0.0)
        is_first = backoff == _FIRST_BACKOFF
        backoff = min(2 * backoff, _LONGEST_BACKOFF)
        if not _slept(pause, give_up_at):
            is_at_once = is_first and (result.retry_after or 0.0) >= request.deadline
            return Outcome(last_answer or result, in_vain=not is_at_once)


def _slept(pause: float, give_up_at: float) -> bool:
    """Sleep, if that leaves time for another try; a sleep may come back late."""
    if _left(give_up_at) < pause + _SHORTEST_TRY:
        return False
    time.sleep(pause)
    return _left(give_up_at) >= _SHORTEST_TRY


def _left(give_up_at: float) -> float:
    return give_up_at - time.monotonic()


def _tried(request: TokenRequest, timeout: float) -> Outcome:
    """One try, with a line about it in the log."""
    started = time.monotonic()
    outcome = _exchange(request, timeout)
    result = outcome.result
    _logger.debug(
        "token request to %s for application %s: %s after %.3f s",
        request.token_uri,
        request.client_id,
        "a token" if isinstance(result, AccessToken) else f"{result.args[0]}",
        time.monotonic() - started,
    )
    return outcome


def server_date(request: TokenRequest) -> str | ExoImapOAuthError:
    """Whether the endpoint's server can be reached, over verified TLS.

    Returns:
        The ``Date`` of its answer to a GET of its root, empty if there is none; or the error
        for the caller to raise.
    """
    outer = sys.exception()
    root = urljoin(request.token_uri, "/")
    prepared = requests.Request("GET", root, {"Connection": "close"}).prepare()
    try:
        context = request.ssl_context or default_context()
        with exchange(prepared, context, request.timeout) as response:
            return quotable(response.headers.get("Date", ""))
    except InsecureConnectionError as error:
        return copy.copy(error)  # without traceback and context
    except requests.RequestException as error:
        return no_connection(request, error, outer, proxy_of(root))
    except OSError as error:
        return no_trust(request, error)


def _exchange(request: TokenRequest, timeout: float) -> Outcome:
    """One HTTP exchange and what it means."""
    outer = sys.exception()  # not ours, if a caller fetches while handling one
    try:
        credential = request.credential.form_fields(request)
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        return Outcome(no_credential(error))
    secrets = [value for name, value in credential.items() if name in _SECRET_FIELDS]
    try:
        return meaning_of(request, _post(request, credential, timeout, secrets))
    except InsecureConnectionError as error:
        return Outcome(copy.copy(error))  # the same
    except requests.RequestException as error:
        proxy = proxy_of(request.token_uri)
        failure = no_connection(request, error, outer, proxy, secrets)
        passing = isinstance(error, _PASSING_FAILURES) and failure.retryable
        return Outcome(failure, passing, is_answer=False)
    except OSError as error:
        return Outcome(no_trust(request, error))
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for an outcome
        return Outcome(TokenError(f"the token request failed: {type(error).__name__}"))


def _post(
    request: TokenRequest, credential: Mapping[str, str], timeout: float, secrets: list[str]
) -> Reply:
    """Send the form over a connection of its own and read a bounded answer.

    Raises:
        requests.RequestException: The exchange failed.
        InsecureConnectionError: The TLS context does not verify.
        OSError: The certificates that the environment names cannot be read.
    """
    form = {
        "client_id": request.client_id,
        "scope": request.scope,
        "grant_type": "client_credentials",
        **credential,
    }
    headers = {
        "Accept": "application/json",
        "Connection": "close",
        "User-Agent": f"exo-imap-oauth/{__version__}",
    }
    prepared = requests.Request("POST", request.token_uri, headers, data=form).prepare()
    context = request.ssl_context or default_context()
    sent_at, sent_ticks = time.time(), ticks()
    with exchange(prepared, context, timeout) as response:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":  # some urllib3 unpack a few bytes to a gigabyte
            raise ContentDecodingError("the answer is compressed, which was not asked for")
        body = bytearray()
        for chunk in response.iter_content(8192):
            body += chunk
            if len(body) > _MAX_BODY:
                raise ContentDecodingError(f"the answer is longer than {_MAX_BODY} bytes")
    return Reply(response.status_code, response.headers, bytes(body), sent_at, sent_ticks, secrets)
