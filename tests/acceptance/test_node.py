"""A node of a cluster: it answers predictions itself, and forwards everything else to the head."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.acceptance.conftest import REPOSITORY, Server
from tests.protocols.grpc_port import free_port
from tfserve.access.local_token import read
from tfserve.cluster.identity import Authority
from tfserve.config import Settings
from tfserve.supervisor.cluster.own_address import host_of
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve_client import Client

pytestmark = pytest.mark.slow

START_S = 60
ADDRESS = host_of(Settings())
NO_RAY = "ray://127.0.0.1:1"
"""A Ray that does not run: the head runs all workers itself."""


class Head(Server):
    """A head on fixed ports, so that it can start again."""

    def __init__(self, data_dir: Path, port: int, *options: str, auth: str = "on") -> None:
        self.cluster_port = port
        environment = {
            "TFSERVE_CLUSTER": NO_RAY, "TFSERVE_CLUSTER_HOST": ADDRESS, "TFSERVE_CLUSTER_PORT": str(port),
            "TFSERVE_CLUSTER_HTTP_PORT": "0", "TFSERVE_AUTH": auth,
        }  # fmt: skip
        super().__init__(data_dir, *options, environment=environment)
        self.token = read(data_dir) or ""
        self.http.headers["authorization"] = f"Bearer {self.token}"

    @property
    def join_token(self) -> str:
        return str(Authority.open(self.data_dir / "cluster").join_token())


class Node:
    """`tfserve node`, without Ray."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.lines: list[str] = []
        self._seen = threading.Condition()
        self.grpc_port = free_port()
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "tfserve.cli", "node", f"{ADDRESS}:{port}", "--folder", str(folder),
                "--port", "0", "--grpc-port", str(self.grpc_port), "--no-ray", *options,
            ],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until_ready(self, token: str = "") -> Node:
        self.until_logged("Ctrl-C stops it")
        match = re.search(r"APIs +(http://\S+)", self.log)
        assert match, self.log
        self.url = match[1]
        self.http = httpx.Client(base_url=self.url, timeout=60)
        if token:
            self.http.headers["authorization"] = f"Bearer {token}"
        return self

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def until_logged(self, text: str) -> None:
        """Follows the output of the process."""
        with self._seen:
            assert self._seen.wait_for(lambda: text in self.log, START_S), self.log

    def refused(self) -> str:
        """What it says when it refuses to start."""
        assert self.process.wait(START_S) == 1
        self._reader.join()
        return self.log

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(30) == 0, self.log
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if hasattr(self, "http"):
            self.http.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._seen:
                self.lines.append(line)
                self._seen.notify_all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def head(folder: Path) -> Iterator[Head]:
    running = Head(folder / "data", free_port())
    path = folder / "model.echo"
    path.write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    running.call("/create_workspace/", name="m")
    running.call("/deploy/", name="m", path=str(path), timeout=60)
    yield running
    running.close()


@pytest.fixture(scope="module")
def node(folder: Path, head: Head) -> Iterator[Node]:
    running = Node(folder / "node", head.cluster_port, "--token", head.join_token, "--name", "n1")
    yield running.until_ready(head.token)
    running.close()


BODIES: dict[str, Any] = {
    "/v1/models/m:predict": {"instances": [[1.5, -2]]},
    "/v1/models/m:classify": {"examples": [{"x": [1, 2]}]},
    "/v2/models/m/infer": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [3, 0.1]}]},
    "/v2/models/none/infer": {},
}


@pytest.mark.parametrize("path", BODIES)
def test_a_node_answers_predictions_as_the_head_does(head: Head, node: Node, path: str) -> None:
    ours, theirs = (each.http.post(path, json=BODIES[path]) for each in (node, head))
    assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m/metadata", "/v2", "/v2/models/m", "/v2/models/m/config"])
def test_a_node_describes_the_models_as_the_head_does(head: Head, node: Node, path: str) -> None:
    assert node.http.get(path).json() == head.http.get(path).json()


def test_a_node_answers_grpc(head: Head, node: Node) -> None:
    request = v2.ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend([1, 0.1])
    metadata = [("authorization", f"Bearer {head.token}")]
    with grpc.insecure_channel(f"127.0.0.1:{node.grpc_port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=v2.ModelInferRequest.SerializeToString,
            response_deserializer=v2.ModelInferResponse.FromString,
        )
        answer = infer(request, metadata=metadata, timeout=30)
        assert list(memoryview(answer.raw_output_contents[0]).cast("f")) == pytest.approx([1, 0.1])
        with pytest.raises(grpc.RpcError) as refused:
            infer(request, timeout=30)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        index = channel.unary_unary(
            "/inference.GRPCInferenceService/RepositoryIndex",
            request_serializer=v2.RepositoryIndexRequest.SerializeToString,
            response_deserializer=v2.RepositoryIndexResponse.FromString,
        )
        entries = index(v2.RepositoryIndexRequest(), metadata=metadata, timeout=30).models
        assert [(each.name, each.state) for each in entries] == [("m", "READY")]
        with pytest.raises(grpc.RpcError) as refused:
            index(v2.RepositoryIndexRequest(repository_name="other"), metadata=metadata, timeout=30)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as refused:
            index(v2.RepositoryIndexRequest(), timeout=30)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        load = channel.unary_unary(
            "/inference.GRPCInferenceService/RepositoryModelLoad",
            request_serializer=v2.RepositoryModelLoadRequest.SerializeToString,
            response_deserializer=v2.RepositoryModelLoadResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as refused:
            load(v2.RepositoryModelLoadRequest(model_name="none"), metadata=metadata, timeout=30)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        assert refused.value.details() == head.http.post("/v2/repository/models/none/load").json()["error"]
        load(v2.RepositoryModelLoadRequest(model_name="m"), metadata=metadata, timeout=60)
        assert infer(request, metadata=metadata, timeout=30).model_version
    passed_on = "/cluster/grpc/inference.GRPCInferenceService/RepositoryIndex"
    for each in (head, node):
        assert each.http.post(passed_on, content=b"").status_code == 404, "only between members of the cluster"


def test_a_node_forwards_everything_else(head: Head, node: Node) -> None:
    """Through the client library: jobs, followed output, uploads in pieces, deferred predictions."""
    with Client(node.url, token=head.token) as client:
        client.create_workspace("jobs")
        job = client.push_script("jobs", "for n in range(3): print(n, flush=True)\ny = 7", timeout=0)
        assert "".join(job.output()).split() == ["0", "1", "2"]
        assert client.get_variable("jobs", "y") == {"y": 7}
    index = node.http.post("/v2/repository/index")
    assert [each["name"] for each in index.json()] == ["m"]
    later = node.http.post("/v1/models/m:predict", json={"instances": [[1, 2]]}, headers={"prefer": "respond-async"})
    assert later.status_code == 202
    with Client(node.url, token=head.token) as client:
        assert client.find_job(later.json()["id"]).wait(60)


def test_a_large_body_is_forwarded_in_pieces(node: Node) -> None:
    def pieces() -> Iterator[bytes]:
        for n in range(40):
            yield bytes([n]) * 250_000

    answer = node.http.post("/upload/", params={"name": "large.bin"}, content=pieces())
    assert answer.status_code == 200, answer.text
    upload = answer.json()["result"]
    assert upload["size"] == 10_000_000, upload


def test_the_memory_of_a_node_does_not_grow_with_an_upload(head: Head, node: Node) -> None:
    size, piece = 100, bytes(2**20)
    children = psutil.Process(node.process.pid).children(recursive=True)
    (web,) = [each for each in children if "tfserve.node.web" in " ".join(each.cmdline())]
    before, largest = web.memory_info().rss, 0

    def pieces() -> Iterator[bytes]:
        nonlocal largest
        for _ in range(size):
            yield piece
            largest = max(largest, web.memory_info().rss)

    head.call("/create_workspace/", name="large")
    stored = node.http.put("/workspaces/large/files/a.bin", content=pieces())
    assert stored.json()["result"]["size"] == size * len(piece), stored.text
    assert largest - before < 32 * len(piece)


def completed(node: Node, path: str, content: bytes) -> Any:
    """Sends what is missing, as a client that does not know how much has arrived."""
    offset = len(content) + 1
    while (answer := node.http.patch(path, params={"offset": offset}, content=content[offset:] or b"x")).is_error:
        assert answer.status_code in (409, 503), answer.text
        if answer.status_code == 409:  # with 503, the head still writes what has arrived
            offset = answer.json()["error"]["detail"]["offset"]
            assert offset <= len(content) // 2
    return answer.json()["result"]


def test_an_upload_through_a_node_that_breaks_off_continues_at_its_offset(node: Node) -> None:
    content = bytes(range(256)) * 4000
    upload = node.http.post("/upload/", params={"name": "a.bin", "size": len(content)}).json()["result"]["id"]
    path, half = f"/upload/{upload}", len(content) // 2
    with socket.create_connection((node.http.base_url.host, node.http.base_url.port or 80)) as sock:
        line = f"PATCH {path}?offset=0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
        authorization = f"Authorization: {node.http.headers['authorization']}\r\n\r\n"
        sock.sendall((line + authorization).encode() + content[:half])
    done = completed(node, path, content)
    assert (done["state"], done["sha256"]) == ("complete", hashlib.sha256(content).hexdigest())


def test_the_head_sees_the_client_of_the_node(head: Head, node: Node) -> None:
    headers = {"x-request-id": "from-the-node", "x-forwarded-for": "10.9.8.7", **node.http.headers}
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.9")) as client:
        answer = client.post(f"{node.url}/create_workspace/", json={"name": "seen"}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers.get_list("x-request-id") == ["from-the-node"]
    assert len(answer.headers.get_list("date")) == 1
    entries = [json.loads(line) for line in (head.data_dir / "audit.jsonl").read_text().splitlines()]
    (entry,) = [each for each in entries if each.get("request_id") == "from-the-node"]
    assert (entry["action"], entry["client"]) == ("create_workspace", "127.0.0.9")


@pytest.mark.parametrize("path", ["/server/", "/v1/models/m:predict"])
def test_a_node_refuses_what_the_head_would_refuse(node: Node, path: str) -> None:
    without = httpx.post(f"{node.url}{path}", json={"instances": [[1, 2]]})
    assert without.status_code in (401, 405)
    elsewhere = node.http.post(path, json={"instances": [[1, 2]]}, headers={"host": "attacker.example"})
    assert elsewhere.status_code == 403
    assert "attacker.example" in elsewhere.text


def test_changes_reach_a_node_before_they_are_acknowledged(folder: Path, head: Head, node: Node) -> None:
    body = {"instances": [[1, 2]]}
    head.call("/create_workspace/", name="brief")
    head.call("/deploy/", name="brief", path=str(folder / "model.echo"), timeout=60)
    assert node.http.post("/v1/models/brief:predict", json=body).status_code == 200
    token = head.call("/tokens/", name="reader", scopes=["predict"])["token"]
    reader = {"authorization": f"Bearer {token}"}
    assert node.http.post("/v1/models/brief:predict", json=body, headers=reader).status_code == 200
    head.call("/tokens/reader/revoke")
    assert node.http.post("/v1/models/brief:predict", json=body, headers=reader).status_code == 401
    head.call("/undeploy/", name="brief", timeout=60)
    assert node.http.post("/v1/models/brief:predict", json=body).status_code == 404


def predictions_of(head: Head) -> int:
    stats = head.http.get("/v2/models/m/stats").json()["model_stats"]
    return int(stats[0]["inference_stats"]["success"]["count"])


def test_the_head_counts_the_predictions_of_its_nodes(head: Head, node: Node) -> None:
    before = predictions_of(head)
    for _ in range(5):
        node.http.post("/v1/models/m:predict", json={"instances": [[1, 2]]})
    assert predictions_of(head) == before + 5


def test_a_cluster_without_the_right_token_is_not_joined(folder: Path, head: Head) -> None:
    other = Authority.open(folder / "other head").join_token()
    wrong = head.join_token[:-4] + "AAAA"
    expected = {
        "": "with --token", str(other): "is not the head", wrong: "join token is wrong", "x": "not a join token",
    }  # fmt: skip
    for number, (token, sentence) in enumerate(expected.items()):
        options = ["--token", token] if token else []
        node = Node(folder / f"refused {number}", head.cluster_port, *options)
        assert sentence in node.refused()
        node.close()


def test_a_folder_is_used_by_one_node(folder: Path, head: Head, node: Node) -> None:
    second = Node(folder / "node", head.cluster_port)
    assert str(node.process.pid) in second.refused()
    second.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts heads and nodes of a test's own."""
    started: list[Any] = []

    def start_one(kind: Any, *arguments: Any, **options: Any) -> Any:
        started.append(kind(*arguments, **options))
        return started[-1]

    yield start_one
    for each in reversed(started):
        each.close()


def test_a_node_outlives_its_head_and_leaves_nothing_behind(tmp_path: Path, start: Callable[..., Any]) -> None:
    head = start(Head, tmp_path / "data", free_port(), auth="off")
    (tmp_path / "m.echo").write_text('{"x": {"dtype": "float32", "shape": [-1]}}')
    head.call("/create_workspace/", name="m")
    head.call("/deploy/", name="m", path=str(tmp_path / "m.echo"), timeout=60)
    node = start(Node, tmp_path / "node", head.cluster_port, "--token", head.join_token).until_ready()
    predict = ("/v1/models/m:predict", {"instances": [1]})
    assert node.http.post(predict[0], json=predict[1]).status_code == 200

    of_head = psutil.Process(head.pid).children(recursive=True)
    head.process.kill()
    head.process.wait()
    assert not psutil.wait_procs(of_head, timeout=30)[1]
    node.until_logged("no connection to the head")
    away = node.http.get("/server/")
    assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    assert "the head of the cluster answers everything else" in away.json()["error"]["message"]
    # The worker has died with the head, as no node runs it.
    lost = node.http.post(predict[0], json=predict[1])
    assert lost.status_code == 503
    assert node.http.get("/v2/health/live").status_code == 200
    assert node.http.get("/v2/health/ready").status_code == 503

    again = start(Head, tmp_path / "data", head.cluster_port, auth="off")
    node.until_logged("connected to the head")
    until_predicting(node)
    assert node.http.post(predict[0], json=predict[1]).status_code == 200
    assert node.http.get("/server/").json()["result"]["pid"] == again.pid
    assert node.http.get("/v2/health/ready").status_code == 200

    processes = psutil.Process(node.process.pid).children(recursive=True)
    assert processes
    node.process.kill()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


def until_predicting(node: Node) -> None:
    """Returns when the head has announced the model to the node as active."""
    with grpc.insecure_channel(f"127.0.0.1:{node.grpc_port}") as channel:
        for answer in HealthStub(channel).Watch(HealthCheckRequest(service="m"), timeout=60):
            if answer.status == HealthCheckResponse.SERVING:
                return
