"""A folder of images, one folder a class: genuine JPEG, PNG, BMP and WebP files of any size and mode."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables import data
from trainables.data.images import fitted, open_rgb
from tuner.errors import DataError

FORMATS = ["a.jpg", "b.JPEG", "c.png", "d.bmp", "e.webp"]


def picture(seed: int, width: int = 20, height: int = 16) -> Image.Image:
    """Return an image of random colours, which are told from its seed."""
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8))


def fill(folder: Path, count: int, seed: int = 0, name: str = "{}.png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name.format(index) for index in range(count)]
    for index, path in enumerate(paths):
        # Every size is another: 12 to 31 pixels.
        picture(seed + index, 12 + index % 20, 31 - index % 20).save(path)
    return paths


def cats_and_dogs(root: Path, cats: int = 15, dogs: int = 10) -> Path:
    fill(root / "cats", cats)
    fill(root / "dogs", dogs, seed=1000)
    return root


def options(root: Path, **keys) -> dict:
    return {"name": "images", "path": str(root), "image_size": 8, **keys}


def rows(x: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in x}


def test_a_tree_is_split_by_class(tmp_path):
    cats_and_dogs(tmp_path)
    info, loaded = data.info(options(tmp_path)), data.load(options(tmp_path), seed=0)
    assert info.classes == loaded.classes == ("cats", "dogs") and info.shape == loaded.shape == (3, 8, 8)
    assert (info.n_train, info.n_val) == (loaded.n_train, loaded.n_val) == (15, 5)
    assert loaded.train.x.shape == (15, 3, 8, 8) and loaded.train.x.dtype == np.uint8
    assert np.bincount(loaded.train.y).tolist() == [9, 6] and np.bincount(loaded.val.y).tolist() == [3, 2]
    assert json.loads(json.dumps(loaded.preprocess)) == loaded.preprocess


def test_every_image_keeps_its_label_and_none_is_in_two_splits(tmp_path):
    cats_and_dogs(tmp_path)
    loaded, sealed = data.load(options(tmp_path), 0), data.load_test(options(tmp_path), 0)
    expected = {}
    for path in tmp_path.rglob("*.png"):
        pixels = np.asarray(fitted(open_rgb(path, 8), 8)).transpose(2, 0, 1)
        expected[pixels.tobytes()] = int(path.parent.name == "dogs")
    seen = {}
    for split in (loaded.train, loaded.val, sealed):
        seen |= {image.tobytes(): label for image, label in zip(split.x, split.y.tolist(), strict=True)}
    assert seen == expected and len(seen) == 25
    assert not rows(sealed.x) & (rows(loaded.train.x) | rows(loaded.val.x))


def test_the_size_without_image_size_is_64(tmp_path):
    cats_and_dogs(tmp_path)
    assert data.load(options(tmp_path, image_size=None), 0).train.x.shape[1:] == (3, 64, 64)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_and_either_case_of_its_suffix(tmp_path, name):
    smooth = picture(1, 3, 3).resize((40, 40), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / name)
    image = open_rgb(tmp_path / name, 40)
    # JPEG and WebP lose detail, hardly the colours of a smooth image.
    assert image.mode == "RGB" and abs(np.asarray(image, int) - np.asarray(smooth, int)).mean() < 6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb_without_changing_brightness(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    elif mode == "PA":
        image = Image.new("RGBA", (8, 8), "white").quantize()
    else:
        image = Image.new("RGB", (8, 8), "white").convert(mode)
    path = tmp_path / ("white.jpg" if mode == "CMYK" else "white.png")
    image.save(path)
    assert np.asarray(open_rgb(path, 8)).shape == (8, 8, 3)
    assert np.asarray(open_rgb(path, 8)).min() >= 254


def test_sixteen_bits_keep_their_greys(tmp_path):
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / "x.png")
    assert np.asarray(open_rgb(tmp_path / "x.png", 8))[0, :, 0].tolist() == [0, 100, 255]


def test_transparency_is_white(tmp_path):
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "x.png")
    assert np.asarray(open_rgb(tmp_path / "x.png", 4)).min() == 255


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was turned: the left side is the top.
    image.save(tmp_path / "x.jpg", exif=exif)
    pixels = np.asarray(open_rgb(tmp_path / "x.jpg", 16))
    assert pixels.shape == (32, 16, 3) and pixels[:12].mean() > 250 and pixels[20:].mean() < 5


def test_the_aspect_is_kept_and_the_centre_is_cut_out():
    # Red, green and blue thirds: the centre square of a 3:1 image is the green one.
    image = Image.new("RGB", (30, 10))
    for index, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        image.paste(colour, (10 * index, 0, 10 * index + 10, 10))
    assert np.asarray(fitted(image, 10)).reshape(-1, 3).tolist() == [[0, 255, 0]] * 100


def test_a_large_jpeg_decoded_at_a_fraction_looks_the_same(tmp_path):
    picture(3, 6, 6).resize((800, 800), Image.Resampling.BICUBIC).save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as image:
        full = np.asarray(fitted(image.convert("RGB"), 16), int)
    assert abs(np.asarray(fitted(open_rgb(tmp_path / "x.jpg", 16), 16), int) - full).max() <= 6


def test_hidden_and_other_files_are_no_images_and_folders_may_nest(tmp_path):
    cats_and_dogs(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "cats" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "cats" / "Thumbs.db").write_bytes(b"no image")
    fill(tmp_path / "cats" / ".thumbnails", 3)
    fill(tmp_path / "cats" / "siamese", 5, seed=500)
    info = data.info(options(tmp_path, test_fraction=0.0))
    assert info.classes == ("cats", "dogs") and info.n_train + info.n_val == 30


def test_train_val_and_test_folders_are_taken_at_their_word(tmp_path):
    cats_and_dogs(tmp_path / "train")
    cats_and_dogs(tmp_path / "val", 4, 3)
    cats_and_dogs(tmp_path / "test", 2, 6)
    loaded, sealed = data.load(options(tmp_path), 0), data.load_test(options(tmp_path), 0)
    assert np.bincount(loaded.train.y).tolist() == [15, 10]
    assert np.bincount(loaded.val.y).tolist() == [4, 3]
    assert sealed.y.tolist() == [0, 0, 1, 1, 1, 1, 1, 1]


def test_what_is_missing_is_carved_from_train(tmp_path):
    cats_and_dogs(tmp_path / "train")
    assert (data.info(options(tmp_path)).n_train, data.info(options(tmp_path)).n_val) == (15, 5)
    cats_and_dogs(tmp_path / "test", 3, 3)
    assert (data.info(options(tmp_path)).n_train, data.info(options(tmp_path)).n_val) == (20, 5)
    assert len(data.load_test(options(tmp_path), 0)) == 6
    cats_and_dogs(tmp_path / "validation", 4, 4)
    assert (data.info(options(tmp_path)).n_train, data.info(options(tmp_path)).n_val) == (25, 8)


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path / "train", 10)
    fill(tmp_path / "bus", 10, seed=1000)
    assert data.info(options(tmp_path)).classes == ("bus", "train")


def test_folds_of_a_tree_with_val_take_train_and_val_together(tmp_path):
    cats_and_dogs(tmp_path / "train", 15, 15)
    cats_and_dogs(tmp_path / "val", 5, 5)
    cats_and_dogs(tmp_path / "test", 5, 5)
    folds = [data.load(options(tmp_path, folds=4), 0, fold) for fold in range(4)]
    assert [fold.n_val for fold in folds] == [10, 10, 10, 10]


def corrupt(path: Path, how: str) -> None:
    content = path.read_bytes()
    damage = {
        "cut short": content[: len(content) // 2],
        "empty": b"",
        "text": b"<html>Not found</html>",
        "garbled": content[:40] + bytes(40) + content[80:],
    }
    path.write_bytes(damage[how])


# Garbled pixels show in a PNG only: a JPEG has no checksum.
@pytest.mark.parametrize(
    ("suffix", "how"),
    [*((suffix, how) for suffix in ("jpg", "png") for how in ("cut short", "empty", "text")), ("png", "garbled")],
)
def test_a_corrupt_image_is_named(tmp_path, suffix, how):
    fill(tmp_path / "cats", 6, name="{}." + suffix)
    fill(tmp_path / "dogs", 6, name="{}." + suffix)
    corrupt(tmp_path / "dogs" / f"3.{suffix}", how)
    with pytest.raises(
        DataError, match=rf"1 image cannot be read: dogs/3\.{suffix} \(.+\)\. Remove or replace"
    ) as caught:
        # Whatever split it is in: a damaged test image is found before the training too.
        data.load(options(tmp_path), seed=0)
    assert 'set data.on_corrupt = "skip"' in str(caught.value)


def test_many_corrupt_images_are_counted(tmp_path):
    cats_and_dogs(tmp_path / "train", 20, 10)
    cats_and_dogs(tmp_path / "test", 2, 2)
    for index in range(8):
        corrupt(tmp_path / "train" / "cats" / f"{index}.png", "text")
    with pytest.raises(
        DataError, match=r"\d images cannot be read: (train/cats/\d.png \(.*?\), ){4}train.*and \d more"
    ):
        data.load(options(tmp_path), seed=0)


def test_corrupt_images_are_skipped_where_that_is_asked_for(tmp_path, caplog):
    cats_and_dogs(tmp_path)
    whole = data.load(options(tmp_path), 0)
    for index in range(4):
        corrupt(tmp_path / "cats" / f"{index}.png", "cut short")
    with caplog.at_level(logging.WARNING, "trainables.data"):
        loaded = data.load(options(tmp_path, on_corrupt="skip"), 0)
        sealed = data.load_test(options(tmp_path, on_corrupt="skip"), 0)
    skipped = loaded.preprocess["skipped"]
    assert "were skipped: cats/" in caplog.text and set(skipped) <= {f"cats/{index}.png" for index in range(4)}
    assert loaded.n_train + loaded.n_val + len(sealed) == 21 and len(skipped) + 5 - len(sealed) == 4
    # The others stay in the splits where they were.
    assert rows(loaded.train.x) < rows(whole.train.x) | rows(whole.val.x)
    assert len(loaded.train.x) == len(loaded.train.y) == loaded.n_train
    assert loaded.train.x.base is None


def test_a_class_without_a_readable_image_is_an_error_even_when_skipping(tmp_path):
    for path in fill(tmp_path / "cats", 10):
        corrupt(path, "text")
    fill(tmp_path / "dogs", 10)
    with pytest.raises(DataError, match="no readable image is left of cats"):
        data.load(options(tmp_path, on_corrupt="skip"), 0)


def test_only_images_within_the_limit_are_decoded(tmp_path):
    cats_and_dogs(tmp_path, 30, 30)
    wanted = options(tmp_path, limit=20)
    chosen = rows(data.load(wanted, 0).train.x) | rows(data.load(wanted, 0).val.x)
    assert len(chosen) == 16
    for index in set(range(30)) - kept_cats(tmp_path, wanted):
        corrupt(tmp_path / "cats" / f"{index}.png", "text")
    assert rows(data.load(wanted, 0).train.x) | rows(data.load(wanted, 0).val.x) == chosen


def kept_cats(root: Path, wanted: dict) -> set[int]:
    """Return the numbers of the cats that are in a split."""
    loaded, sealed = data.load(wanted, 0), data.load_test(wanted, 0)
    kept = rows(loaded.train.x) | rows(loaded.val.x) | rows(sealed.x)
    decoded = {index: fitted(open_rgb(root / "cats" / f"{index}.png", 8), 8) for index in range(30)}
    return {index for index, image in decoded.items() if np.asarray(image).transpose(2, 0, 1).tobytes() in kept}


def bad_trees() -> dict:
    return {
        "nothing there": (lambda root: None, "is no folder"),
        "empty": (lambda root: root.mkdir(), "two class folders or more are needed, but got .0 in"),
        "one class": (lambda root: fill(root / "cats", 5), "two class folders.*: cats"),
        "no images": (lambda root: [(root / name).mkdir(parents=True) for name in "ab"], "no image is in .*/a"),
        "loose images": (lambda root: fill(root, 5), "two class folders or more are needed"),
        "unknown class": (
            lambda root: (cats_and_dogs(root / "train"), fill(root / "test" / "birds", 2)),
            "birds is none of the classes that train/ has. Those are cats, dogs",
        ),
        "unlabelled test": (
            lambda root: (cats_and_dogs(root / "train"), fill(root / "test", 2)),
            "no class folder is in .*test",
        ),
    }


@pytest.mark.parametrize("case", bad_trees())
@pytest.mark.parametrize("call", [data.info, lambda options: data.load(options, 0)])
def test_a_tree_that_is_not_as_described_is_an_error(tmp_path, case, call):
    build, message = bad_trees()[case]
    build(tmp_path / "pictures")
    with pytest.raises(DataError, match=message):
        call(options(tmp_path / "pictures"))
