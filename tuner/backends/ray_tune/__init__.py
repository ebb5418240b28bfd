"""The one translation to Ray Tune, and the only engine code that imports ray.

session.py       Ray itself: started, joined, or used as this process has it
driver_side.py   turns Ray Tune's searcher and scheduler into calls of the Driver
worker_side.py   one attempt inside a Ray actor

Ray Tune runs the trials; this project decides. One Ray trial is one attempt: its searcher hands out the driver's next
attempt, its scheduler hands every report to the driver and stops where the driver says so, and Ray's own retries,
checkpoints and result files are not used. What Ray writes lies in a private temp dir and is deleted at the end.

Nothing is imported here, so that a worker loads only its own side.
"""
