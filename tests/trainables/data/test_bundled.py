"""The sets that come with scikit-learn, and what holds for every set."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainables import data
from tuner.errors import DataError
from tuner.trainable import DataInfo

ROOT = Path(__file__).parents[3]
BUNDLED = ["digits", "breast_cancer", "wine", "diabetes"]


def rows(x: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in x}


def reachable_arrays(start: object) -> list[np.ndarray]:
    """Return every array that can be reached from an object, but for modules and classes."""
    found, queue, seen = [], [start], {id(start)}
    while queue:
        thing = queue.pop()
        if isinstance(thing, np.ndarray):
            found.append(thing)
        for other in gc.get_referents(thing):
            if id(other) not in seen and not isinstance(other, (type, type(sys))):
                seen.add(id(other))
                queue.append(other)
    return found


@pytest.mark.parametrize("name", BUNDLED)
def test_info_without_reading_says_what_load_gives(name):
    for options in ({"name": name}, {"name": name, "limit": 101, "val_fraction": 0.3}):
        loaded = data.load(options, seed=3)
        info = data.info(options)
        assert info == DataInfo(info.name, info.task, info.shape, info.classes, info.n_train, info.n_val)
        for key in ("name", "task", "shape", "classes", "n_train", "n_val"):
            assert getattr(info, key) == getattr(loaded, key), key
        assert loaded.train.x.shape == (loaded.n_train, *loaded.shape)
        assert loaded.val.x.shape == (loaded.n_val, *loaded.shape)


@pytest.mark.parametrize("name", BUNDLED)
def test_arrays_are_what_a_trainable_is_promised(name):
    loaded = data.load({"name": name}, seed=0)
    for split in (loaded.train, loaded.val, data.load_test({"name": name}, seed=0)):
        assert split.x.flags.c_contiguous and not split.x.flags.writeable and not split.y.flags.writeable
        assert split.x.base is None and split.y.base is None
        assert split.x.dtype == (np.uint8 if name == "digits" else np.float32)
        assert split.y.dtype == (np.float32 if name == "diabetes" else np.int64)
        assert split.y.shape == (len(split.x),)
    assert json.loads(json.dumps(loaded.preprocess)) == loaded.preprocess


@pytest.mark.parametrize("name", BUNDLED)
def test_same_seed_same_data(name):
    first, second = (data.load({"name": name}, seed=11) for _ in range(2))
    assert np.array_equal(first.train.x, second.train.x) and np.array_equal(first.val.y, second.val.y)
    assert first.preprocess == second.preprocess
    assert not np.array_equal(first.val.x, data.load({"name": name}, seed=12).val.x)


@pytest.mark.parametrize("name", BUNDLED)
def test_no_test_row_can_be_reached_from_what_load_gives(name):
    loaded = data.load({"name": name}, seed=0)
    total = data.bundled.KNOWN[name][1].values()
    arrays = reachable_arrays(loaded)
    # Four arrays, of train's and val's rows and no more: nothing leads to the whole set.
    assert sorted(map(len, arrays)) == sorted([loaded.n_train, loaded.n_val] * 2)
    sealed = data.load_test({"name": name}, seed=0)
    assert len(sealed) + loaded.n_train + loaded.n_val == sum(total)
    assert not rows(sealed.x) & (rows(loaded.train.x) | rows(loaded.val.x))


def test_digits_are_the_published_images_over_the_full_grey_range():
    from sklearn.datasets import load_digits

    options = {"name": "digits"}
    loaded, sealed = data.load(options, seed=0), data.load_test(options, seed=0)
    everything = rows(np.concatenate([loaded.train.x, loaded.val.x, sealed.x]))
    expected = np.rint(load_digits().images / 16 * 255).astype(np.uint8)
    assert everything == rows(expected) and loaded.train.x.max() == 255


def test_images_are_normalised_by_the_training_split_alone():
    loaded = data.load({"name": "digits"}, seed=0)
    assert loaded.preprocess["mean"] == pytest.approx([(loaded.train.x / 255).mean()], abs=1e-12)
    assert loaded.preprocess["std"] == pytest.approx([(loaded.train.x / 255).std()], abs=1e-12)


def test_a_flat_channel_does_not_divide_by_zero():
    black = np.zeros((5, 2, 3, 3), np.uint8)
    assert data.pictures.channel_statistics(black) == ([0.0, 0.0], [1.0, 1.0])


def test_image_size_resizes():
    loaded = data.load({"name": "digits", "image_size": 12, "limit": 50}, seed=0)
    assert loaded.shape == (1, 12, 12) and loaded.train.x.shape == (30, 1, 12, 12)
    assert data.info({"name": "digits", "image_size": 12}).shape == (1, 12, 12)
    assert data.load_test({"name": "digits", "image_size": 12, "limit": 50}, seed=0).x.shape == (
        10,
        1,
        12,
        12,
    )


def test_shrinking_averages_whole_areas():
    # Antialiasing: a checkerboard of black and white pixels becomes grey, not black or white.
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[None, None]
    small = data.pictures.resized(board, 8)
    assert small.shape == (1, 1, 8, 8) and abs(small.astype(int) - 128).max() <= 2


def test_regression_targets_keep_their_units():
    loaded = data.load({"name": "diabetes"}, seed=0)
    assert loaded.outputs == 1 and loaded.train.y.min() >= 25 and loaded.train.y.max() <= 346
    assert loaded.preprocess["target_mean"] == pytest.approx(loaded.train.y.mean(), rel=1e-5)
    assert loaded.preprocess["target_std"] == pytest.approx(loaded.train.y.std(), rel=1e-5)


def test_a_fold_is_preprocessed_by_its_own_train_rows():
    options = {"name": "wine", "folds": 4}
    folds = [data.load(options, 0, fold) for fold in range(4)]
    assert sum(fold.n_val for fold in folds) == folds[0].n_train + folds[0].n_val == 142
    for fold in folds:
        assert abs(fold.train.x.mean(0)).max() < 1e-5
    assert len({fold.preprocess["columns"][0]["mean"] for fold in folds}) == 4


def test_whole_puts_everything_but_test_into_train():
    options = {"name": "wine"}
    merged, apart = data.load(options, 0, whole=True), data.load(options, 0)
    assert merged.val is None and merged.n_val == 0
    assert merged.n_train == len(merged.train) == apart.n_train + apart.n_val
    assert merged.preprocess["columns"] != apart.preprocess["columns"]


def test_the_test_split_is_encoded_as_the_model_was_trained():
    options = {"name": "wine"}
    final = data.load(options, 0, whole=True).preprocess
    as_final, as_searched = data.load_test(options, 0, final), data.load_test(options, 0)
    assert np.array_equal(as_final.y, as_searched.y)
    assert not np.array_equal(as_final.x, as_searched.x)


def test_without_a_test_split_there_is_nothing_to_open():
    with pytest.raises(DataError, match="there is no test split, for test_fraction is 0"):
        data.load_test({"name": "wine", "test_fraction": 0.0}, 0)


@pytest.mark.parametrize("call", [data.info, lambda options: data.load(options, 0)])
def test_an_unknown_set_is_an_error_with_the_nearest_name(call):
    with pytest.raises(DataError, match=r'data\.name: must name a data set.*Did you mean "cifar10"'):
        call({"name": "cifar_10"})


def test_names_are_those_of_the_design():
    assert set(data.NAMES) == {*BUNDLED, "mnist", "fashion_mnist", "cifar10", "cifar100", "images", "table"}


def test_asking_what_digits_are_imports_nothing_slow():
    code = (
        "import sys; from trainables import data; data.info({'name': 'digits'});"
        "print(sorted({'torch', 'torchvision', 'sklearn', 'pandas', 'ray', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
