"""Cross-validated configs against each other: who is clearly worse, who ties, and how probable each is the best.

Configs are compared on the blocks (seed, fold) that all of them have. Scores of folds are not independent, since the
training sets overlap, so the variance of a mean difference over J blocks is not s2 / J but, after Nadeau and Bengio
("Inference for the generalization error", Machine Learning 52, 2003),

    (1 / J + n_test / n_train) * s2,      t with J - 1 degrees of freedom,

which is exact for normal differences with a correlation of n_test / (n_test + n_train).

A config is dropped where it is shown not to be the best: where some other config is better. The hypothesis "config m
is as good as every other" has p = (k - 1) * min over j of the one-sided p of "j is better than m" (Bonferroni over
the k - 1 others, so it does not matter that the leader was chosen by the same scores), and Holm's procedure (1979)
runs over the configs. So the chance that any config is dropped that is as good as all others is at most the level.

The level is spent over a fixed number of looks: look l of L has the share l / (1 + ... + L), since later looks have
more blocks. Shares add up to the level, so by Bonferroni it holds over all looks, however they depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Block = tuple[int, int]
Blocks = Mapping[str, Mapping[Block, float | None]]
Array = NDArray[np.float64]

# A config that fails in more of its blocks than this is set aside: it would leave the others too few in common.
_MOST_FAILED = 0.5


@dataclass(frozen=True)
class Contrast:
    """One config beside the one that shows best that it is not the best.

    Args:
        config: The config.
        against: The config that beats it most clearly; the leader for a config that nothing beats.
        behind: Mean by which it is worse than `against`, in the metric's units: positive is worse, whatever the mode.
        low: Lower end of the interval of `behind`: simultaneous over all pairs of configs (Bonferroni).
        high: Upper end.
        p: That nothing is better than it, Bonferroni over the others.
        adjusted: p after Holm over the configs.
    """

    config: str
    against: str
    behind: float
    low: float
    high: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class Comparison:
    """Configs compared at one look.

    Args:
        leader: The best mean over the common blocks, the earlier of equals; None without a common block.
        means: Config -> mean over the common blocks.
        contrasts: One a config that is compared, in the order given; empty where nothing can be tested.
        blocks: The (seed, fold) that all compared configs have.
        worse: Configs with adjusted p <= level.
        probability_best: Config -> probability; sums to 1; empty where it cannot be had.
        level: Of the test.
        note: What cannot be said; "" if all is well.
    """

    leader: str | None
    means: Mapping[str, float]
    contrasts: tuple[Contrast, ...]
    blocks: tuple[Block, ...]
    worse: tuple[str, ...]
    probability_best: Mapping[str, float]
    level: float
    note: str = ""


@dataclass(frozen=True)
class Race:
    """Where a race stands.

    Args:
        verdict: "separated" (one config is left), "tie" (several are, and no look), or "open" (blocks are to come).
        alive: Configs that go on, or the tie set.
        dropped: Config -> the look after which it was dropped, from 1.
        failed: Configs set aside, since most of their blocks failed.
        looks: Looks that were taken.
        of: Looks in all.
        waiting: (config, block) that the next look needs, in the order to run them.
        last: The newest comparison; None before the first look.
        probability_best: Config -> probability among the configs of the newest comparison, 0 for those that were
            dropped earlier; sums to 1, or empty.
        construction: How configs were compared.
        note: What cannot be said; "" if all is well.
    """

    verdict: str
    alive: tuple[str, ...]
    dropped: Mapping[str, int]
    failed: tuple[str, ...]
    looks: int
    of: int
    waiting: tuple[tuple[str, Block], ...]
    last: Comparison | None
    probability_best: Mapping[str, float]
    construction: str
    note: str = ""


FOLDS = 5
"""Of a study whose [data] names no other number."""


def schedule(seeds: int, folds: int) -> list[list[Block]]:
    """Return the (seed, fold) blocks that each look adds: the folds of one seed; of a single seed, in two parts."""
    if seeds == 1 and folds > 3:
        return [[(0, fold) for fold in range(3)], [(0, fold) for fold in range(3, folds)]]
    return [[(seed, fold) for fold in range(folds)] for seed in range(seeds)]


def spend(level: float, looks: int) -> tuple[float, ...]:
    """Return what each of that many looks may spend of the level: l / (1 + ... + looks) of it at look l."""
    return tuple(level * number / (looks * (looks + 1) / 2) for number in range(1, looks + 1))


def compare(
    blocks: Blocks,
    mode: str,
    *,
    ratio: float,
    level: float = 0.05,
    family: int | None = None,
    draws: int = 20_000,
    seed: int = 0,
) -> Comparison:
    """Return the configs compared on the blocks that all of them have.

    Args:
        blocks: Config -> (seed, fold) -> score; None or NaN for one that failed.
        mode: "max" or "min".
        ratio: Test samples a fold over training samples: 1 / (k - 1) for k folds.
        level: What the test may spend, over all configs.
        family: How many configs there were in the race's beginning, where some were dropped.
        draws: For the probability of being best.
        seed: Of the draws.

    Returns:
        A comparison with a note where there is nothing to compare; odd data raise nothing.
    """
    names = list(blocks)
    common = _common(blocks)
    if not names or not common:
        why = "no config" if not names else "no (seed, fold) block is common to all configs"
        return Comparison(None, {}, (), (), (), {}, level, f"nothing to compare: {why}")
    sign = 1.0 if mode == "max" else -1.0
    table = np.array([[float(blocks[name][block] or 0.0) for name in names] for block in common])  # (J, k)
    means = table.mean(axis=0)
    leader = names[int((sign * means).argmax())]
    by_name = {name: float(mean) for name, mean in zip(names, means, strict=True)}
    if len(names) == 1 or len(common) < 2:
        why = "" if len(names) == 1 else "one block in common has no variance, so nothing is tested"
        return Comparison(leader, by_name, (), common, (), {leader: 1.0} if not why else {}, level, why)
    contrasts = _contrasts(names, sign * table, ratio, level, family or len(names))
    worse = tuple(contrast.config for contrast in contrasts if contrast.adjusted <= level)
    chances = probability_best(sign * table, ratio, draws, seed)
    best = {name: float(chance) for name, chance in zip(names, chances, strict=True)}
    return Comparison(leader, by_name, contrasts, common, worse, best, level)


def _common(blocks: Blocks) -> tuple[Block, ...]:
    finite = [
        {block for block, value in of_config.items() if value is not None and math.isfinite(value)}
        for of_config in blocks.values()
    ]
    return tuple(sorted(set.intersection(*finite))) if finite else ()


def corrected_error(differences: Array, ratio: float) -> Array:
    """Return Nadeau and Bengio's standard error of mean differences over blocks (J, ...), J >= 2."""
    scale = 1 / len(differences) + ratio
    return np.asarray(np.sqrt(scale * differences.var(axis=0, ddof=1)))


def _contrasts(names: Sequence[str], table: Array, ratio: float, level: float, family: int) -> tuple[Contrast, ...]:
    """Return a contrast a config from scores (J, k) of which the higher are the better."""
    k, degrees = len(names), len(table) - 1
    better = table[:, :, None] - table[:, None, :]  # (J, j, m): by how much j is better than m
    mean, error = better.mean(axis=0), corrected_error(better, ratio)
    # Differences that do not vary are decided as they stand, but for rounding.
    small = 1e-12 * (1 + np.abs(table).max())
    mean = np.where(np.abs(mean) <= small, 0.0, mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        ts = np.where(error > small, mean / error, np.where(mean == 0, 0.0, np.sign(mean) * np.inf))
    np.fill_diagonal(ts, -np.inf)
    against = ts.argmax(axis=0)
    p = np.minimum(1.0, (max(family, k) - 1) * student.sf(ts.max(axis=0), degrees))
    adjusted = holm(p)
    reach = float(student.isf(level / (k * (k - 1)), degrees))
    return tuple(
        Contrast(
            name, names[j], float(mean[j, m]), float(mean[j, m] - reach * error[j, m]),
            float(mean[j, m] + reach * error[j, m]), float(p[m]), float(adjusted[m]),
        )
        for m, (name, j) in enumerate(zip(names, against, strict=True))
    )  # fmt: skip


def holm(p: Sequence[float] | Array) -> Array:
    """Return p-values adjusted by Holm's step-down procedure (1979), in the order given."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = len(values) - np.arange(len(values))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return adjusted


def probability_best(table: Array, ratio: float, draws: int = 20_000, seed: int = 0) -> Array:
    """Return each config's probability of having the highest true mean; they sum to 1.

    The true means are drawn from the multivariate t that a flat prior gives for normal blocks whose mean has Nadeau and
    Bengio's covariance (Corani and Benavoli, "A Bayesian approach for comparing cross-validated algorithms", Machine
    Learning 100, 2015, for more than two configs). Configs that are equal in a draw share it.

    Args:
        table: Scores (J, k), J >= 2, the higher the better.
        ratio: As in compare.
        draws: How many.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    count, degrees = len(table), len(table) - 1
    centred = (table - table.mean(axis=0)) / math.sqrt(degrees)  # its cross product is the covariance
    spread = rng.standard_normal((draws, count)) @ centred * math.sqrt(1 / count + ratio)
    drawn = table.mean(axis=0) + spread / np.sqrt(rng.chisquare(degrees, size=(draws, 1)) / degrees)
    top = drawn >= drawn.max(axis=1, keepdims=True) - 1e-12 * (1 + np.abs(table).max())
    return np.asarray((top / top.sum(axis=1, keepdims=True)).mean(axis=0))


def race(
    blocks: Blocks,
    schedule: Sequence[Sequence[Block]],
    mode: str,
    *,
    ratio: float,
    level: float = 0.05,
    draws: int = 20_000,
    seed: int = 0,
) -> Race:
    """Replay a race from its blocks, as far as they go: the same blocks give the same race, so a resume goes on.

    Args:
        blocks: Config -> (seed, fold) -> score, best candidate first; None or NaN for a block that failed for good, and
            no entry for one that has not been run.
        schedule: For each look the blocks that it adds, such as all folds of one seed; fixed before the first look.
        mode: "max" or "min".
        ratio: As in compare.
        level: Over all configs and looks.
        draws: For the probability of being best.
        seed: Of the draws.
    """
    alive, failed = list(blocks), [name for name in blocks if _fails(blocks[name])]
    alive = [name for name in alive if name not in failed]
    dropped: dict[str, int] = {}
    last: Comparison | None = None
    taken = 0
    waiting: tuple[tuple[str, Block], ...] = ()
    seen: list[Block] = []
    for look, (added, share) in enumerate(zip(schedule, spend(level, len(schedule)), strict=True), start=1):
        if len(alive) <= 1:
            break
        seen += list(added)
        waiting = tuple((name, block) for block in seen for name in alive if block not in blocks[name])
        if waiting:
            break
        at_look = {name: {block: blocks[name][block] for block in seen} for name in alive}
        last = compare(at_look, mode, ratio=ratio, level=share, family=len(blocks), draws=draws, seed=seed)
        taken = look
        dropped |= dict.fromkeys(last.worse, look)
        alive = [name for name in alive if name not in last.worse]
    return _race(blocks, alive, failed, dropped, taken, len(schedule), waiting, last, ratio, level)


def _fails(of_config: Mapping[Block, float | None]) -> bool:
    bad = sum(value is None or not math.isfinite(value) for value in of_config.values())
    return bad > _MOST_FAILED * len(of_config)


def _race(
    blocks: Blocks,
    alive: list[str],
    failed: list[str],
    dropped: dict[str, int],
    taken: int,
    looks: int,
    waiting: tuple[tuple[str, Block], ...],
    last: Comparison | None,
    ratio: float,
    level: float,
) -> Race:
    verdict = "open" if waiting else "separated" if len(alive) == 1 else "tie"
    best = {name: (last.probability_best.get(name, 0.0)) for name in blocks} if last and last.probability_best else {}
    notes = [last.note] if last and last.note else []
    if failed:
        notes.append(f"set aside, since most of their blocks failed: {', '.join(failed)}")
    if not alive:
        notes.append("no config is left to compare")
    return Race(
        verdict, tuple(alive), dropped, tuple(failed), taken, looks, waiting, last, best, _how(level, looks, ratio),
        "; ".join(notes),
    )  # fmt: skip


def _how(level: float, looks: int, ratio: float) -> str:
    return (
        "Paired t tests on the (seed, fold) blocks common to all, with Nadeau and Bengio's variance "
        f"(1/J + {ratio:.3g}) * s2; Bonferroni over the other configs, Holm over configs; the level {level:g} spent "
        f"over {looks} looks in proportion to their number. Probability of being best: multivariate t with the same "
        "variance."
    )
