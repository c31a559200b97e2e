"""What Dovecot 2.3 and 2.4 are told to be a resource server for app-only tokens.

An app-only token names a service principal (``oid``) and no mailbox; the mailbox is what the
client writes into ``user=``. Dovecot wants to compare the two: both are written in the format
``app``, which holds no variable, so that ``app`` is compared with ``app``. Who may open the
mailbox is then looked up:

* 2.3 has a passdb ``oauth2`` for each service principal: ``active_attribute = oid`` wants it,
  ``username_filter`` limits it to its mailboxes. What no such passdb answers for is answered
  for by the one of the denied mailboxes, or it would count as a failure of the server.
* 2.4 checks the token before it asks any passdb, under the user name ``app`` as well, and hands
  ``oid`` on. The first passdb looks for the mailbox and ``oid`` in the file ``granted``, which
  gives the user its name back; the second denies everything else. The order matters: what
  the token said is forgotten once a passdb does not know the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What differs between one server and another.

    Attributes:
        folder: Where it lives.
        account: The name of the account it runs as; ``group`` is its group's.
        port: The implicit TLS port; ``plain_port`` offers STARTTLS.
        capability: The capabilities to advertise, None for Dovecot's own.
        issuers: The accepted ``iss``, separated by blanks.
        audience: The only accepted ``aud``.
        grants: The mailboxes, in small letters, that each ``oid`` may open.
        denied: The mailboxes that nobody may open.
    """

    folder: Path
    account: str
    group: str
    port: int
    plain_port: int
    capability: str | None
    issuers: str
    audience: str
    grants: Mapping[str, Sequence[str]]
    denied: Sequence[str]


_COMMON = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
instance_name = {folder.name}
login_greeting = {folder.name} ready.
default_internal_user = {account}
default_internal_group = {group}
default_login_user = {account}
first_valid_uid = 1
first_valid_gid = 1
protocols = imap
listen = 127.0.0.1
ssl = yes
auth_mechanisms = plain xoauth2
auth_username_chars =
auth_verbose = yes
auth_failure_delay = 0
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {plain_port}
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""

_MAIN_2_3 = """
mail_location = maildir:~/Maildir
ssl_cert = <{folder}/certificate.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = no
service imap-login {{
  service_count = 0
}}
passdb {{
  driver = static
  args = nodelay=yes noauthenticate=yes
}}
passdb {{
  driver = passwd-file
  args = {folder}/denied
  deny = yes
}}
userdb {{
  driver = passwd-file
  args = {folder}/mailboxes
}}
"""

# Asked for these mailboxes only, so that the token's oid and the mailbox decide together.
_GRANT_2_3 = """
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {args}
  username_filter = {mailboxes}
}}
"""

_OAUTH2_2_3 = """
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={folder}/keys/
username_attribute = oid
username_format = app
active_attribute = oid
active_value = {oid}
issuers = {issuers}
audience = {audience}
"""

_HEAD_2_4 = """\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
"""

_MAIN_2_4 = """
mail_driver = maildir
mail_path = ~/Maildir
ssl_server_cert_file = {folder}/certificate.pem
ssl_server_key_file = {folder}/key.pem
auth_allow_cleartext = yes
auth_username_format = app
auth_internal_failure_delay = 0
service imap-login {{
  restart_request_count = unlimited
}}
oauth2 {{
  introspection_mode = local
  username_attribute = oid
  username_validation_format = app
  issuers = {issuers}
  audience = {audience}
  fields {{
    oid = %{{oauth2:oid}}
  }}
  oauth2_local_validation {{
    dict fs {{
      fs posix {{
        prefix = {folder}/keys/
      }}
    }}
  }}
}}
passdb granted {{
  driver = passwd-file
  passwd_file_path = {folder}/granted
  auth_username_format = %{{original_user | lower}}/%{{passdb:oid}}
}}
passdb others {{
  driver = static
  static_password = none
  deny = yes
}}
userdb passwd-file {{
  auth_username_format = %{{user}}
  passwd_file_path = {folder}/mailboxes
}}
"""


def configuration_files(version: str, settings: Settings) -> dict[str, str]:
    """The texts of ``dovecot.conf`` and what it refers to, by their names in the folder.

    Args:
        version: What ``dovecot --version`` prints.
        settings: What differs between servers.
    """
    values = vars(settings)
    common = _COMMON.format_map(values)
    if settings.capability:
        common += f"imap_capability = {settings.capability}\n"
    if not version.startswith("2.3."):
        granted = [
            f"{name}/{oid}:::::::nopassword user={name}\n"
            for oid, names in settings.grants.items()
            for name in names
        ]
        return {
            "dovecot.conf": _HEAD_2_4 + common + _MAIN_2_4.format_map(values),
            "granted": "".join(granted),
        }
    files = {"denied": "".join(f"{name}:\n" for name in settings.denied)}
    main = common + _MAIN_2_3.format_map(values)
    for number, (oid, names) in enumerate(settings.grants.items()):
        file = f"oauth2-{number}"
        files[file] = _OAUTH2_2_3.format_map({**values, "oid": oid})
        main += _GRANT_2_3.format(args=settings.folder / file, mailboxes=" ".join(names))
    files["dovecot.conf"] = main
    return files
