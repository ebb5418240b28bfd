"""What this process may use of its machine, and what fits. Standard library only: counting must not import torch."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_NVIDIA = Path("/proc/driver/nvidia/gpus")
CPUINFO = Path("/proc/cpuinfo")


def count_cpus(cgroup: Path = _CGROUP) -> int:
    """Return the CPU cores this process may use: its affinity, and its container's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        cores = min(cores, int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or "max": no limit
        pass
    return max(1, cores)


def memory_bytes(cgroup: Path = _CGROUP) -> int | None:
    """Return the main memory this process may use, its container's limit included; None where it cannot be told."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    try:
        return min(total, int((cgroup / "memory.max").read_text()))
    except (OSError, ValueError):
        return total


def count_gpus() -> int:
    """Return the NVIDIA GPUs this process may use; CUDA_VISIBLE_DEVICES is respected."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        return 0
    installed = _installed_gpus()
    return installed if visible is None else _visible_gpus(visible, installed)


def bf16_unit(cpuinfo: Path = CPUINFO) -> str:
    """Return what the processor multiplies bfloat16 with, as far as Linux tells: "amx", "avx512", or "" for nothing."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    if {"amx_tile", "amx_bf16"} <= set(flags):
        return "amx"
    return "avx512" if "avx512_bf16" in flags else ""


def gpu_capability() -> float:
    """Return the lowest compute capability of the NVIDIA GPUs of this machine; 0 where it cannot be told."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0.0
    command = [tool, "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
        return min((float(line) for line in listed.splitlines()), default=0.0)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0.0


def _visible_gpus(visible: str, installed: int) -> int:
    """Count as CUDA does: the list ends at the first entry that names no GPU."""
    count = 0
    for entry in (part.strip() for part in visible.split(",")):
        named = entry.startswith(("GPU-", "MIG-")) and installed > 0
        if not named and not (entry.isdigit() and int(entry) < installed):
            break
        count += 1
    return count


def _installed_gpus() -> int:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return len(list(_NVIDIA.iterdir())) if _NVIDIA.is_dir() else 0
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def fitting(cpus_per_trial: float, gpus_per_trial: float, cpus: float, gpus: int) -> int:
    """Return how many trials fit side by side; a part of a GPU never spans two of them."""
    room = _times(cpus_per_trial, cpus)
    if gpus_per_trial >= 1:
        room = min(room, _times(gpus_per_trial, gpus))
    elif gpus_per_trial > 0:
        room = min(room, gpus * _times(gpus_per_trial, 1))
    return room


def _times(part: float, whole: float) -> int:
    return math.floor(whole / part + 1e-9)  # 0.1 fits into 0.3 three times, not 2.9999999999999996
