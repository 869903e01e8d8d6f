"""The paths of version 2, for the API guide and the OpenAPI document."""

from __future__ import annotations

from typing import Any

from tfserve.web.api import operations
from tfserve.web.api.operations import JSON, Operation
from tfserve.web.api.v2.requests import IndexRequest, InferRequest, RepositoryRequest

REQUESTS = (InferRequest, IndexRequest, RepositoryRequest)
BINARY = "application/octet-stream"
TELLS = 'as specified by the Open Inference Protocol; errors are {"error": message}'

_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"
_HEALTH = ("live", "ready")
_NOT_READY = {"503": {"anyOf": [{"type": "object", "required": [key]} for key in ("ready", "error")]}}
_REPOSITORY = "/v2/repository/models/{model}/"


def _of_a_model(prefix: str, word: str) -> tuple[Operation, ...]:
    about, stats = ("name", "platform", "inputs", "outputs"), ("model_stats",)
    return (
        Operation("get", prefix, f"v2_{word}", "get the inputs and outputs of a model", about),
        Operation("get", f"{prefix}/ready", f"v2_{word}_ready", "check whether a model is ready", ("name", "ready")),
        Operation("get", f"{prefix}/config", f"v2_{word}_config", "get the Triton configuration of a model"),
        Operation("get", f"{prefix}/stats", f"v2_{word}_statistics", "get the statistics of a model", stats),
        Operation(
            "post", f"{prefix}/infer", f"v2_{word}_infer", "run a model", ("model_name", "outputs"),
            InferRequest, needs_body=True, takes=(BINARY,), gives=(JSON, BINARY),
        ),
    )  # fmt: skip


PATHS = (
    Operation("get", "/v2/health/live", "v2_live", "check whether the server is alive", _HEALTH),
    Operation(
        "get", "/v2/health/ready", "v2_ready", "check whether the server is ready: 503 while it starts or stops",
        _HEALTH, also=_NOT_READY,
    ),
    Operation(
        "get", "/v2", "v2_server", "get name, version and extensions of the server", ("name", "version", "extensions")
    ),
    Operation("get", "/v2/models", "v2_models", "list the deployed models", ("models",)),
    Operation("get", "/v2/models/stats", "v2_all_statistics", "get the statistics of all models", ("model_stats",)),
    *_of_a_model(_MODEL, "model"),
    *_of_a_model(_VERSION, "version"),
    Operation(
        "post", "/v2/repository/index", "v2_index", "list loaded and loadable models", request=IndexRequest
    ),
    Operation(
        "post", f"{_REPOSITORY}load", "v2_load", "deploy the last deployed model again", request=RepositoryRequest
    ),
    Operation("post", f"{_REPOSITORY}unload", "v2_unload", "undeploy a model", request=RepositoryRequest),
)  # fmt: skip


def paths(ref_template: str) -> dict[str, Any]:
    """Operations by path and method. The document's components must include the schemas of `REQUESTS`."""
    text = {"type": "string", "minLength": 1}
    return operations.paths(PATHS, ref_template, model=text, version=text)
