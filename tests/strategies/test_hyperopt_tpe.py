import math
import random
import subprocess
import sys

import pytest
from conformance_strategies import StrategyConformance, drive, keys, sweep
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.space import Choice, Int, LogInt, LogNormal, LogUniform, Normal, Space, Uniform
from tuner.strategies import Observation, make_strategy
from tuner.strategies.hyperopt_tpe import HyperoptTPE


class TestConformance(StrategyConformance):
    strategy = "hyperopt"


def tpe(space, **search):
    return make_strategy(sweep(space, strategy="hyperopt", **search))


def by(proposals):
    return [proposal.by for proposal in proposals]


LINE = {"a": Uniform(0.0, 1.0)}


def test_points_then_a_random_start_then_the_model():
    proposals = drive(tpe(LINE, initial_random=3, points=[{"a": 0.5}, {"a": 0.7}]), 7)

    assert by(proposals) == ["points"] * 2 + ["random start"] * 3 + ["hyperopt"] * 2


def test_the_random_start_is_a_setting_and_shorter_than_the_sweep():  # trap 2
    short, default, long = (sweep(LINE, strategy="hyperopt", trials=n).search.initial_random for n in (8, 20, 400))
    proposals = drive(tpe(LINE, trials=20), 20, loss=lambda config: config["a"])

    assert (short, default, long) == (3, 5, 20)
    assert by(proposals).count("hyperopt") == 15
    assert by(drive(tpe(LINE, initial_random=1), 3)) == ["random start", "hyperopt", "hyperopt"]


def test_it_learns():
    # 30 trials on a bowl: the model's draws crowd around the minimum
    space = {"a": Uniform(0.0, 1.0), "b": LogUniform(1e-4, 1.0)}

    def loss(config):
        return (config["a"] - 0.3) ** 2 + (math.log10(config["b"]) + 2) ** 2 / 16

    proposals = drive(tpe(space, initial_random=10), 40, loss=loss)

    started, modelled = ([loss(p.config) for p in part] for part in (proposals[:10], proposals[25:]))
    assert sum(modelled) / 15 < sum(started) / 10 / 2
    assert min(modelled) < 0.01


def test_a_branch_is_learnt_within_its_choice():  # trap 3
    space = {
        "optimizer": Choice(
            ["sgd", "adam"],
            when={"sgd": {"lr": LogUniform(1e-3, 1.0)}, "adam": {"lr": LogUniform(1e-5, 1e-2)}},
        )
    }

    def loss(config):
        # sgd is hopeless; adam wants 1e-4
        return 9.0 if config["optimizer"] == "sgd" else abs(math.log10(config["lr"]) + 4)

    proposals = drive(tpe(space, initial_random=8), 40, loss=loss)

    late = [p.config for p in proposals[20:]]
    assert sum(config["optimizer"] == "adam" for config in late) >= 12  # of 20
    assert min(map(loss, late)) < 0.1


@pytest.mark.parametrize("seed", [0, 1])
def test_failures_teach(seed):  # trap 1: half of the line fails; untold, nearly all later trials would
    space = {"a": Uniform(0.0, 1.0), "b": Uniform(0.0, 1.0)}
    strategy, history = tpe(space, initial_random=10, seed=seed), []
    for index in range(1, 61):
        config = strategy.ask(history).config
        failed = config["a"] > 0.5
        loss = None if failed else (config["a"] - 0.2) ** 2 + (config["b"] - 0.5) ** 2
        history.append(Observation(index, config, "failed" if failed else "done", loss))

    assert sum(o.state == "failed" for o in history[20:]) / 40 < 0.5


def test_weights_and_lists_and_constants_beside_each_other():  # traps 5 and 6
    space = {
        "a": Choice([[1, 2], [3, 4]], weights=[1, 3]),
        "b": Choice(["only"]),
        "c": [1, 2],
        "d": Choice(["x", "never"], weights=[1, 0]),
        "e": Uniform(0.0, 1.0),
    }

    configs = [p.config for p in drive(tpe(space), 15)]

    assert {str(config["a"]) for config in configs} == {"[1, 2]", "[3, 4]"}
    assert all((c["b"], c["c"], c["d"]) == ("only", [1, 2], "x") for c in configs)


def test_the_last_configs_of_a_finite_space_are_found():  # trap 7
    # one config is by far the best: the model would propose it again and again
    space = {"a": Choice([1, 2, 3]), "b": Choice(["x", "y"]), "c": Int(1, 2)}
    strategy = tpe(space, trials=40)

    proposals = drive(strategy, 40, loss=lambda config: float(config != {"a": 2, "b": "x", "c": 1}))

    assert len(set(keys(proposals))) == len(proposals) == strategy.total == 12
    assert strategy.ask([Observation(i, p.config, "done", 0.0) for i, p in enumerate(proposals, 1)]) is None


def test_values_on_a_coarse_scale_are_not_repeated():
    # uncountable by its second half, but adam has just three configs
    space = {
        "a": Choice(["sgd", "adam"], when={"sgd": {"lr": Uniform(0.0, 1.0)}, "adam": {"n": Int(1, 3)}}),
    }

    proposals = drive(tpe(space), 20, loss=lambda config: 0.0 if config["a"] == "adam" else 1.0)

    assert len(set(keys(proposals))) == 20


def test_while_nothing_is_done_there_is_no_model():
    strategy = tpe(LINE, initial_random=2)
    failed = [Observation(i, {"a": i / 10}, "failed") for i in range(1, 6)]
    pending = [Observation(i, {"a": i / 10}, "pending") for i in range(1, 6)]

    assert strategy.ask(failed).by == strategy.ask(pending).by == "random start"


def test_pending_trials_push_away():
    # the minimum is at 0.5, and four trials are at work there already
    done = [Observation(i, {"a": a}, "done", abs(a - 0.5)) for i, a in enumerate((0.1, 0.3, 0.5, 0.7, 0.9), 1)]
    pending = [Observation(i, {"a": a}, "pending") for i, a in enumerate((0.45, 0.48, 0.52, 0.55), 6)]
    lost = [Observation(o.index, o.config, "lost") for o in pending]

    def distance(history):
        strategies = [HyperoptTPE(Space.parse(LINE), seed, initial_random=1) for seed in range(20)]
        return sum(abs(s.ask(history).config["a"] - 0.5) for s in strategies) / 20

    assert distance(done + pending) > 1.2 * distance(done + lost)


def test_configs_of_others_are_learnt_from_where_the_space_has_them():
    # proposed by nobody knows whom: one inside the space, one with a name too many, one out of range
    strategy = tpe(LINE, initial_random=1)
    history = [
        Observation(1, {"a": 0.25}, "done", 0.0),
        Observation(2, {"a": 0.5, "b": 1}, "done", 0.0),
        Observation(3, {"a": 7.0}, "done", 0.0),
    ]

    assert strategy.ask(history).why == "TPE over 1 trial"
    # nothing that fits at all: a draw, as long as the model has nothing to be made of
    assert strategy.ask(history[1:]).why == "no trial is done yet, so there is no model"


def test_an_option_without_weight_may_come_as_a_point_and_stays_out_of_the_model():
    space = {"a": Choice(["x", "y", "never"], weights=[1, 1, 0]), "b": Uniform(0.0, 1.0)}
    points = [{"a": "never", "b": 0.5}]
    strategy = tpe(space, initial_random=1, points=points)

    # however good it was
    proposals = drive(strategy, 12, loss=lambda config: float(config["a"] != "never"))

    assert [p.config["a"] == "never" for p in proposals] == [True] + [False] * 11
    assert proposals[2].why == "TPE over 1 trial"


NUMERIC = {
    "uniform": Uniform(-1.0, 1.0),
    "stepped": Uniform(0.0, 1.0, step=0.1),
    "log": LogUniform(1e-6, 1.0),
    "int": Int(-3, 3),
    "logint": LogInt(1, 512),
    "normal": Normal(0.0, 1.0),
    "bounded": Normal(0.0, 1.0, bounds=(-0.5, 2.0)),
    "lognormal": LogNormal(0.0, 1.0, step=0.5),
    "choice": Choice([1, 1.0, True, "1", [1]]),
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_what_hyperopt_is_told_reads_back_as_the_config(seed):
    strategy = HyperoptTPE(Space.parse(NUMERIC), 0, initial_random=1)
    config = strategy.space.sample(random.Random(seed))

    back = strategy._compiled.decode(strategy._compiled.encode(config))

    assert {name: type(value) for name, value in back.items()} == {k: type(v) for k, v in config.items()}
    assert back == pytest.approx(config) if "choice" not in back else True
    for name, value in config.items():
        assert back[name] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)


def test_all_numeric_domains_stay_inside():
    strategy = tpe(NUMERIC, initial_random=2)

    for proposal in drive(strategy, 12, loss=lambda config: config["normal"]):
        assert strategy.space.contains(proposal.config)


def test_hyperopt_is_imported_only_when_asked_for():
    code = (
        "import sys, tuner.strategies as s, tuner.space as p;"
        "s.STRATEGIES; print([m for m in ('hyperopt', 'numpy', 'ray', 'torch') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
