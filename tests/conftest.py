"""Fixtures for all tests."""

from __future__ import annotations

import os

import pytest
from support.dovecot import find_dovecot


@pytest.fixture(scope="session")
def dovecot_binary() -> str:
    """Dovecot's path; without one the test is skipped, in CI it fails."""
    path = find_dovecot()
    if path is not None:
        return path
    how = "install it: apt-get install dovecot-core dovecot-imapd"
    if os.environ.get("CI"):
        pytest.fail(how)
    pytest.skip(how)
