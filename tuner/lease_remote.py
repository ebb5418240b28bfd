"""Leases as objects of a run on a storage URI: lease/<number>.json, each created once, which the store decides."""

from __future__ import annotations

import re

from tuner.storage import Remote

FOLDER_NAME = "lease"
_NAME = re.compile(rf"{FOLDER_NAME}/([1-9]\d{{0,17}})\.json", re.ASCII)


class LeaseObjects:
    """The leases of one run, as tuner.lease.Store has it.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Remote) -> None:
        self._run = run

    def path(self, number: int) -> str:
        """Return a lease's URI."""
        return f"{self._run}/{FOLDER_NAME}/{number}.json"

    def numbers(self) -> list[int]:
        """See Store."""
        return [int(found[1]) for found in map(_NAME.fullmatch, self._run.entries(FOLDER_NAME)) if found]

    def read(self, number: int) -> tuple[str, float]:
        """See Store."""
        name = f"{FOLDER_NAME}/{number}.json"
        changed_at = 0.0
        try:
            changed_at = self._run.entries(FOLDER_NAME)[name].at
            return self._run.read(name).decode(), changed_at
        except (KeyError, FileNotFoundError, UnicodeDecodeError):
            return "", changed_at

    def create(self, number: int, text: str) -> bool:
        """See Store."""
        return self._run.create(f"{FOLDER_NAME}/{number}.json", text.encode())

    def replace(self, number: int, text: str) -> None:
        """See Store."""
        self._run.write(f"{FOLDER_NAME}/{number}.json", text.encode())
