"""Reading a space in all its written forms: TOML tables, domains, ray.tune domains, bare values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tuner.errors import Problem, SweepError, nearest
from tuner.space.choice import Choice, Fixed
from tuner.space.domain import Domain
from tuner.space.normals import LogNormal, Normal
from tuner.space.ranges import Int, LogInt, LogUniform, Range, Uniform
from tuner.space.ray_domains import from_ray, is_ray
from tuner.space.tree import Space
from tuner.space.values import (
    freeze,
    is_plain,
    option_texts,
    plain,
    read_toml,
    refuse,
    rekey,
    show,
    toml_key,
    under,
)

NUMERIC: dict[str, type[Range] | type[Normal]] = {
    domain.kind: domain for domain in (Uniform, LogUniform, Int, LogInt, Normal, LogNormal)
}
KINDS = (*NUMERIC, "choice")
PLACEHOLDER = Fixed(0)  # stands for a domain with mistakes while the rest is read


def read_space(table: Any, key: str, problems: list[Problem]) -> Space:
    """Return the space of a table, and add every mistake in it to `problems`."""
    if isinstance(table, Space):
        return table
    if not isinstance(table, Mapping):
        problems.append(Problem(key, "a space must be a table of names", show(plain(table))))
        return Space()
    entries = []
    for name, written in table.items():
        if isinstance(name, str) and re.fullmatch(r"[\w.-]+", name):
            entries.append((name, _read_domain(written, under(key, name), problems)))
        else:
            problems.append(Problem(key, "a name must be made of letters, digits, _, - and .", show(name)))
    try:
        return Space(tuple(entries))
    except SweepError as error:
        problems.extend(rekey(error.problems, key))
        return Space()


def _read_domain(written: Any, key: str, problems: list[Problem]) -> Domain:
    try:
        if isinstance(written, Domain):
            return written
        if is_ray(written):
            return from_ray(written)
        if isinstance(written, Mapping):
            return _read_table(written)
        return Fixed(written)
    except SweepError as error:
        problems.extend(rekey(error.problems, key))
        return PLACEHOLDER


def _read_table(table: Mapping[Any, Any]) -> Domain:
    if list(table) == ["grid_search"]:  # what tune.grid_search returns
        return Choice(table["grid_search"])
    kinds = [name for name in table if name in KINDS]
    if len(kinds) != 1:
        raise SweepError("", [_kind_problem(table, kinds)])
    kind = kinds[0]
    valid = ("weights", "when") if kind == "choice" else ("step", "bounds" if "normal" in kind else "points")
    options = {name: value for name, value in table.items() if name in valid}
    problems = [
        Problem(str(name), f"unknown key of {kind}", "", nearest(str(name), valid))
        for name in table
        if name != kind and name not in valid
    ]
    try:
        domain = Choice(table[kind], **options) if kind == "choice" else _read_numeric(kind, table[kind], options)
    except SweepError as error:
        raise SweepError("", [*problems, *error.problems]) from None
    refuse("", problems)
    return domain


def _kind_problem(table: Mapping[Any, Any], kinds: list[Any]) -> Problem:
    if kinds:
        return Problem("", "a table must name one domain", ", ".join(kinds), "Keep one of them.")
    names = [str(name) for name in table]
    remedies = [nearest(name.lower(), KINDS) for name in names]
    close = [remedy for remedy in remedies if remedy.startswith("Did you mean")]
    if not close and any(isinstance(value, Mapping) for value in table.values()):
        close = ["A config is flat: move these names one table up, or under `when` of a choice."]
    got = ", ".join(names) or "an empty table"
    return Problem("", "a table must name its domain", got, close[0] if close else nearest("", KINDS))


def _read_numeric(kind: str, ends: Any, options: dict[str, Any]) -> Domain:
    domain, ends = NUMERIC[kind], plain(ends)
    if isinstance(ends, list) and len(ends) == 2:
        return domain(*ends, **options)
    names = "[mu, sigma]" if "normal" in kind else "[low, high]"
    problems = [Problem("", f"{kind} must be two numbers, {names}", show(ends))]
    try:
        domain(0, 1, **options)
    except SweepError as error:  # mistakes that have nothing to do with the two numbers
        problems += [p for p in error.problems if p.key and "low" not in p.got]
    raise SweepError("", problems)


def read_branches(when: Any, options: Any, problems: list[Problem]) -> tuple[Space | None, ...]:
    """Return the branch of each option (None where it has none), and add every mistake to `problems`."""
    if when is None:
        return (None,) * len(options) if isinstance(options, list) else ()
    if not isinstance(when, Mapping):
        problems.append(Problem("when", "when must be a table of options", show(plain(when))))
        return ()
    known = [option for option in options if is_plain(option)] if isinstance(options, list) else []
    texts = option_texts(known)
    branches: list[Space | None] = [None] * len(known)
    for written, table in when.items():
        index = _option_index(written, known, texts)
        key = f"when.{toml_key(str(written) if index is None else texts[index])}"
        branch = read_space(table, key, problems)
        if index is None:
            remedy = nearest(str(written), texts)
            problems.append(Problem(key, "a branch must be named after an option", show(written), remedy))
        elif branches[index] is not None:
            problems.append(Problem(key, "an option may have one branch", show(written), "Join the two."))
        else:
            branches[index] = branch
    return tuple(branch or None for branch in branches)


def _option_index(written: Any, options: list[Any], texts: list[str]) -> int | None:
    """Return which option a key of `when` means: by its TOML text, by itself, or respelt (1e-3 for 0.001)."""
    if isinstance(written, str) and written in texts:
        return texts.index(written)
    frozen = [freeze(option) for option in options]
    for value in (plain(written), read_toml(written) if isinstance(written, str) else None):
        if is_plain(value) and freeze(value) in frozen:
            return frozen.index(freeze(value))
    return None
