"""Whether every node of a cluster can do what trials will need, asked before the first one begins."""

from __future__ import annotations

import contextlib
import platform
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuner.errors import RunError, SweepFailed
from tuner.storage import Remote, is_uri

_ANSWER_S = 12.0


def check_storage(place: str) -> None:
    """Refuse a storage that workers of a node cannot see, or cannot write.

    Args:
        place: The folder that run folders live in: an absolute path, or a URI.

    Raises:
        RunError: A node does not see it, or cannot write it; the sentence names the node.
        SweepFailed: A worker does not start there.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = secrets.token_hex(8)
    with _probe(place, token) as name:
        probe = ray.remote(num_cpus=0, max_retries=0)(look)
        asked: dict[Any, str] = {}
        for node in ray.nodes():
            if node["Alive"]:
                where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                task = probe.options(scheduling_strategy=where).remote(place, name, token)
                asked[task] = f"{node['NodeName']} ({node['NodeManagerHostname']})"
        done, _ = ray.wait([*asked], num_returns=len(asked), timeout=_ANSWER_S)
        problems = [(asked[task], problem) for task in done if (problem := _answer(task, asked[task]))]
    if problems:
        said = "; ".join(f"node {node}: {problem}" for node, problem in sorted(problems))
        raise RunError(
            f"{place}: storage must be seen and written by every node, but got ({said}). Give a --storage that all "
            "nodes share: a mounted folder, or a URI such as s3://bucket/runs with the credentials on every node."
        )


def _answer(task: Any, node: str) -> str | None:
    """Return what is wrong on a node; one that dies meanwhile is not this sweep's affair."""
    import ray
    from ray import exceptions

    try:
        return ray.get(task)  # type: ignore[no-any-return]
    except exceptions.RayTaskError as error:
        last = str(error).strip().splitlines()[-1]
        raise SweepFailed(
            f"a worker on node {node} must start, but got ({last}). Install this project, and what the trainable "
            "needs, on every node."
        ) from error
    except exceptions.RayError:
        return None


@contextlib.contextmanager
def _probe(place: str, token: str) -> Iterator[str]:
    """Leave a file for the nodes to find, and clear it away with what they leave."""
    name = f".seen-{token}/driver"
    if is_uri(place):
        remote = Remote(place)
        try:
            remote.write(name, token.encode())
        except OSError as error:
            raise RunError(f"{place}: storage must be writable, but got ({error.strerror or error}).") from error
        try:
            yield name
        finally:
            with contextlib.suppress(OSError):
                remote.delete(remote.entries(f".seen-{token}"))
        return
    folder = Path(place)
    try:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(token)
    except OSError as error:
        raise RunError(
            f"{place}: runs must be writable here, but got ({error.strerror}). Choose another --storage."
        ) from error
    try:
        yield name
    finally:
        shutil.rmtree((folder / name).parent, ignore_errors=True)


def look(place: str, name: str, token: str) -> str | None:
    """Return, on a worker, why it cannot use a storage; None where it can.

    Args:
        place: The storage.
        name: The file that the driver has left there.
        token: What it holds.
    """
    mine = f"{name.partition('/')[0]}/{platform.node()}-{secrets.token_hex(4)}"
    try:
        if is_uri(place):
            found = Remote(place).read(name).decode()
            Remote(place).write(mine, b"")
        else:
            found = (Path(place) / name).read_text()
            (Path(place) / mine).write_text("")
    except FileNotFoundError:
        return "it does not see it"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except Exception as error:  # such as a package for the URI that is not installed there
        return str(error)
    return None if found == token else "it sees another one there"
