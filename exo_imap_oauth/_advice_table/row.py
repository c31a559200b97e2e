"""A row of the table of advice, and what rows have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Stage = Literal["token", "authenticate", "post_auth", "runtime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    r"""One id of advice, and the kind of text that gets it.

    ``cause``, ``fix`` and ``commands`` hold fields such as ``{mailbox}`` for the known values. In
    ``cause`` and ``fix``, what stands in square brackets is left out unless its fields are known.

    Patterns are searched without regard to upper and lower case, in a text whose escapes are undone
    and whose quotation marks are all ``'``. A space stands for any white space; in a set of
    characters and behind ``(?<`` it has to be ``\x20``.

    Attributes:
        id: The id.
        codes: AADSTS numbers that say it by themselves, separated by blanks; they count at any
            stage.
        open_codes: Those that have more than one meaning: they count where no words tell.
        words: A pattern that no foreign text matches; it counts at its stages and at none given.
        vague: A pattern that counts only where one of the stages is given, or where the text
            names the server that was asked.
        stages: What may be under way when such a message comes.
        cause: The likely cause.
        fix: What to do.
        commands: Commands to paste.
        page: The page of the Entra admin center, a key of :data:`PAGES`.
        url: Microsoft's page on the subject.
        retryable: Whether the cause can pass without anybody changing anything.
        needs: Of a row that stands in place of that with its id: names that have to be known.
    """

    id: str
    codes: str = ""
    open_codes: str = ""
    words: str = ""
    vague: str = ""
    stages: tuple[Stage, ...] = ("token",)
    cause: str
    fix: str
    commands: tuple[str, ...] = ()
    page: str = ""
    url: str
    retryable: bool = False
    needs: str = ""


_APP: Final = "https://entra.microsoft.com/#view/Microsoft_AAD_RegisteredApps/ApplicationMenuBlade"
_ENTERPRISE: Final = "https://entra.microsoft.com/#view/Microsoft_AAD_IAM/ManagedAppMenuBlade"
PAGES: Final = {
    "overview": _APP + "/~/Overview/appId/{client_id}",
    "secrets": _APP + "/~/Credentials/appId/{client_id}",
    "permissions": _APP + "/~/CallAnAPI/appId/{client_id}",
    "enterprise": _ENTERPRISE + "/~/Properties/objectId/{enterprise_object_id}/appId/{client_id}",
}

ENTRA_DOCS: Final = "https://learn.microsoft.com/entra/identity-platform/"
CODES_URL: Final = ENTRA_DOCS + "reference-error-codes"
FLOW_URL: Final = ENTRA_DOCS + "v2-oauth2-client-creds-grant-flow"
IMAP_URL: Final = (
    "https://learn.microsoft.com/exchange/client-developer/legacy-protocols/"
    "how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth"
)
HEALTH_URL: Final = "https://status.cloud.microsoft"
IN_IMAP: Final[tuple[Stage, ...]] = ("authenticate", "post_auth", "runtime")
REGISTRATION: Final = "Entra admin center > Entra ID > App registrations > the application > "
ENTERPRISE_APP: Final = "Entra admin center > Entra ID > Enterprise apps > the application > "
