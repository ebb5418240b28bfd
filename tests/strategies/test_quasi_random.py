import numpy as np
import pytest
from conformance_strategies import StrategyConformance, drive, keys, sweep
from scipy.stats import qmc

from tuner.errors import SweepError
from tuner.space import Choice, Int, LogUniform, Space, Uniform
from tuner.strategies import make_strategy
from tuner.strategies import quasi_random as module


class TestConformance(StrategyConformance):
    strategy = "quasi_random"


def quasi(space, strategy="quasi_random", **search):
    return make_strategy(sweep(space, strategy=strategy, **search))


SQUARE = {"a": Uniform(0.0, 1.0), "b": LogUniform(1e-4, 1.0), "c": Uniform(-1.0, 1.0)}


def unit(proposals):
    leaves = Space.parse(SQUARE).leaves()
    ends = [leaf.domain.latent for leaf in leaves]
    return np.array(
        [
            [
                (leaf.domain.to_latent(p.config[leaf.name]) - low) / (high - low)
                for leaf, (low, high) in zip(leaves, ends, strict=True)
            ]
            for p in proposals
        ]
    )


@pytest.mark.parametrize("count", [8, 20, 64])
def test_it_fills_the_space_better_than_chance(count):
    def discrepancy(strategy):
        seeds = range(5)
        return np.mean([qmc.discrepancy(unit(drive(quasi(SQUARE, strategy, seed=s), count))) for s in seeds])

    assert discrepancy("quasi_random") < 0.6 * discrepancy("random")


def test_a_choice_divides_its_dimension_by_its_weights():
    space = {"o": Choice(["x", "y", "z"], weights=[1, 3, 0]), **SQUARE}

    configs = [p.config for p in drive(quasi(space), 64)]

    # 1 in 4, to the point: that is what a Sobol sequence gives
    assert [sum(c["o"] == option for c in configs) for option in "xyz"] == [16, 48, 0]


def test_each_branch_is_spread_by_itself():
    space = {"a": Choice(["x", "y"], when={"x": {"b": Uniform(0.0, 1.0)}, "y": {"b": Uniform(5.0, 6.0)}})}

    configs = [p.config for p in drive(quasi(space), 32)]

    for option, low in (("x", 0), ("y", 5)):
        values = sorted(c["b"] - low for c in configs if c["a"] == option)
        assert len(values) == 16
        # no gap is as wide as a third of the range
        assert max(np.diff([0, *values, 1])) < 1 / 3


def test_the_sequence_goes_on_where_it_was_and_a_tried_config_is_passed_over():
    short, long = (keys(drive(quasi(SQUARE, trials=trials), trials)) for trials in (10, 70))
    assert long[:10] == short

    # 12 values: the sequence hits each soon, and passes over those that came
    whole = drive(quasi({"n": Int(1, 12)}, trials=12), 20)
    assert len(set(keys(whole))) == len(whole) == 12


def test_another_seed_scrambles_otherwise():
    one, same, other = (keys(drive(quasi(SQUARE, seed=seed), 5)) for seed in (1, 1, 2))

    assert one == same
    assert not set(one) & set(other)


def test_more_parameters_than_sobol_sequences_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)

    with pytest.raises(SweepError, match=r'space: quasi_random takes at most 2 parameters.*Set strategy = "random"'):
        quasi(SQUARE)
