import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.races import LEVEL, SCHEDULE, family_wise, folds, normal, planted, run
from tuner.analysis.comparison import compare, holm, probability_best, race, spend

RATIO = 0.25


def blocks_of(scores, names="abcdefgh"):
    order = [block for look in SCHEDULE for block in look]
    return {
        name: dict(zip(order, map(float, column), strict=False)) for name, column in zip(names, scores.T, strict=False)
    }


def test_two_configs_are_the_textbook_t_test_with_the_corrected_variance():
    scores = np.random.default_rng(0).normal([0.8, 0.83], 0.02, size=(15, 2))
    result = compare(blocks_of(scores), "max", ratio=RATIO)
    differences = scores[:, 1] - scores[:, 0]
    # scipy's paired t, its standard error exchanged: sqrt(1/J) -> sqrt(1/J + ratio).
    t = stats.ttest_rel(scores[:, 1], scores[:, 0]).statistic * math.sqrt((1 / 15) / (1 / 15 + RATIO))
    a = result.contrasts[0]
    assert a.p == pytest.approx(stats.t.sf(t, 14)) and a.against == "b"
    assert a.behind == pytest.approx(differences.mean()) and a.low < a.behind < a.high
    reach = stats.t.ppf(1 - 0.05 / 2, 14) * differences.std(ddof=1) * math.sqrt(1 / 15 + RATIO)
    assert a.high - a.behind == pytest.approx(reach)


def test_a_loss_is_compared_the_other_way_round():
    scores = np.random.default_rng(0).normal([0.8, 0.83, 0.9], 0.02, size=(15, 3))
    up, down = compare(blocks_of(scores), "max", ratio=RATIO), compare(blocks_of(-scores), "min", ratio=RATIO)
    assert up.leader == down.leader == "c"
    assert [one.adjusted for one in up.contrasts] == pytest.approx([one.adjusted for one in down.contrasts])
    assert up.probability_best == pytest.approx(down.probability_best)


def test_holm():
    # Worked by hand: 0.01 * 3, 0.02 * 2, max(0.04, 0.04 * 1).
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])


@given(looks=st.integers(1, 20), level=st.floats(0.001, 0.5))
def test_the_looks_spend_the_level(looks, level):
    shares = spend(level, looks)
    assert sum(shares) == pytest.approx(level) and list(shares) == sorted(shares) and shares[0] > 0


@given(seed=st.integers(0, 10**6), configs=st.integers(1, 8), count=st.integers(1, 15))
@settings(max_examples=40, deadline=None)
def test_probabilities_sum_to_one_and_the_leader_stays(seed, configs, count):
    scores = np.round(np.random.default_rng(seed).normal(0.8, 0.05, size=(count, configs)), seed % 3)
    result = compare(blocks_of(scores), "max", ratio=RATIO, draws=200)
    assert result.leader not in result.worse
    if result.probability_best:
        assert sum(result.probability_best.values()) == pytest.approx(1.0)
    else:
        assert result.note


def test_the_probability_of_being_best_of_two_is_the_t_distributions():
    scores = np.random.default_rng(3).normal([0.80, 0.81], 0.02, size=(15, 2))
    differences = scores[:, 1] - scores[:, 0]
    t = differences.mean() / (differences.std(ddof=1) * math.sqrt(1 / 15 + RATIO))
    assert probability_best(scores, RATIO, draws=100_000)[1] == pytest.approx(stats.t.cdf(t, 14), abs=0.005)


def test_equal_configs_share_the_chance():
    scores = np.repeat(np.random.default_rng(3).normal(0.8, 0.02, size=(10, 1)), 2, axis=1)
    assert probability_best(scores, RATIO) == pytest.approx([0.5, 0.5])
    assert not compare(blocks_of(scores), "max", ratio=RATIO).worse


@pytest.mark.parametrize("make", [normal, folds])
def test_equal_configs_are_dropped_no_more_often_than_the_level_says(make):
    # 100 races; the bound is three standard errors above 5 %. The full figures: make races.
    assert family_wise(make, 100, 5) <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / 100)


def test_a_config_that_is_far_better_is_found():
    figures = planted(60, gap=9.0)
    assert figures["separated"] >= 0.9 and figures["best_dropped"] == 0


def test_a_race_replays_to_where_its_blocks_end():
    scores = normal(np.random.default_rng(1), 4, gap=9.0)
    blocks = blocks_of(scores)
    start = race({name: {} for name in blocks}, SCHEDULE, "max", ratio=RATIO)
    assert (start.verdict, start.looks, len(start.waiting)) == ("open", 0, 20)
    whole = race(blocks, SCHEDULE, "max", ratio=RATIO)
    seen = {name: {block: one[block] for block in (*SCHEDULE[0], *SCHEDULE[1])} for name, one in blocks.items()}
    half = race(seen, SCHEDULE, "max", ratio=RATIO)
    # What was decided by the blocks at hand is decided the same way with more of them.
    assert {name: look for name, look in whole.dropped.items() if look <= half.looks} == dict(half.dropped)
    assert all(block in SCHEDULE[2] for _, block in half.waiting)
    assert {name for name, _ in half.waiting} <= set(half.alive)
    # A dropped config needs no further blocks.
    for name, look in whole.dropped.items():
        blocks[name] = {block: blocks[name][block] for used in SCHEDULE[:look] for block in used}
    assert race(blocks, SCHEDULE, "max", ratio=RATIO) == whole


def test_equal_configs_end_in_a_tie():
    end = run(np.random.default_rng(2).normal(0.8, 0.02, size=(15, 3)))
    assert end.verdict == "tie" and end.alive == ("c0", "c1", "c2") and end.looks == end.of == 3
    assert sum(end.probability_best.values()) == pytest.approx(1.0)


def test_a_failed_block_is_left_out_for_all_and_a_config_that_mostly_fails_is_set_aside():
    scores = np.random.default_rng(2).normal(0.8, 0.02, size=(15, 3))
    blocks = blocks_of(scores)
    blocks["b"][0, 1] = None
    blocks["c"] = dict.fromkeys(blocks["c"], math.nan)
    end = race(blocks, SCHEDULE, "max", ratio=RATIO)
    assert end.failed == ("c",) and "c" in end.note and end.alive == ("a", "b")
    assert len(end.last.blocks) == 14 and (0, 1) not in end.last.blocks


@pytest.mark.parametrize(
    ("blocks", "note"),
    [
        ({}, "no config"),
        ({"a": {}, "b": {}}, "no (seed, fold) block is common"),
        ({"a": {(0, 0): 1.0}, "b": {(0, 1): 1.0}}, "no (seed, fold) block is common"),
        ({"a": {(0, 0): math.nan}, "b": {(0, 0): 1.0}}, "no (seed, fold) block is common"),
        ({"a": {(0, 0): 0.5}, "b": {(0, 0): 1.0}}, "one block in common"),
    ],
)
def test_what_cannot_be_compared_is_said(blocks, note):
    result = compare(blocks, "max", ratio=RATIO)
    assert note in result.note and not result.worse and not result.probability_best


@pytest.mark.parametrize("blocks", [{}, {"a": {}}, {"a": {(0, 0): None}}, {"a": {(0, 0): 1.0}, "b": {(0, 0): None}}])
def test_a_race_without_a_contest_ends(blocks):
    end = race(blocks, [[(0, 0)]], "max", ratio=RATIO)
    assert not end.dropped and end.verdict in ("separated", "tie", "open")
