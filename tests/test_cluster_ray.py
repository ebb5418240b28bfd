"""Jobs on a real cluster of one node: submitted, followed, stopped, taken up again; and what is refused before that."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from terminals import on_a_terminal, read_all, wait_for

from tuner.cli import guard
from tuner.cli.main import run_command
from tuner.results import load

pytestmark = [pytest.mark.ray, pytest.mark.cluster]

FUNCTION = """
import time
from places import GATE, EXECUTED

def train(config, trial):
    total = trial.state["total"] if trial.state else 0
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        while epoch == 4 and not GATE.exists():
            time.sleep(0.05)
        with EXECUTED.open("a") as executed:
            executed.write(f"{epoch} ")
        total += epoch
        trial.report(epoch=epoch, score=total, state={"total": total})
"""
PLACES = """
from pathlib import Path
GATE, EXECUTED = Path("FOLDER/gate"), Path("FOLDER/executed")
"""
SWEEP = """
[sweep]
trainable = "mine.py:train"
metric = "score"
mode = "max"
max_epochs = 6
[space]
x = { uniform = [0, 1] }
[search]
strategy = "random"
trials = 1
"""


@pytest.fixture
def project(tmp_path, monkeypatch, cluster_ray):
    (tmp_path / "mine.py").write_text(FUNCTION)
    (tmp_path / "places.py").write_text(PLACES.replace("FOLDER", str(tmp_path)))
    (tmp_path / "mine.toml").write_text(SWEEP)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", cluster_ray.url)
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster_ray.token)
    return tmp_path


def drivers():
    """The processes of this project that the cluster has."""
    found = []
    for pid in guard.descendants(os.getpid()):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if b"-m tuner.cli" in line:
            found.append(line)
    return found


def tuner(capsys, *arguments):
    """Run a command; returns its status, and what it printed."""
    status = run_command(arguments)
    said = capsys.readouterr()
    return status, said.out, said.err


def wait_for_epoch(run, epoch):
    """Wait until an epoch of the first trial is in the journal."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(0.3)
        try:
            record = load(run).history.trials.get("t0001")
        except Exception:  # there is no journal yet
            continue
        if record and max(record.epochs, default=0) >= epoch:
            return
    pytest.fail("the job does not get on")


def test_a_job_is_submitted_followed_stopped_and_taken_up_again(project, capsys, cluster_ray):
    storage = str(project / "runs")
    submit = ("submit", "mine.toml", "--storage", storage)
    # What only the cluster can tell, a job tells; it was refused, so its name is still free.
    status, out, _ = tuner(capsys, *submit, "--wait", "--set", "resources.cpus_per_trial=64")
    assert status == 2 and "at most 2 CPUs are here, but got (64)" in out

    status, out, err = tuner(capsys, *submit)
    assert (status, err) == (0, "")
    assert out.startswith("mine was submitted as job mine-2, in ")
    # Each of these works as printed, also in another shell.
    for words in ("logs mine-2 --follow", "stop mine-2", f"resume {storage}/mine"):
        assert f"{words} --address {cluster_ray.url}\n" in out
    status, out, _ = tuner(capsys, *submit)
    assert status == 0 and out.startswith("mine was submitted already (") and "as job mine-2," in out
    # The same name with other code.
    with (project / "places.py").open("a") as places:
        places.write("# edited\n")
    status, out, err = tuner(capsys, *submit)
    assert (status, out) == (2, "") and "it is taken: job mine-2 was submitted with another sweep, or other code" in err

    wait_for_epoch(f"{storage}/mine", 3)
    again = ("resume", f"{storage}/mine", "--address", cluster_ray.url)
    status, out, err = tuner(capsys, *again)
    assert (status, out) == (2, "") and "only one driver may run a sweep, but job mine-2 is running" in err
    jobs = {job["id"]: (job["status"], job["exit_status"]) for job in json.loads(tuner(capsys, "jobs", "--json")[1])}
    jobs = {job: state for job, state in jobs.items() if job.startswith("mine-")}
    assert jobs == {"mine-1": ("failed", 2), "mine-2": ("running", None)}
    assert "mine: 1 trial (random) of up to 6 epochs" in tuner(capsys, "logs", "mine")[1]

    assert len(drivers()) >= 2  # the driver and its parent
    status, out, _ = tuner(capsys, "stop", "mine")
    assert status == 0 and out.startswith("Job mine-2 ended: stopped. What was done is saved; go on with:\n")
    # It had the time to save and to leave: Ray alone kills after 3 s.
    results = load(f"{storage}/mine")
    assert (results.status, results.history.finished) == ("interrupted", "interrupted")
    assert drivers() == []

    (project / "gate").touch()
    status, out, err = tuner(capsys, *again)
    assert (status, err) == (0, "") and out.startswith("mine goes on as job mine-3, in ")
    status, out, _ = tuner(capsys, "logs", "-f", "mine")
    assert status == 0 and "mine: 1 trial in" in out
    results = load(f"{storage}/mine")
    assert results.status == "completed" and list(results.epochs["score"]) == [1, 3, 6, 10, 15, 21]
    assert (project / "executed").read_text() == "1 2 3 4 5 6 "  # no epoch twice
    # Nothing was written to a home folder, on either side.
    assert not [*(project / "home").iterdir(), *cluster_ray.home.glob(".ray/*")]


def test_on_a_terminal_wait_shows_the_live_table_until_the_job_is_over(project, cluster_ray):
    storage = str(project / "runs")
    process, terminal = on_a_terminal(
        "submit", "mine.toml", "--storage", storage, "--name", "seen", "--wait", cwd=project
    )
    # It moves while the job goes on: the panel and the trial's row are there before its last epochs are let go.
    seen = wait_for(b"of 1 trial", terminal) + wait_for(b"t0001", terminal)
    (project / "gate").touch()
    seen += read_all(terminal)
    assert process.wait() == 0
    said = seen.decode()
    assert "seen was submitted as job seen-1" in said and "1 completed" in said
    # The cursor is back.
    assert said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l") and "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("submit mine.toml --storage runs", "--storage: it must be a URI or an absolute path"),
        ("submit mine.toml --storage /tmp --name latest", "--name: a run's name must be"),
        ("submit mine.toml --storage /tmp --address {gcs}", "must be http://host:port"),
        ("submit mine.toml --storage /tmp --address http://{gcs}", "a Ray Jobs server must answer there"),
        ("run mine.toml --address {url}", "To run it there as a job, through its Jobs server: tuner submit"),
        ("run mine.toml --address {jobs}", "what answers there is no Ray cluster's head"),
        ("logs nobody", "nobody: JOB must be a job's id or its run's name"),
        ("resume nobody --address {url}", "nobody: JOB must be a job's id or its run's name"),
    ],
)
def test_bad_input_is_one_sentence(project, capsys, cluster_ray, arguments, sentence):
    known = {"gcs": cluster_ray.gcs, "url": cluster_ray.url, "jobs": cluster_ray.url.removeprefix("http://")}
    status, out, err = tuner(capsys, *arguments.format(**known).split())
    assert (status, out) == (2, "")
    assert sentence in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize(
    "arguments", ["jobs", "stop x", "submit mine.toml --storage /tmp", "run mine.toml --address {gcs}"]
)
def test_a_missing_and_a_wrong_token_are_said_so(project, capsys, monkeypatch, cluster_ray, arguments, token):
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    status, out, err = tuner(capsys, *arguments.format(gcs=cluster_ray.gcs).split())
    assert (status, out) == (2, "") and len(err.splitlines()) == 1
    assert ("rejected the token from RAY_AUTH_TOKEN" if token else "asks for a token, and there is none here") in err
