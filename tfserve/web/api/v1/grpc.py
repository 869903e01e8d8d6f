"""The gRPC edge of version 1: PredictionService and ModelService."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from google.protobuf.json_format import ParseDict

from tfserve.access.principals import Scope
from tfserve.errors import Invalid
from tfserve.ipc.messages import ReloadModels
from tfserve.tensors.specs import Array, Signature
from tfserve.web.api.endpoint import Context
from tfserve.web.api.protos import tfserving_pb2 as v1
from tfserve.web.api.protos.tensorflow_pb2 import TensorProto
from tfserve.web.api.v1 import core, metadata, model_config, tensor_proto
from tfserve.web.api.v1.core import METHODS, Address, Examination, PredictCall
from tfserve.web.predictions import signature_checks
from tfserve.web.predictions.live_models import LiveModels, Model
from tfserve.web.predictions.request import Options, PredictionResult
from tfserve.web.rpc import Call, Service, Unary

PREDICTIONS = "tensorflow.serving.PredictionService"
MODELS = "tensorflow.serving.ModelService"
PROTOCOL = "v1-grpc"
SIGNATURES = "signature_def"
MAX_TASKS = 64


def _address(spec: v1.ModelSpec, verb: str) -> Address:
    """Raises `Invalid` if the name is missing."""
    if not spec.name:
        raise Invalid("Missing model name in request. Set model_spec.name to a workspace with a deployed model.")
    label = spec.version_label if spec.WhichOneof("version_choice") == "version_label" else None
    return Address(verb, spec.name, spec.version.value if spec.HasField("version") else None, label)


def _options(spec: v1.ModelSpec, call: Call) -> Options:
    return Options(PROTOCOL, call.urgency, call.timeout_s, spec.WhichOneof("version_choice") is not None)


def _model_spec(model: Model, version: int, signature: str = "") -> v1.ModelSpec:
    """The specification in a response."""
    spec = v1.ModelSpec(name=model.name, signature_name=signature)
    spec.version.value = version
    return spec


@dataclass(frozen=True)
class PredictMethod:
    """Tensors in, tensors out."""

    models: LiveModels

    async def __call__(self, request: v1.PredictRequest, call: Call) -> v1.PredictResponse:
        model = core.find(self.models, _address(request.model_spec, "predict"))
        read = partial(self._read, model, request, _options(request.model_spec, call))
        return await model.run(read, partial(self._write, model), is_heavy=call.is_heavy)

    def _read(self, model: Model, request: v1.PredictRequest, options: Options) -> PredictCall:
        name, signature = core.signature_of(model, request.model_spec.signature_name)
        outputs = list(request.output_filter)
        signature_checks.refuse_repeated(outputs, "output")
        requested = [signature_checks.find(each, signature.outputs, "output") for each in outputs]
        core.check_outputs(requested or signature.outputs)
        return PredictCall(options.request(self._arrays(request.inputs, signature), name, outputs))

    def _arrays(self, tensors: Mapping[str, TensorProto], signature: Signature) -> dict[str, Array]:
        signature_checks.require_names(tensors, signature)
        named = [(spec.name, spec) for spec in signature.takes]
        return {name: tensor_proto.to_array(tensors[name], spec) for name, spec in named if name in tensors}

    def _write(self, model: Model, prediction: PredictCall, result: PredictionResult) -> v1.PredictResponse:
        response = v1.PredictResponse(model_spec=_model_spec(model, result.version, prediction.request.signature))
        for name, array in result.outputs.items():
            tensor_proto.fill(response.outputs[name], array)
        return response


@dataclass(frozen=True)
class Examples:
    """The methods that take examples."""

    models: LiveModels

    async def classify(self, request: v1.ClassificationRequest, call: Call) -> v1.ClassificationResponse:
        result = await self._run(request.model_spec, request.input, "classify", call)
        return v1.ClassificationResponse(result=result.classification_result, model_spec=result.model_spec)

    async def regress(self, request: v1.RegressionRequest, call: Call) -> v1.RegressionResponse:
        result = await self._run(request.model_spec, request.input, "regress", call)
        return v1.RegressionResponse(result=result.regression_result, model_spec=result.model_spec)

    async def multi_inference(self, request: v1.MultiInferenceRequest, call: Call) -> v1.MultiInferenceResponse:
        """Runs every task on the same examples concurrently."""
        if not request.tasks:
            raise Invalid("A MultiInferenceRequest requires at least one task.")
        if len(request.tasks) > MAX_TASKS:
            raise Invalid(f"A MultiInferenceRequest may have at most {MAX_TASKS} tasks, got {len(request.tasks)}.")
        results = await asyncio.gather(*(self._task(task, request.input, call) for task in request.tasks))
        return v1.MultiInferenceResponse(results=results)

    async def _task(self, task: v1.InferenceTask, examples: v1.Input, call: Call) -> v1.InferenceResult:
        verb = task.method_name.removeprefix(METHODS)
        if verb not in core.OUTPUTS or verb == task.method_name:
            valid = " or ".join(repr(METHODS + each) for each in core.OUTPUTS)
            raise Invalid(f"A task's method_name must be {valid}, got {task.method_name[:80]!r}.")
        return await self._run(task.model_spec, examples, verb, call)

    async def _run(self, spec: v1.ModelSpec, examples: v1.Input, verb: str, call: Call) -> v1.InferenceResult:
        model = core.find(self.models, _address(spec, verb))
        read = partial(_examination, model, spec, examples, verb, _options(spec, call))
        return await model.run(read, partial(_inference_result, model), is_heavy=call.is_heavy)


def _examination(model: Model, spec: v1.ModelSpec, examples: v1.Input, verb: str, options: Options) -> Examination:
    signature = core.signature_of(model, spec.signature_name)
    given, context = examples.example_list.examples, b""
    if examples.WhichOneof("kind") == "example_list_with_context":
        given = examples.example_list_with_context.examples
        context = examples.example_list_with_context.context.SerializeToString()
    return core.examine(signature, verb, context, [each.SerializeToString() for each in given], options)


def _inference_result(model: Model, examination: Examination, result: PredictionResult) -> v1.InferenceResult:
    response = v1.InferenceResult(model_spec=_model_spec(model, result.version, examination.request.signature))
    if examination.verb == "regress":
        regressions = response.regression_result.regressions
        for value in core.values(result, examination.examples).tolist():
            regressions.add(value=value)
        return response
    classes = core.classes(result, examination.examples)
    for labels, scores in zip(classes.labels, classes.scores.tolist(), strict=True):
        row = response.classification_result.classifications.add()
        for label, score in zip(labels, scores, strict=True):
            row.classes.add(label=label, score=score)
    return response


@dataclass(frozen=True)
class About:
    """The methods for metadata and status, with the same information as the REST API."""

    models: LiveModels

    async def metadata(self, request: v1.GetModelMetadataRequest, _: Call) -> v1.GetModelMetadataResponse:
        if not request.metadata_field:
            raise Invalid(f"The request has no metadata_field. The only one available is {SIGNATURES!r}.")
        for field in request.metadata_field:
            if field != SIGNATURES:
                raise Invalid(f"Unknown metadata_field {field[:80]!r}. The only one available is {SIGNATURES!r}.")
        model = core.find(self.models, _address(request.model_spec, "metadata"))
        response = v1.GetModelMetadataResponse(model_spec=_model_spec(model, model.version))
        signatures = metadata.metadata(model)["metadata"][SIGNATURES]
        response.metadata[SIGNATURES].Pack(ParseDict(signatures, v1.SignatureDefMap(), ignore_unknown_fields=True))
        return response

    async def status(self, request: v1.GetModelStatusRequest, _: Call) -> v1.GetModelStatusResponse:
        """The status of one version, or of all known ones."""
        chosen = core.versions(self.models, _address(request.model_spec, "status"))
        return ParseDict(metadata.status(chosen), v1.GetModelStatusResponse())


@dataclass(frozen=True)
class Configuration:
    """Which models the server serves."""

    context: Context

    async def reload(self, request: v1.ReloadConfigRequest, _: Call) -> v1.ReloadConfigResponse:
        """Responds when all models of the list serve."""
        models = model_config.declared(request.config)
        with self.context.audit.action("v1_reload_models", {"name": ", ".join(models)}):
            await self.context.line.ask(ReloadModels(models=models))
        return v1.ReloadConfigResponse(status=v1.StatusProto())


def services(context: Context) -> list[Service]:
    models = context.models
    predict, examples, about = PredictMethod(models), Examples(models), About(models)
    configuration = Configuration(context)
    return [
        Service(
            PREDICTIONS,
            {
                "Predict": Unary(v1.PredictRequest, v1.PredictResponse, predict, is_eager=True),
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
                "HandleReloadConfigRequest": Unary(
                    v1.ReloadConfigRequest, v1.ReloadConfigResponse, configuration.reload, Scope.ADMIN
                ),
            },
        ),
    ]
