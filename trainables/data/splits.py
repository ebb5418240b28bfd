"""Which rows are train, validation and test: seeded, stratified, group-aware. Pure index arithmetic.

The test rows are drawn first, from the seed alone, so that no other option than `limit` and
`test_fraction` moves them. Both fractions count from the samples that are split: all of the set (or of
`limit`), but for a test or validation part that it came with. Every class keeps at least one row in train.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.random import MT19937, RandomState, SeedSequence
from numpy.typing import NDArray

from trainables.data.options import Options, complaint

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """The rows that are to be split: all of a set but the test split that it came with.

    Args:
        strata: (N,) class of each row, from 0; all 0 for regression.
        groups: (N,) rows of equal number stay in one split; None where there are no groups.
        own_val: (N,) True where the set itself says that a row is for validation; None where it does not.
        own_test: True where the set came with a test split (which is not among these rows).
    """

    strata: Ints
    groups: Ints | None = None
    own_val: NDArray[np.bool_] | None = None
    own_test: bool = False


@dataclass(frozen=True)
class Rows:
    """Row numbers of the splits, each in a random order; `test` is empty for a pool with its own test."""

    train: Ints
    val: Ints
    test: Ints


def split(pool: Pool, options: Options, seed: int, fold: int | None = None) -> Rows:
    """Return the rows of train, val and test.

    Args:
        pool: What to split.
        options: limit, val_fraction, test_fraction and folds are used.
        seed: Any whole number.
        fold: None for the ordinary split, or 0 to folds - 1: that fold of all rows outside test is
            val, the others are train.

    Raises:
        DataError: Where a split would be empty, or a fold that there is not.
    """
    rows = _limited(pool, options.limit, _rng(seed, "limit"))
    given = np.zeros(len(rows), bool) if pool.own_val is None else pool.own_val[rows]
    free, own_val = rows[~given], rows[given]
    rest, test = _test_rows(pool, free, options, seed)
    if fold is not None:
        train, val = _fold(pool, np.concatenate([rest, own_val]), options.folds, fold, _rng(seed, "folds"))
    elif len(own_val):
        train, val = rest, own_val
    else:
        train, val = _carve(pool, rest, round(options.val_fraction * len(free)), _rng(seed, "val"))
    _check_filled("train", train, "val_fraction", len(free))
    _check_filled("validation", val, "val_fraction", len(free))
    return Rows(train, val, test)


def _test_rows(pool: Pool, free: Ints, options: Options, seed: int) -> tuple[Ints, Ints]:
    """Return (rest, test); test is empty where the pool has its own or none is asked for."""
    if pool.own_test or options.test_fraction == 0:
        return free, free[:0]
    if options.test_fraction + options.val_fraction >= 1:
        got = f"{options.test_fraction} + {options.val_fraction}"
        raise complaint("test_fraction", "test_fraction + val_fraction < 1 must hold", got)
    rest, test = _carve(pool, free, round(options.test_fraction * len(free)), _rng(seed, "test"))
    _check_filled("test", test, "test_fraction", len(free))
    return rest, test


def _check_filled(name: str, rows: Ints, key: str, total: int) -> None:
    if len(rows) == 0:
        rule = f"the {name} split would be empty"
        remedy = "A class's only sample (with data.group: its only group) stays in train."
        raise complaint(key, rule, f"{total} samples to split", remedy)


def _rng(seed: int, purpose: str) -> RandomState:
    # RandomState's stream is frozen (NEP 19): a resume under another NumPy splits alike.
    entropy = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return RandomState(MT19937(SeedSequence(int.from_bytes(entropy[:16], "big"))))


def _limited(pool: Pool, limit: int | None, rng: RandomState) -> Ints:
    """Return `limit` rows, drawn from each class (and from the set's own val) in proportion; all for None."""
    total = len(pool.strata)
    if limit is None or limit >= total:
        return np.arange(total)
    kinds = pool.strata if pool.own_val is None else pool.strata * 2 + pool.own_val
    strata = np.unique(kinds, return_inverse=True)[1]
    if limit < strata.max() + 1:
        rule = "must leave a sample of each class"
        raise complaint("limit", rule, str(limit), f"There are {strata.max() + 1} classes to keep.")
    part = _draw(strata, total - limit, rng)
    return np.flatnonzero(~part)


def _carve(pool: Pool, rows: Ints, count: int, rng: RandomState) -> tuple[Ints, Ints]:
    """Return (rest, part) of `rows`: part has `count` rows, or near it where groups stay together."""
    order = rows[rng.permutation(len(rows))]
    strata = pool.strata[order]
    if pool.groups is None:
        part = _draw(strata, count, rng)
    else:
        part = _draw_groups(strata, pool.groups[order], count, rng)
    return order[~part], order[part]


def _draw(strata: Ints, count: int, rng: RandomState) -> NDArray[np.bool_]:
    """Return (N,) True for `count` random rows, each class in proportion and none taken whole."""
    order = rng.permutation(len(strata))
    quota = _quotas(np.bincount(strata), count)
    chosen = np.zeros(len(strata), bool)
    chosen[order] = _ranks(strata[order]) < quota[strata[order]]
    return chosen


def _quotas(sizes: Ints, count: int) -> Ints:
    """Return how many rows of each class to take: largest remainders, at least one of each class left."""
    share = sizes * (count / max(1, sizes.sum()))
    room = np.maximum(sizes - 1, 0)
    quota = np.minimum(np.floor(share).astype(np.int64), room)
    by_remainder = np.argsort(quota - share, kind="stable")
    while quota.sum() < count and (quota < room).any():
        open_classes = by_remainder[(quota < room)[by_remainder]]
        quota[open_classes[: count - quota.sum()]] += 1
    return np.asarray(quota)


def _ranks(strata: Ints) -> Ints:
    """Return (N,) each row's number within its class, from 0, in the given order."""
    by_class = np.argsort(strata, kind="stable")
    sizes = np.bincount(strata)
    starts = np.cumsum(sizes) - sizes
    ranks = np.empty(len(strata), np.int64)
    ranks[by_class] = np.arange(len(strata)) - starts[strata[by_class]]
    return ranks


def _group_counts(strata: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """Return (G, K) rows of each class in each group, and (N,) each row's group number from 0."""
    number = np.unique(groups, return_inverse=True)[1]
    counts = np.zeros((number.max(initial=-1) + 1, strata.max(initial=-1) + 1), np.int64)
    np.add.at(counts, (number, strata), 1)
    return counts, number


def _draw_groups(strata: Ints, groups: Ints, count: int, rng: RandomState) -> NDArray[np.bool_]:
    """Return (N,) True for the rows of whole groups that come near `count`, each class in proportion.

    A group is taken where it brings the part closer to its class counts and leaves some of each class.
    """
    counts, number = _group_counts(strata, groups)
    wanted = counts.sum(0) * (count / max(1, len(strata)))
    part, rest = np.zeros(counts.shape[1]), counts.sum(0).astype(float)
    taken = np.zeros(len(counts), bool)
    order = rng.permutation(len(counts))
    # The second round, with everything allowed that keeps the classes, is for a few large groups.
    for any_distance in (False, True):
        for group in order:
            closer = np.abs(part + counts[group] - wanted).sum() < np.abs(part - wanted).sum()
            keeps_classes = (rest - counts[group] > 0)[counts[group] > 0].all()
            if keeps_classes and (closer or (any_distance and not taken.any())):
                taken[group] = True
                part, rest = part + counts[group], rest - counts[group]
    return taken[number]


def _fold(pool: Pool, rows: Ints, folds: int | None, fold: int, rng: RandomState) -> tuple[Ints, Ints]:
    """Return (train, val): fold number `fold` of the rows is val."""
    if folds is None or not 0 <= fold < folds:
        raise complaint("folds", "0 <= fold < folds must hold", f"fold {fold}, folds {folds}")
    order = rows[rng.permutation(len(rows))]
    strata = pool.strata[order]
    if pool.groups is None:
        number = _deal(strata, folds)
    else:
        number = _deal_groups(strata, pool.groups[order], folds, rng)
    if len(np.unique(number[number >= 0])) < folds:
        rule = "each fold needs a sample (with data.group: a group) of its own"
        raise complaint("folds", rule, str(folds), "Use fewer folds.")
    return order[number != fold], order[number == fold]


def _deal(strata: Ints, folds: int) -> Ints:
    """Return (N,) fold of each row, dealt class by class; -1 (always train) for a class's only row."""
    number = np.full(len(strata), -1, np.int64)
    shared = np.bincount(strata)[strata] > 1
    by_class = np.argsort(strata, kind="stable")
    dealt = by_class[shared[by_class]]
    number[dealt] = np.arange(len(dealt)) % folds
    return number


def _deal_groups(strata: Ints, groups: Ints, folds: int, rng: RandomState) -> Ints:
    """Return (N,) fold of each row, whole groups dealt to even out classes; -1 where a class has one group.

    Greedy, the most uneven group first, as scikit-learn's StratifiedGroupKFold does.
    """
    counts, row_group = _group_counts(strata, groups)
    sole = ((counts > 0) & ((counts > 0).sum(0) == 1)).any(1)
    number = np.full(len(counts), -1, np.int64)
    held = np.zeros((folds, counts.shape[1]))
    shuffled = rng.permutation(len(counts))
    for group in shuffled[np.argsort(-counts[shuffled].std(1) - counts[shuffled].sum(1), kind="stable")]:
        if not sole[group]:
            number[group] = _evenest(held, counts[group], counts.sum(0))
            held[number[group]] += counts[group]
    return number[row_group]


def _evenest(held: NDArray[np.float64], group: Ints, totals: Ints) -> int:
    """Return the fold that leaves class counts (folds, K) most even when it takes the group's (K,)."""
    spreads = []
    for fold in range(len(held)):
        after = held.copy()
        after[fold] += group
        spreads.append((after / np.maximum(totals, 1)).std(0).mean())
    # The emptier fold at a tie, so that no fold stays without a group.
    return min(range(len(held)), key=lambda fold: (round(spreads[fold], 12), held[fold].sum(), fold))
