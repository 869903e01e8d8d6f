"""The views. A request by htmx gets the page without its frame, to update the page that is shown."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.template.loader import render_to_string
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_safe
from django_htmx.middleware import HtmxDetails

from tfserve.errors import NotFound, Unavailable
from tfserve.ipc.messages import GetServer, WaitChange
from tfserve.web.database_reads import read
from tfserve.web.pages import page_rows
from tfserve.web.supervisor_client import SupervisorClient

#: Maximum age of values whose changes cause no event, such as memory.
REFRESH_S = 15.0
#: Minimum time between two events.
PAUSE_S = 0.25
RETRY_MS = 1000


# Pages without a form are exempt from the check of forms, which would answer 403 where 405 says more.


class PageRequest(ASGIRequest):
    """A request after the middleware of htmx."""

    htmx: HtmxDetails


@csrf_exempt
@require_safe
async def status(request: PageRequest) -> HttpResponse:
    """The server, its workspaces, deployments, newest trainings and jobs."""
    server, (jobs, has_more), (tasks, tasks_total) = await asyncio.gather(
        _line(request).ask(GetServer()), read(page_rows.recent_jobs), read(page_rows.recent_tasks)
    )
    workspaces = server["workspaces"]
    return await _page(
        request,
        "pages/status.html",
        {
            "server": server,
            "deployed": [each for each in workspaces if each["deployment"] or each["last_deployment_failure"]],
            "tasks": tasks,
            "tasks_total": tasks_total,
            "jobs": jobs,
            "has_more_jobs": has_more,
            "example_name": workspaces[0]["name"] if workspaces else "first",
        },
    )


@csrf_exempt
@require_safe
async def job(request: PageRequest, job_id: int) -> HttpResponse:
    """One job with its output, live."""
    try:
        page = await read(page_rows.job_page, job_id)
    except NotFound as error:
        raise Http404(error.message) from None
    return await _page(request, "pages/job.html", {"page": page, "job": page.job})


@csrf_exempt
@require_GET
async def events(request: PageRequest) -> StreamingHttpResponse:
    """A stream of events without data: the page fetches itself again after each `changed`."""
    return StreamingHttpResponse(
        _changes(_line(request)), content_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _changes(line: SupervisorClient) -> AsyncIterator[str]:
    """`changed` at once (for changes since the page was loaded), after each change, and every REFRESH_S.

    When the server stops, it sends `stopping` and ends the stream, so that open pages do not delay it.
    """
    yield f"retry: {RETRY_MS}\n\n"
    revision, is_ready = -1, True
    with contextlib.suppress(Unavailable):
        while is_ready:
            revision = await line.ask(WaitChange(since=revision, wait_s=REFRESH_S))
            is_ready = (await line.ask(GetServer()))["ready"]
            yield f"event: {'changed' if is_ready else 'stopping'}\ndata: {revision}\n\n"
            await asyncio.sleep(PAUSE_S)


async def _page(request: PageRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    context["frame"] = "pages/bare.html" if request.htmx else "pages/live.html"
    context["address"] = request.build_absolute_uri("/")
    context["path"] = request.path
    html = await asyncio.to_thread(render_to_string, template, context)
    return HttpResponse(html, headers={"Cache-Control": "no-store"})


def _line(request: PageRequest) -> SupervisorClient:
    return cast(SupervisorClient, request.scope["line"])
