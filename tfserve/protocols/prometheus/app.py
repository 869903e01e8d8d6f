"""`GET /metrics`, and the same where TensorFlow Serving has it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tfserve.errors import Invalid, TFserveError
from tfserve.http.answers import refusal
from tfserve.ipc.messages import Metrics
from tfserve.protocols.prometheus.families import families
from tfserve.serving.supervisor import SupervisorLine

PATHS = ("/metrics", "/monitoring/prometheus/metrics")
PURPOSE = "tell what was counted and measured, for Prometheus"
TELLS = "Prometheus' text format, or OpenMetrics' with Accept: application/openmetrics-text"
MEDIA = ("text/plain", "application/openmetrics-text")


class Scrape:
    """Reads the numbers when it is asked: of all web processes, through the supervisor."""

    def __init__(self, line: SupervisorLine) -> None:
        self._line = line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(Request(scope))
        except TFserveError as error:
            response = refusal(error)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return refusal(Invalid(f"{request.url.path} takes GET."), status=405)
        metrics = await self._line.metrics()
        # In a thread, since the text of many models takes milliseconds in which predictions would wait.
        content, content_type = await asyncio.to_thread(_write, metrics, request.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})


class _Told(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return families(self._metrics)


def _write(metrics: Metrics, accept: str) -> tuple[bytes, str]:
    """The text in the format that was asked for, OpenMetrics or Prometheus' own, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Told(metrics))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
