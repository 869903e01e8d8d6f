"""Predictions on image files, for models with a signature `image_bytes`.

    image/jpeg, image/png, …   the body is one file
    multipart/form-data        each part with a file name is one
    {"instances": [{"b64": …}]}   as JSON, if the default signature takes numbers

A classification returns `{"predictions": [{"label", "score", "top": [{"label", "score"}, …]}]}` with the `?top=k` (5)
best classes, and their `display` names if the model has them. A segmentation returns one mask as a PNG, or several as
`{"predictions": [{"mask": {"b64"}, "height", "width"}]}`.
A detection returns `{"predictions": [{"boxes": [{"box": [left, top, right, bottom], "label", "score"}, …]}]}`, with
`display` names as well, best first, in pixels of the file, filtered by `?min_score=` (default: chosen by the training)
and `?top=k`.
"""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import numpy as np
import orjson

from tfserve import written_numbers
from tfserve.errors import Invalid
from tfserve.tensors.casting import decode_b64
from tfserve.tensors.specs import Array
from tfserve.web.http import multipart
from tfserve.web.http.exchange import RequestContext
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import Options, PredictionRequest, PredictionResult

IMAGE_BYTES = "image_bytes"
TOP = 5
MAX_TOP = 1000
MAX_FILES = 1000
TYPES = (b"image/", b"multipart/")


class Png(bytes):
    """A response that is an image."""


def is_file(head: RequestContext) -> bool:
    """Whether the body is an image file or a form with files."""
    return head.headers.get(b"content-type", b"").lower().startswith(TYPES)


def are_files(document: dict[str, Any], model: Model) -> bool:
    """Whether the JSON rows are image files for a model whose default signature takes numbers."""
    if IMAGE_BYTES not in model.signatures or document.get("signature_name"):
        return False
    rows = document.get("instances")
    default = model.signatures.get(model.default_signature)
    if default is not None and any(spec.dtype == "string" for spec in default.inputs):
        return False
    return rows.__class__ is list and bool(rows) and all(_is_b64(row) for row in rows)


def request_of_rows(rows: list[dict[str, str]], options: Options) -> PredictionRequest:
    """Raises `Invalid`."""
    return _request([_decoded(n, row["b64"]) for n, row in enumerate(rows)], options)


async def request_of_body(model: Model, head: RequestContext, body: bytes, options: Options) -> PredictionRequest:
    """The prediction for a body that is not JSON. Raises `Invalid`."""
    if IMAGE_BYTES not in model.signatures:
        raise Invalid(
            f"Model {model.name!r} does not take image files (no signature {IMAGE_BYTES!r}). Deploy it with `image`,"
            ' such as {"height": 224, "width": 224}, or send numbers as JSON.'
        )
    content_type = head.headers[b"content-type"].decode("latin-1")
    files = [body]
    if multipart.is_multipart(content_type):
        form = await multipart.read(body, content_type, max_fields=MAX_FILES, max_files=MAX_FILES)
        files = [content for _, content in form.files]
    if not files or not all(files):
        raise Invalid("The request has no image. Send an image file as the body, or a form with at least one file.")
    return _request(files, options)


def write(model: Model, result: PredictionResult, head: RequestContext) -> bytes:
    """The response: JSON, or one mask as a `Png`. Raises `Invalid`."""
    if "mask" in result.outputs:
        return _write_masks(result)
    if "boxes" in result.outputs:
        return _write_boxes(model, result, head)
    chances = result.outputs.get("probabilities")
    if chances is None or chances.ndim != 2:
        raise Invalid(
            f"The outputs of {IMAGE_BYTES!r} are {list(result.outputs)}; expected 'probabilities', 'mask' or 'boxes'."
        )
    names = LabelNames.of_model(model)
    top = min(_top(head), chances.shape[1])
    own = result.outputs.get("label")
    rows = [_classified(row, names, top, own[n] if own is not None else None) for n, row in enumerate(chances)]
    return orjson.dumps({"predictions": rows}, option=orjson.OPT_SERIALIZE_NUMPY)


class LabelNames(NamedTuple):
    """The labels, and their display names if the model has them."""

    labels: list[str]
    display: list[str]

    @classmethod
    def of_model(cls, model: Model) -> LabelNames:
        image = model.info.image or {}
        return cls(image.get("labels") or [], image.get("display") or [])

    def of_label(self, label: str) -> dict[str, str]:
        """A label that the model has computed itself."""
        return self.of(self.labels.index(label)) if label in self.labels else {"label": label}

    def of(self, number: int) -> dict[str, str]:
        label = {"label": self.labels[number] if number < len(self.labels) else str(number)}
        return label | ({"display": self.display[number]} if number < len(self.display) else {})


def _classified(chances: Array, names: LabelNames, top: int, own: bytes | None) -> dict[str, Any]:
    """The best classes of one image. `own` is the model's own name of the best one."""
    order = np.argsort(-chances, kind="stable")[:top].tolist()
    best = [{**names.of(n), "score": chances[n]} for n in order]
    if own is not None and best:
        best[0]["label"] = own.decode(errors="replace")
    return {**best[0], "top": best} if best else {"label": "", "score": 0.0, "top": []}


def _write_boxes(model: Model, result: PredictionResult, head: RequestContext) -> bytes:
    names = ("boxes", "scores", "labels", "count")
    if missing := [name for name in names if name not in result.outputs]:
        raise Invalid(f"The outputs of {IMAGE_BYTES!r} are {list(result.outputs)}: {', '.join(missing)} missing.")
    most = _top(head, MAX_TOP)
    least = _min_score(head, float((model.info.image or {}).get("min_score", 0.0)))
    known, rows = LabelNames.of_model(model), []
    for boxes, scores, labels, count in zip(*(result.outputs[name] for name in names), strict=True):
        kept = [n for n in range(min(int(count), most)) if scores[n] >= least]
        rows.append({
            "boxes": [
                {"box": boxes[n].round(2), **known.of_label(labels[n].decode(errors="replace")), "score": scores[n]}
                for n in kept
            ]
        })  # fmt: skip
    return orjson.dumps({"predictions": rows}, option=orjson.OPT_SERIALIZE_NUMPY)


def _write_masks(result: PredictionResult) -> bytes:
    masks = result.outputs["mask"]
    sizes = result.outputs.get("size", np.array([mask.shape for mask in masks]))
    pictures = [_png(mask[:height, :width]) for mask, (height, width) in zip(masks, sizes.tolist(), strict=True)]
    if len(pictures) == 1:
        return Png(pictures[0])
    rows = [
        {"mask": {"b64": base64.b64encode(picture).decode()}, "height": height, "width": width}
        for picture, (height, width) in zip(pictures, sizes.tolist(), strict=True)
    ]
    return orjson.dumps({"predictions": rows})


def _png(mask: Array) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask.astype(np.uint8))).save(file, "PNG")
    return file.getvalue()


def _request(files: list[bytes], options: Options) -> PredictionRequest:
    array = np.empty(len(files), object)
    array[:] = files
    return options.request({IMAGE_BYTES: array}, IMAGE_BYTES)


def _is_b64(row: Any) -> bool:
    return row.__class__ is dict and row.keys() == {"b64"} and isinstance(row["b64"], str)


def _decoded(number: int, text: str) -> bytes:
    return decode_b64(text, f"Image {number}")


def _min_score(head: RequestContext, default: float) -> float:
    given = parse_qs(head.query.decode("latin-1")).get("min_score", [str(default)])[-1]
    value = written_numbers.finite(given)
    if value is None or not 0 <= value <= 1:
        raise Invalid(f"min_score must be a number from 0 to 1, got {given[:20]!r}.")
    return value


def _top(head: RequestContext, default: int = TOP) -> int:
    given = parse_qs(head.query.decode("latin-1")).get("top", [str(default)])[-1]
    if not (given.isascii() and given.isdigit() and len(given) < 20 and 1 <= int(given) <= MAX_TOP):
        raise Invalid(f"top must be an integer from 1 to {MAX_TOP}, got {given[:20]!r}.")
    return int(given)
