"""Another host, as far as a run folder can tell: another boot of a kernel, whose file locks no other host sees."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

from tuner import lease

_held: dict[tuple[int, int], int] = {}  # (device, inode) -> descriptor of what stands for it here


def pretend(host: str, locks: Path) -> None:
    """Make this process one on another host, which shares the disk but, like many network file systems, no locks.

    Args:
        host: Its name, and the id of its boot.
        locks: A folder; what this host locks, it locks there.
    """
    place = locks / host
    place.mkdir(parents=True, exist_ok=True)
    real = fcntl.flock

    def flock(file: Any, operation: int) -> None:
        found = os.fstat(file if isinstance(file, int) else file.fileno())
        key = (found.st_dev, found.st_ino)
        if key not in _held:
            _held[key] = os.open(place / str(found.st_ino), os.O_RDWR | os.O_CREAT, 0o644)
        real(_held[key], operation)

    fcntl.flock = flock
    lease.boot_id = lambda: host  # type: ignore[assignment]
