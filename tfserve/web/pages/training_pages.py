"""The pages of trainings: the list, the form of a new one, and one page each, during the run and afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpResponse
from django.utils.http import urlencode
from django.utils.text import slugify
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tfserve.db import training_tasks
from tfserve.db.models import TrainingTask
from tfserve.errors import NotFound
from tfserve.web.database_reads import read
from tfserve.web.pages import listing, training_lists, training_rows
from tfserve.web.pages.page_rows import METRICS, TaskRow
from tfserve.web.pages.rendering import PageRequest, live_page, page
from tfserve.web.pages.templatetags.units import percent
from tfserve.web.pages.training_results import TrainingResult
from tfserve.web.pages.training_rows import STATE_WORDS

PARTS = [
    f"pages/trainings/{each}.html"
    for each in (
        "status", "deploy", "quality", "confusion", "mistakes", "masks", "boxes", "curves", "plots", "exports",
        "compare", "dataset", "readme", "output",
    )
]  # fmt: skip
"""All of them, although some are empty: an open page gets new contents, but no new parts."""
PERCENT = ("accuracy", "mean_iou", "map50", "map")
"""Metrics of a whole model, from 0 to 1."""


@csrf_exempt
@require_safe
async def training_list(request: PageRequest) -> HttpResponse:
    """Trainings, newest first, filtered by a text and a state."""
    text, state = listing.search_text(request.GET), request.GET.get("state", "")
    before = listing.number(request.GET, "before")
    found = await read(training_rows.page_of_tasks, text, state, before)
    kept = {name: value for name, value in (("q", text), ("state", state)) if value}
    context = {
        "tasks": found.rows, "query": text, "state": state, "states": STATE_WORDS, "is_filtered": bool(kept or before),
        "older": f"?{urlencode(kept | {'before': found.next_key})}" if found.next_key is not None else "",
    }  # fmt: skip
    return await live_page(
        request, section="trainings", name="Trainings", parts=["pages/trainings/list.html"], context=context,
        template="pages/trainings/trainings.html",
    )  # fmt: skip


@csrf_exempt
@require_safe
async def new_training(request: ASGIRequest) -> HttpResponse:
    """The form. It needs JavaScript for everything that it does."""
    context = {"forms": training_rows.forms(), "section": "trainings", "name": "New training"}
    return await page(request, "pages/trainings/new.html", context)


@csrf_exempt
@require_safe
async def training(request: PageRequest, task_id: str) -> HttpResponse:
    """One training task."""
    task, result = await _found(task_id)
    context: dict[str, Any] = {"row": TaskRow(task), "task": task, "job": task.job, "result": result}
    context |= await read(_details, request, task, result)
    return await live_page(
        request, section="trainings", name=context["title"], context=context, parts=PARTS,
        template="pages/trainings/training.html", scripts=("deploy", "matrix"),
    )  # fmt: skip


@csrf_exempt
@require_safe
async def readme(request: PageRequest, task_id: str) -> HttpResponse:
    """The README of a result: a page, or what the page of the training shows when it is opened there."""
    _, result = await _found(task_id)
    if result is None or not result.has_readme:
        raise Http404("This training has no README.")
    if request.htmx:
        html = await asyncio.to_thread(lambda: result.readme)
        return HttpResponse(html, headers={"Cache-Control": "no-store"})  # the page has the same address
    context = {"result": result, "task_id": task_id, "section": "trainings"}
    return await page(request, "pages/trainings/readme_page.html", context)


async def _found(task_id: str) -> tuple[TrainingTask, TrainingResult | None]:
    """The task and what it delivered. Raises `Http404`."""
    try:
        task = await read(training_tasks.find, task_id)
    except NotFound as error:
        raise Http404(error.message) from None
    return task, await asyncio.to_thread(training_rows.result_of, task)


def _details(request: ASGIRequest, task: TrainingTask, result: TrainingResult | None) -> dict[str, Any]:
    """What the parts of the page show, apart from the task itself."""
    project = TaskRow(task).project
    metrics = task.metrics or {}
    history = result.history if result is not None else metrics.get("history") or {}
    return {
        "title": f"{task.train_type.capitalize()} of {project}",
        "curves": training_rows.curves(history),
        "quality": [(_capitalized(METRICS[name]), percent(metrics[name])) for name in PERCENT if name in metrics],
        "comparison": training_rows.comparison(task),
        "workspace": slugify(task.project_id) or "model",
        "lists": training_lists.lists(request.GET, task, result),
        **(training_lists.cell(request.GET, result) if result is not None else {}),
    }


def _capitalized(words: str) -> str:
    """Only the first letter changes: mean IoU, mAP50."""
    return words if words.startswith("m") and words[1:2].isupper() else words[:1].upper() + words[1:]
