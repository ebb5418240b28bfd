"""The space: an ordered set of names with their domains, and branches under its choices."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tuner.errors import Problem, nearest
from tuner.space.choice import Choice, Fixed
from tuner.space.domain import Domain
from tuner.space.values import freeze, label_part, option_texts, plain, refuse, show, thaw, toml_key, under

Config = dict[str, Any]


@dataclass(frozen=True)
class Leaf:
    """One domain of a space, flattened.

    Args:
        label: Unique in the space: "optimizer", "optimizer=sgd/learning_rate".
        name: Its name in a config; leaves of different branches may share it.
        domain: Its domain; a `Fixed` for a fixed value.
        conditions: (label of a choice, index of its option) for each choice above it, the outermost first.
    """

    label: str
    name: str
    domain: Domain
    conditions: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Space:
    """An ordered set of names with their domains; `Space.parse` builds it.

    Args:
        entries: (name, domain) in the order of declaration. Fixed values are moved to the front, because a
            TOML file cannot have them behind a table: a frozen space has the same order when it is read back.

    Raises:
        SweepError: When a config could hold a name twice.
    """

    entries: tuple[tuple[str, Domain], ...] = ()

    def __post_init__(self) -> None:
        refuse("Space(...)", _clashes(self.entries))
        ordered = sorted(self.entries, key=lambda entry: not isinstance(entry[1], Fixed))
        object.__setattr__(self, "entries", tuple(ordered))

    @classmethod
    def parse(cls, table: Any, key: str = "space") -> Space:
        """Read a space as it stands in a sweep file, or as it is written in Python.

        Args:
            table: name -> domain: a TOML table ({"uniform": [0, 1], "step": 0.1}), a domain of this package,
                a ray.tune domain, or a bare value, which is fixed.
            key: Where the table stands; the problems' keys begin with it.

        Raises:
            SweepError: With every mistake in the table.
        """
        from tuner.space.parse import read_space  # later than the top, for it builds spaces

        problems: list[Problem] = []
        space = read_space(table, key, problems)
        refuse("Space(...)", problems)
        return space

    def __bool__(self) -> bool:
        return bool(self.entries)

    # --- configs ---

    def sample(self, rng: random.Random) -> Config:
        """Draw one flat config: fixed values, then names as declared, a branch's after its choice."""
        config: Config = {}
        for name, domain in self.entries:
            config[name] = domain.sample(rng)
            branch = _branch(domain, config[name])
            if branch is not None:
                config |= branch.sample(rng)
        return config

    def contains(self, config: Mapping[str, Any]) -> bool:
        """Say whether the space could give this config: every active name, each value in its domain."""
        return not self.explain(config) and len(config) == len(self.active(config))

    def explain(self, config: Mapping[str, Any], key: str = "") -> list[Problem]:
        """Return what keeps a config out of the space; fixed values may be left out (see `conform`).

        Args:
            config: name -> value.
            key: Where the config stands, such as "search.points[0]"; the problems' keys begin with it.
        """
        active = {leaf.name: leaf.domain for leaf in self.active(config)}
        wrong = {name: domain for name, domain in active.items() if _is_wrong(name, domain, config)}
        problems = [_value_problem(name, domain, config, key) for name, domain in wrong.items()]
        # Where a choice is wrong, nobody knows which branch the other names belong to.
        lost = self.names() if any(isinstance(domain, Choice) for domain in wrong.values()) else []
        unknown = [name for name in config if name not in active and name not in lost]
        return problems + [self._unknown(name, active, key) for name in unknown]

    def _unknown(self, name: str, active: Mapping[str, Domain], key: str) -> Problem:
        if name not in self.names():
            return Problem(under(key, str(name)), "unknown name", str(name), nearest(str(name), active))
        remedy = "Leave it out, or choose the option that it belongs to."
        return Problem(under(key, name), f"{name} has no place with this config's choices", "", remedy)

    def conform(self, config: Mapping[str, Any]) -> Config:
        """Return a config as `sample` would have given it: ordered, of exact types, fixed values filled in.

        Args:
            config: One in which `explain` finds no mistake.
        """
        return {
            leaf.name: leaf.domain.value if isinstance(leaf.domain, Fixed) else leaf.domain.conform(config[leaf.name])
            for leaf in self.active(config)
        }

    # --- counting ---

    def size(self) -> int | None:
        """Return the number of distinct configs; None where they cannot be counted."""
        if any(leaf.domain.size() is None for leaf in self.leaves()):
            return None
        return self._count(lambda domain: domain.size() or 0)

    def enumerate(self) -> Iterator[Config]:
        """Return every config of a countable space, lazily, the last name varying fastest.

        Raises:
            ValueError: When `size` is None.
        """
        if self.size() is None:
            raise ValueError("the configs of this space cannot be counted")
        return self._product(lambda domain: domain.values())

    def grid_problems(self, key: str = "space") -> list[Problem]:
        """Return what keeps the space from being cut into a grid, with the lines to add."""
        return [p for name, domain in self.entries for p in domain.grid_problems(under(key, name))]

    def grid_size(self) -> int:
        """Return the number of configs in the grid; SweepError where `grid_problems` has any."""
        refuse("Space(...)", self.grid_problems())
        return self._count(lambda domain: len(domain.grid()))

    def grid(self) -> Iterator[Config]:
        """Return the grid's configs, lazily, the last name varying fastest.

        Raises:
            SweepError: Where `grid_problems` has any.
        """
        refuse("Space(...)", self.grid_problems())
        return self._product(lambda domain: iter(domain.grid()))

    def _count(self, count: Callable[[Domain], int]) -> int:
        return math.prod(
            sum(branch._count(count) if branch else 1 for branch in domain.branches)
            if isinstance(domain, Choice)
            else count(domain)
            for _, domain in self.entries
        )

    def _product(self, values: Callable[[Domain], Iterator[Any]], start: int = 0) -> Iterator[Config]:
        """Yield every combination of the entries from `start` on, no list shared between two configs."""
        if start == len(self.entries):
            yield {}
            return
        name, domain = self.entries[start]
        for value in values(domain):
            for inner in (_branch(domain, value) or EMPTY)._product(values):
                for rest in self._product(values, start + 1):
                    yield {name: thaw(freeze(value)), **inner, **rest}

    # --- structure ---

    def leaves(self) -> list[Leaf]:
        """Return every domain of the space and its branches, in order, with the choices it depends on."""
        return list(self._leaves)

    @cached_property
    def _leaves(self) -> tuple[Leaf, ...]:
        return tuple(self._walk("", ()))

    def _walk(self, prefix: str, conditions: tuple[tuple[str, int], ...]) -> Iterator[Leaf]:
        for name, domain in self.entries:
            label = prefix + name
            yield Leaf(label, name, domain, conditions)
            if not isinstance(domain, Choice):
                continue
            for index, text in enumerate(option_texts(domain.options)):
                branch = domain.branches[index] or EMPTY
                yield from branch._walk(f"{label}={label_part(text)}/", (*conditions, (label, index)))

    def active(self, config: Mapping[str, Any]) -> list[Leaf]:
        """Return the leaves that exist with the options that a config has chosen."""
        chosen: dict[str, int | None] = {}
        active = []
        for leaf in self._leaves:
            if any(chosen.get(label) != index for label, index in leaf.conditions):
                continue
            active.append(leaf)
            if isinstance(leaf.domain, Choice) and leaf.name in config:
                chosen[leaf.label] = leaf.domain.index(config[leaf.name])
        return active

    def names(self) -> list[str]:
        """Return the names that configs can hold, each once, in order: the columns of the frames."""
        return list(dict.fromkeys(leaf.name for leaf in self._leaves))

    def to_table(self) -> dict[str, Any]:
        """Return the space as it stands in a sweep file; `Space.parse` reads an equal one back."""
        return {name: domain.to_table() for name, domain in self.entries}


def _branch(domain: Domain, value: Any) -> Space | None:
    return domain.branch(value) if isinstance(domain, Choice) else None


def _is_wrong(name: str, domain: Domain, config: Mapping[str, Any]) -> bool:
    if name in config:
        return not domain.contains(config[name])
    return not isinstance(domain, Fixed)


def _value_problem(name: str, domain: Domain, config: Mapping[str, Any], key: str) -> Problem:
    if name in config:
        got = f"{name}={show(plain(config[name]))}"
        return Problem(under(key, name), f"{name} must be {domain.rule()}", got)
    return Problem(under(key, name), f"{name} is missing", "", f"It must be {domain.rule()}.")


def _clashes(entries: tuple[tuple[str, Domain], ...]) -> list[Problem]:
    """Return the names that one config could hold twice.

    All entries of a space are active together, so no two may bring the same name; the branches of one choice
    never are, so they may. (A branch is a space itself, and has looked after its own entries.)
    """
    problems = []
    seen: dict[str, str] = {}  # name -> the key where it first stands
    for name, domain in entries:
        inside = list(_names_inside(name, domain))
        before = seen | {name: seen.get(name, name)}
        found = [(name, name)] if name in seen else []
        found += [(inner, key) for inner, key in inside if inner in before]
        for inner, key in found:
            got = f"{before[inner]} and {key}"
            problems.append(Problem(key, "a name may stand only once in a config", got, "Rename one of them."))
        seen = dict(inside) | before
    return problems


def _names_inside(key: str, domain: Domain) -> Iterator[tuple[str, str]]:
    """Yield (name, key) of every parameter in the branches of a domain."""
    for text, branch in domain.written_branches() if isinstance(domain, Choice) else ():
        for name, inner in branch.entries:
            inner_key = f"{key}.when.{toml_key(text)}.{name}"
            yield name, inner_key
            yield from _names_inside(inner_key, inner)


EMPTY = Space()
