"""The images of the benchmark: Fashion-MNIST where it is, else made ones of the same shape in the same files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.data.options import parse
from trainables.data.splits import split
from trainables.data.torchvision_sets import open_set

SEED = 1
FOLDER = "FashionMNIST/raw"


@dataclass(frozen=True)
class Images:
    """Where the images are.

    Args:
        root: The folder that holds FashionMNIST/.
        synthetic: Whether they were made here.
    """

    root: Path
    synthetic: bool

    @property
    def told(self) -> str:
        """What they are, in words."""
        return "synthetic images of Fashion-MNIST's shape" if self.synthetic else "Fashion-MNIST"


def find(root: Path | None, folder: Path) -> Images:
    """Return the real images of `root`, $TUNER_DATA or ./data; made ones in `folder` where there are none."""
    where = root or Path(os.environ.get("TUNER_DATA") or "data")
    if (where / FOLDER / "train-images-idx3-ubyte").is_file():
        return Images(where.absolute(), synthetic=False)
    write_synthetic(folder)
    return Images(folder.absolute(), synthetic=True)


def write_synthetic(root: Path, train: int = 60_000, test: int = 10_000) -> None:
    """Write files as Fashion-MNIST's: ten classes, each its own blurred pattern under noise."""
    random = np.random.default_rng(SEED)
    patterns = random.integers(0, 255, (10, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)
    (root / FOLDER).mkdir(parents=True)
    for name, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        noise = random.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        pixels = (patterns[labels] // 4 + noise // 4 * 3).astype(np.uint8)
        _write_idx(root / FOLDER / f"{name}-images-idx3-ubyte", pixels)
        _write_idx(root / FOLDER / f"{name}-labels-idx1-ubyte", labels)


def _write_idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(head + array.tobytes())


def rows(images: Images, train: int, val: int) -> tuple[list[int], list[int]]:
    """Return the rows of the training files that a sweep of this project trains and validates on: the peers' too."""
    options = parse(data_table(images, train, val), ("fashion_mnist",))
    found = split(open_set(options).pool, options, SEED)
    assert (len(found.train), len(found.val)) == (train, val)
    return found.train.tolist(), found.val.tolist()


def data_table(images: Images, train: int, val: int) -> dict[str, object]:
    """Return the [data] table of a sweep on so many images."""
    return {
        "name": "fashion_mnist",
        "root": str(images.root),
        "limit": train + val,
        "val_fraction": val / (train + val),
    }
