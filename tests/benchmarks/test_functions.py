"""Every function of the search benchmark has the optimum that it says, and none below it."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))  # benchmarks/ is no installed package

from benchmarks.search.development import DEVELOPMENT
from benchmarks.search.functions import DEFAULT, HELD_OUT
from benchmarks.search.tasks import median_random_regret, random_regrets

EVERY = [*DEFAULT, *HELD_OUT, *DEVELOPMENT]


def named(name):
    return next(task for task in EVERY if task.name == name)


def test_there_are_at_least_ten_functions_and_four_held_out_and_no_name_twice():
    assert len(DEFAULT) >= 10 and len(HELD_OUT) >= 4
    assert len({task.name for task in EVERY}) == len(EVERY)


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_the_optimum_is_where_the_task_says(task):
    best = task.space.conform(task.best)
    assert task.space.contains(best)
    assert task.loss(best) == pytest.approx(task.optimum, abs=1e-7)


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_no_config_is_better_than_the_optimum(task):
    rng = random.Random(1)
    losses = [task.loss(task.space.sample(rng)) for _ in range(1_000)]
    assert min(loss for loss in losses if loss is not None) >= task.optimum - 1e-9


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_near_its_best_config_nothing_is_better(task):
    # A seeded random walk down from the best config, one number at a time: an optimum that is not one would be left.
    rng = random.Random(2)
    best = task.space.conform(task.best)
    numbers = [leaf for leaf in task.space.active(best) if hasattr(leaf.domain, "latent")]
    for _ in range(300 if numbers else 0):
        leaf = rng.choice(numbers)
        low, high = leaf.domain.latent
        u = leaf.domain.to_latent(best[leaf.name]) + rng.gauss(0, 0.01) * (high - low)
        loss = task.loss(best | {leaf.name: leaf.domain.from_latent(u)})
        assert loss is None or loss >= task.optimum - 1e-7


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_random_search_is_neither_lucky_nor_lost(task):
    assert median_random_regret(task) > 0
    failed = 1 - len(random_regrets(task)) / 1_000
    assert (0.05 < failed < 0.7) == task.crashing


def test_the_finite_space_is_enumerated():
    task = named("finite")
    losses = sorted(task.loss(config) for config in task.space.enumerate())
    assert len(losses) == 48
    assert losses[0] == task.optimum < losses[1]


@pytest.mark.parametrize(("name", "share"), [("crash_half", 0.5), ("crash_fifth", 0.2)])
def test_so_much_of_the_space_fails(name, share):
    rng = random.Random(3)
    task = named(name)
    failed = sum(task.evaluate(task.space.sample(rng)).loss is None for _ in range(2_000)) / 2_000
    assert failed == pytest.approx(share, abs=0.04)


def test_noise_is_told_and_the_truth_is_kept():
    task = named("noisy")
    outcome = task.evaluate(task.best, noise=2.0)
    assert outcome.true == pytest.approx(0.0)
    assert outcome.loss == pytest.approx(0.2)


def test_equal_configs_take_equally_long_and_a_failing_one_is_short():
    task = named("crash_half")
    one, other = task.evaluate({"a": 0.4, "b": 0.1}), task.evaluate({"a": 0.4, "b": 0.1})
    assert one == other
    failing = [task.evaluate({"a": 0.9, "b": i / 100}).seconds for i in range(100)]
    whole = [task.evaluate({"a": 0.1, "b": i / 100}).seconds for i in range(100)]
    assert sum(failing) < 0.4 * sum(whole)
