"""No tuner: this project's training code, one trial after another in one warm process of one thread.

    python lone.py task.json result.json TRIALS

Two trials warm up; the seconds of each of the others go to the result.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from our_code import train

WARM_UP = 2

if __name__ == "__main__":
    torch.set_num_threads(1)
    task = json.loads(Path(sys.argv[1]).read_text())
    seconds = []
    for number in range(WARM_UP + int(sys.argv[3])):
        began = time.perf_counter()
        train(task["configs"][number % len(task["configs"])], task)
        seconds.append(time.perf_counter() - began)
    Path(sys.argv[2]).write_text(json.dumps(seconds[WARM_UP:]))
