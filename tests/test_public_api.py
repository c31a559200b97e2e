"""What ``import exo_imap_oauth`` offers, and what it does not load."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import exo_imap_oauth
from exo_imap_oauth import errors
from exo_imap_oauth.advice import explain
from exo_imap_oauth.errors import (
    AuthenticationRefused,
    ConfigError,
    ConfigProblem,
    ConnectionFailed,
    ExoImapOAuthError,
    ImapError,
    PropertiesError,
    SessionExpired,
    Throttled,
    TokenEndpointUnavailable,
    TokenRequestRejected,
)

ROOT = Path(__file__).parent.parent
HEAVY = ("requests", "urllib3", "imaplib", "ssl", "logging", "cachetools", "typing_extensions")


def _loaded_after(statement: str, names: str = "sys.modules") -> set[str]:
    script = f"import sys; {statement}; print(*{names})"
    run = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_import_alone_loads_nothing_heavy() -> None:
    loaded = _loaded_after("import exo_imap_oauth")
    assert loaded.isdisjoint(HEAVY)
    assert {m for m in loaded if m.startswith("exo_")} == {
        "exo_imap_oauth",
        "exo_imap_oauth._version",
    }


def test_building_a_token_source_loads_no_http_client() -> None:
    loaded = _loaded_after(
        "import exo_imap_oauth; exo_imap_oauth.TokenSource('contoso.com', 'id', 'secret')"
    )
    assert loaded.isdisjoint(
        {"requests", "urllib3", "charset_normalizer", "certifi", "imaplib", "ssl"}
    )


def test_errors_are_there_after_a_plain_import() -> None:
    assert "exo_imap_oauth.errors" in _loaded_after("import exo_imap_oauth; exo_imap_oauth.errors")


@pytest.mark.parametrize("name", exo_imap_oauth.__all__)
def test_every_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(exo_imap_oauth, name) is not None
    assert name in dir(exo_imap_oauth)


def test_public_submodules_are_there_and_private_ones_start_with_an_underscore() -> None:
    folder = ROOT / "exo_imap_oauth"
    modules = {path.stem for path in folder.glob("*.py")} | {"testing"}
    public = {name for name in modules if not name.startswith("_")}
    # A fresh interpreter, since an import makes any module an attribute of its package.
    listed = _loaded_after("import exo_imap_oauth", "dir(exo_imap_oauth)") & modules
    assert public - listed == {"token_endpoint", "trust", "pytest_plugin"} & modules
    for name in sorted(public - {"pytest_plugin"}):
        assert importlib.import_module(f"exo_imap_oauth.{name}").__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Tokensource'"):
        exo_imap_oauth.Tokensource  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] # wrong on purpose  # noqa: B018


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{exo_imap_oauth.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


# ---- errors ----------------------------------------------------------------------------------

ADVICE = explain("secret-wrong", client_id="6a1d2c3b-0f4e-4d5c-8b7a-9e8f7a6b5c4d")
ERRORS: list[ExoImapOAuthError] = [
    ConfigError("two", problems=[ConfigProblem("a.b", "x.properties", 3, "is empty.", "Fill it.")]),
    PropertiesError("malformed", source="x.properties", line=7),
    TokenRequestRejected(
        "refused", advice=ADVICE, error="invalid_client", error_codes=[7000215], status=401
    ),
    TokenEndpointUnavailable("later", retry_after=5),
    AuthenticationRefused("no", challenge={"status": "401"}),
    Throttled("slow", retry_after=300),
    SessionExpired("over"),
    ConnectionFailed("gone", last_reply="BYE"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_survive_pickle_and_copy(error: ExoImapOAuthError) -> None:
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert twin is not error
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_an_error_reads_well_in_a_log() -> None:
    first, *rest = str(ERRORS[2]).splitlines()
    assert first == "refused"
    assert [line.split(":")[0] for line in rest] == ["  Cause", "  Fix", "  See"]
    problems = str(ERRORS[0]).splitlines()
    assert problems == ["two", "  x.properties:3: a.b: is empty. Fill it."]


def test_the_tree_is_the_contracts() -> None:
    import imaplib

    bases = {
        "ConfigError": ValueError,
        "ImapError": imaplib.IMAP4.error,
        "SessionExpired": imaplib.IMAP4.abort,
        "ConnectionFailed": imaplib.IMAP4.abort,
        "PropertiesError": ConfigError,
        "AuthenticationRefused": ImapError,
    }
    for name, base in bases.items():
        assert issubclass(getattr(errors, name), base)
    assert not issubclass(AuthenticationRefused, imaplib.IMAP4.abort)
    retryable = {type(error).__name__ for error in ERRORS if error.retryable}
    assert retryable == {
        "TokenEndpointUnavailable",
        "Throttled",
        "SessionExpired",
        "ConnectionFailed",
    }
