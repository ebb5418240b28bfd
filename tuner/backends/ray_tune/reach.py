"""What answers at a cluster's address, and whom it lets in: asked before Ray is, which tries for minutes."""

from __future__ import annotations

import os
import re
import socket
from typing import Any

from tuner import tokens
from tuner.errors import UsageError

_CONNECT_S = 5.0
_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # the first thing that Ray's own client asks a cluster's head


def check(address: str, *, insecure: bool) -> bool:
    """Refuse a cluster that this process cannot, or should not, join.

    Args:
        address: "host:port" or "auto".
        insecure: Allow one beyond this machine that asks nobody for a token.

    Returns:
        Whether it asks for a token; then this process has the right one.

    Raises:
        UsageError: Nothing answers, or no Ray; there is no token here, or a wrong one; or everybody is let in.
    """
    place = _found() if address == "auto" else address
    host = _check_port(place)
    if (refusal := _ask(place, None)) is None:
        _check_open(address, host, insecure)
        return False
    if refusal != "UNAUTHENTICATED":
        raise _refused(place, f"what answers there is no Ray cluster's head: {refusal}")
    token = tokens.find_token()
    if token is None:
        raise UsageError(
            f"--address: the cluster at {place} asks for a token, and there is none here: neither RAY_AUTH_TOKEN nor "
            f"RAY_AUTH_TOKEN_PATH is set, and there is no ~/.ray/auth_token. {tokens.REMEDY}"
        )
    if _ask(place, token) is not None:
        raise UsageError(f"--address: the cluster at {place} rejected the token from {token.source}. {tokens.REMEDY}")
    return True


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
        return str(services.canonicalize_bootstrap_address_or_die("auto"))
    except (ConnectionError, ValueError) as error:
        raise _refused("auto", " ".join(str(error).split()).rstrip(".")) from error


def _check_port(address: str) -> str:
    """Return the host of an address where something listens."""
    if "://" in address:
        raise _refused(address, "it is no host:port. A Jobs server's http:// is for tuner submit")
    where = re.fullmatch(r"\[?(?P<host>[\w.:-]+?)\]?:(?P<port>\d+)", address)
    if not where:
        raise _refused(address, "it is neither host:port nor auto")
    try:
        socket.create_connection((where["host"], int(where["port"])), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _refused(address, getattr(error, "strerror", None) or str(error)) from error
    return where["host"]


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
