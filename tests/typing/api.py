"""What type checkers see of the public interface; checked by mypy and pyright, never executed."""

from __future__ import annotations

import imaplib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, assert_type

import exo_imap_oauth
from exo_imap_oauth import (
    AccessToken,
    Cloud,
    InboxConfig,
    TokenSource,
    authenticate_xoauth2,
    check_setup,
    exchange_setup_script,
    load_config,
    open_mailbox,
)
from exo_imap_oauth.advice import Advice, advise
from exo_imap_oauth.checkup import SetupReport
from exo_imap_oauth.config import CmsbsConfig, ConfigProblem
from exo_imap_oauth.errors import ConfigError, ConnectionFailed, ExoImapOAuthError
from exo_imap_oauth.properties import Property, parse
from exo_imap_oauth.testing import ReadyExchange, ready_exchange
from exo_imap_oauth.token_cache import MemoryTokenCache, TokenCache, default_cache

assert_type(exo_imap_oauth.__version__, str)
exo_imap_oauth.no_such_name  # type: ignore[attr-defined] # pyright: ignore # noqa: B018, PGH003 - what this line is for

# ---- tokens
source = TokenSource("contoso.com", "id", "secret", cloud=Cloud.CHINA, timeout=5)
vault: Callable[[], str] = str
TokenSource("contoso.com", "id", vault, cache=MemoryTokenCache(100))
token = source.get_token()
assert_type(token, AccessToken)
assert_type(token.expires_on, int)
assert_type(token.claims, Mapping[str, Any])
cache: TokenCache = default_cache()

# ---- IMAP


class Issued:
    token = "text"


class Credential:
    """As azure-identity's are."""

    def get_token(self, *scopes: str, claims: str | None = None, **kwargs: Any) -> Issued:
        raise LookupError(scopes, claims, kwargs)


mailbox = open_mailbox("inbox@contoso.com", source, readonly=True)
assert_type(mailbox, AbstractContextManager[imaplib.IMAP4])
open_mailbox("inbox@contoso.com", token)
open_mailbox("inbox@contoso.com", "text")
open_mailbox("inbox@contoso.com", Credential())
open_mailbox("inbox@contoso.com", b"text")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # bytes are no token
authenticate_xoauth2(imaplib.IMAP4_SSL(), "inbox@contoso.com", source, verify_mailbox=False)

# ---- configuration
config = load_config("cmsbs-conf", environ={})
assert_type(config, CmsbsConfig)
assert_type(config["default"], InboxConfig)
assert_type(config.warnings, tuple[ConfigProblem, ...])
inbox = config.default
assert_type(inbox.token_source(deadline=3.0), TokenSource)
with inbox.open(readonly=True, timeout=5.0) as imap:
    assert_type(imap, imaplib.IMAP4)
inbox.open(readonly="yes")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # no bool
assert_type(parse(b""), list[Property])

# ---- errors and advice
try:
    load_config()
except ConfigError as error:
    assert_type(error.problems, tuple[ConfigProblem, ...])
except ConnectionFailed as error:
    assert_type(error.last_reply, str | None)
except ExoImapOAuthError as error:
    assert_type(error.advice, Advice | None)
    assert_type(error.retry_after, float | None)
assert_type(advise("text", stage="token", tenant_id="contoso.com"), Advice | None)
assert_type(
    exchange_setup_script(tenant_id="t", client_id="c", enterprise_object_id="o", mailboxes=["m"]),
    str,
)
exchange_setup_script(
    tenant_id="t", client_id="c", enterprise_object_id="o", mailboxes=["m"], cloud=Cloud.CHINA
)
assert_type(check_setup(inbox, token_source=source), SetupReport)
assert_type(check_setup(inbox, token_source=Credential()), SetupReport)
check_setup(inbox, token_source="text")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # no source
assert_type(ready_exchange(), ReadyExchange)
