"""The endpoints of version 2, for the API guide and the OpenAPI document. `rest.py` serves them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tfserve.access.principals import Scope
from tfserve.web.api.endpoint import JSON, Endpoint, Schema, required
from tfserve.web.api.v2.requests import IndexRequest, InferRequest, RepositoryRequest

BINARY = "application/octet-stream"
RETURNS = 'as specified by the Open Inference Protocol; errors are {"error": message}'

_TEXT: Schema = {"type": "string", "minLength": 1}
_MODEL = {"model": _TEXT}
_NOT_READY = {"503": {"anyOf": [required("ready"), required("error")]}}


def _get(path: str, name: str, summary: str, *members: str, **fields: Any) -> Endpoint:
    """`members` are those that the JSON response always has."""
    result = required(*members) if members else Any
    return Endpoint("GET", f"/v2{path}", f"v2_{name}", summary, RETURNS, result=result, **fields)


def _of_a_model(prefix: str, name: str, parameters: dict[str, Schema]) -> list[Endpoint]:
    def get(path: str, suffix: str, summary: str, *members: str) -> Endpoint:
        return _get(prefix + path, name + suffix, summary, *members, parameters=parameters)

    return [
        get("", "", "get the inputs and outputs of a model", "name", "platform", "inputs", "outputs"),
        get("/ready", "_ready", "check whether a model is ready", "name", "ready"),
        get("/config", "_config", "get the Triton configuration of a model"),
        get("/stats", "_statistics", "get the statistics of a model", "model_stats"),
        Endpoint(
            "POST", f"/v2{prefix}/infer", f"v2_{name}_infer", "run a model", RETURNS,
            request=InferRequest, needs_body=True, accepts={BINARY: {}}, parameters=parameters,
            result=required("model_name", "outputs"), media=(JSON, BINARY),
            statuses={"202": required("job", "id", "state", "location")},  # with Prefer: respond-async
        ),
    ]  # fmt: skip


def _repository(path: str, name: str, summary: str) -> Endpoint:
    return Endpoint(
        "POST", f"/v2/repository/models/{{model}}/{path}", f"v2_{name}", summary, RETURNS,
        request=RepositoryRequest, parameters=_MODEL,
    )  # fmt: skip


_ROWS = [
    _get("/health/live", "live", "check whether the server is alive", "live", "ready"),
    _get(
        "/health/ready", "ready", "check whether the server is ready: 503 while it starts or stops",
        "live", "ready", statuses=_NOT_READY,
    ),
    _get("", "server", "get name, version and extensions of the server", "name", "version", "extensions"),
    _get("/models", "models", "list the deployed models", "models"),
    _get("/models/stats", "all_statistics", "get the statistics of all models", "model_stats"),
    *_of_a_model("/models/{model}", "model", _MODEL),
    *_of_a_model("/models/{model}/versions/{version}", "version", {**_MODEL, "version": _TEXT}),
    Endpoint(
        "POST", "/v2/repository/index", "v2_index", "list loaded and loadable models", RETURNS, request=IndexRequest
    ),
    _repository("load", "load", "deploy the last deployed model again, or the parameter `path`"),
    _repository("unload", "unload", "undeploy a model"),
]  # fmt: skip


def _scope(row: Endpoint) -> Scope | None:
    """Health checks need no token; what changes a deployment needs more than predictions."""
    if row.path.startswith("/v2/health/"):
        return None
    return Scope.SUBMIT if row.name in ("v2_load", "v2_unload") else Scope.PREDICT


ENDPOINTS = [replace(row, scope=_scope(row)) for row in _ROWS]
