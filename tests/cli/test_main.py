import inspect
import re
import subprocess
import sys

import pytest
from made_runs import Made, make_run, tuner

from tuner.cli import main
from tuner.cli.arguments import spread_sets
from tuner.cli.main import run_command

COMMANDS = [name for name, *_ in main._COMMANDS]
LISTS = [f"list {what}" for what in ("trainables", "data", "spaces", "strategies", "rules")]
PRINTS_DATA = ["plan", "ls", "show", "best", "doctor", "predict", "whatif", "submit", "jobs", "pull", "compare", *LISTS]


@pytest.mark.parametrize("command", COMMANDS + LISTS)
def test_every_command_has_one_line_of_help_and_an_example(command, capsys):
    assert run_command([*command.split(), "--help"]) == 0
    help_text = capsys.readouterr().out
    assert re.search(rf"Example: tuner {command}\b", help_text)
    assert ("--json" in help_text) == (command in PRINTS_DATA)


def test_the_list_of_commands_cuts_no_help_short(capsys):
    run_command(["--help"])
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in [*COMMANDS, "list"])
    assert "..." not in out.partition("Commands:")[2]


def test_no_arguments_show_the_help(capsys):
    assert run_command([]) == 2
    assert capsys.readouterr().out.startswith("Usage: tuner")


def test_version(capsys):
    assert run_command(["--version"]) == 0
    assert re.fullmatch(r"tuner \d+\.\d+\.\d+\n", capsys.readouterr().out)


MISTAKES = {
    "run": "tuner run: missing argument 'SWEEP'. See: tuner run --help",
    "run a.toml --stroage x": 'tuner run: there is no option --stroage. Did you mean "--storage"? See:',
    "run a.toml --backend slurm": "tuner run: invalid value for '--backend': 'slurm' is not one of 'ray', 'inline'.",
    "resume": "tuner resume: missing argument 'RUN'.",
    "resume x --trials 0": "greater than or equal to 1",
    "shwo": "tuner: no such command 'shwo'. Did you mean 'show'? See: tuner --help",
    "list nope": "Valid: trainables, data, spaces, strategies, rules.",
    "list trainables cnnn": 'cnnn: there is no such trainable. Did you mean "cnn"?',
    "run nope.toml": "nope.toml: there is no file",
    "plan nope.toml": "nope.toml: there is no file",
    "try nope.toml": "nope.toml: there is no file",
    "show nope": "nope: RUN must be a run folder",
    "best latest": "there is none",
    "export nope --trials t.csv": "nope: RUN must be a run folder",
    "resume nope": "nope: RUN must be a run folder",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(arguments.split()) == 2
    said = capsys.readouterr()
    assert MISTAKES[arguments] in said.err
    assert said.err.count("\n") == 1
    # Standard output is for data.
    assert said.out == ""


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(storage: str = "runs") -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(main, "_COMMANDS", [("ls", broken, "Read", "tuner ls")])
    monkeypatch.setattr(main, "_command_line", main._command_line.__wrapped__)  # else it may be made already
    with pytest.raises(ZeroDivisionError):
        run_command(["ls"])


@pytest.mark.parametrize(
    ("given", "spread"),
    [
        ("run a --set x.y=1 z.w=2 --quiet", "run a --set x.y=1 --set z.w=2 --quiet"),
        ("run --set x.y=1 a.toml", "run --set x.y=1 a.toml"),
        ("run --set x.y=1 --set z.w=2 a.toml", "run --set x.y=1 --set z.w=2 a.toml"),
        ("run a b=c", "run a b=c"),
        ("run --set x.y=1 ./a=b.toml", "run --set x.y=1 ./a=b.toml"),
        ("run a --set", "run a --set"),
    ],
)
def test_set_takes_several_values(given, spread):
    assert spread_sets(given.split()) == spread.split()


READERS = ["ls", "show one", "best one", "export one --trials t.csv --epochs e.parquet", "list trainables", "list data"]


def test_reading_imports_neither_torch_nor_ray_nor_pandas(tmp_path):
    make_run(tmp_path / "runs/one", [Made({"lr": 0.1}, [0.5])])
    heavy = ("torch", "ray", "pandas", "hyperopt", "sklearn")
    program = inspect.cleandoc(f"""
        import sys
        from tuner.cli.main import run_command
        for command in {READERS!r}:
            assert run_command(command.split()) == 0, command
            loaded = [name for name in {heavy!r} if name in sys.modules]
            assert not loaded, (command, loaded)
    """)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    make_run(tmp_path / "runs/one", [Made({"lr": n / 1000}, [0.5]) for n in range(1, 300)])
    command = f"{sys.executable} -m tuner.cli show one --all | head -1"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("one: completed")
    assert done.stderr == ""


def test_colours_only_where_they_are_wanted(tmp_path):
    make_run(tmp_path / "runs/one", [Made({"lr": 0.1}, [0.5])])
    # A pipe gets plain text.
    assert "\x1b[" not in tuner("show", "one", cwd=tmp_path).stdout
