"""Requests of the training API, as forms or JSON."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from tfserve.errors import Invalid
from tfserve.ipc.messages import Resources
from tfserve.training.recipes import parameters
from tfserve.web.api.json_requests import unknown_fields
from tfserve.web.http import multipart

MAX_FIELDS = 50


class CreateTask(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of the form of `POST /` and of the JSON of `POST /tasks/`, which rejects unknown fields."""

    userId: Annotated[str, Meta(description="owner of the project", min_length=1)]  # noqa: N815 (the contract's names)
    projectId: Annotated[str, Meta(description="id of the project", min_length=1)]  # noqa: N815
    projectDir: Annotated[str, Meta(description="path of the project folder, or upload:<id>", min_length=1)]  # noqa: N815
    trainType: Annotated[str, Meta(description="classification, segmentation or detection (case-insensitive)")]  # noqa: N815
    parameters: Annotated[dict[str, Any], Meta(description="see GET /training/parameters/")] = {}
    deploy_to: Annotated[str | None, Meta(description="workspace to deploy the result to")] = None
    callback: Annotated[str | None, Meta(description="URL that receives the run's job by POST when it has ended")] = (
        None
    )
    resources: Annotated[
        Resources | None, Meta(description="what the process that trains needs, which decides where it runs")
    ] = None
    warmStart: Annotated[str | None, Meta(description="id of a task whose model to start from (a parameter)")] = None  # noqa: N815


FORM_FIELDS = ("userId", "projectId", "projectDir", "trainType")
OTHER_FIELDS = ("parameters", "deploy_to", "callback", "resources")
WEIGHTS = "weights"


class Feedback(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of `POST /tasks/<id>/feedback` as JSON."""

    image: Annotated[dict[str, str], Meta(description='the bytes of an image file, {"b64": "…"}')]
    label: Annotated[str, Meta(description="the correct label, or its display name", min_length=1)]


class TrainingForm(NamedTuple):
    """`weights` is the uploaded file."""

    task: CreateTask
    warnings: list[str]
    weights: bytes | None = None


async def from_form(body: bytes, content_type: str) -> TrainingForm:
    """Parameters may be separate fields or a JSON object in the field `parameters`.

    In multipart/form-data, `weights` may be a file. Unknown fields only cause a warning, because older clients may send
    them. Raises `Invalid`.
    """
    if not multipart.is_multipart(content_type):
        return _form(_fields(body))
    fields, files = await multipart.read(body, content_type, max_fields=MAX_FIELDS, max_files=MAX_FIELDS)
    form = _form(dict(fields))
    weights = [content for name, content in files if name == WEIGHTS]
    if len(weights) + (WEIGHTS in form.task.parameters) > 1:
        raise Invalid("weights: the form has several fields of this name. Send one file or the path of one file.")
    if any(not content for content in weights):
        raise Invalid("weights: the uploaded file is empty (0 bytes).")
    others = [name for name, _ in files if name != WEIGHTS]
    warnings = [*form.warnings, *unknown_fields(others, [*FORM_FIELDS, *OTHER_FIELDS, WEIGHTS])]
    return TrainingForm(form.task, warnings, *weights)


def _fields(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError as error:
        raise Invalid(f"Invalid form data: {error}.") from None


def _form(fields: dict[str, str]) -> TrainingForm:
    missing = [name for name in FORM_FIELDS if not fields.get(name)]
    if missing:
        raise Invalid(f"The form requires the fields {', '.join(FORM_FIELDS)}; missing or empty: {', '.join(missing)}.")
    train_type = parameters.train_type(fields["trainType"])
    known = parameters.names(train_type)
    chosen = _parameters(fields.get("parameters") or "{}")
    chosen |= {name: parameters.parsed(train_type, name, fields[name]) for name in known if name in fields}
    task = CreateTask(
        **{name: fields[name] for name in FORM_FIELDS},
        parameters=chosen,
        deploy_to=fields.get("deploy_to") or None,
        callback=fields.get("callback") or None,
        resources=_resources(fields.get("resources") or "{}"),
    )
    return TrainingForm(task, unknown_fields(fields, [*FORM_FIELDS, *OTHER_FIELDS, *known]))


def _parameters(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Invalid(f'parameters: expected a JSON object such as {{"epochs": 20}}; {error}.') from None


def _resources(text: str) -> Resources:
    try:
        return msgspec.json.decode(text, type=Resources)
    except msgspec.DecodeError as error:
        raise Invalid(f'resources: expected a JSON object such as {{"gpu": 1}}; {error}.') from None
