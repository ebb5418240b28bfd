from conformance_strategies import StrategyConformance, drive, sweep

from tuner.space import Choice, Int, LogUniform, Uniform
from tuner.strategies import make_strategy


class TestConformance(StrategyConformance):
    strategy = "one_at_a_time"


def vary(space, defaults, **search):
    return make_strategy(sweep(space, defaults=defaults, strategy="one_at_a_time", **search))


def configs(strategy):
    return [p.config for p in drive(strategy, 99)]


def test_the_baseline_then_each_parameter_alone():
    space = {"lr": LogUniform(0.01, 1.0, points=3), "layers": Int(1, 3, points=3), "epochs": 4}
    strategy = vary(space, {"lr": 0.03, "layers": 2})

    assert configs(strategy) == [
        {"lr": 0.03, "layers": 2, "epochs": 4},
        {"lr": 0.01, "layers": 2, "epochs": 4},
        {"lr": 0.1, "layers": 2, "epochs": 4},
        {"lr": 1.0, "layers": 2, "epochs": 4},
        {"lr": 0.03, "layers": 1, "epochs": 4},
        # layers = 2 is the baseline, which was there
        {"lr": 0.03, "layers": 3, "epochs": 4},
    ]
    assert (strategy.total, strategy.note) == (6, "")


OPTIMIZERS = {
    "optimizer": Choice(
        ["sgd", "adam"],
        when={
            "sgd": {
                "lr": LogUniform(1e-3, 1.0, points=2),
                "momentum": Choice([0.8, 0.9]),
            },
            "adam": {"lr": LogUniform(1e-5, 1e-2, points=2), "beta": Choice([0.9, 0.99])},
        },
    )
}


def test_conditional_parameters_of_the_baselines_branch_are_varied():
    strategy = vary(OPTIMIZERS, {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "beta": 0.99})

    assert configs(strategy) == [
        {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9},
        # 0.1 is beyond adam's range, so its nearest end; beta is the baseline's
        {"optimizer": "adam", "lr": 0.01, "beta": 0.99},
        {"optimizer": "sgd", "lr": 0.001, "momentum": 0.9},
        {"optimizer": "sgd", "lr": 1.0, "momentum": 0.9},
        {"optimizer": "sgd", "lr": 0.1, "momentum": 0.8},
    ]


def test_a_baseline_that_the_space_cannot_give_is_moved_and_it_says_so():
    space = {
        "lr": LogUniform(0.01, 1.0, points=2),
        "filters": Int(8, 32, step=8, points=2),
        "act": Choice(["relu", "elu"]),
    }
    strategy = vary(space, {"lr": 0.0, "filters": 19, "act": "tanh"})

    # the nearest value, and of a choice the first option
    assert configs(strategy)[0] == {"lr": 0.01, "filters": 16, "act": "relu"}
    assert strategy.note == (
        "lr is varied around 0.01 (the baseline has 0.0); filters is varied around 16 (the baseline has 19); "
        'act is varied around "relu" (the baseline has "tanh")'
    )


def test_a_limit_leaves_out_the_last_ones_and_it_says_so():
    strategy = vary({"a": Uniform(0.0, 1.0, points=5)}, {"a": 0.3}, trials=3)

    assert [config["a"] for config in configs(strategy)] == [0.3, 0.0, 0.25]
    assert strategy.total == 3
    assert strategy.note == "6 configs, limit 3: the last 3 left out"


def test_why_names_the_parameter():
    proposals = drive(vary({"a": Uniform(0.0, 1.0, points=2)}, {"a": 0.5}), 9)

    assert [p.why for p in proposals] == ["the baseline", "a alone, at 0.0", "a alone, at 1.0"]
