"""The bodies of the journal's rows as text: JSON that keeps non-finite floats."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

_WRAPPED = '{"float":'
_WRAPPED_BYTES = _WRAPPED.encode()


def encode(body: Mapping[str, Any]) -> str:
    """Return `body` as strict JSON; non-finite floats, which JSON has not, become {"float": "nan"}."""
    try:
        text = json.dumps(dict(body), allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = _WRAPPED
    if _WRAPPED not in text:
        return text
    return json.dumps(_wrap(body), allow_nan=False, separators=(",", ":"))


def decode(text: str) -> dict[str, Any]:
    """Return what encode() was given."""
    if _WRAPPED in text:
        return json.loads(text, object_hook=_unwrap)  # type: ignore[no-any-return]
    try:
        return from_json(text)  # type: ignore[no-any-return]  # a third of json.loads' time
    except ValueError:  # half a surrogate pair, as in a path that is not UTF-8
        return json.loads(text)  # type: ignore[no-any-return]


def _wrap(value: Any) -> Any:
    if isinstance(value, Mapping):
        items = {key: _wrap(item) for key, item in value.items()}
        # A config whose only parameter is called "float" must not be taken for a wrapped number.
        return {"float": [items["float"]]} if items.keys() == {"float"} else items
    if isinstance(value, list | tuple):
        return [_wrap(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def _unwrap(value: dict[str, Any]) -> Any:
    if value.keys() != {"float"}:
        return value
    wrapped = value["float"]
    return {"float": wrapped[0]} if isinstance(wrapped, list) else float(wrapped)


def decoded(text: bytes) -> dict[str, Any]:
    """Return what decode() does, in less time, from bytes."""
    if _WRAPPED_BYTES not in text:
        try:
            return from_json(text)  # type: ignore[no-any-return]  # without a detour by str
        except ValueError:  # half a surrogate pair
            pass
    return decode(text.decode())
