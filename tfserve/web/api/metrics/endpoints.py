"""`GET /metrics`, also at the path that TensorFlow Serving uses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response

from tfserve.access.principals import PRINCIPAL, Scope
from tfserve.ipc.messages import GetMetrics, Metrics
from tfserve.web.api.endpoint import TEXT, Context, EndpointTable, Format
from tfserve.web.api.metrics.families import families

ENDPOINTS = EndpointTable(Format.ENVELOPE, Scope.PREDICT)

SUMMARY = "get the metrics for Prometheus"
RETURNS = "Prometheus text format, or OpenMetrics with Accept: application/openmetrics-text"
MEDIA = (TEXT, "application/openmetrics-text")


@ENDPOINTS.get("/metrics", name="get_metrics", summary=SUMMARY, returns=RETURNS, media=MEDIA)
@ENDPOINTS.get(
    "/monitoring/prometheus/metrics",
    name="get_prometheus_metrics",
    summary=SUMMARY,
    returns=RETURNS,
    media=MEDIA,
)
async def metrics(context: Context, request: Request) -> Response:
    """The metrics of all web processes, which the supervisor collects for each request."""
    PRINCIPAL.get().require_unrestricted("These metrics are of")
    found = await context.line.ask(GetMetrics())
    # In a thread, because formatting the metrics of many models takes milliseconds and would delay predictions.
    content, content_type = await asyncio.to_thread(_write, found, request.headers.get("accept", ""))
    return Response(content, headers={"content-type": content_type})


class _Collected(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return families(self._metrics)


def _write(metrics: Metrics, accept: str) -> tuple[bytes, str]:
    """The text in the requested format, OpenMetrics or Prometheus, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Collected(metrics))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
