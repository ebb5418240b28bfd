"""`python -m tuner.cli`."""

from __future__ import annotations

from tuner.cli.main import main

if __name__ == "__main__":
    main()
