"""From a trainable's name to its function: the one loader, for workers, the plan and the command line. No Ray."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from tuner.errors import Problem, UsageError, nearest
from tuner.trainable import Train

BUILTINS = ("cnn", "resnet", "mlp")

_FILE = re.compile(r"(?P<file>.+\.py):(?P<function>[^:]+)")
_MODULE = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<function>[^:]+)")

# Modules that users' files imported from their own folders: name -> digest of the file as it was imported.
_local: dict[str, bytes] = {}
# The folder of the last file, which stays at the end of sys.path for what its function imports while it runs.
_folder = ""
# Whether it is there because of this module.
_on_path = False


def load_trainable(reference: str | Callable[..., Any], origin: str | None = None) -> tuple[Train, ModuleType | None]:
    """Return a trainable's function and the module around it.

    A file that changed since it was last loaded, or whose neighbours did, is run anew. Its folder is the
    first on sys.path while it loads, and the last from then on, until another file is loaded.

    Args:
        reference: A built-in name, "path/to/file.py:function", "package.module:function", or a function.
        origin: The file that a frozen copy was made of: its place is what the code sees as __file__, and what
            tracebacks and breakpoints name. None: the file itself.

    Returns:
        The function, and its module (None where a function's module is not loaded, as in a worker).

    Raises:
        UsageError: There is no such file, module or function, or its code raised while it was imported.
    """
    if callable(reference):
        inner = reference.func if isinstance(reference, functools.partial) else reference
        return reference, sys.modules.get(getattr(inner, "__module__", None) or "")
    if reference in BUILTINS:
        return _function(importlib.import_module(f"trainables.{reference}"), "train", reference)
    if match := _FILE.fullmatch(reference):
        return _function(_load_file(Path(match["file"]).expanduser(), reference, origin), match["function"], reference)
    if match := _MODULE.fullmatch(reference):
        return _function(_load_module(match["module"], reference), match["function"], reference)
    rule = 'must be a built-in name, "path/to/file.py:function" or "package.module:function"'
    raise _error(reference, rule, nearest(reference, BUILTINS))


def _error(reference: str, rule: str, remedy: str = "", got: str = "") -> UsageError:
    return UsageError(Problem("", rule, got, remedy).sentence(f'trainable "{reference}"'))


def _function(module: ModuleType, name: str, reference: str) -> tuple[Train, ModuleType]:
    function = getattr(module, name, None)
    if callable(function):
        return function, module
    where = Path(module.__file__ or module.__name__).name
    if function is not None:
        rule = f"{where}: {name} must be a function"
        raise _error(reference, rule, "Name one: def train(config, trial).", type(function).__name__)
    own = (entry for entry, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)
    functions = [entry for entry in own if callable(getattr(module, entry))]
    raise _error(reference, f"there is no function {name} in {where}", nearest(name, functions))


def _load_module(name: str, reference: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            file = f"{name.rpartition('.')[2]}.py"
            raise _error(
                reference,
                f"there is no module {error.name}",
                f'Install it, or name its file: "path/to/{file}:function".',
            ) from None
        raise _raised(reference, error) from error
    except (Exception, SystemExit) as error:
        raise _raised(reference, error) from error


def _load_file(path: Path, reference: str, origin: str | None) -> ModuleType:
    try:
        source = path.read_bytes()
    except OSError as error:
        names = [entry.name for entry in path.parent.glob("*.py")] if path.parent.is_dir() else []
        remedy = nearest(path.name, names)
        rule = f"{path} cannot be read: {(error.strerror or str(error)).lower()}"
        raise _error(reference, rule, remedy if "Did you" in remedy else "") from None
    path = path.resolve()
    name = f"trainable_{path.stem}_{_digest(f'{path}|{origin}|'.encode() + source).hex()[:16]}"
    if name in sys.modules and _folder == str(path.parent) and not _stale_neighbours():
        return sys.modules[name]
    with _importing_from(path.parent):
        return _execute(name, Path(origin or path), source, reference)


def _execute(name: str, path: Path, source: bytes, reference: str) -> ModuleType:
    """Run a file as a module: from its text, since a bytecode file cannot tell two edits within a second."""
    module = ModuleType(name)
    module.__file__ = str(path)
    module.__spec__ = spec_from_file_location(name, path)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _raised(reference, error) from error
    return module


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let a file import its neighbours, as `python file.py` would, and not those of a file loaded before."""
    for name in _local:
        sys.modules.pop(name, None)
    _local.clear()
    before, quiet = set(sys.modules), sys.dont_write_bytecode
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # leaves no __pycache__ in a user's folder, nor stale code in it
    try:
        yield
    finally:
        sys.dont_write_bytecode = quiet
        sys.path.remove(str(folder))
        _keep_at_end(str(folder))
        _local.update(_neighbours(folder, set(sys.modules) - before))


def _keep_at_end(folder: str) -> None:
    """Make a folder the only one of ours on sys.path."""
    global _folder, _on_path
    if _on_path and _folder in sys.path:
        sys.path.remove(_folder)
    _on_path = folder not in sys.path
    if _on_path:
        sys.path.append(folder)
    _folder = folder


def _neighbours(folder: Path, names: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield those of the modules that are a user's and lie in a folder, with their digests."""
    for name in names:
        file = getattr(sys.modules[name], "__file__", None)
        ours = name.partition(".")[0] in ("tuner", "trainables") or "site-packages" in (file or "")
        if file and not ours and Path(file).is_relative_to(folder):
            yield name, _digest_of(file)


def _stale_neighbours() -> bool:
    """Return whether a file that the last loaded one imported from its folder has changed."""
    modules = ((sys.modules.get(name), digest) for name, digest in _local.items())
    return any(module is None or _digest_of(module.__file__ or "") != digest for module, digest in modules)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _digest_of(file: str) -> bytes:
    try:
        return _digest(Path(file).read_bytes())
    except OSError:
        return b""


def _raised(reference: str, error: BaseException) -> UsageError:
    """Say in one line what a user's code raised while it was imported, and where."""
    if isinstance(error, SyntaxError) and error.filename:
        what, file, line = error.msg, error.filename, error.lineno
    else:
        what = " ".join(traceback.format_exception_only(error)[0].split())
        file, line = _place(error)
    remedy = ""
    if isinstance(error, ModuleNotFoundError):
        remedy = "Install it, or put it beside the file."
    elif isinstance(error, SystemExit):
        remedy = 'Put what runs as a script under if __name__ == "__main__".'
    place = f"{file}, line {line}" if file else f'trainable "{reference}"'
    return UsageError(Problem("", "importing it must not raise", what, remedy).sentence(place))


def _place(error: BaseException) -> tuple[str, int | None]:
    """Return the innermost line of the user's code (not of a package that it called)."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<frozen")
    ]
    own = [frame for frame in frames if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    return (own[-1].filename, own[-1].lineno) if own else ("", None)
