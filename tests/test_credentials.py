"""A client secret keeps itself to itself."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from exo_imap_oauth.credentials import ClientSecret

SECRET = "s3cr3t~Value+with/odd=chars&"


def test_no_public_attribute_shows_the_secret() -> None:
    credential = ClientSecret(SECRET)
    shown = [getattr(credential, name) for name in dir(credential) if not name.startswith("_")]
    for value in [credential, *shown]:
        assert SECRET not in repr(value)
        assert SECRET.encode() not in (value if isinstance(value, bytes) else b"")


def test_fingerprints_tell_secrets_apart() -> None:
    assert ClientSecret(SECRET).fingerprint == ClientSecret(SECRET).fingerprint
    assert ClientSecret(SECRET).fingerprint != ClientSecret(SECRET + "x").fingerprint


def test_equal_callables_have_one_fingerprint_and_are_not_called_for_it() -> None:
    class Vault:
        def __init__(self, name: str) -> None:
            self.name = name

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Vault) and other.name == self.name

        def __hash__(self) -> int:
            return hash(self.name)

        def __call__(self) -> str:
            raise AssertionError

    assert ClientSecret(Vault("a")).fingerprint == ClientSecret(Vault("a")).fingerprint
    assert ClientSecret(Vault("a")).fingerprint != ClientSecret(Vault("b")).fingerprint


def test_it_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ClientSecret(SECRET))


@pytest.mark.parametrize("secret", ["", " ", "a\nb", None, 5])
def test_what_cannot_be_a_secret_is_refused(secret: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        ClientSecret(secret)
