"""A Jobs server that is wrong, open, or another version: one sentence, before anything is sent to it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tuner import jobs
from tuner.errors import UsageError


@pytest.fixture(autouse=True)
def no_token(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def server():
    """A server that says what it is told to, and keeps what it was asked."""
    answers, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            answer = answers.get(self.path, (404, "not found"))
            self.send_response(answer[0])
            if answer[0] == 302:
                self.send_header("Location", answer[1])
            self.end_headers()
            self.wfile.write(answer[1].encode())

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("0.0.0.0", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        http.answers, http.asked = answers, asked
        yield http
        http.shutdown()
        thread.join()


MODE = "/api/authentication_mode"
OPEN = (200, json.dumps({"authentication_mode": "disabled"}))
CLOSED = (200, json.dumps({"authentication_mode": "token"}))


def test_an_open_cluster_beyond_this_machine_is_refused(server):
    server.answers[MODE] = OPEN
    beyond = f"http://0.0.0.0:{server.server_port}"  # it leads here, but says nothing of loopback
    with pytest.raises(UsageError, match=r"it asks for none, so anyone who reaches it runs code on it.*--insecure"):
        jobs.reach(beyond)
    assert jobs.reach(beyond, insecure=True).insecure
    assert jobs.reach(f"http://127.0.0.1:{server.server_port}").headers == {}


def test_a_token_is_shown_to_a_ray_that_asks_for_one_and_to_no_other(server, monkeypatch):
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    with pytest.raises(UsageError, match="404"):
        jobs.reach(url)
    server.answers[MODE] = (200, "<html>")
    with pytest.raises(UsageError, match="what answers there is none"):
        jobs.reach(url)
    server.answers[MODE] = CLOSED
    server.answers["/api/version"] = (302, f"http://localhost:{server.server_port}/elsewhere")
    with pytest.raises(UsageError, match="302"):
        jobs.reach(url)
    assert [path for path, shown in server.asked if shown] == ["/api/version"]


@pytest.mark.parametrize(("status", "sentence"), [(403, "rejected the token from RAY_AUTH_TOKEN"), (500, "500")])
def test_a_rejected_token_is_said_so(server, monkeypatch, status, sentence):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    server.answers.update({MODE: CLOSED, "/api/version": (status, "no")})
    with pytest.raises(UsageError, match=sentence) as caught:
        jobs.reach(f"http://127.0.0.1:{server.server_port}")
    assert "wrong" not in str(caught.value)


def test_a_missing_token_is_said_so(server):
    server.answers[MODE] = CLOSED
    with pytest.raises(UsageError, match=r"asks for a token, and there is none here.*chmod 600"):
        jobs.reach(f"http://127.0.0.1:{server.server_port}")


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"rayVersion": "2.1.0", "pythonVersion": None}, r"Ray 2.1.0 and Python None at"),
        ({"rayVersion": None, "pythonVersion": "3.9.1"}, r"and Python 3.9.1 at"),
    ],
)
def test_other_versions_are_refused(server, told, sentence):
    from importlib.metadata import version
    from platform import python_version

    here = {"rayVersion": version("ray"), "pythonVersion": python_version()}
    found = {**here, **{key: value for key, value in told.items() if value}}
    server.answers.update({MODE: OPEN, "/api/v0/cluster_metadata": (200, json.dumps({"data": here}))})
    reached = jobs.reach(f"http://127.0.0.1:{server.server_port}")
    jobs.check_versions(reached)
    server.answers["/api/v0/cluster_metadata"] = (200, json.dumps({"data": found}))
    with pytest.raises(UsageError, match=sentence.replace("None", python_version())):
        jobs.check_versions(reached)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (None, "neither it nor .RAY_API_SERVER_ADDRESS is given"),
        ("10.0.0.1:6379", "--address http://10.0.0.1:8265$"),
        ("auto", "--address http://127.0.0.1:8265$"),
        ("ray://head:10001", "must be http://host:port .*--address http://head:8265$"),
        ("http://head", "must be http://host:port"),
        ("http://head:8265/path", "must be http://host:port"),
        ("http://head:99999", "must be http://host:port"),
        ("http://127.0.0.1:1", "must answer there, but got .*refused"),
        ("http://nowhere.invalid:8265", "must answer there"),
    ],
)
def test_a_wrong_address_is_one_sentence_with_the_remedy(address, sentence):
    with pytest.raises(UsageError, match=sentence):
        jobs.reach(address)


def test_only_an_http_address_is_a_jobs_servers():
    urls = ["http://a:1", "https://a:1", "a:1", "auto", "ray://a:1", None, "http"]
    assert [jobs.is_url(url) for url in urls] == [True, True, False, False, False, False, False]


@pytest.mark.parametrize(
    ("entry", "status", "began", "outcome"),
    [
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, "succeeded", True, 0),
        ({"status": "FAILED", "driver_exit_code": 3}, "failed", True, 3),
        ({"status": "FAILED", "driver_exit_code": 2}, "failed", False, 2),
        ({"status": "FAILED", "driver_exit_code": -9}, "failed", True, 1),
        ({"status": "FAILED", "error_type": "RUNTIME_ENV_SETUP_FAILURE"}, "failed", False, 1),
        ({"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_DIED"}, "failed", True, 1),
        ({"status": "STOPPED"}, "stopped", True, 143),
    ],
)
def test_how_a_job_ended(entry, status, began, outcome):
    job = jobs._job({"submission_id": "a-1", "metadata": {"name": "a", "run": "/runs/a"}, **entry})
    assert (job.status, job.began, job.outcome, job.over) == (status, began, outcome, True)
