"""ModelInfer and ModelStreamInfer: from messages to an `InferRequest`, and from the outputs to raw bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tfserve.errors import Invalid, TFserveError
from tfserve.tensors.specs import Array, Shape, TensorSpec
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.api.v2 import raw_tensors, typed_contents
from tfserve.web.api.v2.core import Inference, model_of, output_tensors, prepare
from tfserve.web.api.v2.requests import InferRequest, InputTensor, Parameters, RequestedOutput
from tfserve.web.predictions.live_models import LiveModels, Model
from tfserve.web.predictions.request import Options, PredictionResult
from tfserve.web.rpc import Call

PROTOCOL = "v2-grpc"
#: Maximum concurrent requests of one stream.
STREAM_WINDOW = 64


@dataclass(frozen=True)
class Infer:
    """Handles a single request, or a stream of requests in order."""

    models: LiveModels

    async def one(self, request: v2.ModelInferRequest, call: Call) -> v2.ModelInferResponse:
        version = request.model_version
        model = model_of(self.models, request.model_name, version or None)
        options = Options(PROTOCOL, call.urgency, call.timeout_s, bool(version))
        read_request = partial(read, model, request, options)
        return await model.run(read_request, partial(_write, model), is_heavy=call.is_heavy)

    async def stream(
        self, requests: AsyncIterator[v2.ModelInferRequest], call: Call
    ) -> AsyncGenerator[v2.ModelStreamInferResponse, None]:
        """Responds in the order of the requests, several of which run concurrently. An error fails only one request."""
        responses: asyncio.Queue[asyncio.Task[v2.ModelStreamInferResponse] | None] = asyncio.Queue(STREAM_WINDOW)
        reader = asyncio.create_task(self._read(requests, call, responses))
        try:
            while (response := await responses.get()) is not None:
                yield await response
            await reader
        finally:
            reader.cancel()
            while not responses.empty():
                if (left := responses.get_nowait()) is not None:
                    left.cancel()

    async def _read(
        self,
        requests: AsyncIterator[v2.ModelInferRequest],
        call: Call,
        responses: asyncio.Queue[asyncio.Task[v2.ModelStreamInferResponse] | None],
    ) -> None:
        try:
            async for request in requests:
                response = asyncio.create_task(self._one_of_stream(request, call))
                try:
                    await responses.put(response)
                except asyncio.CancelledError:
                    response.cancel()
                    raise
        finally:
            await responses.put(None)

    async def _one_of_stream(self, request: v2.ModelInferRequest, call: Call) -> v2.ModelStreamInferResponse:
        try:
            response = await self.one(request, call)
        except TFserveError as error:
            # The id identifies the request that the error belongs to.
            return v2.ModelStreamInferResponse(
                error_message=error.message, infer_response=v2.ModelInferResponse(id=request.id)
            )
        name = "triton_enable_empty_final_response"
        if name in request.parameters and request.parameters[name].bool_param:
            response.parameters["triton_final_response"].bool_param = True
        return v2.ModelStreamInferResponse(infer_response=response)


# --- messages


def read(model: Model, request: v2.ModelInferRequest, options: Options) -> Inference:
    """Raises `Invalid`, `Unsupported`."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Invalid(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs. Send one per input, or none."
        )
    given = InferRequest(
        [_input(each, raw[index] if raw else None) for index, each in enumerate(request.inputs)],
        request.id,
        _parameters(request.parameters),
        [RequestedOutput(each.name, _parameters(each.parameters)) for each in request.outputs],
    )
    return prepare(model, given, _values, options, binary_outputs=True)


def _input(tensor: v2.ModelInferRequest.InferInputTensor, raw: bytes | None) -> InputTensor:
    """With the raw bytes as its data, or its typed contents."""
    if raw is not None and tensor.HasField("contents"):
        raise Invalid(
            f"Input {tensor.name!r} has contents in addition to raw_input_contents. Use one of them for all inputs."
        )
    data = tensor.contents if raw is None else raw
    return InputTensor(tensor.name, tensor.shape, tensor.datatype, _parameters(tensor.parameters), data)  # type: ignore[arg-type]


def _values(tensor: InputTensor, spec: TensorSpec, shape: Shape) -> Array:
    data = tensor.data
    return raw_tensors.read(data, spec, shape) if data.__class__ is bytes else typed_contents.read(data, spec, shape)


def _parameters(parameters: Mapping[str, v2.InferParameter]) -> Parameters:
    """As in JSON."""
    return {name: _value(each) for name, each in parameters.items()} if parameters else None


def _value(parameter: v2.InferParameter) -> Any:
    field = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, field) if field else None


def _write(model: Model, inference: Inference, result: PredictionResult) -> v2.ModelInferResponse:
    response = v2.ModelInferResponse(model_name=model.name, model_version=str(result.version), id=inference.id or "")
    for name, datatype, array, _ in output_tensors(model, result, inference.outputs):
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        response.raw_output_contents.append(bytes(raw_tensors.write(array)))
    return response
