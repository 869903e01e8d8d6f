"""The endpoints of version 2, for the API guide and the OpenAPI document. `rest.py` serves them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tfserve.access.principals import Scope
from tfserve.web.api.endpoint import BINARY, BYTES, JSON, Endpoint, Schema, Tag
from tfserve.web.api.v2 import results
from tfserve.web.api.v2.requests import IndexRequest, InferRequest, RepositoryRequest
from tfserve.web.api.workspace.job_json import DeferredJob

RETURNS = "as specified by the Open Inference Protocol"

_TEXT: Schema = {"type": "string", "minLength": 1}
_MODEL = {"model": _TEXT}
_LENGTH: dict[str, Schema] = {
    "Inference-Header-Content-Length": {
        "type": "integer",
        "minimum": 0,
        "description": "length in bytes of the JSON that a binary body begins with",
    }
}
_X = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}


def _get(path: str, name: str, summary: str, result: Any, **fields: Any) -> Endpoint:
    return Endpoint("GET", f"/v2{path}", name, summary, RETURNS, result=result, **fields)


def _of_a_model(prefix: str, name: str, parameters: dict[str, Schema]) -> list[Endpoint]:
    def get(path: str, name: str, summary: str, result: Any) -> Endpoint:
        return _get(prefix + path, name, summary, result, parameters=parameters)

    return [
        get("", f"get_v2_{name}", "get the inputs and outputs of a model", results.ModelInfo),
        get("/ready", f"check_v2_{name}", "check whether a model is ready", results.ModelReady),
        get("/config", f"get_v2_{name}_config", "get the Triton configuration of a model", dict[str, Any]),
        get("/stats", f"get_v2_{name}_statistics", "get the statistics of a model", results.Statistics),
        Endpoint(
            "POST", f"/v2{prefix}/infer", f"infer_v2_{name}", "run a model", RETURNS,
            request=InferRequest, example={"inputs": [_X]}, needs_body=True, accepts={BYTES: BINARY},
            parameters=parameters, headers=_LENGTH, result=results.InferResponse, media=(JSON, BYTES),
            statuses={"202": DeferredJob},  # with Prefer: respond-async
        ),
    ]  # fmt: skip


def _repository(path: str, name: str, summary: str) -> Endpoint:
    return Endpoint(
        "POST", f"/v2/repository/models/{{model}}/{path}", name, summary, RETURNS,
        request=RepositoryRequest, example={}, parameters=_MODEL, result=results.Nothing,
    )  # fmt: skip


_ROWS = [
    _get("/health/live", "check_v2_live", "check whether the server is alive", results.Health),
    _get(
        "/health/ready", "check_v2_ready", "check whether the server is ready: 503 while it starts or stops",
        results.Health, statuses={"503": results.Health},
    ),
    _get("", "get_v2_server", "get name, version and extensions of the server", results.ServerMetadata),
    _get("/models", "list_v2_models", "list the deployed models", results.ModelNames),
    _get("/models/stats", "list_v2_statistics", "get the statistics of all models", results.Statistics),
    *_of_a_model("/models/{model}", "model", _MODEL),
    *_of_a_model("/models/{model}/versions/{version}", "version", {**_MODEL, "version": _TEXT}),
    Endpoint(
        "POST", "/v2/repository/index", "list_v2_repository", "list loaded and loadable models", RETURNS,
        request=IndexRequest, example={"ready": True}, result=list[results.RepositoryModel],
    ),
    _repository("load", "load_v2_model", "deploy the last deployed model again, or the parameter `path`"),
    _repository("unload", "unload_v2_model", "undeploy a model"),
]  # fmt: skip


def _scope(row: Endpoint) -> Scope | None:
    """Health checks need no token; what changes a deployment needs more than predictions."""
    if row.path.startswith("/v2/health/"):
        return None
    return Scope.SUBMIT if row.name in ("load_v2_model", "unload_v2_model") else Scope.PREDICT


ENDPOINTS = [replace(row, scope=_scope(row), tag=Tag.V2) for row in _ROWS]
