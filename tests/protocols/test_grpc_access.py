"""Tokens in gRPC metadata."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import httpx
import pytest

from tests.acceptance.conftest import Server
from tests.protocols.grpc_port import free_port
from tfserve.web.api.protos import oip_pb2 as v2

LIMIT = ("--token-requests-per-s", "20")
SERVICE = "/inference.GRPCInferenceService/"


class Guarded:
    """A server that requires tokens, and calls to its gRPC port."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.server = Server(folder / "data", "--auth", "on", "--grpc-port", str(port), *LIMIT)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def token(self, name: str, *scopes: str, workspaces: list[str] | None = None) -> str:
        local = (self.server.data_dir / "local_token").read_text()
        fields = {"name": name, "scopes": scopes, "workspaces": workspaces}
        made = httpx.post(f"{self.server.url}/tokens/", json=fields, headers={"X-API-Key": local}).json()
        secret: str = made["result"]["token"]
        return secret

    def call(self, method: str, request: Any, *metadata: tuple[str, str]) -> str:
        """The status of a call."""
        send = self.channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=lambda data: data
        )
        try:
            send(request, metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            code: str = error.code().name  # type: ignore[attr-defined]
            return code
        return "OK"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("grpc-access"))
    yield made
    made.channel.close()
    made.server.close()


def test_calls_need_a_token_except_health(guarded: Guarded) -> None:
    metadata = v2.ServerMetadataRequest()
    assert guarded.call(f"{SERVICE}ServerMetadata", metadata) == "UNAUTHENTICATED"
    assert guarded.call(f"{SERVICE}ServerMetadata", metadata, ("authorization", "Bearer wrong")) == "UNAUTHENTICATED"
    assert guarded.call(f"{SERVICE}ServerMetadata", metadata, ("x-api-key", "wrong")) == "UNAUTHENTICATED"
    infer = v2.ModelInferRequest(model_name="m")
    assert guarded.call(f"{SERVICE}ModelInfer", infer) == "UNAUTHENTICATED"
    assert guarded.call(f"{SERVICE}ServerLive", v2.ServerLiveRequest()) == "OK"
    assert guarded.call(f"{SERVICE}ServerReady", v2.ServerReadyRequest()) == "OK"
    reflection = guarded.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
        list(reflection(iter([b""]), timeout=30))


def test_scopes_and_workspaces_are_those_of_http(guarded: Guarded) -> None:
    predict = ("authorization", f"Bearer {guarded.token('p', 'predict', workspaces=['shop'])}")
    submit = ("x-api-key", guarded.token("s", "submit", workspaces=["shop"]))
    train = ("x-api-key", guarded.token("t", "train"))
    metadata, load = v2.ServerMetadataRequest(), v2.RepositoryModelLoadRequest(model_name="shop")
    assert guarded.call(f"{SERVICE}ServerMetadata", metadata, predict) == "OK"
    assert guarded.call(f"{SERVICE}ServerMetadata", metadata, submit) == "OK"
    assert guarded.call(f"{SERVICE}ServerMetadata", metadata, train) == "PERMISSION_DENIED"
    assert guarded.call(f"{SERVICE}RepositoryModelLoad", load, predict) == "PERMISSION_DENIED"
    assert guarded.call(f"{SERVICE}RepositoryModelLoad", load, submit) == "NOT_FOUND"
    other = v2.RepositoryModelLoadRequest(model_name="garden")
    assert guarded.call(f"{SERVICE}RepositoryModelLoad", other, submit) == "NOT_FOUND"
    assert guarded.call(f"{SERVICE}ModelInfer", v2.ModelInferRequest(model_name="shop"), predict) == "NOT_FOUND"


def test_calls_count_for_the_limit_of_their_token(guarded: Guarded) -> None:
    busy, other = (("x-api-key", guarded.token(name, "predict")) for name in ("busy", "other"))
    metadata = v2.ServerMetadataRequest()
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(guarded.call, f"{SERVICE}ServerMetadata", metadata, busy) for _ in range(300)]
    assert "RESOURCE_EXHAUSTED" in [each.result() for each in calls]
    assert guarded.call(f"{SERVICE}ServerMetadata", metadata, other) == "OK"


class OpenStream:
    """A stream of predictions, whose messages are sent one by one."""

    def __init__(self, guarded: Guarded, secret: str) -> None:
        self._messages: SimpleQueue[v2.ModelInferRequest] = SimpleQueue()
        start = guarded.channel.stream_stream(
            f"{SERVICE}ModelStreamInfer",
            request_serializer=v2.ModelInferRequest.SerializeToString,
            response_deserializer=lambda data: data,
        )
        self._responses = start(iter(self._messages.get, None), metadata=(("x-api-key", secret),), timeout=60)

    def send(self) -> str:
        """The status of the stream after one more message."""
        self._messages.put(v2.ModelInferRequest(model_name="shop"))
        return self.wait()

    def wait(self) -> str:
        """The status after the next response."""
        try:
            next(self._responses)
        except grpc.RpcError as error:
            code: str = error.code().name  # type: ignore[attr-defined]
            return code
        return "OK"


def test_a_stream_ends_with_its_token_also_without_a_message(guarded: Guarded) -> None:
    stream = OpenStream(guarded, guarded.token("streaming", "predict"))
    assert stream.send() == "OK"
    local = (guarded.server.data_dir / "local_token").read_text()
    url = f"{guarded.server.url}/tokens/streaming/revoke"
    assert httpx.post(url, headers={"X-API-Key": local}).status_code == 200
    assert stream.wait() == "UNAUTHENTICATED"


def test_messages_of_a_stream_above_the_limit_of_their_token_wait(guarded: Guarded) -> None:
    stream = OpenStream(guarded, guarded.token("fast-stream", "predict"))
    began_at = time.monotonic()
    assert [stream.send() for _ in range(60)] == ["OK"] * 60
    assert time.monotonic() - began_at > (60 - 20 - 1) / 20, "20 at once, and then 20 per second"
