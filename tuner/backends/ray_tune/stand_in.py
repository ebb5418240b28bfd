"""What stands in for a raylet's two agents: it does not start without them, and nobody here asks them for anything.

    python stand_in.py idle|lazy COMMAND...

The dashboard's agent gathers metrics that nobody reads. The other one makes runtime environments: only a trainable
that uses Ray by itself may ask for one, so it is started when somebody asks. The two take 1.6 CPU seconds and 200 MB,
and the raylet waits for them before it starts.

Run as a file, with the standard library alone: it must be there at once.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from pathlib import Path

_LOOK_S = 1.0  # between two looks at whether the raylet lives


_NEEDED = ("session-dir", "node-id", "node-ip-address")


def can_replace(command: list[str]) -> bool:
    """Return whether an agent's command says what a stand-in must know, as that of this Ray does."""
    return all(any(word.startswith(f"--{name}=") for word in command) for name in _NEEDED)


def option(command: list[str], name: str) -> str:
    """Return the value of an agent's option, --name=value."""
    return next(word.partition("=")[2] for word in command if word.startswith(f"--{name}="))


def write_ports(command: list[str], names: list[str], port: int) -> None:
    """Write the files in which a raylet looks for its agent's ports."""
    folder, node = Path(option(command, "session-dir")), option(command, "node-id")
    for name in names:
        waiting = folder / f"{name}.waiting"
        waiting.write_text(str(port))
        waiting.rename(folder / f"{name}_{node}")  # whole, or not there


def lives(parent: int) -> bool:
    """Return whether the raylet that started this process lives: without it, there is nobody to stand in for."""
    return os.getppid() == parent


def idle(command: list[str]) -> None:
    """Stand in for the dashboard's agent: say where it would listen, and wait for the raylet's end."""
    parent = os.getppid()
    # A port that nobody listens on: what the raylet would send there is lost, which costs it nothing.
    write_ports(command, ["metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port"], 1)
    while lives(parent):
        select.select([], [], [], _LOOK_S)


def lazy(command: list[str]) -> None:
    """Stand in for the agent of runtime environments, and become it when somebody asks: the raylet asks again."""
    parent = os.getppid()
    with socket.socket() as door:
        door.bind((option(command, "node-ip-address"), 0))
        door.listen()
        port = door.getsockname()[1]
        write_ports(command, ["runtime_env_agent_port"], port)
        while not select.select([door], [], [], _LOOK_S)[0]:
            if not lives(parent):
                return
    told = [f"--runtime-env-agent-port={port}" if "env-agent-port=" in word else word for word in command]
    os.execv(told[0], told)


if __name__ == "__main__":
    {"idle": idle, "lazy": lazy}[sys.argv[1]](sys.argv[2:])
