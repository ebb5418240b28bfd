from __future__ import annotations

import subprocess
import sys
import time

from tuner.cli.main import run_command

USER = """
import time


def slow(config, trial):
    for epoch in range(1, 4):
        time.sleep(0.2)
        trial.report(epoch=epoch, score=config["x"] * epoch)
"""
SWEEP = """
[sweep]
trainable = "user.py:slow"
metric = "score"
mode = "max"
max_epochs = 3
[space]
x = { uniform = [0.0, 1.0] }
[search]
strategy = "random"
trials = 4
"""


def test_a_sweep_is_followed_to_its_end(tmp_path, capsys):
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "sweep.toml").write_text(SWEEP)
    command = [sys.executable, "-m", "tuner.cli", "run", str(tmp_path / "sweep.toml"), "--backend", "inline"]
    driver = subprocess.Popen([*command, "--storage", str(tmp_path), "--name", "run", "-q"])
    try:
        while not (tmp_path / "run" / "logs" / "t0001-1.log").exists():
            assert driver.poll() is None
            time.sleep(0.05)
        assert run_command(["watch", str(tmp_path / "run")]) == 0
    finally:
        driver.kill()
        driver.wait()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[f"[{number}/4]", f"t000{number}"] for number in (1, 2, 3, 4)]
    # One that is over says how it ended, at once.
    assert run_command(["watch", str(tmp_path / "run")]) == 0
    assert run_command(["watch", str(tmp_path / "none")]) == 2
