"""POST …:predict, :classify and :regress: from a body to the response."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from tfserve.web.api.v1 import examples_json, image_requests, predict_json
from tfserve.web.api.v1.core import Examination, PredictCall, PredictFormat
from tfserve.web.http.exchange import RequestContext
from tfserve.web.http.offload import is_heavy
from tfserve.web.http.responses import PNG_TYPE, RestResponse
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import Options, PredictionResult


def respond(verb: str, model: Model, options: Options, head: RequestContext, body: bytes) -> Awaitable[RestResponse]:
    """Raises `TFserveError`, `CallerGone`."""
    if verb != "predict":
        examine = partial(examples_json.read, body, model, verb, options)
        return model.run(examine, _write_examination, is_heavy=is_heavy(body))
    if image_requests.is_file(head):
        return _respond_to_files(model, options, head, body)
    read = partial(predict_json.read, body, model, options)
    return model.run(read, partial(_write, model, head), is_heavy=is_heavy(body))


async def _respond_to_files(model: Model, options: Options, head: RequestContext, body: bytes) -> RestResponse:
    prediction = PredictCall(await image_requests.request_of_body(model, head, body, options), PredictFormat.FILES)
    return await model.run(lambda: prediction, partial(_write, model, head), is_heavy=False)


def _write(model: Model, head: RequestContext, prediction: PredictCall, result: PredictionResult) -> RestResponse:
    if prediction.form is not PredictFormat.FILES:
        return RestResponse(predict_json.write(prediction, result))
    content = image_requests.write(model, result, head)
    return RestResponse(content, (PNG_TYPE,)) if content.__class__ is image_requests.Png else RestResponse(content)


def _write_examination(examination: Examination, result: PredictionResult) -> RestResponse:
    return RestResponse(examples_json.write(examination, result))
