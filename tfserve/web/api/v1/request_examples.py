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
from tfserve.web.api.example_values import are_few, filled, literal, shape
from tfserve.web.api.v1.image_requests import IMAGE_BYTES
from tfserve.web.predictions.live_models import Model


def example(model: Model, origin: str) -> dict[str, Any]:
    """`origin` is the address that the client used: http://host:port. Raises `Unsupported`."""
    name = model.default_signature()
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
    head = {"signature_name": name} if name != model.default_signature() else {}
    few = are_few(signature.inputs)
    body = {**head, **_body(signature)} if few else None
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


def _body(signature: Signature) -> dict[str, Any]:
    if signature.method:
        return {"examples": [{"<feature>": 0.5}]}
    values = {spec.name: filled(spec) for spec in signature.inputs}
    if not _in_rows(signature):
        return {"inputs": next(iter(values.values())) if len(values) == 1 else values}
    if len(values) == 1:
        return {"instances": next(iter(values.values()))}
    return {"instances": [{name: value[0] for name, value in values.items()}]}


def _in_rows(signature: Signature) -> bool:
    return bool(signature.inputs) and all(spec.is_batched for spec in signature.inputs)


def _expression(head: dict[str, str], signature: Signature, write: Any) -> str:
    """The columns of all inputs as source code."""
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    inputs = ", ".join(f"{json.dumps(spec.name)}: {write(spec)}" for spec in signature.inputs)
    return "{" + ", ".join([*fields, f'"inputs": {{{inputs}}}']) + "}"


def _python(spec: TensorSpec) -> str:
    code = repr(literal(spec))
    for size in reversed(shape(spec)):
        code = f"[{code}] * {size}" if size != 1 else f"[{code}]"
    return code


def _script(spec: TensorSpec) -> str:
    code = json.dumps(literal(spec))
    for size in reversed(shape(spec)):
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
