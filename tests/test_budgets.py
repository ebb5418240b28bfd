from __future__ import annotations

import pytest
from made_runs import Made

from tuner.budgets import Budget, Limits, lasting, limits, of_session, standing
from tuner.history import Event, fold


def history(at: float = 1000.0):
    """Two trials of 3 and 1 epochs, of 1.5 s an epoch, in a session that began at 990."""
    rows = [Event("session", at=at - 10.0)]
    for number, values in enumerate([[0.1, 0.2, 0.3], [0.4]], start=1):
        rows += [event._replace(at=at) for event in Made({"x": number}, values).events(number, "score")]
    return fold(rows)


def test_a_sweep_without_budgets_has_none():
    assert (
        lasting(Limits(), history()) == [] and of_session(Limits(), 5.0) == [] and standing(Limits(), history()) == []
    )


def test_what_is_spent_and_left():
    known = Limits(epochs=10, gpu_hours=0.01, seconds=60.0, gpus=2.0)
    epochs, hours, seconds = standing(known, history())
    assert (epochs.spent, epochs.left, epochs.is_spent) == (4, 6, False)
    assert hours.spent == pytest.approx(2 * 6.0 / 3600)
    assert (seconds.spent, seconds.left) == (10.0, 50.0)
    # While it runs, seconds go on.
    assert standing(known, history(), now=1010.0)[2].spent == 20.0


@pytest.mark.parametrize(("limit", "spent"), [(3, True), (4, True), (5, False)])
def test_a_budget_is_spent_once_it_is_reached(limit, spent):
    (budget,) = lasting(Limits(epochs=limit), history())
    assert budget.is_spent == spent and budget.left == max(0, limit - 4)


def test_a_budget_is_read_as_resumes_have_set_it():
    written = {"epoch_budget": 5, "gpus_per_trial": 1.0, "lanes": 1}
    assert limits(written) == Limits(epochs=5, gpus=1.0)
    raised = [
        "search.trials=9",
        "resources.epoch_budget = 7",
        "resources.time_budget_s=1.5",
        "resources.at_budget=stop",
    ]
    assert limits(written, raised) == Limits(epochs=7, seconds=1.5, gpus=1.0)
    assert limits(written, ["resources={gpu_hours_budget = 2}"]) == Limits(gpu_hours=2)


def test_it_is_told_in_words():
    budget = Budget("resources.epoch_budget", "epochs", 2000, 1200)
    assert budget.text() == "1,200 of 2,000 epochs spent, 800 left"
    assert budget.short() == "800 of 2,000 epochs left"
    hours = Budget("resources.gpu_hours_budget", "GPU-hours", 1.5, 1.51234)
    assert hours.reason() == "resources.gpu_hours_budget = 1.5 is spent: 1.512 GPU-hours"
