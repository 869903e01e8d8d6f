"""The paths of version 1, for the API guide and the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tfserve.web.api import operations
from tfserve.web.api.operations import JSON, Operation
from tfserve.web.api.v1.image_requests import MAX_TOP, TOP

TELLS = 'same as TensorFlow Serving; errors are {"error": message}'
PICTURES = ("image/jpeg", "image/png", "multipart/form-data")

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


REQUESTS = (PredictRequest, ExamplesRequest)
_TOP = {"top": {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": TOP}}


def _of_a_model(prefix: str, word: str) -> tuple[Operation, ...]:
    status, about = ("model_version_status",), ("model_spec", "metadata")
    return (
        Operation("get", prefix, f"v1_{word}", "get the status of a model's versions", status),
        Operation("get", f"{prefix}/metadata", f"v1_{word}_metadata", "get the signatures of a model", about),
        Operation("get", f"{prefix}/example", f"v1_{word}_example", "get an example request", ("url", "json", "curl")),
        Operation(
            "post", f"{prefix}:predict", f"v1_{word}_predict", "run a model on JSON or image files",
            request=PredictRequest, needs_body=True, takes=PICTURES, gives=(JSON, "image/png"), query=_TOP,
        ),
        *(
            Operation(
                "post", f"{prefix}:{verb}", f"v1_{word}_{verb}", f"{verb} examples", ("results",),
                ExamplesRequest, needs_body=True,
            )
            for verb in ("classify", "regress")
        ),
    )  # fmt: skip


PATHS = (
    Operation("get", "/v1/models", "v1_models", "list every version of every model", ("models",)),
    *_of_a_model("/v1/models/{model}", "model"),
    *_of_a_model("/v1/models/{model}/versions/{version}", "version"),
)


def paths(ref_template: str) -> dict[str, Any]:
    """Operations by path and method. The document's components must include the schemas of `REQUESTS`."""
    name = {"type": "string", "minLength": 1, "pattern": "^[^/:]+$"}
    return operations.paths(PATHS, ref_template, model=name, version={"type": "integer", "minimum": 0})
