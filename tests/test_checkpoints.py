"""Checkpoints: whole or not there, every damaged byte told, nothing but tensors and plain values in or out."""

from __future__ import annotations

import collections
import dataclasses
import enum
import hashlib
import math
import pickle
import random
import resource
import shutil
import signal
import warnings
import zipfile

import numpy as np
import pytest
import torch

from tuner.checkpoints import (
    DamagedCheckpoint,
    Place,
    commit,
    gather_predictions,
    load,
    prune,
    save_predictions,
    verify,
)
from tuner.errors import ConfigError
from tuner.history import CheckpointRecord, EpochRecord, TrialRecord

PLACE = Place("t0001", 3, 1)


def committed(run, state, place=PLACE, metrics=None):
    """Commit a checkpoint and return the record that its journal row makes."""
    body = commit(run, place, state, metrics or {})
    return CheckpointRecord(place.epoch, place.attempt, body["path"], body["sha256"])


def loaded(run, state):
    return load(verify(run, committed(run, state))).state


def a_state():
    """Return what a trainable hands over: a model, its optimizer, its schedule, its random state, some values."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "rng": torch.get_rng_state(),
        "losses": [0.5, math.nan, math.inf],
        "nested": {1: (True, None, b"x", "ü"), "size": torch.Size([2, 3])},
    }


def same(left, right):
    """Say whether two states are the same, tensors bit by bit."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and repr(left) == repr(right)


# -- commit, verify, load -------------------------------------------------------------------------------------------


def test_a_state_comes_back_as_it_was(tmp_path):
    state = a_state()
    back = loaded(tmp_path, state)
    assert same(back, state)
    # A state_dict carries the versions of its modules beside its items.
    assert back["model"]._metadata == state["model"]._metadata


def test_a_checkpoint_is_a_folder_with_a_manifest_that_carries_its_metrics(tmp_path):
    record = committed(tmp_path, {"x": torch.ones(3)}, metrics={"loss": 0.1, "auc": None, "odd": math.nan})
    assert record.path == "checkpoints/t0001/3-1"
    folder = tmp_path / record.path
    assert sorted(child.name for child in folder.iterdir()) == ["manifest.json", "state.pt"]
    manifest = (folder / "manifest.json").read_text()
    assert '"loss": "0.1"' in manifest and '"auc": null' in manifest and '"odd": "nan"' in manifest
    assert [child.name for child in folder.parent.iterdir()] == ["3-1"]  # what it was written in is gone


def test_the_row_says_how_large_the_state_is(tmp_path):
    body = commit(tmp_path, PLACE, {"x": torch.zeros(1000)}, {})
    assert body["bytes"] == (tmp_path / body["path"] / "state.pt").stat().st_size > 4000


def test_what_a_killed_commit_left_is_no_obstacle(tmp_path):
    left = tmp_path / "checkpoints" / "t0001" / ".3-1.writing"
    left.mkdir(parents=True)
    (left / "junk").write_text("half")
    verify(tmp_path, committed(tmp_path, {"x": 1}))
    assert not left.exists()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        ([np.float64(0.1), 1], [0.1, 1]),
        ((np.int64(1), {"a": np.float64(2.0)}), (1, {"a": 2.0})),
        (collections.OrderedDict(a=np.float64(2.0)), {"a": 2.0}),
        (2**100, 2**100),
    ],
    ids=repr,
)
def test_numpys_scalars_become_pythons(tmp_path, given, kept):
    # torch would pickle them by name, and then refuse to load them.
    back = loaded(tmp_path, {"x": given})["x"]
    assert same(back, kept)


class Colour(enum.IntEnum):
    red = 1


@dataclasses.dataclass
class Thing:
    x: int = 1


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"model": torch.nn.Linear(1, 1)}, "state['model'] is a Linear"),
        ({"a": {"b": [1, Thing()]}}, "state['a']['b'][1] is a Thing"),
        ({"a": np.zeros(2)}, "state['a'] is a ndarray"),
        ({"a": {1, 2}}, "state['a'] is a set"),
        ({"a": collections.defaultdict(int)}, "state['a'] is a defaultdict"),
        ({"a": Pair(1, 2)}, "state['a'] is a Pair"),
        ({"a": Colour.red}, "state['a'] is a Colour"),
        ({"a": {np.int64(1): 2}}, "a key of state['a'] is a int64"),
        ({(1, 2): 3}, "a key of state is a tuple"),
        ({"a": 1j}, "state['a'] is a complex"),
        ({"a": np.longdouble(1)}, "state['a'] is a longdouble"),
        ({"a": print}, "state['a'] is a builtin_function_or_method"),
        (torch.ones(1), "state is a Tensor"),
        ([1], "state is a list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_loaded_again_is_refused_with_its_path(tmp_path, state, where):
    with pytest.raises(ConfigError) as refused:
        commit(tmp_path, PLACE, state, {})
    assert f"but got ({where})" in str(refused.value)
    assert "Give a state_dict()" in str(refused.value)
    assert not (tmp_path / "checkpoints").exists()


@pytest.fixture
def small_files():
    """Let no file grow beyond 64 KiB: to a process, that is a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_os_error_and_leaves_the_last_checkpoint_whole(tmp_path, small_files):
    record = committed(tmp_path, {"x": torch.zeros(10)})
    # torch itself says RuntimeError, which looks like the config's fault.
    with pytest.raises(OSError, match="too large"):
        commit(tmp_path, Place("t0001", 4, 1), {"x": torch.zeros(100_000)}, {})
    assert not (tmp_path / "checkpoints/t0001/4-1").exists()
    verify(tmp_path, record)


# -- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "flipped", "longer", "a folder"])
def test_every_damaged_file_is_named(tmp_path, name, damage):
    record = committed(tmp_path, {"x": torch.ones(3)})
    path = tmp_path / record.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        whole = bytes(data)
        whole = {"truncated": whole[:-1], "empty": b"", "flipped": whole, "longer": whole + b"\0"}[damage]
        path.write_bytes(whole)
    with pytest.raises(DamagedCheckpoint, match=rf"{path}: the (file|manifest) is missing, or differs"):
        verify(tmp_path, record)


def test_a_missing_folder_is_named(tmp_path):
    record = committed(tmp_path, {"x": 1})
    shutil.rmtree(tmp_path / record.path)
    with pytest.raises(DamagedCheckpoint, match=r"3-1/manifest.json: the manifest is missing"):
        verify(tmp_path, record)


def test_a_whole_checkpoint_of_another_place_is_not_this_one(tmp_path):
    record = committed(tmp_path, {"x": 1})
    other = committed(tmp_path, {"x": 2}, Place("t0001", 4, 1))
    shutil.rmtree(tmp_path / record.path)
    (tmp_path / other.path).rename(tmp_path / record.path)
    with pytest.raises(DamagedCheckpoint, match="differs from the journal's row"):
        verify(tmp_path, record)


@pytest.mark.parametrize("path", ["../outside", "checkpoints/../../outside", "/tmp"])
def test_a_record_cannot_lead_out_of_the_run_folder(tmp_path, path):
    run = tmp_path / "run"
    record = committed(run, {"x": 1})
    shutil.copytree(run / record.path, tmp_path / "outside")
    with pytest.raises(DamagedCheckpoint, match="must lie in its run folder"):
        verify(run, dataclasses.replace(record, path=path))


class Planted:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('the payload ran')",)


def test_a_planted_pickle_is_refused_and_nothing_of_it_runs(tmp_path):
    folder = verify(tmp_path, committed(tmp_path, {"x": 1}))
    with zipfile.ZipFile(folder / "state.pt") as archive:
        names = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(folder / "state.pt", "w") as archive:
        for name, data in names.items():
            archive.writestr(name, pickle.dumps(Planted(), 2) if name.endswith("data.pkl") else data)
    with pytest.raises(DamagedCheckpoint, match=r"state.pt: it must hold tensors and plain values"):
        load(folder)
    for plain in (pickle.dumps(Planted(), 2), b"", b"no checkpoint at all"):
        (folder / "state.pt").write_bytes(plain)
        with pytest.raises(DamagedCheckpoint):
            load(folder)


def test_whatever_damage_does_to_the_bytes_is_told(tmp_path):
    folder = verify(tmp_path, committed(tmp_path, a_state()))
    whole, rng = (folder / "state.pt").read_bytes(), random.Random(0)
    told = 0
    for turn in range(150):
        at = rng.randrange(len(whole))
        flipped = whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
        (folder / "state.pt").write_bytes(flipped if turn % 3 else whole[:at])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load(folder)
            except DamagedCheckpoint:
                told += 1
    assert told > 50


# -- pruning --------------------------------------------------------------------------------------------------------


def test_pruning_keeps_what_is_named_and_leaves_other_trials_alone(tmp_path):
    records = [committed(tmp_path, {"x": epoch}, Place("t0001", epoch, 1)) for epoch in (1, 2, 3)]
    other = committed(tmp_path, {"x": 0}, Place("t0002", 1, 1))
    (tmp_path / "checkpoints/t0001/.4-1.writing").mkdir()
    prune(tmp_path, "t0001", [records[0], records[2]], 1)
    assert sorted(child.name for child in (tmp_path / "checkpoints/t0001").iterdir()) == ["1-1", "3-1"]
    for record in (records[0], records[2], other):
        verify(tmp_path, record)


def test_a_driver_that_was_asleep_prunes_nothing_of_a_later_attempt(tmp_path):
    mine = committed(tmp_path, {"x": 1}, Place("t0001", 1, 1))
    committed(tmp_path, {"x": 2}, Place("t0001", 2, 1))
    theirs = committed(tmp_path, {"x": 3}, Place("t0001", 2, 2))
    (tmp_path / "checkpoints/t0001/.3-2.writing").mkdir()
    prune(tmp_path, "t0001", [mine], 1)
    assert sorted(child.name for child in (tmp_path / "checkpoints/t0001").iterdir()) == [".3-2.writing", "1-1", "2-2"]
    prune(tmp_path, "t0001", [], 1)
    verify(tmp_path, theirs)


def test_pruning_everything_leaves_no_empty_folder(tmp_path):
    committed(tmp_path, {"x": 1})
    prune(tmp_path, "t0001", [], 1)
    prune(tmp_path, "t0009", [], 1)  # one that never had any
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": {"state.pt": {}}}'])
def test_a_manifest_that_is_none_is_damage_though_its_sum_is_right(tmp_path, text):
    record = committed(tmp_path, {"x": 1})
    manifest = tmp_path / record.path / "manifest.json"
    manifest.write_text(text)
    forged = dataclasses.replace(record, sha256=hashlib.sha256(text.encode()).hexdigest())
    with pytest.raises(DamagedCheckpoint, match=r"manifest\.json: it must list files"):
        verify(tmp_path, forged)


@pytest.mark.parametrize("inside", [3, {"state": 3, "random": None}, {"state": {}}, {"x": 1}])
def test_a_file_of_another_form_is_damage(tmp_path, inside):
    record = committed(tmp_path, {"x": 1})
    torch.save(inside, tmp_path / record.path / "state.pt")
    with pytest.raises(DamagedCheckpoint, match="must hold tensors and plain values"):
        load(tmp_path / record.path)


# -- predictions ----------------------------------------------------------------------------------------------------


def trial_of(*attempts, name="t0001"):
    """A trial's record whose epochs 1, 2, ... were accepted from these attempts."""
    rows = {epoch: EpochRecord({"metrics": {}}, attempt, 0.0) for epoch, attempt in enumerate(attempts, 1)}
    return TrialRecord(name, 1, 1, "search", None, 1, {}, 0, "random", "", epochs=rows)


def save(run, epoch, attempt, values, trial="t0001"):
    save_predictions(run, Place(trial, epoch, attempt), values)


def predictions(run, trial="t0001"):
    with np.load(run / "predictions" / f"{trial}.npz", allow_pickle=False) as file:
        return {int(name): file[name] for name in file.files}


def test_predictions_are_kept_an_epoch_exactly(tmp_path):
    first = np.array([[0.1, 0.9], [math.nan, 1e-30]], dtype=np.float32)
    save(tmp_path, 1, 1, first)
    save(tmp_path, 2, 1, first * 2)
    save(tmp_path, 1, 1, np.arange(3), "t0002")
    assert gather_predictions(tmp_path, trial_of(1, 1)) == []
    kept = predictions(tmp_path)
    assert list(kept) == [1, 2]
    assert kept[1].dtype == np.float32 and kept[1].tobytes() == first.tobytes()
    # A trial's predictions are its own business, and asking twice changes nothing.
    assert gather_predictions(tmp_path, trial_of(1, 1)) == []
    assert [path.name for path in sorted((tmp_path / "predictions").iterdir())] == ["t0001.npz", "t0002"]


def test_only_predictions_whose_row_counts_are_kept(tmp_path):
    for epoch in (1, 2, 3):
        save(tmp_path, epoch, 1, np.full(2, 0.1))
    # Attempt 2 went on from epoch 1; the worker of attempt 1 is still alive, and writes.
    save(tmp_path, 2, 2, np.full(2, 0.2))
    save(tmp_path, 3, 1, np.full(2, 0.9))
    gather_predictions(tmp_path, trial_of(1, 2))
    assert {epoch: values[0] for epoch, values in predictions(tmp_path).items()} == {1: 0.1, 2: 0.2}


def test_what_a_kill_left_of_gathered_predictions_is_deleted_and_not_gathered_again(tmp_path):
    for epoch in (1, 2, 3):
        save(tmp_path, epoch, 1, np.full(2, epoch))
    folder = tmp_path / "predictions" / "t0001"
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    gather_predictions(tmp_path, trial_of(1, 1, 1))
    # Killed while it was deleting: one file is still there.
    folder.mkdir()
    (folder / "2-1.npz").write_bytes(left["2-1.npz"])
    gather_predictions(tmp_path, trial_of(1, 1, 1))
    assert list(predictions(tmp_path)) == [1, 2, 3]
    assert not folder.exists()


@pytest.mark.parametrize("damaged", [b"", b"PK\x03\x04 no more than a beginning", None], ids=["empty", "text", "cut"])
def test_damaged_predictions_are_put_aside_and_cost_no_other(tmp_path, damaged):
    save(tmp_path, 1, 1, np.full(100, 0.5))
    save(tmp_path, 2, 1, np.full(2, 0.7))
    path = tmp_path / "predictions" / "t0001" / "1-1.npz"
    damaged = path.read_bytes()[:-30] if damaged is None else damaged
    path.write_bytes(damaged)
    aside = tmp_path / "predictions" / "t0001.npz.1-1.damaged"
    assert gather_predictions(tmp_path, trial_of(1, 1)) == [str(aside)]
    assert list(predictions(tmp_path)) == [2]
    assert aside.read_bytes() == damaged


@pytest.mark.parametrize("seed", range(50))
def test_a_flipped_bit_in_predictions_is_never_taken_for_a_value(tmp_path, seed):
    values = np.linspace(0, 1, 50)
    save(tmp_path, 1, 1, values)
    path = tmp_path / "predictions" / "t0001" / "1-1.npz"
    data, where = bytearray(path.read_bytes()), random.Random(seed)
    data[where.randrange(len(data))] ^= 1 << where.randrange(8)
    path.write_bytes(data)
    if not gather_predictions(tmp_path, trial_of(1)):  # a bit that nothing reads
        assert predictions(tmp_path)[1].tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "given",
    [np.array([Planted()]), [[1.0], [1.0, 2.0]], "abc", [None], torch.ones(2, requires_grad=True), np.array(["a"])],
    ids=["objects", "ragged", "text", "none", "gradient", "texts"],
)
def test_predictions_that_are_no_numbers_are_refused(tmp_path, given):
    # npz would pickle objects, and a run folder holds no pickle.
    with pytest.raises(ConfigError, match="predictions must be an array of numbers, but got"):
        save(tmp_path, 1, 1, given)
    assert not (tmp_path / "predictions").exists()


def test_predictions_of_a_tensor_are_taken(tmp_path):
    save(tmp_path, 1, 1, torch.tensor([1, 2]))
    gather_predictions(tmp_path, trial_of(1))
    assert predictions(tmp_path)[1].tolist() == [1, 2]
