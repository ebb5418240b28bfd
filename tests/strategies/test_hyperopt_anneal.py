import math

from conformance_strategies import StrategyConformance, drive, sweep

from tuner.space import LogUniform, Uniform
from tuner.strategies import make_strategy


class TestConformance(StrategyConformance):
    strategy = "anneal"


SPACE = {"a": Uniform(0.0, 1.0), "b": LogUniform(1e-4, 1.0)}


def loss(config):
    return (config["a"] - 0.3) ** 2 + (math.log10(config["b"]) + 2) ** 2 / 16


def anneal(**search):
    return make_strategy(sweep(SPACE, strategy="anneal", **search))


def test_it_starts_at_random_and_learns():
    proposals = drive(anneal(initial_random=5), 40, loss=loss)

    assert [p.by for p in proposals[4:6]] == ["random start", "anneal"]
    started, late = ([loss(p.config) for p in part] for part in (proposals[:5], proposals[25:]))
    assert sum(late) / 15 < sum(started) / 5 / 2


def test_a_faster_shrinking_neighbourhood_is_a_smaller_one():
    def width(coefficient):
        proposals = drive(anneal(initial_random=5, anneal={"shrink_coef": coefficient}), 40, loss=loss)
        values = [p.config["a"] for p in proposals[25:]]
        return max(values) - min(values)

    assert width(2.0) < width(0.0) / 2
