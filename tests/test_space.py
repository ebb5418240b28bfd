"""Domains, choices, branches and spaces: what they draw, what they hold, how they are written and refused."""

import json
import math
import pickle
import random
import subprocess
import sys
import tomllib
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import SweepError
from tuner.space import (
    Choice,
    Fixed,
    Int,
    LogInt,
    LogNormal,
    LogUniform,
    Normal,
    Numeric,
    Range,
    Space,
    Uniform,
    derive_seed,
)
from tuner.space.values import option_texts

moderate = settings(deadline=None, derandomize=True, max_examples=40)

OPTIMIZER = """
[space.optimizer]
choice = ["sgd", "adam"]
weights = [3, 1]
[space.optimizer.when.sgd]
learning_rate = { loguniform = [1e-3, 1.0], points = 4 }
momentum = { uniform = [0.5, 0.9], step = 0.1, points = 3 }
[space.optimizer.when.adam]
learning_rate = { loguniform = [1e-5, 1e-2], points = 2 }
[space.optimizer.when.adam.amsgrad]
choice = [true, false]
[space.optimizer.when.adam.amsgrad.when.true]
epsilon = { choice = [1e-8, 1e-4] }
"""


def toml_space(text):
    return Space.parse(tomllib.loads(text)["space"])


def problems_of(build, *arguments, **options):
    with pytest.raises(SweepError) as caught:
        build(*arguments, **options)
    return caught.value.problems


def draws(domain, count=200, seed=0):
    rng = random.Random(seed)
    return [domain.sample(rng) for _ in range(count)]


# --- domains and spaces that hypothesis draws ---


@st.composite
def ranges(draw, countable=False, with_points=False):
    """A valid range of any kind; `countable` ones are short, so that all their values can be listed."""
    kind = draw(st.sampled_from([Int, LogInt] if countable else [Uniform, LogUniform, Int, LogInt]))
    stepped = draw(st.booleans())
    if kind.integer:
        low = draw(st.integers(1 if kind.log else -1000, 1000))
        step = draw(st.integers(1, 9))
        high = low + step * draw(st.integers(1, 6 if countable else 5000))
        step = step if stepped or countable else None
    elif stepped:
        unit = Fraction(1, 10 ** draw(st.integers(0, 5)))
        low = draw(st.integers(1 if kind.log else -500, 500)) * unit
        step = draw(st.integers(1, 50)) * unit
        high = float(low + step * draw(st.integers(1, 60)))
        low, step = float(low), float(step)
    else:
        ends = st.floats(1e-9 if kind.log else -1e6, 1e6, allow_subnormal=False)
        low = draw(ends)
        high = draw(ends.filter(lambda x: x > low))
        step = None
    points = draw(st.integers(2, 7)) if with_points or draw(st.booleans()) else None
    return kind(low, high, step=step, points=points)


@st.composite
def normals(draw):
    kind = draw(st.sampled_from([Normal, LogNormal]))
    mu, sigma = draw(st.floats(-3, 3)), draw(st.floats(0.5, 3))
    bounds, step = None, draw(st.sampled_from([None, 0.05, 0.25]))
    if draw(st.booleans()):
        low = draw(st.floats(0.01 if kind.log else -4, 4))
        bounds = (low, low + draw(st.floats(0.3, 3)))
    return kind(mu, sigma, step=step, bounds=bounds)


scalars = st.one_of(
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
)
plain_values = st.one_of(scalars, st.lists(st.one_of(scalars, st.lists(scalars, max_size=2)), max_size=3))


@st.composite
def spaces(draw, domain=None, depth=2, prefix="p"):
    """A space with branches in branches; names repeat between the branches of one choice, never on a path."""
    domain = st.one_of(ranges(), normals()) if domain is None else domain
    table = {}
    for position in range(draw(st.integers(0 if depth < 2 else 1, 3))):
        name = f"{prefix}{position}"
        kind = draw(st.sampled_from(["domain", "fixed", "choice", "choice"]))
        if kind == "domain":
            table[name] = draw(domain)
        elif kind == "fixed":
            table[name] = draw(plain_values)
        else:
            table[name] = draw(choices(domain, depth, f"{name}_"))
    return Space.parse(table)


@st.composite
def choices(draw, domain, depth, prefix):
    options = draw(st.lists(plain_values, min_size=1, max_size=3, unique_by=json.dumps))
    weights = draw(st.none() | st.just([1.5] * len(options)))
    choice = Choice(options, weights=weights)
    if not depth:
        return choice
    branch = spaces(domain=domain, depth=depth - 1, prefix=prefix)
    when = {text: draw(branch) for text in option_texts(options) if draw(st.booleans())}
    return Choice(options, weights=weights, when=when)


# --- numeric domains ---


@moderate
@given(st.one_of(ranges(), normals()), st.integers(0, 2**32))
def test_samples_lie_inside_and_are_python_numbers(domain, seed):
    for value in draws(domain, 20, seed):
        assert domain.contains(value)
        assert type(value) is (int if domain.integer else float)
        if isinstance(domain, Range):
            assert domain.low <= value <= domain.high


@moderate
@given(ranges())
def test_both_ends_of_the_latent_interval_are_the_ends(domain):
    start, end = domain.latent
    assert domain.from_latent(start) == domain.low
    assert domain.from_latent(end) == domain.high
    # beyond the interval it clips
    assert domain.from_latent(start - 1) == domain.low
    assert domain.from_latent(end + 1) == domain.high


@moderate
@given(st.one_of(ranges(), normals()), st.floats(0, 1))
def test_latent_there_and_back(domain, share):
    start, end = domain.latent
    u = start + share * (end - start)
    value = domain.from_latent(u)
    assert domain.contains(value)
    back = domain.to_latent(value)
    assert start <= back <= end
    if domain.step is None and not domain.integer:
        assert math.isclose(back, u, rel_tol=1e-6, abs_tol=1e-6 * max(1, end - start))
    else:
        # a snapped value is its own image
        assert domain.from_latent(back) == value


@moderate
@given(st.one_of(ranges(), normals()))
def test_latent_is_monotonic(domain):
    start, end = domain.latent
    values = [domain.from_latent(start + (end - start) * k / 50) for k in range(51)]
    assert values == sorted(values)


@pytest.mark.parametrize(
    "domain",
    [Int(0, 4), Uniform(0, 1, step=0.25), Normal(0, 1, step=0.5, bounds=(-1, 1)), LogInt(1, 5), Int(3, 4)],
    ids=repr,
)
def test_ends_are_drawn_as_often_as_their_share(domain):
    counts = Counter(draws(domain, 4000))
    assert set(counts) == set(domain.values())
    # each value owns the part of the latent interval that snaps to it; an end's part is no half
    start, end = domain.latent
    grid = [domain.from_latent(start + (end - start) * (k + 0.5) / 4000) for k in range(4000)]
    shares = Counter(grid)
    assert all(abs(counts[value] - shares[value]) < 200 for value in shares)
    if not domain.log and isinstance(domain, Range):
        assert max(shares.values()) - min(shares.values()) <= 2


def test_log_ranges_draw_each_decade_alike():
    counts = Counter(math.floor(math.log10(value)) for value in draws(LogUniform(1e-4, 1), 4000))
    assert all(800 < counts[decade] < 1200 for decade in (-4, -3, -2, -1))


def test_margin_of_stepped_log_ranges_never_reaches_zero():
    # low - step / 2 is 0 here and below 0 there
    for domain in (LogInt(1, 9, step=2), LogUniform(0.1, 1.0, step=0.3)):
        assert math.isfinite(domain.latent[0])
        assert set(draws(domain, 500)) == set(domain.values())


def test_lattice_values_are_clean_decimals():
    assert list(Uniform(0, 0.5, step=0.1).values()) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert list(Uniform(1e-5, 5e-5, step=2e-5).values()) == [1e-5, 3e-5, 5e-5]
    assert list(LogUniform(0.1, 0.7, step=0.2).values()) == [0.1, 0.3, 0.5, 0.7]
    assert list(Normal(0, 1, step=0.1, bounds=(0.05, 0.35)).values()) == [0.1, 0.2, 0.3]
    # a step that no decimal writes still ends on high
    assert list(Uniform(0, 1, step=1 / 3).values())[-1] == 1.0


def test_normal_follows_its_distribution():
    values = draws(Normal(5, 2), 4000)
    assert abs(sum(values) / 4000 - 5) < 0.15
    assert abs(sum(abs(v - 5) < 2 for v in values) / 4000 - 0.683) < 0.03
    logs = [math.log(value) for value in draws(LogNormal(-3, 1), 4000)]
    assert abs(sum(logs) / 4000 + 3) < 0.1


@pytest.mark.parametrize("bounds", [(10, 11), (-11, -10), (10, 1000), (-1000, -10), (0, 1000)])
def test_truncated_tails_keep_their_shape(bounds):
    domain = Normal(0, 1, bounds=bounds)
    values = draws(domain, 300)
    assert all(bounds[0] <= value <= bounds[1] for value in values)
    # a tail is steep but not a point
    assert len(set(values)) > 290
    assert domain.from_latent(0) == bounds[0]
    assert domain.from_latent(1) == bounds[1]


def test_lognormal_stays_above_zero_and_finite():
    for domain in (LogNormal(0, 500), LogNormal(-3, 1, step=0.5)):
        assert all(0 < value < math.inf for value in draws(domain, 500))
    assert min(draws(LogNormal(-3, 1, step=0.5))) == 0.5


def test_size_counts_values():
    assert Int(1, 10).size() == 10
    assert Int(0, 10, step=5).size() == 3
    assert Uniform(0, 0.5, step=0.1).size() == 6
    assert Normal(0, 1, step=0.5, bounds=(-1, 1)).size() == 5
    assert [Uniform(0, 1).size(), Normal(0, 1).size(), Normal(0, 1, step=1).size()] == [None] * 3
    with pytest.raises(ValueError, match="cannot be counted"):
        Uniform(0, 1).values()


def test_contains_is_strict_about_types_and_steps():
    assert Int(1, 3).contains(2)
    assert not any(Int(1, 3).contains(value) for value in (2.0, True, "2", 0, 4, None))
    assert not Int(0, 4_000_000_000, step=2_000_000_000).contains(1)
    assert Uniform(0, 1).contains(0) and Uniform(0, 1).contains(np.float64(0.5))
    assert not any(Uniform(0, 1).contains(v) for v in (True, "0.5", math.nan, 1.5, 10**400, [0.5]))
    assert Uniform(0, 0.5, step=0.1).contains(0.1 + 0.2)
    assert not Uniform(0, 0.5, step=0.1).contains(0.25)
    assert not LogNormal(0, 1).contains(0.0)
    assert not Normal(0, 1).contains(math.inf)


# --- points ---


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (LogUniform(0.001, 0.1, points=3), [0.001, 0.01, 0.1]),
        (LogUniform(1e-5, 1, points=6), [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
        (Uniform(0, 0.3, points=4), [0.0, 0.1, 0.2, 0.3]),
        (Uniform(0, 0.5, step=0.1, points=3), [0.0, 0.3, 0.5]),
        (Int(1, 3, points=9), [1, 2, 3]),
        (LogInt(16, 128, points=4), [16, 32, 64, 128]),
        (LogInt(1, 100, points=3), [1, 10, 100]),
        (Int(0, 100, step=10, points=2), [0, 100]),
    ],
    ids=repr,
)
def test_points_cut_a_range_evenly_on_its_scale(domain, expected):
    values = domain.grid()
    assert values == expected
    assert [type(value) for value in values] == [type(value) for value in expected]


@moderate
@given(ranges(with_points=True))
def test_points_are_distinct_values_from_end_to_end(domain):
    values = domain.grid()
    assert values == sorted(set(values))
    assert (values[0], values[-1]) == (domain.low, domain.high)
    assert all(domain.contains(value) for value in values)
    assert len(values) <= domain.points


def test_a_grid_asks_for_points():
    space = Space.parse(
        {"a": Uniform(0, 1), "b": Int(1, 3), "c": Normal(0, 1), "d": Choice([1], when={1: {"e": Int(1, 9)}})}
    )
    problems = space.grid_problems()
    assert [p.key for p in problems] == ["space.a.points", "space.b.points", "space.c", "space.d.when.1.e.points"]
    assert [p.remedy for p in problems[:2]] == ["Add points = 5.", "Add points = 3."]
    for ask in (space.grid, space.grid_size, Normal(0, 1).grid, Uniform(0, 1).grid):
        problems_of(ask)


# --- what domains refuse ---


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (lambda: Uniform(5, 1), "low < high must hold, but got (low=5, high=1). Swap the two numbers."),
        (lambda: Int(5, 5), "low < high must hold, but got (low=5, high=5). Write the bare value 5"),
        (lambda: Uniform(0, math.inf), "high must be finite"),
        (lambda: Uniform(math.nan, 1), "low must be finite"),
        (lambda: Uniform(0, 10**400), "high must be finite"),
        (lambda: Uniform(-1e308, 1e308), "high - low must be finite"),
        (lambda: Uniform(True, 2), "low must be a number, but got (low=true)"),
        (lambda: Uniform("0.1", 2), "Write it without quotes."),
        (lambda: Uniform(None, 2), "low must be a number, but got (low=None)"),
        (lambda: LogUniform(0, 1), "low > 0 must hold on a log scale"),
        (lambda: LogInt(0, 8), "Start at 1, or use int."),
        (lambda: Int(1.0, 8), "low must be an integer, but got (low=1.0). Write 1."),
        (lambda: Int(1, 8.5), "Use uniform or loguniform for fractions."),
        (lambda: Int(0, 2**60), "high must lie between"),
        (lambda: Int(0, 8, step=2.0), "step: the step of an integer range must be an integer"),
        (lambda: Uniform(0, 1, step=0), "step: step > 0 must hold"),
        (lambda: Uniform(0, 1, step=-1), "step: step > 0 must hold"),
        (lambda: Uniform(0, 1, step=True), "step: step must be a number"),
        (lambda: Uniform(0, 1, step=0.3), "divide high - low, but got (low=0, high=1, step=0.3). Write high = 0.9"),
        (lambda: Int(1, 10, step=4), "Write high = 9, or another step."),
        (lambda: Int(1, 3, step=4), "Use a smaller step."),
        (lambda: Uniform(0, 1, points=1), "points: points must be an integer of 2 or more"),
        (lambda: Uniform(0, 1, points=3.0), "points: points must be"),
        (lambda: Uniform(0, 1, points=True), "points: points must be"),
        (lambda: Normal(0, 0), "sigma > 0 must hold"),
        (lambda: Normal(math.nan, 1), "mu must be finite"),
        (lambda: Normal(0, 1, bounds=(1, 0)), "bounds: low < high must hold"),
        (lambda: Normal(0, 1, bounds=3), "bounds: bounds must be [low, high]"),
        (lambda: Normal(0, 1, bounds=(0, math.inf)), "bounds: high must be finite"),
        (lambda: Normal(0, 1, step=10, bounds=(1, 2)), "bounds: a multiple of the step 10 must lie within bounds"),
        (lambda: Normal(0, 1e-6, bounds=(1, 2)), "bounds: the distribution must reach a number from 1.0 to 2.0"),
        (lambda: LogNormal(-1000, 1, step=1), "step: the distribution must reach a number above 0"),
        (lambda: LogNormal(0, 1, bounds=(0, 1)), "bounds: low > 0 must hold"),
        (lambda: Choice([]), "a choice needs at least one option"),
        (lambda: Choice("abc"), "a choice must be a list of options"),
        (lambda: Choice([1, 2, 1]), "each option may stand once, but got (1)"),
        (lambda: Choice([math.nan]), "a value must be a finite number"),
        (lambda: Choice([None, 1]), 'TOML has no null: write a word such as "none".'),
        (lambda: Choice([{"a": 1}]), "A config is flat: put the parts of an option under `when`."),
        (lambda: Choice([Uniform(0, 1)]), "A domain stands alone behind its name"),
        (lambda: Choice([max]), "Write its name, and look it up in the trainable."),
        (lambda: Choice([1, 2], weights=[1]), "weights: there must be one weight an option, but got (1 weights for 2"),
        (lambda: Choice([1, 2], weights=[1, -1]), "a weight must be a finite number of 0 or more, but got (-1)"),
        (lambda: Choice([1, 2], weights=[0, 0]), "weights: the sum of weights must be finite and above 0"),
        (lambda: Choice([1, 2], weights=[1, True]), "weights: a weight must be"),
        (lambda: Choice([1, 2], weights=3), "weights: weights must be a list of numbers"),
        (lambda: Choice([1], when=[1]), "when: when must be a table of options"),
        (lambda: Choice([1], when={2: {}}), "when.2: a branch must be named after an option"),
        (lambda: Choice([0.001], when={"1e-3": {"a": 1}, "1.0e-3": {"a": 1}}), 'when."0.001": an option may have'),
        (lambda: Fixed([1, [None]]), "A list may hold no tables, domains or objects."),
    ],
)  # fmt: skip
def test_a_wrong_domain_is_refused_with_the_rule_and_the_remedy(build, rule):
    problems = problems_of(build)
    text = "\n".join(problem.sentence("x") for problem in problems)
    assert f"x: {rule}" in text or rule in text


def test_all_mistakes_of_one_domain_at_once():
    assert {p.key for p in problems_of(Uniform, 5, 1, step=-1, points=0)} == {"", "step", "points"}
    assert {p.key for p in problems_of(Normal, "a", -1, step=0, bounds=(1, 1))} == {"", "step", "bounds"}
    assert [p.key for p in problems_of(Choice, [1, 1], weights=[1], when={"1": {"a": {"unform": [0, 1]}}})] == [
        "",
        "weights",
        "when.1.a",
    ]


# --- values exactly as written ---


def test_options_keep_their_types_and_are_told_apart():
    options = [1, 1.0, True, "1", [1, 2.0], [[1, 0.1], [5, 0.01]]]
    choice = Choice(options)
    assert json.dumps(choice.options) == json.dumps(options)
    assert [choice.index(option) for option in options] == list(range(6))
    assert not Choice([1]).contains(True) and not Choice([1]).contains(1.0)
    assert json.dumps(sorted({json.dumps(value) for value in draws(choice)})) == json.dumps(
        sorted(json.dumps(value) for value in options)
    )


def test_lists_come_out_fresh():
    schedule = [[1, 0.1], [5, 0.01]]
    space = Space.parse({"a": Choice([schedule]), "b": schedule})
    for config in (space.sample(random.Random(0)), next(space.grid()), next(space.enumerate())):
        # a trainable that changes its config changes nothing else
        config["a"][0].append("spoilt")
        config["b"].clear()
    schedule.clear()
    assert space.sample(random.Random(0)) == {"a": [[1, 0.1], [5, 0.01]], "b": [[1, 0.1], [5, 0.01]]}
    two = [config["b"] for config in Space.parse({"a": Int(1, 2), "b": [1]}).enumerate()]
    assert two[0] is not two[1]


def test_numpy_values_become_plain():
    space = Space.parse(
        {
            "a": Choice(np.array([0.1, 0.2])),
            "b": Choice([np.int64(3), np.bool_(True), np.str_("x")]),
            "c": np.arange(3),
            "d": Uniform(np.float32(0), np.int64(1), points=np.int64(3)),
            "e": Int(np.int64(1), np.int64(4)),
            "f": (1, 2),
        }
    )
    for seed in range(5):
        config = space.sample(random.Random(seed))
        assert all(type(value) in (bool, int, float, str, list) for value in config.values())
        assert config["c"] == [0, 1, 2] and config["f"] == [1, 2]
        assert space.contains(config)
    json.dumps(space.to_table())
    # a strategy may compute its latent values with numpy
    assert type(Uniform(0, 1).from_latent(np.float64(0.3))) is float
    assert type(Uniform(0, 1, step=0.1).from_latent(np.float64(0.31))) is float
    assert type(Int(0, 9).from_latent(np.float64(3.3))) is int


def test_weights_decide_how_often_an_option_is_drawn():
    counts = Counter(draws(Choice(["a", "b", "c"], weights=[3, 1, 0]), 2000))
    assert 1400 < counts["a"] < 1600 and counts["c"] == 0
    # weight 0 is still a value that a grid tries and a list of points may name
    assert Choice(["a", "b"], weights=[1, 0]).grid() == ["a", "b"]
    assert Choice(["a", "b"], weights=[1, 0]).contains("b")


# --- spaces ---


def test_a_toml_space_with_branches():
    space = toml_space(OPTIMIZER)
    config = space.sample(random.Random(1))
    assert list(config)[:2] == ["optimizer", "learning_rate"]
    assert space.names() == ["optimizer", "learning_rate", "momentum", "amsgrad", "epsilon"]
    assert [leaf.label for leaf in space.leaves()] == [
        "optimizer",
        "optimizer=sgd/learning_rate",
        "optimizer=sgd/momentum",
        "optimizer=adam/learning_rate",
        "optimizer=adam/amsgrad",
        "optimizer=adam/amsgrad=true/epsilon",
    ]
    assert space.leaves()[-1].conditions == (("optimizer", 1), ("optimizer=adam/amsgrad", 0))
    assert space.size() is None
    # sgd: 4 x 3; adam: 2 x (true: 2 + false: 1)
    assert space.grid_size() == len(list(space.grid())) == 18
    assert next(space.grid()) == {"optimizer": "sgd", "learning_rate": 0.001, "momentum": 0.5}


def test_python_and_toml_write_the_same_space():
    assert toml_space(OPTIMIZER) == Space.parse(
        {
            "optimizer": Choice(
                ["sgd", "adam"],
                weights=[3, 1],
                when={
                    "sgd": {
                        "learning_rate": LogUniform(1e-3, 1, points=4),
                        "momentum": Uniform(0.5, 0.9, step=0.1, points=3),
                    },
                    "adam": {
                        "learning_rate": {"loguniform": [1e-5, 1e-2], "points": 2},
                        "amsgrad": Choice([True, False], when={True: {"epsilon": Choice([1e-8, 1e-4])}}),
                    },
                },
            )
        }
    )


def test_branches_of_numbers_booleans_and_strings_that_look_like_them():
    choice = Choice([3, "3", 0.001, True, "true", [1, 2]], when={3: {"a": 1}, '"3"': {"b": 1}, "1e-3": {"c": 1}})
    assert [bool(branch) for branch in choice.branches] == [True, True, True, False, False, False]
    assert list(choice.to_table()["when"]) == ["3", '"3"', "0.001"]
    assert Choice([True, 2], when={"true": {"a": 1}, "2": {"b": 1}}) == Choice(
        [True, 2], when={True: {"a": 1}, 2: {"b": 1}}
    )
    assert Choice([[1, 2]], when={(1, 2): {"a": 1}}) == Choice([[1, 2]], when={"[1, 2]": {"a": 1}})


@moderate
@given(spaces(), st.integers(0, 2**32))
def test_any_space_contains_its_samples(space, seed):
    config = space.sample(random.Random(seed))
    assert space.explain(config) == []
    assert space.contains(config)
    assert list(config) == [leaf.name for leaf in space.active(config)]
    assert json.dumps(space.conform(config)) == json.dumps(config)
    # as recorded in a journal and read back
    assert space.contains(json.loads(json.dumps(config)))
    assert space.sample(random.Random(seed)) == config


@moderate
@given(spaces())
def test_any_space_survives_json_and_its_labels_are_unique(space):
    assert Space.parse(json.loads(json.dumps(space.to_table()))) == space
    assert pickle.loads(pickle.dumps(space)) == space
    hash(space)
    labels = [leaf.label for leaf in space.leaves()]
    assert len(set(labels)) == len(labels)


@moderate
@given(spaces())
def test_any_space_survives_toml(space):
    assert Space.parse(tomllib.loads(tomli_w.dumps(space.to_table()))) == space


@moderate
@given(spaces(domain=ranges(countable=True, with_points=True), depth=1))
def test_size_is_the_number_of_distinct_configs(space):
    size, limit = space.size(), 3000
    seen = set()
    for config, _ in zip(space.enumerate(), range(limit), strict=False):
        assert space.contains(config)
        seen.add(json.dumps(config))
    assert len(seen) == min(size, limit)


@moderate
@given(spaces(domain=ranges(with_points=True), depth=1))
def test_grid_size_is_the_number_of_grid_configs(space):
    seen = [json.dumps(config) for config, _ in zip(space.grid(), range(2000), strict=False)]
    assert len(set(seen)) == len(seen) == min(space.grid_size(), 2000)
    assert all(space.contains(json.loads(text)) for text in seen[:50])


def test_fixed_values_come_first_as_they_do_in_a_file():
    space = Space.parse({"a": Int(1, 2), "b": 3, "c": Choice([1], when={1: {"d": Int(1, 2), "e": 5}})})
    assert space.names() == ["b", "a", "c", "e", "d"]


def test_an_empty_space_has_one_empty_config():
    space = Space.parse({})
    assert (space.sample(random.Random(0)), list(space.grid()), space.size()) == ({}, [{}], 1)


def test_grids_of_any_size_are_lazy():
    space = Space.parse({f"p{k}": Int(1, 100, points=100) for k in range(12)})
    assert space.grid_size() == space.size() == 10**24
    assert next(space.grid()) == next(space.enumerate()) == dict.fromkeys(space.names(), 1)
    with pytest.raises(ValueError, match="cannot be counted"):
        Space.parse({"a": Uniform(0, 1)}).enumerate()


def test_same_seed_same_samples_in_another_process():
    program = (
        "import json, random, sys; from tuner.space import Space, derive_seed\n"
        "space = Space.parse(json.loads(sys.argv[1]))\n"
        "rng = random.Random(derive_seed(7, 'random', 3))\n"
        "print(json.dumps([space.sample(rng) for _ in range(20)]))"
    )
    space = Space.parse(
        {
            **toml_space(OPTIMIZER).to_table(),
            "n": Normal(0, 1, bounds=(-1, 2)),
            "l": LogNormal(0, 1, step=0.1),
            "i": LogInt(1, 1000),
            "f": [1, 2],
        }
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(space.to_table())], capture_output=True, text=True, check=True
    )
    rng = random.Random(derive_seed(7, "random", 3))
    assert json.loads(done.stdout) == [space.sample(rng) for _ in range(20)]


def test_derived_seeds_are_pinned():
    # changing them would change every recorded sweep's next proposal
    assert derive_seed(0, "hyperopt", 1) == derive_seed(0, "hyperopt", 1)
    assert derive_seed(1, 23) != derive_seed(12, 3) != derive_seed("12", 3)
    assert all(0 <= derive_seed("x", k) < 2**63 for k in range(100))
    assert derive_seed(0, "random", 1) == 7402305762900126870


# --- configs from a person ---


def test_explain_names_every_mistake_of_a_config():
    space = Space.parse({**toml_space(OPTIMIZER).to_table(), "layers": Int(1, 4), "epochs": 5})
    config = {"optimizer": "sgd", "learning_rate": 3, "momentun": 0.5, "layers": 2.0, "epsilon": 1e-8, "epochs": 6}
    sentences = [problem.sentence("x") for problem in space.explain(config, "search.points[0]")]
    assert sentences == [
        "x: search.points[0].epochs: epochs must be 5, its fixed value, but got (epochs=6).",
        "x: search.points[0].learning_rate: learning_rate must be a number from 0.001 to 1.0,"
        " but got (learning_rate=3).",
        "x: search.points[0].momentum: momentum is missing. It must be a number from 0.5 to 0.9 in steps of 0.1.",
        "x: search.points[0].layers: layers must be an integer from 1 to 4, but got (layers=2.0).",
        'x: search.points[0].momentun: unknown name, but got (momentun). Did you mean "momentum"?',
        "x: search.points[0].epsilon: epsilon has no place with this config's choices."
        " Leave it out, or choose the option that it belongs to.",
    ]  # fmt: skip
    assert not space.contains(config)
    # where the choice itself is wrong, the names below it are not complained about
    assert [p.key for p in space.explain({"optimizer": "sdg", "momentum": 0.5, "layers": 1})] == ["optimizer"]


def test_conform_gives_a_config_the_form_of_a_sample():
    space = Space.parse({"m": Uniform(0, 1), "n": Int(1, 3), "c": Choice([[1, 2]]), "epochs": 5})
    point = {"c": (1, 2), "n": np.int64(2), "m": 0}
    assert space.explain(point) == [] and not space.contains(point)
    assert json.dumps(space.conform(point)) == '{"epochs": 5, "m": 0.0, "n": 2, "c": [1, 2]}'
    assert Space.parse({"n": Normal(0, 1, step=0.1)}).conform({"n": 0.1 + 0.2}) == {"n": 0.3}


# --- mistakes in a written space ---


def test_every_mistake_of_a_file_in_one_error():
    text = """
    [space]
    lr = { unifrom = [0, 1] }
    dropout = { uniform = [0.5, 0.1], pionts = 3 }
    width = { int = [16] , step = 0 }
    both = { int = [1, 2], uniform = [1, 2] }
    momentum = { normal = [0, 1], points = 3 }
    "two words" = 1
    empty = {}
    day = 2024-01-01
    group = { a = { uniform = [0, 1] } }
    [space.activation]
    choice = []
    [space.optimizer]
    choice = ["sgd", "adam"]
    wieghts = [1, 2]
    [space.optimizer.when.sdg]
    x = { uniform = [1, 0] }
    [space.optimizer.when.sgd]
    learning_rate = { loguniform = [0, 1] }
    [space.optimizer.when.adam.amsgrad]
    choice = [true, false]
    when.true.epsilon = { uniform = [0, 1], step = 0.3 }
    """
    problems = {(p.key, p.remedy) for p in problems_of(toml_space, text)}
    assert problems == {
        ("space.lr", 'Did you mean "uniform"?'),
        ("space.dropout", "Swap the two numbers."),
        ("space.dropout.pionts", 'Did you mean "points"?'),
        ("space.width", ""),
        ("space.width.step", "Leave it out for a continuous range."),
        ("space.both", "Keep one of them."),
        ("space.momentum.points", "Valid: step, bounds."),
        ("space", ""),
        ("space.empty", "Valid: uniform, loguniform, int, logint, normal, lognormal, choice."),
        ("space.day", ""),
        ("space.group", "A config is flat: move these names one table up, or under `when` of a choice."),
        ("space.activation", ""),
        ("space.optimizer.wieghts", 'Did you mean "weights"?'),
        ("space.optimizer.when.sdg", 'Did you mean "sgd"?'),
        ("space.optimizer.when.sdg.x", "Swap the two numbers."),
        ("space.optimizer.when.sgd.learning_rate", "Start at a small number such as 1e-6, or use uniform."),
        ("space.optimizer.when.adam.amsgrad.when.true.epsilon.step", "Write high = 0.9, or another step."),
    }


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ({"x": 1, "c": Choice([1], when={1: {"x": 2}})}, ["space.c.when.1.x"]),
        ({"c": Choice([1], when={1: {"x": 2}}), "x": 1}, ["space.x"]),
        ({"c": Choice([1], when={1: {"c": 2}})}, ["space.c.when.1.c"]),
        (
            {"c": Choice(["a", "b"], when={"a": {"x": 1}}), "d": Choice([1], when={1: {"x": 1}})},
            ["space.d.when.1.x"],
        ),
        (
            {"c": {"choice": [1], "when": {"1": {"x": 1, "d": {"choice": [2], "when": {"2": {"x": 1}}}}}}},
            ["space.c.when.1.d.when.2.x"],
        ),
    ],
)
def test_a_name_twice_on_one_path_is_refused(table, keys):
    assert [problem.key for problem in problems_of(Space.parse, table)] == keys


def test_a_name_in_two_branches_is_one_column():
    assert Space.parse({"c": Choice([1, 2], when={1: {"x": 2}, 2: {"x": Int(1, 2)}})}).names() == ["c", "x"]


@pytest.mark.parametrize(
    ("table", "key", "rule"),
    [
        (3, "space", "a space must be a table of names"),
        ({1: 2}, "space", "a name must be made of"),
        ({"": 2}, "space", "a name must be made of"),
        ({"a/b": 2}, "space", "a name must be made of"),
        ({"a": None}, "space.a", "a value must be"),
        ({"a": {"uniform": 3}}, "space.a", "uniform must be two numbers, [low, high]"),
        ({"a": {"normal": [1]}}, "space.a", "normal must be two numbers, [mu, sigma]"),
        ({"a": {"choice": [1], "when": 3}}, "space.a.when", "when must be a table"),
        ({"a": {"choice": [1], "when": {"1": 3}}}, "space.a.when.1", "a space must be a table of names"),
        ({"a": {"choice": {"b": 1}}}, "space.a", "a choice must be a list"),
        ({"a": {"choice": [1], "points": 2}}, "space.a.points", "unknown key of choice"),
        ({"a": Space.parse({})}, "space.a", "a value must be"),
    ],
)
def test_a_wrong_table_is_refused(table, key, rule):
    (problem,) = problems_of(Space.parse, table)
    assert problem.key == key
    assert problem.rule.startswith(rule)


# --- ray.tune ---


def test_ray_tune_domains_are_read_with_ray_s_own_ends():
    from ray import tune

    written = {
        "a": (tune.uniform(0, 1), Uniform(0, 1)),
        "b": (tune.loguniform(1e-4, 1), LogUniform(1e-4, 1)),
        "c": (tune.randint(1, 5), Int(1, 4)),
        "d": (tune.lograndint(1, 10), LogInt(1, 9)),
        "e": (tune.quniform(0, 1, 0.1), Uniform(0, 1, step=0.1)),
        "g": (tune.qloguniform(1e-3, 1, 1e-3), LogUniform(1e-3, 1, step=1e-3)),
        "h": (tune.qrandint(2, 10, 2), Int(2, 10, step=2)),
        "i": (tune.qrandint(1, 10, 1), Int(1, 9)),
        "j": (tune.qlograndint(1, 10, 2), LogInt(2, 10, step=2)),
        "k": (tune.randn(1, 2), Normal(1, 2)),
        "l": (tune.qrandn(0, 1, 0.5), Normal(0, 1, step=0.5)),
        "m": (tune.choice(np.array([0.1, 0.2])), Choice([0.1, 0.2])),
        "n": (tune.choice([[1, 2], (3, 4)]), Choice([[1, 2], [3, 4]])),
        "o": (tune.grid_search([1, True]), Choice([1, True])),
        "p": (64, Fixed(64)),
    }
    space = Space.parse({name: theirs for name, (theirs, _) in written.items()})
    assert space == Space.parse({name: ours for name, (_, ours) in written.items()})
    # what Ray draws, the space holds
    np.random.seed(0)
    for name, (theirs, ours) in written.items():
        if hasattr(theirs, "sample"):
            assert all(ours.contains(theirs.sample()) for _ in range(20)), name


def test_ray_tune_domains_that_cannot_be_written_are_refused():
    from ray import tune

    problems = problems_of(
        Space.parse,
        {
            "a": tune.sample_from(lambda spec: 1),
            "b": tune.uniform(5, 1),
            "c": tune.choice([{"name": "sgd", "lr": tune.uniform(0, 1)}]),
            "d": tune.choice([tune.uniform(0, 1)]),
            "e": tune.randint(3, 4),
        },
    )
    assert [(p.key, p.remedy) for p in problems] == [
        ("space.a", "Use a domain or a choice, and compute in the trainable what depends on it."),
        ("space.b", "Swap the two numbers."),
        ("space.c", "A config is flat: put the parts of an option under `when`."),
        ("space.d", "A domain stands alone behind its name, or under `when` of a choice."),
        ("space.e", "Write the bare value 3 to keep it fixed."),
    ]


def test_ray_tune_domains_may_stand_in_branches():
    from ray import tune

    space = Space.parse({"o": Choice(["sgd"], when={"sgd": {"lr": tune.loguniform(1e-4, 1)}})})
    assert space.leaves()[1].domain == LogUniform(1e-4, 1)


def test_the_package_imports_neither_ray_nor_numpy():
    program = "import sys, tuner.space; print([m for m in ('ray', 'numpy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_numeric_domains_are_frozen():
    with pytest.raises(AttributeError):
        Uniform(0, 1).low = 3
    assert isinstance(Uniform(0, 1), Numeric)
