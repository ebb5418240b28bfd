import math
import random
import re

import numpy as np
import pytest
from conformance_strategies import drive, sweep

from tuner.space import Choice, Int, LogUniform, Uniform
from tuner.strategies import Observation, make_strategy
from tuner.strategies.gp_near import LEAST, NEAREST

BOWL = {"a": Uniform(0.0, 1.0), "b": LogUniform(1e-4, 1.0)}
NEAR = "a Gaussian process over the trials nearest to the best"


def auto(space, trials=60, **search):
    return make_strategy(sweep(space, strategy="auto", trials=trials, **search))


def bowl(config):
    return (config["a"] - 0.3) ** 2 + (math.log10(config["b"]) + 2) ** 2 / 16


def observed(strategy, count, loss=bowl):
    """A history of random configs, one after another."""
    rng = random.Random(3)
    configs = [strategy.space.sample(rng) for _ in range(count)]
    return [Observation(i, config, "done", loss(config), "gp") for i, config in enumerate(configs, 1)]


def test_it_gets_turns_once_there_are_enough_trials():
    proposals = drive(auto(BOWL), 60, loss=bowl)
    near = [number for number, p in enumerate(proposals) if p.by == "gp_near"]
    assert near[0] >= LEAST and 5 < len(near) < 30
    assert all(proposals[number].why.startswith(NEAR) for number in near)
    # Who looks closely says how often that has helped.
    assert re.search(r"best; \d+ of its \d+ configs so far were the best yet$", proposals[near[-1]].why)


def test_it_ends_close_to_the_bottom_of_a_bowl():
    ends = []
    for seed in range(3):
        strategy = make_strategy(sweep(BOWL, seed=seed, strategy="auto", trials=60))
        ends.append(min(bowl(p.config) for p in drive(strategy, 50, loss=bowl)))
    assert np.median(ends) < 1e-5


def test_only_the_nearest_trials_count_and_the_best_is_among_them():
    strategy = auto({f"x{i}": Uniform(0.0, 1.0) for i in range(3)}, trials=300)

    def loss(config):
        return sum((value - 0.2) ** 2 for value in config.values())

    told = strategy._told(observed(strategy, 200, loss))
    model = strategy._gp
    rows = model._rows(told)
    losses = np.array([each.loss for each in told])
    over = np.ones(len(told), dtype=bool)
    nearest = model._nearest(told, model._cube.features(rows), losses, over)
    assert len(nearest) == NEAREST and np.argmin(losses) in nearest
    apart = np.linalg.norm(rows - rows[np.argmin(losses)], axis=1)
    # By the length scales, which are alike here: nearer ones than those left out, on the whole.
    assert np.median(apart[nearest]) < np.median(np.delete(apart, nearest)) / 1.5


def test_what_is_pending_pushes_away_and_counts_for_nothing_else():
    strategy = auto(BOWL)
    history = observed(strategy, 40)
    told = strategy._told(history)
    alone = strategy._gp.suggest_near(told, 1, set())
    busy = [*history, Observation(41, alone, "pending")]
    again = strategy._gp.suggest_near(strategy._told(busy), 1, set())
    assert again != alone
    best = min(history, key=lambda one: one.loss)
    for config in (alone, again):  # both are near the best
        assert abs(config["a"] - best.config["a"]) < 0.35


@pytest.mark.parametrize("count", [0, 1, LEAST - 1])
def test_there_is_none_of_few_trials(count):
    strategy = auto(BOWL)
    assert strategy._gp.suggest_near(strategy._told(observed(strategy, count)), 1, set()) is None


def test_where_all_near_the_best_was_tried_the_whole_space_is_searched():
    space = {"a": Int(1, 6), "b": Choice(["x", "y", "z"]), "c": Choice([1, 2, 3, 4])}  # 72 configs
    proposals = drive(auto(space, trials=60), 60, loss=lambda config: config["a"] + config["c"])
    assert len({str(p.config) for p in proposals}) == 60


def test_losses_that_are_all_alike_or_huge_are_no_trouble():
    strategy = auto(BOWL)
    for loss in (lambda config: 1.0, lambda config: 1e300 * config["a"]):
        config = strategy._gp.suggest_near(strategy._told(observed(strategy, 30, loss)), 1, set())
        assert set(config) == {"a", "b"}
