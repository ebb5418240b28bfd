from conformance_strategies import StrategyConformance, drive, sweep

from tuner.space import Space
from tuner.strategies import Observation, make_strategy


class TestConformance(StrategyConformance):
    strategy = "manual"

    def make(self, space, defaults, points=(), trials=20, **search):
        # manual has only its points: where the suite gives none, some configs of the space
        rest = [config for config in Space.parse(space).grid() if config not in points]
        points = [*points, *rest[: trials - len(points)]]
        return super().make(space, defaults, points=points, trials=trials, **search)

    def test_what_is_known_does_not_count_against_the_limit(self):
        known = Observation(0, {**POINTS[0]}, "done", 1.0, earlier=True)
        assert [p.config for p in drive(manual(POINTS, trials=2), 9, history=[known])] == POINTS[1:]


POINTS = [{"lr": 0.1, "sizes": [1, 2]}, {"lr": 0.3, "sizes": [3]}, {"lr": 0.2, "sizes": []}]


def manual(points, **search):
    return make_strategy(sweep({}, points=points, **search))


def test_points_without_a_space_in_their_order():
    strategy = manual(POINTS)

    assert [p.config for p in drive(strategy, 9)] == POINTS
    assert (strategy.name, strategy.total, strategy.note) == ("manual", 3, "")


def test_a_point_that_stands_twice_comes_once_and_it_says_so():
    strategy = manual([POINTS[0], POINTS[1], POINTS[0]])

    assert [p.config for p in drive(strategy, 9)] == POINTS[:2]
    assert strategy.total == 2
    assert strategy.note == "1 of 3 points stand there before, and come once"


def test_a_limit_leaves_out_the_last_ones_and_it_says_so():
    strategy = manual(POINTS, trials=2)

    assert [p.config for p in drive(strategy, 9)] == POINTS[:2]
    assert strategy.note == "3 points, limit 2: the last 1 left out"
