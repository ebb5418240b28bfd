import re
from dataclasses import replace

import numpy as np
import pytest
from conformance_strategies import StrategyConformance, drive, sweep

from tuner.space import Choice, LogInt, LogUniform, Space, Uniform
from tuner.strategies import Observation, make_strategy
from tuner.strategies.auto import MODELS
from tuner.strategies.compiled import Compiled
from tuner.strategies.gp_cube import Cube
from tuner.strategies.regions import regions, sentences

SQUARE = {"a": Uniform(0.0, 1.0), "b": Uniform(0.0, 1.0)}


class TestConformance(StrategyConformance):
    strategy = "auto"


def auto(space, trials=60, **search):
    return make_strategy(sweep(space, strategy="auto", trials=trials, **search))


def quadratic(config):
    return (config["a"] - 0.2) ** 2 + (config["b"] - 0.5) ** 2


def crash(strategy, count, fails):
    history = []
    for index in range(1, count + 1):
        proposal = strategy.ask(history)
        ended = ("failed", None) if fails(proposal.config) else ("done", quadratic(proposal.config))
        history.append(Observation(index, proposal.config, *ended, proposal.by))
    return history


def test_a_space_that_fits_the_budget_is_run_whole():
    proposals = drive(auto({"a": Choice([1, 2, 3]), "b": Choice(["x", "y"])}, trials=6), 9)
    assert len(proposals) == 6 and {p.by for p in proposals} == {"grid"}
    assert proposals[0].why == "all 6 configs of the space, in random order"


@pytest.mark.parametrize(("trials", "start"), [(8, 3), (20, 4), (200, 4)])
def test_the_start_fits_the_budget_and_the_space(trials, start):
    proposals = drive(auto(SQUARE, trials), 5, loss=quadratic)
    assert [p.by for p in proposals[:start]] == ["random start"] * start and proposals[start].by in ("gp", "hyperopt")


def test_the_models_take_turns_with_the_start_until_it_is_twice_as_long():
    asked = [p.by == "random start" for p in drive(auto(SQUARE, 200), 16, loss=quadratic)]
    assert asked == [True] * 4 + [False, True] * 4 + [False] * 4
    # What is known from before counts like the start.
    history = [Observation(i, p.config, "done", 1.0, "earlier", earlier=True) for i, p in earlier_ones(9)]
    assert auto(SQUARE, 200).ask(history).by in MODELS


def earlier_ones(count):
    return enumerate(drive(auto(SQUARE, 200), count, loss=quadratic), 1 - count)


def test_each_proposal_says_who_made_it_and_why():
    proposals = drive(auto(SQUARE), 20, loss=quadratic)
    gp = [p.why for p in proposals if p.by == "gp"]
    assert re.fullmatch(r"a Gaussian process over \d trials; 0 of its 0 configs so far were the best yet", gp[0])
    assert {"random start", "gp"} < {p.by for p in proposals} <= {"random start", *MODELS}


def shares(losses):
    """The shares after a start, then turns of each model in which it came to these losses: name -> losses."""
    strategy = auto(SQUARE)
    start = drive(strategy, 4, loss=quadratic)
    seen = [Observation(i, p.config, "done", 1.0 + i, "random start") for i, p in enumerate(start, 1)]
    for turn in zip(*(losses[by] for by in MODELS), strict=True):
        for by, loss in zip(MODELS, turn, strict=True):
            seen.append(Observation(len(seen) + 1, start[0].config, "done", loss, by))
    found, _ = strategy._shares(seen)
    assert sum(found.values()) == pytest.approx(1)
    return found


FINDS, NOTHING = [-1.0 * turn for turn in range(20)], dict.fromkeys(MODELS, [5.0] * 20)


def test_the_model_that_finds_more_gets_more_turns():
    idle = shares(NOTHING)
    for finder in MODELS:
        found = shares(NOTHING | {finder: FINDS})
        assert found[finder] - idle[finder] > 0.1
        assert all(found[other] < idle[other] for other in MODELS if other != finder)


def test_polish_earns_no_turns():
    polishes = [1 - 1e-4 * turn for turn in range(20)]
    polished = shares(NOTHING | {"gp": polishes})["gp"]
    assert polished < shares(NOTHING | {"gp": FINDS})["gp"] - 0.02


@pytest.mark.parametrize(("limit", "share"), [(0.5, 0.10), (0.8, 0.03)])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))])
def test_where_configs_fail_it_does_not_go(limit, share, seed):
    """A quadratic, lowest at a = 0.2, that fails beyond a limit; of TPE without a loss for failures, 98 % and 94 %."""
    history = crash(auto(SQUARE, seed=seed), 60, lambda config: config["a"] > limit)
    assert sum(seen.state == "failed" for seen in history[20:]) <= share * 40 + 1e-9
    assert min(seen.loss for seen in history if seen.loss is not None) < 1e-3


def test_what_the_infrastructure_lost_teaches_nothing_of_where_configs_fail():
    history = crash(auto(SQUARE), 12, lambda config: config["a"] > 0.5)
    lost = [replace(seen, state="lost", loss=None) if seen.state == "failed" else seen for seen in history]
    told = auto(SQUARE)._told(lost)
    assert auto(SQUARE)._gp.odds_to_fail(told, {"a": 0.99, "b": 0.5}) == 0.0
    assert auto(SQUARE)._gp.odds_to_fail(auto(SQUARE)._told(history), {"a": 0.99, "b": 0.5}) > 0.5


# -- regions -----------------------------------------------------------------------------------------------------------

RATES = {
    "optimizer": Choice(["sgd", "adam"], when={"sgd": {"learning_rate": LogUniform(1e-4, 10)}}),
    "activation": Choice(["relu", "elu", "tanh"]),
}


def found(trials):
    """Return the sentences of what failed of (config, failed)."""
    compiled = Compiled(Space.parse(RATES))
    cube = Cube(compiled)
    rows = np.array([cube.row(compiled.encode(config)) for config, _ in trials])
    return [region.sentence(cube) for region in regions(cube, rows, np.array([failed for _, failed in trials]))]


def sgd(rate, activation="relu"):
    return {"optimizer": "sgd", "learning_rate": rate, "activation": activation}


def adam(activation="relu"):
    return {"optimizer": "adam", "activation": activation}


def test_an_end_beyond_which_all_fails_is_found_in_the_branch_that_has_it():
    good = [(sgd(rate), False) for rate in (1e-3, 1e-2, 0.1, 0.3)] + [(adam(), False)] * 4
    bad = [(sgd(rate), True) for rate in (0.5, 0.9, 4.0)]
    assert found(good + bad) == ["learning_rate >= 0.5: 3 of 3 failed"]


def test_an_option_that_always_fails_is_found_and_what_is_left_is_told_apart():
    good = [(sgd(rate, how), False) for rate in (1e-3, 1e-2, 0.1) for how in ("relu", "elu")]
    bad = [(sgd(rate, "tanh"), True) for rate in (2e-3, 2e-2, 0.08)] + [(sgd(5.0), True), (sgd(6.0, "elu"), True)]
    assert found(good + bad) == ["activation = tanh: 3 of 3 failed", "learning_rate >= 5: 2 of 2 failed"]


@pytest.mark.parametrize(
    ("domain", "ok", "failed", "sentence"),
    [
        (LogInt(8, 8192), [9, 2047], [2048, 3621, 8000], "a >= 2048"),
        (LogInt(8, 8192), [3000, 8000], [9, 100, 2047], "a <= 2047"),
        (Uniform(8.0, 8192.0), [9.0], [2048.0, 4000.5, 5000.0], "a >= 2048"),
        (Uniform(8.0, 8192.0), [9.0], [2049.7, 4000.5, 5000.0], "a >= 2040"),  # its own first failure is in it
        (Uniform(8.0, 8192.0), [9.0, 2049.5], [2049.7, 4000.5, 5000.0], "a >= 2049.7"),  # and what went well is not
        (LogUniform(1e-6, 1.0), [0.5], [1e-5, 2e-5, 1.2345e-4], "a <= 0.000124"),
        (Uniform(0.0, 1.0), [0.1], [0.31, 0.5, 0.9], "a >= 0.31"),
        (Uniform(-1.0, 1.0), [-0.9], [-0.12345, 0.5, 0.9], "a >= -0.124"),
        (Uniform(0.0, 1e30), [], [1.23456e29, 5e29, 9e29], "a >= 1.23e+29"),
        (Choice([True, False]), [False], [True] * 3, "a = true"),
        (Choice([[3, 3], [5, 5]]), [[3, 3]], [[5, 5]] * 3, "a = [5, 5]"),
    ],
)
def test_a_region_holds_its_failures_and_nothing_else_and_reads_as_in_the_file(domain, ok, failed, sentence):
    tried = [({"a": value}, False) for value in ok] + [({"a": value}, True) for value in failed]
    assert sentences(Space.parse({"a": domain}), tried) == [f"{sentence}: 3 of 3 failed"]


def test_failures_without_an_end_have_no_region():
    assert found([(sgd(rate), rate == 0.01) for rate in (1e-3, 0.01, 0.1)]) == []
