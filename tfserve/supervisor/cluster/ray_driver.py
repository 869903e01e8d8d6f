"""`python -m tfserve.supervisor.cluster.ray_driver --line FD --address HOST:PORT`: speaks to Ray for the head.

It starts one detached actor for each worker, on the node that the head chose, and reports Ray's nodes and the end of
actors. Ray carries nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from tfserve import linux
from tfserve.errors import Invalid, Unavailable
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import ActorEnded, EndActor, Message, RayNode, RayNodes, StartActor
from tfserve.supervisor.background import BackgroundTasks

log = logging.getLogger(__name__)

NODES_S = 1.0
"""Ray has no public event for nodes that come and go."""
ACTOR = "tfserve.node.actor"
"""It runs on nodes, where Ray imports it by this name."""
LABEL = "tfserve-node"
MAX_CAUSE = 300


class Driver:
    """One connection to Ray, for as long as this process lives."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._actors: dict[str, Any] = {}
        self._tasks = BackgroundTasks()
        self.line: Connection | None = None

    async def received(self, message: Message) -> None:
        if isinstance(message, StartActor):
            await self._start(message)
        elif isinstance(message, EndActor):
            await asyncio.to_thread(self._end, message.worker, self._actors.pop(message.worker, None))
        else:
            raise Invalid(f"the Ray driver received {type(message).__name__}")

    async def report_nodes(self) -> None:
        """Reports the living nodes once a second, until Ray is gone."""
        while True:
            try:
                found = RayNodes(nodes=await asyncio.to_thread(self._nodes))
            except Exception as error:  # Ray raises many kinds
                found = RayNodes(nodes=[], problem=_cause(error))
            if self.line is not None:
                self.line.notify(found)
            await asyncio.sleep(NODES_S)

    async def _start(self, request: StartActor) -> None:
        options = _options(request)
        try:
            actor = await asyncio.to_thread(self._create, request, options)
        except Exception as error:
            raise Unavailable(_cause(error)) from error
        self._actors[request.worker] = actor
        self._tasks.start(self._watch(request.worker, actor))

    def _create(self, request: StartActor, options: dict[str, Any]) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(request.node_id, soft=False)
        cls = self._ray.remote(importlib.import_module(ACTOR).WorkerActor)
        return cls.options(**options, scheduling_strategy=where).remote(msgspec.to_builtins(request))

    def _end(self, worker: str, actor: Any | None) -> None:
        """Does nothing if it has ended. The actor may have been started for a former head."""
        with contextlib.suppress(Exception):  # Ray raises many kinds
            self._ray.kill(actor or self._ray.get_actor(_name(worker)))

    async def _watch(self, worker: str, actor: Any) -> None:
        try:
            cause = await actor.run.remote()
        except Exception as error:
            cause = _cause(error)
        if self._actors.pop(worker, None) is not None:
            with contextlib.suppress(Exception):
                await asyncio.to_thread(self._ray.kill, actor)
        if self.line is not None:
            self.line.notify(ActorEnded(worker=worker, cause=cause))

    def _nodes(self) -> list[RayNode]:
        from ray._private.state import available_resources_per_node

        free = available_resources_per_node()
        return [
            RayNode(
                id=each["NodeID"], address=each["NodeManagerAddress"], name=each.get("Labels", {}).get(LABEL, ""),
                total=each["Resources"], free=free.get(each["NodeID"], {}),
            )
            for each in self._ray.nodes()
            if each["Alive"]
        ]  # fmt: skip


def _options(request: StartActor) -> dict[str, Any]:
    """Ray's options: what the worker needs, and nothing for those that need nothing in particular."""
    rest = dict(request.resources)
    return {
        "name": _name(request.worker),
        "lifetime": "detached",
        "max_restarts": 0,
        "num_cpus": rest.pop("CPU", 0),
        "num_gpus": rest.pop("GPU", 0),
        **({"memory": int(memory)} if (memory := rest.pop("memory", 0)) else {}),
        "resources": rest,
    }


def _name(worker: str) -> str:
    return f"tfserve-{worker}"


def _cause(error: BaseException) -> str:
    """Ray's reason, on one line, without what it says about its own objects."""
    text = " ".join(str(error).split())
    for mark in ("Worker exit detail: ", "The actor is dead because "):
        text = text.rpartition(mark)[2]
    return text.split(". ")[0].rstrip(".")[:MAX_CAUSE] or type(error).__name__


async def _serve(driver: Driver, fd: int) -> None:
    driver.line = await Connection.open(socket.socket(fileno=fd), driver.received)
    reporting = asyncio.get_running_loop().create_task(driver.report_nodes())
    await driver.line.lost
    reporting.cancel()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tfserve.supervisor.cluster.ray_driver")
    parser.add_argument("--line", type=int, required=True, help="the connection to the head")
    parser.add_argument("--address", required=True, help="of Ray's GCS")
    parser.add_argument("--namespace", required=True)
    options = parser.parse_args(argv)
    linux.die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    logging.basicConfig(level=logging.WARNING)
    import ray

    try:
        ray.init(
            address=options.address, namespace=options.namespace, log_to_driver=False, logging_level=logging.ERROR,
            configure_logging=False,
        )  # fmt: skip
    except Exception as error:
        print(f"tfserve: Ray at {options.address} can't be used: {_cause(error)}", file=sys.stderr, flush=True)
        os._exit(1)
    asyncio.run(_serve(Driver(ray), options.line))
    os._exit(0)  # detached actors stay; Ray's own shutdown would take seconds


if __name__ == "__main__":
    main()
