import math

import pytest
from conformance_strategies import StrategyConformance, drive, keys, sweep

from tuner.errors import SweepError
from tuner.space import Choice, LogUniform, Uniform
from tuner.strategies import make_strategy, optuna_sampler
from tuner.strategies.options import SAMPLERS

pytest.importorskip("optuna")


class TestConformance(StrategyConformance):
    strategy = "optuna"


SPACE = {
    "optimizer": Choice(["sgd", "adam"], when={"sgd": {"momentum": Uniform(0.5, 0.9)}}),
    "lr": LogUniform(1e-4, 1.0),
}


def loss(config):
    return abs(math.log10(config["lr"]) + 2) + (config["optimizer"] == "sgd")


def by_optuna(sampler="TPESampler", **options):
    return make_strategy(
        sweep(SPACE, strategy="optuna", initial_random=3, optuna={"sampler": sampler, "options": options})
    )


@pytest.mark.parametrize("sampler", sorted({*SAMPLERS} - {"GPSampler", "CmaEsSampler"}))
def test_any_sampler_by_its_name(sampler):
    one, same = (drive(by_optuna(sampler), 8, loss=loss) for _ in range(2))

    assert keys(one) == keys(same)
    assert len(set(keys(one))) == 8
    assert one[-1].why == f"optuna's {sampler} over 7 trials"


def test_a_sampler_from_elsewhere():
    one, same = (drive(by_optuna("optuna.samplers:RandomSampler"), 8, loss=loss) for _ in range(2))

    assert keys(one) == keys(same)
    assert one[-1].why == "optuna's optuna.samplers:RandomSampler over 7 trials"


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        ("no.such:Sampler", "cannot be loaded: ModuleNotFoundError: No module named 'no', but got (no.such:Sampler)"),
        ("optuna.samplers:Nobody", "cannot be loaded: AttributeError: module 'optuna.samplers' has no attribute 'Nob"),
        ("json:JSONDecoder", "it must be a class derived from optuna.samplers.BaseSampler, but got (json:JSONDecode"),
    ],
)
def test_what_is_no_sampler_is_refused(sampler, said):
    with pytest.raises(SweepError) as caught:
        by_optuna(sampler)

    assert f"search.optuna.sampler: {said}" in str(caught.value)


def test_it_learns():
    late = [loss(p.config) for p in drive(by_optuna(multivariate=True, group=True), 30, loss=loss)[20:]]

    # draws at random would have 1.5
    assert sum(late) / 10 < 1


def test_a_sampler_that_keeps_notes_has_them():
    # a replayed study knows of the first generation, so the second is bred from it, not drawn
    strategy = by_optuna("NSGAIISampler", population_size=4)

    proposals = drive(strategy, 24, loss=loss)

    assert sum(loss(p.config) for p in proposals[16:]) < sum(loss(p.config) for p in proposals[:8])


def test_a_quasi_random_sampler_goes_on_with_its_sequence():
    space = {"a": Uniform(0.0, 1.0), "b": Uniform(0.0, 1.0)}
    strategy = make_strategy(
        sweep(space, strategy="optuna", optuna={"sampler": "QMCSampler", "options": {"scramble": True}})
    )

    values = sorted(p.config["a"] for p in drive(strategy, 17, loss=lambda config: config["a"]))

    # one in each eighth
    assert {int(8 * value) for value in values} == set(range(8))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"multivariat": True},
            "the sweep: search.optuna.options.multivariat: the sampler has no such option. "
            'Did you mean "multivariate"?',
        ),
        (
            {"n_startup_trials": 5},
            "the sweep: search.optuna.options.n_startup_trials: the sampler has no such option. "
            "search.initial_random says it; write it there.",
        ),
        (
            {"seed": 5},
            "the sweep: search.optuna.options.seed: the sampler has no such option. It is the sweep's own: sweep.seed.",
        ),
    ],
)
def test_wrong_options_of_a_sampler(options, sentence):
    with pytest.raises(SweepError) as caught:
        by_optuna(**options)

    assert str(caught.value) == sentence


def test_what_the_sampler_refuses_is_said_in_a_sentence():
    with pytest.raises(SweepError, match=r"search\.optuna\.options: NSGAIISampler does not take these: .*population"):
        by_optuna("NSGAIISampler", population_size=1)


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        ("TPESampler", {"n_ei_candidates": 0}),
        ("TPESampler", {"n_ei_candidates": "a"}),
        ("TPESampler", {"prior_weight": -1.0}),
        ("NSGAIISampler", {"population_size": 2, "crossover_prob": "x"}),
    ],
)
def test_what_the_sampler_cannot_work_with_is_said_before_a_trial_starts(sampler, options):
    with pytest.raises(SweepError, match=rf"^the sweep: search\.optuna\.options: {sampler} does not take these: \S"):
        by_optuna(sampler, **options)


@pytest.mark.parametrize("name", ["gamma", "weights", "constraints_func"])
def test_an_option_that_is_a_function_is_refused(name):
    with pytest.raises(SweepError) as caught:
        by_optuna(**{name: "f"})

    assert str(caught.value) == (
        f"the sweep: search.optuna.options.{name}: the sampler takes a function or an object there, "
        "which a sweep file cannot hold. Leave it out."
    )


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(optuna_sampler, "find_spec", lambda name: None)

    with pytest.raises(SweepError, match=r"needs the package optuna, which is not installed.*'cnn-tuner\[optuna\]'"):
        by_optuna()
