"""The plain values that a config is made of: how they are checked, stored and written."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from tuner.errors import Problem, SweepError

PLAIN_RULE = "a value must be a finite number, a boolean, a string, or a list of those"


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on the parts alone: the same in any process on any machine."""
    text = json.dumps([plain(part) for part in parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def plain(value: Any) -> Any:
    """Return `value` as Python's own types: numpy scalars and arrays unpacked, tuples as lists."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        # tolist() gives int, float, bool, str or (nested) lists of them, so numpy is not imported here.
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def is_plain(value: Any) -> bool:
    """Say whether a config can hold `value`, and get it back unchanged from TOML and JSON."""
    if isinstance(value, list):
        return all(is_plain(item) for item in value)
    return type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def is_number(value: Any) -> bool:
    """Say whether `value` is an int or a float (finite or not); a boolean is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def freeze(value: Any) -> str:
    """Return a plain value as JSON: immutable, hashable, and different for 1, 1.0, true and "1"."""
    return json.dumps(value)


def thaw(text: str) -> Any:
    """Return the value behind `freeze`, a fresh one each time, so that no trainable can change the space."""
    return json.loads(text)


def exact(value: float) -> Fraction:
    """Return the decimal number as it is written: 0.1 is one tenth, not the nearest binary fraction."""
    return Fraction(repr(value))


def show(value: Any) -> str:
    """Return a value as it would be written in TOML, for error sentences."""
    return json.dumps(value, ensure_ascii=False) if is_plain(value) else repr(value)


def show_list(values: Sequence[Any], at_most: int = 8) -> str:
    """Return values separated by commas, the long tail left out."""
    shown = [show(value) for value in values[:at_most]]
    return ", ".join([*shown, f"... ({len(values)} in all)"] if len(values) > at_most else shown)


def option_texts(options: Iterable[Any]) -> list[str]:
    """Return each option's TOML text, its key under `when`: sgd, 3, 0.5, true. No two are the same.

    A string that reads like another option ("3" beside 3) is written with its quotes.
    """
    values = list(options)
    taken = {show(value) for value in values if not isinstance(value, str)}
    bare = [isinstance(value, str) and value not in taken and value[:1] != '"' for value in values]
    return [value if is_bare else show(value) for value, is_bare in zip(values, bare, strict=True)]


def read_toml(text: str) -> Any:
    """Return the value that `text` stands for in TOML (1e-3 is 0.001), or None where it is not TOML."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return None


def toml_key(text: str) -> str:
    """Return `text` as one part of a dotted TOML key, quoted where TOML asks for it."""
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else show(text)


def label_part(text: str) -> str:
    """Return `text` for a leaf's label, quoted where it could be taken for the label's own signs."""
    return text if re.fullmatch(r"[\w.+-]+", text) else show(text)


def under(key: str, name: str) -> str:
    """Return `name` as a key inside `key`."""
    return f"{key}.{name}" if key and name else key or name


def rekey(problems: Iterable[Problem], key: str) -> list[Problem]:
    """Return the problems of a part as problems of the whole, which has the part at `key`."""
    return [Problem(under(key, p.key), p.rule, p.got, p.remedy) for p in problems]


def refuse(source: str, problems: Sequence[Problem]) -> None:
    """Raise all the problems as one error, if there are any."""
    if problems:
        raise SweepError(source, problems)
