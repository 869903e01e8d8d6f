"""The pages of jobs."""

from __future__ import annotations

from django.http import HttpResponse, QueryDict
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tfserve.errors import NotFound
from tfserve.ipc.messages import JobKind
from tfserve.web.database_reads import read
from tfserve.web.pages import job_rows, listing, signature_rows
from tfserve.web.pages.job_rows import JobFilter
from tfserve.web.pages.rendering import PageRequest, gone, live_page

STATES = {"": "All", "active": "Active", "failed": "Failed", "succeeded": "Succeeded", "cancelled": "Cancelled"}
SCRIPTS = ("again",)


@csrf_exempt
@require_safe
async def jobs(request: PageRequest) -> HttpResponse:
    """The list of jobs, newest first, with search, filters and paging by key."""
    query = request.GET
    found = await read(job_rows.job_list, _filter(query))
    context = {
        "found": found,
        "query": query,
        "kinds": list(JobKind),
        "states": listing.chips(query, "state", STATES),
        "is_filtered": listing.is_filtered(query, ("q", "state", "kind", "workspace")),
        "newer": listing.link(query, {"after": found.newer}) if found.newer else "",
        "older": listing.link(query, {"before": found.older}) if found.older else "",
    }
    parts = ["pages/jobs/filters.html", "pages/jobs/list.html"]
    return await live_page(request, section="jobs", name="Jobs", parts=parts, context=context, scripts=SCRIPTS)


@csrf_exempt
@require_safe
async def job(request: PageRequest, job_id: int) -> HttpResponse:
    """One job with its output, live."""
    try:
        found = await read(job_rows.job_page, job_id)
    except NotFound as error:
        return await gone(request, "part-job", {"message": error.message, "href": "/pages/jobs/", "label": "All jobs"})
    signatures = signature_rows.shown(request.GET, found.detail.get("signatures") or {})
    context = {"page": found, "job": found.job, "signatures": signatures}
    parts = ["pages/jobs/job.html"]
    return await live_page(request, section="jobs", name=found.row.name, parts=parts, context=context, scripts=SCRIPTS)


def _filter(query: QueryDict) -> JobFilter:
    return JobFilter(
        text=listing.search_text(query),
        state=query.get("state", ""),
        kind=query.get("kind", ""),
        workspace=query.get("workspace", ""),
        before=listing.number(query, "before"),
        after=listing.number(query, "after"),
    )
