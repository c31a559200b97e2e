"""One token request: the form, the HTTP exchange, its tries, and what the answer means.

Importing this module loads requests, so token sources do it at their first fetch only.
Failures are returned, not raised: a traceback would hold frames that hold the secret.
"""

from __future__ import annotations

import html
import json
import logging
import random
import ssl
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote_plus, unquote_plus, urljoin, urlsplit

import requests
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, ReadTimeout
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from exo_imap_oauth._text import json_object, one_line
from exo_imap_oauth._tokens.https import exchange
from exo_imap_oauth._trust import default_context
from exo_imap_oauth._version import __version__
from exo_imap_oauth.access_token import AccessToken
from exo_imap_oauth.advice import Advice, advise, explain
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError, TokenRequestRejected
from exo_imap_oauth.xoauth2 import is_bearer_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exo_imap_oauth._tokens.request import TokenRequest

_logger = logging.getLogger(__name__)

_MAX_BODY = 1_048_576  # bytes
_MAX_ERROR = 65_536  # bytes of a body that may choose the advice; Entra's errors have about 1,000
_LONGEST_LIFETIME = 10 * 365 * 24 * 3600  # s; a longer one is a mistake of the endpoint
_LONGEST_PAUSE = 6 * 3600.0  # s, as newer releases of urllib3 bound a Retry-After
_SHORTEST_TRY = 0.1  # s; with less than that left of the deadline, no answer would come in time
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 8.0
_PASSING_FAILURES = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)
# urllib3 is asked to judge what may heal; it must not do the waiting, which has no deadline.
_RETRY = Retry(allowed_methods=None, status_forcelist=[429, *range(500, 600)])


class _Outcome(NamedTuple):
    result: AccessToken | TokenError
    may_heal: bool = False
    is_answer: bool = True  # of the endpoint, not of the network on the way there


class _Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_at: float


def request_token(request: TokenRequest) -> AccessToken | TokenError:
    """Ask the token endpoint, again where that may help, until the deadline.

    It never raises.

    Returns:
        The token, or the error for the caller to raise: the last answer of the endpoint, since
        a try that found nobody, or ran out of time, tells less.
    """
    give_up_at = time.monotonic() + request.deadline
    backoff = _FIRST_BACKOFF
    last_answer: TokenError | None = None
    while True:
        # Even the first try may begin late, and no timeout may be negative.
        left = max(_left(give_up_at), _SHORTEST_TRY)
        outcome = _tried(request, min(request.timeout, left))
        result = outcome.result
        if isinstance(result, AccessToken) or not outcome.may_heal:
            return result
        if outcome.is_answer:
            last_answer = result
        pause = random.uniform(0, backoff)  # noqa: S311 - jitter is no secret
        pause = max(pause, result.retry_after or 0.0)  # "Retry-After: 0" is no invitation to spin
        backoff = min(2 * backoff, _LONGEST_BACKOFF)
        if not _slept(pause, give_up_at):
            return last_answer or result


def _slept(pause: float, give_up_at: float) -> bool:
    """Sleep, if that leaves time for another try; a sleep may come back late."""
    if _left(give_up_at) < pause + _SHORTEST_TRY:
        return False
    time.sleep(pause)
    return _left(give_up_at) >= _SHORTEST_TRY


def _left(give_up_at: float) -> float:
    return give_up_at - time.monotonic()


def _tried(request: TokenRequest, timeout: float) -> _Outcome:
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


def server_date(request: TokenRequest) -> str | TokenError:
    """Whether the endpoint's server can be reached, over verified TLS.

    Returns:
        The ``Date`` of its answer to a GET of its root, empty if there is none; or the error
        for the caller to raise.
    """
    root = urljoin(request.token_uri, "/")
    prepared = requests.Request("GET", root, {"Connection": "close"}).prepare()
    try:
        context = request.ssl_context or default_context()
        with exchange(prepared, context, request.timeout) as response:
            return response.headers.get("Date", "")
    except requests.RequestException as error:
        return _connection_failure(request, error)
    except OSError as error:
        return _no_trust(request, error)


def _exchange(request: TokenRequest, timeout: float) -> _Outcome:
    """One HTTP exchange and what it means."""
    try:
        return _meaning(request, _post(request, timeout))
    except requests.RequestException as error:
        failure = _connection_failure(request, error)
        passing = isinstance(error, _PASSING_FAILURES) and failure.retryable
        return _Outcome(failure, passing, is_answer=False)
    except OSError as error:
        return _Outcome(_no_trust(request, error))
    except TokenError as error:
        return _Outcome(error.with_traceback(None))
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for an outcome
        return _Outcome(TokenError(f"the token request failed: {type(error).__name__}"))


def _meaning(request: TokenRequest, reply: _Reply) -> _Outcome:
    answer = json_object(reply.body) or {}
    if reply.status == requests.codes.ok:
        return _token(request, reply, answer)
    if "error" in answer and 400 <= reply.status < 500 and reply.status != 429:  # noqa: PLR2004 - HTTP
        return _rejection(request, reply, answer)
    return _unavailable(request, reply, answer)


# ---- HTTP ------------------------------------------------------------------------------------


def _post(request: TokenRequest, timeout: float) -> _Reply:
    """Send the form over a connection of its own and read a bounded answer.

    Sent as prepared here, it takes nothing from ``~/.netrc`` or a bundle variable; proxies of
    the environment are used.

    Raises:
        requests.RequestException: The exchange failed.
        OSError: The certificates that the environment names cannot be read.
        TokenError: The credential cannot be obtained.
    """
    credential = request.credential.form_fields(request)
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
    sent_at, ends_at = time.time(), time.monotonic() + timeout
    with exchange(prepared, context, timeout) as response:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":  # some urllib3 unpack a few bytes to a gigabyte
            raise ContentDecodingError("the answer is compressed, which was not asked for")
        body = bytearray()
        for chunk in response.iter_content(8192):
            body += chunk
            if len(body) > _MAX_BODY:
                raise ContentDecodingError(f"the answer is longer than {_MAX_BODY} bytes")
        if time.monotonic() > ends_at:  # cut off, which may look like the end of the body
            raise ReadTimeout(f"the answer was not complete after {timeout:.1f} s")
    if _echoes(bytes(body), _secrets_in(credential)):
        body = bytearray(b"(an echo of the request)")  # it may be quoted from here on
    return _Reply(response.status_code, response.headers, bytes(body), sent_at)


def _secrets_in(fields: Mapping[str, str]) -> list[str]:
    """What a form holds that nobody else may see."""
    return [fields[name] for name in ("client_secret", "client_assertion") if name in fields]


def _echoes(body: bytes, secrets: Iterable[str]) -> bool:
    """Whether a body holds one of these, also in the escapes of HTML, URLs or JSON."""
    text = body.decode(errors="replace")
    parsed = json.dumps(json_object(body), ensure_ascii=False)
    readings = (text, html.unescape(text), unquote_plus(text), parsed)
    forms = [form for secret in secrets for form in _forms_of(secret)]
    return any(form in reading for form in forms for reading in readings)


def _forms_of(secret: str) -> tuple[str, ...]:
    in_json = json.dumps(secret).strip('"')
    return secret, quote_plus(secret), in_json


# ---- what an answer means --------------------------------------------------------------------


def _token(request: TokenRequest, reply: _Reply, answer: Mapping[str, Any]) -> _Outcome:
    """HTTP 200: a token, if it is one (RFC 6749 section 5.1)."""
    token = answer.get("access_token")
    lifetime = _seconds(answer.get("expires_in"))
    token_type = str(answer.get("token_type")).lower()
    if not (is_bearer_token(token) and lifetime and token_type == "bearer"):
        return _unavailable(request, reply, answer)
    expires_on = int(reply.sent_at + lifetime)
    margin = min(request.refresh_margin, lifetime / 2)
    refresh_in = _seconds(answer.get("refresh_in")) or lifetime - margin
    return _Outcome(
        AccessToken(
            token=token,
            expires_on=expires_on,
            refresh_on=min(int(reply.sent_at + refresh_in), expires_on),
            obtained_on=reply.sent_at,
        )
    )


def _rejection(request: TokenRequest, reply: _Reply, answer: Mapping[str, Any]) -> _Outcome:
    """HTTP 4xx with an OAuth error: a refusal (RFC 6749 section 5.2)."""
    error = one_line(str(answer["error"]))
    description, _, _ = one_line(str(answer.get("error_description", ""))).partition(" Trace ID:")
    codes = answer.get("error_codes")
    codes = cast("list[object]", codes) if isinstance(codes, list) else []
    correlation_id = _text(answer.get("correlation_id"))
    details = [f"HTTP {reply.status}", error]
    if correlation_id:
        details.append(f"correlation ID {correlation_id}")
    return _Outcome(
        TokenRequestRejected(
            f"{_host(request)} refused the token request of application {request.client_id}:"
            f" {description or error} ({', '.join(details)})",
            advice=_advice(request, reply),
            retryable=error in ("temporarily_unavailable", "server_error"),
            retry_after=_retry_after(reply),
            error=error,
            error_codes=[code for code in codes if isinstance(code, int)],
            correlation_id=correlation_id,
            trace_id=_text(answer.get("trace_id")),
            status=reply.status,
        )
    )


def _unavailable(request: TokenRequest, reply: _Reply, answer: Mapping[str, Any]) -> _Outcome:
    """Anything else: throttling, an outage, a gateway's page."""
    may_heal = _RETRY.is_retry("POST", reply.status)
    what = "no usable answer" if may_heal else "an answer that is not a token"
    details = ", ".join(filter(None, (f"HTTP {reply.status}", _quoted(reply, answer))))
    return _Outcome(
        TokenEndpointUnavailable(
            f"{_host(request)} gave {what}: {details}",
            advice=_advice(request, reply) or _advice_for_status(request, reply.status),
            retryable=may_heal or reply.status == requests.codes.ok,
            retry_after=_retry_after(reply),
        ),
        may_heal,
    )


def _quoted(reply: _Reply, answer: Mapping[str, Any]) -> str:
    """What the answer says, as far as it can be shown."""
    said = str(answer.get("error_description") or answer.get("error") or "")
    text = reply.body.decode(errors="replace")
    if not (said or answer) and "access_token" not in text:
        said = text
    said = one_line(said)
    if location := reply.headers.get("Location"):
        said = f"a redirect to {_host_in(location)}, which is not followed. {said}"
    return said


def _advice_for_status(request: TokenRequest, status: int) -> Advice:
    if status == requests.codes.too_many_requests:
        return explain("throttled")
    if _RETRY.is_retry("POST", status):
        return explain("entra-unavailable", **_known(request))
    return explain("token-endpoint-unreachable", **_known(request))


def _connection_failure(
    request: TokenRequest, error: requests.RequestException
) -> TokenEndpointUnavailable:
    """No answer at all."""
    cause = _innermost(error)
    untrusted = isinstance(cause, ssl.SSLCertVerificationError)
    advice_id = "certificate-untrusted" if untrusted else "token-endpoint-unreachable"
    malformed = isinstance(error, ValueError)  # a URL or a proxy that cannot work
    return TokenEndpointUnavailable(
        f"{_host(request)} cannot be reached: {type(cause).__name__}: {one_line(str(cause))}",
        advice=explain(advice_id, **_known(request)),
        retryable=not (untrusted or malformed),
    )


def _innermost(error: BaseException) -> BaseException:
    """The innermost exception: requests and urllib3 wrap it."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _no_trust(request: TokenRequest, error: OSError) -> TokenEndpointUnavailable:
    advice = explain("certificate-untrusted", **_known(request))
    return TokenEndpointUnavailable(one_line(str(error)), advice=advice, retryable=False)


def _known(request: TokenRequest) -> dict[str, str]:
    return {
        "tenant_id": request.tenant_id,
        "client_id": request.client_id,
        "token_uri": request.token_uri,
        "scope": request.scope,
    }


def _advice(request: TokenRequest, reply: _Reply) -> Advice | None:
    known = _known(request) | request.credential.known
    return advise(reply.body[:_MAX_ERROR].decode(errors="replace"), stage="token", **known)


def _host(request: TokenRequest) -> str:
    return urlsplit(request.token_uri).netloc


def _host_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or "somewhere"
    except ValueError:
        return "somewhere"


def _seconds(value: object) -> float:
    """A duration of an answer; Entra's older endpoints send numbers as strings."""
    try:
        seconds = float(value) if isinstance(value, (int, float, str)) else 0.0
    except (ValueError, OverflowError):  # an integer of 400 digits, for example
        return 0.0
    return seconds if 0 < seconds < _LONGEST_LIFETIME else 0.0


def _retry_after(reply: _Reply) -> float | None:
    try:
        seconds = _RETRY.parse_retry_after(reply.headers["Retry-After"])
    except (KeyError, InvalidHeader, ValueError, OverflowError):  # the year 99999, for example
        return None
    return float(min(seconds, _LONGEST_PAUSE))


def _text(value: object) -> str | None:
    return one_line(value) if isinstance(value, str) else None
