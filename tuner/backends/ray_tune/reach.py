"""What answers at a cluster's address, and whom it lets in: asked before Ray is, which tries for minutes."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tuner import tokens
from tuner.errors import UsageError

_CONNECT_S = 5.0
_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # the first thing that Ray's own client asks a cluster's head


@dataclass(frozen=True)
class Door:
    """How a cluster is joined.

    Args:
        address: "host:port" of its head.
        asks: Whether it asks for a token; then this process has the right one.
        alone: Whether it listens on this machine's loopback interface only.
    """

    address: str
    asks: bool
    alone: bool


def check(address: str, *, insecure: bool) -> Door:
    """Refuse a cluster that this process cannot, or should not, join.

    Args:
        address: "host:port" or "auto".
        insecure: Allow one beyond this machine that asks nobody for a token.

    Raises:
        UsageError: Nothing answers, or no Ray; there is no token here, or a wrong one; or everybody is let in.
    """
    place = _found() if address == "auto" else address
    host, port = _check_port(place)
    alone = _is_alone(host, port)
    if (refusal := _ask(place, None)) is None:
        _check_open(place, host, insecure)
        return Door(place, False, alone)
    if refusal != "UNAUTHENTICATED":
        raise _refused(place, f"what answers there is no Ray cluster's head: {refusal}")
    token = tokens.find_token()
    if token is None:
        raise UsageError(f"--address: the cluster at {place} asks for a token, and there is none here: {tokens.NONE}")
    if _ask(place, token) is not None:
        raise UsageError(f"--address: the cluster at {place} rejected the token from {token.source}. {tokens.REMEDY}")
    return Door(place, True, alone)


def _is_alone(host: str, port: int) -> bool:
    """Return whether a cluster is at a loopback address only.

    Ray would put the machine's own address in its place, and try that for minutes.
    """
    from ray._private import services

    if not services.is_localhost(host):
        return False
    try:
        socket.create_connection((services.get_node_ip_address(), port), timeout=_CONNECT_S).close()
    except OSError:
        return True
    return False


def _check_open(address: str, host: str, insecure: bool) -> None:
    if not insecure and not tokens.is_loopback(host):
        raise UsageError(
            f"--address: a cluster beyond this machine must ask for a token, but got ({address}: it asks for none, so "
            "anyone who reaches it runs code on it). Start its nodes with RAY_AUTH_MODE=token, or join it as it is "
            "with --insecure."
        )


def _found() -> str:
    """Return the head's address that Ray finds on this machine.

    Raises:
        UsageError: It finds none, or several.
    """
    from ray._private import services

    try:
        with loopback_kept():
            return str(services.canonicalize_bootstrap_address_or_die("auto"))
    except (ConnectionError, ValueError) as error:
        raise _refused("auto", " ".join(str(error).split()).rstrip(".")) from error


@contextlib.contextmanager
def loopback_kept() -> Iterator[None]:
    """Keep Ray from putting this machine's own address in the place of 127.0.0.1, as it does on Linux only.

    A Ray that is started so is this machine's alone: its servers listen on the loopback interface.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _check_port(address: str) -> tuple[str, int]:
    """Return the host and port of an address where something listens."""
    if "://" in address:
        raise UsageError(
            f"--address: a cluster that is joined is named by host:port, or auto, but got ({address}). To run it there "
            f"as a job, through its Jobs server: tuner submit SWEEP --storage PLACE --address {address}"
        )
    where = re.fullmatch(r"\[?(?P<host>[\w.:-]+?)\]?:(?P<port>\d+)", address)
    if not where:
        raise _refused(address, "it is neither host:port nor auto")
    try:
        socket.create_connection((where["host"], int(where["port"])), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _refused(address, getattr(error, "strerror", None) or str(error)) from error
    return where["host"], int(where["port"])


def _refused(address: str, problem: str) -> UsageError:
    return UsageError(
        f"--address: a Ray cluster must answer at host:port, but got ({address}: {problem}). "
        "`ray status` on its head node shows whether it runs; without --address, Ray is started on this machine."
    )


def _ask(address: str, token: tokens.Token | None) -> str | None:
    """Ask a head for its cluster's id; returns None where it answers, else the refusal's name, or what went wrong."""
    import grpc

    options = [("grpc.enable_http_proxy", 0)]
    secret = _certificates()
    channel = (
        grpc.secure_channel(address, secret, options=options)
        if secret
        else grpc.insecure_channel(address, options=options)
    )
    call = channel.unary_unary(_CLUSTER_ID, request_serializer=bytes, response_deserializer=bytes)
    shown = (("authorization", f"Bearer {token.value}"),) if token else None
    try:
        call(b"", timeout=_CONNECT_S, metadata=shown)
    except grpc.RpcError as error:
        code = error.code().name
        return code if code == "UNAUTHENTICATED" else f"{code}: {error.details()}"[:200]
    finally:
        channel.close()
    return None


def _certificates() -> Any:
    """Return the credentials that Ray's own variables name where RAY_USE_TLS is on, else None."""
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return None
    import grpc
    from ray._common.tls_utils import load_certs_from_env

    try:
        chain, key, authority = load_certs_from_env()
    except (OSError, RuntimeError) as error:
        raise UsageError(
            "RAY_USE_TLS: RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT must name files, but got "
            f"({error})."
        ) from error
    return grpc.ssl_channel_credentials(certificate_chain=chain, private_key=key, root_certificates=authority)
