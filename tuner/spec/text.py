"""Values as TOML has them, for error sentences and for the frozen file.

The frozen file is written here and not by tomli_w, which gives a range five lines and a table in a table a
header of its own: here each key has one line, in the order of the sweep, as a person would write it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuner.space import values
from tuner.space.values import toml_key

LIMIT = 120  # characters of a received value that an error sentence shows


def plain(value: Any) -> Any:
    """Return a value as TOML would have it: paths as text, NumPy's numbers as Python's, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else values.plain(value)


def toml_text(value: Any) -> str:
    """Return a value as it would stand in a TOML file, cut where it is too long for a sentence."""
    text = inline(value)
    return text if len(text) <= LIMIT else text[: LIMIT - 3] + "..."


def inline(value: Any) -> str:
    """Return a value on one line of TOML; what TOML cannot hold as Python shows it."""
    if isinstance(value, Mapping):
        body = ", ".join(f"{toml_key(str(name))} = {inline(item)}" for name, item in value.items())
        return f"{{ {body} }}" if body else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(inline(item) for item in value)}]"
    return values.show(value).replace("\x7f", "\\u007f")  # JSON leaves it bare, TOML may not


def document(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return tables as a TOML file, in their order and in the order of their keys; empty ones are left out."""
    parts = [
        "\n".join([f"[{name}]", *(line for key, value in table.items() for line in _lines(toml_key(key), value))])
        for name, table in tables.items()
        if table
    ]
    return "\n\n".join(parts) + "\n"


def table(values: Mapping[str, Any]) -> str:
    """Return one table's keys as TOML lines without a header: a config as a file; missing values are left out."""
    return "".join(f"{toml_key(name)} = {inline(value)}\n" for name, value in values.items() if value is not None)


def _lines(key: str, value: Any) -> Iterator[str]:
    """Yield the lines of one key: one, but for a choice with branches, which has one a parameter."""
    if not isinstance(value, Mapping) or "when" not in value:
        yield f"{key} = {inline(value)}"
        return
    for name, item in value.items():
        if name != "when":
            yield f"{key}.{toml_key(name)} = {inline(item)}"
    for option, branch in value["when"].items():
        for name, item in branch.items():
            yield from _lines(f"{key}.when.{toml_key(option)}.{toml_key(name)}", item)
