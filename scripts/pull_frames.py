"""Write the data frames of a run as Parquet: one row a trial, and one row an epoch of a trial.

Example: python scripts/pull_frames.py latest --out frames
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import tuner
from tuner.frames import write


def pull(results: tuner.Results, folder: Path) -> list[Path]:
    """Write trials.parquet and epochs.parquet into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    trials, epochs = folder / "trials.parquet", folder / "epochs.parquet"
    write(results.trials, trials)
    write(results.epochs, epochs)
    return [trials, epochs]


def main() -> int:
    """Read the arguments, write the frames, print where they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", metavar="RUN", help="a run folder, a name in ./runs, or latest")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to write (default: the run folder)")
    arguments = parser.parse_args()
    try:
        results = tuner.load(arguments.run)
        print(*pull(results, arguments.out or results.folder), sep="\n")
    except tuner.TunerError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
