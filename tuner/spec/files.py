"""load_sweep: a sweep file, with the overrides of the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.errors import Problem, SweepError, nearest
from tuner.spec.resolve import resolve
from tuner.spec.sweep import Sweep, absolute
from tuner.spec.tables import MODELS, TABLES, keys_of
from tuner.spec.text import toml_text

_KEYS = [f"{table}.{key}" for table, model in MODELS.items() for key in keys_of(model)]


def load_sweep(path: str | Path, overrides: Sequence[str] = (), trainable: Callable[..., Any] | None = None) -> Sweep:
    """Read a sweep file.

    Args:
        path: The TOML file. Paths in it are relative to its folder.
        overrides: Such as "search.trials=8": any key and a TOML value; a bare word is a text. Paths in
            them are relative to the working directory.
        trainable: The function of a sweep that was built in Python around one.

    Returns:
        The sweep, with everything that was left out filled in.

    Raises:
        SweepError: With every mistake found.
    """
    source = str(path)
    path = Path(path)
    problems: list[Problem] = []
    tables = absolute(_read(path, source), path.resolve().parent)
    keys = [key for text in overrides if (key := override(tables, text, problems))]
    if trainable is not None and isinstance(tables.setdefault("sweep", {}), Mapping):
        tables["sweep"] = {**tables["sweep"], "trainable": trainable}
    try:
        values = resolve(tables, stem=path.stem, prefix="sweep.", source=source)
    except SweepError as error:
        problems.extend(_blame(problem, keys) for problem in error.problems)
    if problems:
        raise SweepError(source, problems)
    return Sweep.model_construct(**values)


def _read(path: Path, source: str) -> dict[str, Any]:
    """Return a TOML file's tables, or say in one sentence why not."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError:
        problem = _missing(path)
    except IsADirectoryError:
        problem = Problem("", "must be a file, not a folder", remedy=_files_in(path))
    except OSError as error:
        problem = Problem("", f"cannot be read: {error.strerror}", str(path.absolute()))
    except UnicodeDecodeError as error:
        problem = Problem("", "must be UTF-8 text", f"byte {error.start} is not", "Save the file as UTF-8.")
    except tomllib.TOMLDecodeError as error:
        problem = _syntax(str(error), text)
    raise SweepError(source, [problem])


def _missing(path: Path) -> Problem:
    folder = path.parent
    names = sorted(entry.name for entry in folder.glob("*.toml")) if folder.is_dir() else []
    remedy = nearest(path.name, names) if names else ""
    return Problem("", f"there is no file {path.absolute()}", remedy=remedy or "Check the path.")


def _files_in(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.glob("*.toml"))
    return f"Name one of its files: {', '.join(names)}." if names else "Name a sweep file."


def _syntax(message: str, text: str) -> Problem:
    """Return where TOML stopped making sense, and the line itself."""
    match = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", message)
    remedy = "Texts stand in quotes, lists in [], inline tables in {}; numbers are written as 0.1, 10 or 1e-3."
    if match is None:
        return Problem("end of file", f"is not TOML: {message}", remedy=remedy)
    what, line, column = match.groups()
    lines = text.splitlines()
    shown = lines[int(line) - 1].strip() if int(line) <= len(lines) else ""
    return Problem(f"line {line}, column {column}", f"is not TOML: {what}", shown, remedy)


def override(tables: dict[str, Any], text: str, problems: list[Problem]) -> str | None:
    """Lay one override over the tables; return its dotted key, or None where it is no override.

    Args:
        tables: A sweep's tables, which are changed.
        text: Such as "search.trials=8".
        problems: Receives every mistake.
    """
    name, equals, value_text = text.partition("=")
    name = name.strip()
    keys = _key_parts(name)
    if not equals or not keys:
        form = "must have the form table.key=value"
        problems.append(Problem(f"--set {text}", form, remedy="Write it like --set search.trials=8."))
        return None
    problem = _check_key(name, keys)
    try:
        value = _value(value_text.strip())
    except tomllib.TOMLDecodeError:
        remedy = "Put the whole override in single quotes, texts inside it in double quotes."
        problem = problem or Problem(f"--set {name}", "must be a TOML value", value_text, remedy)
    if problem:
        problems.append(problem)
        return None
    # An override's paths are seen from the working directory, the file's from its folder.
    return _lay(tables, keys, _pick(absolute(_nest(keys, value), Path.cwd()), keys), problems)


def _key_parts(name: str) -> list[str]:
    """Return the parts of a dotted TOML key; empty where it is none."""
    try:
        table: Any = tomllib.loads(f"{name} = 0") if "\n" not in name else {}
    except tomllib.TOMLDecodeError:
        return []
    parts = []
    while isinstance(table, dict) and table:
        part, table = next(iter(table.items()))
        parts.append(part)
    return parts


def _check_key(name: str, keys: list[str]) -> Problem | None:
    if keys[0] in TABLES:
        return None
    same = [key for key in _KEYS if key.rpartition(".")[2] == keys[-1]]
    remedy = f'Did you mean "{same[0]}"?' if same else nearest(name, [*_KEYS, *TABLES])
    return Problem(f"--set {name}", "there is no such key", remedy=remedy)


def _value(text: str) -> Any:
    """Return a TOML value; a bare word is a text."""
    try:
        values = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        if not text or text[0] in "[{\"'" or "\n" in text:
            raise
        return text
    return values["value"]


def _nest(keys: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def _pick(table: Mapping[str, Any], keys: list[str]) -> Any:
    value: Any = table
    for key in keys:
        value = value[key]
    return value


def _lay(tables: dict[str, Any], keys: list[str], value: Any, problems: list[Problem]) -> str | None:
    dotted = ".".join(keys)
    table: Any = tables
    for depth, key in enumerate(keys[:-1], start=1):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            where = ".".join(keys[:depth])
            problems.append(Problem(f"--set {dotted}", f"{where} is not a table", toml_text(table)))
            return None
    table[keys[-1]] = value
    return dotted


def _blame(problem: Problem, overridden: Sequence[str]) -> Problem:
    """Return the problem with the override as its place, where an override caused it."""
    for key in overridden:
        inside = problem.key == key or problem.key.startswith(f"{key}.")
        around = "." in problem.key and key.startswith(f"{problem.key}.")
        if inside or around:
            place = key if around else problem.key
            return Problem(f"--set {place}", problem.rule, problem.got, problem.remedy)
    return problem
