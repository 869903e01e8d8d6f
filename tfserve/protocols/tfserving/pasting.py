"""A request that is ready to be pasted, made from a model's signature: as JSON, for curl, Python and JavaScript.

Values are made up. Where there are many of them, as for a picture, expressions stand for them and `json` is null; a
model that takes image files has `curl_image` too.
"""

from __future__ import annotations

import json
import shlex
from math import prod
from typing import Any
from urllib.parse import quote

from tfserve.errors import Unsupported
from tfserve.protocols.tfserving.pictures import IMAGE_BYTES
from tfserve.serving.models import Model
from tfserve.tensors import DTYPES, Signature, TensorSpec

FEW = 1000
"""So many numbers are written out."""

_LITERALS: dict[str, Any] = {"bool": True, "int": 0, "float": 0.5, "string": "text"}


def example(model: Model, origin: str) -> dict[str, Any]:
    """`origin` is how the client reached this server: http://host:port. Raises `Unsupported`."""
    name = model.default_signature()
    if not model.signatures:
        raise Unsupported(
            f"No request can be shown: {model.name} has no signature, as a TF1 checkpoint often has none. Fetch its"
            " tensors by their names with /predict/."
        )
    if name not in model.signatures:
        name = next(iter(model.signatures))
    signature = model.signatures[name]
    for spec in signature.inputs:
        if spec.dtype not in DTYPES:
            raise Unsupported(f"No request can be made up: input {spec.name!r} takes {spec}, which JSON can't say.")
    verb = signature.method or "predict"
    url = f"{origin}/v1/models/{quote(model.name, safe='')}:{verb}"
    head = {"signature_name": name} if name != model.default_signature() else {}
    few = sum(prod(_shape(spec)) for spec in signature.inputs) <= FEW
    body = {**head, **_body(signature)} if few else None
    python = repr(body) if few else _expression(head, signature, _python)
    told = {
        "method": "POST",
        "url": url,
        "signature_name": name,
        "json": body,
        "curl": _curl(url, body, python),
        "python": _python_program(url, python),
        "javascript": _javascript(url, json.dumps(body) if few else _expression(head, signature, _script)),
    }
    if IMAGE_BYTES in model.signatures:
        told["curl_image"] = f"curl -H 'Content-Type: image/jpeg' --data-binary @picture.jpg {shlex.quote(url)}"
    return told


def _body(signature: Signature) -> dict[str, Any]:
    if signature.method:
        return {"examples": [{"<feature>": 0.5}]}
    values = {spec.name: _filled(spec) for spec in signature.inputs}
    if not _in_rows(signature):
        return {"inputs": next(iter(values.values())) if len(values) == 1 else values}
    if len(values) == 1:
        return {"instances": next(iter(values.values()))}
    return {"instances": [{name: value[0] for name, value in values.items()}]}


def _in_rows(signature: Signature) -> bool:
    return bool(signature.inputs) and all(spec.is_batched for spec in signature.inputs)


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(1 if size < 0 else size for size in spec.shape or ())


def _literal(spec: TensorSpec) -> Any:
    return _LITERALS[DTYPES[spec.dtype].kind]


def _filled(spec: TensorSpec) -> Any:
    if spec.part:
        return _part(spec)
    value = _literal(spec)
    for size in reversed(_shape(spec)):
        value = [value] * size
    return value


def _part(spec: TensorSpec) -> Any:
    """What with the other parts is a tensor with a single value."""
    if spec.part.startswith("row_splits"):
        return [0, 1]
    value: Any = 1 if spec.part.startswith("dense_shape") else 0 if spec.part.startswith("indices") else _literal(spec)
    for size in reversed(_shape(spec)):
        value = [value] * size
    return value


def _expression(head: dict[str, str], signature: Signature, write: Any) -> str:
    """The columns of all inputs as source code."""
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    inputs = ", ".join(f"{json.dumps(spec.name)}: {write(spec)}" for spec in signature.inputs)
    return "{" + ", ".join([*fields, f'"inputs": {{{inputs}}}']) + "}"


def _python(spec: TensorSpec) -> str:
    code = repr(_literal(spec))
    for size in reversed(_shape(spec)):
        code = f"[{code}] * {size}" if size != 1 else f"[{code}]"
    return code


def _script(spec: TensorSpec) -> str:
    code = json.dumps(_literal(spec))
    for size in reversed(_shape(spec)):
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
