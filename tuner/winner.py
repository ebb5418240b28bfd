"""The best config as a folder that a person can take away: config.toml, metrics.json, model.pt, preprocess.json."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tuner import checkpoints
from tuner.history import CheckpointRecord, ranking
from tuner.results import Best, Results
from tuner.run_folder import write_text
from tuner.spec.text import table
from tuner.strict_json import to_json

Extract = Callable[[Path, Path], None]
"""As `checkpoints.extract_model`."""


def write_best(
    results: Results, preprocess: Mapping[str, Any] | None, extract: Extract = checkpoints.extract_model
) -> Path | None:
    """Write best/ anew from the journal and the best epoch's checkpoint.

    Args:
        results: The sweep's results.
        preprocess: How raw samples become inputs, or None where the sweep has no [data].
        extract: Takes the model out of a checkpoint.

    Returns:
        The folder, or None where no trial can be the best.
    """
    if not ranking(results.records(), results.metric, results.mode):
        return None
    best = results.best()
    final, scratch = results.folder / "best", results.folder / ".best.writing"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        _fill(scratch, results, best, preprocess, extract)
    except BaseException:  # what is half there must not keep a full disk full
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    scratch.rename(final)
    return final


def _fill(scratch: Path, results: Results, best: Best, preprocess: Mapping[str, Any] | None, extract: Extract) -> None:
    scratch.mkdir()
    write_text(scratch / "config.toml", table(best.config))
    write_text(scratch / "metrics.json", to_json(dataclasses.asdict(best)) + "\n")
    if preprocess is not None:
        write_text(scratch / "preprocess.json", to_json(preprocess) + "\n")
    _write_model(results, best, scratch, extract)


def _write_model(results: Results, best: Best, folder: Path, extract: Extract) -> None:
    """Write the model of the best epoch from its checkpoint, where the trainable gave a state at that epoch."""
    kept = _checkpoint(results, best)
    if kept is None:
        return
    try:
        extract(checkpoints.verify(results.folder, kept), folder / "model.pt")
    except checkpoints.DamagedCheckpoint as error:  # must not cost a sweep that is done its results
        warnings.warn(f"{error} So best/ is without model.pt.", stacklevel=3)


def best_checkpoints(results: Results) -> list[CheckpointRecord]:
    """Return the checkpoint that best/ is written from, or none where there is no such."""
    if not ranking(results.records(), results.metric, results.mode):
        return []
    kept = _checkpoint(results, results.best())
    return [kept] if kept else []


def _checkpoint(results: Results, best: Best) -> CheckpointRecord | None:
    record = results.history.trials[best.trial]
    return next((kept for kept in record.checkpoints if kept.epoch == best.epoch), None)
