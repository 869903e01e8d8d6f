"""The pages of jobs."""

from __future__ import annotations

from django.http import Http404, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tfserve.errors import NotFound
from tfserve.web.database_reads import read
from tfserve.web.pages import page_rows
from tfserve.web.pages.rendering import PageRequest, live_page


@csrf_exempt
@require_safe
async def job(request: PageRequest, job_id: int) -> HttpResponse:
    """One job with its output, live."""
    try:
        found = await read(page_rows.job_page, job_id)
    except NotFound as error:
        raise Http404(error.message) from None
    name = f"{found.job.kind.capitalize()} {found.job.number}"
    if found.job.workspace:
        name += f" in {found.job.workspace.name}"
    context = {"page": found, "job": found.job}
    return await live_page(request, section="jobs", name=name, parts=["pages/job.html"], context=context)
