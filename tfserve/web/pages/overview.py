"""The overview: whether the server is well, what it serves and trains, what waits and what failed."""

from __future__ import annotations

import asyncio
from typing import Any

from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tfserve.ipc.messages import GetServer
from tfserve.web.database_reads import read
from tfserve.web.pages import job_rows, page_rows
from tfserve.web.pages.rendering import PageRequest, live_page, supervisor_of

PARTS = ("health", "models", "trainings", "queue", "failures", "server")
SHOWN_WORKSPACES = 100
SHOWN_ROWS = 8
FAILURE_HOURS = 24


# Pages without a form are exempt from the check of forms, which would answer 403 where 405 says more.


@csrf_exempt
@require_safe
async def overview(request: PageRequest) -> HttpResponse:
    server, tasks, (of_models, of_models_total), (failures, failures_total) = await asyncio.gather(
        supervisor_of(request).ask(GetServer(active_limit=SHOWN_WORKSPACES)),
        read(page_rows.unfinished_tasks),
        read(job_rows.active_model_jobs, SHOWN_ROWS),
        read(job_rows.failures_since, FAILURE_HOURS, SHOWN_ROWS),
    )
    busy = [each["name"] for each in server["workspaces"] if each["running"] or each["JOB_COUNT"]]
    queue = await read(job_rows.active_jobs, busy, SHOWN_ROWS)
    models = [each for each in server["workspaces"] if each["deployment"] or each["last_deployment_failure"]]
    problems = _problems(server)
    context = {
        "server": server,
        "problems": problems[:SHOWN_ROWS],
        "problems_total": len(problems),
        "models": models[:SHOWN_ROWS],
        "models_total": len(models),
        "serving_total": sum(each["deployment"] is not None for each in models),
        "tasks": tasks[:SHOWN_ROWS],
        "tasks_total": len(tasks),
        "queue": [*queue, *of_models][:SHOWN_ROWS],
        "active_total": server["totals"]["running"] + server["totals"]["waiting"] + of_models_total,
        "failures": failures,
        "failures_total": failures_total,
    }
    parts = [f"pages/overview/{each}.html" for each in PARTS]
    return await live_page(request, section="overview", name="Overview", parts=parts, context=context)


def _problems(server: dict[str, Any]) -> list[str]:
    """What a person must do something about."""
    problems = [server["degraded"]] if server["degraded"] else []
    problems += [f"{each['name']}: {each['reason']}" for each in server["workspaces"] if each["reason"]]
    problems += [f"{_where(each)}: {each['message']}" for each in server["declared"]["problems"]]
    problems += [f"{name}: {' '.join(reasons)}" for name, reasons in server["declared"]["models"].items()]
    return problems


def _where(problem: dict[str, Any]) -> str:
    line = f"line {problem['line']}" if problem["line"] is not None else ""
    return ", ".join(filter(None, ["Models file", line, problem["key"]]))
