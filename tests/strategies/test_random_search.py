import random

import pytest
from conformance_strategies import StrategyConformance, drive, keys, sweep

from tuner.space import Choice, Int, LogUniform, Space, Uniform
from tuner.strategies import Observation, make_strategy
from tuner.strategies.random_search import Draws


class TestConformance(StrategyConformance):
    strategy = "random"


def search(space, **options):
    return make_strategy(sweep(space, strategy="random", **options))


def test_each_proposal_has_a_seed_of_its_own():
    # proposal 5 does not depend on what the first four were
    strategy = search({"a": Uniform(0.0, 1.0)})
    some, other = ([Observation(i, {"a": start + i / 100}, "done", 0.0) for i in range(1, 5)] for start in (0.1, 0.7))

    assert strategy.ask(some) == strategy.ask(other)


def test_another_seed_draws_others():
    one, same, other = (keys(drive(search({"a": Uniform(0.0, 1.0)}, seed=seed), 5)) for seed in (1, 1, 2))

    assert one == same
    assert not set(one) & set(other)


def test_an_uncountable_space_has_no_end():
    strategy = search({"a": LogUniform(1e-3, 1.0)})

    assert strategy.total is None
    assert len(set(keys(drive(strategy, 50)))) == 50


def test_a_finite_space_is_drawn_to_the_last_config():
    strategy = search({"a": Int(1, 30), "b": Choice(["x", "y"])}, trials=99)

    configs = keys(drive(strategy, 99))

    assert len(configs) == len(set(configs)) == strategy.total == 60
    # by chance, not in order
    assert configs != sorted(configs)


def test_a_huge_finite_space_is_not_listed():
    strategy = search({f"p{i}": Int(1, 10**6) for i in range(5)})

    assert strategy.total == 10**30
    assert len(set(keys(drive(strategy, 10)))) == 10


def test_the_last_configs_of_a_lopsided_space_are_found():
    # drawn by weight, "rare" would hardly ever come; without the others it is what is left
    space = {"a": Choice(["common", "rare"], weights=[1e9, 1])}

    assert [p.config["a"] for p in drive(search(space), 9)] == ["common", "rare"]


def test_an_option_without_weight_is_never_drawn():
    strategy = search({"a": Choice([1, 2, 3], weights=[1, 0, 1])})

    assert {p.config["a"] for p in drive(strategy, 9)} == {1, 3}
    assert strategy.total == 2


@pytest.mark.parametrize("strategy", ["random", "quasi_random", "auto", "hyperopt", "gp"])
def test_a_branch_that_is_never_drawn_does_not_make_a_space_endless(strategy):
    dead = {"b": {"lr": Uniform(0.0, 1.0), "f": Choice([1, 2], when={1: {"g": Uniform(0.0, 1.0)}})}}
    space = {"c": Choice(["a", "b"], weights=[1, 0], when=dead), "d": Choice([1, 2])}
    options = {"initial_random": 1} if strategy in ("auto", "hyperopt", "gp") else {}

    asked = make_strategy(sweep(space, strategy=strategy, trials=6, **options))

    assert asked.total == 2
    assert sorted(p.config["d"] for p in drive(asked, 6)) == [1, 2]


def test_uncountable_with_one_countable_branch_goes_on():
    # "none" has no parameters: it can come once, while "some" has no end
    space = {"a": Choice(["none", "some"], when={"some": {"x": Uniform(0.0, 1.0)}})}

    configs = [p.config for p in drive(search(space), 30)]

    assert sum(config["a"] == "none" for config in configs) == 1


def test_unseen_configs_are_drawn_alike():
    space = Space.parse({"a": Int(0, 9)})
    draws, rng = Draws(space), random.Random(0)
    seen = {f'{{"a": {value}}}' for value in range(8)}

    found = [draws.draw(rng, seen)["a"] for _ in range(400)]

    # 8 and 9 about half each
    assert set(found) == {8, 9}
    assert 150 < found.count(8) < 250
