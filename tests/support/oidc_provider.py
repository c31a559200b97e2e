"""npm's oidc-provider, a certified OpenID provider, as the token endpoint of a tenant.

Unlike the loopback Exchange it was written by others, so it judges how a client proves its
identity: with a secret, or with an assertion that is signed with the key of a certificate.

The versions of all its packages, with their digests, stand in ``oidc-provider/package-lock.json``.
It runs on Node.js 18, 20 and 24.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from support import HOST, client_context, server_certificate

if TYPE_CHECKING:
    import ssl

_SOURCE = Path(__file__).with_name("oidc-provider")
_NPM_LIMIT = 120.0  # s, to fetch some 60 small packages


class Client(NamedTuple):
    """A client of the provider, as Entra's application.

    Attributes:
        client_id: Its ``client_id``.
        client_secret: Its secret; empty if it proves its identity with a key.
        object_id: The ``oid`` of its tokens.
    """

    client_id: str
    client_secret: str
    object_id: str


class OidcProvider:
    """The provider, running inside a ``with`` block.

    Attributes:
        tenant_id: The tenant in its address.
        issuer: The ``iss`` of its tokens.
        key_id: The name of its signing key.
        signing_key: The PEM of its public key.
    """

    KID = "oidc-provider"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self.tenant_id = str(uuid.uuid4())
        self.issuer = f"https://sts.windows.net/{self.tenant_id}/"
        self.key_id = self.KID
        self.signing_key = self._key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def authority(self) -> str:
        """What Microsoft's libraries call the authority: its address without the tenant."""
        return f"https://{HOST}:{self._port}"

    @property
    def token_uri(self) -> str:
        """Its token endpoint."""
        return f"{self.authority}/{self.tenant_id}/oauth2/v2.0/token"

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A new verifying client context that trusts this server's certificate."""
        return client_context()

    def __enter__(self) -> Self:
        """Start it, and wait until it listens."""
        leaf = server_certificate()
        signing_key = RSAAlgorithm.to_jwk(self._key, as_dict=True)
        del signing_key["key_ops"]  # it must not be for signing alone
        settings = {
            "tenant_id": self.tenant_id,
            "token_issuer": self.issuer,
            "certificate": b"".join(pem.bytes() for pem in leaf.cert_chain_pems).decode(),
            "key": leaf.private_key_pem.bytes().decode(),
            "signing_key": {**signing_key, "kid": self.KID, "use": "sig", "alg": "RS256"},
        }
        self._process = subprocess.Popen(
            ["node", "server.mjs"],
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._port = int(self._ask(settings))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def add_client(
        self, *, key: rsa.RSAPublicKey | None = None, algorithm: str = "PS256"
    ) -> Client:
        """Register a client.

        Args:
            key: The key that its assertions are signed with; None for a client secret.
            algorithm: The only accepted algorithm of its assertions.
        """
        client = Client(str(uuid.uuid4()), "" if key else _new_secret(), str(uuid.uuid4()))
        self._register(client, key, algorithm)
        return client

    def replace_secret(self, client: Client) -> Client:
        """Give a client a new secret; the old one is invalid from now on."""
        client = client._replace(client_secret=_new_secret())
        self._register(client, None, "")
        return client

    def _register(self, client: Client, key: rsa.RSAPublicKey | None, algorithm: str) -> None:
        known: dict[str, Any] = {
            "client_id": client.client_id,
            "object_id": client.object_id,
            "grant_types": ["client_credentials"],
            "redirect_uris": [],
            "response_types": [],
        }
        if key is None:
            known |= {
                "client_secret": client.client_secret,
                "token_endpoint_auth_method": "client_secret_post",
            }
        else:
            jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
            known |= {
                "token_endpoint_auth_method": "private_key_jwt",
                "token_endpoint_auth_signing_alg": algorithm,
                "jwks": {"keys": [jwk]},
            }
        self._ask(known)

    def _ask(self, what: object) -> str:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError("oidc-provider ended; what it said stands above")
        return answer.strip()


def _new_secret() -> str:
    return f"~+/=&{uuid.uuid4()}"


def why_no_node() -> str | None:
    """Why the provider cannot run here; None if it can."""
    if shutil.which("node") and shutil.which("npm"):
        return None
    return "install Node.js and npm: apt-get install nodejs npm"


def install() -> Path:
    """The provider with its packages, in a folder that is kept for the next run.

    Raises:
        RuntimeError: npm could not fetch them.
    """
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(_SOURCE.iterdir())))
    name = f"oidc-provider-{digest.hexdigest()[:16]}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "exo-imap-oauth"
    packages = cache / name
    if not packages.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Under another name first: another worker may be at it, or this one may be killed.
        partial = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=cache))
        try:
            shutil.copytree(_SOURCE, partial, dirs_exist_ok=True)
            _fetch_packages(partial)
            with contextlib.suppress(OSError):  # the other worker was faster
                partial.rename(packages)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return packages


def _fetch_packages(folder: Path) -> None:
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_NPM_LIMIT, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(str(error)) from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{' '.join(command)} failed:\n{error.stderr[-2000:]}") from None
