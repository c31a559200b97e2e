"""A private key and its certificate, read from PEM or PFX and checked.

Failures are returned, not raised: a traceback would hold frames that hold the key and the
passphrase. Their texts are written here, never taken from the data or from the library that
reads it. Nothing heavy is imported before something is read.
"""

from __future__ import annotations

import codecs
import re
import time
from base64 import urlsafe_b64encode
from hashlib import sha1, sha256
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from exo_imap_oauth._arguments import wrong_kind
from exo_imap_oauth._files import read_file, reason, too_large
from exo_imap_oauth._process_lock import no_fork
from exo_imap_oauth._text import one_line

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

# What the functions below find loaded, and what signs later.
_NEEDED = (
    "cryptography",
    "cryptography.x509",
    "cryptography.hazmat.primitives.serialization.pkcs12",
    "jwt",
)
_MAX_SIZE = 262_144  # bytes; a key with a long chain of certificates has some ten thousand
_LONGEST_PATH = 1_024  # characters; a key in base64 is longer
_SMALLEST_KEY = 2_048  # bits, Entra's minimum
_CLOCK_SKEW = 300  # s that another machine's clock, which made the certificate, may be ahead
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----(?:(?!-----).)*-----END \1-----", re.DOTALL)
_EXTRA = (
    "a ClientCertificate needs PyJWT and cryptography: pip install 'exo-imap-oauth[certificate]'"
)
_PAGE = "Entra admin center > App registrations > your app > Certificates & secrets > Certificates"
_HOW_TO = "how-to/certificate"
_HALVES = ("certificate", "private key")
_HALF = (
    "there is a {0} but no {1} in it. Use the file with both, or join the bytes of the two files:"
    " from_pem(key.read_bytes() + certificate.read_bytes())."
)


class KeyPair(NamedTuple):
    """A private key and the certificate of its public half."""

    key: RSAPrivateKey
    certificate: x509.Certificate

    @property
    def expires_on(self) -> int:
        """When the certificate expires, in Unix seconds."""
        return int(self.certificate.not_valid_after_utc.timestamp())

    @property
    def thumbprint(self) -> str:
        """Its SHA-1 digest, as the portal shows it."""
        return sha1(self._der(), usedforsecurity=False).hexdigest().upper()

    @property
    def digest(self) -> bytes:
        """Its SHA-256 digest."""
        return sha256(self._der()).digest()

    @property
    def x5t_s256(self) -> str:
        """The same, as the header of an assertion has it (RFC 7515 section 4.1.8)."""
        return urlsafe_b64encode(self.digest).rstrip(b"=").decode()

    def problem(self) -> str | None:
        """Why the certificate cannot be used now, or None."""
        valid_from = self.certificate.not_valid_before_utc
        now = time.time()
        if now >= self.expires_on:
            return (
                f"the certificate expired on {_date(self.certificate.not_valid_after_utc)}. Make a"
                f" new one, upload it ({_PAGE}) and use that."
            )
        if now < valid_from.timestamp() - _CLOCK_SKEW:
            return (
                f"the certificate is not valid before {_date(valid_from)}. Wait until then, or set"
                " the clock of this machine if it is wrong."
            )
        return None

    def _der(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - on use

        return self.certificate.public_bytes(Encoding.DER)


class _Unusable(ValueError):
    """What was given cannot work; the text says why and what to do, and holds nothing of it."""


def load(
    source: str | PathLike[str] | bytes,
    password: str | bytes | None,
    container: Literal["PEM", "PFX"],
) -> KeyPair | Exception:
    """Read a key and its certificate.

    Args:
        source: The path of a file, or its bytes.
        password: The passphrase of the key.
        container: How both are stored.

    Returns:
        The pair; or the error for the caller to raise: a TypeError or ValueError for what cannot
        work, an OSError for a file that cannot be read, an ImportError where the extra is missing.
    """
    try:
        with no_fork:
            for module in _NEEDED:
                import_module(module)
    except ImportError as error:
        return ImportError(_EXTRA, name=error.name)
    where = f"the {container} given"
    try:
        secret = _passphrase(password)
        if isinstance(source, bytes):
            data = _of_usable_size(source)
        else:
            path = _path(source, container)
            data = read_file(path, _MAX_SIZE)
            where = one_line(str(path))  # it is one, and no secret in its place
        pair = _from_pem(data, secret) if container == "PEM" else _from_pfx(data, secret)
    except OSError as error:
        # The constructor picks the subclass by the number, such as FileNotFoundError.
        text = f"the certificate cannot be read: {reason(error)}"
        return OSError(error.errno, text, one_line(str(source)))
    except TypeError as error:
        return TypeError(*error.args)
    except _Unusable as error:
        return ValueError(f"{where}: {error}")
    except Exception as error:  # noqa: BLE001 - its text and frames may hold anything
        return ValueError(f"{where}: it cannot be read ({type(error).__name__})")
    problem = pair.problem()
    return ValueError(f"{where}: {problem}") if problem else pair


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


# ---- what was given --------------------------------------------------------------------------


def _of_usable_size(data: bytes) -> bytes:
    if problem := too_large(data, _MAX_SIZE):
        raise _Unusable(f"{problem}.")
    return data


def _passphrase(password: object) -> bytes | None:
    if isinstance(password, str):
        return password.encode("utf-8", errors="surrogatepass")
    if password is None or isinstance(password, bytes):
        return password
    raise wrong_kind("password", password, "a string, bytes or None", page=_HOW_TO)


def _path(source: str | PathLike[str], container: str) -> Path:
    if not isinstance(source, (str, PathLike)):
        expected = "the path of a file, or its bytes"
        raise wrong_kind("path_or_bytes", source, expected, page=_HOW_TO)
    text = str(source)
    if len(text) > _LONGEST_PATH or "\n" in text or "-----BEGIN" in text:
        how = ".encode()" if container == "PEM" else " through base64.b64decode()"
        raise _Unusable(
            f"this text is not the path of a file. Give its content as bytes: text{how}."
        )
    if not text.strip():
        raise _Unusable("the path is empty.")
    return Path(text)


# ---- PEM -------------------------------------------------------------------------------------


def _from_pem(data: bytes, password: bytes | None) -> KeyPair:
    """The pair in PEM text (RFC 7468)."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell writes text
        data = data.decode("utf-16", errors="replace").encode()
    keys, texts = _blocks(data, b"PRIVATE KEY"), _blocks(data, b"CERTIFICATE")
    if not keys and not texts:
        raise _Unusable(_why_no_pem(data))
    if not keys or not texts:
        raise _Unusable(_HALF.format(*(_HALVES if texts else _HALVES[::-1])))
    if len(keys) > 1:
        raise _Unusable(f"there are {len(keys)} private keys in it. Leave one.")
    return _matched(_pem_key(keys[0], password), [_pem_certificate(text) for text in texts])


def _blocks(data: bytes, kind: bytes) -> list[bytes]:
    return [block[0] for block in _BLOCK.finditer(data) if block[1].endswith(kind)]


def _why_no_pem(data: bytes) -> str:
    if not data.strip():
        return "it is empty."
    if data[:1] == b"\x30":  # an ASN.1 sequence, which both DER and PFX are
        return (
            "it is binary, not PEM. Read a .pfx or .p12 file with from_pfx(); convert a key or"
            " certificate in DER with: openssl pkey -inform der, openssl x509 -inform der"
        )
    return "there is neither a key nor a certificate in PEM (-----BEGIN …) in it."


def _pem_certificate(block: bytes) -> x509.Certificate:
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415 - loaded on use

    try:
        return load_pem_x509_certificate(block)
    except ValueError:
        raise _Unusable("a certificate in it is damaged. Export or copy it again.") from None


def _pem_key(block: bytes, password: bytes | None) -> PrivateKeyTypes:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - loaded on use
        load_pem_private_key,
    )

    if block.startswith(b"-----BEGIN OPENSSH"):
        raise _Unusable(
            "its key is in OpenSSH's format. Convert it with: ssh-keygen -p -m PKCS8 -f FILE"
        )
    encrypted = b"ENCRYPTED" in block
    if encrypted and not password:
        raise _Unusable("its private key is encrypted. Give the passphrase: password=…")
    try:
        # A passphrase that nothing is encrypted with does no harm, as in the ssl module.
        return load_pem_private_key(block, password if encrypted else None)
    except (TypeError, ValueError):
        if encrypted:
            raise _Unusable("the passphrase is wrong, or its private key is damaged.") from None
        raise _Unusable("its private key is damaged. Export or copy it again.") from None


# ---- PFX -------------------------------------------------------------------------------------


def _from_pfx(data: bytes, password: bytes | None) -> KeyPair:
    """The pair in a PFX, also called PKCS #12 (RFC 7292)."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - loaded on use
    from cryptography.hazmat.primitives.serialization import pkcs12  # noqa: PLC0415 - the same

    try:
        with no_fork:  # up to cryptography 42 this loads modules
            key, certificate, others = pkcs12.load_key_and_certificates(data, password)
    except UnsupportedAlgorithm:
        raise _Unusable(
            "it is encrypted in a way that is no longer supported. Export it again, with"
            " AES256-SHA256 where Windows asks for the encryption."
        ) from None
    except (TypeError, ValueError):
        raise _Unusable(_why_no_pfx(data, password)) from None
    certificates = [*([] if certificate is None else [certificate]), *others]
    if key is None:
        raise _Unusable("there is no private key in it. Export it with the private key.")
    if not certificates:
        raise _Unusable("there is a private key but no certificate in it. Export both.")
    return _matched(key, certificates)


def _why_no_pfx(data: bytes, password: bytes | None) -> str:
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - loaded on use

    if not data.strip():
        return "it is empty."
    if b"-----BEGIN " in data:
        return "it is PEM, not PFX. Read it with from_pem()."
    if data[:1] != b"\x30":
        return "it is not a PFX (.pfx, .p12)."
    try:
        load_der_x509_certificate(data)
    except ValueError:
        if password is None:
            return "it is encrypted. Give the passphrase: password=… (or it is damaged)"
        return "the passphrase is wrong, or it is damaged."
    return "it is a certificate alone. Export it as PFX, with the private key."


# ---- both ------------------------------------------------------------------------------------


def _matched(key: PrivateKeyTypes, certificates: list[x509.Certificate]) -> KeyPair:
    """The key with its own certificate, which a chain of others may accompany."""
    from cryptography.hazmat.primitives.asymmetric.rsa import (  # noqa: PLC0415 - loaded on use
        RSAPrivateKey,
    )

    if not isinstance(key, RSAPrivateKey):
        raise _Unusable(
            "its private key is not an RSA key, and Entra takes no other. Make one with:"
            " openssl req -x509 -newkey rsa:3072 …"
        )
    if key.key_size < _SMALLEST_KEY:
        raise _Unusable(
            f"its RSA key has {key.key_size} bits, and Entra wants {_SMALLEST_KEY} or more. Make"
            " one with: openssl req -x509 -newkey rsa:3072 …"
        )
    own = [certificate for certificate in certificates if _is_of(key, certificate)]
    if not own:
        raise _Unusable(
            "the certificate in it belongs to another private key. Use the key that the"
            " certificate was made with."
        )
    # A certificate that was renewed for the same key may stand beside the old one.
    return KeyPair(key, max(own, key=lambda certificate: certificate.not_valid_after_utc))


def _is_of(key: RSAPrivateKey, certificate: x509.Certificate) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - loaded on use

    try:
        return certificate.public_key() == key.public_key()
    except (UnsupportedAlgorithm, ValueError):  # of an authority's certificate
        return False
