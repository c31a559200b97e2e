"""What the token endpoint's answer means, or that there is none: a token, or an error.

Errors are returned, not raised: a traceback would hold frames that hold the secret. Of what
others said they show no secret, and of an answer that might be a token, nothing at all.
"""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from exo_imap_oauth._text import described, json_object, one_line, quotable
from exo_imap_oauth._trust import unreadable_bundle
from exo_imap_oauth.access_token import AccessToken, count_from
from exo_imap_oauth.advice import Advice, advise, explain
from exo_imap_oauth.errors import TokenEndpointUnavailable, TokenError, TokenRequestRejected
from exo_imap_oauth.xoauth2 import is_bearer_token

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from exo_imap_oauth._tokens.https import Proxy
    from exo_imap_oauth._tokens.request import TokenRequest
    from exo_imap_oauth.errors import ExoImapOAuthError

_MAX_ERROR = 65_536  # bytes of a body that may choose the advice; Entra's errors have about 1,000
_MAX_CODE, _MAX_CODES = 10**9, 20  # Entra's have up to seven digits, and come one at a time
_LONGEST_LIFETIME = 10 * 365 * 24 * 3600  # s; a longer one is a mistake of the endpoint
_LONGEST_PAUSE = 6 * 3600.0  # s, as newer releases of urllib3 bound a Retry-After
_SUCCESS, _CLIENT_ERROR = 2, 4  # hundreds
_OK, _TOO_MANY_REQUESTS = 200, 429
_REFUSED_BY_PROXY = re.compile(r"OSError: Tunnel connection failed: (403|407)\b")  # http.client
_NO_ENDPOINT = (404, 405)  # a server, but nothing there that takes a token request
# urllib3 is asked to judge what may heal; it must not do the waiting, which has no deadline.
_RETRY = Retry(allowed_methods=None, status_forcelist=[_TOO_MANY_REQUESTS, *range(500, 600)])


class Outcome(NamedTuple):
    """What one try came to."""

    result: AccessToken | ExoImapOAuthError
    may_heal: bool = False
    is_answer: bool = True  # of the endpoint, not of the network on the way there
    in_vain: bool = False  # it was tried until the deadline


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    sent_at: float  # the request, Unix seconds
    sent_ticks: float  # the same by the monotonic clock
    secrets: Collection[str] = field(repr=False)  # of the request, which no text may show

    def quoted(self, value: object) -> str:
        """What may be shown of a text in the answer; "" if it is none."""
        return quotable(value, self.secrets) if isinstance(value, str) else ""

    @property
    def text(self) -> str:
        """As much of the body as an error can have."""
        return self.body[:_MAX_ERROR].decode(errors="replace")


def meaning_of(request: TokenRequest, reply: Reply) -> Outcome:
    """What an answer means."""
    answer = json_object(reply.body)
    kind = reply.status // 100
    if kind == _SUCCESS:
        return _token(request, reply, answer)
    is_refusal = kind == _CLIENT_ERROR and reply.status != _TOO_MANY_REQUESTS
    if is_refusal and answer and "error" in answer:
        return _rejection(request, reply, answer)
    return _unavailable(request, reply, _what_it_says(reply, answer))


# ---- an answer -------------------------------------------------------------------------------


def _token(request: TokenRequest, reply: Reply, answer: dict[str, Any] | None) -> Outcome:
    """HTTP 200: a token, if it is one (RFC 6749 section 5.1)."""
    problem = _problem_of(reply, answer)
    if answer is None or problem:
        return _unavailable(request, reply, problem)
    lifetime = _seconds(answer["expires_in"])
    expires_on = int(reply.sent_at + lifetime)
    margin = min(request.refresh_margin, lifetime / 2)
    refresh_in = _seconds(answer.get("refresh_in")) or lifetime - margin
    token = AccessToken(
        token=answer["access_token"],
        expires_on=expires_on,
        refresh_on=min(int(reply.sent_at + refresh_in), expires_on),
        obtained_on=reply.sent_at,
    )
    return Outcome(count_from(token, reply.sent_ticks))


def _problem_of(reply: Reply, answer: dict[str, Any] | None) -> str:
    """Why the answer to a request that succeeded is not a token, without a word of its body."""
    if answer is None:
        content_type = reply.quoted(reply.headers.get("Content-Type"))
        return f"not a JSON object (Content-Type: {content_type or 'none'})"
    if "access_token" not in answer:
        return "an error, and no access_token" if "error" in answer else "no access_token"
    if not is_bearer_token(answer["access_token"]):
        return "an access_token that no login can send"
    token_type = answer.get("token_type")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        return "no token_type that is Bearer"
    if not _seconds(answer.get("expires_in")):
        return "no expires_in that is a number of seconds"
    return "" if reply.status == _OK else "a token, but with another status than 200"


def _rejection(request: TokenRequest, reply: Reply, answer: dict[str, Any]) -> Outcome:
    """HTTP 4xx with an OAuth error: a refusal (RFC 6749 section 5.2)."""
    error = reply.quoted(answer["error"]) or reply.quoted(json.dumps(answer["error"]))
    description, _, _ = reply.quoted(answer.get("error_description")).partition(" Trace ID:")
    correlation_id = reply.quoted(answer.get("correlation_id")) or None
    details = [f"HTTP {reply.status}", error]
    if correlation_id:
        details.append(f"correlation ID {correlation_id}")
    return Outcome(
        TokenRequestRejected(
            f"{_host(request)} refused the token request of application {request.client_id}:"
            f" {description or error} ({', '.join(details)})",
            advice=_advice(request, reply),
            retryable=error in ("temporarily_unavailable", "server_error"),
            retry_after=_retry_after(reply),
            error=error,
            error_codes=_codes(answer.get("error_codes")),
            correlation_id=correlation_id,
            trace_id=reply.quoted(answer.get("trace_id")) or None,
            status=reply.status,
        )
    )


def _codes(value: object) -> list[int]:
    """Those of an answer that are codes; a longer number might be anything."""
    codes = cast("list[object]", value)[:_MAX_CODES] if isinstance(value, list) else []
    return [code for code in codes if isinstance(code, int) and 0 < code < _MAX_CODE]


def _unavailable(request: TokenRequest, reply: Reply, says: str) -> Outcome:
    """Anything else: throttling, an outage, a gateway's page."""
    may_heal = _RETRY.is_retry("POST", reply.status)
    what = "no usable answer" if may_heal else "an answer that is not a token"
    details = ", ".join(filter(None, (f"HTTP {reply.status}", says)))
    return Outcome(
        TokenEndpointUnavailable(
            f"{_host(request)} gave {what}: {details}",
            advice=_advice(request, reply) or explain(_advice_id(reply.status), **request.known),
            retryable=may_heal or reply.status == _OK,
            retry_after=_retry_after(reply),
        ),
        may_heal,
    )


def _what_it_says(reply: Reply, answer: dict[str, Any] | None) -> str:
    """What an answer that is an error says, as far as it can be shown."""
    if answer:
        said = reply.quoted(answer.get("error_description")) or reply.quoted(answer.get("error"))
    else:
        said = "" if "access_token" in reply.text else reply.quoted(reply.text)
    if location := reply.headers.get("Location"):
        where = _host_in(reply.quoted(location))  # hidden first: a host comes in small letters
        said = f"a redirect to {where}, which is not followed. {said}"
    return said


def _advice(request: TokenRequest, reply: Reply) -> Advice | None:
    """The advice on what the answer says, or on a path where no token endpoint is."""
    advice = advise(reply.text, stage="token", **request.known)
    if advice is None and reply.status in _NO_ENDPOINT:
        return explain(_advice_id(reply.status), **request.known)
    return advice


def _advice_id(status: int) -> str:
    if status in _NO_ENDPOINT:
        return "token-uri-wrong"
    if status == _TOO_MANY_REQUESTS:
        return "throttled"
    return "entra-unavailable" if _RETRY.is_retry("POST", status) else "token-endpoint-unreachable"


# ---- no answer -------------------------------------------------------------------------------


def no_connection(
    request: TokenRequest,
    error: Exception,
    outer: BaseException | None,
    proxy: Proxy | None,
    secrets: Collection[str] = (),
) -> TokenEndpointUnavailable:
    """The error for an exchange that failed.

    What the caller was handling already, ``outer``, stands behind ``error``.
    """
    cause = _innermost(error, outer)
    secrets = [*secrets, *(proxy.secrets if proxy else ())]
    said = described(cause, secrets)
    untrusted = isinstance(cause, ssl.SSLCertVerificationError)
    advice_id = "certificate-untrusted" if untrusted else "token-endpoint-unreachable"
    problem = _problem_on_the_way(error, said)
    known, through = request.known, ""
    if untrusted and request.ssl_context is None:
        known |= unreadable_bundle(cause)
    if proxy is not None:
        known |= proxy.known | {"proxy_problem": problem}
        through = f" through {proxy.shown}" if problem != "malformed" else ""
    return TokenEndpointUnavailable(
        f"{_host(request)} cannot be reached{through}: {said}",
        advice=explain(advice_id, **known),
        retryable=not (untrusted or problem),
    )


def _problem_on_the_way(error: Exception, said: str) -> str:
    """What somebody must change there, in the words of the table of advice; "" if nothing."""
    if isinstance(error, ValueError):  # a URL or a proxy that cannot work
        return "malformed"
    refused = _REFUSED_BY_PROXY.match(said)
    return refused[1] if refused else ""


def no_trust(request: TokenRequest, error: OSError) -> TokenEndpointUnavailable:
    """The error for a CA bundle that cannot be read."""
    advice = explain("certificate-untrusted", **request.known, **unreadable_bundle(error))
    return TokenEndpointUnavailable(one_line(str(error)), advice=advice, retryable=False)


def no_credential(error: Exception) -> TokenError:
    """The error for a credential that cannot be obtained; it says so itself if it can."""
    if isinstance(error, TokenError):
        return error.with_traceback(None)
    return TokenError(f"the credential could not be used: {described(error)}")


def _innermost(error: BaseException, outer: BaseException | None) -> BaseException:
    """The innermost exception: requests and urllib3 wrap it."""
    inner = error.__context__
    is_replaced = error.__suppress_context__ and error.__cause__ is None  # "from None"
    if inner is None or inner is outer or is_replaced:
        return error
    return _innermost(inner, outer)


# ---- both ------------------------------------------------------------------------------------


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


def _retry_after(reply: Reply) -> float | None:
    try:
        seconds = _RETRY.parse_retry_after(reply.headers["Retry-After"])
    except (KeyError, InvalidHeader, ValueError, OverflowError):  # the year 99999, for example
        return None
    return float(min(seconds, _LONGEST_PAUSE))
