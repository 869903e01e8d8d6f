"""Renders a page as parts. An open page gets only the parts that have changed since it was loaded."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, NamedTuple, cast

from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from django_htmx.middleware import HtmxDetails

from tfserve.access.principals import PRINCIPAL
from tfserve.web.supervisor_client import SupervisorClient

SCRIPTS = ("morph", "times", "live", "output", "actions")
"""Modules of every live page, in `static/pages`."""
UNCHANGED = 204
KEPT_TEXT = re.compile(r"(\sdata-(?:kept|quiet)>)[^<]*")
"""Text that the page's scripts keep up to date, such as `3 min ago`, or that always changes, such as free memory: when
only that differs, a part is unchanged."""


class Section(NamedTuple):
    """An entry of the navigation."""

    name: str
    label: str
    path: str


SECTIONS = (
    Section("overview", "Overview", "/"),
    Section("workspaces", "Workspaces", "/pages/workspaces/"),
    Section("models", "Models", "/pages/models/"),
    Section("trainings", "Trainings", "/pages/trainings/"),
    Section("jobs", "Jobs", "/pages/jobs/"),
    Section("nodes", "Nodes", "/pages/nodes/"),
    Section("api", "API", "/docs"),
    Section("settings", "Settings", "/pages/settings/"),
)


class PageRequest(ASGIRequest):
    """A request after the middleware of htmx."""

    htmx: HtmxDetails


@dataclass(frozen=True)
class Part:
    """A part of a page. `version` differs when the HTML does."""

    id: str
    version: str
    html: SafeString


async def live_page(
    request: PageRequest,
    *,
    section: str,
    name: str,
    parts: Sequence[str],
    context: Mapping[str, Any],
    scripts: Sequence[str] = (),
    template: str = "pages/live.html",
    heading: str = "",
) -> HttpResponse:
    """A page of these part templates (`pages/jobs/table.html` has the id `part-table`), which stays up to date.

    For a request by htmx, only the parts that differ from those that the page already shows.
    """
    shared = dict(context) | {"address": request.build_absolute_uri("/")}
    rendered = await asyncio.to_thread(lambda: [_part(each, shared) for each in parts])
    if request.htmx:
        return await _changed(rendered, request)
    modules = [f"pages/{each}.js" for each in (*SCRIPTS, *scripts)]
    frame = {"parts": rendered, "scripts": modules, "address_path": request.get_full_path(), "heading": heading}
    return await page(request, template, shared | frame | {"section": section, "name": name})


async def gone(request: PageRequest, part: str, context: Mapping[str, Any]) -> HttpResponse:
    """The subject of a page does not exist any more: an open page shows it in this part, and stops updating itself.

    `context` has `message`, and `href` and `label` of a link. Raises `Http404` for a page that is being loaded.
    """
    if not request.htmx:
        raise Http404(context["message"])
    rendered = await asyncio.to_thread(_part, "pages/gone.html", dict(context))
    return await _changed([replace(rendered, id=part)], request)


async def page(request: ASGIRequest, template: str, context: Mapping[str, Any], status: int = 200) -> HttpResponse:
    """A page with the frame of the console."""
    is_logged_in = PRINCIPAL.get().owner.startswith("user:")
    frame = {"sections": SECTIONS, "is_logged_in": is_logged_in}
    html = await asyncio.to_thread(render_to_string, template, {**frame, **context}, request)
    return HttpResponse(html, status=status, headers={"Cache-Control": "no-store"})


def supervisor_of(request: ASGIRequest) -> SupervisorClient:
    """The connection to the supervisor."""
    return cast(SupervisorClient, request.scope["line"])


def _part(template: str, context: dict[str, Any]) -> Part:
    html = mark_safe(render_to_string(template, context))  # noqa: S308 - Django has escaped the values
    version = hashlib.blake2b(KEPT_TEXT.sub(r"\1", html).encode(), digest_size=6).hexdigest()
    return Part(f"part-{PurePath(template).stem.replace('_', '-')}", version, html)


async def _changed(rendered: Sequence[Part], request: PageRequest) -> HttpResponse:
    known = dict(each.partition("=")[::2] for each in request.headers.get("X-Parts", "").split(","))
    changed = [part for part in rendered if known.get(part.id) != part.version]
    if not changed:
        return HttpResponse(status=UNCHANGED)
    html = await asyncio.to_thread(render_to_string, "pages/changed_parts.html", {"parts": changed})
    return HttpResponse(html, headers={"Cache-Control": "no-store"})
