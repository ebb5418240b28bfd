"""Where a split's values lie, and that a batch is the same wherever they do."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from trainables import cnn, samples
from trainables.data import load
from trainables.lanes import Group
from trainables.parameters import complete
from trainables.samples import AHEAD, Samples
from trainables.training import Learner
from tuner.trainable import Split

CPU = torch.device("cpu")


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (50, 1, 4, 4), dtype=np.uint8), rng.integers(0, 3, 50))


def test_what_stays_behind_is_brought_in_the_same_batches(split):
    near, far = (Samples(split, CPU, resident) for resident in (True, False))
    indices = torch.randperm(50).split(8)
    for one, other in zip(near.take(indices), far.take(indices), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(torch.cat(list(far.parts(7))), near.x)
    lanes = torch.randint(0, 50, (20, 3)).split(6)
    assert [tuple(batch.shape) for batch in far.take(lanes)] == [(6, 3, 1, 4, 4)] * 3 + [(2, 3, 1, 4, 4)]


def test_a_cpu_has_its_samples_where_they_are(split):
    assert Samples(split, CPU).resident


def test_joined_parts_are_resident_only_where_all_are(split):
    near, far = (Samples(split, CPU, resident) for resident in (True, False))
    assert Samples.joined([near, near]).resident and not Samples.joined([near, far]).resident
    assert torch.equal(Samples.joined([near, far]).x, torch.cat([near.x, near.x]))


def test_no_more_is_fetched_than_is_ahead():
    fetched = []

    def fetch(item):
        fetched.append(int(item))
        return item

    coming = samples._ahead(map(torch.tensor, range(100)), fetch)
    next(coming)
    coming.close()
    assert len(fetched) <= AHEAD + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_an_error_beside_comes_out_where_the_batch_is_taken(split):
    with pytest.raises(IndexError):
        list(Samples(split, CPU, resident=False).take([torch.tensor([0]), torch.tensor([99])]))


CONFIG = {"filters": 8, "conv_layers": 1, "dense_units": 16, "learning_rate": 0.05, "dropout": 0.2, "augment": "crop"}


def trained():
    data = load({"name": "digits", "limit": 400}, seed=1)
    learner = Learner(cnn.build, complete("cnn", CONFIG), data, 2, 7, CPU)
    start = learner.start_loss()
    rows = []
    for epoch in (1, 2):
        learner.train_epoch(epoch)
        rows.append(learner.measure()[0])
    return start, rows, learner.state_dict()["model"]


def test_a_trial_trains_the_same_where_its_data_does_not_fit(monkeypatch):
    near = trained()
    monkeypatch.setattr(samples, "_fits", lambda x, device: False)
    far = trained()
    assert near[:2] == far[:2]
    assert all(torch.equal(near[2][name], far[2][name]) for name in near[2])


def grouped():
    data = load({"name": "digits", "limit": 400}, seed=1)
    group = Group(cnn.build, CPU)
    for seed in (1, 2):
        group.add(complete("cnn", CONFIG), data, 1, seed)
    return [{k: v for k, v in row.metrics.items() if k != "epoch_s"} for row in group.train_epoch().values()]


def test_lanes_train_the_same_where_their_data_does_not_fit(monkeypatch):
    near = grouped()
    monkeypatch.setattr(samples, "_fits", lambda x, device: False)
    assert grouped() == near
