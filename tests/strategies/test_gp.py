import math

import numpy as np
import pytest
from conformance_strategies import StrategyConformance, drive, sweep

from tuner.space import Choice, Int, LogInt, LogUniform, Normal, Space, Uniform
from tuner.strategies import Observation, make_strategy
from tuner.strategies.compiled import Compiled
from tuner.strategies.gp import _beginning, _part, fitted, warped
from tuner.strategies.gp_cube import Cube
from tuner.strategies.modelled import Told


class TestConformance(StrategyConformance):
    strategy = "gp"


def gp(space, **search):
    return make_strategy(sweep(space, strategy="gp", **{"initial_random": 5, **search}))


BOWL = {"a": Uniform(0.0, 1.0), "b": LogUniform(1e-4, 1.0)}


def bowl(config):
    return (config["a"] - 0.3) ** 2 + (math.log10(config["b"]) + 2) ** 2 / 16


def test_a_sobol_start_and_then_the_model():
    proposals = drive(gp(BOWL, initial_random=3), 5, loss=bowl)

    assert [p.by for p in proposals] == ["random start"] * 3 + ["gp"] * 2
    assert proposals[0].why == "random start 1 of 3, of a Sobol sequence"
    assert proposals[4].why == "a Gaussian process over 4 trials"


def test_it_finds_the_bottom_of_a_bowl():
    proposals = drive(gp(BOWL), 15, loss=bowl)

    assert min(bowl(p.config) for p in proposals) < 5e-3


def test_failures_do_not_hide_the_good_region():  # the best lies beside a cliff behind which all fails
    strategy, history = gp(BOWL), []
    for index in range(1, 21):
        config = strategy.ask(history).config
        failed = config["a"] > 0.35
        history.append(Observation(index, config, "failed" if failed else "done", None if failed else bowl(config)))

    late = history[10:]
    assert sum(o.state == "failed" for o in late) <= 3
    assert min(o.loss for o in history if o.loss is not None) < 0.01


def test_pending_trials_push_away():
    done = [Observation(i, {"a": a}, "done", (a - 0.42) ** 2) for i, a in enumerate((0.1, 0.3, 0.7, 0.9), 1)]
    strategy = gp({"a": Uniform(0.0, 1.0)}, initial_random=1)

    first = strategy.ask(done).config
    pending, lost = (strategy.ask([*done, Observation(5, first, state)]).config for state in ("pending", "lost"))

    # where nothing is learnt, it would try the same place again
    assert abs(lost["a"] - first["a"]) < 0.01
    assert abs(pending["a"] - first["a"]) > 0.05


def test_a_branch_is_learnt_within_its_choice():  # trap 3
    space = {
        "optimizer": Choice(
            ["sgd", "adam"],
            when={"sgd": {"lr": LogUniform(1e-3, 1.0)}, "adam": {"lr": LogUniform(1e-5, 1e-2)}},
        )
    }

    def loss(config):
        return 9.0 if config["optimizer"] == "sgd" else abs(math.log10(config["lr"]) + 4)

    late = [p.config for p in drive(gp(space), 20, loss=loss)][10:]

    assert sum(config["optimizer"] == "adam" for config in late) >= 7
    assert min(map(loss, late)) < 0.05


def test_a_model_of_many_trials_is_made_from_the_best_and_the_newest():
    proposals = drive(make_strategy(sweep(BOWL, strategy="random", trials=60)), 60)
    history = [Observation(i, p.config, "done", bowl(p.config)) for i, p in enumerate(proposals, start=1)]
    few, many = (gp(BOWL, gp={"max_trials": most}) for most in (20, 200))

    assert few.ask(history) == few.ask(list(history))
    assert few.ask(history).config != many.ask(history).config


def test_more_pending_trials_than_the_model_takes_leave_room_for_what_is_over():
    drawn = drive(make_strategy(sweep(BOWL, strategy="random", trials=31)), 31)
    pending = [Observation(i, p.config, "pending") for i, p in enumerate(drawn[:30], start=1)]

    proposal = gp(BOWL, gp={"max_trials": 20}).ask([*pending, Observation(31, drawn[30].config, "done", 1.0)])

    assert proposal.by == "gp"


def test_a_part_is_the_best_half_and_the_pending_and_the_newest():
    states = ["done", "pending", "done", "failed", "done", "done", "pending", "done", "done"]
    told = [Told({"a": 0.0}, float(place), state) for place, state in enumerate(states)]

    assert [int(each.loss) for each in _part(told, 7)] == [0, 1, 2, 3, 6, 7, 8]
    # all are pending but for the last: it comes first, then the newest of the others
    waiting = [*(each._replace(state="pending") for each in told[:8]), told[8]]
    assert [int(each.loss) for each in _part(waiting, 4)] == [5, 6, 7, 8]


def test_the_kernel_is_fitted_to_a_beginning_that_grows_by_a_tenth():
    starts = [_beginning(count) for count in range(1, 1000)]

    assert starts[:8] == list(range(1, 9))
    assert all(start <= count for count, start in enumerate(starts, start=1))
    # between two fits lie at most a tenth of the trials, and two
    assert all(count - start <= 2 + count / 10 for count, start in enumerate(starts, start=1))
    assert len(set(starts)) < 60


# --- what it sees ---


def test_losses_keep_their_order_and_the_bad_take_little_room():
    losses = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 1e3, 1e6, 1e300])

    told = warped(losses)

    assert (np.diff(told) > 0).all()
    assert told.mean() == pytest.approx(0)
    # the good ones are apart from each other, not one heap beside a failure
    assert told[4] - told[0] > (told[7] - told[0]) / 4
    assert not warped(np.array([2.0, 2.0])).any()


def test_the_kernel_finds_which_parameter_matters():
    rng = np.random.default_rng(0)
    rows = rng.random((40, 3))

    scales = fitted(rows, warped(np.sin(6 * rows[:, 1])))[1:4]

    assert scales[1] == min(scales)
    assert min(scales[0], scales[2]) > scales[1] + 1


NESTED = {
    "o": Choice(
        ["sgd", "adam", "never"], weights=[1, 1, 0], when={"sgd": {"m": Uniform(0.0, 2.0)}, "never": {"z": Int(1, 2)}}
    ),
    "n": Int(1, 3),
    "k": LogInt(1, 9),
    "g": Normal(0.0, 1.0),
    "act": Choice(["relu", "gelu", "tanh"]),
}


def test_a_row_reads_back_as_its_config():
    space = Space.parse(NESTED)
    compiled = Compiled(space)
    cube = Cube(compiled)
    import random

    for seed in range(20):
        config = space.sample(random.Random(seed))
        row = np.array(cube.row(compiled.encode(config)))

        back = compiled.decode(cube.numbers(row))
        assert {n: v for n, v in back.items() if n != "g" and n != "m"} == {
            n: v for n, v in config.items() if n != "g" and n != "m"
        }
        assert [back[n] for n in ("g", "m") if n in back] == pytest.approx(
            [config[n] for n in ("g", "m") if n in config]
        )


def test_features_of_what_a_config_does_not_have_are_constant():
    compiled = Compiled(Space.parse(NESTED))
    cube = Cube(compiled)
    rows = cube.stretched(np.random.default_rng(0).random((64, cube.width)))

    features = cube.features(rows)

    # o (two options: one feature), m, z, n, k, g, act (three)
    assert features.shape == (64, 9)
    assert ((features >= 0) & (features <= 1)).all()
    adam = rows[:, 0] == 1
    assert (features[adam, 1] == 0.5).all() and len(set(features[~adam, 1])) > 20
    # an option without weight never comes, nor what depends on it
    assert (features[:, 2] == 0.5).all()
    # an int is where it will be once it is proposed
    assert len(set(features[:, 3])) == 3 and len(set(features[:, 4])) <= 9


def test_ints_are_cut_where_they_are_proposed():
    space = Space.parse({"k": LogInt(1, 9)})
    compiled = Compiled(space)
    cube = Cube(compiled)
    rows = np.linspace(0.001, 0.999, 200).reshape(-1, 1)

    for row, feature in zip(rows, cube.features(rows), strict=True):
        proposed = compiled.decode(cube.numbers(row))
        again = cube.row(compiled.encode(proposed))
        assert feature == pytest.approx(again)


def test_candidates_around_a_config_stay_inside():
    cube = Cube(Compiled(Space.parse(NESTED)))
    rng = np.random.default_rng(0)
    centres = cube.stretched(rng.random((3, cube.width)))

    near = cube.around(centres, 50, [0.2, 0.01], rng)

    assert near.shape == (50, cube.width)
    assert ((near >= 0) & (near <= 2)).all()
    # each differs from its centre
    assert (near != centres[np.arange(50) % 3]).any(axis=1).mean() > 0.7
