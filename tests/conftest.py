"""One Ray for all the tests that need one: starting it takes longer than all of them."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile

import pytest


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
        if item.get_closest_marker("ray") or "ray_local" in item.fixturenames:
            assert "_ray" in item.nodeid, (
                f"{item.nodeid}: a test that starts Ray must have _ray in its name or its file's"
            )
    items.sort(key=lambda item: "_ray" not in item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let one process run all tests that start Ray, and share the others out by file."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "ray" if "_ray" in nodeid else nodeid.partition("::")[0]

    return ByFile(config, log)


@pytest.fixture(scope="session")
def ray_local():
    """A Ray of two cores that this process has already, as a notebook has; tuner.run uses it as it is."""
    import ray

    from tuner.backends.ray_tune import session

    # A short path: Ray's socket names end at 107 bytes.
    folder = tempfile.mkdtemp(prefix="tt-", dir="/tmp")
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
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_server():
    """The endpoint of a server on loopback that speaks S3's protocol; its buckets go with it."""
    import socket
    import subprocess
    import sys
    import time
    import urllib.request

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
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
    import secrets

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
