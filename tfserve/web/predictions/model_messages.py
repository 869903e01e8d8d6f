"""The messages of the supervisor about models, which web processes and the batch process handle alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tfserve.ipc.messages import DrainModel, Message, ModelChanged, Ping, ReadCounters, ReadInFlight
from tfserve.ipc.metrics import WebCounts
from tfserve.web.predictions.live_models import LiveModels


async def handle(
    models: LiveModels, message: Message, others: Callable[[Message], Awaitable[Any]],
    http_errors: dict[str, dict[str, int]],
) -> Any:  # fmt: skip
    """The response. `others` handles all other messages, `http_errors` are the error responses of this process."""
    match message:
        case ModelChanged():
            await models.change(message.workspace, message.versions)
        case DrainModel():
            await models.drained(message.workspace, message.id, message.addresses)
        case ReadCounters():
            return WebCounts(models.counts(), http_errors)
        case ReadInFlight():
            return in_flight(models, message)
        case Ping():
            pass  # that there is a response is the response
        case _:
            return await others(message)
    return None


def in_flight(models: LiveModels, request: ReadInFlight) -> dict[int, int]:
    """How many predictions this process waits for, by deployment. A version that drains has an id of its own."""
    return {model.info.id: model.in_flight for model in models if model.info.id in request.deployments}
