"""What a figure was measured on, and with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "ray", "optuna", "skorch", "scikit-learn", "numpy", "cnn-tuner")


def facts() -> dict[str, Any]:
    """Return date, hardware and versions; the load is that before anything was measured."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "load_before": round(os.getloadavg()[0], 2),
        "hardware": {
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "bf16": _bf16(),
            "gpu": _gpu(),
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def _cpu_model() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _bf16() -> str:
    """Return what the processor has for bfloat16: "amx", "avx512" or "none"."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return "amx" if "amx_bf16" in flags else "avx512" if "avx512_bf16" in flags else "none"


def _gpu() -> str:
    """Return the GPUs' names, or "none"."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "none"
    return ", ".join(shown.stdout.split("\n")).strip(", ") or "none" if shown.returncode == 0 else "none"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
