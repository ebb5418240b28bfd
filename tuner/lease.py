"""The lease: which driver may write where the kernel's file lock does not reach, which is on another host.

Leases are numbered. A driver claims the number after the newest, and each number can be created once, so exactly one
wins. Only its owner rewrites it, to put off its end: a renewal that was held up for hours harms nobody. Whether another
driver has taken over is whether there is a higher number. docs/decisions/006-lease.md says why.

A lease is valid for 45 s and renewed every 10 s. A driver whose newest renewal is older than 30 s, by a clock that goes
on while it sleeps, must win the next number before it writes: so the clocks of two hosts may differ by up to 15 s.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tuner.errors import RunError

VALID_S, RENEW_S, TRUSTED_S = 45.0, 10.0, 30.0
SKEW_S = VALID_S - TRUSTED_S
_LOOK_S = 1.0
_CLAIMS = 5  # another driver may win a number or two; then it is this sweep's driver


class Store(Protocol):
    """Where numbered leases lie: a folder, or whatever else has a conditional create."""

    def path(self, number: int) -> object:
        """Return what a lease is called in a sentence."""

    def numbers(self) -> list[int]:
        """Return the numbers that exist, in any order."""

    def read(self, number: int) -> tuple[str, float]:
        """Return a lease's text ("" where it cannot be read) and when it was last changed, in seconds since 1970."""

    def create(self, number: int, text: str) -> bool:
        """Create a lease, whole, unless its number exists; returns whether it did."""

    def replace(self, number: int, text: str) -> None:
        """Rewrite a lease, whole or not at all."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """What a lease says.

    Args:
        host: Its host's name; for people, since names can be equal, or change.
        pid: Its process id.
        since: When it became the driver.
        boot: Tells this start of this host's kernel from every other.
        token: Random; tells this driver from every other.
        expires_at: When the lease ends; None once it was given back. Times are in ISO format, with their zone.
    """

    host: str
    pid: int
    since: str
    boot: str
    token: str
    expires_at: str | None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


@dataclasses.dataclass(frozen=True)
class Standing:
    """The newest lease, as it looks from this host.

    Args:
        number: Its number.
        owner: What it says, or None where that cannot be read.
        left_s: Seconds until it ends; 0 where it has ended, or was given back.
        boot: What a lease says that only the file lock decides about; None: this start of this host's kernel.
    """

    number: int
    owner: Owner | None
    left_s: float
    boot: str | None = None

    @property
    def binds(self) -> bool:
        """Whether no driver may start here: it is valid, and not of this host, where the file lock alone decides."""
        return self.left_s > 0 and (self.owner is None or self.owner.boot != (self.boot or boot_id()))


class Lease:
    """The lease that this process holds, renewed by a thread of its own until it is closed.

    Args:
        store: Where leases lie.
        where: The run folder, or its URI, for sentences.
        free: Called once the lease is given back.
        boot: Who shares the file lock that this process has taken already; None: whoever runs on this kernel.
        patience_s: How long `check` may stand still where the lease cannot be renewed.
        wait: Told, once, that another host's lease is waited for: until it ends, or is seen to be renewed. None: no
            waiting.

    Raises:
        RunError: A driver on another host holds it; the sentence says who, and when it may be taken over.
        OSError: The store cannot be written.
    """

    def __init__(
        self,
        store: Store,
        where: Path | str,
        free: Callable[[], None] = lambda: None,
        *,
        boot: str | None = None,
        patience_s: float = 0.0,
        wait: Callable[[str], None] | None = None,
    ) -> None:
        self._store, self._where, self._free, self._wait = store, where, free, wait
        self._boot, self._patience_s = boot or boot_id(), patience_s
        self._since, self._token = _iso(wall_clock()), secrets.token_hex(8)
        self._number, self._renewed, self._lost = 0, 0.0, ""
        self._mutex, self._closed = threading.Lock(), threading.Event()
        self._claim_first()
        threading.Thread(target=self._keep_renewing, name="lease", daemon=True).start()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def check(self) -> None:
        """Make sure that this is still the driver; touches no file while the newest renewal is young.

        Raises:
            RunError: Another has taken over, or the lease cannot be renewed: nothing more may be written.
        """
        with self._mutex:
            deadline = time.monotonic() + self._patience_s
            while not self._lost and awake_clock() - self._renewed >= TRUSTED_S:
                try:
                    self._renew()
                except OSError as error:
                    if time.monotonic() < deadline:
                        time.sleep(_LOOK_S)
                        continue
                    raise RunError(
                        f"{self._where}: a driver must be able to renew its lease, but got ({error.strerror}). What was"
                        f" committed is safe; check the disk, then go on with: tuner resume {self._where}"
                    ) from error
            if self._lost:
                raise RunError(self._lost)

    def close(self) -> None:
        """Give the lease back: any host may take over at once."""
        if self._closed.is_set():
            return
        self._closed.set()
        with self._mutex, contextlib.suppress(OSError):  # else it ends by itself
            if not self._lost and self._is_newest():
                self._store.replace(self._number, self._text(None))
        self._free()

    def _claim_first(self) -> None:
        found = self._outwaited(standing(self._store, self._boot))
        for _ in range(_CLAIMS):
            if found is not None and found.binds:
                break
            if self._claim(found.number + 1 if found else 1):
                return
            found = standing(self._store, self._boot)
        raise RunError(
            f"{self._where}: only one driver may run a sweep, but {self._who(found)} is at it. "
            f"Wait for it, or stop it{_until(found)}."
        )

    def _outwaited(self, found: Standing | None) -> Standing | None:
        """Wait for the end of another host's lease; a living driver's is renewed, which tells it from a dead one's."""
        first = found
        while self._wait and found and found.binds and found.owner and found.left_s <= VALID_S + SKEW_S:
            if first is None or first.owner is None or found.owner.expires_at != first.owner.expires_at:
                break
            if found is first:
                self._wait(
                    f"{self._where}: {found.owner} drove this sweep until lately. Waiting for the end of its lease, "
                    f"{found.left_s:.0f} s at most."
                )
            time.sleep(min(_LOOK_S, found.left_s + 0.01))
            found = standing(self._store, self._boot)
            if found and found.owner and found.owner.expires_at is None:
                raise RunError(
                    f"{self._where}: only one driver may run a sweep, but {found.owner} was at it until this moment. "
                    f"See how it ended: tuner show {self._where}"
                )
        return found

    def _who(self, found: Standing | None) -> str:
        if found is None:
            return "another process"
        return str(found.owner or f"the owner of {self._store.path(found.number)}, which cannot be read,")

    def _claim(self, number: int) -> bool:
        """Win a number; it counts only if it is the newest once it is written."""
        began = awake_clock()
        won = self._store.create(number, self._text(wall_clock() + VALID_S))
        if not won or any(other > number for other in self._store.numbers()):
            return False
        self._number, self._renewed = number, began
        return True

    def _keep_renewing(self) -> None:
        while not self._closed.wait(RENEW_S):
            with self._mutex, contextlib.suppress(OSError):  # the next time, or in check()
                if self._lost or self._closed.is_set():
                    return
                self._renew()

    def _renew(self) -> None:
        """Put off the end; after a sleep by a new number, since another may be taking over at this very moment."""
        began = awake_clock()
        asleep_s = began - self._renewed
        if self._is_newest() and asleep_s < TRUSTED_S:
            self._store.replace(self._number, self._text(wall_clock() + VALID_S))
            self._renewed = began
        elif not (self._is_newest() and self._claim(self._number + 1)):
            found = standing(self._store, self._boot)
            taker = self._who(found) if found and found.number > self._number else "somebody who removed its lease"
            self._lost = (
                f"{self._where}: only one driver may run a sweep, but {taker} has taken it over: this one's newest "
                f"renewal is {asleep_s:.0f} s old. It writes nothing more. See how it goes: tuner show {self._where}"
            )

    def _is_newest(self) -> bool:
        numbers = self._store.numbers()
        if self._number not in numbers or max(numbers) > self._number:
            return False
        owner = parse(self._store.read(self._number)[0])
        return owner is None or owner.token == self._token  # what cannot be read is still this number's

    def _text(self, end: float | None) -> str:
        end_text = None if end is None else _iso(end)
        owner = Owner(platform.node(), os.getpid(), self._since, self._boot, self._token, end_text)
        return json.dumps(dataclasses.asdict(owner)) + "\n"


def standing(store: Store, boot: str | None = None) -> Standing | None:
    """Return the newest lease as it looks from here, or None where nobody has ever had one.

    Args:
        store: Where leases lie.
        boot: As Standing has it.
    """
    number = max(store.numbers(), default=None)
    if number is None:
        return None
    text, changed_at = store.read(number)
    owner = parse(text)
    if owner is None:
        end = changed_at + VALID_S  # whoever wrote it may be there
    else:
        end = datetime.datetime.fromisoformat(owner.expires_at).timestamp() if owner.expires_at else 0.0
    return Standing(number, owner, max(0.0, end - wall_clock()), boot)


def parse(text: str) -> Owner | None:
    """Return what a lease says, or None where it is damaged."""
    try:
        owner = Owner(**json.loads(text))
        datetime.datetime.fromisoformat(owner.expires_at or owner.since).timestamp()
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    kinds = {"pid": int, "expires_at": str | None}
    return owner if all(isinstance(value, kinds.get(key, str)) for key, value in vars(owner).items()) else None


def _until(found: Standing | None) -> str:
    if found is None or found.left_s == 0:
        return ""
    if found.left_s <= VALID_S + SKEW_S:
        return f"; if its host is lost, this one may take over in {found.left_s:.0f} s"
    return f"; its lease would end in {found.left_s:.0f} s, so set the clocks of both hosts: none is longer than 45 s"


def wall_clock() -> float:
    """Return seconds since 1970: what hosts have in common."""
    return time.time()


def awake_clock() -> float:
    """Return seconds that also count a suspended machine's sleep, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@functools.cache
def boot_id() -> str:
    """Return what tells this start of this kernel from every other; where it does not say, a process shares none."""
    with contextlib.suppress(OSError):
        if text := Path("/proc/sys/kernel/random/boot_id").read_text().strip():
            return text
    return secrets.token_hex(16)


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="milliseconds")
