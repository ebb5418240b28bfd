"""Functions that a strategy's constants are chosen on, so that neither of the two lists that are reported is.

As in `functions`, no optimum lies in the middle of its space. Their figures are in no page.
"""

from __future__ import annotations

import math

from benchmarks.search.functions import _cube, _decades, _function, _point, _values
from benchmarks.search.tasks import Config, Function
from tuner import Choice, Int, LogInt, LogUniform, Uniform


def camel(c: Config) -> float:
    """The six-hump camel's back: two equal optima among six in two dimensions."""
    x, y = _values(c, 2)
    return (4 - 2.1 * x * x + x**4 / 3) * x * x + x * y + (4 * y * y - 4) * y * y


def goldstein(c: Config) -> float:
    """Goldstein and Price's, in logarithms: values over six orders of magnitude."""
    x, y = _values(c, 2)
    first = 1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x * x - 14 * y + 6 * x * y + 3 * y * y)
    second = 30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x * x + 48 * y - 36 * x * y + 27 * y * y)
    return math.log(first * second)


def zakharov6(c: Config) -> float:
    """Zakharov's: a bowl in six dimensions that one direction crosses steeply."""
    z = [x - best for x, best in zip(_values(c, 6), (1.2, -2.1, 3.3, 0.4, -1.7, 2.6), strict=True)]
    slope = sum(0.5 * (i + 1) * v for i, v in enumerate(z))
    return math.log1p(sum(v * v for v in z) + slope**2 + slope**4)


def griewank5(c: Config) -> float:
    """Griewank's: a wide bowl in five dimensions with many small basins."""
    z = [x - best for x, best in zip(_values(c, 5), (3.1, -4.4, 5.2, -1.3, 2.7), strict=True)]
    waves = math.prod(math.cos(v / math.sqrt(i + 1)) for i, v in enumerate(z))
    return sum(v * v for v in z) / 40 - waves + 1


def two_valleys(c: Config) -> float:
    """A shallow wide valley and a deep one a decade of rates away, in four dimensions."""
    rate, decay = _decades(c["learning_rate"], 1e-3), _decades(c["weight_decay"], 1e-3)
    wide = 0.3 + 0.1 * rate**2 + 0.03 * decay**2
    deep = 1.2 * (rate - 1.5) ** 2 + 0.2 * (decay + 1) ** 2
    return min(wide, deep) + 0.5 * (c["dropout"] - 0.55) ** 2 + 0.1 * math.log2(c["width"] / 90) ** 2 / 4


def augmented(c: Config) -> float:
    """Augmentations with strengths of their own, beside a network and a rate."""
    rest = 0.25 * _decades(c["learning_rate"], 0.04) ** 2 + 0.04 * (c["layers"] - 3) ** 2
    strength = {"none": 0.12, "flip": 0.09}.get(c["augment"])
    if c["augment"] == "crop":
        strength = 0.02 + 0.01 * (c["pixels"] - 3) ** 2
    elif c["augment"] == "cutout":
        strength = 0.3 * (c["hole"] - 0.35) ** 2 + 0.2 * (c["odds"] - 0.8) ** 2
    assert strength is not None
    return rest + strength


def many15(c: Config) -> float:
    """Fifteen numbers, of which five matter, and two of these together."""
    x = _values(c, 15)
    return (
        3 * (x[2] - 0.8) ** 2
        + 2 * (x[5] + x[9] - 1.2) ** 2
        + (x[5] - 0.75) ** 2
        + (x[11] - 0.1) ** 2
        + (x[14] - 0.6) ** 2
    )


def memory(c: Config) -> float | None:
    """Fails where the batch and the network do not fit; the best lies just inside."""
    if c["batch_size"] * c["width"] > 40_000:
        return None
    speed = 0.05 * math.log2(c["batch_size"] / 200) ** 2
    size = 0.06 * math.log2(c["width"] / 190) ** 2
    return speed + size + 0.3 * _decades(c["learning_rate"] * 200 / c["batch_size"], 0.06) ** 2


def broken_option(c: Config) -> float | None:
    """Two of five optimizers always fail, and one fails at large rates."""
    if c["optimizer"] in ("lbfgs", "adagrad") or (c["optimizer"] == "sgd" and c["learning_rate"] > 1):
        return None
    best = {"sgd": 0.3, "adam": 2e-3, "rmsprop": 6e-4}[c["optimizer"]]
    worse = {"sgd": 0.0, "adam": 0.02, "rmsprop": 0.06}[c["optimizer"]]
    return worse + 0.2 * _decades(c["learning_rate"], best) ** 2 + 0.8 * (c["smoothing"] - 0.07) ** 2


def accuracy_like(c: Config) -> float:
    """An error that saturates at both ends, told with a standard deviation of 0.004, as an accuracy is."""
    rate, size = _decades(c["learning_rate"] / (1 - c["momentum"]), 0.3), math.log2(c["width"] / 160)
    fit = 0.35 * rate**2 + 0.05 * size**2 + 0.5 * (c["dropout"] - 0.3 - 0.05 * size) ** 2
    return 0.02 + 0.88 * -math.expm1(-fit)


def conditional_noisy(c: Config) -> float:
    """Blocks with parameters of their own, told with a standard deviation of 0.02."""
    rest = 0.15 * _decades(c["learning_rate"], 8e-3) ** 2
    if c["block"] == "plain":
        return rest + 0.06 + 0.02 * (c["depth"] - 5) ** 2
    if c["block"] == "residual":
        return rest + 0.005 * (c["stages"] - 7) ** 2 + 0.5 * (c["drop_path"] - 0.15) ** 2
    return rest + 0.1 + 0.05 * math.log2(c["growth"] / 20) ** 2


def ties(c: Config) -> float:
    """An error counted on fifty images: many configs are told the same."""
    bowl = 0.4 * _decades(c["learning_rate"], 0.02) ** 2 + (c["momentum"] - 0.8) ** 2 + 0.5 * (c["dropout"] - 0.6) ** 2
    return round(50 * min(bowl, 0.9)) / 50


DEVELOPMENT: tuple[Function, ...] = (
    _function(camel, {"x0": Uniform(-3, 3), "x1": Uniform(-2, 2)}, _point(0.08984201, -0.71265640), -1.031628453489877),
    _function(goldstein, _cube(2, -2, 2), _point(0, -1), math.log(3)),
    _function(zakharov6, _cube(6, -5, 5), _point(1.2, -2.1, 3.3, 0.4, -1.7, 2.6)),
    _function(griewank5, _cube(5, -8, 8), _point(3.1, -4.4, 5.2, -1.3, 2.7)),
    _function(
        two_valleys,
        {
            "learning_rate": LogUniform(1e-5, 1),
            "weight_decay": LogUniform(1e-6, 0.1),
            "dropout": Uniform(0, 0.8),
            "width": LogInt(8, 512),
        },
        {"learning_rate": 10**-1.5, "weight_decay": 1e-4, "dropout": 0.55, "width": 90},
    ),
    _function(
        augmented,
        {
            "learning_rate": LogUniform(1e-4, 1),
            "layers": Int(1, 6),
            "augment": Choice(
                ["none", "flip", "crop", "cutout"],
                when={"crop": {"pixels": Int(1, 8)}, "cutout": {"hole": Uniform(0.05, 0.9), "odds": Uniform(0, 1)}},
            ),
        },
        {"learning_rate": 0.04, "layers": 3, "augment": "cutout", "hole": 0.35, "odds": 0.8},
    ),
    _function(
        many15,
        _cube(15, 0, 1),
        {f"x{i}": {2: 0.8, 5: 0.75, 9: 0.45, 11: 0.1, 14: 0.6}.get(i, 0.3) for i in range(15)},
    ),
    _function(
        memory,
        {"batch_size": LogInt(8, 2048), "width": LogInt(8, 1024), "learning_rate": LogUniform(1e-4, 10)},
        {"batch_size": 200, "width": 190, "learning_rate": 0.06},
        crashing=True,
    ),
    _function(
        broken_option,
        {
            "optimizer": Choice(["lbfgs", "adam", "adagrad", "rmsprop", "sgd"]),
            "learning_rate": LogUniform(1e-5, 10),
            "smoothing": Uniform(0, 0.4),
        },
        {"optimizer": "sgd", "learning_rate": 0.3, "smoothing": 0.07},
        crashing=True,
    ),
    _function(
        accuracy_like,
        {
            "learning_rate": LogUniform(1e-4, 3),
            "momentum": Uniform(0, 0.99),
            "width": LogInt(8, 512),
            "dropout": Uniform(0, 0.8),
        },
        {"learning_rate": 0.06, "momentum": 0.8, "width": 160, "dropout": 0.3},
        0.02,
        noise=0.004,
    ),
    _function(
        conditional_noisy,
        {
            "learning_rate": LogUniform(1e-5, 1),
            "block": Choice(
                ["plain", "dense", "residual"],
                when={
                    "plain": {"depth": Int(1, 12)},
                    "residual": {"stages": Int(1, 12), "drop_path": Uniform(0, 0.6)},
                    "dense": {"growth": LogInt(4, 64)},
                },
            ),
        },
        {"learning_rate": 8e-3, "block": "residual", "stages": 7, "drop_path": 0.15},
        noise=0.02,
    ),
    _function(
        ties,
        {"learning_rate": LogUniform(1e-5, 3), "momentum": Uniform(0, 0.99), "dropout": Uniform(0, 0.8)},
        {"learning_rate": 0.02, "momentum": 0.8, "dropout": 0.6},
    ),
)
"""Functions that constants are chosen on."""
