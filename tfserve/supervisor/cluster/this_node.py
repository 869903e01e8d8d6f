"""The machine of the head as one of those on which workers run."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tfserve import __version__
from tfserve.ipc.messages import NodeState
from tfserve.supervisor.processes.child import Role, living
from tfserve.supervisor.processes.launchers import Launcher, Spares
from tfserve.supervisor.processes.worker import Worker
from tfserve.supervisor.this_machine import ThisMachine

OURS = {Role.SCRIPT, Role.HOST, Role.MODEL, Role.TRAIN, Role.CONVERT}


class ThisNode:
    """Counts what the workers of this machine were promised: Ray does not know them."""

    def __init__(self, here: Spares, address: str) -> None:
        self._here = here
        self._address = address
        self._machine = ThisMachine()
        self._promised: dict[Worker, dict[str, float]] = {}
        self._since = time.time()

    def state(self) -> NodeState:
        (found,) = self._machine.states()
        promised = [each for worker, each in self._promised.items() if worker.alive]
        free = {
            name: amount - sum(each.get(name, 0.0) for each in promised) for name, amount in found.resources.items()
        }
        return NodeState(
            name=found.name, address=self._address, state="ready", version=__version__, resources=found.resources,
            free=free, workers=sum(child.role in OURS for child in living()), since=self._since,
        )  # fmt: skip

    def place_for(self, needs: dict[str, float]) -> Spares:
        return Spares.none_kept(_Promising(self._here.launcher, self._promised, needs)) if needs else self._here


@dataclass(frozen=True)
class _Promising:
    """Starts workers that were promised resources."""

    launcher: Launcher
    promised: dict[Worker, dict[str, float]]
    needs: dict[str, float]

    async def start(self, *, warm: bool = False, light: str = "") -> Worker:
        worker = await self.launcher.start(warm=warm, light=light)
        self.promised[worker] = self.needs
        worker.child.ended.add_done_callback(lambda _: self.promised.pop(worker, None))
        return worker
