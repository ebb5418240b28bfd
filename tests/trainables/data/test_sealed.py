"""No trainable can reach the test split: one tries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SEEKER = Path(__file__).with_name("seeker.py")


@pytest.fixture(scope="module")
def found():
    # A process of its own: in this one, other tests may have opened a test split.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, str(SEEKER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_search_finds_what_there_is_to_find(found):
    assert found["status"] == ["completed", None]
    # The stage that may open it gets it, and an image hidden in a function's defaults is found.
    assert len(found["test split"]) > 350
    assert len(found["hidden"]) == 1


@pytest.mark.parametrize("where", ["attributes", "process", "base"])
def test_no_test_image_is_in_anything_that_a_trainable_can_get_at(found, where):
    assert found[where] == []


@pytest.mark.parametrize("where", ["load_test", "load_test in a thread"])
def test_a_trial_may_not_open_the_test_split(found, where):
    assert found[where] == []
    assert found[f"{where} says"] == ["The test split is sealed: no trial may open it, only the last stage of a study."]
