"""Values as a person reads them: short, and never ambiguous."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

NOTHING = "-"
# The order in which a person wants to read them.
STATES = ("completed", "stopped", "failed", "running", "interrupted", "pending")
# How they look.
STYLES = {
    "completed": "green",
    "stopped": "yellow",
    "failed": "red",
    "running": "cyan",
    "interrupted": "magenta",
    "pending": "dim",
}


def number(value: float | None) -> str:
    """Return a metric with 4 significant digits, trailing zeros kept, so that a column lines up."""
    if value is None:
        return NOTHING
    if isinstance(value, int):
        return str(value)
    if 1e4 <= abs(value) < 1e8:
        return f"{value:.0f}"
    return _exponent(f"{value:#.4g}".rstrip("."))


def value(item: Any) -> str:
    """Return a config's value as short TOML: 4 significant digits, texts without their quotes."""
    if item is None:
        return NOTHING
    if isinstance(item, float):
        return f"{item:.0f}" if 1e4 <= abs(item) < 1e8 and item == int(item) else _exponent(f"{item:.4g}")
    if isinstance(item, list | tuple):
        return f"[{', '.join(value(part) for part in item)}]"
    return item if isinstance(item, str) else json.dumps(item)


def _exponent(text: str) -> str:
    """Write 1.500e-05 as 1.5e-5."""
    match = re.fullmatch(r"(-?\d+)(?:\.(\d*?)0*)?e([+-])0*(\d+)", text)
    if match is None:
        return text
    whole, fraction, sign, power = match.groups()
    return f"{whole}{'.' + fraction if fraction else ''}e{'-' if sign == '-' else ''}{power}"


def config_line(config: Mapping[str, Any]) -> str:
    """Return a config on one line: `learning_rate=0.0123 batch_size=32`."""
    return " ".join(f"{name}={value(item)}" for name, item in config.items())


def rate(per_second: float) -> str:
    """Return a rate with two significant digits or whole: 0.031, 1.0, 120."""
    return f"{per_second:.0f}" if per_second >= 9.95 else f"{per_second:#.2g}"


def duration(seconds: float) -> str:
    """Return a duration with two units at most: 0.4 s, 52 s, 3 min 12 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 9.95 and isinstance(seconds, float):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small_size, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            big, rest = divmod(whole, size)
            few = rest // small_size
            return f"{big} {unit} {few} {small}" if few else f"{big} {unit}"
    return f"{whole} s"


def age(seconds: float) -> str:
    """Return how long ago something was, in one unit: 52 s ago, 3 min ago, 2 h ago, 12 d ago."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def count(amount: int, noun: str) -> str:
    """Return `1 trial`, `24 trials`."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def states(counts: Mapping[str, int]) -> str:
    """Return `21 completed, 2 stopped, 1 failed`; the states that do not occur are left out."""
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))


def best_of(configs: int) -> str:
    """Return the reminder that the best of many is partly luck."""
    return f"best of {configs}, so optimistic" if configs > 1 else "the only one"


def cut(text: str, width: int) -> str:
    """Return the text on one line of at most `width` characters, an ellipsis where it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: max(0, width - 1)].rstrip()}…"


def names(items: Iterable[str]) -> str:
    """Return `a, b and c`."""
    listed = list(items)
    return " and ".join([", ".join(listed[:-1]), listed[-1]]) if len(listed) > 1 else "".join(listed)
