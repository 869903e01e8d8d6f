"""ModelInfer and ModelStreamInfer: a request of v2 becomes a prediction, its result an answer in raw bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tfserve.errors import Invalid, TFserveError
from tfserve.http.offload import are_heavy, offloaded
from tfserve.protocols.oip import classification, outputs, wishes
from tfserve.protocols.oip.grpc_tensors import datatype_of, read_inputs, to_raw
from tfserve.protocols.oip.inputs import find
from tfserve.protocols.oip.wishes import model_of
from tfserve.protocols.protos.oip_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from tfserve.serving import inputs
from tfserve.serving.models import Model, Models
from tfserve.serving.prediction import Request, Result
from tfserve.serving.rpc import Call
from tfserve.tensors import Signature

PROTOCOL = "v2-grpc"
#: Requests of one stream that are computed at a time.
STREAM_WINDOW = 64

Parameters = Mapping[str, InferParameter]
Wanted = ModelInferRequest.InferRequestedOutputTensor


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
        read = partial(read_inputs, request, signature.inputs)
        question = Request(
            inputs=await offloaded(read) if call.is_heavy else read(),
            signature=name,
            outputs=wanted,
            urgency=_urgency(parameters, call),
            timeout_s=_timeout_s(parameters, call.timeout_s) if parameters else call.timeout_s,
            protocol=PROTOCOL,
            pinned=bool(request.model_version),
        )
        result = await model.predict(question)
        write = partial(_answer, request, result, signature, model)
        return await offloaded(write) if are_heavy(result.outputs.values()) else write()

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
            spec = find(each.name, signature.outputs, "output")
            arrays[each.name] = classification.best(arrays[each.name], spec, count, outputs.labels(model))
    for name, array in arrays.items():
        answer.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        answer.raw_output_contents.append(to_raw(array))
    return answer


def _check_outputs(wanted: Sequence[str], signature: Signature) -> None:
    inputs.refuse_repeated(wanted, "output")
    for name in wanted:
        find(name, signature.outputs, "output")


# --- parameters


def _urgency(parameters: Parameters, call: Call) -> int:
    """The parameter, or where it is 0 or not given the metadata."""
    found = wishes.urgency(_number(parameters, "priority")) if parameters else None
    return call.urgency if found is None else found


def _timeout_s(parameters: Parameters, left_s: float | None) -> float | None:
    """The parameter; the deadline of the call holds as well."""
    timeout_s = wishes.timeout_s(_number(parameters, "timeout"))
    return left_s if timeout_s is None else timeout_s if left_s is None else min(timeout_s, left_s)


def _number(parameters: Parameters, name: str) -> int:
    """A whole number, 0 when it is not given. Raises `Invalid`."""
    if name not in parameters:
        return 0
    parameter = parameters[name]
    field = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, field) if field else 0
    if field not in ("int64_param", "uint64_param"):
        raise Invalid(f"The parameter {name!r} must be a whole number, {str(value)[:40]!r} was given.")
    return int(value)


def _text(parameters: Parameters, name: str) -> str:
    return parameters[name].string_param if name in parameters else ""


def _flag(parameters: Parameters, name: str) -> bool:
    return name in parameters and parameters[name].bool_param


# --- classification


def _classes(wanted: Wanted) -> int:
    """How many classes the client wants instead of the numbers; 0 for the numbers."""
    return outputs.checked_classes(_number(wanted.parameters, "classification"), wanted.name)
