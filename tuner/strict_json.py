"""Strict JSON for other programs: what Python has and JSON has not becomes null."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_json(rows: Any) -> str:
    """Return strict JSON: a non-finite number, which JSON has not, becomes null."""
    return json.dumps(_strict(rows), indent=2, allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
