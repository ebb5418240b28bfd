"""What `precision = "auto"` comes to: decided once, when a run is planned, and frozen with it. No torch."""

from __future__ import annotations

import math
from pathlib import Path

from tuner.machine import CPUINFO, bf16_unit, gpu_capability
from tuner.spec import Sweep
from tuner.trainable import DataInfo

PASSED: dict[str, tuple[str, ...]] = {"amx": ("cnn",), "avx512": ("cnn",), "cuda": ()}
"""By what multiplies: the trainables that passed their gate; a test holds it to benchmarks/results/precision.json."""

UNITS = {"amx": "CPU has AMX", "avx512": "CPU has AVX-512 BF16", "cuda": "GPU has it"}
"""By what multiplies: that this machine has it, in words."""

MEASURABLE = ("cnn", "resnet")
"""Trainables that work on images; a table's network is too small to gain anything."""

_CAPABILITY = 8.0  # of NVIDIA's Ampere, the first with bfloat16
_PIXELS = 12 * 12  # below, converting to bf16 and back costs a CPU more than it gains: 0.9 times at 8x8, 1.1 at 12x12


def resolve(
    sweep: Sweep, device: str, *, data: DataInfo | None = None, here: bool = True, cpuinfo: Path = CPUINFO
) -> tuple[str, str]:
    """Return what models of a sweep compute in, "fp32" or "bf16", and that in words with its reason.

    Args:
        sweep: The sweep; its resources.precision is used as it is unless it is "auto".
        device: "cpu" or "cuda".
        data: What is known of the sweep's data.
        here: Whether all trials run on this machine: what other nodes have is not known.
        cpuinfo: Where Linux describes this machine's processor.
    """
    asked = sweep.resources.precision
    if asked != "auto":
        return asked, asked
    unit = "cuda" if device == "cuda" else bf16_unit(cpuinfo)
    if refused := _against(sweep, unit, data, here):
        return "fp32", f"fp32 (auto: {refused})"
    return "bf16", f"bf16 (auto: this {UNITS[unit]}, and {sweep.trainable} ends as in fp32)"


def _against(sweep: Sweep, unit: str, data: DataInfo | None, here: bool) -> str | None:
    """Return what speaks against bf16."""
    trainable = sweep.trainable
    if not isinstance(trainable, str) or trainable not in (*MEASURABLE, "mlp"):
        return "the trainable is your own"
    if trainable not in MEASURABLE:
        return f"nothing to gain for {trainable}"
    if not any(trainable in PASSED[one] for one in ([unit] if unit == "cuda" else ("amx", "avx512"))):
        return f"bf16 has not passed its gate for {trainable} on a {'GPU' if unit == 'cuda' else 'CPU'}"
    if not here:
        return "what a cluster's nodes have is not known"
    if not unit:
        return "this CPU has neither AMX nor AVX-512 BF16"
    if trainable not in PASSED[unit]:
        return f"bf16 has not passed its gate for {trainable} on a CPU with {UNITS[unit].partition(' has ')[2]}"
    if unit != "cuda" and data is not None and len(data.shape) == 3 and math.prod(data.shape[1:]) < _PIXELS:
        return f"images of {data.shape[1]}x{data.shape[2]} are too small to gain anything"
    if unit == "cuda" and gpu_capability() < _CAPABILITY:
        return "a GPU here has no bfloat16"
    return None
