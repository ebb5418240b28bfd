"""Fixed values and choices: domains of plain values, given out exactly as written."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.errors import Problem
from tuner.space.checks import choice_problems, value_problems
from tuner.space.domain import Domain
from tuner.space.values import (
    freeze,
    is_plain,
    option_texts,
    plain,
    refuse,
    show,
    show_list,
    thaw,
    toml_key,
    under,
)

if TYPE_CHECKING:
    from tuner.space.tree import Space


@dataclass(frozen=True, init=False, repr=False)
class Fixed(Domain):
    """One value that never changes.

    Args:
        value: A finite number, a boolean, a string, or a list of those (a tuple becomes a list).

    Raises:
        SweepError: When a config cannot hold the value.
    """

    _text: str

    def __init__(self, value: Any) -> None:
        value = plain(value)
        refuse("Fixed(...)", value_problems(value))
        object.__setattr__(self, "_text", freeze(value))

    def __repr__(self) -> str:
        return f"Fixed({self.value!r})"

    @property
    def value(self) -> Any:
        """The value, a fresh one each time."""
        return thaw(self._text)

    def sample(self, rng: random.Random) -> Any:
        return self.value

    def contains(self, value: Any) -> bool:
        value = plain(value)
        return is_plain(value) and freeze(value) == self._text

    def size(self) -> int:
        return 1

    def values(self) -> Iterator[Any]:
        return iter([self.value])

    def grid(self) -> list[Any]:
        return [self.value]

    def grid_problems(self, key: str = "") -> list[Problem]:
        return []

    def rule(self) -> str:
        return f"{show(self.value)}, its fixed value"

    def to_table(self) -> Any:
        return self.value


@dataclass(frozen=True, init=False, repr=False)
class Choice(Domain):
    """One of several options.

    Args:
        options: Plain values as for `Fixed`, each once; 1, 1.0 and True are three different options.
        weights: How often an option is sampled, relative to the others; None: all alike. An option of weight
            0 is never sampled, but it is a valid value, and a grid tries it.
        when: The parameters that exist only with an option: {option: {name: domain}}. An option is written
            as itself or as its TOML text ("true", "0.5"); where 3 and "3" are both options, "3" is the number
            and '"3"' the string.

    Raises:
        SweepError: With every mistake in the arguments.
    """

    _texts: tuple[str, ...]
    weights: tuple[float, ...] | None
    branches: tuple[Space | None, ...]  # one an option; None where nothing depends on it

    def __init__(
        self,
        options: Sequence[Any],
        *,
        weights: Sequence[float] | None = None,
        when: Mapping[Any, Any] | None = None,
    ) -> None:
        from tuner.space.parse import read_branches  # later than the top, for it reads choices too

        listed = _listed(options)
        weights = None if weights is None else _listed(weights)
        problems = choice_problems(listed, weights)
        branches = read_branches(when, listed, problems)
        refuse("Choice(...)", problems)
        object.__setattr__(self, "_texts", tuple(freeze(option) for option in listed))
        object.__setattr__(self, "weights", None if weights is None else tuple(weights))
        object.__setattr__(self, "branches", branches)

    def __repr__(self) -> str:
        weights = f", weights={list(self.weights)}" if self.weights else ""
        return f"Choice({self.options!r}{weights}{', when=...' if any(self.branches) else ''})"

    @property
    def options(self) -> list[Any]:
        """The options, fresh ones each time."""
        return [thaw(text) for text in self._texts]

    def index(self, value: Any) -> int | None:
        """Return which option `value` is, by value and type; None if it is none of them."""
        value = plain(value)
        text = freeze(value) if is_plain(value) else None
        return self._texts.index(text) if text in self._texts else None

    def branch(self, value: Any) -> Space | None:
        """Return the parameters that exist with an option; None where there are none."""
        index = self.index(value)
        return None if index is None else self.branches[index]

    def sample(self, rng: random.Random) -> Any:
        return thaw(rng.choices(self._texts, self.weights)[0])

    def contains(self, value: Any) -> bool:
        return self.index(value) is not None

    def size(self) -> int:
        """Return the number of options; the branches are the space's to count."""
        return len(self._texts)

    def values(self) -> Iterator[Any]:
        return iter(self.options)

    def grid(self) -> list[Any]:
        return self.options

    def grid_problems(self, key: str = "") -> list[Problem]:
        return [
            problem
            for text, branch in self.written_branches()
            for problem in branch.grid_problems(under(key, f"when.{toml_key(text)}"))
        ]

    def written_branches(self) -> Iterator[tuple[str, Space]]:
        """Yield (TOML text of the option, branch) for every option that has one."""
        for text, branch in zip(option_texts(self.options), self.branches, strict=True):
            if branch is not None:
                yield text, branch

    def rule(self) -> str:
        return f"one of {show_list(self.options)}"

    def to_table(self) -> dict[str, Any]:
        table: dict[str, Any] = {"choice": self.options}
        if self.weights is not None:
            table["weights"] = list(self.weights)
        when = {text: branch.to_table() for text, branch in self.written_branches()}
        return table | ({"when": when} if when else {})


def _listed(values: Any) -> Any:
    """Return a sequence (a tuple, an array, a range) as a list of plain values; anything else as it is."""
    return plain(list(values)) if isinstance(values, range) else plain(values)
