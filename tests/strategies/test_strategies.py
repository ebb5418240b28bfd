"""The registry, points, and the parts that strategies share."""

import math
import random

import pytest
from conformance_strategies import sweep

from tuner.errors import SweepError
from tuner.space import Choice, Int, Space, Uniform
from tuner.strategies import MEANINGS, NAMES, STRATEGIES, Observation, Proposal, make_strategy
from tuner.strategies.base import PerConfig, config_key
from tuner.strategies.catalogue import Catalogue, full_axis, grid_axis, shuffled
from tuner.strategies.losses import told_losses


def test_names():
    assert (
        *("auto", "grid", "random", "quasi_random", "hyperopt", "anneal", "gp", "optuna", "one_at_a_time", "manual"),
    ) == NAMES
    assert set(MEANINGS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_has_the_name_that_it_is_asked_by(name):
    points = [{"a": 1}]

    strategy = make_strategy(sweep({"a": Choice([1, 2])}, strategy=name, points=points, defaults={"a": 1}))

    assert strategy.name == name


def test_a_strategy_of_ones_own_joins_the_registry(monkeypatch):
    class Middle:
        name, total, note = "middle", 1, ""

        def ask(self, history):
            return None if history else Proposal({"a": 0.5}, by="middle", why="the middle")

    monkeypatch.setitem(STRATEGIES, "middle", lambda sweep: Middle())

    strategy = make_strategy(sweep({"a": Uniform(0.0, 1.0)}, strategy="middle"))

    assert strategy.ask([]).config == {"a": 0.5}
    # its table is that of a strategy, not an unknown key
    with pytest.raises(SweepError, match=r"search\.middle\.depth: unknown option"):
        sweep({"a": Uniform(0.0, 1.0)}, strategy="middle", middle={"depth": 2})
    with pytest.raises(SweepError, match=r"search\.middle: a table of options is needed"):
        sweep({"a": Uniform(0.0, 1.0)}, strategy="middle", middle=2)


CONDITIONAL = {"optimizer": Choice(["sgd", "adam"], when={"sgd": {"momentum": Uniform(0.5, 0.9)}})}


@pytest.mark.parametrize("strategy", ["random", "hyperopt", "manual"])
@pytest.mark.parametrize(
    "point",
    [
        {"optimizer": "sgd", "momentum": 1.5},
        {"optimizer": "sgd", "momentun": 0.9},
        {"optimizer": "adam", "momentum": 0.9},
        {"optimizer": "sgd"},
        {"optimizer": "rmsprop"},
    ],
)
def test_points_outside_the_space_are_refused(strategy, point):  # trap 4
    with pytest.raises(SweepError, match=r"search\.points\[0\]"):
        sweep(CONDITIONAL, strategy=strategy, points=[point])


@pytest.mark.parametrize("strategy", ["auto", "gp", "hyperopt", "anneal"])
def test_a_model_waits_for_a_trial_that_it_can_see(strategy):
    # an option without weight is a valid point, and what earlier runs tell of; a model has no number for it
    space = {"opt": Choice(["a", "b"], weights=[1, 0]), "x": Uniform(0.0, 1.0)}
    asked = make_strategy(sweep(space, strategy=strategy, trials=8, initial_random=1))
    unseen = [Observation(i, {"opt": "b", "x": i / 10}, "done", 0.0, earlier=True) for i in range(-3, 1)]

    first = asked.ask(unseen)
    second = asked.ask([*unseen, Observation(1, first.config, "done", 1.0)])

    assert first.why.startswith("no trial is done yet")
    assert second.by in ("gp", "hyperopt", "anneal")


def test_what_is_known_of_an_option_without_weight_is_none_of_the_configs_that_are_left():
    space = {"opt": Choice(["a", "b"], weights=[1, 0]), "x": Choice([1, 2, 3])}
    asked = make_strategy(sweep(space, strategy="gp", trials=3, initial_random=1))
    unseen = [Observation(i, {"opt": "b", "x": 3 + i}, "done", 0.0, earlier=True) for i in range(-2, 1)]

    proposal = asked.ask([*unseen, Observation(1, {"opt": "a", "x": 1}, "done", 1.0)])

    # two are left, so there is something for the model to choose from
    assert proposal.by == "gp"


# --- told_losses ---


def observations(*entries):
    return [Observation(i, {}, state, loss) for i, (state, loss) in enumerate(entries, start=1)]


def test_what_a_model_is_told():
    history = observations(
        ("done", 3.0), ("failed", None), ("done", 1.0), ("pending", None), ("lost", None), ("done", math.nan)
    )

    # failed and NaN: one spread above the worst; pending: the worst; lost: nothing
    assert told_losses(history) == [3.0, 5.0, 1.0, 3.0, None, 5.0]


def test_while_nothing_is_done_only_failures_are_told():
    assert told_losses(observations(("failed", None), ("pending", None), ("done", math.inf))) == [1.0, None, 1.0]


@pytest.mark.parametrize("losses", [[0.0], [5.0, 5.0], [-3.0, -2.0], [1e20, 1e20], [-1e300, 1e300], [1e-320]])
def test_a_failure_is_worse_than_the_worst_and_finite(losses):
    told = told_losses(observations(*[("done", loss) for loss in losses], ("failed", None)))

    assert math.isfinite(told[-1])
    assert told[-1] > max(losses)


# --- catalogue ---

TREE = {
    "a": Choice(["x", "y"], when={"x": {"b": Choice([1, 2], when={2: {"c": Int(5, 6, points=2)}})}}),
    "d": Uniform(0.0, 1.0, step=0.5, points=2),
}


def test_numbers_follow_the_order_of_the_space():
    space = Space.parse(TREE)
    full, grid = Catalogue(space.leaves(), full_axis), Catalogue(space.leaves(), grid_axis)

    assert [full.config(number) for number in range(full.size)] == list(space.enumerate())
    assert [grid.config(number) for number in range(grid.size)] == list(space.grid())
    assert (full.size, grid.size) == (12, 8)


def test_a_huge_range_is_not_listed():
    space = Space.parse({"a": Int(0, 10**12)})

    assert Catalogue(space.leaves(), full_axis).config(10**12 - 1) == {"a": 10**12 - 1}


@pytest.mark.parametrize("size", [0, 1, 2, 7, 100])
def test_shuffled_is_a_permutation(size):
    assert sorted(shuffled(size, random.Random(1))) == list(range(size))


def test_shuffled_takes_any_place_alike():
    first = [next(shuffled(4, random.Random(seed))) for seed in range(400)]

    assert all(70 < first.count(number) < 130 for number in range(4))


# --- the memo ---


def test_a_config_is_worked_on_once_and_a_changed_history_is_noticed():
    calls = []
    memo = PerConfig(lambda config: calls.append(1) or config["a"])
    history = [Observation(i, {"a": i}, "pending") for i in (1, 2, 3)]

    assert memo.of(history) == [1, 2, 3]
    # the same configs in a new state, and one more
    history = [Observation(o.index, o.config, "done", 0.0) for o in history]
    assert memo.of([*history, Observation(4, {"a": 4}, "pending")]) == [1, 2, 3, 4]
    assert len(calls) == 4
    # a shorter history, and another one
    assert memo.of(history[:1]) == [1]
    assert memo.of([Observation(1, {"a": 9}, "done", 0.0)]) == [9]


def test_keys_tell_types_apart_but_not_orders():
    assert len({config_key({"a": value}) for value in (1, 1.0, True, "1", [1])}) == 5
    assert config_key({"a": 1, "b": 2}) == config_key({"b": 2, "a": 1})
