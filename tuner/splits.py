"""A sweep's data by fold: loaded when it is asked for, and let go of while Ray's object store has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tuner.errors import DataError
from tuner.trainable import Data, DataInfo


class Splits:
    """Training and validation splits by fold; those of a trial without a fold at None.

    Args:
        loads: What loads each, the same whenever it is called. None: a sweep without [data].

    Attributes:
        folds: The folds, in order.
    """

    def __init__(self, loads: Mapping[int | None, Callable[[], Data]] | None = None) -> None:
        self._loads = dict(loads or {})
        self._loaded: dict[int | None, Data] = {}
        self._told: dict[int | None, tuple[DataInfo, Mapping[str, Any]]] = {}
        self.folds = tuple(self._loads)

    @property
    def info(self) -> DataInfo | None:
        """What a model needs to know of them, by the first fold; None without data. No arrays hang on it."""
        return self._first()[0] if self.folds else None

    @property
    def preprocess(self) -> Mapping[str, Any] | None:
        """How the first fold's samples were made, as Data.preprocess; None without data."""
        return self._first()[1] if self.folds else None

    def get(self, fold: int | None) -> Data | None:
        """Return a fold's splits, or None where there is no such fold; they are kept until they are released.

        Raises:
            DataError: Data that is missing or damaged, or no longer what it was when it was first loaded.
        """
        if fold not in self._loads:
            return None
        if fold not in self._loaded:
            self._loaded[fold] = self._checked(fold, self._loads[fold]())
        return self._loaded[fold]

    def release(self) -> None:
        """Let go of all arrays; what is asked for again is loaded again."""
        self._loaded.clear()

    def _first(self) -> tuple[DataInfo, Mapping[str, Any]]:
        if self.folds[0] not in self._told:
            self.get(self.folds[0])
        return self._told[self.folds[0]]

    def _checked(self, fold: int | None, data: Data) -> Data:
        """Note what the data is; the statistics in `preprocess` tell files that were changed in the meantime."""
        info = DataInfo(**{field.name: getattr(data, field.name) for field in dataclasses.fields(DataInfo)})
        told = info, data.preprocess
        if repr(self._told.setdefault(fold, told)) != repr(told):  # in which nan is nan
            raise DataError(
                f"data {info.name}: it must stay as it is while a sweep is at work, but it has changed since it was "
                "first read. Put it back as it was, then go on."
            )
        return data
