"""A real Dovecot 2.3 or 2.4 IMAP server that accepts access tokens, for a ``with``."""

from __future__ import annotations

import contextlib
import functools
import grp
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from support import HOST, client_context, server_certificate
from support.dovecot_settings import Settings, configuration_files

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Mapping

_START_LIMIT = 10.0  # s, from exec to the greeting; about 0.2 is normal
_STOP_LIMIT = 10.0  # s, from SIGTERM to the end of the master process; about 1 is normal
_TRIES = 5  # ports are chosen before Dovecot binds them, so another program may be faster


class Dovecot:
    """Dovecot as a resource server for app-only tokens, in a temporary folder.

    Whether a token opens a mailbox depends on its service principal (``oid``), which the
    module :mod:`support.dovecot_settings` explains.

    The JWT must be RS256 with ``typ: JWT`` and the right ``kid`` in its header, and hold
    ``sub``, ``oid``, ``iss``, ``aud`` and ``exp``. Roles are not checked.

    Run by root, Dovecot becomes ``nobody``; run by anybody else, it stays that account.

    Args:
        keys: The RSA public keys, as PEM, that tokens are verified with, by the names that
            stand in the tokens' headers.
        issuers: The accepted ``iss``.
        audience: The only accepted ``aud``.
        users: The ``oid`` of a service principal to the mailbox or mailboxes it may open.
        denied: Mailboxes that exist and are refused to everyone.
        capability: The capabilities to advertise instead of Dovecot's own; before login
            Dovecot adds ``STARTTLS`` and ``AUTH=``.
        binary: The program; found where Debian puts it if None.

    Attributes:
        host: ``127.0.0.1``.
        port: The implicit TLS port.
        plain_port: A second port without TLS, where STARTTLS is offered.
        pid: Process and process group ID of the master process.
        folder: Its folder, there as long as it runs.

    Raises:
        RuntimeError: On entry, if it does not start; the message holds its log.
    """

    host = HOST

    def __init__(
        self,
        keys: Mapping[str, bytes],
        *,
        issuers: Collection[str],
        audience: str,
        users: Mapping[str, str | Collection[str]],
        denied: Collection[str] = (),
        capability: str | None = None,
        binary: str | None = None,
    ) -> None:
        self._keys = keys
        self._issuers = issuers
        self._audience = audience
        asked_for = {
            oid: {names.lower()} if isinstance(names, str) else set(map(str.lower, names))
            for oid, names in users.items()
        }
        self._denied = sorted(set(map(str.lower, denied)))
        self._grants = {
            oid: sorted(names.difference(self._denied)) for oid, names in asked_for.items()
        }
        self._capability = capability
        self._binary = binary or find_dovecot() or "dovecot"
        self._mailboxes = sorted(set(self._denied).union(*asked_for.values()))
        self._deliveries = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._last_log = ""
        self.port = 0
        self.plain_port = 0
        self.pid = 0
        self.folder = Path()

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A new verifying client context that trusts this server's certificate."""
        return client_context()

    @property
    def log(self) -> str:
        """What Dovecot has logged so far, or had logged when it was stopped."""
        if self._process is None:
            return self._last_log
        files = (self.folder / "console", self.folder / "log")
        return "".join(file.read_text("utf-8", "replace") for file in files if file.exists())

    @functools.cached_property
    def version(self) -> str:
        """Its version, such as ``2.3.19.1 (9b53102964)``."""
        asked = [self._binary, "--version"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    def challenge(self, *, token_is_valid: bool = False) -> dict[str, str]:
        """What the challenge of a refusal holds.

        Args:
            token_is_valid: Whether only the audience or the mailbox was another one.
        """
        if self.version.startswith("2.3."):
            return {"status": "401", "schemes": "bearer", "scope": "mail"}
        return {"status": "403" if token_is_valid else "401", "schemes": "bearer", "scope": ""}

    def deliver(self, user: str, message: bytes) -> None:
        """Put a new message into the inbox of a mailbox; a running session sees it at NOOP."""
        maildir = self._maildir(user)
        name = f"{time.time_ns()}.{next(self._deliveries)}.loopback"
        arriving = maildir / "tmp" / name
        arriving.write_bytes(message)
        self._hand_over(arriving)
        arriving.rename(maildir / "new" / name)

    def __enter__(self) -> Self:
        """Start it and wait until it greets.

        Raises:
            RuntimeError: It does not start.
        """
        # Not pytest's tmp_path: nobody must get through, and socket paths are short.
        self.folder = Path(tempfile.mkdtemp(prefix="dovecot-", dir="/tmp"))
        with contextlib.ExitStack() as undo:
            undo.callback(self.__exit__)
            self._write_files()
            for _ in range(_TRIES):
                self._start()
                if self._greets():
                    undo.pop_all()
                    return self
                self._stop()
                if "Address already in use" not in self._last_log:
                    break
        message = f"Dovecot did not start:\n{self._last_log}"
        raise RuntimeError(message)

    def __exit__(self, *exc_info: object) -> None:
        """Stop it and remove its folder."""
        self._stop()
        shutil.rmtree(self.folder)

    def _maildir(self, user: str) -> Path:
        return self.folder / "mail" / str(self._mailboxes.index(user.lower())) / "Maildir"

    def _account(self) -> pwd.struct_passwd:
        """The account Dovecot runs as."""
        return pwd.getpwuid(os.geteuid()) if os.geteuid() else pwd.getpwnam("nobody")

    def _hand_over(self, path: Path) -> None:
        if os.geteuid() == 0:
            account = self._account()
            os.chown(path, account.pw_uid, account.pw_gid)

    def _write_files(self) -> None:
        account = self._account()
        certificate = server_certificate()
        files = {
            **{f"keys/default/RS256/{kid}": pem for kid, pem in self._keys.items()},
            "certificate.pem": b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
            "key.pem": certificate.private_key_pem.bytes(),
            "mailboxes": "".join(
                f"{name}::{account.pw_uid}:{account.pw_gid}::{self._maildir(name).parent}::\n"
                for name in self._mailboxes
            ).encode(),
        }
        for name, content in files.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        for name, part in itertools.product(self._mailboxes, ("cur", "new", "tmp")):
            (self._maildir(name) / part).mkdir(parents=True)
        self._hand_over(self.folder)
        for path in self.folder.rglob("*"):
            self._hand_over(path)

    def _write_configuration(self) -> None:
        account = self._account()
        settings = Settings(
            folder=self.folder,
            account=account.pw_name,
            group=grp.getgrgid(account.pw_gid).gr_name,
            port=self.port,
            plain_port=self.plain_port,
            capability=self._capability,
            issuers=" ".join(self._issuers),
            audience=self._audience,
            grants=self._grants,
            denied=self._denied,
        )
        for name, text in configuration_files(self.version, settings).items():
            file = self.folder / name
            file.write_text(text)
            self._hand_over(file)

    def _start(self) -> None:
        with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as other:
            self.port, self.plain_port = one.getsockname()[1], other.getsockname()[1]
        self._write_configuration()
        configuration = self.folder / "dovecot.conf"
        account, root = self._account(), os.geteuid() == 0
        with (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [self._binary, "-F", "-c", configuration],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                user=account.pw_uid if root else None,
                group=account.pw_gid if root else None,
                extra_groups=() if root else None,
            )
        self.pid = self._process.pid

    def _greets(self) -> bool:
        """Whether this very server comes to answer on its ports before it ends."""
        assert self._process is not None
        greeting = f"{self.folder.name} ready.\r\n".encode()
        deadline = time.monotonic() + _START_LIMIT
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((HOST, self.plain_port), timeout=1) as connection,
                connection.makefile("rb") as stream,
            ):
                if stream.readline(1000).endswith(greeting):
                    return True
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.01)
                return False
        return False

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        # To all of its session: the master, told alone, gives its log process a second to end.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Its log process ends a moment after the master; nothing else is in its session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        self._last_log = self.log
        self._process = None


def find_dovecot() -> str | None:
    """Dovecot's path; an ordinary user's ``PATH`` often lacks Debian's folder for it."""
    return shutil.which("dovecot") or shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin")
