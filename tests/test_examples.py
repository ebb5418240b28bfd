"""docs/examples/: every file loads and plans, and the functions train."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.alone import Alone
from trainables.data import load
from tuner.plan import make_plan
from tuner.run import run
from tuner.spec import load_sweep

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"

# file -> strategy, trials at most
SWEEPS = {
    "conditional": ("auto", 20),
    "finetune": ("auto", 12),
    "grid": ("grid", 9),
    "own_function": ("auto", 20),
    "own_images": ("auto", 20),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve photographs a class: noise on a red ground, and on a blue one."""
    folder, noise = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, ground in (("cats", (200, 60, 40)), ("dogs", (40, 60, 200))):
        (folder / name).mkdir()
        for number in range(12):
            pixels = np.clip(noise.normal(ground, 40, (40, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg")
    return folder


@pytest.fixture
def one_thread():
    """Bit-identical results are promised with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def finetune():
    """Return the module of the example, which no package holds."""
    spec = importlib.util.spec_from_file_location("finetune", EXAMPLES / "finetune.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_these_are_all_sweeps():
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(SWEEPS)


@pytest.mark.parametrize("name", SWEEPS)
def test_plans_without_a_warning(name, photos):
    path = EXAMPLES / f"{name}.toml"
    on_photos = [f"data.path={photos}"] if name in ("own_images", "finetune") else []
    plan = make_plan(load_sweep(path, on_photos), cpus=2, gpus=0, memory=False)
    assert (plan.strategy, plan.trials) == SWEEPS[name]
    assert plan.warnings == ()
    # Each opens with the command that runs it.
    assert f"tuner run docs/examples/{name}.toml" in path.read_text().split("\n\n")[0]


def test_own_images_trains(photos, tmp_path):
    small = [f"data.path={photos}", "data.image_size=16", "search.trials=1", "sweep.max_epochs=1"]
    results = run(load_sweep(EXAMPLES / "own_images.toml", small), storage=tmp_path, backend="inline")
    assert results.counts() == {"completed": 1}


def test_own_function_finds_a_rate_that_reaches_the_target(tmp_path):
    sweep = load_sweep(EXAMPLES / "own_function.toml", ["search.trials=8"])
    results = run(sweep, storage=tmp_path, backend="inline")
    assert results.counts() == {"completed": 8}
    assert results.best().value < 1e-3


def test_finetune_trains_the_last_layer_and_all_of_them(photos, tmp_path):
    points = "[{ freeze = true, learning_rate = 1e-2 }, { freeze = false, learning_rate = 1e-3 }]"
    small = [f"data.path={photos}", "data.image_size=64", "sweep.max_epochs=1", "space.weights=none"]
    manual = ["space.batch_size=16", "search.strategy=manual", f"search.points={points}"]
    sweep = load_sweep(EXAMPLES / "finetune.toml", [*small, *manual])
    results = run(sweep, storage=tmp_path, backend="inline")
    assert results.trials["status"].tolist() == ["completed", "completed"], results.trials["error"].tolist()
    # The model of the best epoch is a ResNet-18 for two classes, as weights that load without pickle.
    model = torch.load(results.folder / "best" / "model.pt", weights_only=True)
    assert model["fc.weight"].shape == (2, 512)


def test_a_resumed_finetuning_is_the_same_trial(photos, one_thread):
    config = {"learning_rate": 1e-2, "batch_size": 4, "freeze": True, "weights": "none"}
    data = load({"name": "images", "path": str(photos), "image_size": 32}, seed=0)
    torch.manual_seed(0)
    whole = Alone(data, max_epochs=2)
    finetune().train(config, whole)
    # From the first epoch's checkpoint, another process's random numbers make no difference.
    torch.manual_seed(1)
    resumed = whole.resumed(1)
    finetune().train(config, resumed)
    assert resumed.reports == whole.reports[1:]
