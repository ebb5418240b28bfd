"""Folders at a URI: s3:// and gs://, through fsspec. An object is written whole or not at all, and never renamed."""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import os
import re
import secrets
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from tuner.errors import RunError, UsageError

P = ParamSpec("P")
R = TypeVar("R")

# In the folder that a run at a URI is driven from, or read: its URI.
URI_NAME = ".uri"
# What an installation without it is told to install.
EXTRAS = {"s3": ("s3fs", "cnn-tuner[s3]"), "gs": ("gcsfs", "cnn-tuner[gs]")}
# A store that does not answer for so long is no hiccup.
PATIENCE_S = 120.0
_PAUSES_S = (0.2, 1.0, 3.0, 5.0)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# A store that does not answer is told within seconds; s3fs itself tries five times.
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 3, "read_timeout": 30, "retries": {"max_attempts": 1}}},
    "gs": {},
}


class Entry(NamedTuple):
    """One object: its size in bytes, what changes whenever it is written, when that was, in seconds since 1970."""

    size: int
    tag: str
    at: float


def is_uri(place: str | os.PathLike[str]) -> bool:
    """Return whether a place is a URI of another store than this machine's files."""
    text = os.fspath(place)
    return bool(_SCHEME.match(text)) and not text.startswith("file://")


def local_path(place: str | os.PathLike[str]) -> Path:
    """Return the path that a place is: itself, or what a file:// URI stands for.

    Raises:
        UsageError: The URI names another host.
    """
    text = os.fspath(place)
    if not text.startswith("file://"):
        return Path(text)
    parts = urllib.parse.urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"{text}: a file:// URI must name a path of this machine, but got (host {parts.netloc}). "
            "Write three slashes: file:///shared/runs"
        )
    return Path(urllib.parse.unquote(parts.path))


def _told(action: Callable[P, R]) -> Callable[P, R]:
    """Let a store's own exceptions, of which each client library has its tree, come as OSErrors."""

    @functools.wraps(action)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return action(*args, **kwargs)
        except OSError:
            raise
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise OSError(errno.EIO, f"{type(error).__name__}: {text}"[:300]) from error

    return wrapped


class Remote:
    """A folder at a URI.

    Args:
        uri: Such as "s3://bucket/runs/digits".

    Raises:
        UsageError: The scheme is not one of s3 and gs, there is no bucket, or the package for it is not installed.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        found = _SCHEME.match(uri)
        self.scheme = found[1].lower() if found else ""
        if self.scheme not in EXTRAS:
            raise UsageError(
                f"{uri}: a storage URI must begin with s3://, gs:// or file://, but got ({self.scheme}://). "
                "Give one of these, or a path."
            )
        self._root = self.uri[len(self.scheme) + 3 :]
        if not self._root or self._root.startswith("/"):
            raise UsageError(
                f"{uri}: a storage URI must name a bucket, but got none. Write {self.scheme}://BUCKET/runs"
            )
        self._fs = _file_system(self.scheme)

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.uri}/{name}")

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """Its last part."""
        return self.uri.rpartition("/")[2]

    @_told
    def entries(self, below: str = "") -> dict[str, Entry]:
        """Return every object below it, by its path from here; empty where there is none.

        Args:
            below: Only those that lie in this folder of it.

        Raises:
            OSError: The store does not answer, or refuses.
        """
        top = f"{self._root}/{below}".rstrip("/")
        found = self._fs.find(top, detail=True)
        start = len(self._root) + 1
        return {path[start:]: _entry(info) for path, info in found.items() if len(path) > start}

    @_told
    def folders(self) -> list[str]:
        """Return the names of the folders in it, sorted."""
        try:
            inside = self._fs.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        return sorted(info["name"].rstrip("/").rpartition("/")[2] for info in inside if info["type"] == "directory")

    @_told
    def has(self, path: str) -> bool:
        """Return whether there is such an object."""
        return bool(self._fs.isfile(f"{self._root}/{path}"))

    @_told
    def entry(self, path: str) -> Entry | None:
        """Return what the store says of an object, or None where there is none."""
        try:
            info = self._fs.info(f"{self._root}/{path}")
        except FileNotFoundError:
            return None
        return _entry(info) if info["type"] == "file" else None

    @_told
    def read(self, path: str) -> bytes:
        """Return an object's content.

        Raises:
            FileNotFoundError: There is none.
        """
        return bytes(self._fs.cat_file(f"{self._root}/{path}"))

    @_told
    def write(self, path: str, data: bytes) -> None:
        """Write an object, whole or not at all; one that is there is replaced."""
        self._fs.pipe_file(f"{self._root}/{path}", data)

    @_told
    def create(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one, which the store decides; returns whether it did."""
        try:
            self._fs.pipe_file(f"{self._root}/{path}", data, mode="create")
        except FileExistsError:
            # Also where the answer to the first try was lost, and the client tried again.
            return self.read(path) == data
        return True

    @_told
    def upload(self, source: Path, path: str) -> None:
        """Write an object from a file."""
        self._fs.put_file(str(source), f"{self._root}/{path}")

    @_told
    def download(self, path: str, target: Path) -> None:
        """Write a file from an object, so that it is there whole or not at all.

        Raises:
            FileNotFoundError: There is no such object.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.writing")
        try:
            self._fs.get_file(f"{self._root}/{path}", str(scratch))
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)

    @_told
    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; one that is gone already is none too few."""
        gone = [f"{self._root}/{path}" for path in paths]
        for start in range(0, len(gone), 500):
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(gone[start : start + 500])


@functools.cache
def _file_system(scheme: str) -> Any:
    import fsspec

    package, extra = EXTRAS[scheme]
    try:
        # Listings are never from a cache: others write, too.
        return fsspec.filesystem(scheme, use_listings_cache=False, **_OPTIONS[scheme])
    except ImportError as error:
        raise UsageError(
            f"{scheme}://: this needs the package {package}, but got ({error}). Install it: pip install '{extra}'"
        ) from error


def _entry(info: dict[str, Any]) -> Entry:
    changed = info.get("LastModified") or info.get("updated")
    tag = info.get("ETag") or info.get("etag") or info.get("md5Hash") or str(changed)
    at = float(changed.timestamp()) if isinstance(changed, datetime.datetime) else 0.0
    return Entry(int(info.get("size") or 0), str(tag).strip('"'), at)


def shown(folder: Path) -> str:
    """Return what a run folder, or what lies in it, is called: its path, or its URI where the folder stands for one."""
    for run in (folder, *folder.parents[:3]):
        with contextlib.suppress(OSError):
            if uri := (run / URI_NAME).read_text().strip():
                return "/".join((uri, *folder.relative_to(run).parts))
    return str(folder)


def patiently(action: Callable[[], None], patience_s: float = PATIENCE_S) -> None:
    """Try again what a network may keep from being done; what is not there, or not allowed, stays so.

    Args:
        action: What to do.
        patience_s: For how long, in seconds; what an error of the last try says is raised then.
    """
    deadline, tries = time.monotonic() + patience_s, 0
    while True:
        try:
            action()
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            pause = _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
            if time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
            tries += 1
        else:
            return


@contextlib.contextmanager
def unreachable(place: object, what: str) -> Iterator[None]:
    """Say in a sentence why a store cannot be used.

    Args:
        place: Its URI.
        what: What it must be, such as "must be readable".

    Raises:
        RunError: In place of what the store raised.
    """
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        raise RunError(
            f"{place}: storage {what}, but got ({said}). Check the bucket's name, the credentials, and the network."
        ) from error
