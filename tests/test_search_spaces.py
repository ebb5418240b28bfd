"""Every file of search_spaces/ opens as it should, plans, and runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from trainables.parameters import DEFAULTS
from tuner.plan import make_plan
from tuner.run import run
from tuner.spec import load_sweep

FOLDER = Path(__file__).parents[1] / "search_spaces"

# file -> strategy, data set, trials, epochs of all trials at most
SPACES = {
    "cnn_activations": ("grid", "digits", 18, 180),
    "cnn_cats_vs_dogs": ("auto", "images", 20, 300),
    "cnn_cifar10": ("auto", "cifar10", 30, 600),
    "cnn_digits": ("hyperopt", "digits", 24, 240),
    "cnn_fashion_mnist": ("auto", "fashion_mnist", 16, 80),
    "cnn_grid": ("grid", "digits", 9, 90),
    "cnn_mnist": ("auto", "mnist", 16, 128),
    "learning_rate_only": ("one_at_a_time", "digits", 12, 60),
    "mlp_diabetes": ("auto", "diabetes", 24, 720),
    "mlp_housing": ("auto", "table", 24, 480),
    "mlp_titanic": ("auto", "table", 30, 900),
    "optimizers": ("auto", "digits", 32, 320),
    "resnet_cifar10": ("auto", "cifar10", 24, 720),
}
BUNDLED = [name for name, (_, data, *_) in SPACES.items() if data in ("digits", "diabetes")]

TITANIC = "PassengerId,Survived,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked"
HOUSING = (
    "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,median_income,"
    "median_house_value,ocean_proximity"
)


def load(name, *overrides):
    return load_sweep(FOLDER / f"{name}.toml", overrides)


def planned(name, *overrides):
    """Return the plan on two cores; without the memory estimate, which depends on the machine."""
    return make_plan(load(name, *overrides), cpus=2, gpus=0, memory=False)


def opening(name):
    """Return the lines of the comment that a file begins with."""
    lines = (FOLDER / f"{name}.toml").read_text().splitlines()
    return [line.removeprefix("#").strip() for line in lines[: lines.index("")]]


def test_no_file_is_missing_and_none_is_unknown():
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(SPACES)
    assert len(SPACES) == 13


@pytest.mark.parametrize("name", SPACES)
def test_opens_with_what_it_is_what_it_costs_and_the_command(name):
    lines = opening(name)
    assert len(lines[0]) > 30
    # The cost counts what the sweep will train, so that it can be held against the plan.
    (cost,) = [line for line in lines if line.startswith("Cost: ")]
    assert cost.startswith(f"Cost: {SPACES[name][2]} trials of ")
    assert f"{load(name).max_epochs} epochs x " in cost
    # The command is the last line, and names this very file.
    assert lines[-1].split(" --set ")[0] == f"tuner run search_spaces/{name}.toml"


@pytest.mark.parametrize("name", SPACES)
def test_plans_without_a_warning_but_that_data_is_missing(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNER_DATA", str(tmp_path))
    plan = planned(name)
    assert (plan.strategy, plan.sweep.data.name, plan.trials, plan.epochs) == SPACES[name]
    assert plan.sweep.name == name
    # A warning tells where its data belongs, and there is no other one.
    assert all(warning.startswith(("data.root: ", "data.path: ")) for warning in plan.warnings)
    assert bool(plan.warnings) == (plan.data_problem is not None)
    if name in BUNDLED:
        assert plan.warnings == ()


def test_the_first_trial_is_the_baseline():
    for name in ("cnn_digits", "cnn_mnist", "cnn_fashion_mnist", "cnn_cifar10", "mlp_titanic", "optimizers"):
        sweep = load(name)
        first = sweep.search.points[0]
        # Every searched parameter is there, with its default.
        assert first == {leaf: DEFAULTS[sweep.trainable][leaf] for leaf in first}
        assert sweep.space.contains(first)


def test_the_grid_is_three_rates_by_three_batch_sizes():
    pairs = [(rate, size) for rate in (0.001, 0.01, 0.1) for size in (16, 32, 64)]
    assert list(planned("cnn_grid").configs) == [{"learning_rate": rate, "batch_size": size} for rate, size in pairs]


def test_the_learning_rate_goes_from_1e_5_to_1():
    rates = [config["learning_rate"] for config in planned("learning_rate_only").configs]
    assert rates[0] == 0.05
    assert (min(rates), max(rates)) == (1e-5, 1.0)


@pytest.mark.parametrize("name", BUNDLED)
def test_runs(name, tmp_path):
    small = ("search.trials=2", "search.repeats=1", "sweep.max_epochs=1", "data.limit=120")
    results = run(load(name, *small), storage=tmp_path, backend="inline")
    assert results.counts() == {"completed": 2}


# -- files that need a download, with tiny stand-ins in the genuine form -----------------------------------------------


def titanic(path):
    rows = (
        f'{i},{i % 2},{1 + i % 3},"Doe, {i}",{("female", "male")[i % 2]},{"" if i % 5 == 0 else 20 + i},0,1,'
        f"A{i},{7 + i},,{'SCQ'[i % 3]}"
        for i in range(60)
    )
    path.write_text("\n".join([TITANIC, *rows]))
    return path


def housing(path):
    rows = (
        f"-122.2,37.8,{40 + i % 7},{800 + i},{'' if i % 9 == 0 else 120 + i},300,100,{2 + i % 5},{90000 + 500 * i},"
        f"{('INLAND', 'NEAR BAY')[i % 2]}"
        for i in range(60)
    )
    path.write_text("\n".join([HOUSING, *rows]))
    return path


def cats_and_dogs(folder):
    for kind in ("cats", "dogs"):
        (folder / kind).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (70 + number, 60), (9 * number, 80, 120)).save(folder / kind / f"{number}.jpg")
    return folder


@pytest.mark.parametrize(
    ("name", "make", "shape"),
    [
        ("mlp_titanic", titanic, None),
        ("mlp_housing", housing, None),
        ("cnn_cats_vs_dogs", cats_and_dogs, (3, 64, 64)),
    ],
)
def test_the_columns_and_folders_are_those_of_the_public_files(name, make, shape, tmp_path):
    here = f"data.path={make(tmp_path / 'data.csv')}"
    plan = planned(name, here)
    assert plan.warnings == ()
    assert shape in (None, plan.data.shape)
    results = run(load(name, here, "search.trials=1", "sweep.max_epochs=1"), storage=tmp_path, backend="inline")
    assert results.counts() == {"completed": 1}
