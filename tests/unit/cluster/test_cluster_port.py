"""The cluster port: which connections it accepts, and what joining takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from tfserve import __version__
from tfserve.cluster import joining as node_side
from tfserve.cluster.connecting import CannotConnect, WrongHead, connect, connect_as_stranger
from tfserve.cluster.identity import Authority, Identity, JoinToken, new_key, public_pem
from tfserve.errors import Conflict, Forbidden, Invalid, TFserveError, Unauthenticated
from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import Join, Message, NodeOpened, OpenNode, Ping, PingNode, ProcessUses
from tfserve.node.membership import join
from tfserve.supervisor.cluster.joining import Joining
from tfserve.supervisor.cluster.nodes import Nodes
from tfserve.supervisor.cluster.port import STRANGER_FRAME_BYTES, ClusterPort
from tfserve.supervisor.events import Revision

EPOCH = 5


class Head:
    """A head with its port, but without Ray."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.open(folder)
        self.token = self.authority.join_token()
        self.port = ClusterPort(self.authority, "127.0.0.1", 0)
        self.handled: list[Message] = []
        self.nodes = Nodes(
            epoch=EPOCH, changed=Revision(), opened=lambda _: NodeOpened(epoch=EPOCH, ray_address=""),
            handle=lambda _: self._handle,
        )  # fmt: skip
        self.port.openers |= {Join: Joining(self.authority).open, OpenNode: self.nodes.open}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port.number}"

    async def _handle(self, message: Message) -> None:
        self.handled.append(message)


@asynccontextmanager
async def head(folder: Path) -> AsyncIterator[Head]:
    started = Head(folder / "head")
    await started.port.begin()
    try:
        yield started
    finally:
        started.nodes.close()
        await started.port.close()


def opening(name: str = "n1") -> OpenNode:
    return OpenNode(name=name, address="10.0.0.2", head="", heads="", identity="", version=__version__, epoch=0)


async def joined(server: Head, folder: Path, name: str = "n1") -> Identity:
    identity = Identity(folder / name)
    await join(server.address, server.token, name, identity)
    return identity


async def pong(message: Message) -> ProcessUses:
    assert isinstance(message, PingNode)
    return ProcessUses(uses={})


async def test_a_machine_joins_with_the_token_and_opens_its_line(tmp_path: Path) -> None:
    async with head(tmp_path) as server:
        line = await connect(server.address, await joined(server, tmp_path), pong)
        assert (await line.ask(opening())).epoch == EPOCH
        assert [(state.name, state.state) for state in (node.state() for node in server.nodes)] == [("n1", "starting")]
        await line.ask(Ping())  # the line is like that of a web process
        assert server.handled == [Ping()]
        line.close()


async def test_a_wrong_token_is_refused(tmp_path: Path) -> None:
    async with head(tmp_path) as server:
        wrong = JoinToken(server.token.head_pin, bytes(16))
        with pytest.raises(Unauthenticated, match="join token is wrong"):
            await join(server.address, wrong, "n1", Identity(tmp_path / "n1"))
        assert not Identity(tmp_path / "n1").is_complete


async def test_nothing_is_sent_to_a_server_that_is_not_the_head(tmp_path: Path) -> None:
    async with head(tmp_path) as server:
        with pytest.raises(WrongHead):
            await join(server.address, JoinToken(bytes(32), server.token.secret), "n1", Identity(tmp_path / "n1"))


async def test_another_version_is_refused_with_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with head(tmp_path) as server:
        monkeypatch.setattr(node_side, "__version__", "9.9.9")
        with pytest.raises(Conflict, match=rf"head runs TFserve {__version__}, and the node n1 runs 9\.9\.9"):
            await joined(server, tmp_path)
        line = await connect_as_stranger(server.address, server.token)
        line.close()


@pytest.mark.parametrize("name", ["head", "", "a b", "../x", "-a", "x" * 64])
async def test_names_that_can_not_be_those_of_a_node_are_refused(tmp_path: Path, name: str) -> None:
    async with head(tmp_path) as server:
        with pytest.raises(Invalid, match="a node's name has"):
            await join(server.address, server.token, name, Identity(tmp_path / "node"))


async def test_without_a_certificate_only_joining_is_answered(tmp_path: Path) -> None:
    async with head(tmp_path) as server:
        line = await connect_as_stranger(server.address, server.token)
        with pytest.raises(Unauthenticated, match="Only members of this cluster"):
            await line.ask(opening())
        await line.lost


async def test_a_stranger_can_not_make_the_head_buffer_much(tmp_path: Path) -> None:
    async with head(tmp_path) as server:
        line = await connect_as_stranger(server.address, server.token)
        large = Join(secret=bytes(STRANGER_FRAME_BYTES), name="n", version="", public_key=public_pem(new_key()))
        with pytest.raises(ConnectionLost):
            await line.ask(large)


async def test_a_certificate_of_another_cluster_is_refused(tmp_path: Path) -> None:
    async with head(tmp_path) as server, head(tmp_path / "other") as other:
        stranger = await joined(other, tmp_path)
        with pytest.raises((CannotConnect, ConnectionLost)):
            await (await connect(server.address, stranger)).ask(opening())


async def test_a_node_can_not_pretend_to_be_another(tmp_path: Path) -> None:
    async with head(tmp_path) as server:
        line = await connect(server.address, await joined(server, tmp_path))
        with pytest.raises(Forbidden, match="certificate is that of node n1, not of n2"):
            await line.ask(opening("n2"))


async def refused(server: Head, identity: Identity, request: OpenNode) -> TFserveError:
    line = await connect(server.address, identity, pong)
    with pytest.raises(TFserveError) as error:
        await line.ask(request)
    await line.lost
    return error.value


async def test_a_node_that_has_seen_a_newer_head_is_not_taken(tmp_path: Path) -> None:
    async with head(tmp_path) as server:
        identity = await joined(server, tmp_path)
        error = await refused(server, identity, replace(opening(), epoch=EPOCH + 1))
        assert error.message == f"Node n1 has seen a newer head (epoch {EPOCH + 1}; this one has {EPOCH}). " + (
            "This head has been replaced."
        )


async def test_two_machines_can_not_have_the_same_name(tmp_path: Path) -> None:
    async with head(tmp_path) as server:
        identity = await joined(server, tmp_path)
        line = await connect(server.address, identity, pong)
        await line.ask(opening())
        error = await refused(server, identity, replace(opening(), address="10.0.0.3"))
        assert "n1 is connected already, from 10.0.0.2" in error.message
        line.close()


async def test_a_node_that_connects_again_replaces_its_line(tmp_path: Path) -> None:
    async with head(tmp_path) as server:
        identity = await joined(server, tmp_path)
        lines: list[Connection] = []
        for _ in range(2):
            lines.append(await connect(server.address, identity, pong))
            await lines[-1].ask(opening())
        await lines[0].lost
        assert len(list(server.nodes)) == 1
        lines[1].close()


async def test_a_node_that_does_not_respond_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfserve.supervisor.cluster.nodes.SILENCE_S", 0.3)

    async def silent(_: Message) -> None:
        await asyncio.Event().wait()

    async with head(tmp_path) as server:
        line = await connect(server.address, await joined(server, tmp_path), silent)
        await line.ask(opening())
        await line.lost
        (gone,) = server.nodes.gone
        assert (gone.state, gone.reason) == ("gone", "it did not respond for 0.3 s")
