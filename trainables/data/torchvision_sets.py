"""mnist, fashion_mnist, cifar10 and cifar100 from their standard files, where torchvision puts them.

The files are read here, without torchvision: it takes seconds to import, is only needed to download,
and would unpickle whatever a CIFAR file asks for.
"""

from __future__ import annotations

import gzip
import math
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainables.data.class_names import CIFAR10, CIFAR100, FASHION_MNIST, MNIST
from trainables.data.options import Options, complaint
from trainables.data.pictures import Decoded, Images, ImageSet, from_arrays, resized
from trainables.data.splits import Ints, Pool, split
from tuner.errors import DataError
from tuner.trainable import DataInfo


@dataclass(frozen=True)
class Known:
    """One set's files and contents.

    Args:
        torchvision: Its class in torchvision.datasets.
        folder: Where its files are, under data.root.
        train: Its training files, in order; for idx sets the images and the labels.
        test: Its test files.
        classes: Class names in index order.
        shape: (C, H, W).
        size: Samples in the training files.
        labels: The labels' key in a CIFAR file; empty for idx sets.
    """

    torchvision: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    size: int
    labels: str = ""

    @property
    def read(self) -> Callable[[Path, tuple[str, ...]], tuple[Images, Ints]]:
        """The function that reads files of this set."""
        return partial(_read_cifar, self) if self.labels else partial(_read_idx, self)


_IDX_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_IDX_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)
KNOWN = {
    "mnist": Known("MNIST", "MNIST/raw", _IDX_TRAIN, _IDX_TEST, MNIST, _GREY, 60_000),
    "fashion_mnist": Known("FashionMNIST", "FashionMNIST/raw", _IDX_TRAIN, _IDX_TEST, FASHION_MNIST, _GREY, 60_000),
    "cifar10": Known("CIFAR10", "cifar-10-batches-py", _BATCHES, ("test_batch",), CIFAR10, _COLOUR, 50_000, "labels"),
    "cifar100": Known("CIFAR100", "cifar-100-python", ("train",), ("test",), CIFAR100, _COLOUR, 50_000, "fine_labels"),
}


def info(options: Options, seed: int) -> DataInfo:
    """Return a set's description; with download = true and no files yet, that of the published set."""
    known = KNOWN[options.name]
    if options.download and _missing(known, options):
        size = options.image_size
        shape = (known.shape[0], size, size) if size else known.shape
        published = Pool(np.arange(known.size) % len(known.classes), own_test=True)
        rows = split(published, options, seed)
        sizes = len(rows.train), len(rows.val)
        return DataInfo(options.name, "classification", shape, known.classes, *sizes)
    source = open_set(options)
    return source.info(split(source.pool, options, seed))


def open_set(options: Options) -> ImageSet:
    """Return the set's training part, and how to read its test part.

    Raises:
        DataError: Files that are missing (and may not or cannot be downloaded) or damaged.
    """
    known = KNOWN[options.name]
    missing = _missing(known, options)
    if missing and not options.download:
        raise _how_to_get(known, options, missing[0])
    if missing:
        _download(known, options)
    folder = options.root / known.folder
    x, y = known.read(folder, known.train)

    def read_own_test() -> Decoded:
        test_x, test_y = known.read(folder, known.test)
        return Decoded(resized(test_x, options.image_size), test_y)

    def check(rows: Ints) -> None:
        # A damaged test file is told now, not by a study's last stage, hours later. Nothing of it is kept.
        known.read(folder, known.test)

    source = from_arrays(options.name, x, y, known.classes, options)
    return replace(source, pool=Pool(y, own_test=True), read_own_test=read_own_test, check=check)


def _missing(known: Known, options: Options) -> list[Path]:
    """Return the files that are not there, neither plain nor (idx sets) as .gz."""
    paths = [options.root / known.folder / name for name in known.train + known.test]
    return [path for path in paths if not path.is_file() and not (not known.labels and _gz(path).is_file())]


def _gz(path: Path) -> Path:
    return path.with_name(path.name + ".gz")


def _how_to_get(known: Known, options: Options, path: Path) -> DataError:
    or_gz = "" if known.labels else " (or .gz)"
    remedy = (
        f"Set data.download = true, put the files of {options.name} into {path.parent.absolute()}, "
        "or point data.root or $TUNER_DATA to the folder that holds "
        f"{known.folder.partition('/')[0]}."
    )
    return complaint("root", f"{options.name} is not here: no file {path.absolute()}{or_gz}", "", remedy)


def _download(known: Known, options: Options) -> None:
    """Fetch the set with torchvision, into data.root."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:
        remedy = "Install torch and torchvision of one release from one place: both for CUDA, or both for CPU."
        raise complaint("download", f"torchvision cannot be imported ({error})", "", remedy) from error
    try:
        getattr(datasets, known.torchvision)(str(options.root), download=True)
    # urllib, ssl, tarfile and torchvision itself: whatever it is, the files are not here.
    except Exception as error:
        remedy = f"Is there a network? Or put the files into {(options.root / known.folder).absolute()} by hand."
        raise complaint("download", f"{options.name} could not be fetched ({error})", "", remedy) from error


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path}: damaged: {what}. Delete it, and fetch it again.")


def _read_idx(known: Known, folder: Path, names: tuple[str, ...]) -> tuple[Images, Ints]:
    """Return images (N, 1, H, W) uint8 and labels (N,) of an image and a label file."""
    image_path, label_path = (path if path.is_file() else _gz(path) for path in (folder / name for name in names))
    images, labels = read_idx(image_path, ndim=3), read_idx(label_path, ndim=1)
    _check_labels(label_path, labels, len(images), known)
    return images[:, None], labels.astype(np.int64)


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """Return the array of an idx file, plain or .gz.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit number, then the data.

    Raises:
        DataError: Naming the file and what is wrong with it.
    """
    content = _content(path)
    head = 4 + 4 * ndim
    if content[:4] != bytes([0, 0, 8, ndim]) or len(content) < head:
        raise _damaged(path, f"it does not begin as an idx file of {ndim} dimensions does")
    shape = tuple(np.frombuffer(content, ">u4", ndim, offset=4).tolist())
    promised, held = math.prod(shape), len(content) - head
    if promised != held:
        sizes = " x ".join(map(str, shape))
        raise _damaged(path, f"its header promises {sizes} = {promised:,} bytes of data, it holds {held:,}")
    if promised == 0:
        raise _damaged(path, "it is empty")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error


def _check_labels(path: Path, labels: NDArray[Any], images: int, known: Known) -> None:
    if len(labels) != images:
        raise _damaged(path, f"it has {len(labels):,} labels for {images:,} images")
    if labels.min() < 0 or labels.max() >= len(known.classes):
        raise _damaged(path, f"labels run from {labels.min()} to {labels.max()}, not 0 to {len(known.classes) - 1}")


def _read_cifar(known: Known, folder: Path, names: tuple[str, ...]) -> tuple[Images, Ints]:
    """Return images (N, 3, 32, 32) uint8 and labels (N,) of some batch files."""
    batches = [_read_batch(folder / name, known) for name in names]
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def _read_batch(path: Path, known: Known) -> tuple[Images, Ints]:
    """Return images (N, 3, 32, 32) and labels (N,) of a batch: rows of 1,024 red, green and blue values."""
    try:
        with path.open("rb") as file:
            batch = _Unpickler(file, encoding="bytes").load()
        content = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        rows, labels = content["data"], np.array(content[known.labels], np.int64)
    # A garbled pickle raises nearly anything; whatever it is, the file cannot be used.
    except Exception as error:
        raise _damaged(path, f"not a CIFAR batch ({type(error).__name__}: {error})") from error
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3072,) or not len(rows):
        raise _damaged(path, 'not a CIFAR batch: "data" is not an array of rows of 3,072 bytes')
    _check_labels(path, labels, len(rows), known)
    return rows.reshape(-1, 3, 32, 32), labels


def _dtype(code: str | bytes, align: int = 0, copy: int = 0) -> np.dtype[Any]:
    """Return np.dtype of a pickled type code; NumPy deprecates the 0 and 1 that old pickles give it."""
    return np.dtype(code.decode() if isinstance(code, bytes) else code, align=bool(align), copy=bool(copy))


def _latin1(text: str, encoding: str) -> bytes:
    """Return the bytes that Python 3 wrote as text into a pickle of protocol 2."""
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Reads arrays, lists, dicts, numbers and texts, and refuses a pickle that asks for anything else."""

    _RECONSTRUCT = np.empty(0).__reduce__()[0]
    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return self._ALLOWED[module, name]
