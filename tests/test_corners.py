"""The corners of a space: counted, listed, drawn."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.corners import Corners, distinct, ends
from tuner.space import Choice, Int, LogUniform, Normal, Space, Uniform

SPACE = Space.parse(
    {
        "filters": Int(4, 64),
        "learning_rate": LogUniform(1e-4, 1.0),
        "head": Choice(["dense", "mean"], when={"dense": {"units": Int(8, 512), "dropout": Uniform(0.0, 0.5)}}),
        "optimizer": Choice(["sgd", "adam"], when={"sgd": {"momentum": Uniform(0.0, 0.9)}}),
        "classes": 10,
    }
)
SHAPE = ("filters", "units")


def test_ends_are_a_range_s_own_and_all_options():
    assert ends(Int(3, 9)) == [3, 9]
    assert ends(Uniform(0.0, 1.0, step=0.25)) == [0.0, 1.0]
    assert ends(Choice(["a", "b", "c"])) == ["a", "b", "c"]
    assert ends(Normal(0.0, 1.0, bounds=(-1.0, 2.0))) == [-1.0, 2.0]
    low, high = ends(Normal(5.0, 1.0))
    assert 1.5 < low < 2.5 < 7.5 < high < 8.5


def test_only_the_named_parameters_leave_their_baseline():
    baseline = {"learning_rate": 0.1, "optimizer": "adam", "dropout": 0.25, "filters": 32}
    corners = list(Corners(SPACE, SHAPE, baseline).all())
    # A choice with a named parameter below one of its options is taken to each of them.
    assert [(c["filters"], c["head"], c.get("units")) for c in corners] == [
        (filters, head, units) for filters in (4, 64) for head, units in (("dense", 8), ("dense", 512), ("mean", None))
    ]
    assert {c["learning_rate"] for c in corners} == {0.1}
    assert {c["optimizer"] for c in corners} == {"adam"}
    assert {c.get("dropout") for c in corners} == {0.25, None}


def test_without_names_everything_is_taken_to_its_ends():
    corners = Corners(SPACE, None, {})
    # filters 2 x learning_rate 2 x (dense: units 2 x dropout 2, mean) 5 x (sgd: momentum 2, adam) 3
    assert corners.count() == 2 * 2 * 5 * 3 == len(distinct(corners.all(), None))


def test_a_value_outside_the_space_is_no_baseline():
    corners = Corners(SPACE, SHAPE, {"learning_rate": 7.0, "optimizer": "lion"})
    first = next(corners.all())
    assert (first["learning_rate"], first["optimizer"]) == (1e-4, "sgd")


def test_every_corner_is_a_config_of_the_space():
    assert all(SPACE.contains(config) for config in Corners(SPACE, None, {}).all())


def test_a_draw_holds_the_lowest_and_the_highest_and_depends_on_the_seed_alone():
    space = Space.parse({f"p{i}": Int(1, 9) for i in range(40)})
    corners = Corners(space, None, {})
    assert corners.count() == 2**40
    drawn = corners.some(100, seed=1)
    assert len(drawn) == 100 == len(distinct(drawn, None))
    assert set(drawn[0].values()) == {1}
    assert set(drawn[1].values()) == {9}
    assert drawn == corners.some(100, seed=1) != corners.some(100, seed=2)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(0, 10**6))
def test_counting_agrees_with_listing_in_random_spaces(seed):
    corners = Corners(_random_space(random.Random(seed), depth=2), None, {})
    assert corners.count() == len(list(corners.all()))
    assert len(corners.some(5, seed)) <= min(5, corners.count())


def _random_space(rng, depth, prefix="p"):
    """Return a space of up to three parameters, some with branches."""
    table = {}
    for i in range(rng.randint(1, 3)):
        name = f"{prefix}{i}"
        if depth and rng.random() < 0.5:
            branch = {"b": _random_space(rng, depth - 1, f"{name}_")}
            table[name] = Choice(["a", "b"], when={k: dict(v.entries) for k, v in branch.items()})
        else:
            table[name] = rng.choice([Int(1, 3), Uniform(0.0, 1.0), Choice([1, 2, 3])])
    return Space.parse(table)
