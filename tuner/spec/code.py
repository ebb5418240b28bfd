"""Where a trainable's function is. A user's code is read, never run: a plan must not start a training."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tuner.errors import Problem, nearest

BUILTINS = ("cnn", "resnet", "mlp")
FROZEN_FUNCTION = re.compile(r"<python function (.+)>")

_FILE = re.compile(r"(?P<file>.+\.py):(?P<function>[^:]+)")
_MODULE = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<function>[^:]+)")
_TWO_ARGUMENTS = "must take two arguments: def train(config, trial)"


def absolute_trainable(name: str, folder: Path) -> str:
    """Return the trainable's name with the path of its file made absolute."""
    match = _FILE.fullmatch(name)
    if match is None:
        return name
    return f"{absolute_path(match['file'], folder)}:{match['function']}"


def absolute_path(path: str, folder: Path) -> str:
    """Return a path as seen from a folder; a URI, and what can be no path, is left alone."""
    if "://" in path:
        return path
    try:
        return str((folder / Path(path).expanduser()).resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, an unknown ~user, a NUL character
        return path


def absolute_run(run: Any, folder: Path) -> Any:
    """Return a run's path as seen from a folder; a URI, "latest", a name in ./runs, and what is no text, as it is."""
    if isinstance(run, Path):
        run = str(run)
    if not isinstance(run, str) or not run or run == "latest":
        return run
    path = absolute_path(run, folder)
    return path if "/" in run or Path(path).is_dir() else run


def short_name(trainable: str | Callable[..., Any]) -> str:
    """Return the trainable's own name: "cnn", or its function's."""
    if isinstance(trainable, str):
        return trainable.rpartition(":")[2]
    inner = getattr(trainable, "func", trainable)  # functools.partial keeps the name inside
    return str(getattr(inner, "__name__", type(inner).__name__))


def is_builtin(trainable: Any) -> bool:
    """Say whether a trainable is one of the built-in ones."""
    return isinstance(trainable, str) and trainable in BUILTINS


def check_trainable(trainable: Any, key: str) -> Problem | None:
    """Return what is wrong with a trainable, if anything.

    Args:
        trainable: A name with an absolute path, or a function.
        key: Where it stood.
    """
    if callable(trainable):
        return _check_callable(trainable, key)
    if FROZEN_FUNCTION.fullmatch(trainable):
        rule = "the sweep was built in Python around a function, which no file can hold"
        return Problem(key, rule, trainable, "Pass the function again: load_sweep(path, trainable=function).")
    if trainable in BUILTINS:
        return None
    if match := _FILE.fullmatch(trainable):
        return _check_source(Path(match["file"]), match["function"], trainable, key)
    if match := _MODULE.fullmatch(trainable):
        return _check_module(match["module"], match["function"], trainable, key)
    rule = 'must be a built-in name, "path/to/file.py:function" or "package.module:function"'
    return Problem(key, rule, f'"{trainable}"', nearest(trainable, BUILTINS))


def own_defaults(trainable: str | Callable[..., Any]) -> dict[str, Any]:
    """Return the DEFAULTS that the module of a user's function offers; empty where there are none.

    A file is only read: its DEFAULTS count where they are a literal.
    """
    if callable(trainable):
        own = getattr(sys.modules.get(getattr(trainable, "__module__", "")), "DEFAULTS", None)
        return dict(own) if isinstance(own, Mapping) else {}
    path = _source_of(trainable)
    try:
        body = ast.parse(path.read_bytes()).body if path else []
        values = [node.value for node in body if isinstance(node, ast.Assign) and "DEFAULTS" in _bound(node)]
        return dict(ast.literal_eval(values[-1])) if values else {}
    except (OSError, SyntaxError, ValueError, TypeError):
        return {}


def _source_of(trainable: str) -> Path | None:
    if match := _FILE.fullmatch(trainable):
        return Path(match["file"])
    if match := _MODULE.fullmatch(trainable):
        found = _find_module(match["module"])
        return Path(found.origin) if found and found.origin else None
    return None


def _check_callable(trainable: Callable[..., Any], key: str) -> Problem | None:
    try:
        inspect.signature(trainable).bind("config", "trial")
    except TypeError:
        return Problem(key, _TWO_ARGUMENTS, short_name(trainable))
    except ValueError:  # a builtin without a signature: only calling it could tell
        return None
    return None


def _check_module(module: str, function: str, trainable: str, key: str) -> Problem | None:
    found = _find_module(module)
    if found is None:
        remedy = f'Install it, or name its file: trainable = "path/to/{module.split(".")[-1]}.py:{function}".'
        return Problem(key, f"there is no module {module}", f'"{trainable}"', remedy)
    if not found.origin or not found.origin.endswith(".py"):
        return None
    return _check_source(Path(found.origin), function, trainable, key)


def _find_module(name: str) -> ModuleSpec | None:
    """Find a module without importing the packages around it, which a plain find_spec would do."""
    parts = name.split(".")
    try:
        found = find_spec(parts[0])
    except ValueError:  # __main__, or a module made by hand
        return None
    for end in range(2, len(parts) + 1):
        if found is None:
            return None
        found = PathFinder.find_spec(".".join(parts[:end]), found.submodule_search_locations or [])
    return found


def _check_source(path: Path, function: str, trainable: str, key: str) -> Problem | None:
    """Return what is wrong with a function in a file, from the file's text alone."""
    got = f'"{trainable}"'
    if not path.is_file():
        names = [entry.name for entry in path.parent.glob("*.py")] if path.parent.is_dir() else []
        remedy = nearest(path.name, names)
        return Problem(key, f"there is no file {path}", got, remedy if "Did you" in remedy else "")
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        return Problem(key, f"{path} is not valid Python: {error.args[0]}, line {line}", got)
    except OSError as error:
        return Problem(key, f"{path} cannot be read: {error.strerror}", got)
    bound = {name: node for node in _top_level(tree) for name in _bound(node)}
    if function in bound:
        return _check_arguments(bound[function], key, got)
    if "*" in bound:
        return None
    functions = [name for name, node in bound.items() if isinstance(node, ast.FunctionDef)]
    rule = f"{path.name} has no function {function} at its top level"
    return Problem(key, rule, got, nearest(function, functions))


def _top_level(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those inside if, try and with included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt):
            yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _top_level(node)


def _bound(node: ast.stmt) -> list[str]:
    """Return the names that a statement binds; "*" for a star import."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    return []


def _check_arguments(node: ast.stmt, key: str, got: str) -> Problem | None:
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return None
    arguments = node.args
    most = len(arguments.posonlyargs) + len(arguments.args)
    least = most - len(arguments.defaults)
    keyword_only = any(default is None for default in arguments.kw_defaults)
    if (most >= 2 or arguments.vararg) and least <= 2 and not keyword_only:
        return None
    return Problem(key, _TWO_ARGUMENTS, got)
