"""Who logs in: the second try with a new token, and what is remembered of it."""

from __future__ import annotations

import gc
import time
import weakref

from support.token_endpoint import TokenEndpoint, token

from exo_imap_oauth._imap.bearer import Bearer


def test_a_second_try_keeps_no_source_and_thus_no_secret_alive() -> None:
    with TokenEndpoint(token()) as endpoint:
        source = endpoint.source("a secret of its own")
        cached_one = Bearer("inbox@contoso.example", source, None)
        source.get_token()
        cached_one._began = time.time() + 1  # the token was there before
        cached_one.obtain()
        assert cached_one.drop_refused()
        gone = weakref.ref(source)
        del source, cached_one
        gc.collect()
    assert gone() is None


def test_a_program_that_builds_a_source_for_each_login_makes_one_second_try_a_minute() -> None:
    with TokenEndpoint(token()) as endpoint:
        tries: list[bool] = []
        for _ in range(3):
            login = Bearer("inbox@contoso.example", endpoint.source("another secret"), None)
            login._began = time.time() + 1
            login.obtain()
            tries.append(login.drop_refused())
            del login
            gc.collect()
    assert tries == [True, False, False]
