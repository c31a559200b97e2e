"""Reads the inboxes that Universal Messenger's configuration, ``cmsbs-conf``, describes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from typing_extensions import override

from exo_imap_oauth._arguments import checked_environ, require
from exo_imap_oauth._cmsbs import keys
from exo_imap_oauth._cmsbs.findings import Findings
from exo_imap_oauth._cmsbs.findings import Setting as Setting  # noqa: PLC0414 - exported
from exo_imap_oauth._cmsbs.inboxes import Read, read_inboxes
from exo_imap_oauth._cmsbs.layers import Layers
from exo_imap_oauth._inbox.check import remember
from exo_imap_oauth.errors import ConfigProblem as ConfigProblem  # noqa: PLC0414, TC001 - exported
from exo_imap_oauth.inbox import InboxConfig as InboxConfig  # noqa: PLC0414 - exported

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from exo_imap_oauth.credentials import ClientCertificate


class CmsbsConfig(Mapping[str, InboxConfig]):
    """The inboxes of a configuration by name: ``default`` first, then the listeners.

    Asking for an inbox that is configured but not read here, such as one that does not use
    OAuth2, raises a KeyError that says why.

    Attributes:
        warnings: What is suspicious but can work, in the order of files and lines.
        settings: Every setting of an inbox by its key: where it was made, what it overrode.
            Their ``value`` may be a secret.
    """

    def __init__(
        self,
        inboxes: Mapping[str, InboxConfig],
        *,
        absent: Mapping[str, ConfigProblem],
        warnings: tuple[ConfigProblem, ...],
        settings: Mapping[str, Setting],
    ) -> None:
        self._inboxes = dict(inboxes)
        self._absent = dict(absent)
        self.warnings = warnings
        self.settings: Mapping[str, Setting] = MappingProxyType(dict(settings))

    @property
    def default(self) -> InboxConfig:
        """The primary inbox."""
        return self[keys.PRIMARY]

    @override
    def __getitem__(self, name: str) -> InboxConfig:
        if name in self._inboxes:
            return self._inboxes[name]
        why = self._absent.get(name, f"no inbox {name!r}, only {', '.join(self._inboxes)}")
        raise KeyError(str(why))

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._inboxes)

    @override
    def __len__(self) -> int:
        return len(self._inboxes)

    @override
    def __repr__(self) -> str:
        return f"CmsbsConfig({self._inboxes!r})"

    def _repr_html_(self) -> str:
        """Each inbox for notebooks: its settings, where they were made, what they overrode."""
        from exo_imap_oauth._config_html import config_html  # noqa: PLC0415 - few need it

        return config_html(self._inboxes, self._absent, self.settings, self.warnings)


def load_config(
    path: str | PathLike[str] = "cmsbs-conf",
    *,
    environ: Mapping[str, str] | None = None,
    certificate: ClientCertificate | None = None,
    assertion: Callable[[], str] | None = None,
) -> CmsbsConfig:
    """Read the inboxes that Universal Messenger is configured to read with OAuth2.

    Later settings win: ``cmsbs.properties``, then ``conf.d/*.properties`` in byte order of
    their names, then the environment. A client secret that a ``$file`` key names is checked now
    and read again for each token request, so that it can be replaced while the program runs; its
    inbox has a function for :attr:`~InboxConfig.client_secret` that reads the file.

    Args:
        path: A ``cmsbs-conf`` folder, or one ``.properties`` file, which is then read alone.
        environ: The environment; by default that of the process.
        certificate: The credential of every inbox, in place of client secrets, which are then
            neither needed nor read.
        assertion: The same: a function that returns a federated assertion.

    Raises:
        ConfigError: Everything that cannot work, each with file, line and fix.
        TypeError: ``path`` is no path.
    """
    page = "reference/configuration"
    require("path", path, (str, os.PathLike), "the path of a folder or file", page=page)
    findings = Findings()
    layers = Layers(Path(path), checked_environ(environ, page), findings)
    with_secrets = certificate is None and assertion is None
    found, absent = read_inboxes(layers, findings, with_secrets=with_secrets)
    error = findings.error(str(path))
    if error is not None:
        del environ, layers, found  # tracebacks hold frames
        raise error
    inboxes = {name: _inbox(name, read, certificate, assertion) for name, read in found.items()}
    # What a typing mistake glued to a key may be a secret.
    settings = {keys.shown(key): setting for key, setting in layers.settings.items()}
    return CmsbsConfig(inboxes, absent=absent, warnings=findings.warnings, settings=settings)


def _inbox(
    name: str,
    read: Read,
    certificate: ClientCertificate | None,
    assertion: Callable[[], str] | None,
) -> InboxConfig:
    values = read.values
    # Empty where there is another credential.
    secret = read.secret_file or values["client_secret"] or None
    inbox = InboxConfig(
        user=values["user"],
        token_uri=values["token_uri"],
        client_id=values["client_id"],
        client_secret=secret,
        certificate=certificate,
        assertion=assertion,
        scope=values["scope"],
        host=values["host"],
        port=int(values["port"]),
        tls="implicit" if values["tls"] == "implicit" else "starttls",
        folder=values["folder"],
        debug=values["debug"] == "true",
        name=name,
    )
    remember(inbox, read.warnings)
    return inbox
