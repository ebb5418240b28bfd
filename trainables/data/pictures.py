"""Sets of images: uint8 (N, C, H, W), with the training split's mean and deviation a channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.data.options import Options
from trainables.data.room import lies_in_a_file
from trainables.data.splits import Ints, Pool, Rows
from tuner.errors import DataError
from tuner.trainable import Data, DataInfo, Split

Images = NDArray[np.uint8]


class Decoded(NamedTuple):
    """Images (N, C, H, W) uint8, their classes (N,) int64, and the names of those that could not be read."""

    x: Images
    y: Ints
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageSet:
    """A set of images, found but not yet decoded.

    Args:
        name: The set's name.
        classes: Class names in index order.
        shape: (C, H, W) of a decoded image.
        pool: The rows to split.
        read: Decodes these rows of the pool.
        read_own_test: Decodes the test split that the set came with; None where it came without.
        check: Raises DataError where one of the test split's files is damaged; takes the pool's test rows.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    pool: Pool
    read: Callable[[Ints], Decoded]
    read_own_test: Callable[[], Decoded] | None = None
    check: Callable[[Ints], None] = lambda rows: None

    def info(self, rows: Rows) -> DataInfo:
        """Return the set's description; nothing is decoded."""
        sizes = len(rows.train), len(rows.val)
        return DataInfo(self.name, "classification", self.shape, self.classes, *sizes)

    def data(self, rows: Rows, check: bool = True) -> Data:
        """Return train and val, decoded.

        Args:
            rows: The splits; val is None where it has no rows.
            check: Whether to look for damaged test files too.
        """
        if check:
            self.check(rows.test)
        train = self.read(rows.train)
        val = self.read(rows.val) if len(rows.val) else None
        for split in (train, val):
            self._check_classes(split, every=split is train)
        skipped = train.skipped + (val.skipped if val else ())
        return Data(
            self.name,
            "classification",
            self.shape,
            self.classes,
            len(train.y),
            len(val.y) if val else 0,
            train=frozen(train.x, train.y),
            val=frozen(val.x, val.y) if val else None,
            preprocess=self._preprocess(train.x, skipped),
        )

    def test(self, rows: Rows, preprocess: Any = None) -> Split:
        """Return the sealed split; `preprocess` is not needed, for images are kept as they are."""
        decoded = self.read_own_test() if self.read_own_test else self.read(rows.test)
        return frozen(decoded.x, decoded.y)

    def _preprocess(self, train: Images, skipped: tuple[str, ...]) -> dict[str, Any]:
        mean, std = channel_statistics(train)
        return {
            "kind": "images",
            "shape": list(self.shape),
            "classes": list(self.classes),
            "mean": mean,
            "std": std,
            "skipped": list(skipped),
        }

    def _check_classes(self, split: Decoded | None, every: bool) -> None:
        """Refuse a split that its unreadable images left without a class (train) or empty (val)."""
        if split is None or not split.skipped:
            return
        missing = sorted(set(range(len(self.classes))) - set(split.y.tolist()))
        if (every and missing) or not len(split.y):
            names = ", ".join(self.classes[index] for index in missing)
            raise DataError(
                f"data.on_corrupt: no readable image is left of {names}; {len(split.skipped)} were skipped."
            )


def from_arrays(name: str, x: Images, y: Ints, classes: tuple[str, ...], options: Options) -> ImageSet:
    """Return the set of images that are in memory already.

    Args:
        name: The set's name.
        x: (N, C, H, W) uint8.
        y: (N,) class indices.
        classes: Class names in index order.
        options: image_size is used.
    """

    def read(rows: Ints) -> Decoded:
        return Decoded(resized(x[rows], options.image_size), y[rows])

    size = options.image_size
    shape = (x.shape[1], size or x.shape[2], size or x.shape[3])
    return ImageSet(name, classes, shape, Pool(y), read)


def frozen(x: NDArray[Any], y: NDArray[Any]) -> Split:
    """Return a Split of arrays of its own, so that no base array leads to other rows, set read-only.

    What lies in a file is its own already.
    """
    own = [a if lies_in_a_file(a) else np.require(a, requirements=["C", "O"]) for a in (x, y)]
    for array in own:
        array.flags.writeable = False
    return Split(*own)


def resized(images: Images, size: int | None) -> Images:
    """Return (N, C, size, size) of (N, C, H, W), resized bilinearly with antialiasing."""
    if size is None or images.shape[2:] == (size, size):
        return images
    from PIL import Image

    out = np.empty((*images.shape[:2], size, size), np.uint8)
    for source, target in zip(images.reshape(-1, *images.shape[2:]), out.reshape(-1, size, size), strict=True):
        target[:] = Image.fromarray(source).resize((size, size), Image.Resampling.BILINEAR)
    return out


def channel_statistics(images: Images) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation a channel, in 0..1 units; a flat channel has deviation 1.

    Counted a grey level, so exact: the same in whatever order the images come.
    """
    means, stds = [], []
    levels = np.arange(256) / 255
    for channel in range(images.shape[1]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), 2048):
            counts += np.bincount(images[start : start + 2048, channel].ravel(), minlength=256)
        share = counts / counts.sum()
        mean = float(share @ levels)
        means.append(mean)
        stds.append(float(np.sqrt(share @ (levels - mean) ** 2)) or 1.0)
    return means, stds
