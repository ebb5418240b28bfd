"""The chaos harness: kill a sweep anywhere, resume it, and compare it with the one that was never touched.

`python -m benchmarks.chaos --kills 300 --seed 1`. What it is made of:

    scenarios.py    the sweeps: strategy, stopping, repeats, concurrency, backend
    trainable.py    what they train; it logs every epoch that is really executed
    points.py       named points before and after every durable write, at which a process can kill itself
    hook/           puts points.py into every Python process of a sweep; the engine knows nothing of it
    starter.py      starts `tuner ...`, cold as a user does, or forked from a process that has imported everything
    harness.py      one sweep: run, kill, resume, ... until it ends
    checker.py      compares two sweeps by their logs and exported frames alone
    race.py         two drivers at once
"""
