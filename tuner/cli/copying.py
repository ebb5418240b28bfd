"""Commands to copy: they work as printed, from this working directory, without an activated environment."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from tuner.storage import is_uri, shown


def command(*arguments: str | Path) -> str:
    """Return a command line that runs this very `tuner`, with every argument quoted where a shell needs it."""
    words = [path_text(item) if isinstance(item, Path) else item for item in arguments]
    return shlex.join([*program(), *words])


def program() -> list[str]:
    """Return the words that start this `tuner`: a bare name only where it is on the PATH for good."""
    beside = Path(sys.executable).with_name("tuner")
    started = Path(sys.argv[0]) if sys.argv else Path()
    if started.name == "tuner" and started.is_file():
        beside = started.absolute()
    elif not beside.is_file():
        return [path_text(Path(sys.executable)), "-m", "tuner.cli"]
    found = shutil.which("tuner")
    if found and "VIRTUAL_ENV" not in os.environ and Path(found).samefile(beside):
        return ["tuner"]
    text = path_text(beside)
    return [text if os.sep in text else f".{os.sep}{text}"]


def path_text(path: Path) -> str:
    """Return a path as a person would type it here: relative where it is below the working directory.

    Of a run folder that is here for a run at a storage URI, the URI.
    """
    if is_uri(uri := shown(path)):
        return uri
    absolute = path.absolute()
    for here in (Path.cwd(), _as_entered()):
        if absolute.is_relative_to(here):
            return str(absolute.relative_to(here))
    return str(absolute)


def _as_entered() -> Path:
    """Return the working directory by the name that the shell has for it, which a symbolic link may be part of."""
    entered = Path(os.environ.get("PWD", ""))
    return entered if entered.is_absolute() and entered.is_dir() and entered.samefile(".") else Path.cwd()
