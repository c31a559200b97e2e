"""What the system lacks: a reason to skip, but in CI a failure."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip_or_fail(how: str) -> NoReturn:
    """Skip the test; where the variable ``CI`` is set, fail it.

    Args:
        how: What is missing, or how to install it.
    """
    if os.environ.get("CI"):
        pytest.fail(how)
    pytest.skip(how)
