"""The last step of a study: the test split is opened, winner and baseline are scored on it, final/ is written."""

from __future__ import annotations

import dataclasses
import importlib
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner import checkpoints
from tuner.drive import Drive
from tuner.errors import RunError
from tuner.history import RANKED, History, TrialRecord
from tuner.openings import openings
from tuner.run_folder import write_text
from tuner.spec import Sweep
from tuner.spec.code import is_builtin
from tuner.spec.text import table
from tuner.splits import Splits
from tuner.strict_json import to_json
from tuner.trainable import Data, Split

# The baseline's number among the configs; those of a strategy count from 1.
BASELINE = 0


def score_winner(drive: Drive, history: History, whole: Splits, winner: int) -> None:
    """Score the final models on the test split and write final/, as far as the journal lacks it.

    Args:
        drive: Its `again` allows a further opening.
        history: With the final trainings, all over.
        whole: What they were trained on.
        winner: Number of the config that the study has chosen.

    Raises:
        RunError: A final model is damaged; nothing is opened then.
    """
    records = [record for record in history.trials.values() if record.stage == "final"]
    trained = {record.proposal: record for record in records if record.status in RANKED and record.checkpoints}
    if winner not in trained or not is_builtin(drive.plan.sweep.trainable):
        _stay_sealed(drive, history, next((record for record in records if record.proposal == winner), None))
        return
    for record in trained.values():
        drive.mirror.fetch(record.checkpoints[-1].path)
    models = {record.proposal: _model(drive.folder, record) for record in trained.values()}
    if drive.again or not openings(history.notes).scored:
        data = whole.get(None)
        assert data is not None, "a sweep without [data] has no final test"
        _open(drive, history)
        told = _scores(drive.plan.sweep, trained, models, data, winner)
        drive.note(history, {"test_scores": told})
    told = [note["test_scores"] for note in history.notes if "test_scores" in note][-1]
    _write(drive.folder, trained[winner], models[winner], told, whole.preprocess or {})


def _stay_sealed(drive: Drive, history: History, record: TrialRecord | None) -> None:
    why = "it is no built-in trainable"
    if is_builtin(drive.plan.sweep.trainable):
        how = f"{record.trial} is {record.status}" if record else "it was never begun"
        why = f"the winner's final training did not complete ({how})"
    warning = {"warning": f"The test split stays sealed: {why}, so there is nothing to score."}
    if warning not in history.notes:  # said already, before this study was killed
        drive.note(history, warning)


def _model(folder: Path, record: TrialRecord) -> Mapping[str, Any]:
    """Return the state of a final training's last epoch."""
    try:
        return checkpoints.load(checkpoints.verify(folder, record.checkpoints[-1])).state
    except checkpoints.DamagedCheckpoint as error:
        remedy = f"Put it back from a copy, then go on: tuner resume {folder}"
        raise RunError(
            f"{error} So {record.trial}, a final model, cannot be scored on the test split. {remedy}"
        ) from None


def _open(drive: Drive, history: History) -> None:
    """Note that the test split is about to be read: an opening that nobody heard of would be one too many."""
    before = openings(history.notes)
    if before.count and not before.scored:
        drive.note(history, {"test_continued": before.count})  # it was killed before anybody saw a score
    else:
        drive.note(history, {"test_opened": before.count + 1})


def _scores(
    sweep: Sweep,
    trained: Mapping[int, TrialRecord],
    models: Mapping[int, Mapping[str, Any]],
    whole: Data,
    winner: int,
) -> dict[str, Any]:
    """Read the test split and return what the note `test_scores` says: every final model's metrics by its number."""
    assert sweep.data is not None
    load_test = importlib.import_module("trainables.data").load_test
    split: Split = load_test(sweep.data.model_dump(), sweep.seed, whole.preprocess)
    training, parameters = map(importlib.import_module, ("trainables.training", "trainables.parameters"))
    build = importlib.import_module(f"trainables.{sweep.trainable}").build
    data, scores, predictions = dataclasses.replace(whole, val=split), {}, {}
    for index, record in trained.items():
        config = parameters.complete(sweep.trainable, record.config)
        measured, predictions[index] = training.score(
            build, config, data, models[index], record.seed, precision=sweep.resources.precision
        )
        scores[str(index)] = {name.replace("val_", "test_"): value for name, value in measured.items()}
    difference = _difference(predictions, winner, split, sweep)
    return {"winner": winner, "samples": len(split), "scores": scores, "difference": difference}


def _difference(predictions: Mapping[int, Any], winner: int, split: Split, sweep: Sweep) -> dict[str, Any]:
    """Return winner - baseline on the test split with a paired interval; null, and a note why, where there is none."""
    from tuner.analysis.paired import Paired, paired_difference

    if winner == BASELINE:
        paired = Paired(n=len(split), note="no difference: the winner is the baseline")
    elif BASELINE not in predictions:
        paired = Paired(n=len(split), note="no difference: there is no final model of the baseline")
    else:
        first, second = predictions[BASELINE], predictions[winner]
        paired = paired_difference(first, second, split.y, sweep.metric, seed=sweep.seed)
    told = dataclasses.asdict(paired)
    lacking = [name for name, value in told.items() if isinstance(value, float) and not math.isfinite(value)]
    if lacking and not paired.note:
        told["note"] = f"not defined for these predictions: {', '.join(lacking)}"
    return {name: None if name in lacking else value for name, value in told.items()}


def _write(
    folder: Path, winner: TrialRecord, state: Mapping[str, Any], told: Mapping[str, Any], preprocess: Mapping[str, Any]
) -> None:
    """Write final/, whole or not at all: the retrained winner's config, metrics, model and preprocessing."""
    final, scratch = folder / "final", folder / ".final.writing"
    shutil.rmtree(scratch, ignore_errors=True)
    metrics = {
        "trial": winner.trial,
        "epochs": max(winner.epochs),
        "n_test": told["samples"],
        "test": told["scores"][str(winner.proposal)],
        "baseline": told["scores"].get(str(BASELINE)),
        "difference": told.get("difference"),
    }
    try:
        write_text(scratch / "config.toml", table(winner.config))
        write_text(scratch / "preprocess.json", to_json(dict(preprocess)) + "\n")
        write_text(scratch / "metrics.json", to_json(metrics) + "\n")
        checkpoints.write_tensors(scratch / "model.pt", state.get("model", state))
    except BaseException:  # what is half there must not keep a full disk full
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    scratch.rename(final)
