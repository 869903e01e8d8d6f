"""Ray on a node: `ray start`, again whenever it ends. Ray then starts the actors of our workers."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tfserve import linux
from tfserve.supervisor.processes.child import Child, Role
from tfserve.supervisor.processes.restarts import Restarts

log = logging.getLogger(__name__)

LABEL = "tfserve-node"
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

    def connect(self, address: str, environment: Mapping[str, str]) -> None:
        """Begins to keep it alive; called again, it starts it again if the Ray of the head has another address."""
        of_head = address, dict(environment)
        if of_head == self._of_head:
            return
        self._of_head = of_head
        if self._child is not None:
            self._child.kill("the Ray of the head has another address")
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._child is not None and self._child.alive:
            # Asked to stop, it would wait half a minute for actors that never end by themselves.
            self._child.kill("the node is stopping")
            await asyncio.shield(self._child.ended)

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


def main() -> None:
    """The `ray` command, which ends with the process that has started it."""
    parent, *arguments = sys.argv[1:]
    linux.die_with_parent(int(parent))
    os.execv(sys.executable, [sys.executable, "-P", "-m", "ray.scripts.scripts", *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
