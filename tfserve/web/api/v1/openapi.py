"""The endpoints of version 1, for the API guide and the OpenAPI document. `rest.py` serves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tfserve.access.principals import Scope
from tfserve.web.api.endpoint import JSON, Endpoint, Schema, required
from tfserve.web.api.v1.image_requests import MAX_TOP, TOP

RETURNS = 'same as TensorFlow Serving; errors are {"error": message}'
DEFERRED: Mapping[str, Schema] = {"202": required("job", "id", "state", "location")}
"""The job, for a request with `Prefer: respond-async`."""
IMAGES = ("image/jpeg", "image/png", "multipart/form-data")

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


_NAME: Schema = {"type": "string", "minLength": 1, "pattern": "^[^/:]+$"}
_VERSION: Schema = {"type": "integer", "minimum": 0}
_TOP: Schema = {
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_TOP,
    "default": TOP,
    "description": "for image files: maximum number of classes in the response",
}


def _of_a_model(prefix: str, name: str, of_path: dict[str, Schema]) -> list[Endpoint]:
    def get(path: str, suffix: str, summary: str, *members: str) -> Endpoint:
        result = required(*members)
        return Endpoint("GET", prefix + path, f"v1_{name}{suffix}", summary, RETURNS, parameters=of_path, result=result)

    def examples(verb: str) -> Endpoint:
        return Endpoint(
            "POST", f"{prefix}:{verb}", f"v1_{name}_{verb}", f"{verb} examples", RETURNS,
            request=ExamplesRequest, needs_body=True, parameters=of_path, result=required("results"), statuses=DEFERRED,
        )  # fmt: skip

    return [
        get("", "", "get the status of a model's versions", "model_version_status"),
        get("/metadata", "_metadata", "get the signatures of a model", "model_spec", "metadata"),
        get("/example", "_example", "get an example request", "url", "json", "curl"),
        Endpoint(
            "POST", f"{prefix}:predict", f"v1_{name}_predict", "run a model on JSON or image files", RETURNS,
            request=PredictRequest, needs_body=True, accepts={media: {} for media in IMAGES},
            parameters={**of_path, "top": _TOP}, media=(JSON, "image/png"), statuses=DEFERRED,
        ),
        examples("classify"),
        examples("regress"),
    ]  # fmt: skip


_ROWS = [
    Endpoint("GET", "/v1/models", "v1_models", "list every version of every model", RETURNS, result=required("models")),
    *_of_a_model("/v1/models/{model}", "model", {"model": _NAME}),
    *_of_a_model("/v1/models/{model}/versions/{version}", "version", {"model": _NAME, "version": _VERSION}),
]

ENDPOINTS = [replace(row, scope=Scope.PREDICT) for row in _ROWS]
