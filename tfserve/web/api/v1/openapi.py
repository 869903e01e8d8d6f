"""The endpoints of version 1, for the API guide and the OpenAPI document. `rest.py` serves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tfserve.access.principals import Scope
from tfserve.web.api.endpoint import BINARY, FILE_FORM, JSON, Endpoint, Schema, Tag
from tfserve.web.api.v1 import results
from tfserve.web.api.v1.image_requests import MAX_TOP, TOP
from tfserve.web.api.workspace.job_json import DeferredJob
from tfserve.web.http import multipart

RETURNS = "same as TensorFlow Serving"
DEFERRED: Mapping[str, Any] = {"202": DeferredJob}
"""The job, for a request with `Prefer: respond-async`."""
IMAGES: dict[str, Schema] = {"image/jpeg": BINARY, "image/png": BINARY, multipart.MEDIA: FILE_FORM}

Signature = Annotated[
    str | None, Meta(description="signature of the model (default: serving_default, or the only one)")
]


class PredictRequest(msgspec.Struct, kw_only=True):
    """Input values, in rows or in columns."""

    instances: Annotated[
        list[Any] | UnsetType, Meta(description="rows: a list of values, or of objects {input: value}")
    ] = UNSET
    inputs: Annotated[Any, Meta(description="columns: a value with all rows, or an object {input: value}")] = UNSET
    signature_name: Signature = None


class ExamplesRequest(msgspec.Struct, kw_only=True):
    """Examples with features, as in tf.Example."""

    examples: Annotated[
        list[dict[str, Any]], Meta(description="each {feature: value or list of values of one type}", min_length=1)
    ]
    context: Annotated[dict[str, Any] | UnsetType, Meta(description="features that are added to all examples")] = UNSET
    signature_name: Signature = None


_NAME: Schema = {"type": "string", "pattern": "^[^/:]+$"}
_VERSION: Schema = {"type": "integer", "minimum": 0}
_TOP: Schema = {
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_TOP,
    "default": TOP,
    "description": "for image files: maximum number of classes in the response",
}


def _of_a_model(prefix: str, name: str, of_path: dict[str, Schema]) -> list[Endpoint]:
    def get(path: str, noun: str, summary: str, result: type[msgspec.Struct]) -> Endpoint:
        id_ = f"get_v1_{name}_{noun}"
        return Endpoint("GET", prefix + path, id_, summary, RETURNS, parameters=of_path, result=result)

    def examples(verb: str) -> Endpoint:
        return Endpoint(
            "POST", f"{prefix}:{verb}", f"{verb}_v1_{name}", f"{verb} examples", RETURNS,
            request=ExamplesRequest, example={"examples": [{"age": 41.5, "colour": ["red"]}]}, needs_body=True,
            parameters=of_path, result=results.ExamplesResponse, statuses=DEFERRED,
        )  # fmt: skip

    return [
        get("", "status", "get the status of a model's versions", results.ModelStatus),
        get("/metadata", "metadata", "get the signatures of a model", results.ModelMetadata),
        get("/example", "example", "get an example request", results.RequestExample),
        Endpoint(
            "POST", f"{prefix}:predict", f"predict_v1_{name}", "run a model on JSON or image files", RETURNS,
            request=PredictRequest, example={"instances": [[1.0, 2.0], [3.0, 4.0]]}, needs_body=True, accepts=IMAGES,
            parameters={**of_path, "top": _TOP}, result=results.PredictResponse, media=(JSON, "image/png"),
            statuses=DEFERRED,
        ),
        examples("classify"),
        examples("regress"),
    ]  # fmt: skip


_ROWS = [
    Endpoint("GET", "/v1/models", "list_v1_models", "list every version of every model", RETURNS,
             result=results.ModelEntries),
    *_of_a_model("/v1/models/{model}", "model", {"model": _NAME}),
    *_of_a_model("/v1/models/{model}/versions/{version}", "version", {"model": _NAME, "version": _VERSION}),
]  # fmt: skip

ENDPOINTS = [replace(row, scope=Scope.PREDICT, tag=Tag.V1) for row in _ROWS]
