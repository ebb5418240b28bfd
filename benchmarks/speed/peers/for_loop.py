"""No tuner: one process tries one config after another, with torch's own number of threads.

python for_loop.py task.json result.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from user_code import train

if __name__ == "__main__":
    task = json.loads(Path(sys.argv[1]).read_text())
    found = [{**config, "accuracy": train(config, task)} for config in task["configs"]]
    Path(sys.argv[2]).write_text(json.dumps(found))
