"""JSON from outside, which may be anything."""

from __future__ import annotations

import json
from typing import Any, cast


def json_object(data: bytes | str) -> dict[str, Any] | None:
    """The JSON object in ``data``, or None if it is something else or no JSON at all."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
