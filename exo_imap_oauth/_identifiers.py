"""What a tenant, an application's ID and an address look like: one judgement on every way in.

Every pattern is linear in time, and compiled on use: this is loaded with every token source.
"""

from __future__ import annotations

import re
from typing import Final

from exo_imap_oauth._text import is_guid

_LABEL: Final = r"[^\W_](?:(?:[^\W_]|-){0,61}[^\W_])?"
_DOMAIN: Final = rf"{_LABEL}(?:\.{_LABEL})+"
_TENANT_DOMAIN: Final = rf"(?a:{_DOMAIN})"
_ATOM: Final = r"[\w!#$%&'*+/=?^`{|}~-]+"  # RFC 5322 section 3.2.3, with the letters of RFC 6532
# o'brien@contoso.com is one, 'inbox@contoso.com' is quoted.
_ADDRESS: Final = rf"(?=[^'].{{2,253}}\Z){_ATOM}(?:\.{_ATOM})*@{_DOMAIN}"
_TOKEN_URI: Final = r"(?i)https://[^/\s]+/([^/\s]*)/oauth2/v2\.0/token(?:\?\S*)?"
# The last one is the tenant of all personal accounts.
_OF_MANY: Final = ("common", "organizations", "consumers", "9188040d-6c67-4c5b-b112-36a304b66dad")


def is_id(value: str) -> bool:
    """Whether a value is a complete ID of Entra, and none as in examples."""
    return is_guid(value) and not value.startswith("00000000-")


def is_address(value: str) -> bool:
    """Whether a value is a plain mail address, letters beyond ASCII included."""
    return re.fullmatch(_ADDRESS, value) is not None


def is_tenant_of_many(tenant: str) -> bool:
    """Whether it stands for many tenants or personal accounts: no application signs in there."""
    return tenant.casefold() in _OF_MANY


def is_tenant(tenant: str) -> bool:
    """Whether it is a complete ID or a domain name."""
    return is_id(tenant) or re.fullmatch(_TENANT_DOMAIN, tenant) is not None


def tenant_of(uri: str) -> str | None:
    """The tenant that a token endpoint of Entra's form names, or None."""
    match = re.fullmatch(_TOKEN_URI, uri)
    return match[1].casefold() if match else None


def problem_of_tenant(tenant: str) -> str | None:
    """What is wrong with a tenant, as the end of a sentence and what to do, or None."""
    if is_tenant_of_many(tenant):
        why = "stands for many tenants, where no application can sign in"
    elif is_tenant(tenant):
        return None
    else:
        why = "is neither a complete GUID nor a domain name"
    return f"{why}. Copy the Directory (tenant) ID from the Overview of the app registration"
