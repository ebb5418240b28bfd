"""Record a table of real learning curves: run one sweep of benchmarks/search/tables/ and keep what it reported.

    python -m benchmarks.search.record digits_cnn
    python -m benchmarks.search.record fashion_cnn --set data.root=/where/FashionMNIST/lies/in

The sweep runs inline: one process, one thread. It is an ordinary run in runs/tables/NAME, so an interrupted recording
goes on where it was when the command is given again. Writes benchmarks/data/NAME.parquet (a row a trial and epoch; one
row without an epoch for a trial that failed before its first) and NAME.json (what made it).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
TABLES = HERE / "tables"
DATA = HERE.parent / "data"
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "cnn-tuner")
METRICS = ("val_accuracy", "val_loss", "val_rmse", "val_r2", "train_loss", "epoch_s")


def record(name: str, storage: Path, overrides: list[str]) -> Path:
    """Run or resume a table's sweep to its end, and write its files; returns the Parquet file.

    Args:
        name: A file of benchmarks/search/tables, without its suffix.
        storage: Where the run folder lies.
        overrides: KEY=VALUE, as for `tuner run --set`.
    """
    sweep, folder = TABLES / f"{name}.toml", storage / name
    begin = ["run", str(sweep), "--name", name, "--storage", str(storage)]
    command = ["resume", str(folder)] if (folder / "journal.sqlite").exists() else begin
    sets = ["--set", *overrides] if overrides else []
    tuner = [sys.executable, "-m", "tuner.cli", *command, "--backend", "inline", *sets]
    subprocess.run(tuner, check=True, env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
    return export(folder, sweep)


def export(folder: Path, sweep: Path) -> Path:
    """Write a run's curves as Parquet, and beside it what made them, as JSON."""
    import tuner

    results = tuner.load(folder)
    frame = as_frame(results.trials, results.epochs)
    DATA.mkdir(exist_ok=True)
    path = DATA / f"{sweep.stem}.parquet"
    frame.to_parquet(path, index=False, compression="zstd")
    facts: dict[str, Any] = {
        "sweep": f"benchmarks/search/tables/{sweep.name}",
        "sweep_sha256": hashlib.sha256(sweep.read_bytes()).hexdigest(),
        "metric": results.metric,
        "mode": results.mode,
        "max_epochs": results.max_epochs,
        "trials": len(results.trials),
        "statuses": {str(k): int(v) for k, v in results.trials["status"].value_counts().items()},
        "seconds": round(float(results.trials["duration_s"].sum()), 1),
        "recorded": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    return path


def as_frame(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a trial and epoch: trial, its config, status, cause and error, epoch and metrics."""
    configs = [name for name in trials if name.startswith("config.")]
    heads = trials[["trial", *configs, "status", "cause", "error"]]
    metrics = [name for name in METRICS if name in epochs]
    rows = heads.merge(epochs[["trial", "epoch", *metrics]], on="trial", how="left")
    rows["epoch"] = rows["epoch"].astype("Int64")
    return rows.astype(dict.fromkeys((m for m in metrics if m == "epoch_s"), "float32"))


def main() -> None:
    """Record the tables that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted(path.stem for path in TABLES.glob("*.toml")))
    parser.add_argument("--storage", type=Path, default=Path("runs/tables"))
    parser.add_argument("--set", dest="overrides", nargs="*", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    for name in args.names:
        path = record(name, args.storage, args.overrides)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
