"""One Ray for all the tests that need one: starting it takes longer than all of them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tuner.cli import guard


def pytest_configure(config):
    """Hear signals, as in a terminal: a run in the background, or under nohup, inherits that they are ignored.

    And keep bytecode, also where the environment says not to: the hundreds of short processes would each compile this
    project, and every run all tests.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items):
    """Put the tests that start Ray first, as they take the longest; they are told by their names: see below."""
    for item in items:
        if item.get_closest_marker("ray") or {"ray_local", "cluster_ray"} & {*item.fixturenames}:
            assert "_ray" in item.nodeid, (
                f"{item.nodeid}: a test that starts Ray must have _ray in its name or its file's"
            )
    items.sort(key=lambda item: "_ray" not in item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One process more than there are cores: half of the tests' time is waiting for other processes."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let one process run all tests that start Ray, one those of strategies, and share the others out by file.

    The strategies' suites have one other process in common, which imports what takes seconds; so have the files that
    fill small disks.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            if "tests/strategies/" in nodeid:
                return "strategies"
            if nodeid.startswith(("tests/test_disk.py", "tests/test_faults.py")) and "_ray" not in nodeid:
                return "small disks"
            return "ray" if "_ray" in nodeid else nodeid.partition("::")[0]

    return ByFile(config, log)


@pytest.fixture(scope="session")
def ray_local():
    """A Ray of two cores that this process has already, as a notebook has; tuner.run uses it as it is."""
    import ray

    from tuner.backends.ray_tune import session

    # A short path: Ray's socket names end at 107 bytes.
    folder = tempfile.mkdtemp(prefix="tt-", dir="/tmp")
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else Ray writes one to the home folder
    with session.sparse():
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _temp_dir=folder,
        )
    os.environ.pop("PYTHONBREAKPOINT", None)  # Ray's own debugger, which would outlive it
    yield
    ray.shutdown()
    os.environ.pop("RAY_AUTH_TOKEN")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def small_disk(tmp_path_factory):
    """What runs a function of a test file on a small disk of its own."""
    from small_disk import small_disks

    with small_disks(tmp_path_factory.mktemp("disk")) as small:
        yield small


@pytest.fixture(scope="session")
def s3_server():
    """The endpoint of a server on loopback that speaks S3's protocol; its buckets go with it."""
    import urllib.request

    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(endpoint, timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "the S3 server has ended"
                time.sleep(0.05)
        yield endpoint
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3(s3_server, tmp_path, monkeypatch):
    """The URI of a bucket of this test's own; and a cache folder of its own."""
    import fsspec

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TUNER_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{secrets.token_hex(6)}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}"


TOKEN = "a-token-of-the-tests-alone"


@dataclass(frozen=True)
class Cluster:
    """A cluster of one node, on the loopback interface, that asks for a token."""

    gcs: str
    url: str
    token: str
    home: Path


@pytest.fixture(scope="session")
def cluster_ray():
    """A real `ray start --head` with its Jobs server; the tests of jobs share it."""
    folder = Path(tempfile.mkdtemp(prefix="tc-", dir="/tmp"))
    (folder / "home").mkdir()
    mine = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    mine |= {"HOME": str(folder / "home"), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    mine |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    options = "--head --block --disable-usage-stats --num-cpus=2 --num-gpus=0 --port=0 --node-ip-address=127.0.0.1"
    ports = f"--dashboard-port=0 --dashboard-agent-listen-port=0 --ray-client-server-port={free_port()}"
    with (folder / "log").open("wb") as log:
        head = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start"),
                *(*options.split(), *ports.split(), f"--temp-dir={folder / 'ray'}"),
            ],
            env=mine,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    guard.adopt_orphans()
    try:
        yield started(head, folder)
    finally:
        family = [head.pid, *guard.descendants(head.pid)]
        head.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(15)
        for pid in family:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def free_port():
    """Return a port that nothing listens on; the one that Ray does not let the system choose."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def started(head, folder):
    """Wait until a head says where it is."""
    while head.poll() is None:
        text = (folder / "log").read_text(errors="replace")
        url = re.search(r"RAY_API_SERVER_ADDRESS='(.+?)'", text)
        gcs = [*folder.glob("ray/session_latest/gcs_server_port_*")]
        if url and gcs and "--block" in text:
            return Cluster(f"127.0.0.1:{gcs[0].read_text()}", url[1], TOKEN, folder / "home")
        time.sleep(0.2)
    return pytest.fail(f"the cluster does not start: {(folder / 'log').read_text(errors='replace')}")
