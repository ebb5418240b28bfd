"""Lanes on Ray: trials that train side by side in one process, each still a Ray trial with an actor of its own.

The actor of a lane's trial is thin: it imports no torch, and hands its messages on from and to a `Pool`, the process in
which the lanes of one device train.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from tuner.backends.ray_tune.worker_side import LEAVE_S, Parcel, SharedAttempt
from tuner.backends.worker import Outcome
from tuner.timing import Meter

_UNASKED_S = 60.0  # a pool that nobody has asked anything for so long has lost its driver
_TRIES = 50
_NAMESPACE = "tuner-lanes"


class Pool:
    """The lanes of one device: attempts in one process, which a group trains together.

    Args:
        parcel: What all attempts share.
        gpu: The GPU that it may use, as CUDA numbers it; None: none.
    """

    def __init__(self, parcel: Parcel, gpu: str | None) -> None:
        os.environ["CUDA_VISIBLE_DEVICES"] = (
            gpu or ""
        )  # before torch is imported; Ray hides all from an actor of 0 GPUs
        self._parcel = parcel
        self._attempts: dict[str, SharedAttempt] = {}
        self._lock = threading.Lock()
        self._asked, self._asking = time.monotonic(), 0
        threading.Thread(target=self._leave_unasked, daemon=True).start()

    def enter(self, key: str, job: str) -> bool:
        """Take an attempt; returns False where all lanes are taken."""
        with self._call(), self._lock:
            if len(self._attempts) >= self._parcel.lanes:
                return False
            # Before torch is imported; all attempts of a sweep have as many.
            os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(json.loads(job)["threads"])
            self._attempts[key] = SharedAttempt(job, self._parcel, Meter())
            return True

    def go_on(self, key: str) -> str:
        """Let an attempt go on to its next report, or to its end; returns that message."""
        with self._call():
            return self._attempts[key].go_on()

    def end(self, key: str) -> bool:
        """End an attempt, which frees its lane; returns whether it is over."""
        with self._call():
            attempt = self._attempts.get(key)
            if attempt is not None and not attempt.end():
                return False
            with self._lock:
                self._attempts.pop(key, None)
            return True

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        with self._lock:
            self._asking += 1
        try:
            yield
        finally:
            with self._lock:
                self._asking -= 1
                self._asked = time.monotonic()

    def _leave_unasked(self) -> None:
        while self._asking or time.monotonic() - self._asked < _UNASKED_S:
            time.sleep(1)
        os._exit(0)


class Relay:
    """An attempt whose work is done in a pool: what a thin actor has in place of one of its own.

    Args:
        job: The attempt's job, as JSON.
        parcel: What all attempts share.
    """

    def __init__(self, job: str, parcel: Parcel) -> None:
        self._job, self._parcel = job, parcel
        named = json.loads(job)
        self._key = f"{named['trial']}-{named['attempt']}"
        self._pool: Any = None

    def go_on(self) -> str:
        """Let the attempt go on to its next report, or to its end; returns that message."""
        import ray
        from ray.exceptions import OutOfMemoryError, RayActorError

        try:
            if self._pool is None:
                self._pool = _enter(self._key, self._job, self._parcel)
            return ray.get(self._pool.go_on.remote(self._key))  # type: ignore[no-any-return]
        except OutOfMemoryError:
            return _lost(
                "config.out_of_memory", "the process of its lanes was killed because the node ran out of memory."
            )
        except RayActorError:
            return _lost("infrastructure.worker_lost", "the process that it trained in, with other lanes, died.")
        except Exception as error:  # of this code: unsaid, it would be taken for the death of a worker
            return _lost("infrastructure.worker_lost", f"{type(error).__name__}: {error}")

    def end(self) -> bool:
        """Stop it; returns whether it is over."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        try:
            return self._pool is None or ray.get(self._pool.end.remote(self._key), timeout=LEAVE_S)
        except GetTimeoutError:
            return False
        except RayError:  # the pool is gone, and the attempt with it
            return True


def _lost(cause: str, sentence: str) -> str:
    return json.dumps({"outcome": Outcome("failed", cause, sentence).to_dict()})


def _enter(key: str, job: str, parcel: Parcel) -> Any:
    """Return a pool of this node and device that has taken the attempt.

    Ray keeps as many trials on a device as it has lanes, so that one of its pools has room; one that is still at the
    end of a lane refuses for a moment, and then the next pool is begun.
    """
    import ray
    from ray.exceptions import RayActorError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    gpu = ",".join(str(one) for one in ray.get_gpu_ids()) or None
    place = hashlib.sha256(f"{node} {gpu}".encode()).hexdigest()[:12]
    options = {
        "get_if_exists": True,
        "namespace": _NAMESPACE,
        "lifetime": "detached",  # else it would end with the trial that began it
        "num_cpus": 0,
        "max_concurrency": 3 * parcel.lanes,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }
    for number in range(_TRIES):
        pool = ray.remote(Pool).options(name=f"{parcel.pools}-{place}-{number}", **options).remote(parcel, gpu)
        with contextlib.suppress(RayActorError):
            if ray.get(pool.enter.remote(key, job)):
                return pool
    raise RuntimeError(f"none of {_TRIES} pools of lanes has room")


def end_pools(pools: str) -> None:
    """End the pools of a sweep.

    Args:
        pools: What their names begin with.
    """
    import ray
    from ray.util import list_named_actors

    with contextlib.suppress(Exception):  # Ray may be gone
        for actor in list_named_actors(all_namespaces=True):
            if actor["namespace"] == _NAMESPACE and actor["name"].startswith(f"{pools}-"):
                ray.kill(ray.get_actor(actor["name"], _NAMESPACE))
