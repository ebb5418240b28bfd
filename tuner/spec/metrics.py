"""Which metrics the built-in trainables report, and which way of each is better."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Literal

from tuner.constraints import PARAMS
from tuner.errors import DataError, Problem, nearest

Mode = Literal["max", "min"]

METRICS: dict[str, dict[str, Mode]] = {
    "classification": {
        "val_accuracy": "max",
        "val_loss": "min",
        "val_balanced_accuracy": "max",
        "val_precision": "max",
        "val_recall": "max",
        "val_f1": "max",
        "val_roc_auc": "max",
        "train_loss": "min",
        "train_accuracy": "max",
        "epoch_s": "min",
    },
    "regression": {
        "val_rmse": "min",
        "val_loss": "min",
        "val_mae": "min",
        "val_r2": "max",
        "train_loss": "min",
        "epoch_s": "min",
    },
}
"""Task to {metric: the better way}; the first of each task is its default."""

_KNOWN: dict[str, Mode] = METRICS["classification"] | METRICS["regression"]

_USUAL: dict[str, Mode] = {
    **dict.fromkeys(["loss", "error", "rmse", "mse", "mae", "val_error", "val_mse"], "min"),
    **dict.fromkeys(["accuracy", "f1", "r2", "roc_auc"], "max"),
}
"""Names of users' own metrics whose way is taken for granted where no mode is given."""

_TASKS = {
    **dict.fromkeys(["digits", "breast_cancer", "wine", "images"], "classification"),
    **dict.fromkeys(["mnist", "fashion_mnist", "cifar10", "cifar100"], "classification"),
    "diabetes": "regression",
}


def known_metrics(task: str | None) -> list[str]:
    """Return the metrics that built-in trainables report for a task; None: for any."""
    return [*(METRICS[task] if task else _KNOWN), "learning_rate"]


def better_way(metric: str) -> Mode | None:
    """Return which way of a built-in metric is better; None where it has none, such as learning_rate."""
    return "min" if metric == PARAMS else _KNOWN.get(metric)


def task_of(options: Mapping[str, Any], needed: bool, problems: list[Problem]) -> str | None:
    """Return the task of a data set; None where it is unknown.

    Args:
        options: The [data] table as resolved.
        needed: Whether a file may be read to find it out, and not knowing is a mistake.
        problems: Receives the mistake.
    """
    known = options.get("task") or _TASKS.get(options["name"])
    if known or not needed:
        return known
    try:
        task: str = importlib.import_module("trainables.data").info(options).task
    except DataError as error:
        rule = f"classification or regression? The table could not tell: {str(error).rstrip('.')}"
        problems.append(Problem("data.task", rule, remedy="Give data.task, or sweep.metric."))
        return None
    return task


def resolve_metric(
    metric: str | None, mode: Mode | None, task: str | None, builtin: bool, key: str, problems: list[Problem]
) -> tuple[str, Mode]:
    """Return the metric and its mode with what was left out filled in.

    Args:
        metric: The metric as given.
        mode: The mode as given.
        task: The data's task, where it is known.
        builtin: Whether a built-in trainable reports the metrics.
        key: "sweep." in a file, "" in Python.
        problems: Receives the mistakes.
    """
    if metric is None:
        if not builtin:
            problems.append(_metric_missing(key))
            return "", mode or "min"
        metric = next(iter(METRICS[task or "classification"]))
    elif builtin and metric not in (valid := METRICS[task] if task else _KNOWN):
        what = f"must be a metric of {task}" if task else "must be a metric that the trainable reports"
        problems.append(Problem(f"{key}metric", what, f'"{metric}"', nearest(metric, valid)))
        return metric, mode or "min"
    return metric, _resolve_mode(metric, mode, key, problems)


def _metric_missing(key: str) -> Problem:
    return Problem(
        f"{key}metric",
        "is required for a function of your own",
        remedy='Name a metric that it reports, such as metric = "val_accuracy".',
    )


def _resolve_mode(metric: str, mode: Mode | None, key: str, problems: list[Problem]) -> Mode:
    known = _KNOWN.get(metric)
    if mode and known and mode != known:
        rule = f'{metric} must have mode "{known}"'
        problems.append(Problem(f"{key}mode", rule, f'"{mode}"', f'Write mode = "{known}", or leave it out.'))
    if mode is None and (known or _USUAL.get(metric)) is None:
        rule = f'is required for the metric "{metric}"'
        problems.append(Problem(f"{key}mode", rule, remedy='Write mode = "max" or mode = "min".'))
    return mode or known or _USUAL.get(metric) or "min"
