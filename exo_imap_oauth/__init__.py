"""Read Exchange Online mailboxes over IMAP with an app-only OAuth2 token.

Nothing heavier than this file is loaded until a name is used (PEP 562).
"""

from exo_imap_oauth._version import __version__ as __version__

TYPE_CHECKING = False  # to type checkers it is True; importing typing would cost 7 ms
if TYPE_CHECKING:
    from exo_imap_oauth.access_token import AccessToken as AccessToken
    from exo_imap_oauth.checkup import check_setup as check_setup
    from exo_imap_oauth.clouds import Cloud as Cloud
    from exo_imap_oauth.config import load_config as load_config
    from exo_imap_oauth.credentials import ClientCertificate as ClientCertificate
    from exo_imap_oauth.imap import authenticate_xoauth2 as authenticate_xoauth2
    from exo_imap_oauth.imap import open_mailbox as open_mailbox
    from exo_imap_oauth.inbox import InboxConfig as InboxConfig
    from exo_imap_oauth.powershell import exchange_setup_script as exchange_setup_script
    from exo_imap_oauth.token_source import TokenSource as TokenSource
else:
    _EXPORTS = {
        "AccessToken": "access_token",
        "ClientCertificate": "credentials",
        "Cloud": "clouds",
        "InboxConfig": "inbox",
        "TokenSource": "token_source",
        "authenticate_xoauth2": "imap",
        "check_setup": "checkup",
        "exchange_setup_script": "powershell",
        "load_config": "config",
        "open_mailbox": "imap",
    }
    _SUBMODULES = frozenset(
        {
            "access_token",
            "advice",
            "checkup",
            "clouds",
            "config",
            "credentials",
            "errors",
            "imap",
            "inbox",
            "listener",
            "mail",
            "powershell",
            "properties",
            "redis_cache",
            "testing",
            "token_cache",
            "token_source",
            "xoauth2",
        }
    )

    def __getattr__(name):  # noqa: ANN001, ANN202 - type checkers must not see it
        from importlib import import_module  # noqa: PLC0415 - as late as everything else

        from exo_imap_oauth._process_lock import no_fork  # noqa: PLC0415 - the same

        if name in _EXPORTS:
            with no_fork:
                module = import_module(f"{__name__}.{_EXPORTS[name]}")
            value = globals()[name] = getattr(module, name)
            return value
        if name in _SUBMODULES:
            with no_fork:
                return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():  # noqa: ANN202 - the same
        return sorted({*globals(), *_EXPORTS, *_SUBMODULES})


__all__ = [
    "AccessToken",
    "ClientCertificate",
    "Cloud",
    "InboxConfig",
    "TokenSource",
    "__version__",
    "authenticate_xoauth2",
    "check_setup",
    "exchange_setup_script",
    "load_config",
    "open_mailbox",
]
