"""The kernel's count of processes killed for want of memory."""

from __future__ import annotations

import re
from pathlib import Path

_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def oom_kills(groups: Path = _GROUPS, mount: Path = _MOUNT) -> int:
    """Return how many processes of this process's control group the kernel has killed; 0 where it does not say.

    Not the count of the whole machine: in a container, others' kills would be taken for ours.

    Args:
        groups: Names this process's control groups (cgroup v1 or v2).
        mount: Where control groups are mounted; in a container its own may be at the top.
    """
    for line in _lines(groups):
        number, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if number == "0" and not kinds:
            folders, name = [mount / path.lstrip("/"), mount], "memory.events"
        elif "memory" in kinds.split(","):
            folders, name = [mount / "memory" / path.lstrip("/"), mount / "memory"], "memory.oom_control"
        else:
            continue
        for folder in folders:
            for entry in _lines(folder / name):
                if found := re.fullmatch(r"oom_kill (\d+)", entry):
                    return int(found[1])
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
