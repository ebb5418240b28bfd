import textwrap

import pytest

FUNCTION = """
import math
import time


def train(config, trial):
    print("hello from trial", trial.number)
    if config["optimizer"] == "broken":
        raise ValueError("broken is no optimizer,\\nas you see")
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        time.sleep(config["nap"])
        quality = 1 - (math.log10(config["learning_rate"]) + 2) ** 2 / 10 - 0.1 / epoch
        trial.report(epoch=epoch, quality=quality, learning_rate=config["learning_rate"])
"""

SWEEP = """
[sweep]
trainable = "mine.py:train"
metric = "quality"
mode = "max"
max_epochs = 3
[space]
learning_rate = { loguniform = [1e-4, 1e-1] }
optimizer = { choice = ["sgd", "adam"] }
nap = 0.0
[defaults]
learning_rate = 0.001
optimizer = "sgd"
[search]
strategy = "random"
trials = 4
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with a user's own function and a sweep of 4 short trials."""
    (tmp_path / "mine.py").write_text(FUNCTION)
    (tmp_path / "mine.toml").write_text(textwrap.dedent(SWEEP))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path
