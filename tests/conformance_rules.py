"""What every stopping rule must hold. A rule of one's own inherits it:

from conformance_rules import RuleConformance

class TestMine(RuleConformance):
    rule = Mine()
    compares = True            # whether it judges a trial by others; then a trial alone, and equal ones, go on
"""

import copy
import math
import pickle
import random

import pytest

from tuner.analysis.whatif import what_if
from tuner.history import EpochRecord, TrialRecord
from tuner.stopping import RULES

MAX_EPOCHS = 27


def table(trials=12, epochs=MAX_EPOCHS, seed=0):
    """Return curves to be minimised: most fall to a floor of their own, one stays flat, one explodes."""
    rng = random.Random(seed)
    curves = {}
    for number in range(1, trials + 1):
        floor, speed = rng.uniform(0.1, 1.0), rng.uniform(0.05, 0.5)
        curves[f"t{number:04d}"] = {
            epoch: floor + (2.3 - floor) * math.exp(-speed * epoch) + rng.gauss(0, 0.02)
            for epoch in range(1, epochs + 1)
        }
    curves["t0003"] = {epoch: 2.3 + rng.gauss(0, 0.01) for epoch in curves["t0003"]}
    curves["t0005"] = {epoch: 2.3 * 3 ** max(0, epoch - 5) for epoch in curves["t0005"]}
    return curves


def replay(rule, curves, order=None, max_epochs=MAX_EPOCHS):
    """Report curves epoch by epoch, all trials side by side; return trial -> (epoch, reason) of those stopped."""
    seen, stops = {}, {}
    for epoch in range(1, max_epochs + 1):
        for trial in order or curves:
            if trial in stops or epoch not in curves[trial]:
                continue
            seen.setdefault(trial, {})[epoch] = curves[trial][epoch]
            reason = rule.decide(seen, trial, epoch, max_epochs)
            if reason:
                stops[trial] = (epoch, reason)
    return stops


def records(curves, sign):
    """Return trials of the journal with these curves."""
    made = []
    for number, (trial, curve) in enumerate(curves.items(), start=1):
        record = TrialRecord(trial, number, number, "search", None, 1, {}, 0, "random", "why")
        record.status = "completed"
        record.epochs = {
            epoch: EpochRecord({"metrics": {"value": sign * value}}, 1, float(epoch)) for epoch, value in curve.items()
        }
        made.append(record)
    return made


class RuleConformance:
    """What every rule must hold; subclasses name the rule."""

    rule = None
    compares = False

    def test_it_is_known_by_its_name(self):
        assert RULES[self.rule.name] is type(self.rule)

    def test_it_stops_some_and_not_all(self):
        stops = replay(self.rule, table())

        assert 0 < len(stops) < 12
        assert all("\n" not in reason and reason.startswith(f"{self.rule.name}: ") for _, reason in stops.values())

    def test_pure(self):
        curves = table()
        before = copy.deepcopy(curves)

        first, fresh = replay(self.rule, curves), replay(pickle.loads(pickle.dumps(self.rule)), curves)

        # the same history gives the same answers, a fresh rule too (after a resume), and is left as it was
        assert first == fresh
        assert curves == before

    def test_a_resume_decides_the_same(self):
        # a resume reads the curves trial by trial, not in the order in which they were reported
        curves = {trial: dict(sorted(curve.items())[:9]) for trial, curve in table().items()}
        backwards = dict(reversed(curves.items()))

        for trial in curves:
            one, other = (self.rule.decide(c, trial, 9, MAX_EPOCHS) for c in (curves, backwards))
            # who is named in the reason may differ
            assert bool(one) == bool(other)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_is_survived_and_never_good(self, value):
        curves = table()
        whole = replay(self.rule, curves)
        curves["t0002"] = dict.fromkeys(curves["t0002"], value)
        mixed = {trial: curve | {4: value} for trial, curve in table().items()}

        stops = replay(self.rule, curves)

        # it takes no place away from others that would go on
        assert not {t for t in stops if t not in whole} - {"t0002"} or not self.compares
        replay(self.rule, mixed)

    def test_max_is_min_of_the_negative(self):
        curves = table()
        rules = {mode: self.for_mode(mode) for mode in ("min", "max")}

        told = {
            mode: what_if(records(curves, sign), [rules[mode]], "value", mode, MAX_EPOCHS)
            for mode, sign in (("min", 1.0), ("max", -1.0))
        }

        stopped = {mode: [(stop.trial, stop.epoch) for stop in each.stops] for mode, each in told.items()}
        assert stopped["min"] == stopped["max"] != []

    def for_mode(self, mode):
        """Return the rule for values (min) or their negatives (max)."""
        return self.rule.for_mode(mode)

    def test_a_trial_that_reports_every_other_epoch_is_judged_too(self):
        curves = {trial: {at: value for at, value in curve.items() if at % 2 == 0} for trial, curve in table().items()}

        assert replay(self.rule, curves)

    def test_the_untrained_first_epoch_ends_nobody(self):  # trap 11
        curves = {trial: {1: value[1]} for trial, value in table().items()} | {"t0004": {1: 50.0}}

        assert not any(self.rule.decide(curves, trial, 1, MAX_EPOCHS) for trial in curves)

    def test_a_slow_starter_is_not_held_for_lost_at_once(self):
        # flat for the first two epochs, then the best of all
        curves = table() | {"slow": {1: 2.4, 2: 2.4, **{epoch: 1.6 / epoch for epoch in range(3, MAX_EPOCHS + 1)}}}
        curves["slow"] |= dict.fromkeys(range(3, 8), 0.2)

        assert replay(self.rule, curves).get("slow", (99, ""))[0] > 3

    def test_where_it_compares_neither_a_trial_alone_nor_equal_ones_end(self):
        if not self.compares:
            pytest.skip("it judges each trial by itself")
        alone = {"t0001": {epoch: 2.0 + epoch for epoch in range(1, MAX_EPOCHS + 1)}}
        equal = {f"t{number:04d}": dict.fromkeys(range(1, MAX_EPOCHS + 1), 0.9) for number in range(9)}

        assert replay(self.rule, alone) == {}
        assert replay(self.rule, equal) == {}
