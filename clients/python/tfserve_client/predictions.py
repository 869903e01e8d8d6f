"""Predictions: v2 with arrays, v1 with JSON, and image files."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import httpx

from tfserve_client.core import Core, given, result_in
from tfserve_client.flows import Flow, Request, Work, operation
from tfserve_client.images import image_file
from tfserve_client.models import v1_path, v2_path
from tfserve_client.tensors import has_meant_type, infer_body, read_outputs


class Predictions(Core):
    """Predictions of deployed models, without a job. They are repeated if the connection breaks."""

    @operation
    def infer(
        self, model: str, inputs: Mapping[str, Any], *, outputs: Sequence[str] | None = None,
        version: str | None = None, parameters: Mapping[str, Any] | None = None, timeout: float = 60,
    ) -> Flow[dict[str, Any]]:  # fmt: skip
        """Run a model on arrays, and return its outputs as arrays, by name (v2, binary).

        `inputs` has arrays or lists. Lists, and arrays of float64 and int64, get the type that the model expects; other
        arrays are sent as they are. Without numpy, inputs and outputs are lists. `outputs` selects some.
        """
        are_typed = all(map(has_meant_type, inputs.values()))
        datatypes = {} if are_typed else (yield from self._datatypes(model, version))
        body = yield Work(partial(infer_body, inputs, datatypes, outputs=outputs, parameters=parameters))
        response = yield from self._predict(f"{v2_path(model, version)}/infer", body.content, body.headers, timeout)
        return read_outputs(response)

    @operation
    def infer_json(
        self, model: str, request: Mapping[str, Any], *, version: str | None = None, timeout: float = 60
    ) -> Flow[dict[str, Any]]:
        """Send a request of the Open Inference Protocol as it is, and return the response (v2, JSON)."""
        path = f"{v2_path(model, version)}/infer"
        return self._post(path, request, wait_s=timeout, idempotent=True)

    @operation
    def predict_rows(
        self, model: str, instances: Sequence[Any] | None = None, *, inputs: Any = None,
        signature_name: str | None = None, version: str | None = None, timeout: float = 60,
    ) -> Flow[Any]:  # fmt: skip
        """Run a model on JSON (v1): on rows, which returns one prediction per row, or on the columns `inputs`."""
        fields = given(instances=instances, inputs=inputs, signature_name=signature_name)
        found = yield from self._post(f"{v1_path(model, version)}:predict", fields, wait_s=timeout, idempotent=True)
        return found["predictions" if instances is not None else "outputs"]

    @operation
    def classify(
        self, model: str, examples: Sequence[Mapping[str, Any]], *, context: Mapping[str, Any] | None = None,
        signature_name: str | None = None, version: str | None = None, timeout: float = 60,
    ) -> Flow[list[Any]]:  # fmt: skip
        """Run a signature that takes tf.Example (v1): [label, score] pairs for each example."""
        fields = given(examples=examples, context=context, signature_name=signature_name)
        found = yield from self._post(f"{v1_path(model, version)}:classify", fields, wait_s=timeout, idempotent=True)
        return list(found["results"])

    @operation
    def regress(
        self, model: str, examples: Sequence[Mapping[str, Any]], *, context: Mapping[str, Any] | None = None,
        signature_name: str | None = None, version: str | None = None, timeout: float = 60,
    ) -> Flow[list[Any]]:  # fmt: skip
        """Run a signature that takes tf.Example (v1): a number for each example."""
        fields = given(examples=examples, context=context, signature_name=signature_name)
        found = yield from self._post(f"{v1_path(model, version)}:regress", fields, wait_s=timeout, idempotent=True)
        return list(found["results"])

    @operation
    def predict_images(
        self, model: str, images: Sequence[Any], *, top: int | None = None, min_score: float | None = None,
        version: str | None = None, timeout: float = 60,
    ) -> Flow[list[dict[str, Any]]]:  # fmt: skip
        """Run a model on image files: paths, bytes of files, PIL images, or arrays of uint8. One result per image.

        {label, score, top} from a classifier, {boxes} from a detector, {mask} with the bytes of a PNG from a segmenter.
        """
        files = yield Work(partial(_form, images))
        path = f"{v1_path(model, version)}:predict"
        params = given(top=top, min_score=min_score)
        request = Request("POST", path, params, files=files, wait_s=timeout, idempotent=True)
        return _image_results((yield from self._send(request)))

    def _predict(self, path: str, content: bytes, headers: Mapping[str, str], timeout: float) -> Flow[httpx.Response]:
        return self._send(Request("POST", path, content=content, headers=headers, wait_s=timeout, idempotent=True))

    def _datatypes(self, model: str, version: str | None) -> Flow[dict[str, str]]:
        """The type of each input, from the metadata of the model."""
        found = yield from self._get(v2_path(model, version))
        return {each["name"]: each["datatype"] for each in found["inputs"]}


def _form(images: Sequence[Any]) -> tuple[tuple[str, tuple[str, bytes, str]], ...]:
    files = (image_file(each) for each in images)
    return tuple(("image", (f"image-{number}", data, media)) for number, (data, media) in enumerate(files))


def _image_results(response: httpx.Response) -> list[dict[str, Any]]:
    if response.headers.get("content-type", "").startswith("image/"):
        return [{"mask": bytes(response.content)}]
    found = result_in(response)["predictions"]
    return [_with_mask(each) for each in found]


def _with_mask(prediction: dict[str, Any]) -> dict[str, Any]:
    mask = prediction.get("mask") if isinstance(prediction, dict) else None
    return {**prediction, "mask": base64.b64decode(mask["b64"])} if isinstance(mask, dict) else prediction
