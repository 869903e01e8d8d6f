"""Takes over the model workers that served on nodes while there was no head.

After a start of the head, the bridge of each such worker connects within moments and offers it. The offer is held until
the deployment that it serves is restored, which takes it instead of loading the model again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tfserve.ipc import frames
from tfserve.ipc.messages import BecomeModel, ModelLoaded, OpenWorker, ServingModel
from tfserve.supervisor.events import Signal
from tfserve.supervisor.processes.launchers import AdoptedModel
from tfserve.supervisor.processes.worker import Worker

log = logging.getLogger(__name__)

WINDOW_S = 3.0
"""How long deployments wait for offers after a start of the head. Bridges try to connect four times a second."""


@dataclass(eq=False)
class Offer:
    """A bridge that waits for a decision: the worker that takes it over, or None."""

    request: OpenWorker
    model: ServingModel
    make: Callable[[], Worker]
    decided: asyncio.Future[Worker | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def become(self) -> BecomeModel:
        found = frames.decode(self.model.become)
        assert isinstance(found, BecomeModel)
        return found

    @property
    def loaded(self) -> ModelLoaded:
        found = frames.decode(self.model.loaded)
        assert isinstance(found, ModelLoaded)
        return found

    def take(self) -> Worker:
        worker = self.make()
        self.decided.set_result(worker)
        return worker


class Adoption:
    """The offers of this start."""

    def __init__(self, *, expects_offers: bool) -> None:
        """Without a former head there are no offers to wait for."""
        self._until = asyncio.get_running_loop().time() + WINDOW_S if expects_offers else 0.0
        self._offers: list[Offer] = []
        self._offered = Signal()

    async def decide(self, offer: Offer) -> Worker | None:
        """The worker that takes an offer over; None if it is not needed."""
        self._offers.append(offer)
        self._offered.fire()
        try:
            async with asyncio.timeout(self.left_s + 1.0):
                return await asyncio.shield(offer.decided)
        except TimeoutError:
            return None
        finally:
            self._offers.remove(offer)

    async def find(self, deployment: int, is_suitable: Callable[[BecomeModel], Awaitable[bool]]) -> AdoptedModel | None:
        """A worker that serves the deployment and is suitable, if one was offered, or is within the window."""
        while True:
            for offer in self._of(deployment):
                become = offer.become
                if await is_suitable(become) and not offer.decided.done():
                    log.info("worker %s still serves deployment %s", offer.request.worker, deployment)
                    return AdoptedModel(offer.take(), become, offer.loaded)
            if not await self._offered.wait(self.left_s):
                return None

    async def end(self) -> None:
        """Returns at the end of the window."""
        await asyncio.sleep(self.left_s)

    @property
    def left_s(self) -> float:
        return max(0.0, self._until - asyncio.get_running_loop().time())

    def _of(self, deployment: int) -> list[Offer]:
        """Those with a faster runtime come first."""
        found = [each for each in self._offers if each.model.deployment == deployment and not each.decided.done()]
        return sorted(found, key=lambda each: not each.become.source)
