"""What type checkers see of the loopback Exchange; never run."""

from __future__ import annotations

from typing import assert_type

from exo_imap_oauth import InboxConfig
from exo_imap_oauth.testing import (
    AppCertificate,
    Fault,
    FederatedCredential,
    Injection,
    LoopbackExchange,
    ready_exchange,
)

with ready_exchange(certificate=True, trust=False, refresh_in=1800) as exchange:
    assert_type(exchange.inbox, InboxConfig)
    assert_type(exchange.certificate, AppCertificate | None)
    assert_type(exchange.refresh_in, int | None)
    added = exchange.add_certificate(exchange.app, lifetime=60)
    assert_type(added, AppCertificate)
    assert_type(added.pem, bytes)
    federated = exchange.add_federated_credential(exchange.app, "https://i.example", "s")
    assert_type(federated, FederatedCredential)
    assert_type(federated.assertion(sub="other"), str)
    assert_type(exchange.inject(Fault.IMAP_THROTTLED, reply="NO"), Injection)
    exchange.inject(Fault.IMAP_THROTTLED, reply="OK")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # no refusal
LoopbackExchange(refresh_in="soon")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # no number
