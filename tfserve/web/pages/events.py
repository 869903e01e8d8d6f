"""The stream of events that keeps open pages up to date."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from django.http import StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from tfserve.errors import Unavailable
from tfserve.ipc.messages import GetServer, WaitChange
from tfserve.web.pages.rendering import PageRequest, supervisor_of
from tfserve.web.supervisor_client import SupervisorClient

REFRESH_S = 15.0
"""Maximum age of values whose changes cause no event, such as memory."""
ALIVE_S = 1.0
"""Time between two signs of life. A page that gets none reports within 3 s that the server is gone."""
PAUSE_S = 0.25
"""Minimum time between two events."""
RETRY_MS = 1000


@csrf_exempt
@require_GET
async def events(request: PageRequest) -> StreamingHttpResponse:
    """A stream of events without data: the page fetches itself again after each `changed`."""
    return StreamingHttpResponse(
        _events(supervisor_of(request)), content_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(line: SupervisorClient) -> AsyncIterator[str]:
    """`changed` at once (for changes since the page was loaded), after each change, and every REFRESH_S.

    `alive` in between. When the server stops, it sends `stopping` and ends the stream, so that open pages do not delay
    it.
    """
    yield f"retry: {RETRY_MS}\n\n"
    revision, is_ready = -1, True
    with contextlib.suppress(Unavailable):
        while is_ready:
            change = asyncio.ensure_future(line.ask(WaitChange(since=revision, wait_s=REFRESH_S)))
            try:
                while not (await asyncio.wait([change], timeout=ALIVE_S))[0]:
                    yield "event: alive\ndata:\n\n"
            finally:
                change.cancel()
            revision = change.result()
            is_ready = (await line.ask(GetServer(active_limit=0)))["ready"]
            yield f"event: {'changed' if is_ready else 'stopping'}\ndata: {revision}\n\n"
            await asyncio.sleep(PAUSE_S)
