"""Computes rows of a batch as `:predict` of version 1 would, and finds out which row is to blame for an error."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from functools import partial

import orjson
from msgspec.structs import replace

from tfserve.errors import Invalid, NotFound, TFserveError, Unavailable
from tfserve.ipc.messages import BatchJob
from tfserve.web.api.v1 import core, image_requests, predict_json
from tfserve.web.api.v1.core import PredictCall, PredictFormat
from tfserve.web.api.v1.image_requests import Png
from tfserve.web.api.v1.predict_json import PROTOCOL
from tfserve.web.batch.inputs import InputRow
from tfserve.web.batch.outputs import ComputedRow
from tfserve.web.batch.patience import MAX_LOSSES, with_patience
from tfserve.web.http.exchange import RequestContext
from tfserve.web.http.offload import is_heavy
from tfserve.web.predictions.live_models import LiveModels, Model, PredictionLost
from tfserve.web.predictions.request import Options, PredictionResult

PATIENCE_S = 3600.0
"""Maximum time that a batch waits for a model that is loading or restarting."""
LEAST_URGENT = 7
_NO_HEAD = RequestContext({})
_START, _END = b'{"predictions":[', b"]}"


class ModelGone(Unavailable):
    """The batch can't continue: {reason}"""


class RowPredictions:
    """Computes groups of rows, several at a time."""

    def __init__(self, models: LiveModels, job: BatchJob) -> None:
        self._models = models
        self._job = job
        self._tail = b"]}" if job.signature is None else b'],"signature_name":' + orjson.dumps(job.signature) + b"}"
        #: held for rows that were lost with the model's process, so that only the one to blame is lost again
        self._alone = asyncio.Lock()

    async def model(self) -> Model:
        """The model, once its signatures are known. Raises `NotFound`, `Unavailable`."""

        async def loaded(model: Model) -> Model:
            if not model.signatures:
                raise Unavailable(f"The model {model.name!r} is {model.state}.")
            return model

        return await with_patience(self._models, self._find, loaded, PATIENCE_S)

    async def compute(self, rows: Sequence[InputRow]) -> list[ComputedRow]:
        """The predictions of the rows, or the error of each. Raises `ModelGone` if no row can be computed any more."""
        good = [row for row in rows if not row.problem]
        computed = iter(await self._computed(good) if good else ())
        return [ComputedRow(row, error=row.problem) if row.problem else next(computed) for row in rows]

    async def _computed(self, rows: Sequence[InputRow]) -> list[ComputedRow]:
        try:
            texts = await self._predict(rows)
        except (NotFound, Unavailable) as error:
            if not isinstance(error, PredictionLost):
                raise ModelGone(reason=error.message) from error
            return await self._one_by_one(rows, error)
        except TFserveError as error:
            return await self._one_by_one(rows, error)
        return [ComputedRow(row, text) for row, text in zip(rows, texts, strict=True)]

    async def _one_by_one(self, rows: Sequence[InputRow], error: TFserveError) -> list[ComputedRow]:
        if len(rows) == 1:
            return [ComputedRow(rows[0], error=error.message)]
        return [done for row in rows for done in await self._computed([row])]

    async def _predict(self, rows: Sequence[InputRow]) -> list[bytes]:
        """The JSON of each prediction."""
        compute = partial(self._ask, rows)
        try:
            return await with_patience(self._models, self._find, compute, PATIENCE_S, max_losses=1)
        except PredictionLost:
            if self._find().info.is_stateful:
                raise
            async with self._alone:
                return await with_patience(self._models, self._find, compute, PATIENCE_S, max_losses=MAX_LOSSES)

    async def _ask(self, rows: Sequence[InputRow], model: Model) -> list[bytes]:
        body = b'{"instances":[' + b",".join(row.json for row in rows) + self._tail
        options = Options(PROTOCOL, LEAST_URGENT, None, self._job.version is not None)
        read = partial(predict_json.read, body, model, options)
        return await model.run(read, partial(_texts, model, len(rows)), is_heavy=is_heavy(body))

    def _find(self) -> Model:
        address = core.Address("predict", self._job.model, self._job.version)
        return core.find(self._models, address)


def _texts(model: Model, count: int, prediction: PredictCall, result: PredictionResult) -> list[bytes]:
    """The JSON of each row's prediction. Raises `Invalid` if the outputs do not have one row for each."""
    if prediction.form is PredictFormat.FILES:
        text = image_requests.write(model, result, _NO_HEAD)
        if isinstance(text, Png):
            return [orjson.dumps({"mask": {"b64": base64.b64encode(text).decode()}})]
        return [orjson.dumps(each) for each in orjson.loads(text)["predictions"]]
    if count == 1:
        return [_only(predict_json.write(prediction, result))]
    for name, array in result.outputs.items():
        if array.shape[:1] != (count,):
            raise Invalid(
                f"Output {name!r} has shape {list(array.shape)} for {count} rows, so they can't be computed together:"
                " use batch_size 1."
            )
    return [_only(predict_json.write(_row(prediction, n), _result_row(result, n))) for n in range(count)]


def _row(prediction: PredictCall, n: int) -> PredictCall:
    inputs = {name: array[n : n + 1] for name, array in prediction.request.inputs.items()}
    return replace(prediction, request=replace(prediction.request, inputs=inputs))


def _result_row(result: PredictionResult, n: int) -> PredictionResult:
    return PredictionResult({name: array[n : n + 1] for name, array in result.outputs.items()}, result.version)


def _only(text: bytes) -> bytes:
    """The only element of {"predictions": […]}."""
    return text[len(_START) : -len(_END)]
