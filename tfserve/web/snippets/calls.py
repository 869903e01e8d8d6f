"""The requests to a model that the snippets show: v1, v2, and a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Signature
from tfserve.web.predictions.live_models import Model
from tfserve.web.snippets import example_values
from tfserve.web.snippets.languages import HttpCall, Snippet, snippets

JSON = "application/json"
REQUEST_FILE, IMAGE_FILE, MASK_FILE = "request.json", "image.jpg", "mask.png"
IMAGE_BYTES = "image_bytes"
MAX_BODY_CHARS = 400
"""A longer example is a file to download: the programs in all languages repeat it."""


class CallUsage(NamedTuple):
    """One way of calling a model. `needs_example` if its body is a file that has to be downloaded first."""

    id: str
    name: str
    help: str
    needs_example: bool
    snippets: list[Snippet]


def usages(model: Model, origin: str) -> list[CallUsage]:
    """`origin` is the address that the client used. Empty for a model without a signature that JSON can express."""
    _, signature = chosen_signature(model)
    found = []
    if signature is not None:
        first = "The JSON protocol of TensorFlow Serving."
        second = "The Open Inference Protocol of KServe and Triton."
        found.append(_json_usage("v1", first, _v1_url(model, signature, origin), _short(signature, v1_example, model)))
        found.append(_json_usage("v2", second, _v2_url(model, origin), _short(signature, v2_example, model)))
    if IMAGE_BYTES in model.signatures:
        found.append(_image_usage(model, origin))
    elif found:
        call = HttpCall(_v1_url(model, signature, origin), JSON, file=REQUEST_FILE)
        found.append(CallUsage("file", "File", "A request that is stored in a file.", True, snippets(call)))
    return found


def chosen_signature(model: Model) -> tuple[str, Signature | None]:
    """The default signature or the first one; None if the model has none, or one that JSON can't express."""
    name = model.default_signature
    if name not in model.signatures:
        name = next(iter(model.signatures), "")
    signature = model.signatures.get(name)
    is_plain = signature is not None and all(spec.dtype in DTYPES for spec in signature.inputs)
    return name, signature if is_plain else None


def v1_example(model: Model) -> str:
    """The body of a v1 request, as JSON."""
    name, signature = chosen_signature(model)
    if signature is None:
        return "{}"
    head = {"signature_name": name} if name != model.default_signature else {}
    return json.dumps({**head, **example_values.v1_body(signature)})


def v2_example(model: Model) -> str:
    """The body of a v2 request, as JSON."""
    name, signature = chosen_signature(model)
    if signature is None:
        return "{}"
    head = {"parameters": {"signature": name}} if name != model.default_signature else {}
    return json.dumps({**head, **example_values.v2_body(signature)})


def _short(signature: Signature, example: Callable[[Model], str], model: Model) -> str:
    """The example, which each program repeats; empty if it is long."""
    body = example(model) if example_values.is_small(signature) else ""
    return body if len(body) <= MAX_BODY_CHARS else ""


def _json_usage(name: str, help_: str, url: str, body: str) -> CallUsage:
    """Without a body, the programs send one from a file."""
    call = HttpCall(url, JSON, body=body) if body else HttpCall(url, JSON, file=REQUEST_FILE)
    return CallUsage(name, name, help_, not body, snippets(call))


def _image_usage(model: Model, origin: str) -> CallUsage:
    url = f"{origin}/v1/models/{quote(model.name, safe='')}:predict"
    is_mask = any(spec.name == "mask" for spec in model.signatures[IMAGE_BYTES].outputs)
    call = HttpCall(url, "image/jpeg", file=IMAGE_FILE, saves=MASK_FILE if is_mask else "")
    result = " The mask arrives as a PNG file." if is_mask else ""
    return CallUsage("file", "Image file", f"Any JPEG, PNG, GIF, BMP or WebP file.{result}", False, snippets(call))


def _v1_url(model: Model, signature: Signature | None, origin: str) -> str:
    verb = (signature.method if signature is not None else "") or "predict"
    return f"{origin}/v1/models/{quote(model.name, safe='')}:{verb}"


def _v2_url(model: Model, origin: str) -> str:
    return f"{origin}/v2/models/{quote(model.name, safe='')}/infer"
