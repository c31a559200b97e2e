"""Client assertions (RFC 7523 section 2.2): what Entra accepts, and how it refuses.

Two kinds come in the same two form fields. One is signed by the application itself with the key
of its certificate; the other is a token of a foreign issuer, whose name is an https URL.

The texts are those that people have published; which mistake is reported first when there are
several is a guess.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jwt

from exo_imap_oauth.testing._refusals import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt.types import Options

    from exo_imap_oauth.testing._identities import AppCertificate, FederatedCredential
    from exo_imap_oauth.testing._records import App

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ALGORITHMS = ["PS256", "RS256"]
_YEAR_10000 = 253_402_300_800  # Unix seconds, and the end of what datetime can show
_WRONG_SIGNATURE = "The provided signature value did not match the expected signature value."
_CERTIFICATE_PAGE = "https://learn.microsoft.com/entra/identity-platform/certificate-credentials"
_FEDERATION_PAGE = "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
_CHECK_YOURS = (
    "Check your federated identity credential Subject, Audience and Issuer against the presented"
    f" assertion. {_FEDERATION_PAGE}"
)


@dataclass(frozen=True, slots=True)
class _Assertion:
    """A client assertion, decoded and not verified."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    def is_signed_by(self, key: RSAPublicKey) -> bool:
        try:
            # Times and audience are checked below, in Entra's words and by the service's clock.
            options: Options = {
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": False,
            }
            jwt.decode(self.text, key, algorithms=_ALGORITHMS, options=options)
        except jwt.InvalidTokenError:
            return False
        return True


def check_assertion(
    text: str,
    app: App,
    *,
    token_uri: str,
    certificates: Sequence[AppCertificate],
    federated: Sequence[FederatedCredential],
    now: float,
) -> None:
    """Find out whether an assertion proves that its sender is this application.

    Args:
        text: The assertion, a JWT.
        app: The application.
        token_uri: The token endpoint of its tenant, as it was called.
        certificates: The certificates that were uploaded to it.
        federated: Its federated credentials.
        now: Unix seconds of the service's clock.

    Raises:
        Refused: It does not.
    """
    assertion = _decode(text)
    if not assertion.claims["iss"].startswith("https://"):
        _check_own_assertion(assertion, app, token_uri, certificates, now)
    elif federated:
        _check_foreign_token(assertion, federated)
    else:
        raise _not_federated(assertion.claims)
    _check_time(assertion, now)


def _decode(text: str) -> _Assertion:
    try:
        # A wrong type of a claim raises here, verified or not.
        whole = jwt.decode_complete(text, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise _malformed("JWT token is invalid or malformed.") from None
    header, claims = whole["header"], whole["payload"]
    if header.get("alg") not in _ALGORITHMS:
        text = "Invalid JWT token. Unsupported key for the signing algorithm."
        raise Refused(400, "invalid_request", 5002730, text)
    # A list of audiences is refused too.
    texts_are_there = all(isinstance(claims.get(name), str) for name in ("iss", "sub", "aud"))
    times_are_there = _is_time(claims.get("exp")) and _is_time(claims.get("nbf", 0))
    if not texts_are_there or not times_are_there:
        raise _malformed("JWT token is invalid or malformed.")
    return _Assertion(text, header, claims)


def _malformed(text: str) -> Refused:
    return Refused(400, "invalid_request", 50027, text)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < _YEAR_10000


def _refused(code: int, text: str) -> Refused:
    return Refused(401, "invalid_client", code, text)


# ---- with a certificate ----------------------------------------------------------------------


def _check_own_assertion(
    assertion: _Assertion,
    app: App,
    token_uri: str,
    certificates: Iterable[AppCertificate],
    now: float,
) -> None:
    claims = assertion.claims
    if claims["sub"] != claims["iss"]:
        text = "Subject must match the issuer claim in the client assertion."
        raise _refused(50048, text)
    if claims["iss"].lower() != app.client_id:
        text = (
            "Client assertion application identifier doesn't match 'client_id' parameter. Review"
            f" the documentation at {_CERTIFICATE_PAGE} ."
        )
        raise _refused(700021, text)
    thumbprint = _thumbprint(assertion.header)
    certificate = _find(certificates, thumbprint)
    if certificate is None:
        text = (
            "The certificate with identifier used to sign the client assertion is not registered"
            f" on application. {_reason('The key was not found.', thumbprint, app)}"
        )
        raise _refused(700027, text)
    if certificate.expires_on <= now:
        raise _invalid_signature("The key used is expired.", thumbprint, app, certificate)
    if not assertion.is_signed_by(certificate.public_key):
        raise _invalid_signature(_WRONG_SIGNATURE, thumbprint, app, certificate)
    if claims["aud"] != token_uri:
        text = (
            "Client assertion audience claim does not match Realm issuer. Review the documentation"
            f" at {_CERTIFICATE_PAGE} ."
        )
        raise _refused(700023, text)


def _thumbprint(header: Mapping[str, Any]) -> str:
    """The thumbprint that the header names, in hexadecimal digits."""
    encoded = header.get("x5t#S256") or header.get("x5t")
    if not encoded:
        text = "Invalid JWT token. No certificate thumbprint specified in token header."
        raise _malformed(text)
    try:
        return urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex().upper()
    except (TypeError, ValueError):
        raise _malformed("JWT token is invalid or malformed.") from None


def _find(certificates: Iterable[AppCertificate], thumbprint: str) -> AppCertificate | None:
    for certificate in certificates:
        if thumbprint in {certificate.thumbprint, certificate.thumbprint_sha256}:
            return certificate
    return None


def _invalid_signature(
    reason: str, thumbprint: str, app: App, certificate: AppCertificate
) -> Refused:
    why = _reason(reason, thumbprint, app, certificate)
    return _refused(700027, f"Client assertion contains an invalid signature. {why}")


def _reason(
    reason: str, thumbprint: str, app: App, certificate: AppCertificate | None = None
) -> str:
    parts = [f"Reason - {reason}", f"Thumbprint of key used by client: '{thumbprint}'"]
    if certificate is not None:
        start, end = _us_time(certificate.not_before), _us_time(certificate.expires_on)
        parts.append(f"Found key 'Start={start}, End={end}'")
    parts.append(
        "Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured"
        f" keys for app Id '{app.client_id}'. Review the documentation at"
        " https://docs.microsoft.com/en-us/graph/deployments to determine the corresponding"
        " service endpoint"
    )
    return f"[{', '.join(parts)}]."


def _us_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%m/%d/%Y %H:%M:%S}"


# ---- with a foreign token --------------------------------------------------------------------


def _not_federated(claims: Mapping[str, Any]) -> Refused:
    text = (
        "No matching federated identity record found for presented assertion. Assertion Issuer:"
        f" '{claims['iss']}'. Assertion Subject: '{claims['sub']}'. Assertion Audience:"
        f" '{claims['aud']}'. {_FEDERATION_PAGE}"
    )
    return Refused(400, "invalid_request", 70021, text)


def _check_foreign_token(assertion: _Assertion, federated: Sequence[FederatedCredential]) -> None:
    claims = assertion.claims
    issuer, subject, audience = claims["iss"], claims["sub"], claims["aud"]
    of_issuer = [one for one in federated if one.issuer == issuer]
    if not of_issuer:
        raise _no_match(700211, "issuer", issuer)
    of_subject = [one for one in of_issuer if one.subject == subject]
    if not of_subject:
        raise _wrong_subject(subject, of_issuer)
    matching = [one for one in of_subject if one.audience == audience]
    if not matching:
        raise _no_match(700212, "audience", audience)
    _check_foreign_signature(assertion, matching)


def _check_foreign_signature(
    assertion: _Assertion, matching: Iterable[FederatedCredential]
) -> None:
    for credential in matching:
        if any(assertion.is_signed_by(key) for key in credential.keys):
            return
    text = "Assertion failed signature validation. [Reason - The key was not found.]"
    raise _refused(50013, text)


def _wrong_subject(subject: str, of_issuer: Iterable[FederatedCredential]) -> Refused:
    for one in of_issuer:
        if one.subject.lower() == subject.lower():
            text = (
                " The subject matches with case-insensitive comparison, but not with"
                " case-sensitive comparison."
            )
            return _no_match(7002138, "subject", subject, text)
    return _no_match(700213, "subject", subject)


def _no_match(code: int, what: str, value: str, more: str = "") -> Refused:
    text = (
        f"No matching federated identity record found for presented assertion {what} '{value}'."
        f"{more} {_CHECK_YOURS}"
    )
    return _refused(code, text)


# ---- both ------------------------------------------------------------------------------------


def _check_time(assertion: _Assertion, now: float) -> None:
    begin = assertion.claims.get("nbf", 0)
    end = assertion.claims["exp"]
    if not begin <= now < end:
        text = (
            f"Client assertion is not within its valid time range. Current time: {_time(now)},"
            f" assertion valid from {_time(begin)}, expiry time of assertion {_time(end)}. Review"
            f" the documentation at {_CERTIFICATE_PAGE} ."
        )
        raise _refused(700024, text)


def _time(seconds: float) -> str:
    """As .NET writes it, with seven digits after the seconds."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%f}0Z"
