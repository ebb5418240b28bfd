from __future__ import annotations

from typing import ClassVar

import pytest
from conformance_backends import BackendConformance, Broken, make_driver, make_sweep, unequal

from tuner.backends import inline
from tuner.splits import Splits
from tuner.stopping import Rule


class TestInline(BackendConformance):
    backend = "inline"

    def drive(self, driver, train):
        inline.run(driver, train, Splits())


def test_an_error_in_a_rule_comes_out_though_the_trainable_swallows_it(tmp_path):
    class Breaks(Rule):
        name: ClassVar[str] = "breaks"

        def decide(self, curves, trial, epoch, max_epochs):
            raise Broken("the rule is broken")

    driver = make_driver(tmp_path / "run", make_sweep(unequal, {"slope": 0.5, "stubborn": True}), rules=[Breaks()])
    with pytest.raises(Broken, match="the rule is broken"):
        inline.run(driver, unequal, Splits())
    # Nothing is blamed on the trainable.
    assert driver.history.trials["t0001"].status == "running"
