"""The Ray actor of one worker: Ray starts it on the node that the head chose, and reports its end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from tfserve import linux
from tfserve.ipc.messages import StartActor


class WorkerActor:
    """Starts the worker with the code of this machine, and bridges it to the head until it has ended."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = msgspec.convert(request, StartActor)

    def run(self) -> str:
        """Returns why the worker or its bridge ended. The actor ends with it."""
        import uvloop

        from tfserve.node.bridge import Bridge

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        linux.adopt_orphans()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            why = runner.run(_bridge(Bridge, self._request))
        _exit_actor()
        return why


async def _bridge(bridge: Any, request: StartActor) -> str:
    return str(await bridge(request).run())


def _exit_actor() -> None:
    """A detached actor would stay without a task."""
    from ray.actor import exit_actor

    exit_actor()
