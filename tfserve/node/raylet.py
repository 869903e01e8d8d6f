"""Ray on a node: `ray start`, again whenever it ends. Ray then starts the actors of our workers.

A head that starts its own Ray on another machine (a standby) brings another Ray. The former one then stays on the node,
without a head, until the actors that it has started have ended: what they serve is taken over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from tfserve import linux
from tfserve.supervisor.processes.child import Child, Role
from tfserve.supervisor.processes.restarts import Restarts

log = logging.getLogger(__name__)

LABEL = "tfserve-node"
ACTOR = "ray::WorkerActor"
OBJECT_STORE_BYTES = 80_000_000
"""About the least that Ray takes: none of our data passes through it."""


class Raylet:
    """Keeps the Ray of this machine alive, connected to that of the head."""

    def __init__(self, *, name: str, address: str, folder: Path) -> None:
        self._name = name
        self._address = address
        self._folder = folder
        self._of_head: tuple[str, dict[str, str]] = "", {}
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._former: dict[Child, asyncio.Task[None]] = {}

    def connect(self, address: str, environment: Mapping[str, str]) -> None:
        """Begins to keep it alive; called again, it starts another if the Ray of the head has another address."""
        of_head = address, dict(environment)
        if of_head == self._of_head:
            return
        self._of_head = of_head
        loop = asyncio.get_running_loop()
        if self._keeper is not None:
            self._keeper.cancel()
        if self._child is not None and self._child.alive:
            self._former[self._child] = loop.create_task(_end_after_its_actors(self._child))
        self._keeper = loop.create_task(self._keep())

    async def close(self) -> None:
        tasks = [task for task in (self._keeper, *self._former.values()) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for child in (self._child, *self._former):
            if child is not None and child.alive:
                # Asked to stop, it would wait half a minute for actors that never end by themselves.
                child.kill("the node is stopping")
                await asyncio.shield(child.ended)

    async def _keep(self) -> None:
        restarts = Restarts()
        while True:
            await asyncio.sleep(restarts.delay_s(time.monotonic()))
            started_at = time.monotonic()
            try:
                self._child = self._start()
                ended = await asyncio.shield(self._child.ended)
                log.error("Ray ended: %s. See %s", ended.sentence, self._log)
            except OSError as error:
                log.error("Ray can't be started: %s", error)
            restarts.died(now=time.monotonic(), lived_s=time.monotonic() - started_at)

    def _start(self) -> Child:
        address, environment = self._of_head
        with self._log.open("ab") as output:
            return Child.start(
                [
                    sys.executable, "-P", "-m", "tfserve.node.raylet", str(os.getpid()), "start", "--block",
                    f"--address={address}", f"--node-ip-address={self._address}", "--disable-usage-stats",
                    f"--object-store-memory={OBJECT_STORE_BYTES}", "--min-worker-port=0", "--max-worker-port=0",
                    "--labels", f"{LABEL}={self._name}",
                ],
                role=Role.RAY,
                environment={**os.environ, **environment},
                output=output,
            )  # fmt: skip

    @property
    def _log(self) -> Path:
        return self._folder / "ray.log"


async def _end_after_its_actors(child: Child) -> None:
    """It starts no other actors: those of its workers are the ones that run now."""
    await asyncio.gather(*(linux.until_ended(pid) for pid in _actors_of(child.pid)))
    child.kill("the Ray of the head has another address")


def _actors_of(pid: int) -> list[int]:
    """The processes of Ray that are our actors, by the names that Ray gives them."""
    found = []
    for each in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(each.cmdline()).startswith(ACTOR):
                found.append(each.pid)
    return found


def main() -> None:
    """The `ray` command, which ends with the process that has started it."""
    parent, *arguments = sys.argv[1:]
    linux.die_with_parent(int(parent))
    os.execv(sys.executable, [sys.executable, "-P", "-m", "ray.scripts.scripts", *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
