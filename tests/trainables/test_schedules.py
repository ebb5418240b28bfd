"""Every schedule against torch's own, at every step of a trial."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler as torch_own

from trainables.optimizers import Schedule
from trainables.training import complete

EPOCHS, STEPS, RATE = 6, 5, 0.1


def ours(**config):
    """Our rate at every step."""
    schedule = Schedule(complete("cnn", {"learning_rate": RATE, **config}), EPOCHS, STEPS)
    return [schedule.rate(step) for step in range(EPOCHS * STEPS)]


def theirs(make, every=STEPS):
    """torch's rate at every step, of a scheduler that is stepped every `every` steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler, rates = make(optimizer), []
    for step in range(1, EPOCHS * STEPS + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        # Not after the last step: OneCycleLR refuses it.
        if step % every == 0 and step < EPOCHS * STEPS:
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
