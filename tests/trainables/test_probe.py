"""How many lanes train fastest: the choice is pure; what it rests on is measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from trainables.data import load
from trainables.lanes import probe

SMALL = {"filters": 4, "conv_layers": 1, "dense_units": 8, "batch_size": 16}


@pytest.mark.parametrize(
    ("rates", "lanes"),
    [
        ({1: 10.0}, 1),
        ({1: 10.0, 2: 9.0}, 1),
        ({1: 10.0, 2: 10.5}, 1),  # not worth a stacked model
        ({1: 10.0, 2: 15.0, 4: 15.5}, 2),
        ({1: 10.0, 2: 19.0, 4: 37.0, 8: 70.0}, 8),
    ],
)
def test_lanes_are_doubled_for_as_long_as_that_gains_enough(rates, lanes):
    assert probe.best(rates) == lanes


def test_memory_bounds_the_lanes():
    data = load({"name": "digits", "limit": 300}, 0)
    rates = probe.measure("cnn", SMALL, data, "cpu", "fp32", most=64, free_bytes=1)
    assert list(rates) == [1]


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_a_process_of_its_own_measures_what_a_file_asks_for(tmp_path, name):
    data = load({"name": name, "limit": 300}, 0)
    trainable, config = ("cnn", SMALL) if name == "digits" else ("mlp", {"dense_units": 8})
    request = {
        "trainable": trainable,
        "config": config,
        "device": "cpu",
        "precision": "fp32",
        "most": 2,
        "free_bytes": None,
        "threads": 1,
    }
    probe.write(tmp_path / "request.npz", request, data, 128)
    command = [sys.executable, "-m", "trainables.lanes.probe", str(tmp_path / "request.npz")]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert set(told) == {"1", "2"} and min(told.values()) > 0


def test_few_samples_are_enough():
    data = load({"name": "digits"}, 0)
    few = probe._few(data, 100)
    assert (len(few.train), len(few.val)) == (100, 25)
