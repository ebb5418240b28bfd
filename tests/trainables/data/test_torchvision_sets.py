"""mnist, fashion_mnist, cifar10 and cifar100, from tiny files in their genuine formats."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import sys
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from trainables import data
from trainables.data.torchvision_sets import KNOWN
from tuner.errors import DataError


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 and NumPy 1 did: byte strings, 0 and 1 for flags, the old module names."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def __init__(self, file):
        super().__init__(file, protocol=2)

    def save_bytes(self, value):
        short = len(value) < 256
        self.write(b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value)))
        self.write(value)
        self.memoize(value)

    dispatch[bytes] = save_bytes

    def save_text(self, value):
        self.save_bytes(value.encode())

    dispatch[str] = save_text

    def save_flag(self, value):
        self.write(b"K" + bytes([value]))

    dispatch[bool] = save_flag

    def save_global(self, thing, name=None):
        module = thing.__module__.replace("numpy._core", "numpy.core")
        self.write(b"c" + f"{module}\n{name or thing.__qualname__}\n".encode())
        self.memoize(thing)

    dispatch[types.BuiltinFunctionType] = save_global
    dispatch[type] = save_global


def python2_pickle(value) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file).dump(value)
    return file.getvalue()


def images(count: int, seed: int, shape: tuple[int, ...] = (28, 28)) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (count, *shape)).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    return head + array.tobytes()


def write_mnist(root: Path, gz: bool = False, folder: str = "MNIST/raw") -> Path:
    """Write 60 training and 20 test images with labels 0 to 9 in turn; return their folder."""
    raw = root / folder
    raw.mkdir(parents=True)
    for part, count in (("train", 60), ("t10k", 20)):
        files = {
            f"{part}-images-idx3-ubyte": idx(images(count, count)),
            f"{part}-labels-idx1-ubyte": idx((np.arange(count) % 10).astype(np.uint8)),
        }
        for name, content in files.items():
            (raw / (name + ".gz" * gz)).write_bytes(gzip.compress(content) if gz else content)
    return raw


def cifar_batch(count: int, seed: int, labels: str = "labels", classes: int = 10) -> dict:
    targets = [index % classes for index in range(count)]
    batch = {"data": images(count, seed, (3072,)), labels: targets, "batch_label": "a batch"}
    names = [f"image_{index}.png" for index in range(count)]
    return batch | {"filenames": names} | ({"coarse_labels": [0] * count} if labels == "fine_labels" else {})


def write_cifar10(root: Path, dump=python2_pickle) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number in range(1, 6):
        (folder / f"data_batch_{number}").write_bytes(dump(cifar_batch(20, number)))
    (folder / "test_batch").write_bytes(dump(cifar_batch(20, 6)))
    return folder


def write_cifar100(root: Path) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, count in (("train", 300), ("test", 100)):
        (folder / name).write_bytes(python2_pickle(cifar_batch(count, count, "fine_labels", 100)))
    return folder


@pytest.mark.parametrize("gz", [False, True])
def test_mnist_is_read_plain_and_gz(tmp_path, gz):
    write_mnist(tmp_path, gz)
    options = {"name": "mnist", "root": str(tmp_path)}
    loaded, sealed = data.load(options, seed=0), data.load_test(options, seed=0)
    assert loaded.train.x.shape == (48, 1, 28, 28) and loaded.val.x.shape == (12, 1, 28, 28)
    # Each image still carries its own label: training image i has label i % 10.
    originals = {image.tobytes(): index % 10 for index, image in enumerate(images(60, 60))}
    for split in (loaded.train, loaded.val):
        assert [originals[image.tobytes()] for image in split.x] == split.y.tolist()
    # The set's own test split is kept whole, in its order.
    assert np.array_equal(sealed.x[:, 0], images(20, 20)) and sealed.y.tolist() == [*range(10)] * 2


def test_fashion_mnist_has_a_folder_and_names_of_its_own(tmp_path):
    write_mnist(tmp_path, folder="FashionMNIST/raw")
    info = data.info({"name": "fashion_mnist", "root": tmp_path})
    assert info.classes[9] == "Ankle boot" and info.shape == (1, 28, 28)
    assert (info.n_train, info.n_val) == (48, 12)


def test_root_falls_back_on_the_environment(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    monkeypatch.setenv("TUNER_DATA", str(tmp_path))
    assert data.load({"name": "mnist"}, 0).n_train == 48


def test_pickles_of_the_tests_are_as_python_2_wrote_them():
    content = python2_pickle({"data": np.zeros((1, 2), np.uint8), "labels": [3]})
    assert content.startswith(b"\x80\x02}q\x00(U\x04data")
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in content and b"_codecs" not in content
    assert b"K\x00K\x01\x87" in content  # dtype("u1", 0, 1)


def test_cifar10_is_read_from_its_five_batches(tmp_path):
    write_cifar10(tmp_path)
    options = {"name": "cifar10", "root": tmp_path}
    loaded, sealed = data.load(options, seed=0), data.load_test(options, seed=0)
    assert loaded.train.x.shape == (80, 3, 32, 32) and loaded.val.x.shape == (20, 3, 32, 32)
    assert loaded.classes[3] == "cat" and len(loaded.preprocess["mean"]) == 3
    # Rows of 3,072 are red, green and blue planes of 32 x 32, one after the other.
    assert np.array_equal(sealed.x, images(20, 6, (3, 32, 32))) and sealed.y.tolist() == [*range(10)] * 2
    assert np.bincount(loaded.val.y).tolist() == [2] * 10


def test_cifar10_pickled_again_by_python_3_is_read_too(tmp_path):
    def dump(batch):
        return pickle.dumps({key.encode(): value for key, value in batch.items()}, protocol=2)

    write_cifar10(tmp_path, dump)
    assert data.load({"name": "cifar10", "root": tmp_path}, 0).n_train == 80


def test_cifar100_has_the_fine_labels(tmp_path):
    write_cifar100(tmp_path)
    loaded = data.load({"name": "cifar100", "root": tmp_path}, seed=0)
    assert (loaded.n_train, loaded.n_val, len(set(loaded.classes))) == (240, 60, 100)
    assert loaded.classes[0] == "apple" and loaded.classes[99] == "worm"
    # 3 samples a class, so 0.6 of one in val: every class is still in train.
    assert set(loaded.train.y.tolist()) == set(range(100))


def test_limit_leaves_the_sets_own_test_split_whole(tmp_path):
    write_mnist(tmp_path)
    options = {"name": "mnist", "root": tmp_path, "limit": 30}
    loaded = data.load(options, seed=0)
    assert (loaded.n_train, loaded.n_val) == (24, 6)
    assert len(data.load_test(options, seed=0)) == 20


def test_image_size_holds_for_the_test_split_too(tmp_path):
    write_cifar10(tmp_path)
    options = {"name": "cifar10", "root": tmp_path, "image_size": 16}
    assert data.info(options).shape == (3, 16, 16)
    assert data.load(options, 0).train.x.shape[1:] == data.load_test(options, 0).x.shape[1:] == (3, 16, 16)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("call", [data.info, lambda options: data.load(options, 0)])
def test_missing_files_name_the_path_and_how_to_get_them(tmp_path, name, call):
    with pytest.raises(DataError) as caught:
        call({"name": name, "root": tmp_path})
    message = str(caught.value)
    assert message.startswith(f"data.root: {name} is not here: no file {tmp_path / KNOWN[name].folder}{os.sep}")
    assert "data.download = true" in message and "$TUNER_DATA" in message


def test_a_missing_test_file_is_told_before_training(tmp_path):
    raw = write_mnist(tmp_path)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        data.info({"name": "mnist", "root": tmp_path})


def cut(content: bytes) -> bytes:
    return content[:-100]


IDX_DAMAGE = {
    "cut short": (
        False,
        "train-images-idx3-ubyte",
        cut,
        "promises 60 x 28 x 28 = 47,040 bytes.*holds 46,940",
    ),
    "too long": (False, "train-images-idx3-ubyte", lambda c: c + b"x", "it holds 47,041"),
    "empty file": (False, "train-images-idx3-ubyte", lambda c: b"", "does not begin as an idx file"),
    "no images": (False, "train-images-idx3-ubyte", lambda c: idx(images(0, 0)), "it is empty"),
    "a web page": (False, "train-images-idx3-ubyte", lambda c: b"<html>", "does not begin as an idx file"),
    "gz cut short": (True, "train-images-idx3-ubyte.gz", cut, "damaged"),
    "gz garbled": (True, "train-images-idx3-ubyte.gz", lambda c: c[:200] + bytes(200) + c[400:], "damaged"),
    "no gz": (True, "train-images-idx3-ubyte.gz", lambda c: b"<html>", "damaged"),
    "few labels": (
        False,
        "train-labels-idx1-ubyte",
        lambda c: idx(np.zeros(59, np.uint8)),
        "59 labels for 60 images",
    ),
    "label 255": (False, "train-labels-idx1-ubyte", lambda c: c[:-1] + b"\xff", "labels run from 0 to 255"),
    "test cut short": (False, "t10k-images-idx3-ubyte", cut, "it holds 15,580"),
}


@pytest.mark.parametrize("case", IDX_DAMAGE)
def test_a_damaged_idx_file_is_named_with_what_is_wrong(tmp_path, case):
    gz, name, damage, message = IDX_DAMAGE[case]
    path = write_mnist(tmp_path, gz) / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        data.load({"name": "mnist", "root": tmp_path}, 0)
    assert str(path) in str(caught.value) and "fetch it again" in str(caught.value)


class Poison:
    def __reduce__(self):
        return os.mkdir, ("poisoned",)


CIFAR_DAMAGE = {
    "poisoned": (
        lambda c: pickle.dumps({b"data": Poison(), b"labels": []}, protocol=2),
        "asks for posix.mkdir",
    ),
    "cut short": (lambda c: c[: len(c) // 2], "not a CIFAR batch"),
    "garbled": (lambda c: b"\x80\x02" + bytes(range(256)), "not a CIFAR batch"),
    "empty file": (lambda c: b"", "not a CIFAR batch"),
    "a list": (lambda c: pickle.dumps([1, 2], protocol=2), "not a CIFAR batch"),
    "no labels": (lambda c: pickle.dumps({"data": 1}, protocol=2), "labels"),
    "float rows": (lambda c: python2_pickle({"data": np.zeros((2, 3072)), "labels": [0, 1]}), "3,072 bytes"),
    "short rows": (
        lambda c: python2_pickle({"data": np.zeros((2, 10), np.uint8), "labels": [0, 1]}),
        "3,072 bytes",
    ),
    "few labels": (lambda c: python2_pickle(cifar_batch(20, 0) | {"labels": [1]}), "1 labels for 20 images"),
    "label 10": (lambda c: python2_pickle(cifar_batch(20, 0) | {"labels": [10] * 20}), "not 0 to 9"),
}


@pytest.mark.parametrize("case", CIFAR_DAMAGE)
def test_a_damaged_or_poisoned_cifar_file_is_named_and_never_run(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    damage, message = CIFAR_DAMAGE[case]
    path = write_cifar10(tmp_path) / "data_batch_2"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        data.load({"name": "cifar10", "root": tmp_path}, 0)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "poisoned").exists()


def test_what_will_be_downloaded_is_described_before(tmp_path):
    info = data.info({"name": "cifar100", "root": tmp_path, "download": True, "limit": 1000})
    assert (info.n_train, info.n_val, info.shape, len(info.classes)) == (800, 200, (3, 32, 32), 100)
    assert not list(tmp_path.iterdir())


def stand_in(monkeypatch, **datasets) -> None:
    """Put a torchvision of our own in the place of the real one, so that no test needs a network."""
    module = types.ModuleType("torchvision")
    module.datasets = types.SimpleNamespace(**datasets)
    monkeypatch.setitem(sys.modules, "torchvision", module)


def test_download_fetches_with_torchvision_what_is_missing(tmp_path, monkeypatch):
    stand_in(monkeypatch, MNIST=lambda root, download: write_mnist(Path(root)))
    options = {"name": "mnist", "root": tmp_path, "download": True}
    assert data.load(options, 0).n_train == 48
    # The second time nothing is missing, so nothing is fetched (it would fail: the folder is there).
    assert data.load(options, 0).n_train == 48


def test_a_failed_download_says_so(tmp_path, monkeypatch):
    def fail(root, download):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    stand_in(monkeypatch, MNIST=fail)
    with pytest.raises(DataError, match=r"data\.download: mnist could not be fetched \(Error downloading.*network"):
        data.load({"name": "mnist", "root": tmp_path, "download": True}, 0)


def test_a_torchvision_that_does_not_import_says_what_to_do(tmp_path, monkeypatch):
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    monkeypatch.syspath_prepend(str(package.parent))
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(DataError, match=r"nms does not exist.*Install torch and torchvision of one release"):
        data.load({"name": "mnist", "root": tmp_path, "download": True}, 0)
