"""The random state of this process: Python's, NumPy's, torch's and CUDA's, as plain values and tensors."""

from __future__ import annotations

import random
import sys
from array import array
from typing import Any

import numpy as np


def capture() -> dict[str, Any]:
    """Return the state of every global generator that is loaded, as torch.load(weights_only=True) takes it."""
    kind, key, position, has_gauss, gauss = np.random.get_state()
    version, words, python_gauss = random.getstate()
    state: dict[str, Any] = {
        "python": (
            version,
            array("L", words).tobytes(),
            python_gauss,
        ),  # as 625 numbers it would take ten times as long
        "numpy": (str(kind), np.asarray(key).tobytes(), int(position), int(has_gauss), float(gauss)),
    }
    if torch := sys.modules.get("torch"):
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore(state: dict[str, Any]) -> None:
    """Put every global generator where it was; one whose library is not loaded here is left."""
    version, words, python_gauss = state["python"]
    random.setstate((version, tuple(array("L", words)), python_gauss))
    kind, key, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, np.frombuffer(key, dtype=np.uint32), position, has_gauss, gauss))
    torch = sys.modules.get("torch")
    if torch and "torch" in state:
        torch.set_rng_state(state["torch"])
    # A node with fewer GPUs has no place for all of them.
    if torch and torch.cuda.is_available():
        for device, one in enumerate(state.get("cuda", ())[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(one, device)
