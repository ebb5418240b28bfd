"""The sweeps that are killed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

TRIALS, EPOCHS = 8, 6
# Every stage, on a few real images: two rounds of refinement, a race over folds, a final test.
_STUDY = """
[sweep]
name = "sweep"
trainable = "cnn"
seed = 3
max_epochs = 2
[data]
name = "digits"
limit = 80
folds = 2
[space]
learning_rate = {{ loguniform = [1e-3, 0.3] }}
dropout = {{ uniform = [0.0, 0.5] }}
[defaults]
filters = 2
conv_layers = 1
dense_units = 4
[search]
strategy = "{strategy}"
trials = 10
[stopping]
rules = {rules}
[study]
repeats = 2
refine_rounds = 2
refine_trials = 1
top = 1
[resources]
gpus_per_trial = 0
max_concurrent = 1
[failure]
max_retries = 1000
"""


@dataclass(frozen=True)
class Scenario:
    """One kind of sweep.

    Args:
        strategy: grid, random or hyperopt.
        asha: Whether asha stops weak trials.
        backend: inline or ray.
        concurrency: Trials at a time; inline it is always 1.
        repeats: Seeds a config.
        slow: Whether an epoch takes a second, so that it is lost, with its worker, in the middle.
        study: Whether it is a whole study: of a built-in trainable, since only such a one is scored on the test split.
    """

    strategy: str
    asha: bool = False
    backend: str = "inline"
    concurrency: int = 1
    repeats: int = 1
    slow: bool = False
    study: bool = False

    @property
    def name(self) -> str:
        """Such as "random+asha inline x1"."""
        rule = "+asha" if self.asha else ""
        repeats = f"*{self.repeats}" if self.repeats > 1 else ""
        slow = " slow" if self.slow else ""
        what = f"study {self.strategy}" if self.study else self.strategy
        return f"{what}{rule}{repeats} {self.backend} x{self.concurrency}{slow}"

    @property
    def comparable(self) -> bool:
        """Whether the order of reports is fixed, so that the killed sweep must equal the untouched one."""
        return self.concurrency == 1 or (not self.asha and self.strategy != "hyperopt")

    def write(self, folder: Path) -> Path:
        """Write the sweep file and its trainable into a folder; returns the sweep file."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(__file__).with_name("trainable.py"), folder / "trainable.py")
        file = folder / "sweep.toml"
        file.write_text(self.text())
        return file

    def text(self) -> str:
        """Return the sweep file's text."""
        if self.study:
            return _STUDY.format(strategy=self.strategy, rules='["asha"]' if self.asha else "[]")
        pause = 1.0 if self.slow else 0.02 if self.backend == "inline" else 0.15
        asha = (
            '[stopping]\nrules = ["asha"]\n[stopping.asha]\ngrace_epochs = 2\nreduction = 2\nunjudged = 0\n'
            if self.asha
            else ""
        )
        return f"""
[sweep]
name = "sweep"
trainable = "trainable.py:train"
metric = "score"
mode = "max"
seed = 3
max_epochs = {EPOCHS}
[space]
learning_rate = {{ loguniform = [1e-3, 1.0], points = {TRIALS // 2} }}
width = {{ choice = [2, 5] }}
pause = {pause}
[search]
strategy = "{self.strategy}"
trials = {TRIALS // self.repeats}
repeats = {self.repeats}
[resources]
gpus_per_trial = 0
max_concurrent = {self.concurrency}
[failure]
max_retries = 1000
{asha}"""


INLINE = (
    *(Scenario(strategy, asha) for strategy in ("grid", "random", "hyperopt") for asha in (False, True)),
    Scenario("random", repeats=2),
)
STUDIES = (Scenario("random", study=True), Scenario("hyperopt", asha=True, study=True))
RAY = (
    Scenario("random", backend="ray", concurrency=2),
    Scenario("hyperopt", asha=True, backend="ray"),
    Scenario("grid", backend="ray", concurrency=2),
    Scenario("random", backend="ray", concurrency=2, slow=True),
    Scenario("hyperopt", asha=True, backend="ray", concurrency=2),
)
