"""What must hold between the tables of a sweep: parameters, points, the strategy's needs, epochs."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.errors import Problem, nearest
from tuner.space import Choice, Domain, Fixed, LogNormal, Normal, Range, Space
from tuner.space.values import PLAIN_RULE, is_plain, toml_key
from tuner.spec.code import is_builtin
from tuner.spec.data import IMAGE_SETS
from tuner.spec.tables import DataSpec, SearchSpec
from tuner.spec.text import toml_text

IMAGE_TRAINABLES = ("cnn", "resnet")
CUTTING = ("grid", "one_at_a_time")
"""Strategies that cut every range into its points."""

Named = tuple[str, str, Domain]  # dotted key, name, domain


@dataclass
class Written:
    """The parameters that stand in a space, also in one with mistakes.

    Args:
        domains: Those that could be read.
        unread: Dotted key and name of those that could not.
    """

    domains: list[Named]
    unread: list[tuple[str, str]] = field(default_factory=list)


def check_sweep(
    sweep: Mapping[str, Any], written: Written, own: Mapping[str, Any], prefix: str, problems: list[Problem]
) -> None:
    """Append what is wrong between the tables.

    Args:
        sweep: The sweep's fields; None where a table could not be read.
        written: What stands in the space.
        own: The baseline config.
        prefix: What the keys under [sweep] begin with.
        problems: Receives the mistakes.
    """
    trainable, space, search = sweep["trainable"], sweep["space"], sweep["search"]
    named = [
        *written.domains,
        *_fixed("defaults", sweep["defaults"], problems),
        *(_points(search, problems) if search and not space else ()),
    ]
    if is_builtin(trainable):
        problems.extend(_check_data(trainable, sweep["data"], f"{prefix}trainable"))
        for key, name in written.unread:
            problems.extend(_check_name(trainable, key, name))
        for key, name, domain in named:
            problems.extend(check_parameter(trainable, key, name, domain))
    elif sweep["resources"] is not None and sweep["resources"].lanes_each > 1:
        rule, got = "only cnn, resnet and mlp train in lanes", str(sweep["resources"].lanes)
        problems.append(Problem("resources.lanes", rule, got, "Set it to 1 for a function of your own."))
    if all(problem.key != f"{prefix}max_epochs" for problem in problems):
        problems.extend(_check_epochs(named, sweep["max_epochs"], f"{prefix}max_epochs"))
    if search is None:
        return
    if space is not None:
        problems.extend(_check_needs(search, space))
    if search.strategy in CUTTING:
        problems.extend(_check_cuts(search.strategy, written.domains, own))


def walk(space: Space, key: str = "space") -> Iterator[Named]:
    """Yield every domain of a space and its branches with the dotted key that it has in a file."""
    for name, domain in space.entries:
        yield f"{key}.{name}", name, domain
        if isinstance(domain, Choice):
            for text, branch in domain.written_branches():
                yield from walk(branch, f"{key}.{name}.when.{toml_key(text)}")


def _fixed(key: str, config: Mapping[str, Any], problems: list[Problem]) -> list[Named]:
    """Return the values of a config as fixed domains, and append those that no config can hold."""
    problems.extend(
        Problem(f"{key}.{name}", PLAIN_RULE, toml_text(value)) for name, value in config.items() if not is_plain(value)
    )
    return [(f"{key}.{name}", name, Fixed(value)) for name, value in config.items() if is_plain(value)]


def _points(search: SearchSpec, problems: list[Problem]) -> list[Named]:
    """Return the values of points that no space has checked."""
    return [
        named
        for index, point in enumerate(search.points)
        for named in _fixed(f"search.points[{index}]", point, problems)
    ]


def _check_data(trainable: str, data: DataSpec | None, key: str) -> list[Problem]:
    if data is None or trainable not in IMAGE_TRAINABLES or data.name in IMAGE_SETS:
        return []
    rule = f"{trainable} needs images, and {data.name} is a table"
    return [Problem(key, rule, f'"{trainable}"', 'Write trainable = "mlp".')]


def check_parameter(trainable: str, key: str, name: str, domain: Domain) -> list[Problem]:
    """Return what a built-in trainable has against a parameter: its name, or a value it may take."""
    if unknown := _check_name(trainable, key, name):
        return unknown
    parameters = importlib.import_module("trainables.parameters")
    for value in _extremes(domain):
        rule = parameters.check(trainable, name, value)
        if rule:
            whole = isinstance(value, float) and parameters.check(trainable, name, round(value)) is None
            return [Problem(key, rule, toml_text(value), _other_domain(domain, whole))]
    return []


def _check_name(trainable: str, key: str, name: str) -> list[Problem]:
    names = importlib.import_module("trainables.parameters").names(trainable)
    if name in names:
        return []
    return [Problem(key, f"{trainable} has no parameter of this name", remedy=nearest(name, names))]


def _other_domain(domain: Domain, whole: bool) -> str:
    """Return which domain would keep a parameter's rule: `whole` says that a whole number would."""
    if isinstance(domain, Normal) and domain.bounds is None:
        return "Add bounds = [low, high] that keep to it."
    if isinstance(domain, Range) and whole:
        return f"Write {'logint' if domain.log else 'int'} in place of {domain.kind}."
    return ""


def _extremes(domain: Domain) -> list[Any]:
    """Return the values at which a domain could break a rule: both ends, or every option."""
    if isinstance(domain, Normal):
        return list(domain.bounds or _tails(domain))
    if isinstance(domain, Range):
        return [domain.low, domain.high]
    return [domain.value] if isinstance(domain, Fixed) else list(domain.grid())


def _tails(domain: Normal) -> tuple[float, float]:
    """Return where an unbounded normal all but ends: 4 sigma from its middle, 1 draw in 16,000 is outside."""
    low, high = domain.mu - 4 * domain.sigma, domain.mu + 4 * domain.sigma
    if isinstance(domain, LogNormal):
        return math.exp(max(low, -700.0)), math.exp(min(high, 700.0))
    return low, high


def _check_epochs(named: Sequence[Named], max_epochs: int, key: str) -> Iterator[Problem]:
    for where, name, domain in named:
        if name == "epochs" and (most := highest(domain)) > max_epochs:
            rule, remedy = f"epochs may not exceed max_epochs = {max_epochs}", f"Lower it, or raise {key}."
            yield Problem(where, rule, f"{most:g}", remedy)


def highest(domain: Domain) -> float:
    """Return the highest number that a domain gives, up to 4 sigma of an unbounded normal; -inf without a number."""
    numbers = (v for v in _extremes(domain) if isinstance(v, int | float) and not isinstance(v, bool))
    return max(numbers, default=-math.inf)


def _check_needs(search: SearchSpec, space: Space) -> list[Problem]:
    """Return what a strategy lacks altogether: a space, or points."""
    if search.strategy == "manual":
        remedy = "Add points = [{ learning_rate = 0.01 }, { learning_rate = 0.1 }]."
        missing = Problem("search.points", "manual needs at least one config", remedy=remedy)
        return [] if search.points else [missing]
    if not space:
        rule = f"{search.strategy} needs a [space]" if search.points else "a [space] or search.points is required"
        return [Problem("space", rule, remedy="Add learning_rate = { loguniform = [1e-4, 1e-1] } under [space].")]
    return []


def _check_cuts(strategy: str, named: Sequence[Named], own: Mapping[str, Any]) -> list[Problem]:
    """Return what keeps a strategy from cutting a space, and from varying around a centre."""
    uncut = [problem for place in named for problem in _uncut(strategy, *place)]
    return uncut + (_off_centre(named, own) if strategy == "one_at_a_time" else [])


def _uncut(strategy: str, key: str, name: str, domain: Domain) -> list[Problem]:
    """Return what keeps a domain from being cut, with the whole line to write."""
    if isinstance(domain, Choice) or not domain.grid_problems(key):  # a choice would repeat its branches
        return []
    got = toml_text(domain.to_table())
    if isinstance(domain, Range):
        points = min(domain.size() or 5, 5)
        line = f"{name} = {toml_text({**domain.to_table(), 'points': points})}"
        return [Problem(key, f"{strategy} needs points on every range", got, f"Write {line}")]
    rule = f"{strategy} cannot cut a distribution into even points"
    return [Problem(key, rule, got, f"Write {name} = {{ uniform = [low, high], points = 5 }}, or a choice.")]


def _off_centre(named: Sequence[Named], own: Mapping[str, Any]) -> list[Problem]:
    """Return the varied parameters that have no value to vary around."""
    varied = {name: domain for _, name, domain in reversed(named) if not isinstance(domain, Fixed)}
    rule = "one_at_a_time varies around the default of each parameter, and this one has none"
    return [
        Problem(f"defaults.{name}", rule, remedy=f"Write {name} = {_middle(domain)} under [defaults].")
        for name, domain in reversed(varied.items())
        if name not in own
    ]


def _middle(domain: Domain) -> str:
    """Return a value from the middle of a domain, to show what could be written."""
    values = [] if domain.grid_problems() else domain.grid()
    return toml_text(values[len(values) // 2]) if values else "..."


def complete_points(
    points: Sequence[Mapping[str, Any]], space: Space | None, own: Mapping[str, Any], problems: list[Problem]
) -> list[dict[str, Any]]:
    """Return the points as whole configs: what they leave out is fixed, or the baseline's where it fits.

    Args:
        points: As written.
        space: None where it could not be read; empty where the points need none.
        own: The baseline config.
        problems: Receives the mistakes, with keys such as "search.points[0].learning_rate".
    """
    if not space:
        return [dict(point) for point in points]
    completed = []
    for index, point in enumerate(points):
        config = _complete(point, space, own)
        mistakes = space.explain(config, f"search.points[{index}]")
        problems.extend(mistakes)
        completed.append(config if mistakes else space.conform(config))
    return completed


def _complete(point: Mapping[str, Any], space: Space, own: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(point)
    while True:  # a choice that is filled in opens a branch, whose names are filled in turn
        filled = {
            leaf.name: own[leaf.name]
            for leaf in space.active(config)
            if leaf.name not in config and leaf.name in own and leaf.domain.contains(own[leaf.name])
        }
        if not filled:
            return config
        config |= filled
