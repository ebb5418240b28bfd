from conformance_strategies import StrategyConformance, drive, keys, sweep

from tuner.space import Choice, LogUniform, Space, Uniform
from tuner.strategies import make_strategy


class TestConformance(StrategyConformance):
    strategy = "grid"


def grid(space, **search):
    return make_strategy(sweep(space, strategy="grid", **search))


SMALL = {"lr": Choice([0.001, 0.01, 0.1]), "batch": Choice([16, 32, 64])}
# 3 x 4 x 10 = 120 configs
LARGE = {"a": Choice([1, 2, 3]), "b": Choice([1, 2, 3, 4]), "c": Uniform(0.0, 0.9, points=10)}


def test_a_whole_grid_in_order_the_last_name_fastest():
    strategy = grid(SMALL, trials=20)

    configs = [p.config for p in drive(strategy, 20)]

    assert configs == [{"lr": lr, "batch": batch} for lr in (0.001, 0.01, 0.1) for batch in (16, 32, 64)]
    assert (strategy.total, strategy.note) == (9, "")


def test_the_order_is_that_of_the_space():
    space = Space.parse(
        {
            "optimizer": Choice(["sgd", "adam"], when={"sgd": {"momentum": Choice([0.8, 0.9])}}),
            "lr": LogUniform(0.01, 1.0, points=3),
        }
    )

    assert [p.config for p in drive(grid(space, trials=99), 99)] == list(space.grid())


def test_a_grid_beyond_the_limit_is_a_seeded_shuffle_and_says_so():  # trap 9
    strategy = grid(LARGE, trials=20)

    configs = [p.config for p in drive(strategy, 99)]

    assert strategy.total == len(configs) == 20
    assert strategy.note == "grid of 120 configs, limit 20: a seeded random 20 of them"
    # the first 20 in order would all have a = 1 and b <= 2
    assert {config["a"] for config in configs} == {1, 2, 3}
    assert {config["b"] for config in configs} == {1, 2, 3, 4}


def test_another_seed_takes_another_part():
    one, same, other = (keys(drive(grid(LARGE, trials=20, seed=seed), 20)) for seed in (1, 1, 2))

    assert one == same
    assert set(one) != set(other)


def test_a_longer_limit_begins_with_the_same_configs():
    # so that a sweep can be extended: what was proposed stays, the rest follows
    short, long = (keys(drive(grid(LARGE, trials=trials), trials)) for trials in (20, 50))

    assert long[:20] == short


def test_an_extended_grid_is_completed():
    first = drive(grid(LARGE, trials=20), 20)
    whole = grid(LARGE, trials=120)

    history = list(zip(first, range(20), strict=True))
    from tuner.strategies import Observation

    rest = drive(whole, 200, history=[Observation(i + 1, p.config, "done", 1.0) for p, i in history])

    assert len(rest) == 100
    assert len(set(keys(first + rest))) == 120


def test_millions_of_configs_are_not_listed():
    space = {f"p{i}": Uniform(0.0, 1.0, points=100) for i in range(6)}  # 10^12

    strategy = grid(space, trials=5)

    assert len(set(keys(drive(strategy, 9)))) == 5
    assert strategy.note.startswith("grid of 1,000,000,000,000 configs, limit 5:")


def test_points_first_then_the_grid_without_them():
    on_grid, off_grid = {"lr": 0.1, "batch": 64}, {"lr": 0.01, "batch": 16}
    strategy = grid(SMALL, trials=20, points=[on_grid, off_grid])

    proposals = drive(strategy, 20)

    assert [p.config for p in proposals[:2]] == [on_grid, off_grid]
    assert len(proposals) == strategy.total == 9


def test_a_point_beside_the_grid_is_one_more():
    strategy = grid({"lr": Uniform(0.0, 1.0, points=3)}, trials=20, points=[{"lr": 0.3}])

    assert [p.config["lr"] for p in drive(strategy, 20)] == [0.3, 0.0, 0.5, 1.0]
    assert strategy.total == 4
