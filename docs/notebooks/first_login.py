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
# # Look inside a login
#
# This notebook shows what each object on the way to a mailbox holds: the configuration, the token,
# the token source, and the error when a step is missing. If you would rather begin with a few
# scripts, take [Your first login](../tutorial/first-login.md).
#
# It needs no tenant: an Exchange Online runs on loopback, inside the kernel, with a token endpoint
# and an IMAP server that answer as the real ones do. The last section says what changes with a
# tenant of your own.
#
# Install what it needs first:
#
# ```sh
# pip install 'exo-imap-oauth[testing]' jupyterlab
# ```

# %% [markdown]
# ## An Exchange Online to try it on
#
# `ready_exchange()` gives an Exchange Online in which every step of the set-up is done. It is a
# context manager, and its servers run until it is left. A `with` block ends with its cell, so an
# `ExitStack` keeps this one open until the last cell closes it.

# %%
from contextlib import ExitStack, chdir
from tempfile import TemporaryDirectory

from exo_imap_oauth.testing import ready_exchange

stack = ExitStack()
exchange = stack.enter_context(ready_exchange())
folder = stack.enter_context(TemporaryDirectory())
stack.enter_context(chdir(folder))

app = exchange.app
print("tenant_id           ", app.tenant_id)
print("client_id           ", app.client_id)
print("enterprise_object_id", app.enterprise_object_id)
print("app_object_id       ", app.app_object_id)

# %% [markdown]
# These are the IDs that an administrator meets in the portal. Exchange must know the
# `enterprise_object_id`; the `app_object_id` is often taken for it by mistake.

# %% [markdown]
# ## The configuration
#
# `write_config` writes the settings into a `cmsbs-conf` folder, in Universal Messenger's format.
# A second file then switches off the summary in the log. Later files win, so the table shows
# `false` for `oauth2.debug`, and below it the `true` that it overrides.

# %%
from pathlib import Path

from exo_imap_oauth import load_config

exchange.write_config(".")
quiet = Path("cmsbs-conf/conf.d/10-quiet.properties")
quiet.write_text("cmsbs.mail.imap.oauth2.debug = false\n")

config = load_config("cmsbs-conf")
config

# %% [markdown]
# Each setting is shown with its file and line, and the client secret as `(hidden)`: no value of
# this library shows a secret or a token in a notebook, so its outputs can be shared.
#
# `config.default` is the primary inbox. Without Universal Messenger you would write the same
# `InboxConfig` by hand, or read it from the environment.

# %%
inbox = config.default
inbox

# %% [markdown]
# ## The token
#
# A token source gets access tokens from Entra for the application itself; no person signs in.
# Showing a source fetches nothing, so this one has `no token yet`.

# %%
source = inbox.token_source()
source

# %% [markdown]
# `get_token()` fetches one. Three of its claims matter for IMAP. `aud` says which service it is
# for, `roles` must hold `IMAP.AccessAsApp`, and `oid` is the `enterprise_object_id`
# from above.

# %%
token = source.get_token()
token

# %%
token.claims["oid"] == app.enterprise_object_id

# %% [markdown]
# The source now holds that token and gives it to whoever asks, in any thread. From the time
# beside `refresh due` on it fetches the next one in the background.

# %%
source

# %% [markdown]
# ## The mailbox
#
# `inbox.open()` connects, logs in with the token, selects the folder, and gives a plain `imaplib`
# client. `ok()` takes the data out of a reply; if the server refused, it raises an error instead.
# `message()` finds the message in a reply, or gives None if the server did not send it.

# %%
from exo_imap_oauth.imap import ok
from exo_imap_oauth.mail import message

with inbox.open(token=source, readonly=True) as imap:
    [numbers] = ok(imap.search(None, "ALL"))
    for number in numbers.decode().split():
        mail = message(imap.fetch(number, "(BODY.PEEK[])"))
        if mail is not None:
            print(number, mail["From"], mail["Subject"], sep="  ")

# %% [markdown]
# The exchange keeps a record of what it was asked: one token request and one login.

# %%
[request.outcome for request in exchange.token_requests]

# %%
[(login.user, login.outcome) for login in exchange.logins]

# %% [markdown]
# ## A step that was forgotten
#
# Suppose nobody gave the application access to the mailbox. The login succeeds, and the mailbox
# does not open. The error says so, with the likely cause, the fix and the commands for it.

# %%
exchange.remove_mailbox_permission(exchange.mailbox, app.enterprise_object_id)

# %% tags=["raises-exception"]
with inbox.open(token=source) as imap:
    print("opened")

# %% [markdown]
# In a notebook the frames inside the library are left out, so that the message is what you see;
# `%tb Plain` shows them all, and `%debug` goes into them. The commands are ready to paste into
# PowerShell. Here, the administrator's `Add-MailboxPermission` is a method:

# %%
exchange.add_mailbox_permission(exchange.mailbox, app.enterprise_object_id)

with inbox.open(token=source) as imap:
    print("opened")

# %% [markdown]
# The next notebook, [Why does my login fail?](why_does_my_login_fail.py), breaks the other steps.

# %%
stack.close()

# %% [markdown]
# ## With a tenant of your own
#
# 1. [Set up an application and its mailbox](../how-to/set-up.md).
# 2. In place of the cells down to the configuration, run `load_config` with the path of your own
#    `cmsbs-conf`. [Without Universal Messenger](../how-to/without-universal-messenger.md), write
#    the inbox by hand or read it from the environment.
# 3. Leave out the later cells that mention `exchange`, `app` or `stack`.
#
# [Use it in a notebook](../how-to/notebooks.md) says where to keep the client secret.
