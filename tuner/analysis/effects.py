"""How a parameter moves the score: averaged over the others, pairwise, as it was seen, and one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.analysis.features import configs, encode, values_of
from tuner.analysis.forest import boxes, marginals, pair_marginal
from tuner.analysis.importance import Explained, explain
from tuner.analysis.scores import scores
from tuner.space import Fixed, Space

Floats = NDArray[np.float64]
BOOTSTRAPS = 40


@dataclass(frozen=True)
class Dependence:
    """The average score along one parameter.

    Args:
        name: The parameter, or its place under a choice.
        values: Where (K,), in order: numbers, or options.
        log: Whether the values belong on a log axis.
        is_choice: Whether they are options.
        mean: The average score there (K,), over all other parameters; of a conditional one, within its branch.
        low: Lower end of the 95 % band (K,) (mean - 1.96 sd over bootstraps of the trials).
        high: Upper end (K,).
    """

    name: str
    values: tuple[Any, ...]
    log: bool
    is_choice: bool
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Dependences:
    """Every parameter's dependence, and the epoch at which trials were compared.

    Args:
        epoch: None without any trial.
        curves: In the space's order; empty where nothing can be said.
        note: What cannot be said, and who was left out.
    """

    epoch: int | None
    curves: tuple[Dependence, ...]
    note: str


@dataclass(frozen=True)
class Heatmap:
    """The average score over two parameters.

    Args:
        names: Of the first (rows) and the second (columns).
        values: Of both.
        logs: Whether each belongs on a log axis.
        mean: (K1, K2); NaN where the two are never active together.
        note: What cannot be said; then `mean` is empty.
    """

    names: tuple[str, str]
    values: tuple[tuple[Any, ...], tuple[Any, ...]]
    logs: tuple[bool, bool]
    mean: Floats
    note: str


def partial_dependence(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    space: Space,
    metric: str,
    mode: str,
    *,
    seed: int = 0,
    bootstraps: int = BOOTSTRAPS,
) -> Dependences:
    """Return each parameter's average effect on the score, with a 95 % band over trials.

    The average is the forest's, over the space's own probabilities, at the epoch common to all trials (see
    `importance`). Never raises on odd data.
    """
    return partial_dependence_of(explain(trials, epochs, space, metric, mode, seed=seed, bootstraps=bootstraps))


def partial_dependence_of(explained: Explained) -> Dependences:
    """Return each parameter's average effect by forests that were grown before, for the score."""
    fitted, features = explained.fitted, explained.fitted.features
    if explained.forest is None:
        return Dependences(fitted.epoch, (), fitted.note)
    means = marginals(boxes(explained.forest, features.axes), features)
    again = [marginals(boxes(forest, features.axes), features) for forest in explained.again]
    curves = []
    for number, axis in enumerate(features.axes):
        spread = 1.96 * np.std([each[number] for each in again], axis=0, ddof=1) if len(again) > 1 else 0.0
        mean = means[number]
        log = bool(getattr(axis.leaf.domain, "log", False))
        curves.append(Dependence(axis.leaf.label, axis.values, log, axis.is_choice, mean, mean - spread, mean + spread))
    return Dependences(fitted.epoch, tuple(curves), fitted.note)


def pairwise(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    space: Space,
    metric: str,
    mode: str,
    pairs: Sequence[tuple[str, str]],
    *,
    seed: int = 0,
) -> list[Heatmap]:
    """Return the average score over pairs of parameters (their labels), one forest for all. Never raises."""
    return pairwise_of(explain(trials, epochs, space, metric, mode, seed=seed, bootstraps=0), pairs)


def pairwise_of(explained: Explained, pairs: Sequence[tuple[str, str]]) -> list[Heatmap]:
    """Return the average score over pairs of parameters by a forest that was grown before, for the score."""
    fitted, axes = explained.fitted, explained.fitted.features.axes
    places = {axis.leaf.label: number for number, axis in enumerate(axes)}
    leaves = None if explained.forest is None else boxes(explained.forest, axes)
    maps = []
    for pair in pairs:
        missing = [name for name in pair if name not in places]
        if leaves is None or missing:
            note = fitted.note if leaves is None else f"{missing[0]} does not vary"
            maps.append(Heatmap(pair, ((), ()), (False, False), np.empty((0, 0)), note))
            continue
        first, second = (places[name] for name in pair)
        values = (axes[first].values, axes[second].values)
        logs = (_is_log(axes[first].leaf.domain), _is_log(axes[second].leaf.domain))
        maps.append(Heatmap(pair, values, logs, pair_marginal(leaves, fitted.features, first, second), fitted.note))
    return maps


def _is_log(domain: Any) -> bool:
    return bool(getattr(domain, "log", False))


def slices(trials: pd.DataFrame, epochs: pd.DataFrame, space: Space, metric: str, mode: str) -> pd.DataFrame:
    """Return every (parameter, trial) as it was seen: parameter, value, trial, status, score; best over all epochs.

    Failed trials are rows too: those that failed by their config with the worst score, and `status` tells.
    """
    scored = scores(trials, epochs, metric, mode, last=True)
    features = encode(space, scored.frame)
    parts = []
    for number, axis in enumerate(features.axes):
        rows = features.rows[features.active[:, number]]
        frame = scored.frame.iloc[rows]
        column = pd.Series(values_of(frame, f"config.{axis.leaf.name}"), dtype=object)
        parts.append(
            pd.DataFrame(
                {
                    "parameter": axis.leaf.label,
                    "value": column,
                    "trial": list(frame["trial"]),
                    "status": list(frame["status"]),
                    "score": scored.values[rows],
                }
            )
        )
    empty = pd.DataFrame({"parameter": [], "value": [], "trial": [], "status": [], "score": []})
    return pd.concat(parts, ignore_index=True) if parts else empty


def one_at_a_time(
    trials: pd.DataFrame, epochs: pd.DataFrame, space: Space, metric: str, mode: str, baseline: Mapping[str, Any]
) -> pd.DataFrame:
    """Return what changing one parameter of the baseline alone did.

    Those trials count, of any strategy, whose config differs from the baseline in one parameter (or in none: the
    baseline itself, and repeats are averaged); a choice's own parameters may come and go with it.

    Returns:
        parameter, value, score, effect (score - baseline's, in the metric's unit), n. Empty without a baseline trial.
    """
    scored = scores(trials, epochs, metric, mode, last=True)
    written = configs(scored.frame)
    names = [name for name in space.names() if not all(isinstance(d, Fixed) for d in _domains(space, name))]
    centre, found = [], []
    for config, score in zip(written, scored.values, strict=True):
        differs = [name for name in names if name in config and config[name] != baseline.get(name)]
        differs = _without_followers(space, differs)
        if not differs:
            centre.append(score)
        elif len(differs) == 1:
            found.append((differs[0], config[differs[0]], score))
    columns = ["parameter", "value", "score", "effect", "n"]
    if not centre or not found:
        return pd.DataFrame({column: [] for column in columns})
    base = float(np.mean(centre))
    groups: dict[tuple[str, str], list[Any]] = {}
    for name, value, score in found:
        groups.setdefault((name, repr(value)), [value]).append(score)
    rows = [
        (name, value, float(np.mean(own)), float(np.mean(own)) - base, len(own))
        for (name, _), (value, *own) in groups.items()
    ]
    return pd.DataFrame(rows, columns=columns)


def _domains(space: Space, name: str) -> list[Any]:
    return [leaf.domain for leaf in space.leaves() if leaf.name == name]


def _without_followers(space: Space, differs: list[str]) -> list[str]:
    """Return the names without those that stand under a choice that itself differs."""
    choices = {leaf.label: leaf.name for leaf in space.leaves()}
    above = {leaf.name: {choices[label] for label, _ in leaf.conditions} for leaf in space.leaves()}
    return [name for name in differs if not above.get(name, set()) & set(differs)]


def parallel_coordinates(
    trials: pd.DataFrame, epochs: pd.DataFrame, space: Space, metric: str, mode: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a row a trial for parallel coordinates: trial, status, score, and each parameter from 0 to 1.

    A number lies on its domain's own scale, an option at the middle of its share; NaN where the config has none.

    Returns:
        The frame (columns named by label), and the labels in the space's order.
    """
    scored = scores(trials, epochs, metric, mode, last=True)
    features = encode(space, scored.frame)
    frame = scored.frame.iloc[features.rows]
    columns: dict[str, Any] = {"trial": list(frame.get("trial", [])), "status": list(frame.get("status", []))}
    columns["score"] = scored.values[features.rows]
    for number, axis in enumerate(features.axes):
        block = features.matrix[:, axis.column : axis.column + axis.width]
        place = (block.argmax(axis=1) + 0.5) / axis.width if axis.is_choice else block[:, 0]
        columns[axis.leaf.label] = np.where(features.active[:, number], place, np.nan)
    return pd.DataFrame(columns), tuple(axis.leaf.label for axis in features.axes)
