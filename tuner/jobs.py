"""Jobs on a cluster, through its Jobs server: plain HTTP, as importing Ray would take longer than what is asked for.

A job is one turn of a driver on the cluster's head: `tuner run` or `tuner resume`, started by `tuner submit`. Its id is
its run's name and a number, NAME-1, NAME-2, ...; the server gives each id once, so two submissions cannot both win.
"""

from __future__ import annotations

import json
import os
import platform
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.parse import quote, urlsplit

from tuner import tokens
from tuner.errors import UsageError, nearest

ADDRESS = "RAY_API_SERVER_ADDRESS"
"""Ray's own variable for a Jobs server's URL."""

_PORT = 8265  # Ray's default for its dashboard, which the Jobs server is a part of
_PATIENCE_S = 10.0
# The supervisor of a job did not get as far as its command.
_NEVER_BEGAN = (
    "RUNTIME_ENV_SETUP_FAILURE",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
    "JOB_ENTRYPOINT_COMMAND_START_ERROR",
)


@dataclass(frozen=True)
class Job:
    """One job of this project's, as the server last told of it.

    Args:
        id: Its id, NAME-1.
        name: Its run's name.
        run: Its run folder, as seen on the cluster.
        sweep: The digest of the sweep and the user's code that were submitted; empty for a resumed one.
        status: "pending", "running", "stopped", "succeeded" or "failed".
        exit_status: That of its command; None while it runs, and where the cluster does not tell.
        began: Whether its command was started, and not refused (exit status 2).
        error: What the cluster says of a failure; empty where it says nothing.
        started_at: Seconds since 1970.
        ended_at: Seconds since 1970; None while it is not over.
    """

    id: str
    name: str
    run: str
    sweep: str
    status: str
    exit_status: int | None
    began: bool
    error: str
    started_at: float
    ended_at: float | None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status not in ("pending", "running")

    @property
    def outcome(self) -> int:
        """The exit status of its sweep, 0 to 143: 143 where it was stopped, 1 where the cluster does not tell."""
        if self.status == "succeeded":
            return 0
        if self.status == "stopped":
            return 143
        return self.exit_status if self.exit_status and self.exit_status > 0 else 1


@dataclass(frozen=True)
class Server:
    """A Jobs server that was reached and lets this process in; see `reach`.

    Args:
        url: "http://host:port".
        headers: What every request shows: the token, where the server asks for one.
        insecure: Whether this one needs no token although it is not on this machine.
    """

    url: str
    headers: Mapping[str, str]
    insecure: bool

    def versions(self) -> tuple[str, str]:
        """Return the cluster's versions of Ray and of Python."""
        told = _parsed(self.url, self._ask("GET", "/api/v0/cluster_metadata"))
        metadata = told.get("data") if isinstance(told, dict) else None
        if not isinstance(metadata, dict):
            raise _no_server(self.url, "it does not tell its versions")
        return str(metadata.get("rayVersion")), str(metadata.get("pythonVersion"))

    def jobs(self) -> list[Job]:
        """Return this project's jobs, the newest first."""
        told = _parsed(self.url, self._ask("GET", "/api/jobs/"))
        if not isinstance(told, list):
            raise _no_server(self.url, "it does not list its jobs")
        ours = [_job(entry) for entry in told if "tuner" in (entry.get("metadata") or {})]
        return sorted(ours, key=lambda job: -job.started_at)

    def find(self, name: str) -> Job:
        """Return a job by its id, or the newest one of a run's name or folder.

        Raises:
            UsageError: There is none.
        """
        jobs = self.jobs()
        for job in jobs:
            if name == job.id:
                return job
        for job in jobs:
            if name.rstrip("/") in (job.name, job.run):
                return job
        remedy = nearest(name, {job.name for job in jobs}) or "There is none yet: tuner submit SWEEP"
        raise UsageError(f"{name}: JOB must be a job's id or its run's name, but {self.url} has no such job. {remedy}")

    def again(self, job: Job) -> Job:
        """Return the same job as it is now."""
        return _job(_parsed(self.url, self._ask("GET", f"/api/jobs/{quote(job.id, safe='')}")))

    def log(self, job: Job) -> str:
        """Return everything that a job has printed."""
        told = _parsed(self.url, self._ask("GET", f"/api/jobs/{quote(job.id, safe='')}/logs"))
        return str(told["logs"])

    def stop(self, job: Job) -> None:
        """Ask a job to save and leave; returns before it has."""
        self._ask("POST", f"/api/jobs/{quote(job.id, safe='')}/stop")

    def _ask(self, method: str, path: str) -> str:
        return _request(self.url, method, path, self.headers)


def reach(address: str | None, *, insecure: bool = False) -> Server:
    """Return a Jobs server that answers and lets this process in.

    Args:
        address: "http://host:port"; None: $RAY_API_SERVER_ADDRESS.
        insecure: Allow one beyond this machine that asks nobody for a token.

    Raises:
        UsageError: Nothing answers there; there is no token here, or a wrong one; or everybody is let in.
    """
    url, host = _url(address)
    told = _parsed(url, _request(url, "GET", "/api/authentication_mode", {}))
    mode = told.get("authentication_mode") if isinstance(told, dict) else None
    if mode == "disabled":
        if not insecure and not tokens.is_loopback(host):
            raise UsageError(
                f"--address: a cluster beyond this machine must ask for a token, but got ({url}: it asks for none, so "
                "anyone who reaches it runs code on it). Start its nodes with RAY_AUTH_MODE=token, or use it as it is "
                "with --insecure."
            )
        return Server(url, {}, insecure)
    if mode != "token":
        raise _no_server(url, "what answers there is none")
    token = tokens.find_token()
    if token is None:
        raise UsageError(f"--address: the cluster at {url} asks for a token, and there is none here: {tokens.NONE}")
    server = Server(url, {"Authorization": f"Bearer {token.value}"}, insecure)
    try:
        server._ask("GET", "/api/version")
    except _Refused as error:
        if error.status not in (401, 403):
            raise
        raise UsageError(
            f"--address: the cluster at {url} rejected the token from {token.source}. {tokens.REMEDY}"
        ) from error
    return server


def check_versions(server: Server) -> None:
    """Refuse a cluster whose Ray, or whose Python's minor version, is another than here.

    Raises:
        UsageError: They differ.
    """
    from importlib.metadata import version

    ray, python = server.versions()
    here = version("ray"), platform.python_version()
    if (ray, python.split(".")[:2]) != (here[0], here[1].split(".")[:2]):
        raise UsageError(
            f"--address: Ray and Python must be the same here and on the cluster, but got (Ray {here[0]} and Python "
            f"{here[1]} here, Ray {ray} and Python {python} at {server.url}). Install the cluster's versions here, or "
            "these on every node of the cluster."
        )


def is_url(address: str | None) -> bool:
    """Return whether an address is a Jobs server's, and not that of a cluster to join."""
    return address is not None and address.partition("://")[0] in ("http", "https") and "://" in address


def _url(address: str | None) -> tuple[str, str]:
    """Return a server's URL without a path, and its host."""
    name = "--address" if address is not None else ADDRESS
    text = address if address is not None else os.environ.get(ADDRESS, "")
    if not text:
        raise UsageError(
            f"--address: it must say where the cluster's Jobs server is, but neither it nor ${ADDRESS} is given. "
            f"Such as: --address http://127.0.0.1:{_PORT}"
        )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if (
        parts.scheme in ("http", "https")
        and host
        and port is not None
        and not parts.path.strip("/")
        and not parts.query
    ):
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", host
    bare = text.rpartition("://")[2].partition("/")[0].partition(":")[0]
    meant = f"http://{bare if bare not in ('', 'auto') else '127.0.0.1'}:{_PORT}"
    raise UsageError(
        f"{name}: a Jobs server's address must be http://host:port or https://host:port, but got ({text}). "
        f"{_PORT} is its usual port: --address {meant}"
    )


class _Refused(UsageError):
    """The server answered with an error."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is for the server that was named, and for no other."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _request(url: str, method: str, path: str, headers: Mapping[str, str]) -> str:
    asked = urllib.request.Request(f"{url}{path}", method=method, headers=dict(headers))
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if tokens.is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        with urllib.request.build_opener(*handlers).open(asked, timeout=_PATIENCE_S) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode("utf-8", "replace").strip().splitlines()
        what = f"{error.code} {error.reason}: {said[-1][:300] if said else ''}".rstrip(": ")
        raise _Refused(f"{url}: the Jobs server must do what it is asked, but got ({what}).", error.code) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise _no_server(url, why) from error


def _no_server(url: str, why: str) -> UsageError:
    return UsageError(
        f"--address: a Ray Jobs server must answer there, but got ({url}: {why}). `ray start --head` on the cluster "
        "prints where its dashboard is; `ray attach CLUSTER.yaml -p 8265` brings it to http://127.0.0.1:8265."
    )


def _parsed(url: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise _no_server(url, "what answers there is none") from None


def _job(entry: Mapping[str, Any]) -> Job:
    metadata: Mapping[str, Any] = entry.get("metadata") or {}
    code, ended = entry.get("driver_exit_code"), entry.get("end_time")
    failed = entry.get("status") == "FAILED"
    return Job(
        id=str(entry["submission_id"]),
        name=str(metadata.get("name", "")),
        run=str(metadata.get("run", "")),
        sweep=str(metadata.get("sweep", "")),
        status=str(entry["status"]).lower(),
        exit_status=code,
        began=not (failed and (code == 2 or entry.get("error_type") in _NEVER_BEGAN)),
        error=str(entry.get("message") or "") if failed else "",
        started_at=(entry.get("start_time") or 0) / 1000,
        ended_at=ended / 1000 if ended else None,
    )
