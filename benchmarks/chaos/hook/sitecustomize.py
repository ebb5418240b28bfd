"""Python imports this at its start where the harness put this folder on PYTHONPATH."""

import os

if "CHAOS_TRACE" in os.environ:
    from benchmarks.chaos.points import install

    install(os.environ)
