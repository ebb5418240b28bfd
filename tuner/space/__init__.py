"""Search spaces: frozen values, both ends included.

    from tuner.space import Choice, LogUniform, Space, Uniform
    space = Space.parse({
        "optimizer": Choice(["sgd", "adam"], when={"sgd": {"momentum": Uniform(0.5, 0.99)}}),
        "learning_rate": LogUniform(1e-4, 1.0, points=5),
        "batch_size": 64,
    })
    space.sample(random.Random(0))
    # {"optimizer": "sgd", "momentum": 0.7, "learning_rate": 0.02, "batch_size": 64}

values.py holds the plain values that a config is made of, checks.py the rules for a domain's arguments,
domain.py what every domain offers, ranges.py and normals.py the numeric domains, choice.py choices and fixed
values, tree.py the space, parse.py the reader of all written forms, ray_domains.py that of ray.tune's domains
(known by their module's name; nothing here imports ray).
"""

from __future__ import annotations

from tuner.space.choice import Choice, Fixed
from tuner.space.domain import Domain, Numeric
from tuner.space.normals import LogNormal, Normal
from tuner.space.ranges import Int, LogInt, LogUniform, Range, Uniform
from tuner.space.tree import Leaf, Space
from tuner.space.values import derive_seed

__all__ = [
    "Uniform",
    "LogUniform",
    "Int",
    "LogInt",
    "Normal",
    "LogNormal",
    "Choice",
    "Fixed",
    "Space",
    "Leaf",
    "Domain",
    "Numeric",
    "Range",
    "derive_seed",
]
