"""The sets that come with scikit-learn: digits (images) and three tables. No download."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.data.options import Options
from trainables.data.pictures import ImageSet, from_arrays
from trainables.data.splits import Pool, split
from tuner.trainable import DataInfo, Task

if TYPE_CHECKING:
    from trainables.data.tables import TableSet

# What `info` says without importing scikit-learn, which takes 1.5 s: shape, and samples a class.
_DIGITS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
KNOWN: dict[str, tuple[tuple[int, ...], dict[str, int]]] = {
    "digits": ((1, 8, 8), {str(digit): count for digit, count in enumerate(_DIGITS)}),
    "breast_cancer": ((30,), {"benign": 357, "malignant": 212}),
    "wine": ((13,), {"class_0": 59, "class_1": 71, "class_2": 48}),
    "diabetes": ((10,), {"": 442}),
}


def info(options: Options, seed: int) -> DataInfo:
    """Return what is known of a bundled set; nothing is imported or read."""
    shape, sizes = KNOWN[options.name]
    if options.image_size:
        shape = (shape[0], options.image_size, options.image_size)
    # How many rows a split gets depends on the classes' sizes alone, so made-up labels will do.
    rows = split(Pool(np.repeat(np.arange(len(sizes)), list(sizes.values()))), options, seed)
    classes = () if options.name == "diabetes" else tuple(sizes)
    task: Task = "classification" if classes else "regression"
    return DataInfo(options.name, task, shape, classes, len(rows.train), len(rows.val))


def digits(options: Options) -> ImageSet:
    """Return scikit-learn's 1,797 handwritten digits, 8x8, their 17 grey levels spread over 0..255."""
    # Its file alone: importing scikit-learn, with SciPy, takes a second.
    package = find_spec("sklearn")
    home = Path(str(package.origin)).parent if package else Path()
    raw = np.loadtxt(home / "datasets" / "data" / "digits.csv.gz", delimiter=",")  # 64 grey levels, and the label
    images = np.rint(raw[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return from_arrays("digits", images, raw[:, -1].astype(np.int64), tuple(KNOWN["digits"][1]), options)


def table(options: Options) -> TableSet:
    """Return breast_cancer, wine or diabetes, in the units they were measured in."""
    from sklearn import datasets

    from trainables.data.tables import TableSet

    kwargs: dict[str, Any] = {"scaled": False} if options.name == "diabetes" else {}
    raw = getattr(datasets, f"load_{options.name}")(as_frame=True, **kwargs)
    frame = raw.frame
    if options.name != "diabetes":
        frame = frame.assign(target=raw.target_names[frame["target"]])
    return TableSet.of(frame, replace(options, target="target"))
