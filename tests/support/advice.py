"""Messages and names that the tests of advice share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from exo_imap_oauth.advice import Stage, advise

ROOT = Path(__file__).parents[1]
TENANT = "11111111-1111-4111-8111-111111111111"
CLIENT = "22222222-2222-4222-8222-222222222222"
OBJECT = "33333333-3333-4333-8333-333333333333"
MAILBOX = "inbox@contoso.example"
IDS = {"tenant_id": TENANT, "client_id": CLIENT, "enterprise_object_id": OBJECT}
GOOD_CLAIMS = {"aud": "https://outlook.office365.com", "roles": "IMAP.AccessAsApp", "oid": OBJECT}
REFUSAL = "A1 NO AUTHENTICATE failed."
GRANT = f"Add-MailboxPermission -Identity '{MAILBOX}' -User '{OBJECT}' -AccessRights FullAccess"
STAGES: tuple[Stage | None, ...] = (None, "token", "authenticate", "post_auth", "runtime")
FAILURES = json.loads((ROOT / "data" / "failures.json").read_text("utf-8"))


def advice_id(message: str, stage: Stage | None = None, **known: str) -> str | None:
    advice = advise(message, stage=stage, **known)
    return None if advice is None else advice.id


class Example(NamedTuple):
    """One message as people meet it, for each id; docs/how-to/troubleshoot.md shows them."""

    id: str
    message: str = ""
    stage: Stage | None = None
    known: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple has no field(); nobody changes it


EXAMPLES = [
    Example(**example)
    for example in json.loads((ROOT / "data" / "advice-examples.json").read_text("utf-8"))
]
UNREACHABLE = [
    "[Errno 111] Connection refused",
    "[WinError 10061] No connection could be made because the target machine actively refused it",
    "[Errno -2] Name or service not known",
    "[Errno -3] Temporary failure in name resolution",
    "[Errno 8] nodename nor servname provided, or not known",
    "[Errno 11001] getaddrinfo failed",
    "[Errno 101] Network is unreachable",
    "[Errno 113] No route to host",
    "timed out",
    "TimeoutError: timed out",
    "[Errno 110] Connection timed out",
    "The handshake operation timed out",
    "HTTPSConnectionPool(host='x', port=443): Read timed out. (read timeout=10)",
    "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
    "[Errno 104] Connection reset by peer",
    "Failed to resolve 'login.example' (NameResolutionError)",
    "Unable to connect to proxy",
]
