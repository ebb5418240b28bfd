"""Sweep files and Sweep(...): what is filled in, what is refused and how, what is frozen."""

from __future__ import annotations

import datetime
import pickle
import sys

import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st

import trainables.data
import tuner
from trainables import metrics, parameters
from tuner.errors import SweepError
from tuner.spec import Sweep, load_sweep
from tuner.spec.code import BUILTINS
from tuner.spec.data import OPTIONS
from tuner.spec.metrics import METRICS

HEAD = '[sweep]\ntrainable = "cnn"\n'
DIGITS = HEAD + '[data]\nname = "digits"\n'
SPACE = "[space]\nlearning_rate = { loguniform = [1e-4, 1e-1] }\n"
GOOD = DIGITS + SPACE


def train(config, trial):
    """A user's own trainable."""
    trial.report(epoch=1, loss=config["x"])


@pytest.fixture
def load(tmp_path):
    """Return a function that writes a sweep file and loads it."""

    def write_and_load(text, *overrides, name="digits.toml", **options):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return load_sweep(path, overrides, **options)

    return write_and_load


def refused(function, *args, **options):
    """Return the error that a call raises, having checked that every sentence names its source."""
    with pytest.raises(SweepError) as caught:
        function(*args, **options)
    error = caught.value
    assert error.exit_status == 2
    lines = str(error).split("\n")
    assert len(lines) == len(error.problems)
    assert all(line.startswith(f"{error.source}: ") for line in lines)
    return error


# --- bad files ------------------------------------------------------------------------------------

BAD_FILES = {
    # id: (file, key, part of the rule, part of what was received, part of the remedy)
    "no trainable": (
        '[sweep]\nseed = 1\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.trainable", "is required", "", '"path/to/file.py:function"'),
    ),
    "empty file": ("", ("sweep.trainable", "is required", "", '"cnn", "resnet", "mlp"')),
    "trainable misspelt": (
        '[sweep]\ntrainable = "resnt"\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.trainable", "must be a built-in name", '"resnt"', 'Did you mean "resnet"?'),
    ),
    "trainable is a number": (
        "[sweep]\ntrainable = 3\n" + SPACE,
        ("sweep.trainable", "must be a name or a function", "3", 'Write it like "cnn"'),
    ),
    "trainable's file is missing": (
        '[sweep]\ntrainable = "nowhere.py:train"\nmetric = "loss"\n' + SPACE,
        ("sweep.trainable", "there is no file /", "nowhere.py:train", ""),
    ),
    "trainable's module is missing": (
        '[sweep]\ntrainable = "no_such_package.mine:train"\nmetric = "loss"\n' + SPACE,
        ("sweep.trainable", "there is no module no_such_package.mine", "", '"path/to/mine.py:train"'),
    ),
    "table misspelt": (
        GOOD + "[serch]\ntrials = 3\n",
        ("serch", "there is no such table", "", 'Did you mean "search"?'),
    ),
    "key outside of its table": (
        'trainable = "cnn"\n' + SPACE,
        ("trainable", "must stand inside a table", '"cnn"', "Write it under [sweep]."),
    ),
    "key misspelt": (
        GOOD + "[search]\ntrils = 3\n",
        ("search.trils", "there is no such key", "", 'Did you mean "trials"?'),
    ),
    "key in the wrong table": (
        HEAD + 'trials = 3\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.trials", "there is no such key", "", "Write it under [search]."),
    ),
    "table is a value": (
        "search = 3\n" + GOOD,
        ("search", "must be a table", "3", "Write it as [search]."),
    ),
    "number in quotes": (
        GOOD + '[search]\ntrials = "8"\n',
        ("search.trials", "must be a whole number of at least 1", '"8"', ""),
    ),
    "trials is 0": (
        GOOD + "[search]\ntrials = 0\n",
        ("search.trials", "must be a whole number of at least 1", "0", ""),
    ),
    "trials is a boolean": (
        GOOD + "[search]\ntrials = true\n",
        ("search.trials", "must be a whole number of at least 1", "true", ""),
    ),
    "seed is negative": (
        HEAD + 'seed = -1\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.seed", "must be a whole number of at least 0", "-1", ""),
    ),
    "name is a path": (
        HEAD + 'name = "a/b"\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.name", "must be a folder's name", '"a/b"', ""),
    ),
    "name is latest": (
        HEAD + 'name = "latest"\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.name", 'may not be "latest"', "", "Choose another name."),
    ),
    "metric misspelt": (
        HEAD + 'metric = "val_acuracy"\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.metric", "must be a metric of classification", '"val_acuracy"', 'Did you mean "val_accuracy"?'),
    ),
    "metric of the other task": (
        '[sweep]\ntrainable = "mlp"\nmetric = "val_accuracy"\n[data]\nname = "diabetes"\n' + SPACE,
        ("sweep.metric", "must be a metric of regression", '"val_accuracy"', "val_rmse"),
    ),
    "mode against the metric": (
        HEAD + 'metric = "val_loss"\nmode = "max"\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.mode", 'val_loss must have mode "min"', '"max"', 'Write mode = "min", or leave it out.'),
    ),
    "mode misspelt": (
        HEAD + 'mode = "mix"\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.mode", 'must be "max" or "min"', '"mix"', 'Did you mean "min"?'),
    ),
    "no data": (HEAD + SPACE, ("data", "is required for the built-in cnn", "", 'name = "digits"')),
    "no data name": (
        HEAD + "[data]\nlimit = 100\n" + SPACE,
        ("data.name", "is required", "", ""),
    ),
    "data set misspelt": (
        HEAD + '[data]\nname = "fashon_mnist"\n' + SPACE,
        ("data.name", "must be the name of a data set", '"fashon_mnist"', 'Did you mean "fashion_mnist"?'),
    ),
    "option of another set": (
        DIGITS + 'target = "y"\n' + SPACE,
        ("data.target", "is not an option of digits", '"y"', "Options of digits: limit"),
    ),
    "images without a path": (
        HEAD + '[data]\nname = "images"\n' + SPACE,
        ("data.path", "is required for images", "", 'path = "..."'),
    ),
    "table without a target": (
        '[sweep]\ntrainable = "mlp"\nmetric = "val_loss"\n[data]\nname = "table"\npath = "a.csv"\n' + SPACE,
        ("data.target", "is required for table", "", "Name the column to predict"),
    ),
    "table that is not there": (
        '[sweep]\ntrainable = "mlp"\n[data]\nname = "table"\npath = "no.csv"\ntarget = "y"\n' + SPACE,
        ("data.task", "classification or regression?", "", "Give data.task, or sweep.metric."),
    ),
    "nothing left to train on": (
        DIGITS + "val_fraction = 0.5\ntest_fraction = 0.5\n" + SPACE,
        ("data.val_fraction", "val_fraction + test_fraction < 1 must hold", "test_fraction=0.5", ""),
    ),
    "val_fraction is a percentage": (
        DIGITS + "val_fraction = 20\n" + SPACE,
        ("data.val_fraction", "must be a number between 0 and 1", "20", ""),
    ),
    "one fold": (
        DIGITS + "folds = 1\n" + SPACE,
        ("data.folds", "must be a whole number of at least 2", "1", ""),
    ),
    "on_corrupt misspelt": (
        HEAD + '[data]\nname = "images"\npath = "cats"\non_corrupt = "skp"\n' + SPACE,
        ("data.on_corrupt", 'must be "fail" or "skip"', '"skp"', 'Did you mean "skip"?'),
    ),
    "cnn on a table": (
        HEAD + '[data]\nname = "wine"\n' + SPACE,
        ("sweep.trainable", "cnn needs images, and wine is a table", '"cnn"', 'Write trainable = "mlp".'),
    ),
    "a constraint without a number": (
        HEAD + 'constraints = ["params < 10", "params"]\n' + '[data]\nname = "digits"\n' + SPACE,
        ("sweep.constraints[1]", "must be a metric, a sign and a number", '"params"', 'like "params < 200_000"'),
    ),
    "an objective that is no way": (
        HEAD + 'objectives = { params = "small" }\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.objectives", 'must be a table of metrics, each "min" or "max"', 'params = "small"', ""),
    ),
    "an objective that is no metric": (
        HEAD + 'objectives = { parms = "min" }\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.objectives.parms", "parms is no metric of the trainable", 'parms = "min"', 'Did you mean "params"?'),
    ),
    "an objective the wrong way": (
        HEAD + 'objectives = { val_loss = "max" }\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.objectives.val_loss", 'must be "min"', 'val_loss = "max"', 'Write val_loss = "min".'),
    ),
    "the metric as an objective": (
        HEAD + 'objectives = { val_accuracy = "max" }\n[data]\nname = "digits"\n' + SPACE,
        ("sweep.objectives.val_accuracy", "is the sweep's metric", 'val_accuracy = "max"', "Leave it out."),
    ),
    "a constraint on no metric": (
        HEAD + 'constraints = ["val_los < 1"]\n' + '[data]\nname = "digits"\n' + SPACE,
        ("sweep.constraints[0]", "val_los is no metric of the trainable", '"val_los < 1"', 'Did you mean "val_loss"?'),
    ),
    "no space": (DIGITS, ("space", "a [space] or search.points is required", "", "learning_rate = ")),
    "low above high": (
        DIGITS + "[space]\nlearning_rate = { loguniform = [1e-1, 1e-4] }\n",
        ("space.learning_rate", "low < high must hold", "low=0.1, high=0.0001", "Swap the two numbers."),
    ),
    "log with 0": (
        DIGITS + "[space]\nlearning_rate = { loguniform = [0, 1e-1] }\n",
        ("space.learning_rate", "low > 0 must hold", "low=0", "Start at a small number"),
    ),
    "empty choice": (
        DIGITS + "[space]\nbatch_size = { choice = [] }\n",
        ("space.batch_size", "a choice needs at least one option", "an empty list", ""),
    ),
    "step that does not divide": (
        DIGITS + "[space]\ndropout = { uniform = [0.0, 0.5], step = 0.2 }\n",
        ("space.dropout.step", "step must divide high - low", "step=0.2", "0.4"),
    ),
    "domain misspelt": (
        DIGITS + "[space]\nlearning_rate = { logunifrom = [1e-4, 1e-1] }\n",
        ("space.learning_rate", "a table must name its domain", "logunifrom", 'Did you mean "loguniform"?'),
    ),
    "domain of three numbers": (
        DIGITS + "[space]\nlearning_rate = { loguniform = [1e-4, 1e-3, 1e-2] }\n",
        ("space.learning_rate", "loguniform must be two numbers", "0.001", ""),
    ),
    "parameter misspelt": (
        DIGITS + "[space]\nlearning_rte = { loguniform = [1e-4, 1e-1] }\n",
        ("space.learning_rte", "cnn has no parameter of this name", "", 'Did you mean "learning_rate"?'),
    ),
    "parameter of another trainable, in a branch": (
        DIGITS + '[space.optimizer]\nchoice = ["sgd", "adam"]\nwhen.sgd.momentm = { uniform = [0.5, 0.9] }\n',
        ("space.optimizer.when.sgd.momentm", "cnn has no parameter", "", 'Did you mean "momentum"?'),
    ),
    "range reaches out of a parameter's limits": (
        DIGITS + "[space]\ndropout = { uniform = [0.0, 1.0] }\n",
        ("space.dropout", "0 <= dropout < 1 must hold", "1.0", ""),
    ),
    "range of fractions for a whole number": (
        DIGITS + "[space]\nfilters = { loguniform = [8, 64] }\n",
        ("space.filters", "filters", "8.0", "Write logint in place of loguniform."),
    ),
    "max_epochs in quotes, whatever the epochs": (
        HEAD + 'max_epochs = "50"\n[data]\nname = "digits"\n[space]\nepochs = { int = [5, 20] }\n',
        ("sweep.max_epochs", "must be a whole number of at least 1", '"50"', ""),
    ),
    "option that a parameter does not have": (
        DIGITS + '[space]\noptimizer = { choice = ["sgd", "adm"] }\n',
        ("space.optimizer", "optimizer must be one of sgd", '"adm"', ""),
    ),
    "normal without bounds": (
        DIGITS + "[space]\ndropout = { normal = [0.3, 0.1] }\n",
        ("space.dropout", "0 <= dropout < 1 must hold", "-0.1", "Add bounds = [low, high]"),
    ),
    "default misspelt": (
        GOOD + "[defaults]\nbach_size = 32\n",
        ("defaults.bach_size", "cnn has no parameter of this name", "", 'Did you mean "batch_size"?'),
    ),
    "default out of its limits": (
        GOOD + "[defaults]\ndropout = 2.0\n",
        ("defaults.dropout", "0 <= dropout < 1 must hold", "2.0", ""),
    ),
    "more epochs than max_epochs": (
        GOOD + "epochs = { int = [5, 20] }\n",
        ("space.epochs", "epochs may not exceed max_epochs = 10", "20", "raise sweep.max_epochs"),
    ),
    "strategy misspelt": (
        GOOD + '[search]\nstrategy = "gird"\n',
        ("search.strategy", "must be the name of a strategy", '"gird"', 'Did you mean "grid"?'),
    ),
    "grid without points": (
        DIGITS + '[space]\nlearning_rate = { loguniform = [1e-5, 1.0] }\n[search]\nstrategy = "grid"\n',
        (
            "space.learning_rate",
            "grid needs points on every range",
            "loguniform = [1e-05, 1.0]",
            "Write learning_rate = { loguniform = [1e-05, 1.0], points = 5 }",
        ),
    ),
    "grid without points, few integers, in a branch": (
        DIGITS
        + '[space.lr_schedule]\nchoice = ["step", "constant"]\nwhen.step.step_epochs = { int = [2, 4] }\n'
        + '[search]\nstrategy = "grid"\n',
        (
            "space.lr_schedule.when.step.step_epochs",
            "grid needs points on every range",
            "int = [2, 4]",
            "Write step_epochs = { int = [2, 4], points = 3 }",
        ),
    ),
    "grid of a normal": (
        DIGITS + '[space]\nlearning_rate = { lognormal = [-5, 1] }\n[search]\nstrategy = "grid"\n',
        ("space.learning_rate", "grid cannot cut a distribution", "lognormal", "uniform = [low, high]"),
    ),
    "options of another strategy": (
        GOOD + '[search]\nstrategy = "gp"\n[search.hyperopt]\ngamma = 0.5\n',
        ("search.hyperopt", "options of another strategy", "strategy=gp", 'Set strategy = "hyperopt"'),
    ),
    "a strategy's option out of range": (
        GOOD + '[search]\nstrategy = "hyperopt"\nhyperopt = { gamma = 0 }\n',
        ("search.hyperopt.gamma", "gamma > 0.0 must hold", "0", ""),
    ),
    "a strategy's option beyond its bound": (
        GOOD + '[search]\nstrategy = "hyperopt"\nhyperopt = { gamma = 1e308 }\n',
        ("search.hyperopt.gamma", "gamma <= 25.0 must hold", "1e+308", ""),
    ),
    "a strategy's option misspelt": (
        GOOD + '[search]\nstrategy = "gp"\ngp = { candidate = 40 }\n',
        ("search.gp.candidate", "unknown option", "", 'Did you mean "candidates"?'),
    ),
    "options of a strategy without any": (
        GOOD + '[search]\nstrategy = "random"\nrandom = { n = 40 }\n',
        ("search.random.n", "unknown option", "", "It has none"),
    ),
    "options of no strategy": (
        GOOD + '[search]\nstrategy = "gp"\n[search.gpp]\ncandidates = 40\n',
        ("search.gpp", "there is no such table", "", 'Did you mean "gp"?'),
    ),
    "options that are no table": (
        GOOD + '[search]\nstrategy = "gp"\ngp = 3\n',
        ("search.gp", "a table of options is needed", "3", "[search.gp]"),
    ),
    "a sampler that is a strategy here": (
        GOOD + '[search]\nstrategy = "optuna"\noptuna = { sampler = "GridSampler" }\n',
        ("search.optuna.sampler", 'or a module:Class (strategy = "grid" does the same)', "'GridSampler'", ""),
    ),
    "an unknown sampler": (
        GOOD + '[search]\nstrategy = "optuna"\noptuna = { sampler = "TPE" }\n',
        ("search.optuna.sampler", "sampler must be one of TPESampler, GPSampler", "'TPE'", ""),
    ),
    "initial_random without hyperopt": (
        GOOD + '[search]\nstrategy = "random"\ninitial_random = 5\n',
        ("search.initial_random", "is not an option of random", "5", 'strategy = "auto"'),
    ),
    "manual without points": (
        GOOD + '[search]\nstrategy = "manual"\n',
        ("search.points", "manual needs at least one config", "", "Add points = [{ learning_rate"),
    ),
    "points are no list": (
        GOOD + "[search]\npoints = 3\n",
        ("search.points", "must be a list of configs", "3", ""),
    ),
    "point with a misspelt name": (
        GOOD + "[search]\npoints = [{ learning_rate = 0.01 }, { learning_rte = 0.01 }]\n",
        ("search.points[1].learning_rte", "unknown name", "", 'Did you mean "learning_rate"?'),
    ),
    "point out of range": (
        GOOD + "[search]\npoints = [{ learning_rate = 5.0 }]\n",
        ("search.points[0].learning_rate", "from 0.0001 to 0.1", "learning_rate=5.0", ""),
    ),
    "point without a space, out of its limits": (
        DIGITS + "[search]\npoints = [{ dropout = 3.0 }]\n",
        ("search.points[0].dropout", "0 <= dropout < 1 must hold", "3.0", ""),
    ),
    "stopping rule misspelt": (
        GOOD + '[stopping]\nrules = ["asah"]\n',
        ("stopping.rules", "unknown rule", "asah", 'Did you mean "asha"?'),
    ),
    "stopping option misspelt": (
        GOOD + '[stopping]\nrules = ["asha"]\nasha.grace_epoch = 2\n',
        ("stopping.asha.grace_epoch", "unknown option", "", 'Did you mean "grace_epochs"?'),
    ),
    "options of a rule that is not used": (
        GOOD + "[stopping.asha]\ngrace_epochs = 2\n",
        ("stopping.asha", "options of a rule that is not in rules", "", 'Add "asha" to rules'),
    ),
    "one and a half GPUs": (
        GOOD + "[resources]\ngpus_per_trial = 1.5\n",
        ("resources.gpus_per_trial", "a fraction of a GPU (0 to 1), or a whole number", "1.5", ""),
    ),
    "no CPU": (
        GOOD + "[resources]\ncpus_per_trial = 0\n",
        ("resources.cpus_per_trial", "must be a number above 0", "0", ""),
    ),
    "precision misspelt": (
        GOOD + '[resources]\nprecision = "bf61"\n',
        ("resources.precision", 'must be "auto" or "fp32" or "bf16"', '"bf61"', 'Did you mean "bf16"?'),
    ),
    "lanes in words": (
        GOOD + '[resources]\nlanes = "two"\n',
        ("resources.lanes", 'must be a whole number of at least 1, or "auto"', '"two"', ""),
    ),
    "no checkpoint kept": (
        GOOD + "[checkpoint]\nkeep = 0\n",
        ("checkpoint.keep", "must be a whole number of at least 1", "0", ""),
    ),
    "non_finite misspelt": (
        GOOD + '[failure]\nnon_finite = "wrost"\n',
        ("failure.non_finite", 'must be "fail" or "worst"', '"wrost"', 'Did you mean "worst"?'),
    ),
}


@pytest.mark.parametrize(("text", "expected"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_file(load, text, expected):
    key, rule, got, remedy = expected
    error = refused(load, text)

    # The sentence names the file and the key, the rule, the value received and the remedy.
    assert error.source.endswith("digits.toml")
    problem = next((problem for problem in error.problems if problem.key == key), None)
    assert problem, f"no problem at {key} in:\n{error}"
    assert rule in problem.rule
    assert got in problem.got
    assert remedy in problem.remedy


def test_a_single_mistake_is_reported_once(load):
    # Rows of the table above with exactly one mistake: nothing follows from it.
    several = {"empty file", "key outside of its table", "metric of the other task", "table is a value"}
    for name, (text, _) in BAD_FILES.items():
        if name not in several:
            assert len(refused(load, text).problems) == 1, name


def test_all_mistakes_at_once(load):
    text = """
        [sweep]
        trainable = "cnn"
        metric = "val_acuracy"
        [data]
        name = "digits"
        limit = "all"
        [space]
        learning_rte = { loguniform = [1e-4, 1e-1] }
        batch_size = { choice = [] }
        [defaults]
        dropout = 1.5
        [search]
        trials = 0
        [stopping]
        rules = ["asah"]
    """
    error = refused(load, text, "search.repeats=no", "resources.lane=2", "max_epochs=3")

    # The file's tables, its space, its defaults and the overrides: each is in the one error.
    assert {problem.key for problem in error.problems} == {
        "sweep.metric",
        "data.limit",
        "space.learning_rte",
        "space.batch_size",
        "defaults.dropout",
        "search.trials",
        "stopping.rules",
        "--set search.repeats",
        "--set resources.lane",
        "--set max_epochs",
    }


def test_a_name_is_checked_though_its_domain_cannot_be_read(load):
    text = """
        learning_rat = { uniform = [5, 1] }
        dropout = { uniform = [0.5, 0.1] }
        [space.optimizer]
        choice = ["sgd", "adam"]
        [space.optimizer.when.sgd]
        momentm = { uniform = [0.9, 0.5] }
        momentum = { uniform = [0.5, 2] }
        lr_schedul = { choice = ["step"], when.step = { step_epoch = { int = [4, 2] } } }
    """
    error = refused(load, DIGITS + "[space]" + text)
    branch = "space.optimizer.when.sgd"
    names = ["space.learning_rat", f"{branch}.momentm", f"{branch}.lr_schedul"]
    names.append(f"{branch}.lr_schedul.when.step.step_epoch")
    unknown = [problem for problem in error.problems if problem.rule == "cnn has no parameter of this name"]
    assert sorted(problem.key for problem in unknown) == sorted(names)
    assert {problem.remedy for problem in unknown} >= {'Did you mean "learning_rate"?', 'Did you mean "momentum"?'}
    # Their ranges are told as well, and what else is wrong beside them.
    ranges = ["space.learning_rat", "space.dropout", f"{branch}.momentm", names[-1]]
    others = [problem.key for problem in error.problems if problem not in unknown]
    assert sorted(others) == sorted([*ranges, f"{branch}.momentum"])


# --- files that cannot be read ----------------------------------------------------------------------


def test_syntax_error_names_line_and_column(load):
    error = refused(load, '[sweep]\ntrainable = cnn\nname = "a"\n')
    (problem,) = error.problems
    assert problem.key == "line 2, column 13"
    assert problem.rule.startswith("is not TOML: Invalid value")
    assert problem.got == "trainable = cnn"
    assert "Texts stand in quotes" in problem.remedy


def test_syntax_error_at_the_end_of_the_file(load):
    (problem,) = refused(load, "[sweep]\nname = [1,").problems
    assert "is not TOML" in problem.rule


def test_missing_file_names_the_path_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cnn_digits.toml").write_text(GOOD)
    error = refused(load_sweep, "cnn_digit.toml")
    expected = f'cnn_digit.toml: there is no file {tmp_path}/cnn_digit.toml. Did you mean "cnn_digits.toml"?'
    assert str(error) == expected


def test_folder_instead_of_a_file(tmp_path):
    (tmp_path / "cnn_digits.toml").write_text(GOOD)
    (problem,) = refused(load_sweep, tmp_path).problems
    assert problem.rule == "must be a file, not a folder"
    assert "cnn_digits.toml" in problem.remedy


def test_file_behind_a_file(tmp_path):
    (tmp_path / "a.toml").write_text(GOOD)
    (problem,) = refused(load_sweep, tmp_path / "a.toml" / "b.toml").problems
    assert "cannot be read: Not a directory" in problem.rule


def test_not_utf8(tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes(GOOD.encode() + "# caf\xe9\n".encode("latin-1"))
    (problem,) = refused(load_sweep, path).problems
    assert problem.rule == "must be UTF-8 text"
    assert "Save the file as UTF-8" in problem.remedy


def test_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_sweep(path).trainable == "cnn"


# --- what is left out ---------------------------------------------------------------------------------


def test_defaults_of_the_smallest_file(load):
    sweep = load(GOOD, name="my first sweep.toml")
    assert (sweep.name, sweep.seed, sweep.max_epochs) == ("my-first-sweep", 0, 10)
    assert (sweep.metric, sweep.mode) == ("val_accuracy", "max")
    assert (sweep.search.strategy, sweep.search.trials, sweep.search.repeats) == ("auto", 20, 1)
    assert sweep.search.initial_random == 3
    assert sweep.search.points == ()
    assert sweep.stopping.rules == ()
    assert sweep.resources.cpus_per_trial == 1.0
    assert sweep.resources.gpus_per_trial is None
    assert (sweep.resources.lanes, sweep.resources.precision) == (1, "auto")
    assert (sweep.checkpoint.every_epochs, sweep.checkpoint.keep) == (1, 2)
    assert (sweep.failure.max_retries, sweep.failure.non_finite) == (3, "fail")
    assert (sweep.data.val_fraction, sweep.data.test_fraction) == (0.2, 0.2)
    # digits has no files, so where files would be is not its business.
    assert sweep.data.root is None
    assert sweep.space.names() == ["learning_rate"]


@pytest.mark.parametrize(
    ("name", "metric", "mode", "expected"),
    [
        ("digits", None, None, ("val_accuracy", "max")),
        ("diabetes", None, None, ("val_rmse", "min")),
        ("digits", "val_loss", None, ("val_loss", "min")),
        ("digits", "val_f1", None, ("val_f1", "max")),
        ("diabetes", "val_r2", "max", ("val_r2", "max")),
        ("digits", None, "max", ("val_accuracy", "max")),
    ],
)
def test_metric_and_mode_of_a_builtin(name, metric, mode, expected):
    sweep = Sweep(
        trainable="mlp", data={"name": name}, metric=metric, mode=mode, space={"dense_units": tuner.Int(8, 64)}
    )
    assert (sweep.metric, sweep.mode) == expected


@pytest.mark.parametrize(("trials", "expected"), [(1, 3), (8, 3), (20, 5), (64, 16), (500, 20)])
def test_random_start_is_a_quarter_of_the_trials(load, trials, expected):
    # Trap 2: with hyperopt's own 20, a sweep of 20 trials is a random search.
    search = f'[search]\nstrategy = "hyperopt"\ntrials = {trials}\n'
    assert load(GOOD + search).search.initial_random == expected


@pytest.mark.parametrize(("trials", "expected"), [(1, 3), (20, 3), (500, 3)])
def test_the_random_start_of_auto_fits_the_space_too(load, trials, expected):
    assert load(GOOD + f"[search]\ntrials = {trials}\n").search.initial_random == expected


@pytest.mark.parametrize("values", [["cat", "dog"] * 10, [0.5 + n / 7 for n in range(20)]])
def test_task_of_a_table_is_found_from_its_target(load, tmp_path, values):
    rows = [f"{n},{value}" for n, value in enumerate(values)]
    (tmp_path / "pets.csv").write_text("weight,kind\n" + "\n".join(rows))
    data = '[sweep]\ntrainable = "mlp"\n[data]\nname = "table"\npath = "pets.csv"\ntarget = "kind"\n'
    sweep = load(data + SPACE)
    expected = ("val_accuracy", "max") if values[0] == "cat" else ("val_rmse", "min")
    assert (sweep.metric, sweep.mode) == expected
    assert sweep.data.path == str(tmp_path / "pets.csv")


def test_table_with_a_task_need_not_exist_yet(load):
    # A sweep for a cluster may name a file that only the cluster has.
    text = '[sweep]\ntrainable = "mlp"\n[data]\nname = "table"\npath = "no.csv"\ntarget = "y"\n'
    assert load(text + 'task = "regression"\n' + SPACE).metric == "val_rmse"
    assert load(text.replace("[data]", 'metric = "val_f1"\n[data]') + SPACE).mode == "max"


def test_data_root_is_the_environment_then_the_working_directory(load, tmp_path, monkeypatch):
    mnist = HEAD + '[data]\nname = "mnist"\n'
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNER_DATA", raising=False)
    assert load(mnist + SPACE).data.root == str(tmp_path / "data")
    monkeypatch.setenv("TUNER_DATA", str(tmp_path / "sets"))
    assert load(mnist + SPACE).data.root == str(tmp_path / "sets")
    # What the file says is relative to the file.
    assert load(mnist + 'root = "../here"\n' + SPACE).data.root == str(tmp_path.parent / "here")


def test_a_set_with_its_own_test_split_has_no_test_fraction(load):
    mnist = HEAD + '[data]\nname = "mnist"\n'
    assert load(mnist + SPACE).data.test_fraction is None
    (problem,) = refused(load, mnist + "test_fraction = 0.3\n" + SPACE).problems
    assert problem.key == "data.test_fraction"


def test_stopping_options_are_filled_in(load):
    sweep = load(GOOD + '[stopping]\nrules = ["asha", "plateau"]\nasha.grace_epochs = 2\n')
    assert sweep.stopping.rules == ("asha", "plateau")
    # Frozen as resolved: a later version's other default does not change this sweep.
    assert sweep.stopping.options["asha"]["grace_epochs"] == 2
    assert sweep.stopping.options["asha"]["reduction"] >= 2
    assert sweep.stopping.options["plateau"]


# --- points ---------------------------------------------------------------------------------------------


def test_points_are_completed_from_the_baseline_and_fixed_values(load):
    text = DIGITS + "[space]\nbatch_size = 32\nlearning_rate = { loguniform = [1e-4, 1] }\n"
    sweep = load(
        text + "dropout = { uniform = [0.0, 0.5] }\n[defaults]\ndropout = 0.1\n"
        "[search]\npoints = [{ learning_rate = 1 }]\n"
    )
    (point,) = sweep.search.points
    # In the order of the space, and of the types that sampling gives: 1 became 1.0.
    assert list(point.items()) == [("batch_size", 32), ("learning_rate", 1.0), ("dropout", 0.1)]
    assert type(point["learning_rate"]) is float


def test_a_point_opens_the_branch_of_the_baseline():
    space = {
        "kind": tuner.Choice(["a", "b"], when={"a": {"x": tuner.Uniform(0, 1)}}),
        "y": tuner.Uniform(0, 1),
    }
    search = {"points": [{"y": 0.5}, {"kind": "b", "y": 0.25}]}
    options = {"space": space, "search": search, "defaults": {"kind": "a", "x": 0.75}}
    sweep = Sweep(trainable=train, metric="loss", **options)
    assert sweep.search.points == ({"kind": "a", "x": 0.75, "y": 0.5}, {"kind": "b", "y": 0.25})


def test_a_point_may_leave_out_only_what_the_baseline_has():
    search = {"points": [{"x": 0.5}]}
    space = {"x": tuner.Uniform(0, 1), "y": tuner.Uniform(0, 1)}
    error = refused(Sweep, trainable=train, metric="loss", space=space, search=search)
    assert error.problems[0].key == "search.points[0].y"
    assert "y is missing" in error.problems[0].rule


def test_points_alone_are_a_manual_sweep(load):
    sweep = load(DIGITS + "[search]\npoints = [{ learning_rate = 0.1 }, { dropout = 0.3 }]\n")
    assert (sweep.search.strategy, sweep.search.trials) == ("manual", 2)
    assert sweep.search.points == ({"learning_rate": 0.1}, {"dropout": 0.3})
    assert not sweep.space


def test_points_alone_do_not_feed_another_strategy(load):
    text = DIGITS + '[search]\nstrategy = "random"\npoints = [{ learning_rate = 0.1 }]\n'
    (problem,) = refused(load, text).problems
    assert (problem.key, problem.rule) == ("space", "random needs a [space]")


# --- one_at_a_time ----------------------------------------------------------------------------------------


def test_one_at_a_time_needs_a_centre_for_a_users_function():
    options = {
        "trainable": train,
        "metric": "loss",
        "space": {"x": tuner.Uniform(0, 1, points=3), "y": tuner.Choice(["a", "b", "c"]), "fixed": 3},
        "search": {"strategy": "one_at_a_time"},
    }
    error = refused(Sweep, **options)
    assert {problem.key for problem in error.problems} == {"defaults.x", "defaults.y"}
    assert "Write x = 0.5 under [defaults]." in str(error)
    assert 'Write y = "b" under [defaults].' in str(error)
    assert Sweep(**options, defaults={"x": 0.5, "y": "a"}).baseline() == {"x": 0.5, "y": "a"}


def test_one_at_a_time_varies_around_a_builtins_own_defaults(load):
    text = DIGITS + "[space]\nlearning_rate = { loguniform = [1e-5, 1.0], points = 6 }\n"
    assert load(text + '[search]\nstrategy = "one_at_a_time"\n').search.strategy == "one_at_a_time"


# --- overrides ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "get", "expected"),
    [
        ("search.trials=8", lambda s: s.search.trials, 8),
        ("search.strategy=random", lambda s: s.search.strategy, "random"),
        ('search.strategy="random"', lambda s: s.search.strategy, "random"),
        ("sweep.seed = 3", lambda s: s.seed, 3),
        ("resources.time_budget_s=1.5", lambda s: s.resources.time_budget_s, 1.5),
        ("data.name=mnist", lambda s: s.data.name, "mnist"),
        (
            "space.learning_rate={loguniform=[1e-3,1e-2]}",
            lambda s: s.space.to_table()["learning_rate"],
            {"loguniform": [1e-3, 1e-2]},
        ),
        (
            "space.learning_rate.loguniform=[1e-3,1e-2]",
            lambda s: s.space.to_table()["learning_rate"],
            {"loguniform": [1e-3, 1e-2]},
        ),
        ("space.dropout=0.5", lambda s: s.space.to_table()["dropout"], 0.5),
        ("defaults.batch_size=16", lambda s: s.baseline()["batch_size"], 16),
        ('stopping.rules=["median"]', lambda s: s.stopping.rules, ("median",)),
        ("search={trials=3}", lambda s: s.search.trials, 3),
    ],
)
def test_override(load, override, get, expected):
    assert get(load(GOOD, override)) == expected


def test_the_last_override_of_a_key_counts(load):
    assert load(GOOD, "search.trials=8", "search.trials=9").search.trials == 9


def test_override_paths_are_seen_from_the_working_directory(load, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.py").write_text("def train(config, trial): ...\n")
    monkeypatch.chdir(elsewhere)
    sweep = load(GOOD, "data={name='images', path='cats'}", "sweep.trainable=mine.py:train", "sweep.metric=loss")
    assert sweep.data.path == str(elsewhere / "cats")
    assert sweep.trainable == f"{elsewhere / 'mine.py'}:train"
    images = HEAD + '[data]\nname = "images"\npath = "cats"\n' + SPACE
    assert load(images).data.path == str(tmp_path / "cats")
    assert load(images, "data.path=dogs").data.path == str(elsewhere / "dogs")


@pytest.mark.parametrize(
    ("override", "key", "rule", "remedy"),
    [
        ("search.trils=8", "--set search.trils", "there is no such key", 'Did you mean "trials"?'),
        ("serch.trials=8", "--set serch.trials", "there is no such key", 'Did you mean "search.trials"?'),
        ("trials=8", "--set trials", "there is no such key", 'Did you mean "search.trials"?'),
        ("search.trials=many", "--set search.trials", "must be a whole number", ""),
        ("search.trials", "--set search.trials", "must have the form", "--set search.trials=8"),
        ("=8", "--set =8", "must have the form", ""),
        ("a b=8", "--set a b=8", "must have the form", ""),
        ("search.points=[{", "--set search.points", "must be a TOML value", "in single quotes"),
        ("search.trials=", "--set search.trials", "must be a TOML value", ""),
        ("sweep.trainable.x=1", "--set sweep.trainable.x", "sweep.trainable is not a table", ""),
        ("space.learning_rte=1", "--set space.learning_rte", "cnn has no parameter", '"learning_rate"'),
        ("space.learning_rate.points=0", "--set space.learning_rate.points", "an integer of 2 or more", ""),
        ("space.dropout=2.0", "--set space.dropout", "0 <= dropout < 1 must hold", ""),
        ("data.name=digts", "--set data.name", "must be the name of a data set", '"digits"'),
    ],
)
def test_bad_override(load, override, key, rule, remedy):
    (problem,) = refused(load, GOOD, override).problems
    assert problem.key == key
    assert rule in problem.rule
    assert remedy in problem.remedy


# --- a user's own function ------------------------------------------------------------------------------------


OWN = '[sweep]\ntrainable = "mine.py:train"\nmetric = "loss"\n[space]\nx = { uniform = [0, 1] }\n'


def test_own_file_is_found_beside_the_sweep_and_not_run(load, tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit('run')\ndef train(config, trial):\n    pass\n")
    sweep = load(OWN)
    assert sweep.trainable == f"{tmp_path / 'mine.py'}:train"
    assert (sweep.metric, sweep.mode, sweep.data) == ("loss", "min", None)


@pytest.mark.parametrize(
    "source",
    [
        "def train(config, trial, verbose=False): ...",
        "def train(*args): ...",
        "if True:\n    def train(config, trial): ...",
        "try:\n    from fast import train\nexcept ImportError:\n    train = None",
        "import functools\ntrain = functools.partial(print)",
        "from elsewhere import *",
        "@decorated\ndef train(config): ...",
    ],
)
def test_own_function_may_be_made_in_many_ways(load, tmp_path, source):
    (tmp_path / "mine.py").write_text(source)
    assert load(OWN).trainable.endswith("mine.py:train")


@pytest.mark.parametrize(
    ("source", "rule", "remedy"),
    [
        ("def trian(config, trial): ...", "mine.py has no function train at its top level", '"trian"'),
        ("class A:\n    def train(self, config): ...", "mine.py has no function train", ""),
        ("def train(config): ...", "must take two arguments: def train(config, trial)", ""),
        ("def train(config, trial, *, speed): ...", "must take two arguments", ""),
        ("def train(config, trial:\n", "is not valid Python", ""),
        ("x = '\0'", "is not valid Python", ""),
    ],
)
def test_own_function_that_cannot_work(load, tmp_path, source, rule, remedy):
    (tmp_path / "mine.py").write_text(source)
    (problem,) = refused(load, OWN).problems
    assert problem.key == "sweep.trainable"
    assert rule in problem.rule
    assert remedy in problem.remedy


def test_own_metric_and_mode(load, tmp_path):
    (tmp_path / "mine.py").write_text("def train(config, trial): ...")
    (problem,) = refused(load, OWN.replace('metric = "loss"\n', "")).problems
    assert (problem.key, problem.rule) == ("sweep.metric", "is required for a function of your own")
    (problem,) = refused(load, OWN.replace('"loss"', '"score"')).problems
    assert (problem.key, problem.remedy) == ("sweep.mode", 'Write mode = "max" or mode = "min".')
    assert load(OWN.replace('"loss"', '"score"'), "sweep.mode=max").mode == "max"


def test_own_file_misspelt_names_the_nearest(load, tmp_path):
    (tmp_path / "mine2.py").write_text("def train(config, trial): ...")
    (problem,) = refused(load, OWN).problems
    assert problem.remedy == 'Did you mean "mine2.py"?'


def test_module_is_found_without_importing_its_package(load, tmp_path, monkeypatch):
    package = tmp_path / "some_heavy_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "inner.py").write_text("def train(config, trial): ...")
    monkeypatch.syspath_prepend(tmp_path)
    text = OWN.replace("mine.py:train", "some_heavy_package.inner:train")
    assert load(text).trainable == "some_heavy_package.inner:train"
    (problem,) = refused(load, text.replace(":train", ":trian")).problems
    assert problem.remedy == 'Did you mean "train"?'
    assert "some_heavy_package" not in sys.modules


def test_a_modules_own_defaults_are_the_baseline(load, tmp_path):
    (tmp_path / "mine.py").write_text("DEFAULTS = {'x': 0.5, 'y': 1}\ndef train(config, trial): ...")
    sweep = load(OWN, "defaults.y=2")
    assert sweep.baseline() == {"x": 0.5, "y": 2}
    (tmp_path / "mine.py").write_text("DEFAULTS = dict(x=0.5)\ndef train(config, trial): ...")
    # Only a literal can be read without running the file.
    assert sweep.baseline() == {"y": 2}


# --- in Python --------------------------------------------------------------------------------------------------


def test_python_sweep_is_flat():
    sweep = tuner.Sweep(
        trainable=train,
        space={"x": tuner.LogUniform(1e-4, 1e-1), "y": {"choice": [1, 2]}, "z": 3},
        metric="loss",
        mode="min",
        search={"trials": 8},
        data={"name": "digits"},
        stopping={"rules": ["asha"], "asha": {"grace_epochs": 1}},
    )
    assert (sweep.name, sweep.trainable, sweep.search.trials) == ("train", train, 8)
    assert sweep.stopping.options["asha"]["grace_epochs"] == 1
    assert set(sweep.space.names()) == {"x", "y", "z"}


def test_python_mistakes_are_one_sweep_error():
    error = refused(
        Sweep,
        trainable=lambda config: None,
        metrics="loss",
        space={"x": {"uniform": [1, 0]}},
        search={"trials": 0},
        seed=1.5,
    )
    assert error.source == "Sweep(...)"
    keys = {problem.key for problem in error.problems}
    assert keys == {"trainable", "metrics", "space.x", "search.trials", "seed"}
    assert 'Did you mean "metric"?' in str(error)


def test_parts_of_a_sweep_build_another():
    first = Sweep(trainable="mlp", data={"name": "wine"}, space={"dense_units": tuner.Int(8, 64)})
    parts = ("trainable", "data", "space", "search", "stopping", "resources", "checkpoint", "failure", "defaults")
    again = Sweep(name="mlp", **{name: getattr(first, name) for name in parts})
    assert again == first


def test_a_sweep_is_frozen_and_travels(load):
    sweep = load(GOOD)
    with pytest.raises(Exception, match="frozen"):
        sweep.seed = 3
    assert pickle.loads(pickle.dumps(sweep)) == sweep
    assert sweep.model_copy(update={"name": "other"}).name == "other"


def test_default_that_no_file_can_hold():
    error = refused(Sweep, trainable=train, metric="loss", space={"x": 1}, defaults={"y": train})
    assert error.problems[0].key == "defaults.y"


# --- frozen ---------------------------------------------------------------------------------------------------------


ROUND_TRIPS = {
    "smallest": GOOD,
    "conditional, with points": DIGITS
    + """
        [space]
        batch_size = { choice = [16, 32], weights = [1, 3] }
        dropout = { uniform = [0.0, 0.5], step = 0.1 }
        augment = "flip"
        [space.optimizer]
        choice = ["sgd", "adam"]
        [space.optimizer.when.sgd]
        learning_rate = { loguniform = [1e-3, 1.0], points = 4 }
        momentum = { normal = [0.9, 0.05], bounds = [0.5, 0.99] }
        [space.optimizer.when.adam]
        learning_rate = { loguniform = [1e-5, 1e-2], points = 4 }
        [defaults]
        optimizer = "adam"
        lr_schedule = [[1, 0.1], [5, 0.01]]
        [search]
        trials = 8
        points = [{ batch_size = 16, optimizer = "adam", learning_rate = 1e-3, dropout = 0.1 }]
        [stopping]
        rules = ["plateau", "asha"]
        [resources]
        time_budget_s = 60
        epoch_budget = 100
        gpu_hours_budget = 1.5
        at_budget = "stop"
        lanes = "auto"
    """,
    "constraints": HEAD + 'constraints = ["params < 200_000", "epoch_s <= 2.5"]\n[data]\nname = "digits"\n' + SPACE,
    "objectives": HEAD + 'objectives = { params = "min", epoch_s = "min" }\n[data]\nname = "digits"\n' + SPACE,
    "points only": DIGITS + "[search]\npoints = [{ dropout = 0.1 }]\n",
    "files": HEAD + '[data]\nname = "images"\npath = "my cats"\nlimit = 100\n' + SPACE,
}


@pytest.mark.parametrize("text", ROUND_TRIPS.values(), ids=ROUND_TRIPS.keys())
def test_frozen_sweep_reads_back_as_itself(load, tmp_path, monkeypatch, text):
    sweep = load(text)
    frozen = sweep.to_toml()
    # The frozen file lies elsewhere, and is read from elsewhere.
    elsewhere = tmp_path / "runs" / "digits"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    (elsewhere / "sweep.toml").write_text(frozen)
    again = load_sweep("sweep.toml")
    assert again == sweep
    assert again.to_toml() == frozen
    assert again.hash() == sweep.hash()
    assert len(sweep.hash()) == 64


def test_hash_tells_sweeps_apart(load):
    assert load(GOOD).hash() != load(GOOD, "sweep.seed=1").hash()


def test_frozen_function_is_asked_for_again(load):
    sweep = Sweep(trainable=train, space={"x": tuner.Uniform(0, 1)}, metric="loss", seed=4)
    frozen = sweep.to_toml()
    assert 'trainable = "<python function train>"' in frozen
    (problem,) = refused(load, frozen, name="sweep.toml").problems
    assert problem.key == "sweep.trainable"
    assert "Pass the function again" in problem.remedy
    assert load(frozen, name="sweep.toml", trainable=train) == sweep


# --- what the spec says of trainables and data is so -----------------------------------------------------


def test_names_of_trainables_data_and_metrics_are_the_real_ones():
    assert set(BUILTINS) == set(parameters.DEFAULTS)
    assert set(OPTIONS) == set(trainables.data.NAMES)
    reported = {"classification": metrics.CLASSIFICATION, "regression": metrics.REGRESSION}
    for task, names in reported.items():
        validation = {name for name in METRICS[task] if name.startswith("val_")}
        assert validation == {f"val_{name}" for name in names}


@pytest.mark.parametrize("name", OPTIONS)
def test_data_as_resolved_is_what_the_loader_takes(name):
    needed = {"images": {"path": "cats"}, "table": {"path": "a.csv", "target": "y", "task": "regression"}}
    data = {"name": name, "limit": 50, "folds": 3, **needed.get(name, {})}
    if "image_size" in OPTIONS[name]:
        data["image_size"] = 8
    sweep = Sweep(trainable="mlp", data=data, space={"dropout": tuner.Uniform(0, 0.5)})
    # None is left out there, so both the whole table and the frozen one are fine.
    for options in (sweep.data.model_dump(), sweep.data.model_dump(exclude_none=True)):
        parsed = trainables.data.options.parse(options, trainables.data.NAMES)
        assert (parsed.name, parsed.limit, parsed.folds) == (name, 50, 3)


# --- anything at all --------------------------------------------------------------------------------------------------


KEYS = [
    *("sweep", "data", "space", "search", "stopping", "resources", "defaults"),
    *("sweep.name", "sweep.trainable", "sweep.metric", "sweep.mode", "sweep.seed", "sweep.max_epochs"),
    *("sweep.constraints", "sweep.objectives"),
    *("data.name", "data.path", "data.limit", "data.val_fraction", "data.drop", "data.download"),
    *("space.learning_rate", "space.epochs", "space.optimizer.when", "defaults.dropout"),
    *("search.strategy", "search.trials", "search.points", "search.initial_random"),
    *("stopping.rules", "stopping.asha", "resources.lanes", "resources.gpus_per_trial"),
    *(
        "resources.time_budget_s",
        "resources.epoch_budget",
        "resources.at_budget",
        "checkpoint.keep",
        "failure.non_finite",
    ),
]
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["cnn", "grid", "one_at_a_time", "manual", "table", "a.py:f", "a.b:c", "~x/y"]),
    st.just(datetime.date(2024, 2, 29)),
)
NAMES = st.sampled_from(["choice", "uniform", "int", "when", "points", "rules", "x", "name"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(key=st.sampled_from(KEYS), value=VALUES)
@example(key="data.path", value="\0")
@example(key="sweep.trainable", value="\0.py:f")
@example(key="resources.gpus_per_trial", value=float("nan"))
@example(key="search.points", value=[{"learning_rate": float("inf")}])
def test_no_value_at_any_key_is_more_than_a_sweep_error(tmp_path_factory, key, value):
    file = {
        "sweep": {"trainable": "cnn"},
        "data": {"name": "digits"},
        "space": {"learning_rate": 0.1, "optimizer": {"choice": ["sgd", "adam"]}},
    }
    *tables, last = key.split(".")
    table = file
    for name in tables:
        table = table.setdefault(name, {})
    table[last] = value
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(tomli_w.dumps(file), encoding="utf-8")
    try:
        sweep = load_sweep(path)
    except SweepError as error:
        assert all(problem.rule for problem in error.problems)
    else:
        # What is accepted can be frozen and read back.
        path.write_text(sweep.to_toml(), encoding="utf-8")
        assert load_sweep(path) == sweep


# --- the options of strategies --------------------------------------------------------------------


def test_a_strategys_options_are_filled_in_and_frozen(load):
    sweep = load(GOOD + '[search]\nstrategy = "gp"\n[search.gp]\ncandidates = 64\n')

    assert sweep.search.options == {"gp": {"candidates": 64, "max_trials": 200}}
    assert "gp = { candidates = 64, max_trials = 200 }" in sweep.to_toml()
    assert load(sweep.to_toml(), name="frozen.toml") == sweep


def test_an_option_of_a_strategy_can_be_overridden(load):
    sweep = load(GOOD, "search.hyperopt.gamma=0.5", 'search.strategy="hyperopt"')

    assert sweep.search.options["hyperopt"]["gamma"] == 0.5


def test_a_strategy_without_options_has_no_table(load):
    sweep = load(GOOD + '[search]\nstrategy = "random"\n')

    assert sweep.search.options == {}
    assert "random =" not in sweep.to_toml()


def test_a_strategys_options_in_python():
    sweep = Sweep(
        trainable=train,
        metric="loss",
        mode="min",
        space={"x": tuner.Uniform(0, 1)},
        search={"strategy": "hyperopt", "hyperopt": {"gamma": 0.3}},
    )

    # and from one sweep to another
    assert (
        Sweep(trainable=train, metric="loss", mode="min", space=sweep.space, search=sweep.search).search == sweep.search
    )
    assert sweep.search.options["hyperopt"]["candidates"] == 24
