"""Where decoded images are put: into memory where they fit, else into a file that the system reads them from again.

So images are decoded once, however many epochs and trials read them, and whatever memory there is.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError

SHARE = 0.5
"""Of the memory that this process may use, that decoded images may take."""
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def room_for(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an array of that shape, its values unknown.

    One that takes more than SHARE of the memory lies in a file under $TMPDIR, which has no name, and goes with it.

    Raises:
        DataError: There is room for it neither in memory nor on the disk.
    """
    bytes_ = math.prod(shape)
    if bytes_ <= SHARE * _memory():
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(prefix="tuner-images-") as file:
        try:
            _reserve(file.fileno(), bytes_)  # a full disk is told now; later it would be a bus error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
            raise DataError(
                f"data: decoded, the images take {bytes_ / 1e9:,.1f} GB: more than half of the {_memory() / 1e9:,.1f} "
                f"GB of memory, and more than is free under {tempfile.gettempdir()}. Make them smaller "
                "(data.image_size), use fewer (data.limit), or set TMPDIR to a folder on a larger disk."
            ) from None
        return np.asarray(np.memmap(file, np.uint8, "r+", shape=shape))


def _reserve(file: int, bytes_: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, bytes_)
    elif shutil.disk_usage(tempfile.gettempdir()).free < bytes_:
        raise OSError(errno.ENOSPC, "no space")
    else:
        os.ftruncate(file, bytes_)


def lies_in_a_file(array: NDArray[np.uint8]) -> bool:
    """Return whether an array, or what it is a part of, is in a file and not in memory."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base  # type: ignore[assignment]
    return False


def without(array: NDArray[np.uint8], rows: set[int]) -> NDArray[np.uint8]:
    """Return an array (N, ...) without some rows; in place where it lies in a file."""
    good = [row for row in range(len(array)) if row not in rows]
    if not lies_in_a_file(array):
        return array[good]
    for place, row in enumerate(good):
        array[place] = array[row]
    return array[: len(good)]


def _memory() -> int:
    """Return the bytes of memory that this process may use, as its container and the machine have it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return total
