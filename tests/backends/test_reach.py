"""A cluster is asked whom it lets in before Ray joins it; Ray itself would try for minutes, and speak of no token."""

from __future__ import annotations

from concurrent import futures

import grpc
import pytest

from tuner.backends.ray_tune import reach
from tuner.errors import UsageError


@pytest.fixture(autouse=True)
def no_token(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_USE_TLS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def head():
    """What answers as a head does: its port, and the token that it asks for, or None."""
    wanted = [None]

    def answer(request, context):
        shown = dict(context.invocation_metadata()).get("authorization")
        if wanted[0] and shown != f"Bearer {wanted[0]}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        return b""

    handler = grpc.unary_unary_rpc_method_handler(answer, request_deserializer=bytes, response_serializer=bytes)
    service = grpc.method_handlers_generic_handler("ray.rpc.NodeInfoGcsService", {"GetClusterId": handler})
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    yield port, wanted
    server.stop(0).wait()


def test_an_open_cluster_beyond_this_machine_is_refused(head):
    port, _ = head
    with pytest.raises(UsageError, match=r"it asks for none, so anyone who reaches it runs code on it.*--insecure"):
        reach.check(f"0.0.0.0:{port}", insecure=False)
    assert not reach.check(f"0.0.0.0:{port}", insecure=True).asks
    assert not reach.check(f"127.0.0.1:{port}", insecure=False).asks


def test_a_missing_and_a_rejected_token_are_said_so(head, monkeypatch):
    port, wanted = head
    wanted[0] = "right"
    with pytest.raises(UsageError, match="asks for a token, and there is none here"):
        reach.check(f"127.0.0.1:{port}", insecure=True)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "bad-one")
    with pytest.raises(UsageError, match="rejected the token from RAY_AUTH_TOKEN") as caught:
        reach.check(f"127.0.0.1:{port}", insecure=False)
    assert "bad-one" not in str(caught.value)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    assert reach.check(f"0.0.0.0:{port}", insecure=False) == reach.Door(f"0.0.0.0:{port}", True, False)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:1", "nowhere.invalid:6379", "127.0.0.1:99999"])
def test_an_address_where_nothing_answers_is_refused(address):
    with pytest.raises(UsageError, match="a Ray cluster must answer"):
        reach.check(address, insecure=False)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "http://127.0.0.1:1"])
def test_a_url_is_no_cluster_to_join(address):
    with pytest.raises(UsageError, match=r"named by host:port, or auto.*tuner submit SWEEP"):
        reach.check(address, insecure=False)
