"""The pages of models: the list, and one page each to try a model, call it from a program, and change it."""

from __future__ import annotations

import asyncio
import zipfile
from pathlib import Path
from typing import Any, cast

from django.http import Http404, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tfserve.errors import NotFound
from tfserve.ipc.messages import FindWorkspaces, GetModelHistory, GetWorkspace, ListWorkspaces
from tfserve.models.formats import HELD_OUT_IMAGES
from tfserve.web.database_reads import read
from tfserve.web.pages import listing, model_rows, signature_rows
from tfserve.web.pages.middleware import permissions
from tfserve.web.pages.model_rows import NAMES
from tfserve.web.pages.rendering import PageRequest, gone, live_page, supervisor_of
from tfserve.web.pages.traffic import traffic
from tfserve.web.predictions.live_models import LiveModels, Model
from tfserve.web.snippets import calls

RUNTIMES = [(name, NAMES[name]) for name in ("tensorflow", "openvino", "litert", "onnxruntime")]
PER_PAGE = 20
SHOWN_NAMES = 40
MAX_SAMPLES = 6
SHIPPED_SAMPLES = ("cat", "coffee", "rocket")
SUFFIXES = {".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
            ".gif": "image/gif", ".bmp": "image/bmp"}  # fmt: skip
PARTS = [
    f"pages/models/{each}.html"
    for each in ("state", "try_image", "try", "use", "traffic", "trials", "actions", "signatures")
]
"""All of them, although some are empty: an open page gets new contents, but no new parts."""
EXAMPLES = {"v1": calls.v1_example, "v2": calls.v2_example}


@csrf_exempt
@require_safe
async def model_list(request: PageRequest) -> HttpResponse:
    """Every deployed model, and a form that deploys one."""
    line, query = supervisor_of(request), request.GET
    text, offset = listing.search_text(query), listing.number(query, "offset") or 0
    found = await line.ask(FindWorkspaces(text=text, with_model=True, offset=offset, limit=PER_PAGE))
    names = await line.ask(ListWorkspaces()) if found.on else []
    history = await line.ask(GetModelHistory(names=[each["name"] for each in found.workspaces]))
    context = {
        "rows": [model_rows.row(each, traffic(history.models[each["name"]])) for each in found.workspaces],
        "shown": listing.shown_range(query, "offset", PER_PAGE, found.total),
        "query": text, "runtimes": RUNTIMES, "names": names[:SHOWN_NAMES],
    }  # fmt: skip
    return await live_page(
        request, section="models", name="Models", parts=["pages/models/list.html"], context=context,
        template="pages/models/models.html", scripts=("upload", "deploy", "refresh"),
    )  # fmt: skip


@csrf_exempt
@require_safe
async def model(request: PageRequest, name: str) -> HttpResponse:
    """One model. The page may use the camera, for models that take images."""
    line = supervisor_of(request)
    try:
        status, history = await asyncio.gather(
            line.ask(GetWorkspace(name=name)), line.ask(GetModelHistory(names=[name]))
        )
    except NotFound as error:
        link = {"message": error.message, "href": "/pages/models/", "label": "All models"}
        return await gone(request, "part-state", link)
    row = model_rows.row(status, traffic(history.models[name]))
    path = row.deployment["path"] if row.deployment else None
    context: dict[str, Any] = {
        "row": row,
        "model": row.deployment,
        "earlier": await read(model_rows.earlier, request.GET, name, path),
    }
    if row.deployment:
        context["trials"] = model_rows.trial_bars(row.deployment)
    live = _live_model(request, name)
    if live is not None and live.signatures:
        context |= await asyncio.to_thread(_usage, request, live)
    response = await live_page(
        request, section="models", name=name, parts=PARTS, context=context,
        template="pages/models/model.html", scripts=("try", "try_image", "tabs", "deploy", "refresh"),
    )  # fmt: skip
    response.headers["Permissions-Policy"] = permissions("camera")
    return response


@csrf_exempt
@require_safe
async def example(request: PageRequest, name: str, protocol: str) -> HttpResponse:
    """The body of an example request, to download."""
    live = _live_model(request, name)
    if live is None or protocol not in EXAMPLES:
        raise Http404("There is no such example.")
    text = await asyncio.to_thread(EXAMPLES[protocol], live)
    headers = {"Content-Disposition": f'attachment; filename="{calls.REQUEST_FILE}"'}
    return HttpResponse(text, content_type="application/json", headers=headers)


@csrf_exempt
@require_safe
async def sample(request: PageRequest, name: str, number: int) -> HttpResponse:
    """An image that was held out when the model was trained, kept with the model."""
    live = _live_model(request, name)
    found = await asyncio.to_thread(_sample, live, number) if live is not None else None
    if found is None:
        raise Http404("There is no such image.")
    content, media = found
    return HttpResponse(content, content_type=media, headers={"Cache-Control": "private, max-age=3600"})


@csrf_exempt
@require_safe
async def classes(request: PageRequest, name: str) -> HttpResponse:
    """The names of the values in a mask, for the page that draws one. They may be many."""
    live = _live_model(request, name)
    if live is None:
        raise Http404("No model is deployed here.")
    image = live.info.image or {}
    labels = image.get("display") or image.get("labels") or []
    numbers = image.get("mask_values") or range(len(labels))
    return JsonResponse(dict(zip(map(str, numbers), labels, strict=False)))


# --- parts


def _usage(request: PageRequest, live: Model) -> dict[str, Any]:
    """What the parts show that try a model and call it."""
    own = [f"samples/{number}" for number in range(len(_sample_names(live)))]
    return {
        "takes_images": calls.IMAGE_BYTES in live.signatures,
        "samples": own,
        "shipped": () if own else SHIPPED_SAMPLES,
        "forms": model_rows.forms(request.GET, live.signatures, live.default_signature),
        "usages": calls.usages(live, request.build_absolute_uri("/").rstrip("/")),
        "signatures": signature_rows.shown(request.GET, live.info.signatures),
    }


def _live_model(request: PageRequest, name: str) -> Model | None:
    try:
        return cast(LiveModels, request.scope["models"]).versions(name)[0]
    except NotFound:
        return None


def _sample_names(live: Model) -> list[str]:
    archive = Path(live.info.path) / HELD_OUT_IMAGES
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [each for each in opened.namelist() if Path(each).suffix.lower() in SUFFIXES]
            return names[:MAX_SAMPLES]
    except (OSError, zipfile.BadZipFile):
        return []


def _sample(live: Model, number: int) -> tuple[bytes, str] | None:
    names = _sample_names(live)
    if number >= len(names):
        return None
    with zipfile.ZipFile(Path(live.info.path) / HELD_OUT_IMAGES) as opened:
        return opened.read(names[number]), SUFFIXES[Path(names[number]).suffix.lower()]
