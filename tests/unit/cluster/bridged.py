"""Workers behind real bridges, each in a process of its own like an actor, but without Ray."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tfserve import __version__
from tfserve.cluster.connecting import connect
from tfserve.cluster.identity import Authority, Identity
from tfserve.config import Settings
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import (
    ActorEnded,
    Join,
    Limits,
    Message,
    NodeOpened,
    OpenFiles,
    OpenNode,
    OpenWorker,
    ProcessUses,
    RayNode,
    StartActor,
    StartWorker,
)
from tfserve.node.membership import join
from tfserve.supervisor.cluster.adoption import Adoption
from tfserve.supervisor.cluster.files import HeadFiles
from tfserve.supervisor.cluster.joining import Joining
from tfserve.supervisor.cluster.nodes import Node, Nodes
from tfserve.supervisor.cluster.port import ClusterPort
from tfserve.supervisor.cluster.remote_workers import RemoteWorkers
from tfserve.supervisor.events import Revision
from tfserve.supervisor.processes.limits import Limiter
from tfserve.supervisor.processes.worker import Worker

ACTOR = """
import asyncio, json, sys
import msgspec
from tfserve import linux
from tfserve.ipc.messages import StartActor
from tfserve.node.bridge import Bridge
linux.adopt_orphans()
async def main():
    return await Bridge(msgspec.convert(json.loads(sys.argv[1]), StartActor)).run()
print(asyncio.run(main()))
"""
NODE = "n1"


class Actors:
    """Starts each actor as a process of this machine. They outlive the head that started them, as with Ray."""

    def __init__(self) -> None:
        self.workers: RemoteWorkers | None = None
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._watching: set[asyncio.Task[None]] = set()

    async def start_actor(self, request: StartActor) -> None:
        text = json.dumps(msgspec.to_builtins(request))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ACTOR, text, stdout=asyncio.subprocess.PIPE
        )
        self.processes[request.worker] = process
        task = asyncio.get_running_loop().create_task(self._watch(request.worker, process))
        self._watching.add(task)

    def notify(self, message: Message) -> None:
        """What has ended is gone already."""

    def pid(self, worker: str) -> int:
        return self.processes[worker].pid

    async def close(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
        await asyncio.gather(*self._watching)

    async def _watch(self, worker: str, process: asyncio.subprocess.Process) -> None:
        output, _ = await process.communicate()
        if self.workers is not None:
            self.workers.actor_ended(ActorEnded(worker=worker, cause=output.decode().strip()))


class Head:
    """One head. A second one on the same folder is the next start of it."""

    def __init__(self, folder: Path, actors: Actors, *, epoch: int, port: int) -> None:
        self.folder = folder
        settings = Settings(data_dir=str(folder / "data"), head_grace_s=20.0)
        (folder / "data").mkdir(exist_ok=True)
        self.authority = Authority.open(folder / "data" / "cluster")
        self.port = ClusterPort(self.authority, "127.0.0.1", port)
        self.nodes = Nodes(
            epoch=epoch, changed=Revision(), opened=lambda _: NodeOpened(epoch=epoch, ray_address=""),
            handle=lambda _: _pong,
        )  # fmt: skip
        self.workers = RemoteWorkers(
            settings, self.authority, epoch=epoch, ray=actors, limiter=Limiter(Limits()), nodes=self.nodes,
            adoption=Adoption(expects_offers=epoch > 1), files=HeadFiles(settings, 0o077),
        )  # fmt: skip
        actors.workers = self.workers
        self.port.openers |= {
            Join: Joining(self.authority).open, OpenNode: self.nodes.open, OpenWorker: self.workers.open,
            OpenFiles: self.workers.open_files,
        }  # fmt: skip
        self.line: Connection | None = None

    async def begin(self) -> None:
        await self.port.begin()
        address = f"127.0.0.1:{self.port.number}"
        identity = Identity(self.folder / "identity")
        if not identity.is_complete:
            await join(address, self.authority.join_token(), NODE, identity)
        self.line = await connect(address, identity, _pong)
        await self.line.ask(
            OpenNode(
                name=NODE, address="127.0.0.1", head=address, heads=address,
                identity=str(identity.folder), version=__version__, epoch=0,
            )
        )  # fmt: skip
        self.nodes.set_ray([RayNode(id="1", address="127.0.0.1", name=NODE)])

    @property
    def node(self) -> Node:
        (node,) = self.nodes
        return node

    async def start(self) -> Worker:
        return await self.workers.start(self.node, {}, StartWorker())

    async def die(self) -> None:
        """Everything that it holds is closed without a word, as by SIGKILL."""
        self.nodes.close()
        await self.port.close()
        for connection in list(self.port._connections):
            connection.abort()
        if self.line is not None:
            self.line.abort()


@asynccontextmanager
async def heads(folder: Path) -> AsyncIterator[tuple[Actors, Head]]:
    """The first head, with its actors."""
    actors = Actors()
    first = Head(folder, actors, epoch=1, port=0)
    await first.begin()
    try:
        yield actors, first
    finally:
        await actors.close()
        await first.die()


async def _pong(_: Message) -> ProcessUses:
    return ProcessUses(uses={})
