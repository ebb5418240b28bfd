"""What the harness trains: small, deterministic, with everything that a resume must carry over.

Every epoch that is really executed leaves two lines in an append-only log, written by one os.write each, so that
they are whole however the process ends. The checker believes this log, and not the journal.
"""

import hashlib
import json
import os
import random
import time

import numpy as np
import torch


def train(config, trial):
    """Train `width` numbers by noisy steps; config 0.5 < learning_rate and width 2 fails at epoch 2."""
    weights = torch.zeros(config["width"], dtype=torch.float64)
    if trial.state:
        weights = trial.state["model"]["weights"]
    _log("begin", config, trial, trial.start_epoch)
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        _log("start", config, trial, epoch)
        time.sleep(config["pause"])
        if epoch == 2 and config["width"] == 2 and config["learning_rate"] > 0.5:
            raise ValueError("this one diverges")
        # From every generator there is: a resume must put them back by itself.
        noise = torch.randn(len(weights), dtype=torch.float64) + random.random() + np.random.normal()
        weights = weights + config["learning_rate"] * noise
        score = float(-((weights - 1.0) ** 2).mean())
        state = {"model": {"weights": weights}}
        digest = hashlib.sha256(weights.numpy().tobytes() + repr(random.getstate()).encode())
        digest.update(np.random.get_state()[1].tobytes())
        digest.update(torch.get_rng_state().numpy().tobytes())
        _log("end", config, trial, epoch, score=score, state=digest.hexdigest()[:16])
        predictions = np.full((3, 2), score)
        trial.report(epoch=epoch, score=score, val_loss=-score, state=state, predictions=predictions)


def _log(what, config, trial, epoch, **more):
    text = json.dumps(config, sort_keys=True)
    entry = {
        "what": what,
        "number": trial.number,
        "seed": trial.seed,
        "config": hashlib.sha256(text.encode()).hexdigest()[:16],
        "epoch": epoch,
        "pid": os.getpid(),
        **more,
    }
    log = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(log, f"{json.dumps(entry)}\n".encode())
    os.close(log)
