"""Example requests generated from a model's signature: JSON, curl, Python and JavaScript.

Values are synthetic. For large inputs such as images, the code uses expressions and `json` is null. Models that take
image files also have `curl_image`.
"""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import quote

from tfserve.errors import Unsupported
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Signature, TensorSpec
from tfserve.web.api.v1.image_requests import IMAGE_BYTES
from tfserve.web.predictions.live_models import Model
from tfserve.web.snippets import example_values


def example(model: Model, origin: str) -> dict[str, Any]:
    """`origin` is the address that the client used: http://host:port. Raises `Unsupported`."""
    name = model.default_signature
    if not model.signatures:
        raise Unsupported(
            f"No example available: {model.name} has no signature (common for TF1 checkpoints). Fetch its"
            " tensors by name with /predict/."
        )
    if name not in model.signatures:
        name = next(iter(model.signatures))
    signature = model.signatures[name]
    for spec in signature.inputs:
        if spec.dtype not in DTYPES:
            raise Unsupported(f"No example available: input {spec.name!r} takes {spec}, which JSON cannot represent.")
    verb = signature.method or "predict"
    url = f"{origin}/v1/models/{quote(model.name, safe='')}:{verb}"
    head = {"signature_name": name} if name != model.default_signature else {}
    few = example_values.is_small(signature)
    body = {**head, **example_values.v1_body(signature)} if few else None
    python = repr(body) if few else _expression(head, signature, _python)
    found = {
        "method": "POST",
        "url": url,
        "signature_name": name,
        "json": body,
        "curl": _curl(url, body, python),
        "python": _python_program(url, python),
        "javascript": _javascript(url, json.dumps(body) if few else _expression(head, signature, _script)),
    }
    if IMAGE_BYTES in model.signatures:
        found["curl_image"] = f"curl -H 'Content-Type: image/jpeg' --data-binary @image.jpg {shlex.quote(url)}"
    return found


def _expression(head: dict[str, str], signature: Signature, write: Any) -> str:
    """The columns of all inputs as source code."""
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    inputs = ", ".join(f"{json.dumps(spec.name)}: {write(spec)}" for spec in signature.inputs)
    return "{" + ", ".join([*fields, f'"inputs": {{{inputs}}}']) + "}"


def _python(spec: TensorSpec) -> str:
    code = repr(example_values.literal(spec))
    for size in reversed(example_values.shape(spec)):
        code = f"[{code}] * {size}" if size != 1 else f"[{code}]"
    return code


def _script(spec: TensorSpec) -> str:
    code = json.dumps(example_values.literal(spec))
    for size in reversed(example_values.shape(spec)):
        code = f"Array({size}).fill({code})" if size != 1 else f"[{code}]"
    return code


def _curl(url: str, body: dict[str, Any] | None, python: str) -> str:
    if body is not None:
        return f"curl -d {shlex.quote(json.dumps(body))} {shlex.quote(url)}"
    program = f"import json; print(json.dumps({python}))"
    return f"python3 -c {shlex.quote(program)} | curl -d @- {shlex.quote(url)}"


def _python_program(url: str, body: str) -> str:
    return (
        "import json, urllib.request\n\n"
        f"body = {body}\n"
        f"with urllib.request.urlopen({url!r}, json.dumps(body).encode()) as answer:\n"
        "    print(json.load(answer))\n"
    )


def _javascript(url: str, body: str) -> str:
    return (
        f"const body = {body};\n"
        f'const answer = await fetch({json.dumps(url)}, {{method: "POST", body: JSON.stringify(body)}});\n'
        "console.log(await answer.json());\n"
    )
