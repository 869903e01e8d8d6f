"""The paths of version 1, for the API guide and the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tfserve.protocols import operations
from tfserve.protocols.operations import JSON, Operation
from tfserve.protocols.tfserving.pictures import MAX_TOP, TOP

TELLS = 'as TensorFlow Serving answers; a refusal is {"error": sentence}'
PICTURES = ("image/jpeg", "image/png", "multipart/form-data")

Signature = Annotated[
    str | None, Meta(description="which of the model's signatures is meant (serving_default, or the only one)")
]


class PredictRequest(msgspec.Struct, kw_only=True):
    """Either rows or columns."""

    instances: Annotated[list[Any] | UnsetType, Meta(description="rows: values, or objects by input")] = UNSET
    inputs: Annotated[Any, Meta(description="columns: a value for all rows, or an object of them by input")] = UNSET
    signature_name: Signature = None


class ExamplesRequest(msgspec.Struct, kw_only=True):
    """Records of features, as tf.Example has them."""

    examples: Annotated[
        list[dict[str, Any]], Meta(description="each {feature: value or list of values of one kind}", min_length=1)
    ]
    context: Annotated[dict[str, Any] | UnsetType, Meta(description="features of all examples")] = UNSET
    signature_name: Signature = None


REQUESTS = (PredictRequest, ExamplesRequest)
_TOP = {"top": {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": TOP}}


def _of_a_model(prefix: str, word: str) -> tuple[Operation, ...]:
    status, about = ("model_version_status",), ("model_spec", "metadata")
    return (
        Operation("get", prefix, f"v1_{word}", "tell the state of a model's versions", status),
        Operation("get", f"{prefix}/metadata", f"v1_{word}_metadata", "tell the signatures of a model", about),
        Operation("get", f"{prefix}/example", f"v1_{word}_example", "give a request to paste", ("url", "json", "curl")),
        Operation(
            "post", f"{prefix}:predict", f"v1_{word}_predict", "compute with a model, from JSON or image files",
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
    """Operations by path and verb. The schemas of `REQUESTS` must be among the document's components."""
    name = {"type": "string", "minLength": 1, "pattern": "^[^/:]+$"}
    return operations.paths(PATHS, ref_template, model=name, version={"type": "integer", "minimum": 0})
