"""`tuner try`: one config, here, now: the trainable's own output, its breakpoints, its traceback."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli.arguments import Set, SweepFile, overrides

if TYPE_CHECKING:
    from tuner.history import Event, TrialRecord
    from tuner.results import Results
    from tuner.space import Domain, Space
    from tuner.spec import Sweep

EXAMPLE = "tuner try search_spaces/cnn_digits.toml --epochs 1"

Epochs = Annotated[
    int | None,
    typer.Option(min=1, help="Train at most this many epochs, not the sweep's max_epochs.", show_default=False),
]


def try_(sweep: SweepFile, set_: Set = None, epochs: Epochs = None) -> int:
    """Train one config here and now; breakpoint() works.

    It is the baseline, with its output on the terminal. Nothing is kept. Exits with 1 if it fails.
    """
    from tuner.cli import words
    from tuner.cli.terminal import console
    from tuner.drive import Watch
    from tuner.run import run
    from tuner.spec import load_sweep

    one = single(load_sweep(sweep, overrides(set_)), epochs)
    config = one.search.points[0]
    terminal = console()
    file = terminal.file
    print(f"Trying {words.config_line(config) or 'the defaults'}", file=file, flush=True)

    def on_event(event: Event) -> None:
        if event.kind == "epoch":
            print(epoch_line(event, one.max_epochs), file=file, flush=True)

    with tempfile.TemporaryDirectory(prefix="tuner-try-") as scratch:
        results = run(one, storage=scratch, backend="inline", watch=Watch(on_event=on_event, tee=True))
        return _end(results, sweep)


def single(sweep: Sweep, epochs: int | None) -> Sweep:
    """Return the sweep with one config, the baseline's values where the space has them, and no stopping.

    Args:
        sweep: The sweep.
        epochs: The most epochs; None: the sweep's own.
    """
    from tuner.space import Space

    search = sweep.search
    config = baseline_config(sweep.space, sweep.baseline()) if sweep.space else dict(search.points[0])
    most = min(epochs or sweep.max_epochs, sweep.max_epochs)
    if isinstance(config.get("epochs"), int):
        config["epochs"] = min(config["epochs"], most)
    only = {"strategy": "manual", "trials": 1, "repeats": 1, "points": (config,), "from_": ()}
    return sweep.model_copy(
        update={
            "max_epochs": most,
            "space": Space(),
            "search": search.model_copy(update=only),
            "stopping": sweep.stopping.model_copy(update={"rules": (), "options": {}}),
        }
    )


def baseline_config(space: Space, baseline: dict[str, Any]) -> dict[str, Any]:
    """Return one config of the space: the baseline's values, or values amid the domains that lack one."""
    config: dict[str, Any] = {}
    while True:  # a choice that is made opens a branch, whose names come next
        leaf = next((leaf for leaf in space.active(config) if leaf.name not in config), None)
        if leaf is None:
            return space.conform(config)
        config[leaf.name] = _near(leaf.domain, baseline.get(leaf.name))


def _near(domain: Domain, wanted: Any) -> Any:
    from tuner.space import Fixed, Numeric

    if isinstance(domain, Fixed):
        return domain.value
    if wanted is not None and domain.contains(wanted):
        return wanted
    if not isinstance(domain, Numeric):
        return domain.grid()[0]
    if isinstance(wanted, int | float):
        return domain.snap(wanted)
    low, high = domain.latent
    return domain.from_latent((low + high) / 2)


def epoch_line(event: Event, max_epochs: int) -> str:
    """Return one epoch's metrics on a line."""
    from tuner.cli import words

    metrics = "  ".join(f"{name} {words.number(item)}" for name, item in event.body["metrics"].items())
    return f"epoch {event.epoch}/{max_epochs}  {metrics}"


def _end(results: Results, file: str) -> int:
    """Say how it ended, and return the exit status."""
    from tuner.cli import words
    from tuner.cli.copying import command
    from tuner.cli.terminal import complain

    (record,) = results.records()
    if record.status != "failed":
        took = f"{words.count(len(record.epochs), 'epoch')} in {words.duration(record.duration_s)}"
        print(f"It works: {took}. Run the sweep:\n  {command('run', file)}")
        return 0
    for line in user_frames(_traceback(results, record)):
        complain(line)
    complain(f"failed: {record.cause}: {record.error}")
    return 1


def _traceback(results: Results, record: TrialRecord) -> str:
    log = results.folder / "logs" / f"{record.trial}-{record.attempts}.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    start = text.rfind("Traceback (most recent call last):")
    return text[start:] if start >= 0 else ""


def user_frames(traceback: str) -> list[str]:
    """Return a traceback's lines without the frames of this project's own engine."""
    engine = str(Path(__file__).parent.parent)
    lines: list[str] = []
    skipping = False
    for line in traceback.splitlines():
        frame = re.match(r'  File "(.+?)", line \d+', line)
        if frame:
            skipping = frame[1].startswith(engine)
        elif not line.startswith("  "):
            skipping = False
        if not skipping:
            lines.append(line)
    return lines
