"""A host without a token tries every port that head and workers listen on, while a sweep runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

# A name, a file, a parameter, the journal, and values of the sweep that runs.
SECRETS = ("hushhush", "trainable.py", "learning_rate", "journal.sqlite", "0.2674794976933866")
# What Ray answers to everybody.
OPEN = {f"GET {path}" for path in ("/", "/favicon.ico", "/api/authentication_mode")}
OPEN |= {f"GET /api/{name}" for name in ("healthz", "gcs_healthz", "local_raylet_healthz")}


@pytest.fixture(scope="module")
def scan(made_cluster):
    """What a stranger got ([address, port, what was asked, code, text] an answer), the ports, the file of its jobs."""
    made_cluster.with_workers(1)
    sweep = made_cluster.start("hushhush", trials=2, epochs=500, concurrent=None)
    sweep.until_epochs(2)
    ports = {node.address: node.listening() for node in (made_cluster.head, *made_cluster.workers)}
    stranger = made_cluster.network.add("stranger")
    (stranger.folder / "home" / ".ray" / "auth_token").unlink()
    marker = made_cluster.network.shared / "executed"
    command = ["python", str(Path(__file__).with_name("stranger.py")), json.dumps(ports), str(marker)]
    printed = stranger.run(command, {"RAY_AUTH_MODE": ""}, limit_s=120).stdout
    stranger.kill()
    assert sweep.process.poll() is None  # it was not disturbed
    made_cluster.stop_sweeps()
    return [json.loads(line) for line in printed.splitlines() if line.startswith("[")], ports, marker


def test_every_port_was_tried_by_every_means(scan, made_cluster):
    answers, ports, _ = scan
    raw = {(address, port) for address, port, what, *_ in answers if what == "raw"}
    assert raw == {(address, port) for address, several in ports.items() for port in several}
    # GCS, Jobs server, Ray client and agent; the rest have ports of chance: raylets, workers, exporters.
    assert {6379, 8265, 10001, 52365} <= set(ports[made_cluster.head.address])
    assert len(raw) >= 15
    spoken = {(address, port) for address, port, what, *_ in answers if what.startswith(("GET", "/ray"))}
    assert spoken == raw  # each speaks HTTP or gRPC, so none was missed


def test_nothing_executes(scan):
    answers, _, marker = scan
    assert not marker.exists()
    submitted = [code for _, port, what, code, _ in answers if what == "POST /api/jobs/" and port == 8265]
    assert sorted(submitted) == [401, 403]  # without a token, and with a wrong one
    joined = [code for _, _, what, code, _ in answers if what.startswith("join")]
    assert len(joined) == 2 and 0 not in joined
    called = {code for _, _, what, code, _ in answers if what.startswith("/ray")}
    assert called == {"UNAUTHENTICATED", "UNIMPLEMENTED"}


def test_nothing_of_a_sweep_is_read(scan):
    answers, *_ = scan
    told = [(port, what, name) for _, port, what, _, text in answers for name in SECRETS if name in str(text)]
    assert told == []


def test_what_is_told_without_a_token_is_known(scan):
    """The dashboard's page and health, and Prometheus metrics: machines and Ray's own names, nothing of a sweep."""
    answers, *_ = scan
    told = {what for _, port, what, code, _ in answers if code == 200 and port in (8265, 52365)}
    assert told <= OPEN
    exporters = [text for _, _, what, code, text in answers if what == "GET /no-such-path" and code == 200]
    assert len(exporters) >= 3
    assert all("# HELP" in text for text in exporters)


def test_the_token_opens_what_a_stranger_finds_shut(made_cluster):
    """The probes ask for what is there: else a refusal would mean nothing."""
    head, marker = made_cluster.head, made_cluster.network.shared / "executed-with-token"
    command = ["ray", "job", "submit", "--address", f"http://{head.address}:8265", "--", "touch", str(marker)]
    head.run(command, limit_s=60)
    assert marker.exists()
