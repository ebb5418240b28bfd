"""A folder of images, one folder a class: JPEG, PNG, BMP or WebP of any size and mode.

Either path/<class>/..., or path/train/<class>/... with val/ and test/ beside it where there are such.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.data.options import Options, complaint
from trainables.data.pictures import Decoded, ImageSet
from trainables.data.room import room_for, without
from trainables.data.splits import Ints, Pool
from tuner.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
DEFAULT_SIZE = 64
"""Pixels a side where data.image_size is left out: enough to tell cats from dogs, small enough for a CPU."""
_SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_NAMED_FILES = 5

_log = logging.getLogger("trainables.data")


class Listing(NamedTuple):
    """Image files (N), sorted within their class, and the class (N,) of each."""

    paths: tuple[Path, ...]
    y: Ints


def from_folder(options: Options) -> ImageSet:
    """Return the images under options.path (or, without one, under options.root), found but not decoded.

    Raises:
        DataError: A folder that is missing, empty, or not laid out as a folder a class.
    """
    root = options.path or options.root
    if not root.is_dir():
        rule = f'name = "images" needs a folder with one folder a class, but {root.absolute()} is no folder'
        raise complaint("path", rule, "", "A path in a sweep file is relative to that file.")
    folders = split_folders(root)
    classes = class_names(folders["train"])
    found = {part: list_images(folder, classes) for part, folder in folders.items()}
    return _image_set(Reader(root, options.image_size or DEFAULT_SIZE, options.on_corrupt), classes, found)


def _image_set(reader: Reader, classes: tuple[str, ...], found: dict[str, Listing]) -> ImageSet:
    """Return the set of the files found under "train" and, where the tree has them, "val" and "test"."""
    parts = [found[part] for part in ("train", "val") if part in found]
    paths = tuple(path for part in parts for path in part.paths)
    y = np.concatenate([part.y for part in parts])
    own_val = np.arange(len(y)) >= len(found["train"].y) if "val" in found else None
    test = found.get("test")

    def rows_of(rows: Ints) -> Listing:
        return Listing(tuple(paths[row] for row in rows), y[rows])

    return ImageSet(
        "images",
        classes,
        (3, reader.size, reader.size),
        Pool(y, own_val=own_val, own_test=test is not None),
        read=lambda rows: reader.read(rows_of(rows)),
        read_own_test=None if test is None else lambda: reader.read(test),
        # An unreadable test image is told now, not hours later by a study's last stage. None of it is kept.
        check=lambda rows: reader.check(test or rows_of(rows)),
    )


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of "train", "val" and "test"; for a tree without such, all of it is "train".

    A class may be called "train" too: only a train/ that has folders, and no images of its own, is a split.
    """
    folders = {}
    for part, names in _SPLIT_NAMES.items():
        there = [root / name for name in names if (root / name).is_dir()]
        if there:
            folders[part] = there[0]
    train = folders.get("train")
    if train is None or not _subfolders(train) or any(_is_image(path.name) for path in train.iterdir()):
        return {"train": root}
    return folders


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the class names of a folder: the names of its folders, sorted."""
    names = tuple(path.name for path in _subfolders(folder))
    if len(names) < 2:
        got = f"{len(names)} in {folder.absolute()}" + "".join(f": {name}" for name in names)
        remedy = "Put each class's images into a folder of its own, named as the class."
        raise complaint("path", "two class folders or more are needed", got, remedy)
    return names


def list_images(folder: Path, classes: tuple[str, ...]) -> Listing:
    """Return the image files of a folder's class folders, at any depth; hidden files are no images.

    Raises:
        DataError: A folder that is none of the classes, or holds no image.
    """
    paths: list[Path] = []
    y: list[int] = []
    for class_folder in _subfolders(folder):
        if class_folder.name not in classes:
            rule = f"{class_folder.absolute()} is none of the classes that train/ has"
            raise complaint("path", rule, "", f"Those are {', '.join(classes)}.")
        files = _files(class_folder)
        if not files:
            remedy = f"Images end in {', '.join(SUFFIXES)}."
            raise complaint("path", f"no image is in {class_folder.absolute()}", "", remedy)
        paths += files
        y += [classes.index(class_folder.name)] * len(files)
    if not paths:
        rule = f"no class folder is in {folder.absolute()}"
        raise complaint("path", rule, "", "Give it a folder a class, or move it out of the tree.")
    return Listing(tuple(paths), np.array(y, np.int64))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    found = []
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if _is_image(name)]
    return sorted(found)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


@dataclass(frozen=True)
class Reader:
    """Decodes image files, in threads (Pillow lets go of the interpreter lock while it decodes).

    Args:
        root: Files are named relative to it.
        size: Pixels a side of a decoded image.
        on_corrupt: "fail" at an unreadable file, or "skip" it.
    """

    root: Path
    size: int
    on_corrupt: str

    def read(self, files: Listing) -> Decoded:
        """Return the images (N, 3, size, size), without those that are skipped.

        Raises:
            DataError: With on_corrupt "fail": naming the files that cannot be read.
        """
        x = room_for((len(files.paths), 3, self.size, self.size))
        bad = self._decode(files.paths, x)
        if not bad:
            return Decoded(x, files.y)
        if self.on_corrupt == "fail":
            raise self._unreadable(bad)
        names = tuple(sorted(name for name, _ in bad.values()))
        _log.warning("%d unreadable images were skipped: %s", len(bad), _some(names))
        good = np.setdiff1d(np.arange(len(x)), list(bad))
        return Decoded(without(x, set(bad)), files.y[good], names)

    def check(self, files: Listing) -> None:
        """Raise DataError where a file cannot be read and on_corrupt is "fail"; keep nothing."""
        bad = self._decode(files.paths, None) if self.on_corrupt == "fail" else {}
        if bad:
            raise self._unreadable(bad)

    def _decode(self, paths: Sequence[Path], out: NDArray[np.uint8] | None) -> dict[int, tuple[str, str]]:
        """Decode into out (N, 3, size, size); return index -> (name, what is wrong) of the unreadable."""

        def decode(index: int) -> str | None:
            try:
                image = open_rgb(paths[index], self.size)
            # Pillow raises OSError, SyntaxError, ValueError, struct.error, ... at a garbled file.
            except Exception as error:
                return str(error).partition("\n")[0] or type(error).__name__
            if out is not None:
                out[index] = np.asarray(fitted(image, self.size)).transpose(2, 0, 1)
            return None

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        # Pillow warns of large images and odd metadata; the pixels are all that counts here.
        with warnings.catch_warnings(), ThreadPoolExecutor(cores) as threads:
            warnings.simplefilter("ignore")
            errors = list(threads.map(decode, range(len(paths))))
        names = [os.path.relpath(path, self.root) for path in paths]
        return {index: (names[index], error) for index, error in enumerate(errors) if error is not None}

    def _unreadable(self, bad: dict[int, tuple[str, str]]) -> DataError:
        lines = _some([f"{name} ({error.replace(str(self.root) + os.sep, '')})" for name, error in bad.values()])
        remedy = 'Remove or replace them, or set data.on_corrupt = "skip".'
        count = "1 image" if len(bad) == 1 else f"{len(bad)} images"
        return DataError(f"{self.root}: {count} cannot be read: {lines}. {remedy}")


def _some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = len(names) - _NAMED_FILES
    return ", ".join(names[:_NAMED_FILES]) + (f" and {more} more" if more > 0 else "")


def open_rgb(path: Path, size: int) -> Image.Image:
    """Return a file's first image as RGB, upright as its EXIF tag says, transparency over white.

    Args:
        path: The file.
        size: A large JPEG is decoded at a fraction of its size, but at least twice this many pixels a side.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        image.draft(image.mode, (2 * size, 2 * size))
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        # 16 bits a pixel; convert("RGB") would cut everything above 255 to white.
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    return upright.convert("RGB")


def fitted(image: Image.Image, size: int) -> Image.Image:
    """Return size x size pixels: the largest centred square, resized bilinearly with antialiasing."""
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
