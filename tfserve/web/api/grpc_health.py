"""grpc.health.v1: the status of the server, a service or a model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from dataclasses import dataclass
from typing import TypeAlias

from grpc_health.v1 import health_pb2 as health

from tfserve.errors import NotFound, nearest
from tfserve.web.predictions.live_models import LiveModels, NoSuchModel
from tfserve.web.rpc import Call, Service, StreamMethod, Unary

NAME = "grpc.health.v1.Health"

_Check: TypeAlias = health.HealthCheckRequest
_Answer: TypeAlias = health.HealthCheckResponse


@dataclass(frozen=True)
class HealthService:
    """The name is that of a service or a model, or empty for the whole server."""

    models: LiveModels
    services: Collection[str]

    async def check(self, request: _Check, _: Call) -> _Answer:
        status = self._status(request.service)
        if status == _Answer.SERVICE_UNKNOWN:
            known = [*self.services, *self.models.names()]
            raise NotFound(
                f"Unknown service or model {request.service[:80]!r}{nearest(request.service, known)}."
                f" Available: {', '.join(known)}."
            )
        return _Answer(status=status)

    async def watch(self, requests: AsyncIterator[_Check], _: Call) -> AsyncGenerator[_Answer, None]:
        """Streams the current status and every change."""
        request = await anext(requests)
        sent: int | None = None
        while True:
            changed = self.models.changed
            status = self._status(request.service)
            if status != sent:
                sent = status
                yield _Answer(status=status)
            await changed.wait()

    def _status(self, name: str) -> int:
        if not name or name in self.services:
            return int(_Answer.SERVING)
        try:
            return int(_Answer.SERVING if self.models.get(name).is_ready else _Answer.NOT_SERVING)
        except NoSuchModel:
            return int(_Answer.SERVICE_UNKNOWN)


def service(models: LiveModels, services: Collection[str]) -> Service:
    answers = HealthService(models, [*services, NAME])
    return Service(
        NAME,
        {
            "Check": Unary(_Check, _Answer, answers.check, None),
            "Watch": StreamMethod(_Check, _Answer, answers.watch, None),
        },
    )
