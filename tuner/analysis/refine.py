"""The next space: narrowed to where the best trials are, widened where the best sits at an edge."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from tuner.analysis.features import Features, configs, encode, option_index, relative
from tuner.analysis.forest import boxes, grow, marginals
from tuner.analysis.ranges import edge, part, stretched
from tuner.analysis.scores import FINISHED, comparable, failed_by_config, feasible, plural, sign_of
from tuner.space import Choice, Domain, Fixed, Numeric, Range, Space
from tuner.space.values import label_part, option_texts
from tuner.spec.checks import check_parameter
from tuner.spec.code import is_builtin
from tuner.spec.text import toml_text

Floats = NDArray[np.float64]

LEAST_TRIALS = 8
"""Fewer trials (of a branch: in it) say nothing about a range."""
TOP_SHARE, TOP_LEAST = 0.25, 8
"""The top trials are the best quarter, and at least 8 (of few trials: the better half)."""
MARGIN = 0.1
"""How far beyond the top trials a range goes on, as a share of the old range on its own scale."""
WORTHWHILE = 0.8
"""A range is narrowed only to this share of the old one, or to less."""
LEVEL = 0.01
"""Of the Mann-Whitney test by which an option is dropped, divided by the options compared (Bonferroni)."""
LEAST_OF_OPTION = 5
LEAST_TO_FREEZE, LEAST_FIT = 20, 0.3
FREEZE_TREES, FREEZE_BOOTSTRAPS = 16, 20


@dataclass(frozen=True)
class Change:
    """One line of the diff between two spaces.

    Args:
        name: The parameter; of a conditional one its place, as in "optimizer=sgd/learning_rate"; "space" for a
            remark on the whole.
        before: Its old domain in TOML.
        after: Its new one.
        why: The reason, with counts.
    """

    name: str
    before: str
    after: str
    why: str


@dataclass(frozen=True)
class _Seen:
    """What has been tried inside the space, a row a config.

    Args:
        configs: As the space would give them.
        losses: The score, minimised; a config that failed has infinity.
        best: The row of the best.
        limits: The trainable and max_epochs, for hard limits.
        frozen: Label -> why it can be fixed at the best config's value.
    """

    configs: list[dict[str, Any]]
    losses: Floats
    best: int
    limits: tuple[str | None, int | None]
    frozen: Mapping[str, str]


def refine(
    space: Space,
    trials: pd.DataFrame,
    metric: str,
    mode: str,
    *,
    noise: float | None = None,
    trainable: str | None = None,
    max_epochs: int | None = None,
    keep: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[Space, tuple[Change, ...]]:
    """Return the space of the next round, and what was changed and why. Never raises on odd data.

    The best trial's config stays inside. A range goes to where the best quarter of the trials (of a branch: of
    those in it) are, with a margin, on the domain's own scale; it is widened by up to half of its width where the
    best sits at its edge and the top trials lie that way. An option is dropped only if no top trial has it
    and it is worse by a Mann-Whitney test at 1 %. What moves the score by less than the noise is frozen.

    Args:
        space: The space of the round before.
        trials: As in results; only those inside the space count.
        metric: The sweep's metric.
        mode: "max" or "min".
        noise: Standard deviation of the metric over repeats of one config; None: nothing is frozen.
        trainable: Whose hard limits ranges are held to; None, or a user's own: no value turns negative, and a
            range that ends at 1 and lies within [0, 1] keeps that end.
        max_epochs: The most that a parameter `epochs` may be; None: no limit.
        keep: A config that must stay inside, too, where it is inside now: one that folds have put first, say.
        seed: Of the forest that tells what matters.
    """
    found = _seen(space, trials, metric, mode, (trainable, max_epochs))
    if isinstance(found, str):
        return space, (Change("space", "", "unchanged", found),)
    found = dataclasses.replace(found, frozen=_frozen(space, found, noise, seed))
    changes: list[Change] = []
    rows = np.arange(len(found.configs))
    narrowed = _space(space, "", rows, found, changes)
    if narrowed.explain(found.configs[found.best]):  # never lose the best
        return space, (Change("space", "", "unchanged", "a narrower space would not hold the best config"),)
    if kept := _conformed(space, keep or {}):
        narrowed, changes = _holding(space, narrowed, changes, kept)
    if not changes:
        changes.append(Change("space", "", "unchanged", f"the best of {len(rows)} configs are spread all over it"))
    return narrowed, tuple(changes)


def _holding(
    space: Space, narrowed: Space, changes: list[Change], config: Mapping[str, Any]
) -> tuple[Space, list[Change]]:
    """Take back what would leave a config outside, and say so."""
    old, entries = dict(space.entries), dict(narrowed.entries)
    for name, domain in entries.items():
        alone = dataclasses.replace(space, entries=tuple({**old, name: domain}.items()))
        if alone.explain({key: value for key, value in config.items() if key in _active(alone, config)}):
            entries[name] = old[name]
            changes = [change for change in changes if change.name.split("=")[0] != name]
            why = f"{_shown(domain)} would not hold the chosen config's {config.get(name)!r}"
            changes.append(Change(name, _shown(old[name]), "unchanged", why))
    return dataclasses.replace(narrowed, entries=tuple(entries.items())), changes


def _active(space: Space, config: Mapping[str, Any]) -> set[str]:
    return {leaf.name for leaf in space.active(config)}


def _seen(
    space: Space, trials: pd.DataFrame, metric: str, mode: str, limits: tuple[str | None, int | None]
) -> _Seen | str:
    """Return the configs inside the space with their mean losses, or why there is nothing to go by."""
    trials = feasible(comparable(trials))
    column = f"best.{metric}"
    if column not in trials or "status" not in trials:
        return f"no trial has a {metric}"
    losses = sign_of(mode) * trials[column].to_numpy(dtype=float, na_value=np.nan)
    finished = trials["status"].isin(FINISHED).to_numpy() & np.isfinite(losses)
    failed = failed_by_config(trials)
    groups: dict[str, list[float]] = {}
    kept: dict[str, dict[str, Any]] = {}
    for row, written in enumerate(configs(trials)):
        config = _conformed(space, written)
        if config is None or not (finished[row] or failed[row]):
            continue
        key = repr(sorted(config.items()))
        kept[key] = config
        groups.setdefault(key, []).append(losses[row] if finished[row] else math.inf)
    means = np.array([np.mean(values) for values in groups.values()])
    count = int(np.isfinite(means).sum())
    if count < LEAST_TRIALS:
        return f"{count} configs of this space have a {metric}, and {LEAST_TRIALS} are the least to narrow it by"
    return _Seen(list(kept.values()), means, int(np.argmin(means)), limits, {})


def _conformed(space: Space, written: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a frame's config as the space would give it; None where it lies outside."""
    config: dict[str, Any] = {}
    names = set(space.names())
    for name, value in written.items():
        if name in names:
            config[name] = value
    for leaf in space.leaves():  # frames have 1.0 where 1 was written beside floats
        value = config.get(leaf.name)
        if isinstance(leaf.domain, Choice) and (index := option_index(leaf.domain, value)) is not None:
            config[leaf.name] = leaf.domain.options[index]
        elif isinstance(leaf.domain, Numeric) and leaf.domain.integer and isinstance(value, float):
            config[leaf.name] = int(value) if value.is_integer() else value
    active = {leaf.name for leaf in space.active(config)}
    config = {name: value for name, value in config.items() if name in active}
    return None if space.explain(config) else space.conform(config)


def _top(losses: Floats) -> NDArray[np.int64]:
    """Return the positions of the top trials, best first."""
    finite = int(np.isfinite(losses).sum())
    count = max(math.ceil(TOP_SHARE * finite), min(TOP_LEAST, finite // 2))
    return np.argsort(losses, kind="stable")[:count]


def _space(space: Space, prefix: str, rows: NDArray[np.int64], seen: _Seen, changes: list[Change]) -> Space:
    """Return a space, or a branch, narrowed by the rows that are in it."""
    entries = []
    for name, domain in space.entries:
        new: Domain = domain
        why = seen.frozen.get(prefix + name)
        if why and name in seen.configs[seen.best] and np.isin(seen.best, rows):
            new = Fixed(seen.configs[seen.best][name])
        elif isinstance(domain, Choice):
            new, why = _choice(domain, prefix + name, name, rows, seen, changes)
        elif isinstance(domain, Numeric):
            new, why = _number(domain, name, rows, seen)
        if _shown(new) != _shown(domain):
            changes.append(Change(prefix + name, _shown(domain), _shown(new), why or ""))
        entries.append((name, new))
    return Space(tuple(entries))


def _shown(domain: Domain) -> str:
    table = domain.to_table()
    if isinstance(table, dict):
        table = {key: value for key, value in table.items() if key != "when"}
    return toml_text(table)


# --- numbers ---


def _number(domain: Numeric, name: str, rows: NDArray[np.int64], seen: _Seen) -> tuple[Domain, str]:
    losses = seen.losses[rows]
    if int(np.isfinite(losses).sum()) < LEAST_TRIALS:
        return domain, ""
    top = rows[_top(losses)]
    values = [seen.configs[row][name] for row in top]
    places = np.array([relative(domain, value) for value in values])
    wider, side, told = _widened(domain, name, values, places, rows, seen)
    start, end = max(places.min() - MARGIN, 0.0), min(places.max() + MARGIN, 1.0)
    if side:  # that end is not the best trials' doing
        start, end = (0.0, end) if side == "lower" else (start, 1.0)
    if end - start > WORTHWHILE:
        return wider, told
    narrow = part(domain, start, end, values[0])
    low, high = min(values), max(values)
    why = f"the best {len(top)} of {int(np.isfinite(losses).sum())} trials lie from {low:.4g} to {high:.4g}"
    if isinstance(narrow, Range) and isinstance(wider, Range) and wider != domain:
        ends = (wider.low, narrow.high) if side == "lower" else (narrow.low, wider.high)
        both = dataclasses.replace(narrow, low=ends[0], high=ends[1])
        return both, f"{told}; {why}"
    return narrow, "; ".join(part for part in (why, told) if part)


def _widened(
    domain: Numeric, name: str, values: list[Any], places: Floats, rows: NDArray[np.int64], seen: _Seen
) -> tuple[Numeric, str | None, str]:
    """Return the domain widened where the best sits at its edge, at which edge, and the reason."""
    side = edge(domain, values[0])
    if side is None or not isinstance(domain, Range):
        return domain, None, ""
    outer = places <= 1 / 3 if side == "lower" else places >= 2 / 3
    if outer.mean() < 0.5:
        return domain, None, ""
    told = f"the best sits at the {side} edge, {values[0]:.4g}, and {outer.sum()} of the top {len(values)} lie that way"
    if _fails_at(domain, name, side, rows, seen):
        return domain, side, f"{told}, but trials fail there: not widened"
    wider = stretched(domain, side, lambda value: _allowed(domain, name, value, seen.limits))
    if wider == domain:
        return domain, side, f"{told}, but that is as far as {name} may go"
    return wider, side, told


def _fails_at(domain: Range, name: str, side: str, rows: NDArray[np.int64], seen: _Seen) -> bool:
    """Say whether at least two trials, and half of those in the outer fifth, failed by their config."""
    places = np.array([relative(domain, seen.configs[row][name]) for row in rows])
    there = seen.losses[rows][places <= 0.2 if side == "lower" else places >= 0.8]
    failures = int(np.isinf(there).sum())
    return failures >= 2 and 2 * failures >= len(there)


def _allowed(domain: Range, name: str, value: float, limits: tuple[str | None, int | None]) -> bool:
    trainable, max_epochs = limits
    if name == "epochs" and max_epochs is not None and value > max_epochs:
        return False
    if trainable is not None and is_builtin(trainable):
        return not check_parameter(trainable, name, name, Fixed(value))
    if domain.low >= 0 and value < 0:
        return False
    if domain.integer and domain.low >= 1 and value < 1:  # a count, as of layers
        return False
    return not (domain.low >= 0 and domain.high == 1 and not domain.integer and value > 1)


# --- choices ---


def _choice(
    domain: Choice, label: str, name: str, rows: NDArray[np.int64], seen: _Seen, changes: list[Change]
) -> tuple[Domain, str]:
    chosen = np.array([domain.index(seen.configs[row][name]) for row in rows], dtype=float)
    dropped = _worse(domain, chosen, seen.losses[rows])
    kept = [index for index in range(len(domain.options)) if index not in dropped]
    options, texts = domain.options, option_texts(domain.options)
    branches: dict[int, Space] = {}
    for index in kept:
        branch = domain.branches[index]
        if branch is not None:
            inside = rows[chosen == index]
            branches[index] = _space(branch, f"{label}={label_part(texts[index])}/", inside, seen, changes)
    why = "; ".join(f"{texts[index]}: {reason}" for index, reason in dropped.items())
    if dropped and len(kept) == 1 and not branches:
        return Fixed(options[kept[0]]), why
    weights = None if domain.weights is None else [domain.weights[index] for index in kept]
    if weights is not None and not sum(weights):
        weights = None
    left = [options[index] for index in kept]
    keys = dict(zip(kept, option_texts(left), strict=True))
    when = {keys[index]: branch for index, branch in branches.items()}
    return Choice(left, weights=weights, when=when or None), why


def _worse(domain: Choice, chosen: Floats, losses: Floats) -> dict[int, str]:
    """Return the options that are clearly worse than that of the best trial, with the evidence."""
    if int(np.isfinite(losses).sum()) < LEAST_TRIALS:
        return {}
    top = set(chosen[_top(losses)])
    best = chosen[int(np.argmin(losses))]
    level = LEVEL / max(len(domain.options) - 1, 1)
    reasons = {}
    for index in range(len(domain.options)):
        own, other = losses[chosen == index], losses[chosen == best]
        if index in top or len(own) < LEAST_OF_OPTION or len(other) < LEAST_OF_OPTION:
            continue
        p = float(mannwhitneyu(own, other, alternative="greater").pvalue)
        if p <= level:
            reasons[index] = f"none of its {len(own)} {plural('trial', len(own))} is among the best, p = {p:.1g}"
    return reasons


# --- what does not matter ---


def _frozen(space: Space, seen: _Seen, noise: float | None, seed: int) -> dict[str, str]:
    """Return the parameters whose average effect over the space is below the noise, with the reason."""
    finite = np.isfinite(seen.losses)
    if noise is None or not noise > 0 or int(finite.sum()) < LEAST_TO_FREEZE:
        return {}
    kept = [config for config, is_finite in zip(seen.configs, finite, strict=True) if is_finite]
    frame = pd.DataFrame(
        {f"config.{name}": pd.Series([c.get(name) for c in kept], dtype=object) for name in space.names()}
    )
    features, y = encode(space, frame), seen.losses[finite]
    if not features.axes or np.ptp(y) == 0:
        return {}
    forest = grow(features.matrix, y, seed, 2 * FREEZE_TREES)
    if forest.fit_unseen(features.matrix, y) < LEAST_FIT:
        return {}  # what explains nothing cannot tell what does not matter
    reasons = {}
    for axis, upper, count in zip(features.axes, _effects(features, y, seed), features.active.sum(axis=0), strict=True):
        branches = axis.is_choice and any(
            axis.leaf.label == label for a in features.axes for label, _ in a.leaf.conditions
        )
        if upper < noise and count >= LEAST_TO_FREEZE and not branches:
            reasons[axis.leaf.label] = (
                f"moves the score by at most {upper:.2g}, and the noise is {noise:.2g}: frozen at the best"
            )
    return reasons


def _effects(features: Features, y: Floats, seed: int) -> Floats:
    """Return the upper 95 % limit of each axis's effect (P,): from the lowest to the highest of its marginal."""
    rng = np.random.default_rng(seed)
    spans = []
    for number in range(FREEZE_BOOTSTRAPS):
        rows = rng.integers(len(y), size=len(y))
        forest = grow(features.matrix[rows], y[rows], seed + 1 + number, FREEZE_TREES)
        curves = marginals(boxes(forest, features.axes), features)
        spans.append([float(np.nanmax(f) - np.nanmin(f)) if np.isfinite(f).any() else 0.0 for f in curves])
    upper: Floats = np.mean(spans, axis=0) + 1.645 * np.std(spans, axis=0, ddof=1)
    return upper
