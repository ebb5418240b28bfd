import subprocess

import pytest
from made_runs import tuner

from tuner.cli.main import run_command
from tuner.cli.try_ import baseline_config, user_frames
from tuner.space import Choice, Int, LogUniform, Normal, Space, Uniform


def test_the_baseline_is_trained_here_with_its_output(project, capsys):
    assert run_command(["try", "mine.toml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Trying ") and "learning_rate=0.001 optimizer=sgd" in lines[0]
    assert lines[1] == "hello from trial 1"
    assert [line.partition("  ")[0] for line in lines[2:5]] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert lines[2].endswith("quality 0.8000  learning_rate 0.001000")
    assert lines[-1].endswith(" run mine.toml")
    # Nothing is kept.
    assert sorted(path.name for path in project.iterdir()) == ["mine.py", "mine.toml"]


def test_fewer_epochs_and_other_values(project, capsys):
    assert run_command(["try", "mine.toml", "--epochs", "1", "--set", "space.learning_rate=0.01"]) == 0
    out = capsys.readouterr().out
    assert "epoch 1/1  quality 0.9000" in out and "epoch 2" not in out


def test_a_failure_shows_the_users_frames_and_exits_1(project, capsys):
    assert run_command(["try", "mine.toml", "--set", "space.optimizer=broken"]) == 1
    err = capsys.readouterr().err
    assert 'mine.py", line 9, in train' in err
    assert err.endswith("failed: config.raised: ValueError: broken is no optimizer, as you see\n")
    # The engine's own frames say nothing about the user's mistake.
    assert "/tuner/" not in err


def test_a_trainable_that_never_reports(project, capsys):
    (project / "mine.py").write_text("def train(config, trial):\n    return {'quality': 1}\n")
    assert run_command(["try", "mine.toml"]) == 1
    assert (
        "failed: config.metric: the trainable returned a dict without calling trial.report" in capsys.readouterr().err
    )


def test_a_breakpoint_works(project):
    source = (project / "mine.py").read_text().replace('    print("hello', '    breakpoint()\n    print("hello')
    (project / "mine.py").write_text(source)
    done = tuner("try", "mine.toml", cwd=project, input="p config['nap'] + 41\nc\n")
    assert done.returncode == 0
    assert "41.0" in done.stdout and "hello from trial 1" in done.stdout


def test_an_unhandled_signal_is_quiet(project):
    (project / "mine.py").write_text("def train(config, trial):\n    raise KeyboardInterrupt\n")
    done = tuner("try", "mine.toml", cwd=project, stdin=subprocess.DEVNULL)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("domain", "wanted", "value"),
    [
        (Uniform(0.0, 1.0), 0.25, 0.25),
        (Uniform(0.0, 1.0), 7, 1.0),
        (Int(1, 9), None, 5),
        (LogUniform(0.01, 1.0), None, pytest.approx(0.1)),
        (Normal(3.0, 1.0), None, pytest.approx(3.0)),
        (Choice(["sgd", "adam"]), "adam", "adam"),
        (Choice(["sgd", "adam"]), "rmsprop", "sgd"),
    ],
)
def test_a_value_is_the_baselines_or_the_nearest_or_the_middle(domain, wanted, value):
    baseline = {} if wanted is None else {"x": wanted}
    assert baseline_config(Space.parse({"x": domain}), baseline) == {"x": value}


def test_the_baseline_of_a_conditional_space():
    branches = {"sgd": {"momentum": Uniform(0.5, 0.99)}, "adam": {"learning_rate": Uniform(0.1, 0.2)}}
    space = Space.parse({"optimizer": Choice(["sgd", "adam"], when=branches)})
    baseline = {"optimizer": "adam", "momentum": 0.9, "learning_rate": 0.15}
    # Only what the chosen branch has.
    assert baseline_config(space, baseline) == {"optimizer": "adam", "learning_rate": 0.15}


def test_a_traceback_without_a_users_frame_keeps_its_error():
    assert user_frames("Traceback (most recent call last):\nValueError: x") == [
        "Traceback (most recent call last):",
        "ValueError: x",
    ]
