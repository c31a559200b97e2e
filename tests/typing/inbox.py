"""What type checkers see of an inbox that is written by hand; checked, never executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from exo_imap_oauth import Cloud, InboxConfig, load_config
from exo_imap_oauth.config import CmsbsConfig, ConfigProblem

assertion: Callable[[], str] = str
inbox = InboxConfig.for_tenant(
    "contoso.com", cloud=Cloud.CHINA, user="inbox@contoso.com", port=993, client_secret="secret"
)
assert_type(inbox, InboxConfig)
assert_type(inbox.tenant_id, str | None)
assert_type(inbox.client_secret, str | Callable[[], str] | None)
assert_type(inbox.warnings, tuple[ConfigProblem, ...])
assert_type(InboxConfig.from_env("ORDERS_", environ={}), InboxConfig)
assert_type(load_config(assertion=assertion), CmsbsConfig)
InboxConfig(user="inbox@contoso.com", assertion=assertion)
InboxConfig(user="inbox@contoso.com", port="993")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # no int
InboxConfig.for_tenant("contoso.com")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] # no user
