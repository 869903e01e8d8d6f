"""How many predictions this process waits for, for the autoscaling of models."""

from __future__ import annotations

from tfserve.ipc.messages import ReadInFlight
from tfserve.web.predictions.live_models import LiveModels


def in_flight(models: LiveModels, request: ReadInFlight) -> dict[int, int]:
    """By the ids of the requested deployments. A version that drains has an id of its own."""
    return {model.info.id: model.in_flight for model in models if model.info.id in request.deployments}
