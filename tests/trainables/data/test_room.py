"""Images that do not fit into memory: decoded once into a file, and read from there as if they were in memory."""

from __future__ import annotations

import errno
import pickle

import numpy as np
import pytest
from PIL import Image

from trainables import data
from trainables.data import room
from tuner.errors import DataError


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for number in range(12):
            picture = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "images" / kind / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """No memory is left, and this folder is where files go."""
    folder = tmp_path / "disk"
    folder.mkdir()
    monkeypatch.setattr(room, "SHARE", 0.0)
    monkeypatch.setattr(room.tempfile, "tempdir", str(folder))
    return folder


def loaded(tree, **more):
    return data.load({"name": "images", "path": str(tree), "image_size": 8, **more}, seed=0)


def test_what_lies_in_a_file_is_what_would_be_in_memory(tree, monkeypatch, disk):
    there = loaded(tree)
    monkeypatch.setattr(room, "SHARE", 1.0)
    here = loaded(tree)
    for split in ("train", "val"):
        far, near = getattr(there, split), getattr(here, split)
        assert room.lies_in_a_file(far.x) and not room.lies_in_a_file(near.x)
        assert np.array_equal(far.x, near.x) and np.array_equal(far.y, near.y)
        assert not far.x.flags.writeable and type(far.x) is np.ndarray
    assert there.preprocess == here.preprocess


def test_the_file_has_no_name_and_is_kept_by_nobody(tree, disk):
    split = loaded(tree).train
    assert list(disk.iterdir()) == []
    copy = pickle.loads(pickle.dumps(split.x))
    assert np.array_equal(copy, split.x) and not room.lies_in_a_file(copy)


def test_unreadable_images_are_skipped_there_too(tree, disk, monkeypatch):
    (tree / "cats" / "3.png").write_bytes(b"no image")
    there = loaded(tree, on_corrupt="skip", test_fraction=0)
    monkeypatch.setattr(room, "SHARE", 1.0)
    here = loaded(tree, on_corrupt="skip", test_fraction=0)
    assert there.preprocess["skipped"] == here.preprocess["skipped"] == ["cats/3.png"]
    for split in ("train", "val"):
        assert np.array_equal(getattr(there, split).x, getattr(here, split).x)
        assert np.array_equal(getattr(there, split).y, getattr(here, split).y)


def test_a_full_disk_is_told_in_a_sentence_before_an_image_is_decoded(tree, disk, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(room.os, "posix_fallocate", full)
    with pytest.raises(
        DataError, match=r"images take 0\.0 GB: .* free under .*disk\. Make them smaller \(data\.image_si"
    ):
        loaded(tree)
    assert list(disk.iterdir()) == []


def test_what_fits_into_half_of_the_memory_stays_in_memory():
    assert not room.lies_in_a_file(room.room_for((3, 4)))
