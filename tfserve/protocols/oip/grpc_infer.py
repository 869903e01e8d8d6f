"""ModelInfer and ModelStreamInfer: a request of v2 becomes a prediction, its result an answer in raw bytes."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from tfserve.errors import Invalid, TFserveError
from tfserve.protocols.oip import classification
from tfserve.protocols.oip.grpc_tensors import datatype_of, read_inputs, to_raw
from tfserve.protocols.oip.outputs import labels
from tfserve.protocols.protos.oip_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from tfserve.serving import inputs
from tfserve.serving.models import Model, Models, Request, Result
from tfserve.serving.rpc import Call
from tfserve.tensors import Signature

PROTOCOL = "v2-grpc"
LEAST_URGENT = 7
#: Requests of one stream that are computed at a time.
STREAM_WINDOW = 64

Parameters = Mapping[str, InferParameter]
Wanted = ModelInferRequest.InferRequestedOutputTensor


def model_of(models: Models, name: str, version: str) -> Model:
    """The version that serves when `version` is empty. Raises `Invalid`, `NoSuchModel`, `NoSuchVersion`."""
    if not name.isascii():  # names are kept in one spelling, however they are typed
        name = unicodedata.normalize("NFC", name)
    if not version:
        return models.get(name)
    if not (version.isascii() and version.isdigit()):
        raise Invalid(f"A version is a number; {version[:40]!r} was given for model {name!r}.")
    return models.get(name, int(version))


@dataclass(frozen=True)
class Infer:
    """Answers the requests of a call one by one, or as a stream in their order."""

    models: Models

    async def one(self, request: ModelInferRequest, call: Call) -> ModelInferResponse:
        model = model_of(self.models, request.model_name, request.model_version)
        parameters: Parameters = request.parameters
        name = (_text(parameters, "signature") if parameters else "") or model.default_signature()
        signature = model.signature(name)
        wanted = [each.name for each in request.outputs]
        if wanted:
            _check_outputs(wanted, signature)
        question = Request(
            inputs=read_inputs(request, signature.inputs),
            signature=name,
            outputs=wanted,
            urgency=_urgency(parameters, call),
            timeout_s=_timeout_s(parameters, call.timeout_s) if parameters else call.timeout_s,
            protocol=PROTOCOL,
            pinned=bool(request.model_version),
        )
        return _answer(request, await model.predict(question), signature, model)

    async def stream(
        self, requests: AsyncIterator[ModelInferRequest], call: Call
    ) -> AsyncGenerator[ModelStreamInferResponse, None]:
        """Answers in the order of the requests; several are computed meanwhile. An error ends only its own request."""
        answers: asyncio.Queue[asyncio.Task[ModelStreamInferResponse] | None] = asyncio.Queue(STREAM_WINDOW)
        reader = asyncio.create_task(self._read(requests, call, answers))
        try:
            while (answer := await answers.get()) is not None:
                yield await answer
            await reader
        finally:
            reader.cancel()
            while not answers.empty():
                if (left := answers.get_nowait()) is not None:
                    left.cancel()

    async def _read(
        self,
        requests: AsyncIterator[ModelInferRequest],
        call: Call,
        answers: asyncio.Queue[asyncio.Task[ModelStreamInferResponse] | None],
    ) -> None:
        try:
            async for request in requests:
                answer = asyncio.create_task(self._one_of_stream(request, call))
                try:
                    await answers.put(answer)
                except asyncio.CancelledError:
                    answer.cancel()
                    raise
        finally:
            await answers.put(None)

    async def _one_of_stream(self, request: ModelInferRequest, call: Call) -> ModelStreamInferResponse:
        try:
            answer = await self.one(request, call)
        except TFserveError as error:
            # The id tells the client which of its requests this is about.
            return ModelStreamInferResponse(
                error_message=error.message, infer_response=ModelInferResponse(id=request.id)
            )
        if _flag(request.parameters, "triton_enable_empty_final_response"):
            answer.parameters["triton_final_response"].bool_param = True
        return ModelStreamInferResponse(infer_response=answer)


def _answer(request: ModelInferRequest, result: Result, signature: Signature, model: Model) -> ModelInferResponse:
    answer = ModelInferResponse(model_name=request.model_name, model_version=str(result.version), id=request.id)
    arrays = result.outputs
    for each in request.outputs:
        if each.parameters and (count := _classes(each)):
            spec = inputs.find(each.name, signature.outputs, "output")
            arrays[each.name] = classification.best(arrays[each.name], spec, count, labels(model))
    for name, array in arrays.items():
        answer.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        answer.raw_output_contents.append(to_raw(array))
    return answer


def _check_outputs(wanted: Sequence[str], signature: Signature) -> None:
    inputs.refuse_repeated(wanted, "output")
    for name in wanted:
        inputs.find(name, signature.outputs, "output")


# --- parameters


def _urgency(parameters: Parameters, call: Call) -> int:
    """Triton's parameter counts from 1, the first; where it is 0, or not given, the metadata count."""
    priority = _number(parameters, "priority") if parameters else 0
    return min(priority - 1, LEAST_URGENT) if priority else call.urgency


def _timeout_s(parameters: Parameters, left_s: float | None) -> float | None:
    """`timeout` is in microseconds; the deadline of the call holds as well."""
    timeout_us = _number(parameters, "timeout")
    if not timeout_us:
        return left_s
    return timeout_us / 1e6 if left_s is None else min(timeout_us / 1e6, left_s)


def _number(parameters: Parameters, name: str) -> int:
    """A whole number of 0 or more, 0 when it is not given. Raises `Invalid`."""
    if name not in parameters:
        return 0
    parameter = parameters[name]
    field = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, field) if field else 0
    if field not in ("int64_param", "uint64_param") or value < 0:
        raise Invalid(f"The parameter {name!r} must be a whole number of 0 or more; {str(value)[:40]!r} was given.")
    return int(value)


def _text(parameters: Parameters, name: str) -> str:
    return parameters[name].string_param if name in parameters else ""


def _flag(parameters: Parameters, name: str) -> bool:
    return name in parameters and parameters[name].bool_param


# --- classification


def _classes(wanted: Wanted) -> int:
    """How many classes the client wants instead of the numbers; 0 for the numbers."""
    return _number(wanted.parameters, "classification")
