"""Analytic functions with a known optimum, over spaces as a sweep has them.

No optimum lies in the middle of its space, where a strategy that begins there would find it. DEFAULT are the
benchmark's, HELD_OUT those that constants are not chosen on. To add one: write it below, and name it in a list at the
end; a test holds every one to its optimum.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from benchmarks.search.tasks import Config, Function
from tuner import Choice, Int, LogInt, LogUniform, Space, Uniform

Loss = Callable[[Config], float | None]


def _decades(value: float, best: float) -> float:
    """Return how many decades a value lies from the best one."""
    return math.log10(value / best)


def _function(loss: Loss, space: dict[str, Any], best: Config, optimum: float = 0.0, **options: Any) -> Function:
    return Function(loss.__name__, Space.parse(space), loss, optimum, best, **options)


# --- continuous ---


def branin(c: Config) -> float:
    """Branin: three equal optima in two dimensions."""
    x, y = c["x"], c["y"]
    bowl = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return bowl**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


_HARTMANN_A = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
_HARTMANN_P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)
_HARTMANN_BEST = (0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054)


def hartmann6(c: Config) -> float:
    """Hartmann: six dimensions, six local optima."""
    x = [c[f"x{i}"] for i in range(6)]
    total = 0.0
    for weight, a, p in zip((1.0, 1.2, 3.0, 3.2), _HARTMANN_A, _HARTMANN_P, strict=True):
        total -= weight * math.exp(-sum(ai * (xi - pi) ** 2 for ai, xi, pi in zip(a, x, p, strict=True)))
    return total


_ACKLEY_BEST = (4.1, -6.3, 3.7, 7.9, -5.2, -7.8, 6.6, 1.9)


def ackley8(c: Config) -> float:
    """Ackley's, shifted: a funnel full of ripples in eight dimensions."""
    z = [c[f"x{i}"] - best for i, best in enumerate(_ACKLEY_BEST)]
    bowl = math.exp(-0.2 * math.sqrt(sum(v * v for v in z) / len(z)))
    ripples = math.exp(sum(math.cos(2 * math.pi * v) for v in z) / len(z))
    return 20 - 20 * bowl + math.e - ripples


def rosenbrock4(c: Config) -> float:
    """Rosenbrock's: a curved, narrow valley in four dimensions."""
    x = [c[f"x{i}"] for i in range(4)]
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))


def deceptive(c: Config) -> float:
    """A broad basin that leads to 0.3, and a narrow one that leads to 0."""
    broad = 0.7 * math.exp(-((c["x"] - 0.7) ** 2 + (c["y"] - 0.3) ** 2) / 0.08)
    narrow = math.exp(-((c["x"] - 0.15) ** 2 + (c["y"] - 0.85) ** 2) / 0.006)
    return 1.0 - max(broad, narrow)


def plateau(c: Config) -> float:
    """Flat nearly everywhere; 6 % of the space slope down to the optimum."""
    r2 = (c["x"] - 0.72) ** 2 + (c["y"] - 0.28) ** 2 + (c["z"] - 0.61) ** 2
    return min(1.0, r2 / 0.25**2)


def noisy(c: Config) -> float:
    """A bowl in four dimensions, told with a standard deviation of 0.1."""
    return sum((c[f"x{i}"] - best) ** 2 for i, best in enumerate((0.7, 0.2, 0.35, 0.85)))


# --- as hyperparameters are ---


def ridge(c: Config) -> float:
    """What counts is the rate that acts, learning_rate / (1 - momentum) per sample: a ridge through four dimensions."""
    acting = c["learning_rate"] / (1 - c["momentum"]) * 64 / c["batch_size"]
    tilt = 0.02 * math.log2(c["batch_size"] / 64) ** 2 + 0.3 * (c["momentum"] - 0.8) ** 2
    return _decades(acting, 0.1) ** 2 + tilt + 0.05 * _decades(c["weight_decay"], 1e-4) ** 2


_ACTIVATIONS = {"relu": 0.05, "tanh": 0.2, "gelu": 0.0, "sigmoid": 0.5}
_BATCHES = {16: 0.06, 32: 0.02, 64: 0.0, 128: 0.03, 256: 0.1}


def mixed(c: Config) -> float:
    """A network's shape: whole numbers, choices and a rate that go together."""
    size = math.log2(c["width"] / 96)
    depth = (c["layers"] - 4) / 4
    fit = (size / 3 + 0.5 * depth) ** 2 + 0.3 * depth**2
    dropout = (c["dropout"] - 0.25 - 0.08 * size) ** 2
    return fit + dropout + _ACTIVATIONS[c["activation"]] + _BATCHES[c["batch_size"]]


def conditional(c: Config) -> float:
    """Three optimizers with parameters of their own: the best is the narrowest, the second best the broadest."""
    rest = 0.5 * (c["dropout"] - 0.3) ** 2
    if c["optimizer"] == "sgd":
        acting = c["learning_rate"] / (1 - c["momentum"])
        own = 0.8 * _decades(acting, 0.5) ** 2 + 2 * (c["momentum"] - 0.9) ** 2 + (0.0 if c["nesterov"] else 0.03)
    elif c["optimizer"] == "adam":
        own = 0.1 + 0.1 * _decades(c["learning_rate"], 2e-3) ** 2 + 0.01 * _decades(c["weight_decay"], 1e-3) ** 2
    else:
        own = 0.2 + 0.2 * _decades(c["learning_rate"], 5e-4) ** 2
    return rest + own


def sparse12(c: Config) -> float:
    """Twelve parameters, of which three matter."""
    return (
        _decades(c["learning_rate"], 3e-3) ** 2 + 4 * (c["dropout"] - 0.7) ** 2 + (math.log2(c["width"] / 200) / 3) ** 2
    )


def finite(c: Config) -> float:
    """48 configs, one of them the best."""
    layers = 0.05 * (c["layers"] - 3) ** 2
    batch = 0.04 * (math.log2(c["batch_size"]) - 5) ** 2
    return layers + batch + {"sgd": 0.0, "adam": 0.06, "rmsprop": 0.15}[c["optimizer"]]


# --- where configs fail ---


def crash_half(c: Config) -> float | None:
    """A quadratic of which half of the space fails."""
    return None if c["a"] > 0.5 else (c["a"] - 0.2) ** 2 + (c["b"] - 0.5) ** 2


def crash_fifth(c: Config) -> float | None:
    """The same quadratic, of which a fifth of the space fails."""
    return None if c["a"] > 0.8 else (c["a"] - 0.2) ** 2 + (c["b"] - 0.5) ** 2


def crash_rate(c: Config) -> float | None:
    """A learning rate above 0.3 diverges; the best lies just below."""
    if c["learning_rate"] > 0.3:
        return None
    return (
        0.3 * _decades(c["learning_rate"], 0.15) ** 2
        + (c["dropout"] - 0.2) ** 2
        + 0.1 * (math.log2(c["width"] / 128) / 2) ** 2
        + 0.5 * (c["momentum"] - 0.85) ** 2
    )


# --- held out ---


def levy4(c: Config) -> float:
    """Levy's: many local optima in four dimensions."""
    w = [1 + (c[f"x{i}"] - 1) / 4 for i in range(4)]
    inner = sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:-1])
    last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    return math.sin(math.pi * w[0]) ** 2 + inner + last


def styblinski5(c: Config) -> float:
    """Styblinski and Tang's: 32 basins in five dimensions, one of them the deepest."""
    return sum(v**4 - 16 * v * v + 5 * v for v in (c[f"x{i}"] for i in range(5))) / 2


def nested(c: Config) -> float:
    """Choices under choices: a trunk, its head, and the head's own parameters."""
    rest = 0.2 * _decades(c["learning_rate"], 1e-2) ** 2
    if c["trunk"] == "mlp":
        return rest + 0.12 + 0.05 * (c["layers"] - 2) ** 2
    own = 0.3 * math.log2(c["filters"] / 48) ** 2 / 4
    if c["head"] == "pool":
        return rest + own + 0.06
    return rest + own + (math.log2(c["units"] / 300) / 4) ** 2 + (c["head_dropout"] - 0.6) ** 2


def crash_corner(c: Config) -> float | None:
    """Fails where the acting rate, or the network, is too large: no single parameter tells."""
    acting = c["learning_rate"] / (1 - c["momentum"])
    if acting > 2 or c["width"] * c["layers"] > 1_500:
        return None
    size = math.log2(c["width"] * c["layers"] / 900)
    rate = 0.4 * _decades(acting, 0.8) ** 2 + 0.3 * (c["momentum"] - 0.7) ** 2
    return rate + 0.1 * size**2 + (c["dropout"] - 0.35) ** 2


def mixed_noisy(c: Config) -> float:
    """Choices and whole numbers, told with a standard deviation of 0.05."""
    shape = 0.03 * (c["layers"] - 2) ** 2 + 0.1 * math.log2(c["filters"] / 24) ** 2 + 0.02 * (c["kernel"] - 5) ** 2
    kind = {"max": 0.0, "avg": 0.05, "stride": 0.1}[c["pooling"]] + (0.0 if c["batch_norm"] else 0.15)
    return shape + kind + 0.2 * _decades(c["learning_rate"], 0.03) ** 2


def staircase(c: Config) -> float:
    """A bowl in six dimensions that is told in steps."""
    bowl = sum((c[f"x{i}"] - best) ** 2 for i, best in enumerate((0.25, 0.8, 0.6, 0.35, 0.7, 0.15)))
    return math.floor(bowl * 20) / 20


_MICHALEWICZ_BEST = (2.202905513296628, 1.570796322320509, 1.284991564577549, 1.923058467505610, 1.720469770990800)


def michalewicz5(c: Config) -> float:
    """Michalewicz's: steep valleys in five dimensions, flat in between."""
    return -sum(math.sin(x) * math.sin((i + 1) * x * x / math.pi) ** 20 for i, x in enumerate(_values(c, 5)))


_RASTRIGIN_BEST = (1.3, -2.2, 3.1)


def rastrigin3(c: Config) -> float:
    """Rastrigin's, shifted: a bowl with a basin at every whole step, in three dimensions."""
    z = [x - best for x, best in zip(_values(c, 3), _RASTRIGIN_BEST, strict=True)]
    return sum(v * v - 10 * math.cos(2 * math.pi * v) + 10 for v in z)


_SHEKEL_B = (1, 2, 2, 4, 4, 6, 3, 7, 5, 5)
_SHEKEL_C = (
    (4, 1, 8, 6, 3, 2, 5, 8, 6, 7),
    (4, 1, 8, 6, 7, 9, 5, 1, 2, 3.6),
    (4, 1, 8, 6, 3, 2, 3, 8, 6, 7),
    (4, 1, 8, 6, 7, 9, 3, 1, 2, 3.6),
)
_SHEKEL_BEST = (4.000746531592147, 4.000592934138629, 3.999663398040258, 3.999509800587458)


def shekel4(c: Config) -> float:
    """Shekel's: ten narrow basins in four dimensions."""
    x = _values(c, 4)
    wells = range(len(_SHEKEL_B))
    return -sum(1 / (sum((x[j] - _SHEKEL_C[j][i]) ** 2 for j in range(4)) + _SHEKEL_B[i] / 10) for i in wells)


def schedules(c: Config) -> float | None:
    """Optimizers and schedules with parameters of their own; plain steps fail where the rate is too large."""
    if c["optimizer"] == "sgd":
        if c["learning_rate"] / (1 - c["momentum"]) > 5:
            return None
        own = 0.3 * _decades(c["learning_rate"] / (1 - c["momentum"]), 1.0) ** 2 + (c["momentum"] - 0.8) ** 2
    else:
        own = 0.05 + 0.15 * _decades(c["learning_rate"], 1e-3) ** 2 + 0.02 * _decades(c["decay"], 1e-2) ** 2
    if c["schedule"] == "constant":
        return own + 0.15
    if c["schedule"] == "step":
        return own + 0.07 + 0.5 * (c["gamma"] - 0.3) ** 2 + 0.01 * (c["step_epochs"] - 6) ** 2
    return own + 0.02 * (c["warmup"] - 2) ** 2


_WHOLE_BEST = (3, 11, 6, 2, 9, 14)


def whole6(c: Config) -> float:
    """Six whole numbers, each of which pulls at the next."""
    z = [(x - best) / 15 for x, best in zip(_values(c, 6), _WHOLE_BEST, strict=True)]
    return sum(v * v for v in z) + sum((a + b) ** 2 for a, b in itertools.pairwise(z))


def exploding(c: Config) -> float:
    """A loss over five orders of magnitude, as where training diverges without an error."""
    rate, momentum = _decades(c["learning_rate"], 0.02), c["momentum"] - 0.75
    worse = rate**2 + 4 * momentum**2 + (c["dropout"] - 0.45) ** 2 + rate * momentum
    return math.expm1(min(worse, 12.0)) + (0.0 if c["activation"] == "elu" else 0.05)


def _values(c: Config, count: int) -> list[float]:
    return [c[f"x{i}"] for i in range(count)]


_SQUARE = {"x": Uniform(0, 1), "y": Uniform(0, 1)}
_CRASH = {"a": Uniform(0, 1), "b": Uniform(0, 1)}


def _cube(dimensions: int, low: float, high: float) -> dict[str, Any]:
    return {f"x{i}": Uniform(low, high) for i in range(dimensions)}


def _point(*values: float) -> Config:
    return {f"x{i}": value for i, value in enumerate(values)}


DEFAULT: tuple[Function, ...] = (
    _function(branin, {"x": Uniform(-5, 10), "y": Uniform(0, 15)}, {"x": math.pi, "y": 2.275}, 0.39788735772973816),
    _function(hartmann6, _cube(6, 0, 1), _point(*_HARTMANN_BEST), -3.322368011415515),
    _function(ackley8, _cube(8, -10, 10), _point(*_ACKLEY_BEST)),
    _function(rosenbrock4, _cube(4, -2, 3), _point(1, 1, 1, 1)),
    _function(deceptive, _SQUARE, {"x": 0.15, "y": 0.85}),
    _function(plateau, {**_SQUARE, "z": Uniform(0, 1)}, {"x": 0.72, "y": 0.28, "z": 0.61}),
    _function(noisy, _cube(4, 0, 1), _point(0.7, 0.2, 0.35, 0.85), noise=0.1),
    _function(
        ridge,
        {
            "learning_rate": LogUniform(1e-6, 10),
            "batch_size": LogInt(8, 1024),
            "momentum": Uniform(0, 0.99),
            "weight_decay": LogUniform(1e-7, 1),
        },
        {"learning_rate": 0.02, "batch_size": 64, "momentum": 0.8, "weight_decay": 1e-4},
    ),
    _function(
        mixed,
        {
            "layers": Int(1, 8),
            "width": LogInt(8, 512),
            "dropout": Uniform(0, 0.8),
            "activation": Choice(list(_ACTIVATIONS)),
            "batch_size": Choice(list(_BATCHES)),
        },
        {"layers": 4, "width": 96, "dropout": 0.25, "activation": "gelu", "batch_size": 64},
    ),
    _function(
        conditional,
        {
            "dropout": Uniform(0, 0.8),
            "optimizer": Choice(
                ["sgd", "adam", "rmsprop"],
                when={
                    "sgd": {
                        "learning_rate": LogUniform(1e-4, 1),
                        "momentum": Uniform(0, 0.99),
                        "nesterov": Choice([True, False]),
                    },
                    "adam": {"learning_rate": LogUniform(1e-5, 0.1), "weight_decay": LogUniform(1e-6, 0.1)},
                    "rmsprop": {"learning_rate": LogUniform(1e-5, 0.1)},
                },
            ),
        },
        {"dropout": 0.3, "optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    ),
    _function(
        sparse12,
        {
            "learning_rate": LogUniform(1e-5, 1),
            "weight_decay": LogUniform(1e-7, 0.1),
            "epsilon": LogUniform(1e-10, 1e-2),
            "clip": LogUniform(0.01, 100),
            "dropout": Uniform(0, 0.8),
            "smoothing": Uniform(0, 0.3),
            "momentum": Uniform(0, 0.99),
            "cutout": Uniform(0, 1),
            "width": LogInt(8, 1024),
            "warmup": Int(0, 5),
            "activation": Choice(["relu", "gelu", "tanh"]),
            "schedule": Choice(["constant", "cosine", "step"]),
        },
        {
            "learning_rate": 3e-3,
            "weight_decay": 1e-4,
            "epsilon": 1e-8,
            "clip": 1.0,
            "dropout": 0.7,
            "smoothing": 0.1,
            "momentum": 0.9,
            "cutout": 0.5,
            "width": 200,
            "warmup": 1,
            "activation": "relu",
            "schedule": "cosine",
        },
    ),
    _function(
        finite,
        {"layers": Int(1, 4), "batch_size": Choice([16, 32, 64, 128]), "optimizer": Choice(["rmsprop", "adam", "sgd"])},
        {"layers": 3, "batch_size": 32, "optimizer": "sgd"},
    ),
    _function(crash_half, _CRASH, {"a": 0.2, "b": 0.5}, crashing=True),
    _function(crash_fifth, _CRASH, {"a": 0.2, "b": 0.5}, crashing=True),
    _function(
        crash_rate,
        {
            "learning_rate": LogUniform(1e-5, 10),
            "dropout": Uniform(0, 0.8),
            "width": LogInt(8, 512),
            "momentum": Uniform(0, 0.99),
        },
        {"learning_rate": 0.15, "dropout": 0.2, "width": 128, "momentum": 0.85},
        crashing=True,
    ),
)
"""The functions of `make bench-search`."""

HELD_OUT: tuple[Function, ...] = (
    _function(levy4, _cube(4, -7, 10), _point(1, 1, 1, 1)),
    _function(styblinski5, _cube(5, -5, 5), _point(*[-2.903534027771177] * 5), 5 * -39.16616570377142),
    _function(
        nested,
        {
            "learning_rate": LogUniform(1e-5, 1),
            "trunk": Choice(
                ["mlp", "cnn"],
                when={
                    "mlp": {"layers": Int(0, 4)},
                    "cnn": {
                        "filters": LogInt(4, 128),
                        "head": Choice(
                            ["pool", "dense"],
                            when={"dense": {"units": LogInt(16, 1024), "head_dropout": Uniform(0, 0.8)}},
                        ),
                    },
                },
            ),
        },
        {"learning_rate": 1e-2, "trunk": "cnn", "filters": 48, "head": "dense", "units": 300, "head_dropout": 0.6},
    ),
    _function(
        crash_corner,
        {
            "learning_rate": LogUniform(1e-5, 10),
            "momentum": Uniform(0, 0.99),
            "width": LogInt(8, 1024),
            "layers": Int(1, 6),
            "dropout": Uniform(0, 0.8),
        },
        {"learning_rate": 0.24, "momentum": 0.7, "width": 225, "layers": 4, "dropout": 0.35},
        crashing=True,
    ),
    _function(
        mixed_noisy,
        {
            "learning_rate": LogUniform(1e-4, 3),
            "layers": Int(1, 6),
            "filters": LogInt(4, 128),
            "kernel": Choice([1, 3, 5, 7]),
            "pooling": Choice(["avg", "stride", "max"]),
            "batch_norm": Choice([False, True]),
        },
        {"learning_rate": 0.03, "layers": 2, "filters": 24, "kernel": 5, "pooling": "max", "batch_norm": True},
        noise=0.05,
    ),
    _function(staircase, _cube(6, 0, 1), _point(0.25, 0.8, 0.6, 0.35, 0.7, 0.15)),
    _function(michalewicz5, _cube(5, 0, math.pi), _point(*_MICHALEWICZ_BEST), -4.687658179088148),
    _function(rastrigin3, _cube(3, -5, 5), _point(*_RASTRIGIN_BEST)),
    _function(shekel4, _cube(4, 0, 10), _point(*_SHEKEL_BEST), -10.536409816692046),
    _function(
        schedules,
        {
            "optimizer": Choice(
                ["adam", "sgd"],
                when={
                    "adam": {"learning_rate": LogUniform(1e-5, 0.1), "decay": LogUniform(1e-5, 1)},
                    "sgd": {"learning_rate": LogUniform(1e-4, 10), "momentum": Uniform(0, 0.99)},
                },
            ),
            "schedule": Choice(
                ["constant", "step", "cosine"],
                when={
                    "step": {"gamma": Uniform(0.1, 0.9), "step_epochs": Int(1, 10)},
                    "cosine": {"warmup": Uniform(0, 5)},
                },
            ),
        },
        {"optimizer": "sgd", "learning_rate": 0.2, "momentum": 0.8, "schedule": "cosine", "warmup": 2.0},
        crashing=True,
    ),
    _function(whole6, {f"x{i}": Int(0, 15) for i in range(6)}, _point(*_WHOLE_BEST)),
    _function(
        exploding,
        {
            "learning_rate": LogUniform(1e-5, 10),
            "momentum": Uniform(0, 0.99),
            "dropout": Uniform(0, 0.8),
            "activation": Choice(["relu", "tanh", "elu"]),
        },
        {"learning_rate": 0.02, "momentum": 0.75, "dropout": 0.45, "activation": "elu"},
    ),
)
"""Functions outside of the list; the last six were added once everything was chosen, and run once."""
