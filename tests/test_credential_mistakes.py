"""Each way to get a proof of identity wrong: its own typed error, with the advice that fixes it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support.leaks import everything_in

from exo_imap_oauth import ClientCertificate, InboxConfig, check_setup
from exo_imap_oauth._errors_base import lines_of
from exo_imap_oauth._text import is_guid
from exo_imap_oauth.advice import explain
from exo_imap_oauth.errors import AuthenticationRefused, TokenError, TokenRequestRejected
from exo_imap_oauth.testing import ready_exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exo_imap_oauth.testing import ReadyExchange

ISSUER, SUBJECT = "https://cluster.example", "system:serviceaccount:mail:reader"


@pytest.fixture(scope="module", name="running")
def _running() -> Iterator[ReadyExchange]:
    with ready_exchange(trust=False) as exchange:
        yield exchange


@pytest.fixture(name="exchange")
def _exchange(running: ReadyExchange) -> ReadyExchange:
    running.reset()
    return running


# ---- right -----------------------------------------------------------------------------------


def with_certificate(exchange: ReadyExchange, pem: bytes | None = None) -> InboxConfig:
    pem = pem or exchange.add_certificate(exchange.app).pem
    certificate = ClientCertificate.from_pem(pem)
    return replace(exchange.inbox, client_secret=None, certificate=certificate)


def with_secret(
    exchange: ReadyExchange, secret: str | Callable[[], str] | None = None
) -> InboxConfig:
    secret = secret or exchange.secret.value
    return replace(exchange.inbox, client_secret=secret)


def with_secret_of_a_function(exchange: ReadyExchange) -> InboxConfig:
    return with_secret(exchange, lambda: exchange.secret.value)


def with_assertion(exchange: ReadyExchange, **claims: Any) -> InboxConfig:
    trust = exchange.add_federated_credential(exchange.app, ISSUER, SUBJECT)
    return with_text(exchange, trust.assertion(**claims))


def with_text(exchange: ReadyExchange, assertion: Any) -> InboxConfig:
    return replace(exchange.inbox, client_secret=None, assertion=lambda: assertion)


@pytest.mark.parametrize(
    "proof", [with_certificate, with_secret, with_secret_of_a_function, with_assertion]
)
def test_the_right_one_opens_the_mailbox(
    exchange: ReadyExchange, proof: Callable[[ReadyExchange], InboxConfig]
) -> None:
    inbox = proof(exchange)
    with inbox.open(ssl_context=exchange.ssl_context) as imap:
        assert imap.state == "SELECTED"
    report = check_setup(inbox, ssl_context=exchange.ssl_context)
    assert report.ok, str(report)


# ---- wrong -----------------------------------------------------------------------------------


def certificate_of_another_app(exchange: ReadyExchange) -> InboxConfig:
    return with_certificate(exchange, exchange.add_certificate(exchange.register_app("b")).pem)


def certificate_expired(exchange: ReadyExchange) -> InboxConfig:
    pem = exchange.add_certificate(exchange.app, lifetime=3600).pem
    exchange.advance_clock(7200)
    return with_certificate(exchange, pem)


def certificate_and_a_wrong_clock(exchange: ReadyExchange) -> InboxConfig:
    inbox = with_certificate(exchange)
    exchange.advance_clock(3600)
    return inbox


def certificate_without_consent(exchange: ReadyExchange) -> InboxConfig:
    exchange.revoke_consent(exchange.app)
    return with_certificate(exchange)


def certificate_and_another_client_id(exchange: ReadyExchange) -> InboxConfig:
    return replace(with_certificate(exchange), client_id="0d1c2b3a-1111-4222-8333-444455556666")


def assertion_and_no_trust(exchange: ReadyExchange) -> InboxConfig:
    of_another_app = exchange.add_federated_credential(exchange.register_app("b"), ISSUER, SUBJECT)
    return with_text(exchange, of_another_app.assertion())


def assertion_of_another_key(exchange: ReadyExchange) -> InboxConfig:
    exchange.add_federated_credential(exchange.app, ISSUER, SUBJECT)
    return assertion_and_no_trust(exchange)


def assertion_of_another_issuer(exchange: ReadyExchange) -> InboxConfig:
    return with_assertion(exchange, iss="https://elsewhere.example")


def assertion_of_another_subject(exchange: ReadyExchange) -> InboxConfig:
    return with_assertion(exchange, sub=f"{SUBJECT}s")


def assertion_in_other_capitals(exchange: ReadyExchange) -> InboxConfig:
    return with_assertion(exchange, sub=SUBJECT.upper())


def assertion_for_another_audience(exchange: ReadyExchange) -> InboxConfig:
    return with_assertion(exchange, aud="https://kubernetes.default.svc")


def assertion_expired(exchange: ReadyExchange) -> InboxConfig:
    return with_assertion(exchange, lifetime=-60)


def assertion_malformed(exchange: ReadyExchange) -> InboxConfig:
    return with_text(exchange, "bm90.YQ.and0")


def assertion_without_consent(exchange: ReadyExchange) -> InboxConfig:
    exchange.revoke_consent(exchange.app)
    return with_assertion(exchange)


def secret_wrong(exchange: ReadyExchange) -> InboxConfig:
    return with_secret(exchange, "Abc8Q~defghijklmnopqrstuvwxyz012345.6789")


def secret_id(exchange: ReadyExchange) -> InboxConfig:
    return with_secret(exchange, lambda: exchange.secret.secret_id)


def secret_expired(exchange: ReadyExchange) -> InboxConfig:
    exchange.expire_client_secret(exchange.secret)
    return with_secret(exchange)


def secret_of_a_function_expired(exchange: ReadyExchange) -> InboxConfig:
    exchange.expire_client_secret(exchange.secret)
    return with_secret_of_a_function(exchange)


def secret_without_consent(exchange: ReadyExchange) -> InboxConfig:
    exchange.revoke_consent(exchange.app)
    return with_secret(exchange)


class Case(NamedTuple):
    mistake: Callable[[ReadyExchange], InboxConfig]
    code: int  # AADSTS; 0 where Entra gives a token
    advice: str


CASES = [
    Case(certificate_of_another_app, 700027, "certificate-not-registered"),
    Case(certificate_expired, 700027, "certificate-not-registered"),
    Case(certificate_and_a_wrong_clock, 700024, "assertion-time"),
    Case(certificate_and_another_client_id, 700016, "application-not-found"),
    Case(certificate_without_consent, 0, "role-missing"),
    Case(assertion_and_no_trust, 70021, "federated-credential-mismatch"),
    Case(assertion_of_another_key, 50013, "assertion-invalid"),
    Case(assertion_of_another_issuer, 700211, "federated-credential-mismatch"),
    Case(assertion_of_another_subject, 700213, "federated-credential-mismatch"),
    Case(assertion_in_other_capitals, 7002138, "federated-credential-mismatch"),
    Case(assertion_for_another_audience, 700212, "federated-credential-mismatch"),
    Case(assertion_expired, 700024, "assertion-time"),
    Case(assertion_malformed, 50027, "assertion-invalid"),
    Case(assertion_without_consent, 0, "role-missing"),
    Case(secret_wrong, 7000215, "secret-wrong"),
    Case(secret_id, 7000215, "secret-wrong"),
    Case(secret_expired, 7000222, "secret-expired"),
    Case(secret_of_a_function_expired, 7000222, "secret-expired"),
    Case(secret_without_consent, 0, "role-missing"),
]


def secrets_of(exchange: ReadyExchange, inbox: InboxConfig) -> list[str]:
    """What no text may show: what was sent, unless it is an ID, or too short to be a proof."""
    given = [exchange.secret.value, inbox.client_secret, inbox.assertion]
    texts = [each() if callable(each) else each for each in given]
    return [text for text in texts if text and len(text) > 12 and not is_guid(text)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.mistake.__name__)
def test_the_wrong_one_is_a_typed_error_with_its_advice(
    exchange: ReadyExchange, case: Case
) -> None:
    inbox = case.mistake(exchange)
    kind = TokenRequestRejected if case.code else AuthenticationRefused
    with pytest.raises(kind) as caught, inbox.open(ssl_context=exchange.ssl_context):
        pass
    error = caught.value
    assert getattr(error, "error_codes", ()) == ((case.code,) if case.code else ())
    assert error.advice
    assert error.advice.id == case.advice
    assert not error.retryable
    assert f"\n  Fix: {error.advice.fix}" in str(error)
    secrets = secrets_of(exchange, inbox)
    assert not any(secret in everything_in(error) for secret in secrets)

    report = check_setup(inbox, ssl_context=exchange.ssl_context)
    failure = report.first_failure
    assert failure
    assert failure.id == ("token" if case.code else "role")
    assert failure.advice
    assert failure.advice.id == case.advice
    assert not any(secret in str(report.as_dict()) for secret in secrets)


def test_a_certificate_that_ends_soon_is_a_warning_before_it_is_an_error(
    exchange: ReadyExchange,
) -> None:
    pem = exchange.add_certificate(exchange.app, lifetime=5.5 * 86_400).pem
    report = check_setup(with_certificate(exchange, pem), ssl_context=exchange.ssl_context)
    assert report.ok
    assert report.checks[0].status == "warning"
    assert "the client certificate ends in 5 days" in report.checks[0].detail


def test_a_certificate_that_is_not_registered_is_named_by_its_thumbprint(
    exchange: ReadyExchange,
) -> None:
    inbox = certificate_of_another_app(exchange)
    assert inbox.certificate
    with pytest.raises(TokenRequestRejected, match=inbox.certificate.thumbprint):
        inbox.token_source(ssl_context=exchange.ssl_context).get_token()


def test_a_secret_id_that_a_function_gives_is_called_one(exchange: ReadyExchange) -> None:
    source = secret_id(exchange).token_source(ssl_context=exchange.ssl_context)
    with pytest.raises(TokenRequestRejected, match="column Secret ID was copied"):
        source.get_token()


# ---- what never reaches Entra ----------------------------------------------------------------


def sealed_vault() -> str:
    raise LookupError("the vault is sealed")


@pytest.mark.parametrize(
    ("proof", "text"),
    [
        ({"assertion": lambda: "no JWT"}, r"must return a JWT \(three parts joined by dots\)"),
        ({"assertion": lambda: ""}, "not an empty text"),
        ({"assertion": lambda: None}, "not NoneType"),
        ({"assertion": sealed_vault}, "could not be obtained: LookupError: the vault is sealed"),
        ({"client_secret": lambda: ""}, "gave no usable secret: the client secret is empty"),
        ({"client_secret": lambda: b"x"}, "the callable returned bytes"),
        ({"client_secret": sealed_vault}, "could not be obtained: LookupError: the vault"),
    ],
)
def test_what_is_no_proof_is_a_token_error_and_is_not_sent(
    exchange: ReadyExchange, proof: dict[str, Any], text: str
) -> None:
    inbox = replace(exchange.inbox, **{"client_secret": None, **proof})
    with pytest.raises(TokenError, match=text), inbox.open(ssl_context=exchange.ssl_context):
        pass
    report = check_setup(inbox, ssl_context=exchange.ssl_context)
    assert report.first_failure
    assert report.first_failure.id == "token"
    assert not exchange.token_requests


# ---- the same with azure-identity ------------------------------------------------------------


def azure_secret(exchange: ReadyExchange, _: Path) -> tuple[str, dict[str, Any]]:
    exchange.expire_client_secret(exchange.secret)
    return "ClientSecretCredential", {"client_secret": exchange.secret.value}


def azure_certificate(exchange: ReadyExchange, _: Path) -> tuple[str, dict[str, Any]]:
    pem = exchange.add_certificate(exchange.register_app("b")).pem
    return "CertificateCredential", {"certificate_data": pem}


def azure_workload(exchange: ReadyExchange, folder: Path) -> tuple[str, dict[str, Any]]:
    trust = exchange.add_federated_credential(exchange.app, ISSUER, SUBJECT)
    file = folder / "token"
    file.write_text(trust.assertion(sub="another"))
    return "WorkloadIdentityCredential", {"token_file_path": str(file)}


@pytest.mark.parametrize(
    ("mistake", "advice"),
    [
        (azure_secret, "secret-expired"),
        (azure_certificate, "certificate-not-registered"),
        (azure_workload, "federated-credential-mismatch"),
    ],
)
def test_azures_error_gets_the_advice_as_a_note(
    exchange: ReadyExchange,
    tmp_path: Path,
    mistake: Callable[[ReadyExchange, Path], tuple[str, dict[str, Any]]],
    advice: str,
) -> None:
    identity = pytest.importorskip("azure.identity")
    core = pytest.importorskip("azure.core.exceptions")
    kind, proof = mistake(exchange, tmp_path)
    with contextlib.ExitStack() as stack:
        credential = stack.enter_context(
            getattr(identity, kind)(
                tenant_id=exchange.app.tenant_id,
                client_id=exchange.app.client_id,
                authority=exchange.authority,
                disable_instance_discovery=True,
                connection_verify=str(exchange.write_ca(tmp_path / "ca.pem")),
                **proof,
            )
        )
        inbox = InboxConfig(user=exchange.mailbox, host=exchange.host, port=exchange.port)
        with pytest.raises(core.ClientAuthenticationError) as caught:
            stack.enter_context(inbox.open(token=credential, ssl_context=exchange.ssl_context))
        report = check_setup(inbox, token_source=credential, ssl_context=exchange.ssl_context)
    assert caught.value.__notes__ == ["\n  ".join(lines_of(explain(advice)))]
    assert len(report.checks) == 13
    assert report.first_failure
    assert report.first_failure.id == "token"
    assert report.first_failure.advice
    assert report.first_failure.advice.id == advice
