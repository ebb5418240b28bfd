from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuner.backends.ray_tune import session, stand_in

AGENT = "import sys; print(*sys.argv[1:])"


def wait_for(path):
    """Wait until a file is there and return its text."""
    while not path.exists():
        time.sleep(0.01)
    return path.read_text()


@pytest.fixture
def agent(tmp_path):
    """The command of an agent, which prints its options."""
    (tmp_path / "agent.py").write_text(AGENT)
    options = [f"--session-dir={tmp_path}", "--node-id=n", "--node-ip-address=127.0.0.1", "--runtime-env-agent-port=0"]
    return [sys.executable, str(tmp_path / "agent.py"), *options]


def start(kind, agent):
    command = [sys.executable, "-I", "-S", stand_in.__file__, kind, *agent]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_it_becomes_the_agent_of_runtime_environments_when_somebody_asks(tmp_path, agent):
    process = start("lazy", agent)
    port = int(wait_for(tmp_path / "runtime_env_agent_port_n"))
    assert process.poll() is None
    with socket.create_connection(("127.0.0.1", port)):
        out, _ = process.communicate()
    # It listens where the raylet was told.
    assert out.split()[-1] == f"--runtime-env-agent-port={port}"


@pytest.mark.parametrize(("kind", "name"), [("idle", "metrics_agent_port_n"), ("lazy", "runtime_env_agent_port_n")])
def test_it_ends_with_the_raylet_that_started_it(tmp_path, agent, kind, name):
    code = (
        f"import subprocess, sys, time; print(subprocess.Popen({[sys.executable, stand_in.__file__, kind, *agent]}).pid"
    )
    raylet = subprocess.Popen([sys.executable, "-c", f"{code}, flush=True); time.sleep(60)"], stdout=subprocess.PIPE)
    pid = int(raylet.stdout.readline())
    wait_for(tmp_path / name)
    raylet.kill()
    raylet.wait()
    raylet.stdout.close()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def test_only_a_raylets_agents_have_stand_ins(agent):
    command = ["raylet", "--node_id=n", f"--dashboard_agent_command={' '.join(agent)}", "--java_worker_command="]
    changed = session._with_stand_ins(command)
    assert [changed[0], changed[1], changed[3]] == [command[0], command[1], command[3]]
    assert changed[2].endswith(" ".join(["stand_in.py", "idle", *agent]))
    # An agent that is told otherwise where it stands, as another Ray's may be, starts as it is.
    other = ["raylet", "--runtime_env_agent_command=python agent.py --somewhere"]
    assert session._with_stand_ins(other) == other
