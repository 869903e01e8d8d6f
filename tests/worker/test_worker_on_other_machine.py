"""A model worker of another node: predictions over TCP and TLS, as over the Unix socket of the same machine."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from worker_process import WorkerProcess

from tests.cluster import membership_of
from tfserve.cluster.addresses import ReplicaAddress
from tfserve.cluster.identity import Authority
from tfserve.cluster.membership import Membership
from tfserve.errors import TimedOut
from tfserve.ipc.connections import ConnectionLost
from tfserve.ipc.messages import ModelLoaded, ModelVersion
from tfserve.ipc.prediction_frames import encode
from tfserve.ipc.predictions import ComputeRequest, to_tensor
from tfserve.tensors.specs import Array
from tfserve.web.predictions.live_models import LiveModels, Model
from tfserve.web.predictions.model_connections import ModelConnection
from tfserve.web.predictions.pool import ReplicaPool
from tfserve.web.predictions.request import Caller, CallerGone, PredictionRequest, PredictionResult


class Node:
    """A worker on the node `big`, and the other node from which it is used."""

    def __init__(self, worker: WorkerProcess, loaded: ModelLoaded, other: Membership) -> None:
        self.worker = worker
        self.loaded = loaded
        self.other = other

    @property
    def replica(self) -> ReplicaAddress:
        return ReplicaAddress.parse(self.loaded.address)

    def use(self, what: Callable[[Model], Awaitable[Any]], *, address: str = "", node: Membership | None = None) -> Any:
        async def run() -> Any:
            models = LiveModels(timeout_s=30, limit=10_000, wake=never, membership=node or self.other)
            version = ModelVersion(
                id=1, version=1, state="active", addresses=[address or self.loaded.address],
                signatures=self.loaded.signatures,
            )  # fmt: skip
            await models.begin({"m": [version]})
            try:
                return await what(models.get("m"))
            finally:
                await models.change("m", [])
                await all_closed()

        return uvloop.run(run())


async def all_closed() -> None:
    """TLS connections are closed by an exchange of messages, and the loop must not end before."""
    lost = [each.lost for each in gc.get_objects() if isinstance(each, ModelConnection)]
    await asyncio.gather(*(each for each in lost if each.get_loop() is asyncio.get_running_loop()))


async def never(*_: object) -> None:
    raise AssertionError("no other runtime is needed here")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def authority(cluster: Path) -> Authority:
    return Authority.open(cluster / "head")


@pytest.fixture(scope="module")
def start(cluster: Path, authority: Authority) -> Iterator[Callable[[Path], Node]]:
    """Starts a worker on the node `big` that has loaded a model."""
    other = membership_of(cluster, authority, "small")
    started: list[WorkerProcess] = []

    def started_with(path: Path) -> Node:
        folder = cluster / f"worker{len(started)}"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in membership_of(cluster, authority, "big").environment.items():
                patch.setenv(name, value)
            worker = WorkerProcess(folder)
        started.append(worker)
        loaded = worker.load(path, address=f"\0tfserve-test-{worker.process.pid}")
        assert isinstance(loaded, ModelLoaded), loaded
        return Node(worker, loaded, other)

    yield started_with
    for worker in started:
        worker.end()


@pytest.fixture(scope="module")
def echo(cluster: Path, start: Callable[[Path], Node]) -> Node:
    path = cluster / "model.echo"
    path.write_text('{"x": {"dtype": "float32", "shape": [-1, -1]}, "s": {"dtype": "string", "shape": [-1]}}')
    return start(path)


def echoed(values: Array, strings: list[bytes]) -> Callable[[Model], Awaitable[PredictionResult]]:
    return lambda model: model.predict(PredictionRequest({"x": values, "s": np.array(strings, object)}))


@pytest.mark.parametrize("count", [1, 150_000, 15_000_000], ids=["4 bytes", "600 kB", "60 MB"])
def test_the_answer_has_the_same_bits_as_over_the_unix_socket(echo: Node, count: int) -> None:
    bits = np.random.default_rng(count).integers(0, 2**32, count, np.uint32)
    values, strings = bits.view(np.float32).reshape(1, -1), [b"", b"\0\xff"]
    far = echo.use(echoed(values, strings))
    near = echo.use(echoed(values, strings), address=echo.replica.unix)
    for result in (far, near):
        assert result.outputs["x"].tobytes() == bits.tobytes()
        assert result.outputs["s"].tolist() == strings


def test_every_answer_belongs_to_its_own_request(echo: Node) -> None:
    async def all_at_once(model: Model) -> list[float]:
        asked = (echoed(np.full((1, n % 7 + 1), n, np.float32), [b"%d" % n])(model) for n in range(2000))
        results = await asyncio.gather(*asked)
        assert [each.outputs["s"].tolist() for each in results] == [[b"%d" % n] for n in range(2000)]
        return [float(each.outputs["x"][0, 0]) for each in results]

    assert echo.use(all_at_once) == list(map(float, range(2000)))


def test_processes_of_the_same_node_use_the_unix_socket(echo: Node) -> None:
    async def kinds() -> list[bool]:
        memberships = [echo.other, Membership(echo.other.identity, "big", "127.0.0.1")]
        lines = [await ModelConnection.open(echo.loaded.address, each) for each in memberships]
        near = [line.is_near for line in lines]
        for line in lines:
            line.close()
            await line.lost
        return near

    assert uvloop.run(kinds()) == [False, True]
    assert (echo.replica.node, echo.replica.host) == ("big", "127.0.0.1")


def test_a_process_that_is_no_member_is_refused(echo: Node, cluster: Path) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    address = (echo.replica.host, echo.replica.port)
    question = ComputeRequest("serving_default", ("x",), (to_tensor(np.ones((1, 1), np.float32)),), ("x",))
    received = b""
    # The worker closes the connection, with an alert or without.
    with (
        contextlib.suppress(OSError),
        socket.create_connection(address, 10) as sock,
        stranger.wrap_socket(sock) as wrapped,
    ):
        wrapped.sendall(b"".join(encode(1, question)))
        received = wrapped.recv(1)
    assert received == b""
    other_cluster = Authority.open(cluster / "other head")

    async def refused() -> None:
        with pytest.raises(OSError):
            await ModelConnection.open(echo.loaded.address, membership_of(cluster, other_cluster, "spy"))
        with pytest.raises(OSError, match="members of its cluster"):
            await ModelConnection.open(echo.loaded.address)

    uvloop.run(refused())


def test_a_line_that_breaks_is_opened_again_while_the_replica_is_announced(echo: Node) -> None:
    async def again() -> Any:
        pool = ReplicaPool(echo.other)
        await pool.open([echo.loaded.address])
        first = pool.least_busy()
        assert first is not None
        question = ComputeRequest("serving_default", ("x",), (to_tensor(np.ones((1, 1), np.float32)),), ("x",))
        _, reply = first.ask(question)
        first.abort()
        with pytest.raises(ConnectionLost):
            await reply
        async with asyncio.timeout(20):
            while (line := pool.least_busy()) is None:
                await pool.changed.wait()
        assert line is not first
        _, reply = line.ask(question)
        await reply
        pool.close()
        assert pool.least_busy() is None
        await line.lost

    uvloop.run(again())


def test_a_replica_that_is_no_longer_announced_is_drained_and_not_connected_again(echo: Node) -> None:
    async def drained() -> None:
        pool = ReplicaPool(echo.other)
        await pool.open([echo.loaded.address])
        line = pool.least_busy()
        assert line is not None
        _, reply = line.ask(ComputeRequest("serving_default", ("x",), (to_tensor(np.ones((1, 9))),), ("x",)))
        pool.keep([])
        assert pool.least_busy() is None
        await pool.drained([echo.loaded.address])
        assert reply.done()
        pool.close()
        await line.lost

    uvloop.run(drained())


def test_a_request_without_a_waiting_client_is_dropped(start: Callable[[Path], Node], models: Path) -> None:
    """After a long computation wait two: one whose client goes, one whose time passes, and one that stays."""
    node = start(models / "count")

    def count(n: int, **fields: Any) -> PredictionRequest:
        return PredictionRequest({"n": np.array(n, np.int64)}, **fields)

    async def after_a_long_one(model: Model) -> tuple[int, int]:
        caller = Caller()
        long = asyncio.ensure_future(model.predict(count(200_000)))
        gone = asyncio.ensure_future(model.predict(count(1, caller=caller)))
        late = asyncio.ensure_future(model.predict(count(1, timeout_s=0.05)))
        stays = asyncio.ensure_future(model.predict(count(1)))
        with pytest.raises(TimedOut):
            await late
        caller.gone()
        with pytest.raises(CallerGone):
            await gone
        return int((await long).outputs["calls"]), int((await stays).outputs["calls"])

    long, stays = node.use(after_a_long_one)
    assert stays == long + 1, "only the long one and the one that stayed were computed"


def test_the_death_of_the_worker_ends_what_waits_for_it(start: Callable[[Path], Node], models: Path) -> None:
    node = start(models / "count")

    async def lost() -> None:
        line = await ModelConnection.open(node.loaded.address, node.other)
        question = ComputeRequest("serving_default", ("n",), (to_tensor(np.array(2**62)),), ("calls",))
        _, reply = line.ask(question)
        node.worker.process.kill()
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(reply, 20)
        assert not line.alive

    uvloop.run(lost())
