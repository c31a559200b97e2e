"""How many examples Hypothesis tries."""

from __future__ import annotations

import os

EXAMPLES = int(os.environ.get("EXO_HYPOTHESIS_EXAMPLES", "100"))
"""Enough to find what somebody has just broken; ``.ci/run`` tries more."""
