"""A client secret keeps itself to itself, and a function that gives one is not kept alive."""

from __future__ import annotations

import dataclasses
import functools
import gc
import pickle
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from exo_imap_oauth import AccessToken, TokenSource
from exo_imap_oauth._imap.bearer import Bearer
from exo_imap_oauth._process_lock import process_lock
from exo_imap_oauth.credentials import ClientAssertion, ClientSecret

if TYPE_CHECKING:
    from collections.abc import Callable

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


# ---- functions -------------------------------------------------------------------------------


class NamedVault:
    """Equal to every other one of its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamedVault) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __call__(self) -> str:
        raise AssertionError


class Vault:
    def secret(self) -> str:
        return SECRET


class SlottedVault:
    """What no weak reference can be made to."""

    __slots__ = ()

    def secret(self) -> str:
        return SECRET

    __call__ = secret


def source(secret: Callable[[], str]) -> TokenSource:
    return TokenSource("contoso.example", "client", secret)


def test_equal_callables_have_one_fingerprint_and_are_not_called_for_it() -> None:
    fingerprint = ClientSecret(NamedVault("a")).fingerprint
    vault = NamedVault("b")
    assert ClientSecret(vault).fingerprint == ClientSecret(NamedVault("b")).fingerprint
    assert ClientSecret(vault).fingerprint != fingerprint


def test_functions_and_what_they_are_bound_to_are_not_kept_alive() -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def use_a_vault() -> None:
        vault = Vault()
        alive.add(vault)
        for function in (
            vault.secret,
            functools.partial(vault.secret),
            lambda: vault.secret().strip(),
        ):
            source(function)
            TokenSource("contoso.example", "client", assertion=function)

    for _ in range(1_000):
        use_a_vault()
    gc.collect()
    assert len(alive) == 0


def test_sources_of_one_function_share_a_slot_and_others_do_not() -> None:
    vault, other = Vault(), Vault()
    assert source(vault.secret) == source(vault.secret)
    assert source(vault.secret) != source(other.secret)
    assert source(str.strip.__get__(SECRET)) != source(vault.secret)
    partial = functools.partial(vault.secret)
    assert source(partial) == source(partial)
    assert source(partial) != source(functools.partial(vault.secret))


@pytest.mark.parametrize("vault", [Vault(), SlottedVault()], ids=["plain", "slotted"])
def test_a_program_that_builds_a_source_for_each_login_keeps_its_identity(vault: Any) -> None:
    digests = {ClientSecret(vault.secret).fingerprint for _ in range(3)}
    assert len(digests) == 1
    assert ClientAssertion(vault.secret).fingerprint not in digests


def test_a_callable_that_no_weak_reference_can_be_made_to_keeps_its_identity() -> None:
    vault = SlottedVault()
    assert len({ClientSecret(vault).fingerprint for _ in range(3)}) == 1


def test_equal_callables_share_a_slot_as_long_as_a_source_has_one_of_them() -> None:
    first, second = source(NamedVault("a")), source(NamedVault("a"))
    assert first == second
    del first
    gc.collect()
    assert source(NamedVault("a")) == second


def test_an_object_that_follows_another_one_at_its_address_has_an_identity_of_its_own() -> None:
    seen: set[bytes] = set()
    for _ in range(100):
        vault = Vault()
        seen.add(ClientSecret(vault.secret).fingerprint)
        del vault
    assert len(seen) == 100


def test_a_function_whose_owner_has_no_hash_is_taken() -> None:
    class Unhashable(Vault):
        __hash__ = None  # type: ignore[assignment]

    vault = Unhashable()
    assert source(vault.secret) == source(vault.secret)


@dataclasses.dataclass(frozen=True, slots=True)
class SlottedByName:
    """Equal by its name too; and what no weak reference can be made to."""

    name: str

    def __call__(self) -> str:
        raise AssertionError


def wait_for_another_source() -> None:
    thread = threading.Thread(target=ClientSecret, args=(lambda: SECRET,), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


class Slow(NamedVault):
    """Its comparisons wait for another thread, which builds a source meanwhile."""

    __hash__ = NamedVault.__hash__

    def __eq__(self, other: object) -> bool:
        wait_for_another_source()
        return super().__eq__(other)


class SlowAndSlotted(SlottedByName):
    __slots__ = ()
    __hash__ = SlottedByName.__hash__

    def __eq__(self, other: object) -> bool:
        wait_for_another_source()
        return super().__eq__(other)


def test_no_code_of_a_user_runs_under_the_lock_of_the_process() -> None:
    for vault in (Slow, SlowAndSlotted):
        kept = ClientSecret(vault("slow"))
        assert ClientSecret(vault("slow")).fingerprint == kept.fingerprint


def test_no_hash_of_a_credential_is_asked_under_the_lock_of_the_process() -> None:
    is_free: list[bool] = []

    def look() -> None:
        if taken := process_lock.acquire(timeout=5):
            process_lock.release()
        is_free.append(taken)

    class Refused:
        def __hash__(self) -> int:
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            return 7

        def get_token(self, *_: str) -> AccessToken:
            return AccessToken("a.token", 2**31, 2**31, 1.0)

        def invalidate(self, _: object) -> None:
            """Nothing to forget."""

    bearer = Bearer("inbox@contoso.example", Refused(), None)
    bearer.obtain()
    assert bearer.drop_refused()
    assert is_free
    assert all(is_free)


def test_equal_callables_without_room_for_a_weak_reference_have_one_fingerprint() -> None:
    digests = {ClientSecret(SlottedByName("a")).fingerprint for _ in range(3)}
    assert len(digests) == 1
    assert ClientSecret(SlottedByName("b")).fingerprint not in digests


def test_not_all_that_cannot_be_held_weakly_is_kept_for_ever() -> None:
    for at in range(2_500):
        ClientSecret(SlottedByName(f"many {at}"))
    gc.collect()
    assert sum(isinstance(each, SlottedByName) for each in gc.get_objects()) <= 1_000


# ---- what it is no good for ------------------------------------------------------------------


def test_it_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ClientSecret(SECRET))


@pytest.mark.parametrize("secret", ["", " ", "a\nb", None, 5])
def test_what_cannot_be_a_secret_is_refused(secret: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        ClientSecret(secret)
