"""OpenTelemetry spans of HTTP requests. The exporter is configured by the standard OTEL_… environment variables."""

from __future__ import annotations

import atexit
import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve import __version__
from tfserve.web.http.connection import CONNECTION, HIDDEN_CONNECTION


def traced(app: ASGIApp) -> ASGIApp:
    """The application with a span for each request. The trace of a request's `traceparent` continues."""
    name = os.environ.get("OTEL_SERVICE_NAME", "tfserve")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name, SERVICE_VERSION: __version__}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    atexit.register(provider.shutdown)  # sends the last spans
    trace.set_tracer_provider(provider)
    middleware: ASGIApp = OpenTelemetryMiddleware(_without_shortcut(app), exclude_spans=["receive", "send"])
    return middleware


def _without_shortcut(app: ASGIApp) -> ASGIApp:
    """Responses then go through `send`, where the span gets their status. They take a system call more."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        if CONNECTION in scope:
            scope[HIDDEN_CONNECTION] = scope.pop(CONNECTION)
        await app(scope, receive, send)

    return respond
