"""Data sets for trainables: load(options, seed) gives train and val; the test split stays sealed.

    info(options)              what a model needs to know, before anything is decoded
    load(options, seed)        Data: train and val. With fold=i, folds=k: that fold. With whole=True: both in train
    val_labels(options, seed)  the labels of load's val, without decoding an image
    load_test(options, seed)   the sealed split; only a study's last stage calls it, and never within a trial

`options` is the [data] table as a plain dict. The splits depend on (options, seed) alone.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.data import bundled, splits, torchvision_sets
from trainables.data.options import Options, parse
from trainables.data.pictures import ImageSet
from trainables.data.splits import Rows
from tuner.errors import DataError
from tuner.trainable import Data, DataInfo, Split

if TYPE_CHECKING:
    from trainables.data.tables import TableSet

__all__ = ["NAMES", "info", "load", "load_test", "val_labels"]

BUNDLED = ("digits", "breast_cancer", "wine", "diabetes")
DOWNLOADS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
NAMES = (*BUNDLED, *DOWNLOADS, "images", "table")


def info(options: Mapping[str, Any], seed: int = 0) -> DataInfo:
    """Return a set's description, without decoding an image.

    Args:
        options: The [data] table.
        seed: A table's width depends a little on the rows that are in train; everything else does not.

    Raises:
        DataError: Where files are missing or the options do not fit.
    """
    parsed = parse(options, NAMES)
    if parsed.name in BUNDLED:
        return bundled.info(parsed, seed)
    if parsed.name in DOWNLOADS:
        return torchvision_sets.info(parsed, seed)
    source = _open(parsed)
    return source.info(splits.split(source.pool, parsed, seed))


def load(
    options: Mapping[str, Any],
    seed: int,
    fold: int | None = None,
    folds: int | None = None,
    *,
    whole: bool = False,
) -> Data:
    """Return the training and validation splits, preprocessed with the training split's statistics.

    The folds are of train and validation together: in each, every class has its share (within one sample; with
    data.group, as near as whole groups allow), and over all of them every row is in validation once, but for a
    class's only sample (or group), which always stays in train. The test rows are in none.

    Args:
        options: The [data] table.
        seed: Seeds the splits; any whole number.
        fold: 0 to folds - 1: that fold is val, all else outside test is train. None: the ordinary split.
        folds: How many folds there are, at least 2; None for data.folds.
        whole: Put validation's rows into train too, and give val = None (a study's final training).

    Raises:
        DataError: Data that is missing, damaged, or not as described; a fold that there is not.
    """
    if whole and fold is not None:
        raise DataError(f"load: whole is train and validation together, and so has no fold, but got (fold={fold}).")
    parsed = parse(options if folds is None else {**options, "folds": folds}, NAMES)
    source = _open(parsed)
    rows = splits.split(source.pool, parsed, seed, fold)
    if whole:
        rows = Rows(np.concatenate([rows.train, rows.val]), rows.val[:0], rows.test)
    return source.data(rows, check=fold is None)


def val_labels(options: Mapping[str, Any], seed: int, fold: int | None = None) -> NDArray[Any]:
    """Return the labels of the validation split that `load` gives: class indices (N,), or values (N,).

    No image is decoded, so one that `load` would skip as unreadable is counted here.

    Args:
        options: The [data] table, as given to `load`.
        seed: The seed given to `load`.
        fold: As in `load`.

    Raises:
        DataError: As `load`.
    """
    parsed = parse(options, NAMES)
    source = _open(parsed)
    rows = splits.split(source.pool, parsed, seed, fold)
    if isinstance(source, ImageSet):
        return source.pool.strata[rows.val]
    val = source.data(rows, check=False).val
    return np.empty(0) if val is None else val.y


def load_test(options: Mapping[str, Any], seed: int, preprocess: Mapping[str, Any] | None = None) -> Split:
    """Open the sealed test split. Nothing but a study's last stage may call this.

    Args:
        options: The [data] table, as given to `load`.
        seed: The seed given to `load`.
        preprocess: The Data.preprocess that the model was trained with (a table is encoded by it);
            None for that of `load(options, seed)`.

    Raises:
        DataError: As `load`, where test_fraction = 0 left no test split, and while a trial runs in this process.
    """
    _refuse_in_a_trial()
    parsed = parse(options, NAMES)
    source = _open(parsed)
    if not source.pool.own_test and parsed.test_fraction == 0:
        raise DataError("data.test_fraction: there is no test split, for test_fraction is 0.")
    return source.test(splits.split(source.pool, parsed, seed), preprocess)


def _refuse_in_a_trial() -> None:
    """Raise DataError while this process trains a trial, in whichever of its threads.

    It holds off a mistake, not an attack: who wants to can read the files themselves.
    """
    # Nothing here keeps a frame: one that knows itself would keep the whole set alive until the next collection.
    in_a_trial = any(
        frame.f_code.co_name == "run_attempt" and frame.f_globals.get("__name__") == "tuner.backends.worker"
        for newest in sys._current_frames().values()
        for frame, _ in traceback.walk_stack(newest)
    )
    if in_a_trial:
        raise DataError("The test split is sealed: no trial may open it, only the last stage of a study.")


def _open(options: Options) -> ImageSet | TableSet:
    """Return the set's rows and how to read them; what a set needs is imported only for it."""
    if options.name == "digits":
        return bundled.digits(options)
    if options.name in BUNDLED:
        return bundled.table(options)
    if options.name == "images":
        from trainables.data import images

        return images.from_folder(options)
    if options.name == "table":
        from trainables.data import tables

        return tables.from_file(options)
    return torchvision_sets.open_set(options)
