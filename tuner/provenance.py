"""Where a sweep came from, and what has changed since: commit, package versions, hardware, the user's code."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tuner
from tuner.run_folder import OURS, write_text
from tuner.spec import Sweep

FILE_NAME = "provenance.json"

_PACKAGES = ("ray", "torch", "torchvision", "hyperopt", "numpy", "pandas", "scikit-learn")
_HOME = Path(__file__).resolve().parent.parent


def write_provenance(folder: Path, sweep: Sweep) -> dict[str, Any]:
    """Write provenance.json: commit, package versions, hardware, sweep hash, seed; return what was written."""
    entry = {
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "tuner": tuner.__version__,
        "commit": _commit(),
        "sources": {name: _sources(name) for name in OURS},
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "hardware": {
            "host": platform.node(),
            "machine": platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        },
        "sweep_sha256": sweep.hash(),
        "seed": sweep.seed,
        "code": {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((folder / "code").rglob("*.py"))
        },
    }
    write_text(folder / "provenance.json", json.dumps(entry, indent=2) + "\n")
    return entry


def changes(folder: Path, origin: str | None) -> Iterator[str]:
    """Yield what is no longer as it was when a sweep was started, a sentence each; nothing where all is the same.

    Args:
        folder: The run folder.
        origin: Where the user's trainable file came from, or None.
    """
    try:
        entry = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        code, packages = dict(entry["code"]), dict(entry["packages"])
    except (OSError, ValueError, KeyError, TypeError):
        yield (
            f"{folder / FILE_NAME}: it must say what the sweep was started with, but it is damaged or gone, so what "
            f"has changed since is not known. See: tuner doctor {folder}"
        )
        return
    yield from _changed_versions(entry, packages)
    yield from _changed_project(entry)
    yield from _changed_code(folder, code, None if origin is None else Path(origin).parent)


def _changed_versions(entry: Mapping[str, Any], packages: Mapping[str, Any]) -> Iterator[str]:
    now = {name: _version(name) for name in packages if name in _PACKAGES}
    pairs: dict[str, tuple[Any, Any]] = {"Python": (entry.get("python"), platform.python_version())}
    pairs |= {name: (packages[name], now[name]) for name in now}
    for name, (before, after) in pairs.items():
        if before != after:
            yield (
                f"{name} was {before or 'not installed'} at the start, is {after or 'not installed'} now: results may "
                "differ from those of a sweep that was never interrupted."
            )


def _changed_project(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield whether this project's own code is another: a commit may change none of it, and an edit has no commit."""
    found = entry.get("sources")
    before, now = found if isinstance(found, dict) else {}, {name: _sources(name) for name in OURS}
    changed = [f"{name}/" for name in OURS if name in before and before[name] != now[name]]
    if not changed:
        return
    was, is_now = _release(entry.get("tuner"), entry.get("commit")), _release(tuner.__version__, _commit())
    how = (
        f"(it was {was} at the start, is {is_now} now)" if was != is_now else f"(still {is_now}: its files were edited)"
    )
    yield f"this project's code in {' and '.join(changed)} has changed since the start {how}: results may differ."


def _changed_code(folder: Path, code: Mapping[str, Any], home: Path | None) -> Iterator[str]:
    for name, frozen in sorted(code.items()):
        relative = Path(name)
        if relative.is_absolute() or ".." in relative.parts or relative.parts[:1] != ("code",):
            continue  # `tuner doctor` tells of it; here no name leads out of the folder
        copy = folder / relative
        runs = _digest(copy)
        if runs != frozen:
            yield (
                f"{copy}: it was frozen at the start and has been edited since, so trials from now on run other code "
                "than those before."
            )
        original = home / relative.relative_to("code") if home else None
        if original is not None and _digest(original) not in (frozen, runs, None):
            yield (
                f"{original}: it has changed since the start, and the copy that was frozen then is what runs ({copy}). "
                "Start a new sweep to run the changed one."
            )


def _digest(path: Path) -> str | None:
    """Return a file's SHA-256, or None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):  # the latter: a name that no file can have
        return None


def _sources(package: str) -> str:
    """Return one hash over all Python files of a package of this project."""
    total, root = hashlib.sha256(), _HOME / package
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root).as_posix()} {_digest(path)}\n".encode())
    return total.hexdigest()


def _release(version: Any, commit: Any) -> str:
    if not isinstance(commit, str):
        return str(version)
    plain = commit.removesuffix("+changes")
    return f"{version} at commit {plain[:12]}{commit.removeprefix(plain)}"


def _commit() -> str | None:
    """Return the commit of the code that runs, with "+changes" where the working tree differs; None outside git."""
    git = shutil.which("git")
    if git is None:
        return None
    describe = [git, "-C", str(_HOME), "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
    try:
        done = subprocess.run(describe, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
