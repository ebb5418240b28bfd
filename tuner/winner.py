"""The best config as a folder that a person can take away: config.toml, metrics.json, model.pt, preprocess.json."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner import checkpoints
from tuner.history import CheckpointRecord
from tuner.results import Best, Results
from tuner.run_folder import write_text
from tuner.spec.text import table
from tuner.strict_json import to_json


def write_best(results: Results, preprocess: Mapping[str, Any] | None) -> Path | None:
    """Write best/ anew from the journal and the best epoch's checkpoint.

    Args:
        results: The sweep's results.
        preprocess: How raw samples become inputs, or None where the sweep has no [data].

    Returns:
        The folder, or None where no trial can be the best.
    """
    if not any(True for _ in _rankable(results)):
        return None
    best = results.best()
    final, scratch = results.folder / "best", results.folder / ".best.writing"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    write_text(scratch / "config.toml", table(best.config))
    write_text(scratch / "metrics.json", to_json(dataclasses.asdict(best)) + "\n")
    if preprocess is not None:
        write_text(scratch / "preprocess.json", to_json(preprocess) + "\n")
    _write_model(results, best, scratch)
    shutil.rmtree(final, ignore_errors=True)
    scratch.rename(final)
    return final


def _rankable(results: Results) -> Any:
    return (
        record
        for record in results.records()
        if results.status_of(record) in ("completed", "stopped")
        and record.best_epoch(results.metric, results.mode) is not None
    )


def _write_model(results: Results, best: Best, folder: Path) -> None:
    """Write the model of the best epoch from its checkpoint, where the trainable gave a state at that epoch."""
    kept = _checkpoint(results, best)
    if kept is None:
        return
    import torch

    state = checkpoints.load(checkpoints.verify(results.folder, kept))
    torch.save(state.get("model", state), folder / "model.pt")
    descriptor = os.open(folder / "model.pt", os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _checkpoint(results: Results, best: Best) -> CheckpointRecord | None:
    record = results.history.trials[best.trial]
    return next((kept for kept in record.checkpoints if kept.epoch == best.epoch), None)
