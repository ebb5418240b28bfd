"""The worker's side of the seam: one attempt inside a Ray actor. It imports neither the driver nor a strategy."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tuner.backends.worker import Job, Report, run_attempt
from tuner.errors import StopTrial
from tuner.trainable import Train


def ray_trial(config: dict[str, Any], *, train: Train | str, origin: str | None, data_ref: list[Any]) -> None:
    """Run one attempt inside a Ray actor; its outcome travels as one last report."""
    import ray
    from ray import tune

    job = Job(**json.loads(config["job"]))
    if isinstance(train, str):
        from tuner.loading import load_trainable

        train = load_trainable(train, origin)[0]
    data = None if data_ref[0] is None else ray.get(data_ref[0])

    stopped: list[SystemExit] = []

    def send(report: Report) -> bool:
        try:
            tune.report({"payload": json.dumps({"report": asdict(report)})})
        except SystemExit as stop:  # how Ray ends a function trainable that its scheduler stopped
            stopped.append(stop)
            raise StopTrial("stopped by the driver") from stop
        return False

    outcome = run_attempt(job, train, data, send)
    if stopped:
        raise stopped[0]  # Ray waits for it before it reuses the actor
    tune.report({"payload": json.dumps({"outcome": outcome.to_dict()})})
