# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   mystnb:
#     render_error_lexer: none
# ---

# %% [markdown]
# # Why does my login fail?
#
# A login needs a dozen steps in the Entra admin center and in PowerShell. When one is missing,
# the server's answer rarely says which. `check_setup` tries every step and says which one.
#
# This notebook breaks one step after the other on a loopback Exchange Online, reads the report,
# and puts the step right. It needs no tenant, only `pip install 'exo-imap-oauth[testing]'`.

# %%
from contextlib import ExitStack

from exo_imap_oauth import InboxConfig, check_setup
from exo_imap_oauth.testing import Fault, ready_exchange

stack = ExitStack()
exchange = stack.enter_context(ready_exchange())
app = exchange.app
inbox = exchange.inbox
mailbox = exchange.mailbox

# %% [markdown]
# ## Every step is done
#
# `check_setup` takes the inbox and, if you have it, the Object ID that Exchange was told. It asks
# Entra for a new token each time, so a change counts at once, and it leaves the mailbox as it is.

# %%
report = check_setup(inbox, enterprise_object_id=app.enterprise_object_id)
report

# %% [markdown]
# Thirteen checks, in the order in which a login happens: the configuration, the token endpoint,
# the token and what it says about itself, the IMAP server, the login, the mailbox. A program reads
# the same from attributes.

# %%
report.ok, report.summary

# %% [markdown]
# ## The mailbox permission was forgotten
#
# This is the one failure that the vendor's how-to for Universal Messenger names.

# %%
exchange.remove_mailbox_permission(mailbox, app.enterprise_object_id)

check_setup(inbox, enterprise_object_id=app.enterprise_object_id)

# %% [markdown]
# Twelve checks passed. The token is good and the login succeeded, so nothing is wrong in Entra ID.
# Only `mailbox` failed, with `User is authenticated but not connected.`; what remains is Exchange's
# list of who may open this mailbox.
#
# That answer has other causes too. Some tenants name one in the login's reply: here, IMAP is
# switched off for the mailbox. The report then gives that cause and no other.

# %%
exchange.add_mailbox_permission(mailbox, app.enterprise_object_id)
exchange.set_cas_mailbox(mailbox, imap_enabled=False, reason_in_ok=True)

check_setup(inbox, enterprise_object_id=app.enterprise_object_id)

# %% [markdown]
# The advice is `imap-disabled`, because the login said `UserDisabled`.

# %%
exchange.set_cas_mailbox(mailbox, imap_enabled=True)

check_setup(inbox, enterprise_object_id=app.enterprise_object_id).ok

# %% [markdown]
# ## Nobody granted admin consent
#
# Entra issues a token all the same. It has no roles, and Exchange refuses it without a reason.

# %%
exchange.revoke_consent(app)

check_setup(inbox, enterprise_object_id=app.enterprise_object_id)

# %% [markdown]
# Two checks failed: `role` and, as its consequence, `authenticate`. Fix the first failure and run
# the check again. The server's answer `AUTHENTICATE failed.` is the same for every cause; only
# the missing role in the token shows which one it is.

# %%
exchange.grant_admin_consent(app)

check_setup(inbox, enterprise_object_id=app.enterprise_object_id).ok

# %% [markdown]
# A program that is running needs no restart: when the server refuses a token that was fetched
# earlier, the library fetches a new one and tries once more.

# %% [markdown]
# ## The wrong Object ID
#
# An application has two Object IDs. Exchange wants that of the *Enterprise application*. It takes
# that of the *App registration* without complaint, and then refuses every login. Here a second
# application is set up in this way.

# %%
second = exchange.register_app("second-mail-bot")
exchange.add_permission(second, "IMAP.AccessAsApp")
exchange.grant_admin_consent(second)
# This is the wrong one.
exchange.new_service_principal(second.client_id, second.app_object_id)
exchange.add_mailbox_permission(mailbox, second.app_object_id)

second_inbox = InboxConfig(
    user=mailbox,
    token_uri=exchange.token_uri(second.tenant_id),
    client_id=second.client_id,
    client_secret=exchange.add_client_secret(second).value,
    host=exchange.host,
    port=exchange.port,
)
check_setup(second_inbox, enterprise_object_id=second.app_object_id)

# %% [markdown]
# `object-id` failed: the token's `oid` is the right one, and it is not the one that was given. The
# commands remove the wrong entry first and then register the right one. Without
# `enterprise_object_id`, that check would be skipped, and `authenticate` would say what to compare.

# %%
exchange.new_service_principal(second.client_id, second.enterprise_object_id)
exchange.add_mailbox_permission(mailbox, second.enterprise_object_id)

check_setup(second_inbox, enterprise_object_id=second.enterprise_object_id).ok

# %% [markdown]
# ## The Secret ID in place of the Value
#
# The portal shows two strings for a client secret, its Value and its Secret ID. A program needs
# the Value. What cannot work is refused before anything is sent:

# %% tags=["raises-exception"]
InboxConfig(
    user=mailbox,
    token_uri=exchange.token_uri(app.tenant_id),
    client_id=app.client_id,
    client_secret=exchange.secret.secret_id,
)

# %% [markdown]
# ## The secret has expired
#
# A client secret lives for two years at most. After that every token request is refused, although
# nobody changed anything.

# %%
exchange.expire_client_secret(exchange.secret)

check_setup(inbox, enterprise_object_id=app.enterprise_object_id)

# %% [markdown]
# Eight checks are skipped, because without a token they have nothing to look at. The IMAP server
# was tried nevertheless, so you know that the network is not to blame. The fix is a new secret,
# whose Value goes into the configuration.

# %%
new_secret = exchange.add_client_secret(app)
inbox = InboxConfig(
    user=inbox.user,
    token_uri=inbox.token_uri,
    client_id=inbox.client_id,
    client_secret=new_secret.value,
    host=inbox.host,
    port=inbox.port,
)
check_setup(inbox, enterprise_object_id=app.enterprise_object_id).ok

# %% [markdown]
# ## Exchange asks to slow down
#
# Nothing is wrong with the set-up. `EXAMINE` is the command that opens the folder for reading.

# %%
fault = exchange.inject(Fault.IMAP_THROTTLED, times=None, command="EXAMINE")

report = check_setup(inbox, enterprise_object_id=app.enterprise_object_id)
report

# %% [markdown]
# Nobody has to change anything: the advice `throttled` says to wait. In a program, the error for
# this has `retryable` set to `True`, and `retry_after` holds the seconds that the server asked for.

# %%
from exo_imap_oauth.errors import Throttled

try:
    with inbox.open(readonly=True) as imap:
        print("opened")
except Throttled as error:
    print(error.retryable, error.retry_after)

# %%
fault.remove()

check_setup(inbox, enterprise_object_id=app.enterprise_object_id).ok

# %% [markdown]
# ## What to look at
#
# | first failure | where to look |
# |---|---|
# | `config` | a value in the configuration |
# | `token-endpoint`, `imap-endpoint` | the network: firewall, proxy, certificates |
# | `token` | tenant ID, client ID or secret |
# | `role` | permission or admin consent in Entra ID |
# | `object-id`, `authenticate` | service principal in Exchange, or the address of the mailbox |
# | `mailbox` | mailbox permission, or IMAP is off |
#
# [Check a set-up](../how-to/check-up.md) explains each check, and
# [Troubleshoot](../how-to/troubleshoot.md) each piece of advice.

# %%
stack.close()

# %% [markdown]
# ## With a tenant of your own
#
# `check_setup` does the same for a real mailbox. In place of `exchange.inbox`, give it the inbox
# that `load_config` or `InboxConfig` makes; leave out `enterprise_object_id` if you do not have it.
# The report holds IDs and the address of the mailbox, but no secret and no token: you can send it
# to whoever helps you.
