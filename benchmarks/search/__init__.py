"""Search side by side: tasks, competitors, and runs simulated in virtual time. `python -m benchmarks.search --help`."""
