"""The entry of `tuner` and of `python -m tuner.cli`: a sweep on Ray gets a parent before anything heavy is imported."""

from __future__ import annotations

import sys

from tuner.cli import guard


def main() -> None:
    """Run the command line on sys.argv and exit with its status."""
    if not guard.attach() and guard.wanted(sys.argv[1:]):
        sys.exit(guard.run_guarded([sys.executable, *sys.orig_argv[1:]]))
    from tuner.cli import main as command_line

    try:
        command_line.main()
    except SystemExit as end:
        guard.tell_status(end.code if isinstance(end.code, int) else 1)
        raise


if __name__ == "__main__":
    main()
