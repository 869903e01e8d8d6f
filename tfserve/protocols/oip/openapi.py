"""The paths of version 2, for the API guide and the OpenAPI document."""

from __future__ import annotations

from typing import Any

from tfserve.protocols import operations
from tfserve.protocols.oip.requests import IndexRequest, InferRequest, RepositoryRequest
from tfserve.protocols.operations import JSON, Operation

REQUESTS = (InferRequest, IndexRequest, RepositoryRequest)
BINARY = "application/octet-stream"
TELLS = 'as the Open Inference Protocol says; a refusal is {"error": sentence}'

_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"
_HEALTH = ("live", "ready")
_NOT_READY = {"503": {"anyOf": [{"type": "object", "required": [key]} for key in ("ready", "error")]}}
_REPOSITORY = "/v2/repository/models/{model}/"


def _of_a_model(prefix: str, word: str) -> tuple[Operation, ...]:
    about, stats = ("name", "platform", "inputs", "outputs"), ("model_stats",)
    return (
        Operation("get", prefix, f"v2_{word}", "tell the inputs and outputs of a model", about),
        Operation("get", f"{prefix}/ready", f"v2_{word}_ready", "tell whether a model is ready", ("name", "ready")),
        Operation("get", f"{prefix}/config", f"v2_{word}_config", "tell how a model is served, in Triton's words"),
        Operation("get", f"{prefix}/stats", f"v2_{word}_statistics", "count what a model has computed", stats),
        Operation(
            "post", f"{prefix}/infer", f"v2_{word}_infer", "compute with a model", ("model_name", "outputs"),
            InferRequest, needs_body=True, takes=(BINARY,), gives=(JSON, BINARY),
        ),
    )  # fmt: skip


PATHS = (
    Operation("get", "/v2/health/live", "v2_live", "tell whether the server is alive", _HEALTH),
    Operation(
        "get", "/v2/health/ready", "v2_ready", "tell whether the server takes work: 503 while it starts or stops",
        _HEALTH, also=_NOT_READY,
    ),
    Operation(
        "get", "/v2", "v2_server", "tell name, version and extensions of the server", ("name", "version", "extensions")
    ),
    Operation("get", "/v2/models", "v2_models", "list the deployed models", ("models",)),
    Operation("get", "/v2/models/stats", "v2_all_statistics", "count what all models have computed", ("model_stats",)),
    *_of_a_model(_MODEL, "model"),
    *_of_a_model(_VERSION, "version"),
    Operation(
        "post", "/v2/repository/index", "v2_index", "list what is loaded and what can be", request=IndexRequest
    ),
    Operation(
        "post", f"{_REPOSITORY}load", "v2_load", "deploy what was deployed last again", request=RepositoryRequest
    ),
    Operation("post", f"{_REPOSITORY}unload", "v2_unload", "undeploy a model", request=RepositoryRequest),
)  # fmt: skip


def paths(ref_template: str) -> dict[str, Any]:
    """Operations by path and verb. The schemas of `REQUESTS` must be among the document's components."""
    text = {"type": "string", "minLength": 1}
    return operations.paths(PATHS, ref_template, model=text, version=text)
