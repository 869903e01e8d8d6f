"""PredictionService and ModelService over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from tfserve.tensors.specs import Array, Signature
from tfserve.web.api.protos import tfserving_pb2 as v1
from tfserve.web.api.protos.tensorflow_pb2 import TensorProto
from tfserve.web.api.v1.grpc_examples import Examples
from tfserve.web.api.v1.grpc_models import About
from tfserve.web.api.v1.grpc_specs import PROTOCOL, answering_spec, model_of, signature_of
from tfserve.web.api.v1.grpc_tensors import to_array, to_proto
from tfserve.web.http.offload import are_heavy, offloaded
from tfserve.web.predictions import signature_checks
from tfserve.web.predictions.live_models import Models
from tfserve.web.predictions.request import Request, Result
from tfserve.web.rpc import Call, Service, Unary

PREDICTIONS = "tensorflow.serving.PredictionService"
MODELS = "tensorflow.serving.ModelService"


@dataclass(frozen=True)
class Predict:
    """Tensors in, tensors out."""

    models: Models

    async def __call__(self, request: v1.PredictRequest, call: Call) -> v1.PredictResponse:
        model = model_of(self.models, request.model_spec)
        name, signature = signature_of(model, request.model_spec)
        wanted = list(request.output_filter)
        signature_checks.refuse_repeated(wanted, "output")
        for output in wanted:
            signature_checks.find(output, signature.outputs, "output")
        read = partial(self._arrays, request.inputs, signature)
        question = Request(
            inputs=await offloaded(read) if call.is_heavy else read(),
            signature=name,
            outputs=wanted,
            urgency=call.urgency,
            timeout_s=call.timeout_s,
            protocol=PROTOCOL,
            pinned=request.model_spec.HasField("version"),
        )
        result = await model.predict(question)
        write = partial(_answer, answering_spec(request.model_spec, result.version, name), result)
        return await offloaded(write) if are_heavy(result.outputs.values()) else write()

    def _arrays(self, tensors: Mapping[str, TensorProto], signature: Signature) -> dict[str, Array]:
        arrays = {
            name: to_array(tensors[name], signature_checks.find(name, signature.inputs, "input")) for name in tensors
        }
        if len(arrays) < len(signature.inputs):
            signature_checks.require_all(arrays, signature.inputs)
        return arrays


def _answer(spec: v1.ModelSpec, result: Result) -> v1.PredictResponse:
    answer = v1.PredictResponse(model_spec=spec)
    for output, array in result.outputs.items():
        answer.outputs[output].CopyFrom(to_proto(array))
    return answer


def services(models: Models) -> list[Service]:
    predict, examples, about = Predict(models), Examples(models), About(models)
    return [
        Service(
            PREDICTIONS,
            {
                "Predict": Unary(v1.PredictRequest, v1.PredictResponse, predict),
                "Classify": Unary(v1.ClassificationRequest, v1.ClassificationResponse, examples.classify),
                "Regress": Unary(v1.RegressionRequest, v1.RegressionResponse, examples.regress),
                "MultiInference": Unary(v1.MultiInferenceRequest, v1.MultiInferenceResponse, examples.multi_inference),
                "GetModelMetadata": Unary(v1.GetModelMetadataRequest, v1.GetModelMetadataResponse, about.metadata),
            },
        ),
        Service(
            MODELS,
            {
                "GetModelStatus": Unary(v1.GetModelStatusRequest, v1.GetModelStatusResponse, about.status),
                "HandleReloadConfigRequest": Unary(v1.ReloadConfigRequest, v1.ReloadConfigResponse, about.reload),
            },
        ),
    ]
