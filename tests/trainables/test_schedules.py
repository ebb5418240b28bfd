"""Every schedule against torch's own, at every step of a trial."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_own

from trainables import mlp
from trainables.alone import Alone
from trainables.data import load
from trainables.optimizers import Optimizer, Schedule
from trainables.parameters import complete

EPOCHS, STEPS, RATE = 6, 5, 0.1


def ours(**config):
    """Our rate at every step."""
    schedule = Schedule(complete("cnn", {"learning_rate": RATE, **config}), EPOCHS, STEPS)
    return [schedule.rate(step) for step in range(EPOCHS * STEPS)]


def theirs(make, every=STEPS, total=EPOCHS * STEPS):
    """torch's rate at every step, of a scheduler that is stepped every `every` steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler, rates = make(optimizer), []
    for step in range(1, total + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        # Not after the last step: OneCycleLR refuses it.
        if step % every == 0 and step < total:
            scheduler.step()
    return rates


def test_constant():
    assert ours(lr_schedule="constant") == [RATE] * (EPOCHS * STEPS)


def test_step():
    expected = theirs(lambda o: torch_own.StepLR(o, step_size=2, gamma=0.3))
    assert ours(lr_schedule="step", step_epochs=2, gamma=0.3) == pytest.approx(expected)


def test_exponential():
    expected = theirs(lambda o: torch_own.ExponentialLR(o, gamma=0.8))
    assert ours(lr_schedule="exponential", gamma=0.8) == pytest.approx(expected)


def test_cosine_at_every_step():
    expected = theirs(lambda o: torch_own.CosineAnnealingLR(o, T_max=EPOCHS * STEPS), every=1)
    assert ours(lr_schedule="cosine") == pytest.approx(expected)


def test_cosine_at_every_epochs_first_step_is_torchs_cosine_by_epochs():
    expected = theirs(lambda o: torch_own.CosineAnnealingLR(o, T_max=EPOCHS))
    assert ours(lr_schedule="cosine")[::STEPS] == pytest.approx(expected[::STEPS])


@pytest.mark.parametrize(("warmup_epochs", "share"), [(0, 0.3), (3, 0.5), (6, 1.0)])
def test_one_cycle(warmup_epochs, share):
    def make(optimizer):
        total = EPOCHS * STEPS
        return torch_own.OneCycleLR(optimizer, RATE, total_steps=total, pct_start=share, cycle_momentum=False)

    assert ours(lr_schedule="one_cycle", warmup_epochs=warmup_epochs) == pytest.approx(theirs(make, every=1))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_warm_up_comes_before_the_schedule(schedule):
    warmup = 2 * STEPS

    def make(optimizer):
        after = {
            "constant": lambda: torch_own.ConstantLR(optimizer, factor=1),
            "cosine": lambda: torch_own.CosineAnnealingLR(optimizer, T_max=EPOCHS * STEPS - warmup),
            "step": lambda: torch_own.StepLR(optimizer, step_size=2 * STEPS, gamma=0.3),
        }
        rise = torch_own.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        return torch_own.SequentialLR(optimizer, [rise, after[schedule]()], milestones=[warmup])

    rates = ours(lr_schedule=schedule, warmup_epochs=2, step_epochs=2, gamma=0.3)
    assert rates == pytest.approx(theirs(make, every=1))


def test_a_warm_up_longer_than_the_trial_is_cut():
    assert ours(lr_schedule="cosine", warmup_epochs=99)[-1] == pytest.approx(RATE)


def test_manual_holds_each_rate_until_the_next():
    rates = ours(lr_schedule=[[1, 0.5], [3, 0.05], [4, 0.2]])
    assert rates[::STEPS] == [0.5, 0.5, 0.05, 0.2, 0.2, 0.2]


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_cuts_when_torch_cuts(patience):
    losses = [1.0, 0.9, 0.89999, 0.95, float("nan"), 0.8, 0.8, 0.8, 0.8, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9]
    schedule = Schedule(
        complete("cnn", {"lr_schedule": "plateau", "plateau_patience": patience, "gamma": 0.5}), len(losses), STEPS
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=schedule.config["learning_rate"])
    plateau = torch_own.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, eps=0)
    for epoch, loss in enumerate(losses):
        assert schedule.rate(epoch * STEPS) == pytest.approx(optimizer.param_groups[0]["lr"])
        # What it has seen survives a resume.
        resumed = Schedule(schedule.config, len(losses), STEPS)
        resumed.load_state_dict(schedule.state_dict())
        schedule = resumed
        schedule.observe(loss)
        plateau.step(loss)


def test_one_step_in_all_is_no_exception():
    for name in ("cosine", "one_cycle", "step", "plateau"):
        schedule = Schedule(complete("cnn", {"lr_schedule": name}), 1, 1)
        assert schedule.rate(0) > 0


# Any length, any warm-up


def after_warm_up(name, epochs, steps, warmup):
    """torch's scheduler, stepped at every step, with a linear rise of `warmup` steps before it."""
    total = epochs * steps
    if name == "one_cycle":
        share = warmup / total if warmup else 0.3
        return lambda o: torch_own.OneCycleLR(o, RATE, total_steps=total, pct_start=share, cycle_momentum=False)
    makers = {
        "constant": lambda o: torch_own.ConstantLR(o, factor=1),
        "step": lambda o: torch_own.StepLR(o, step_size=3 * steps, gamma=0.7),
        "exponential": lambda o: torch_own.StepLR(o, step_size=steps, gamma=0.7),  # ExponentialLR, an epoch at a time
        "cosine": lambda o: torch_own.CosineAnnealingLR(o, T_max=max(1, total - warmup)),
    }
    if not warmup:
        return makers[name]

    def sequence(optimizer):
        rise = torch_own.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        return torch_own.SequentialLR(optimizer, [rise, makers[name](optimizer)], milestones=[warmup])

    return sequence


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    name=st.sampled_from(["constant", "step", "exponential", "cosine", "one_cycle"]),
    epochs=st.integers(1, 8),
    steps=st.integers(4, 9),
    warmup_epochs=st.sampled_from([0, 0.5, 1, 1.5, 2, 3]),
)
def test_every_schedule_with_any_warm_up_is_torchs_at_every_step(name, epochs, steps, warmup_epochs):
    warmup = min(round(warmup_epochs * steps), epochs * steps)
    config = complete("cnn", {"lr_schedule": name, "learning_rate": RATE, "warmup_epochs": warmup_epochs})
    schedule = Schedule(config, epochs, steps)
    expected = theirs(after_warm_up(name, epochs, steps, warmup), every=1, total=epochs * steps)
    assert [schedule.rate(step) for step in range(epochs * steps)] == pytest.approx(expected, abs=1e-12)


# In a trial: the column learning_rate, and what the optimizer had

TRIAL_EPOCHS = 4
TOO_LOW = 1e-9
"""A rate at which nothing is learnt, so that plateau cuts."""
MANUAL = [[1, 0.05], [2, 0.2], [4, 0.01]]


@functools.cache
def wine():
    return load({"name": "wine"}, seed=0)


def trained(config, monkeypatch, trial=None):
    """Train; return the trial and the rate that the optimizer had in each of its steps."""
    used, step = [], Optimizer.step

    def noted(self, number):
        used.append(self.rates[0][number])
        step(self, number)

    monkeypatch.setattr(Optimizer, "step", noted)
    trial = trial or Alone(wine(), max_epochs=TRIAL_EPOCHS)
    mlp.train({"dense_units": 8, "dense_layers": 1, "batch_size": 20, **config}, trial)
    monkeypatch.undo()
    return trial, used


def expected_rates(config, reports, steps):
    """What torch's schedulers give at every step of the trial that reported this."""
    name, warmup = config["lr_schedule"], round(config["warmup_epochs"] * steps)
    if name is MANUAL:
        return [rate for epoch in range(1, 5) for rate in [[r for at, r in MANUAL if at <= epoch][-1]] * steps]
    if name != "plateau":
        return theirs(after_warm_up(name, TRIAL_EPOCHS, steps, warmup), every=1, total=TRIAL_EPOCHS * steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=TOO_LOW)
    plateau, rates = torch_own.ReduceLROnPlateau(optimizer, factor=0.7, patience=0, eps=0), []
    for row in reports:
        rates += [optimizer.param_groups[0]["lr"]] * steps
        plateau.step(row["val_loss"])
    return [TOO_LOW * (step + 1) / warmup if step < warmup else rate for step, rate in enumerate(rates)]


@pytest.mark.parametrize("warmup_epochs", [0, 1, 1.5])
@pytest.mark.parametrize("name", ["constant", "step", "exponential", "cosine", "one_cycle", "plateau", MANUAL])
def test_the_column_is_the_rate_that_was_used_also_after_a_resume(name, warmup_epochs, monkeypatch):
    config = {"lr_schedule": name, "warmup_epochs": warmup_epochs, "plateau_patience": 0}
    config["learning_rate"] = TOO_LOW if name == "plateau" else RATE
    trial, used = trained(config, monkeypatch)
    steps = len(used) // TRIAL_EPOCHS
    expected = expected_rates(config, trial.reports, steps)
    assert steps > 4 and used == pytest.approx(expected)
    assert [row["learning_rate"] for row in trial.reports] == used[::steps]
    if name == "plateau":
        assert used[-1] < TOO_LOW * 0.71  # it did cut
    for epoch in range(1, TRIAL_EPOCHS):
        resumed, rest = trained(config, monkeypatch, trial.resumed(epoch))
        # Not near: a resumed trial goes on bit for bit.
        assert rest == used[epoch * steps :]
        assert [row["learning_rate"] for row in resumed.reports] == used[epoch * steps :: steps]
