"""What somebody without a token gets from a cluster: a program, run on a host of its own.

    python stranger.py '{"10.77.0.1": [6379, 8265], ...}' MARKER

Tries every HTTP path and every gRPC method that the installed Ray has on every port, tries to run jobs that would
write the file MARKER, and prints one JSON line an answer: [address, port, what was asked, code, text].
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import ray

LIMIT_S = 3.0
MOST_BYTES = 1_000_000
WRONG = {"Authorization": "Bearer " + "0" * 64}
_RAY = Path(ray.__file__).parent
_JOIN = """
import ray, subprocess, sys
ray.init(address=sys.argv[1], log_to_driver=False)
print(ray.nodes())
ray.get(ray.remote(lambda: open(sys.argv[2], "w").close()).remote())
"""


def http_paths() -> list[tuple[str, str]]:
    """Return the (method, path) of everything that Ray's dashboard and its agents serve."""
    found = set()
    for file in (_RAY / "dashboard").rglob("*.py"):
        for method, path in re.findall(r'routes\.(get|put|post|delete)\(\s*"([^"]+)"', file.read_text()):
            found.add((method.upper(), re.sub(r"\{\w+\}", "1", path)))
    return sorted(found | {("GET", "/"), ("GET", "/metrics"), ("GET", "/nodes?view=summary"), ("GET", "/api/v0/logs")})


def grpc_methods() -> list[str]:
    """Return the name of every method of Ray's own services."""
    files = (_RAY / "core" / "generated").glob("*_pb2_grpc.py")
    return sorted({name for file in files for name in re.findall(r"'(/ray\.rpc[\w.]+/\w+)'", file.read_text())})


def ask_http(address: str, port: int, method: str, path: str, body: str | None, headers: dict[str, str]):
    """Return (status, text); None where no HTTP is spoken."""
    connection = http.client.HTTPConnection(address, port, timeout=LIMIT_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        return answer.status, answer.read(MOST_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def try_http(address: str, port: int, marker: str):
    """Ask for every path, without a token and, where that matters most, with a wrong one."""
    unknown = ask_http(address, port, "GET", "/no-such-path", None, {})
    if unknown is None:
        return
    yield address, port, "GET /no-such-path", *unknown
    if unknown[0] == 200:  # a Prometheus exporter: the same page at every path
        return
    job = json.dumps({"entrypoint": f"touch {marker}", "submission_id": "stranger"})
    for method, path in http_paths():
        for headers in ({}, WRONG):
            answer = ask_http(address, port, method, path, job if method in ("POST", "PUT") else None, headers)
            yield address, port, f"{method} {path}", *(answer or ("none", ""))


def try_raw(address: str, port: int):
    """Connect, say nothing and then nonsense, and hear what comes."""
    heard = b""
    try:
        with socket.create_connection((address, port), LIMIT_S) as connection:
            connection.settimeout(0.3)
            for said in (b"", b"\r\n\r\n"):
                connection.sendall(said)
                heard += connection.recv(65536)
    except OSError:
        pass
    yield address, port, "raw", "heard", heard.decode(errors="replace")


def try_grpc(address: str, port: int):
    """Call every method with an empty request, which is a valid one of most."""
    with grpc.insecure_channel(f"{address}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(LIMIT_S)
        except grpc.FutureTimeoutError:
            return
        for name in grpc_methods():
            call = channel.unary_unary(name, request_serializer=bytes, response_deserializer=bytes)
            try:
                code, text = "OK", call(b"", timeout=LIMIT_S).decode(errors="replace")
            except grpc.RpcError as error:
                code, text = error.code().name, error.details() or ""
            yield address, port, name, code, text


def try_joining(where: str, marker: str):
    """Join, as a driver or as Ray's client, and run a task."""
    try:
        done = subprocess.run([sys.executable, "-c", _JOIN, where, marker], capture_output=True, text=True, timeout=60)
        return "", 0, f"join {where}", done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        return "", 0, f"join {where}", "timeout", f"{error.stdout!r} {error.stderr!r}"


def main() -> None:
    """Try everything, several ports at a time."""
    ports, marker = json.loads(sys.argv[1]), sys.argv[2]
    places = [(address, port) for address, found in ports.items() for port in found]
    head = next(iter(ports))
    with ThreadPoolExecutor(8) as threads:
        joining = [threads.submit(try_joining, at, marker) for at in (f"{head}:6379", f"ray://{head}:10001")]
        tried = threads.map(lambda at: [*try_raw(*at), *try_http(*at, marker), *try_grpc(*at)], places)
        answers = [answer for found in tried for answer in found] + [attempt.result() for attempt in joining]
    for answer in answers:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
