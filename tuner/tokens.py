"""Where a Ray token comes from, in Ray's own order; no Ray is needed to look.

1. $RAY_AUTH_TOKEN, unless it is empty.
2. The file that $RAY_AUTH_TOKEN_PATH names. Ray aborts the process where it cannot be read; here that is a sentence.
3. ~/.ray/auth_token, which `ray get-auth-token --generate` writes.

Whoever has the token runs code on the cluster, so a file that others may read is refused.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import shlex
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import UsageError

REMEDY = (
    "Copy the cluster's token (`ray get-auth-token` on its head node) to ~/.ray/auth_token, and run: "
    "chmod 600 ~/.ray/auth_token"
)
"""What to do where there is no token, or a wrong one."""
NONE = f"neither RAY_AUTH_TOKEN nor RAY_AUTH_TOKEN_PATH is set, and there is no ~/.ray/auth_token. {REMEDY}"
"""What is said where there is none."""


@dataclass(frozen=True)
class Token:
    """A token, and where it was found.

    Args:
        value: The secret; never printed.
        source: "RAY_AUTH_TOKEN", or the file's path.
    """

    value: str
    source: str

    def __repr__(self) -> str:
        return f"Token(source={self.source!r})"


def find_token() -> Token | None:
    """Return the token that Ray would use here, or None where there is none.

    Raises:
        UsageError: Its file may be read by others than its owner, is empty, or cannot be read.
    """
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token(value, "RAY_AUTH_TOKEN")
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return _read(Path(named).expanduser(), "RAY_AUTH_TOKEN_PATH: ")
    usual = Path.home() / ".ray" / "auth_token"
    return _read(usual) if usual.exists() else None


def _read(path: Path, named_by: str = "") -> Token:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            value = file.read().decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"{named_by}{path}: the token must be readable, but got ({why}). {REMEDY}") from None
    if mode & 0o077:
        raise UsageError(
            f"{named_by}{path}: only its owner may read a token's file, but got (mode {mode:04o}). "
            f"Run: chmod 600 {shlex.quote(str(path))}"
        )
    if not value:
        raise UsageError(f"{named_by}{path}: a token's file must hold the token, but it is empty. {REMEDY}")
    return Token(value, str(path))


def is_loopback(host: str) -> bool:
    """Return whether a host's every address leads to this machine only; False where it has none.

    Args:
        host: A name or an address, without a port.
    """
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(address).is_loopback for address in found)


@contextlib.contextmanager
def private_token() -> Iterator[None]:
    """While open, this process and what it starts use a random token of their own, in the environment alone.

    Left to itself Ray writes ~/.ray/auth_token with mode 0644, and uses it for every Ray of this account.
    """
    with _set(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32)):
        yield


@contextlib.contextmanager
def token_mode() -> Iterator[None]:
    """While open, this process and what it starts show their token, as find_token finds it."""
    with _set(RAY_AUTH_MODE="token"):
        yield


@contextlib.contextmanager
def _set(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
