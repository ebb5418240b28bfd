"""Data sets for trainables: load(options, seed) gives train and val; the test split stays sealed.

    info(options)              what a model needs to know, before anything is decoded
    load(options, seed)        Data: train and val. With fold=i: that fold. With merge_val: all in train
    load_test(options, seed)   the sealed split; only a study's last stage calls it

`options` is the [data] table as a plain dict. The splits depend on (options, seed) alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.data import bundled, splits, torchvision_sets
from trainables.data.options import Options, parse
from trainables.data.pictures import ImageSet
from trainables.data.splits import Rows
from tuner.errors import DataError
from tuner.trainable import Data, DataInfo, Split

if TYPE_CHECKING:
    from trainables.data.tables import TableSet

__all__ = ["NAMES", "info", "load", "load_test"]

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


def load(options: Mapping[str, Any], seed: int, fold: int | None = None, *, merge_val: bool = False) -> Data:
    """Return the training and validation splits, preprocessed with the training split's statistics.

    Args:
        options: The [data] table.
        seed: Seeds the splits; any whole number.
        fold: With options.folds = k: 0 to k - 1 for that fold of everything outside test.
        merge_val: Put validation's rows into train too, and give val = None (a study's final training).

    Raises:
        DataError: Data that is missing, damaged, or not as described.
    """
    parsed = parse(options, NAMES)
    source = _open(parsed)
    rows = splits.split(source.pool, parsed, seed, fold)
    if merge_val:
        rows = Rows(np.concatenate([rows.train, rows.val]), rows.val[:0], rows.test)
    return source.data(rows, check=fold is None)


def load_test(options: Mapping[str, Any], seed: int, preprocess: Mapping[str, Any] | None = None) -> Split:
    """Open the sealed test split. Nothing but a study's last stage may call this.

    Args:
        options: The [data] table, as given to `load`.
        seed: The seed given to `load`.
        preprocess: The Data.preprocess that the model was trained with (a table is encoded by it);
            None for that of `load(options, seed)`.

    Raises:
        DataError: As `load`, and where test_fraction = 0 left no test split.
    """
    parsed = parse(options, NAMES)
    source = _open(parsed)
    if not source.pool.own_test and parsed.test_fraction == 0:
        raise DataError("data.test_fraction: there is no test split, for test_fraction is 0.")
    return source.test(splits.split(source.pool, parsed, seed), preprocess)


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
