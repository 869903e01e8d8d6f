"""ModelStatistics, ModelConfig and ModelMetadata: what is known of a model, in the messages of v2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfserve.protocols.oip.grpc_tensors import datatype_of
from tfserve.protocols.protos import oip_pb2 as v2
from tfserve.serving.models import Model
from tfserve.serving.statistics import BatchCount, Duration, Statistics
from tfserve.tensors import Signature, TensorSpec

#: Formats by the words that Triton's clients know for them.
PLATFORMS = {"SavedModel": "tensorflow_savedmodel", "ONNX": "onnxruntime_onnx"}


def metadata(model: Model, versions: Iterable[Model]) -> v2.ModelMetadataResponse:
    """`versions` are all versions of the model that can be asked."""
    signature = _signature(model)
    return v2.ModelMetadataResponse(
        name=model.name,
        versions=[str(each.version) for each in versions],
        platform=_platform(model),
        inputs=map(_tensor, signature.inputs),
        outputs=map(_tensor, signature.outputs),
    )


def configuration(model: Model) -> v2.ModelConfig:
    """Triton's ModelConfig. Where requests are batched, `dims` do not count the first dimension."""
    signature = _signature(model)
    batched = all(spec.is_batched for spec in signature.inputs) and bool(signature.inputs)
    options = model.told.options
    config = v2.ModelConfig(
        name=model.name,
        platform=_platform(model),
        backend=model.told.runtime,
        max_batch_size=options.max_batch_size if batched else 0,
        input=[v2.ModelInput(**_in_config(spec, batched=batched)) for spec in signature.inputs],
        output=[v2.ModelOutput(**_in_config(spec, batched=batched)) for spec in signature.outputs],
        instance_group=[v2.ModelInstanceGroup(name=model.name, kind="KIND_CPU", count=options.replicas)],
    )
    if config.max_batch_size > 1:
        config.dynamic_batching.max_queue_delay_microseconds = int(options.max_delay_s * 1e6)
    return config


def statistics(model: Model) -> v2.ModelStatistics:
    """The counters of one version since it began to serve, in one web process."""
    counted = model.statistics
    return v2.ModelStatistics(
        name=model.name,
        version=str(model.version),
        last_inference=counted.last_at_ms,
        inference_count=counted.rows,
        execution_count=round(counted.executions),
        inference_stats=_times(counted),
        batch_stats=[_batch(size, batch) for size, batch in sorted(counted.batches.items())],
    )


def _times(counted: Statistics) -> v2.InferStatistics:
    return v2.InferStatistics(
        success=_duration(counted.success),
        fail=_duration(counted.fail),
        queue=_duration(counted.queue),
        compute_input=_duration(counted.input),
        compute_infer=_duration(counted.compute),
        compute_output=_duration(counted.output),
        cache_hit=v2.StatisticDuration(),
        cache_miss=v2.StatisticDuration(),
    )


def _duration(duration: Duration) -> v2.StatisticDuration:
    return v2.StatisticDuration(count=duration.count, ns=duration.ns)


def _batch(size: int, batch: BatchCount) -> v2.InferBatchStatistics:
    """Each request saw the whole time of its batch, so count and time have the same factor."""
    return v2.InferBatchStatistics(
        batch_size=size,
        compute_input=v2.StatisticDuration(count=batch.requests, ns=batch.input_ns),
        compute_infer=v2.StatisticDuration(count=batch.requests, ns=batch.compute_ns),
        compute_output=v2.StatisticDuration(count=batch.requests, ns=batch.output_ns),
    )


def _signature(model: Model) -> Signature:
    """The one that v2 asks for; empty while the model is not loaded."""
    return model.signatures.get(model.default_signature(), Signature((), ()))


def _platform(model: Model) -> str:
    return PLATFORMS.get(model.told.format, model.told.format or model.told.runtime)


def _tensor(spec: TensorSpec) -> v2.ModelMetadataResponse.TensorMetadata:
    """v2 has no word for a tensor of any rank: its shape is told as [-1]."""
    return v2.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=datatype_of(spec.dtype), shape=[-1] if spec.shape is None else spec.shape
    )


def _in_config(spec: TensorSpec, *, batched: bool) -> dict[str, Any]:
    datatype = datatype_of(spec.dtype)
    word = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
    shape = (-1,) if spec.shape is None else spec.shape
    return {
        "name": spec.name,
        "data_type": word if word in v2.DataType.keys() else "TYPE_INVALID",  # noqa: SIM118 - not a dict
        "dims": shape[1:] if batched and spec.is_batched else shape,
    }
