"""The Ray actor of one worker: Ray starts it on the node that the head chose, and reports its end."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import Any

import msgspec

from tfserve import linux
from tfserve.ipc.messages import StartActor

EXIT_S = 5.0


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
    """A detached actor would stay without a task. Without Ray's head, its orderly exit would never end."""
    from ray.actor import exit_actor

    timer = threading.Timer(EXIT_S, os._exit, (0,))
    timer.daemon = True
    timer.start()
    exit_actor()
