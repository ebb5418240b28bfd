"""Sweeps as jobs on a cluster: packed here, uploaded and started by Ray's own Jobs client.

What is uploaded: the packages tuner/ and trainables/ as they are here, sweep.toml as resolved here, code/, a user's
trainable file with what it imports from its own folder, and from/, what search.from reads of the runs on this machine.
The cluster needs the installed packages, not this project.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tuner
from tuner.backup import copy_journal
from tuner.errors import RunError, UsageError
from tuner.jobs import Job, Server, check_versions
from tuner.journal import FILE_NAME
from tuner.provenance import FILE_NAME as PROVENANCE
from tuner.results import find_run
from tuner.run_folder import OURS, freeze_code
from tuner.spec import Sweep
from tuner.spec.data import default_root
from tuner.storage import Remote, is_uri, local_path

STOP_S = 30
"""Seconds that a job has to save and leave before it is killed; Ray gives it 3."""


def submit(
    server: Server, sweep: Sweep, *, storage: str, name: str | None = None, command: str = "run", strict: bool = False
) -> tuple[Job, bool]:
    """Start a sweep as a job on a cluster; one that was submitted already is left as it is.

    Args:
        server: The cluster's Jobs server.
        sweep: The sweep, from a file.
        storage: Where run folders live, as every node sees it: a URI or an absolute path.
        name: The run's name; None: the sweep's.
        command: "run" or "study".
        strict: Whether any failed trial counts for the job's exit status.

    Returns:
        The job, and whether it was started now: False where the same sweep was submitted under this name before.

    Raises:
        UsageError: The storage is relative, the name is taken by another sweep, or the cluster's versions differ.
    """
    name = name or sweep.name
    run = _run(storage, name)
    with tempfile.TemporaryDirectory(prefix="tuner-") as package:
        digest = _pack(Path(package), sweep)
        if before := _submitted(server, name, run, digest):
            return before, False
        check_versions(server)
        words = [command, "sweep.toml", "--storage", storage, "--name", name, *(["--strict"] if strict else [])]
        try:
            return _start(server, Path(package), words, name, run, digest), True
        except _Taken:  # by another submission, just now
            if before := _submitted(server, name, run, digest):
                return before, False
            raise


def resubmit(server: Server, run: str, options: Sequence[str] = ()) -> Job:
    """Go on with a run as a new job: one that was stopped, or broke, or whose cluster is gone.

    Args:
        server: The cluster's Jobs server.
        run: A run folder as every node sees it (a URI or an absolute path), or the name or id of a job there.
        options: Further options of `tuner resume`.

    Raises:
        UsageError: Its job is still at it, there is no such job, or the cluster's versions differ.
    """
    folder = run.rstrip("/") if "://" in run or Path(run).is_absolute() else server.find(run).run
    name = folder.rpartition("/")[2]
    for job in server.jobs():
        if job.run == folder and not job.over:
            raise RunError(
                f"{run}: only one driver may run a sweep, but job {job.id} is {job.status}. "
                f"Wait for it, or stop it: tuner stop {job.id} --address {server.url}"
            )
    check_versions(server)
    with tempfile.TemporaryDirectory(prefix="tuner-") as package:
        _pack(Path(package), None)
        return _start(server, Path(package), ["resume", folder, *options], name, folder, "")


class _Taken(UsageError):
    """Another job has this id."""


def _run(storage: str, name: str) -> str:
    if not ("://" in storage or Path(storage).is_absolute()):
        raise UsageError(
            f"--storage: it must be a URI or an absolute path, as every node of the cluster sees it, but got "
            f"({storage}). Such as s3://bucket/runs or /mnt/shared/runs"
        )
    if not re.fullmatch(r"[\w][\w.+-]*", name) or name == "latest":
        raise RunError(
            f"--name: a run's name must be letters, digits and . _ + -, and not latest, but got ({name}). "
            "Choose such a name."
        )
    return f"{storage.rstrip('/')}/{name}"


def _submitted(server: Server, name: str, run: str, digest: str) -> Job | None:
    """Return the newest job of a run that was submitted already; jobs that refused to begin do not count.

    Raises:
        RunError: The name is another sweep's.
    """
    jobs = [job for job in server.jobs() if job.name == name and job.began]
    first = next((job for job in reversed(jobs) if job.sweep), None)
    if first is None:
        if jobs or _is_there(run):
            raise _taken(server, name, run, f"there is a run in {jobs[0].run if jobs else run}")
        return None
    if first.run != run:
        raise _taken(server, name, first.run, f"job {first.id} runs in {first.run}")
    if first.sweep != digest:
        raise _taken(server, name, run, f"job {first.id} was submitted with another sweep, or other code")
    return jobs[0]


def _is_there(run: str) -> bool:
    """Return whether a run folder is there, as far as it can be seen from here; else its job finds out."""
    if not is_uri(run):
        return (local_path(run) / FILE_NAME).is_file()
    try:
        return Remote(run).has(FILE_NAME)
    except (OSError, UsageError):
        return False


def _taken(server: Server, name: str, run: str, why: str) -> RunError:
    return RunError(
        f"{name}: a run's name must be new, but it is taken: {why}. Choose another --name, or go on with it: "
        f"tuner resume {shlex.quote(run)} --address {server.url}"
    )


def _pack(folder: Path, sweep: Sweep | None) -> str:
    """Fill a folder with what a job needs; returns a digest of the sweep and the user's code."""
    for package in OURS:
        found = importlib.util.find_spec(package)
        assert found and found.submodule_search_locations
        shutil.copytree(
            found.submodule_search_locations[0], folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    if sweep is None:
        return ""
    (folder / "sweep.toml").write_text(_portable(sweep, folder).to_toml(), encoding="utf-8")
    total = hashlib.sha256()
    for path in [folder / "sweep.toml", *sorted((folder / "code").rglob("*.py"))]:
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def _portable(sweep: Sweep, folder: Path) -> Sweep:
    """Return the sweep with its code in a folder, and without this machine's own default for data.root."""
    changes: dict[str, object] = {}
    if not isinstance(sweep.trainable, str):
        raise UsageError("trainable: a sweep that is submitted names its function, such as mine.py:train.")
    if ".py:" in sweep.trainable:
        file, _, function = sweep.trainable.rpartition(":")
        if not Path(file).is_file():
            raise UsageError(f"sweep.trainable: its file must be there, but got ({file}). Check the path.")
        changes["trainable"] = f"{freeze_code(Path(file), folder).relative_to(folder)}:{function}"
    if sweep.search.from_:
        brought = tuple(_bring(run, place, folder) for place, run in enumerate(sweep.search.from_))
        changes["search"] = sweep.search.model_copy(update={"from_": brought})
    if sweep.data is not None and sweep.data.root == default_root():
        changes["data"] = sweep.data.model_copy(update={"root": None})  # the cluster has a TUNER_DATA of its own
    return sweep.model_copy(update=changes)


def _bring(run: str, place: int, folder: Path) -> str:
    """Copy what a warm start reads of a run on this machine; returns where it is then."""
    if is_uri(run) and not run.startswith("file://"):
        return run
    try:
        found = find_run(run)
        target = folder / "from" / str(place) / found.name
        target.mkdir(parents=True)
        copy_journal(found / FILE_NAME, target / FILE_NAME)
    except RunError as error:
        raise RunError(f"search.from[{place}]: {error}") from error
    for name in ("sweep.toml", PROVENANCE):
        if (found / name).is_file():
            shutil.copy2(found / name, target / name)
    if (found / "code").is_dir():
        shutil.copytree(found / "code", target / "code", ignore=shutil.ignore_patterns("__pycache__"))
    return target.relative_to(folder).as_posix()


def _start(server: Server, package: Path, words: Sequence[str], name: str, run: str, digest: str) -> Job:
    """Upload a package and start a job in it."""
    import logging

    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.WARNING)
    logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)
    number = 1 + max((_number(job, name) for job in server.jobs()), default=0)
    insecure = ["--insecure"] if server.insecure else []
    # exec: the job is the driver's parent itself, which hears the signal and gives the exit status, and no shell.
    command = f"exec {shlex.join(['python', '-m', 'tuner.cli', *words, '--address', 'auto', *insecure])}"
    client = JobSubmissionClient(server.url, headers=dict(server.headers))
    try:
        started = client.submit_job(
            entrypoint=command,
            submission_id=f"{name}-{number}",
            runtime_env={"working_dir": str(package), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}},
            metadata={"tuner": tuner.__version__, "name": name, "run": run, "sweep": digest},
        )
    except (RuntimeError, ConnectionError, ValueError, OSError) as error:
        if "already exists" in str(error):
            raise _Taken(f"{name}: another job was submitted under this name at the same time. Try again.") from error
        last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise UsageError(
            f"{server.url}: the cluster must take the job, but got ({last[0][:300].rstrip('.')})."
        ) from error
    return server.find(str(started))


def _number(job: Job, name: str) -> int:
    match = re.fullmatch(re.escape(name) + r"-(\d+)", job.id)
    return int(match[1]) if match else 0
