"""The overview: the server, its workspaces, models, newest trainings and jobs."""

from __future__ import annotations

import asyncio

from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tfserve.ipc.messages import GetServer
from tfserve.web.database_reads import read
from tfserve.web.pages import page_rows
from tfserve.web.pages.rendering import PageRequest, live_page, supervisor_of

PARTS = ("server", "workspaces", "deployments", "trainings", "jobs")


# Pages without a form are exempt from the check of forms, which would answer 403 where 405 says more.


@csrf_exempt
@require_safe
async def overview(request: PageRequest) -> HttpResponse:
    server, (jobs, has_more), (tasks, tasks_total) = await asyncio.gather(
        supervisor_of(request).ask(GetServer()), read(page_rows.recent_jobs), read(page_rows.recent_tasks)
    )
    workspaces = server["workspaces"]
    context = {
        "server": server,
        "deployed": [each for each in workspaces if each["deployment"] or each["last_deployment_failure"]],
        "tasks": tasks,
        "tasks_total": tasks_total,
        "jobs": jobs,
        "has_more_jobs": has_more,
        "example_name": workspaces[0]["name"] if workspaces else "first",
    }
    parts = [f"pages/{each}.html" for each in PARTS]
    return await live_page(request, section="overview", name="Overview", parts=parts, context=context)
