"""Requests for the models of this server, as examples in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tfserve.errors import Unsupported
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Signature
from tfserve.web.api.endpoint import JSON
from tfserve.web.api.v1 import request_examples
from tfserve.web.api.v2.json_tensors import BINARY_ONLY
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.waking import SLEEPING
from tfserve.web.snippets.example_values import filled, is_small, v2_body

MAX_MODELS = 20
"""Models with examples. A document with more would be slow to show."""
MODEL = "{model}"

Example = Callable[[Model], Any]
"""The JSON of a request, or None if the model takes none."""


def add_examples(document: dict[str, Any], models: Iterable[Model]) -> None:
    """Adds the request of each model to the endpoints for predictions, and its name to their parameter `model`."""
    shown = {model.name: model for model in models if model.state in ("active", SLEEPING)}
    chosen = list(shown.values())[:MAX_MODELS]
    for path, example in _EXAMPLES.items():
        found = {model.name: example(model) for model in chosen}
        examples = {name: {"value": value} for name, value in found.items() if value is not None}
        if examples:
            media = document["paths"][path]["post"]["requestBody"]["content"][JSON]
            media.pop("example", None)
            media["examples"] = examples
    if chosen:
        _name_models(document, [model.name for model in chosen])


def _name_models(document: dict[str, Any], names: list[str]) -> None:
    for path, operations in document["paths"].items():
        if MODEL in path:
            for operation in operations.values():
                operation["parameters"][0]["examples"] = {name: {"value": name} for name in names}


def _v1(model: Model) -> Any:
    try:
        found = request_examples.example(model, "")
    except Unsupported:
        return None
    return found["json"] if found["url"].endswith(":predict") else None


def _v2(model: Model) -> Any:
    signature = _signature(model)
    if signature is None or any(spec.dtype in BINARY_ONLY or spec.part for spec in signature.inputs):
        return None
    return v2_body(signature)


def _workspace(model: Model) -> Any:
    signature = _signature(model)
    if signature is None:
        return None
    feed = {spec.name: filled(spec) for spec in signature.inputs}
    return {"name": model.name, "fetches": [spec.name for spec in signature.outputs], "feed_dict": feed, "timeout": 10}


def _signature(model: Model) -> Signature | None:
    """The default signature, if an example of it can be written out."""
    signature = model.signatures.get(model.default_signature)
    if signature is None or signature.method or any(spec.dtype not in DTYPES for spec in signature.inputs):
        return None
    return signature if signature.inputs and is_small(signature) else None


_EXAMPLES: dict[str, Example] = {
    "/v1/models/{model}:predict": _v1,
    "/v2/models/{model}/infer": _v2,
    "/predict/": _workspace,
}
