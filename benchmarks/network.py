"""Hosts on one machine: namespaces joined by a bridge, each with an address, a name, processes and a /tmp of its own.

    with Network() as network:
        head, worker = network.add("head"), network.add("worker")
        start_head(head)
        start_worker(worker, head)
        head.run(["tuner", "run", "sweep.toml", "--address", f"{head.address}:6379", "--storage", str(network.shared)])
        worker.cut()

The bridge stands in a namespace, too: nothing is seen outside, so two networks never meet and may use the same
addresses. Every host ends with the process that made it, however that ends. `network.shared` plays the network file
system: the same path on every host, and here. Needs root, unshare, nsenter and ip (util-linux, iproute2).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).parents[1]
_TEMP = Path("/tmp")
_PORT = 6379
_UNSHARE = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
# Its end is the host's: as the first process of its PID namespace it takes all others with it. It reads until the
# process that holds the pipe's other end is gone, and, being bash, reaps what others leave behind.
_HOLD = "echo ready; read -r"
_BOOT = f"""set -e
hostname "$1"
mount --bind "$2/boot_id" /proc/sys/kernel/random/boot_id
mount -t tmpfs -o mode=1777 none /dev/shm
for path in "${{@:3}}"; do mkdir -p "$2${{path#/tmp}}"; mount --bind "$path" "$2${{path#/tmp}}"; done
mount --rbind "$2" /tmp
ip link set lo up
set +e
{_HOLD}
"""


def why_not() -> str | None:
    """Return why hosts cannot be made here, in a sentence; None where they can."""
    if os.geteuid() != 0:
        return "network namespaces need root."
    missing = [tool for tool in ("ip", "unshare", "nsenter", "bash") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} must be installed (iproute2, util-linux, bash)."
    tried = subprocess.run([*_UNSHARE, "ip", "link", "add", "switch", "type", "bridge"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"this machine makes no namespaces: {tried.stderr.strip()}"


def until(condition: Callable[[], Any], limit_s: float, what: str) -> Any:
    """Wait until a condition holds, and return what it returned.

    Raises:
        TimeoutError: It does not hold after so many seconds; `what` says what was waited for.
    """
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.05)
    return found


class _Anchor:
    """The process whose namespaces are a host's, or the switch's."""

    def __init__(self, script: str, *arguments: str) -> None:
        command = [*_UNSHARE, "bash", "-c", script, "bash", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.kill()
            raise RuntimeError(f"a namespace could not be made: {' '.join(command[:8])}")
        self.pid = _child(self._process.pid)

    def kill(self) -> None:
        """Kill everything in its namespaces, at once, and wait until it is gone."""
        self._process.kill()
        self._process.communicate()
        if hasattr(self, "pid"):
            until(self._is_gone, 30, "the end of a killed namespace")

    def _is_gone(self) -> bool:
        with contextlib.suppress(ChildProcessError):  # ours where this process adopts orphans, as the guard's tests do
            os.waitpid(self.pid, os.WNOHANG)
        return not Path(f"/proc/{self.pid}").exists()

    def inside(self, *command: str) -> list[str]:
        """Return the command that runs a command in its namespaces."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--pid", "--", *command]


def _child(pid: int) -> int:
    """Return the only child of a process, as this machine numbers it."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


class Network:
    """Hosts that reach one another and nothing else; as a context manager it removes everything at its end.

    Args:
        token: The token of the clusters in it: each host has it in ~/.ray/auth_token.

    Attributes:
        folder: Holds what the hosts wrote; removed at the end.
        shared: The same folder on every host, as a network file system would be.
    """

    def __init__(self, token: str | None = None) -> None:
        self.token = token or secrets.token_hex(32)
        self._switch = _Anchor(f"ip link add switch type bridge && ip link set switch up && {_HOLD}")
        self.folder = Path(tempfile.mkdtemp(prefix="tn-", dir=_TEMP))
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        self.nodes: list[Node] = []

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, name: str) -> Node:
        """Make a host and plug it in."""
        node = Node(self, name, len(self.nodes) + 1)
        self.nodes.append(node)
        node.boot()
        return node

    def switch(self, *command: str) -> None:
        """Run a command where the bridge is."""
        subprocess.run(self._switch.inside(*command), check=True)

    def plug(self, number: int, pid: int) -> None:
        """Lay a cable from a host, by its number and the pid that holds its namespaces, to the bridge."""
        port = f"port{number}"
        cable = ["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", f"/proc/{pid}/ns/net"]
        # The switch does not see this machine's processes: entered is its network alone.
        subprocess.run(["nsenter", f"--net=/proc/{self._switch.pid}/ns/net", "--", *cable], check=True)
        self.switch("ip", "link", "set", port, "master", "switch", "up")

    def close(self) -> None:
        """Kill every process of every host, and remove everything."""
        for node in self.nodes:
            node.kill()
        self._switch.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Node:
    """One host: made by Network.add.

    Attributes:
        address: Its address.
        folder: Its /tmp, as seen from here; nothing in it is seen from another host. Its home is /tmp/home there.
    """

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.network, self.name, self.number = network, name, number
        self.address = f"10.77.0.{number}"
        self.folder = network.folder / name
        self._anchor: _Anchor | None = None
        secret = self.folder / "home" / ".ray" / "auth_token"
        secret.parent.mkdir(parents=True, mode=0o700)
        secret.touch(0o600)
        secret.write_text(network.token)

    @property
    def alive(self) -> bool:
        """Whether it has been started and not been killed."""
        return self._anchor is not None

    def boot(self) -> None:
        """Start it, also anew after it was killed: what is on its disk is kept."""
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        common = [str(path) for path in (*_needed(), self.network.shared)]
        self._anchor = _Anchor(_BOOT, self.name, str(self.folder), *common)
        self.network.plug(self.number, self._anchor.pid)
        self.run(["ip", "address", "add", f"{self.address}/24", "dev", "eth0"])
        self.run(["ip", "link", "set", "eth0", "up"])

    def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, output: IO[Any] | int | None = None
    ) -> subprocess.Popen[str]:
        """Start a command on this host; Node.signal reaches it.

        Args:
            command: What to run; its working directory is the host's home.
            env: Laid over what every command here gets; an empty value takes a name away.
            output: Where its standard output and error go; None: nowhere.
        """
        assert self._anchor is not None, f"{self.name} was killed"
        variables = {name: value for name, value in (self._environment() | dict(env or {})).items() if value}
        return subprocess.Popen(
            self._anchor.inside("sh", "-c", 'cd "$HOME" && exec "$@"', "sh", *command),
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if output is None else output,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, limit_s: float = 60.0, *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on this host to its end, and return it with what it printed.

        Raises:
            RuntimeError: It failed, and `check` is set.
            TimeoutError: It took longer than so many seconds, and was killed.
        """
        process = self.start(command, env, subprocess.PIPE)
        try:
            printed, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self.signal(process, signal.SIGKILL)
            printed, _ = process.communicate()
            raise TimeoutError(f"{self.name}: {' '.join(command)}: not over after {limit_s:g} s:\n{printed}") from None
        if check and process.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: exit status {process.returncode}:\n{printed}")
        return subprocess.CompletedProcess([*command], process.returncode, printed)

    def signal(self, process: subprocess.Popen[str], number: int) -> None:
        """Send a signal to what Node.start has started (the process itself is nsenter, which passes none on)."""
        os.kill(_child(process.pid), number)

    def kill(self) -> None:
        """Kill the host: every process on it, at once; what is on its disk is kept."""
        if self._anchor is not None:
            self._anchor.kill()
            self._anchor = None

    def cut(self) -> None:
        """Pull its cable: it reaches nobody but itself, and goes on."""
        self.network.switch("ip", "link", "set", f"port{self.number}", "down")

    def restore(self) -> None:
        """Put the cable back."""
        self.network.switch("ip", "link", "set", f"port{self.number}", "up")

    def listening(self) -> list[int]:
        """Return the TCP ports on which something listens for others than itself."""
        ports = set()
        for name in ("tcp", "tcp6"):
            for line in self.run(["cat", f"/proc/net/{name}"]).stdout.splitlines()[1:]:
                local, state = line.split()[1], line.split()[3]
                address, port = local.split(":")
                loopback = address.endswith(("7F", "01000000"))  # the lowest byte first
                if state == "0A" and not loopback:
                    ports.add(int(port, 16))
        return sorted(ports)

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TERM") if name in os.environ}
        return kept | {
            "PATH": path,
            "HOME": "/tmp/home",
            "PYTHONPATH": str(_ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
        }


def _needed() -> list[Path]:
    """Return what a host needs of this machine and would lose with its /tmp: the project and its Python."""
    paths = {_ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    return sorted(path for path in paths if path.is_relative_to(_TEMP))


def start_head(
    node: Node, cpus: int = 1, gpus: int = 0, env: Mapping[str, str] | None = None, **resources: float
) -> None:
    """Start a Ray head: `ray start --head`, its dashboard and Jobs server on port 8265 of every address.

    Args:
        node: Where.
        cpus: Cores that it declares.
        gpus: GPUs that it declares.
        env: More environment, such as RAY_health_check_period_ms.
        resources: Custom resources that it declares.
    """
    head = ["--head", f"--port={_PORT}", "--dashboard-host=0.0.0.0"]
    _start_ray(node, head, cpus, gpus, resources, env)


def start_worker(
    node: Node, head: Node, cpus: int = 1, gpus: int = 0, env: Mapping[str, str] | None = None, **resources: float
) -> None:
    """Start a Ray worker node that joins a head; arguments as in start_head."""
    _start_ray(node, [f"--address={head.address}:{_PORT}"], cpus, gpus, resources, env)


def _start_ray(
    node: Node, how: list[str], cpus: int, gpus: int, resources: dict[str, float], env: Mapping[str, str] | None
) -> None:
    what = [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--resources={json.dumps(resources)}"]
    where = [f"--node-ip-address={node.address}", "--object-store-memory=100000000", "--disable-usage-stats"]
    node.run(["ray", "start", *how, *where, *what], env, limit_s=90)


def address(head: Node) -> str:
    """Return where a head's cluster answers, for `--address`."""
    return f"{head.address}:{_PORT}"


_ALIVE = """
import sys
from ray._raylet import GcsClient
print(sum(node.state == 0 for node in GcsClient(address=sys.argv[1]).get_all_node_info().values()))
"""


def alive(head: Node) -> int:
    """Return how many nodes a head takes for alive, itself included."""
    return int(head.run(["python", "-c", _ALIVE, address(head)], limit_s=30).stdout.split()[-1])
