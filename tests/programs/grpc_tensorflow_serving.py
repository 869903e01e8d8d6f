"""The stubs of tensorflow-serving-api, with TensorFlow and with our own messages in the same process.

Arguments: address of a server with the model `real` (see make_grpc_models.py) and the echo model `all`, and a folder
with the versions 1 and 2 of an echo model.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tfserve.web.api.protos import tensorflow_pb2, tfserving_pb2

TYPES = {
    "bool": tf.bool, "uint8": tf.uint8, "uint16": tf.uint16, "uint32": tf.uint32, "uint64": tf.uint64,
    "int8": tf.int8, "int16": tf.int16, "int32": tf.int32, "int64": tf.int64,
    "float16": tf.float16, "bfloat16": tf.bfloat16, "float32": tf.float32, "float64": tf.float64, "string": tf.string,
}  # fmt: skip

channel = grpc.insecure_channel(sys.argv[1])
predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
models = model_service_pb2_grpc.ModelServiceStub(channel)


def value(dtype: Any) -> Any:
    if dtype == tf.string:
        return np.array([[b"a", b"", b"\x00\xff"]], dtype=object)
    return np.array([[1, 0, 3]]).astype(dtype.as_numpy_dtype)


def predict() -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "all"
    for name, dtype in TYPES.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value(dtype), dtype))
    answer = predictions.Predict(request, 60)
    for name, dtype in TYPES.items():
        np.testing.assert_array_equal(tf.make_ndarray(answer.outputs[name]), value(dtype), name)
    request.output_filter.append("int64")
    assert list(predictions.Predict(request, 60).outputs) == ["int64"]
    request.inputs["float32"].CopyFrom(tf.make_tensor_proto(2.5, tf.float32, shape=[1, 3]))
    assert tf.make_ndarray(predictions.Predict(request, 60).outputs["int64"]).tolist() == [[1, 0, 3]]


def with_examples(request: Any, signature: str) -> Any:
    request.model_spec.name = "real"
    request.model_spec.signature_name = signature
    example = request.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.append(4.0)
    return request


def examples() -> None:
    answer = predictions.Classify(with_examples(classification_pb2.ClassificationRequest(), "classify"), 60)
    assert [each.label for each in answer.result.classifications[0].classes] == ["plus", "minus"]
    answer = predictions.Regress(with_examples(regression_pb2.RegressionRequest(), "regress"), 60)
    assert answer.result.regressions[0].value == 4.0
    request = inference_pb2.MultiInferenceRequest()
    request.input.CopyFrom(with_examples(regression_pb2.RegressionRequest(), "").input)
    task = request.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name, task.model_spec.signature_name = "real", "regress"
    assert predictions.MultiInference(request, 60).results[0].regression_result.regressions[0].value == 4.0


def about() -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "real"
    told = get_model_metadata_pb2.SignatureDefMap()
    assert predictions.GetModelMetadata(request, 60).metadata["signature_def"].Unpack(told)
    assert told.signature_def["regress"].method_name == "tensorflow/serving/regress"
    assert told.signature_def["serving_default"].inputs["plain"].dtype == tf.float32.as_datatype_enum
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "real"
    (version,) = models.GetModelStatus(status, 60).model_version_status
    assert version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    status.model_spec.name = "nobody"
    assert code_of(status) == grpc.StatusCode.NOT_FOUND


def code_of(request: Any) -> grpc.StatusCode:
    try:
        models.GetModelStatus(request, 60)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


OURS = "PackedValues"
"""A message of our own: the lists of numbers of a TensorProto, as bytes."""


def compare() -> int:
    """Whether our messages are TensorFlow's, as far as they go. Returns the number of fields that were compared."""
    services = {**model_service_pb2.DESCRIPTOR.services_by_name, **prediction_service_pb2.DESCRIPTOR.services_by_name}
    count = 0
    for module in (tfserving_pb2, tensorflow_pb2):
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in file.message_type:
            if message.name == OURS:
                continue
            theirs = descriptor_pool.Default().FindMessageTypeByName(f"{file.package}.{message.name}")
            count += _same(message, theirs)
        for service in file.service:
            theirs = services[service.name]
            for method in service.method:
                same = theirs.methods_by_name[method.name]
                assert method.input_type == f".{same.input_type.full_name}"
                assert method.output_type == f".{same.output_type.full_name}"
    return count


def _same(ours: Any, theirs: Any) -> int:
    for field in ours.field:
        same = theirs.fields_by_name[field.name]
        kind = same.message_type or same.enum_type
        assert (field.number, field.type, field.type_name) == (
            same.number, same.type, f".{kind.full_name}" if kind else "",
        ), f"{ours.name}.{field.name}"  # fmt: skip
    inner = theirs.nested_types_by_name
    return len(ours.field) + sum(_same(each, inner[each.name]) for each in ours.nested_type)


def reload(base: str) -> None:
    """Declares the numbered versions in the folder `base`, with labels, and asks each; then declares nothing."""
    request = model_management_pb2.ReloadConfigRequest()
    config = request.config.model_config_list.config.add(name="numbered", base_path=base, model_platform="tensorflow")
    config.model_version_policy.specific.versions.extend([1, 2])
    config.version_labels["stable"], config.version_labels["canary"] = 1, 2
    assert models.HandleReloadConfigRequest(request, 120).status.error_code == 0
    assert {label: version_of(label) for label in ("stable", "canary", "")} == {"stable": 1, "canary": 2, "": 2}
    config.version_labels["stable"] = 2
    models.HandleReloadConfigRequest(request, 120)
    assert version_of("stable") == 2
    config.version_labels["stable"] = 3
    error = models.HandleReloadConfigRequest.future(request, 120).exception()
    assert (error.code(), "no version 3" in error.details()) == (grpc.StatusCode.UNAVAILABLE, True), error
    assert version_of("stable") == 2
    empty = model_management_pb2.ReloadConfigRequest()
    empty.config.model_config_list.SetInParent()
    models.HandleReloadConfigRequest(empty, 120)


def version_of(label: str) -> int:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "numbered"
    if label:
        request.model_spec.version_label = label
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones((1, 3), np.float32)))
    return int(predictions.Predict(request, 60).model_spec.version.value)


predict()
examples()
about()
reload(sys.argv[2])
print(json.dumps({"fields": compare()}))
