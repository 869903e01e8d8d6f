"""Computes although the model may be away for a while: loading after a restart, restarting, overloaded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tfserve.errors import Unavailable
from tfserve.web.predictions.live_models import LiveModels, Model, PredictionLost

T = TypeVar("T")

MAX_LOSSES = 2
"""A request that was lost as often, each time with the process that computed it, is probably the cause."""
TRY_AGAIN_S = 2.0
"""Maximum time to wait for a change of the models before the next attempt. A shorter queue is not announced."""


async def with_patience(
    models: LiveModels,
    find: Callable[[], Model],
    compute: Callable[[Model], Awaitable[T]],
    patience_s: float,
    *,
    max_losses: int = MAX_LOSSES,
) -> T:
    """The result of `compute`, which may be called several times. Raises its errors.

    Raises `Unavailable` after `patience_s` seconds, for a model that has failed, and after `max_losses` losses.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + patience_s
    losses = 0
    while True:
        changed = models.changed
        model = find()
        try:
            return await compute(model)
        except Unavailable as error:
            losses += isinstance(error, PredictionLost)
            if losses >= max_losses or model.state == "failed" or loop.time() >= give_up_at:
                raise
        try:
            async with asyncio.timeout(TRY_AGAIN_S):
                await changed.wait()
        except TimeoutError:
            pass
