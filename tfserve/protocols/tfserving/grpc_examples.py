"""Classify, Regress and MultiInference: examples in, classes or numbers out.

The signature takes one tensor of serialized tf.Example messages. A classification gives `classes` (strings) and
`scores` (numbers), each of shape [examples, classes] and one of them at least; a regression gives `outputs`, a number
for each example.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tfserve.errors import Internal, Invalid
from tfserve.http.offload import offloaded
from tfserve.protocols.protos import tfserving_pb2 as v1
from tfserve.protocols.tfserving.grpc_specs import METHODS, PROTOCOL, answering_spec, model_of, signature_of
from tfserve.serving.models import Models
from tfserve.serving.prediction import Request
from tfserve.serving.rpc import Call
from tfserve.tensors import Array, Signature

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
MAX_TASKS = 64

_OUTPUTS: dict[str, tuple[str, ...]] = {CLASSIFY: ("classes", "scores"), REGRESS: ("outputs",)}


@dataclass(frozen=True)
class Examples:
    """The verbs whose input are examples."""

    models: Models

    async def classify(self, request: v1.ClassificationRequest, call: Call) -> v1.ClassificationResponse:
        result, spec = await self._run(request.model_spec, request.input, CLASSIFY, call)
        return v1.ClassificationResponse(result=result, model_spec=spec)

    async def regress(self, request: v1.RegressionRequest, call: Call) -> v1.RegressionResponse:
        result, spec = await self._run(request.model_spec, request.input, REGRESS, call)
        return v1.RegressionResponse(result=result, model_spec=spec)

    async def multi_inference(self, request: v1.MultiInferenceRequest, call: Call) -> v1.MultiInferenceResponse:
        """Every task on the same examples, at once."""
        if not request.tasks:
            raise Invalid("A MultiInferenceRequest needs at least one task.")
        if len(request.tasks) > MAX_TASKS:
            raise Invalid(f"A MultiInferenceRequest takes {MAX_TASKS} tasks at most; {len(request.tasks)} were given.")
        results = await asyncio.gather(*(self._task(task, request.input, call) for task in request.tasks))
        return v1.MultiInferenceResponse(results=results)

    async def _task(self, task: v1.InferenceTask, examples: v1.Input, call: Call) -> v1.InferenceResult:
        if task.method_name not in _OUTPUTS:
            raise Invalid(f"A task's method_name is {CLASSIFY!r} or {REGRESS!r}; {task.method_name[:80]!r} was given.")
        result, spec = await self._run(task.model_spec, examples, task.method_name, call)
        if isinstance(result, v1.ClassificationResult):
            return v1.InferenceResult(model_spec=spec, classification_result=result)
        return v1.InferenceResult(model_spec=spec, regression_result=result)

    async def _run(self, spec: v1.ModelSpec, examples: v1.Input, method: str, call: Call) -> tuple[Any, v1.ModelSpec]:
        model = model_of(self.models, spec)
        name, signature = signature_of(model, spec)
        outputs = _check(name, signature, method)
        read = partial(serialized, examples)
        rows = await offloaded(read) if call.is_heavy else read()
        request = Request(
            inputs={signature.inputs[0].name: rows},
            signature=name,
            outputs=outputs,
            urgency=call.urgency,
            timeout_s=call.timeout_s,
            protocol=PROTOCOL,
            pinned=spec.HasField("version"),
        )
        result = await model.predict(request)
        return _RESULTS[method](result.outputs, len(rows)), answering_spec(spec, result.version, name)


def serialized(examples: v1.Input) -> Array:
    """The examples as a tensor of strings, of shape [examples]. Raises `Invalid` when there are none.

    The context's features are added to each example. Messages that are joined are merged when they are read, and what
    comes last wins: so the example's own features do.
    """
    kind = examples.WhichOneof("kind")
    if kind is None or not getattr(examples, kind).examples:
        raise Invalid("The input has no examples. Give at least one in example_list or example_list_with_context.")
    chosen = getattr(examples, kind)
    context = chosen.context.SerializeToString() if kind == "example_list_with_context" else b""
    rows = np.empty(len(chosen.examples), dtype=object)
    rows[:] = [context + example.SerializeToString() for example in chosen.examples]
    return rows


def _check(name: str, signature: Signature, method: str) -> list[str]:
    """The outputs to ask for. Raises `Invalid` when the signature is for something else."""
    there = {spec.name for spec in signature.outputs}
    outputs = [output for output in _OUTPUTS[method] if output in there]
    takes_examples = len(signature.inputs) == 1 and signature.inputs[0].dtype == "string"
    if method.removeprefix(METHODS) != signature.method or not outputs or not takes_examples:
        raise Invalid(
            f"The signature {name!r} is not for {method}: that takes one input of serialized tf.Example messages and"
            f" gives {' or '.join(_OUTPUTS[method])}. This one takes {_listed(signature.inputs)} and gives"
            f" {_listed(signature.outputs)}. Name another in signature_name, or use Predict."
        )
    return outputs


def _listed(specs: Any) -> str:
    return ", ".join(f"{spec.name} ({spec})" for spec in specs)


def _classified(outputs: Mapping[str, Array], count: int) -> v1.ClassificationResult:
    classes, scores = (_rows(outputs.get(name), name, count) for name in ("classes", "scores"))
    result = v1.ClassificationResult()
    for row in range(count):
        labels = [] if classes is None else classes[row].tolist()
        numbers = [] if scores is None else scores[row].tolist()
        one = result.classifications.add()
        for at in range(max(len(labels), len(numbers))):
            one.classes.add(
                label=labels[at].decode("utf-8", "replace") if at < len(labels) else "",
                score=numbers[at] if at < len(numbers) else 0.0,
            )
    return result


def _regressed(outputs: Mapping[str, Array], count: int) -> v1.RegressionResult:
    values = outputs["outputs"]
    if values.size != count:
        raise Internal(f"The model gave {values.size} numbers for {count} examples; a regression gives one for each.")
    return v1.RegressionResult(regressions=[v1.Regression(value=value) for value in values.ravel().tolist()])


def _rows(array: Array | None, name: str, count: int) -> Array | None:
    if array is None:
        return None
    if array.ndim == 0 or array.shape[0] != count:
        raise Internal(f"The model gave {name} of shape {list(array.shape)} for {count} examples.")
    return array.reshape(count, -1)


_RESULTS: dict[str, Callable[[Mapping[str, Array], int], Any]] = {CLASSIFY: _classified, REGRESS: _regressed}
