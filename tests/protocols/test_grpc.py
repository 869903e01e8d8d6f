"""gRPC on a real server: v2 and TensorFlow Serving's API, health and reflection, with plain stubs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.acceptance.conftest import REPOSITORY
from tests.protocols import echo
from tests.protocols.grpc_port import STATUS, V1, V2, VALUES, Port, infer_request, port, predict_request, raw, tensor
from tests.protocols.grpc_port import real_model as real
from tfserve.ipc.predictions import split_strings
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.api.protos import tensorflow_pb2 as tf
from tfserve.web.api.protos import tfserving_pb2 as v1

__all__ = ["port", "real"]

X = np.arange(8, dtype=np.float32).reshape(2, 4)
V1_FIELDS = {
    "float32": "float_val", "float64": "double_val", "bool": "bool_val", "string": "string_val",
    "int64": "int64_val", "uint32": "uint32_val", "uint64": "uint64_val",
}  # fmt: skip


def outputs_of(answer: v2.ModelInferResponse) -> dict[str, Array]:
    arrays = {}
    for output, data in zip(answer.outputs, answer.raw_output_contents, strict=True):
        is_text = output.datatype == "BYTES"
        dtype = next(each for each in DTYPES.values() if each.v2 == output.datatype)
        array = np.array(split_strings(data), object) if is_text else np.frombuffer(data, dtype.numpy)
        arrays[output.name] = array.reshape(tuple(output.shape))
    return arrays


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code(), error.value.details()


# --- v2


def test_the_server_reports_that_it_lives_and_what_it_is(port: Port) -> None:
    assert port.call("ServerLive", v2.ServerLiveRequest()).live
    assert port.call("ServerReady", v2.ServerReadyRequest()).ready
    assert port.call("ServerMetadata", v2.ServerMetadataRequest()).name == "tfserve"
    assert port.call("ModelReady", v2.ModelReadyRequest(name="x")).ready
    assert not port.call("ModelReady", v2.ModelReadyRequest(name="x", version="99")).ready
    assert not port.call("ModelReady", v2.ModelReadyRequest(name="nobody")).ready


def test_the_start_announces_the_port(port: Port) -> None:
    assert f"gRPC   {port.address}" in port.server.log


def test_every_call_has_an_id_and_a_line_in_the_access_log(port: Port) -> None:
    infer = port.unary(V2, "ModelInfer", v2.ModelInferResponse)
    sent = (("x-request-id", "order-66"),)
    _, call = infer.with_call(infer_request("x", {"x": X}), metadata=sent, timeout=60)
    assert sent[0] in [(each.key, each.value) for each in call.trailing_metadata()]
    with pytest.raises(grpc.RpcError) as error:
        infer(infer_request("nobody", {"x": X}), metadata=(("x-request-id", "order-67"),), timeout=60)
    assert ("x-request-id", "order-67") in [(each.key, each.value) for each in error.value.trailing_metadata()]
    _, call = infer.with_call(infer_request("x", {"x": X}), timeout=60)
    (fresh,) = [each.value for each in call.trailing_metadata() if each.key == "x-request-id"]
    lines = line_of(port, "order-66"), line_of(port, "order-67"), line_of(port, fresh)
    assert [(line["status"], line["model"], line["error"]) for line in lines] == [
        ("OK", "x", None), ("NOT_FOUND", None, "not_found"), ("OK", "x", None)
    ]  # fmt: skip
    assert lines[0]["path"] == f"/{V2}/ModelInfer"


def line_of(port: Port, request_id: str) -> Any:
    """The line about a request, which is written a moment after the answer."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in port.access_log.read_text().splitlines():
            if request_id in line:
                return json.loads(line)
        time.sleep(0.02)
    raise AssertionError(f"there is no line about {request_id}")


def test_metadata_and_configuration_report_the_signature(port: Port) -> None:
    metadata = port.call("ModelMetadata", v2.ModelMetadataRequest(name="x"))
    (given,) = metadata.inputs
    assert (given.name, given.datatype, list(given.shape)) == ("x", "FP32", [-1, 4])
    assert list(metadata.versions) == ["1"]
    config = port.call("ModelConfig", v2.ModelConfigRequest(name="x")).config
    assert config.max_batch_size == 64
    assert (config.input[0].data_type, list(config.input[0].dims)) == (v2.TYPE_FP32, [4])


def test_every_type_returns_as_it_was_sent_in_raw_bytes(port: Port) -> None:
    answer = port.call("ModelInfer", infer_request("all", VALUES, id="mine"))
    assert (answer.id, answer.model_name) == ("mine", "all")
    for name, array in outputs_of(answer).items():
        assert raw(array) == raw(VALUES[name]), name


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (3000, 4)])
def test_any_number_of_rows_can_be_asked(port: Port, shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(1).random(shape, np.float32)
    np.testing.assert_array_equal(outputs_of(port.call("ModelInfer", infer_request("x", {"x": rows})))["x"], rows)


def test_outputs_come_in_the_order_that_was_requested(port: Port) -> None:
    wanted = [{"name": "string"}, {"name": "bool"}]
    answer = port.call("ModelInfer", infer_request("all", VALUES, outputs=wanted))
    assert [output.name for output in answer.outputs] == ["string", "bool"]


def test_classification_gives_the_best_classes(port: Port) -> None:
    wanted = [{"name": "x", "parameters": {"classification": {"int64_param": 2}}}]
    answer = port.call("ModelInfer", infer_request("x", {"x": X}, outputs=wanted))
    assert outputs_of(answer)["x"].tolist() == [[b"3.000000:3", b"2.000000:2"], [b"7.000000:3", b"6.000000:2"]]


def test_a_stream_answers_in_order_and_an_error_ends_only_its_own_request(port: Port) -> None:
    stream = port.channel.stream_stream(
        f"/{V2}/ModelStreamInfer",
        request_serializer=v2.ModelInferRequest.SerializeToString,
        response_deserializer=v2.ModelStreamInferResponse.FromString,
    )
    requests = [infer_request("nobody" if at == 50 else "x", {"x": X + at}, id=str(at)) for at in range(200)]
    answers = list(stream(iter(requests), timeout=60))
    assert [answer.infer_response.id for answer in answers] == [str(at) for at in range(200)]
    assert [at for at, answer in enumerate(answers) if answer.error_message] == [50]
    assert raw(outputs_of(answers[199].infer_response)["x"]) == raw(X + 199)


def test_under_load_every_answer_belongs_to_its_own_request(port: Port) -> None:
    infer = port.unary(V2, "ModelInfer", v2.ModelInferResponse)
    predict = port.unary(V1, "Predict", v1.PredictResponse)
    asked = []
    for at in range(600):
        rows = np.full((1 + at % 3, 4), at, np.float32)
        given = {"x": tensor(rows.shape, "DT_FLOAT", tensor_content=rows.tobytes())}
        asked.append((rows, infer.future(infer_request("x", {"x": rows}, id=str(at)), timeout=60), at))
        asked.append((rows, predict.future(predict_request("x", given), timeout=60), None))
    for rows, answer, at in asked:
        if at is None:
            assert list(answer.result().outputs["x"].float_val) == rows.ravel().tolist()
        else:
            assert (answer.result().id, answer.result().raw_output_contents[0]) == (str(at), raw(rows))


def test_a_compressed_request_is_understood(port: Port) -> None:
    rows = np.zeros((1000, 4), np.float32)
    answer = port.call("ModelInfer", infer_request("x", {"x": rows}), compression=grpc.Compression.Gzip)
    assert outputs_of(answer)["x"].shape == (1000, 4)


def test_large_messages_go_through_up_to_the_limit(port: Port) -> None:
    large = np.zeros(((60 << 20) // 16, 4), np.float32)
    answer = port.call("ModelInfer", infer_request("x", {"x": large}))
    assert len(answer.raw_output_contents[0]) == large.nbytes
    larger = infer_request("x", {"x": np.zeros((4 << 20, 4), np.float32)})
    code, _ = refused(lambda: port.call("ModelInfer", larger))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_small_message_that_unpacks_to_a_huge_one_is_refused(port: Port) -> None:
    huge = infer_request("x", {"x": np.zeros((5 << 20, 4), np.float32)})
    code, _ = refused(lambda: port.call("ModelInfer", huge, compression=grpc.Compression.Gzip))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


def with_input(**fields: object) -> v2.ModelInferRequest:
    """One input that is changed, with its two rows of data."""
    request = infer_request("x", {"x": X})
    for name, value in fields.items():
        if isinstance(value, list):
            request.inputs[0].ClearField(name)
            getattr(request.inputs[0], name).extend(value)
        else:
            setattr(request.inputs[0], name, value)
    return request


def with_contents(datatype: str, **contents: list[object]) -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name="x")
    request.inputs.add(name="x", datatype=datatype, shape=[1, 4], contents=contents)
    return request


BAD = {
    "an unknown model": (infer_request("nobody", {"x": X}), "NOT_FOUND", "nobody"),
    "an unknown version": (infer_request("x", {"x": X}, model_version="7"), "NOT_FOUND", "no version 7"),
    "a version that is not a number": (infer_request("x", {"x": X}, model_version="v7"), "NOT_FOUND", "'v7'"),
    "a version beyond all numbers": (infer_request("x", {"x": X}, model_version="9" * 30), "NOT_FOUND", "999"),
    "an unknown input": (infer_request("x", {"y": X}), "INVALID_ARGUMENT", "Available: 'x'"),
    "no input": (infer_request("x", {}), "INVALID_ARGUMENT", "Missing input 'x'"),
    "an unknown output": (infer_request("x", {"x": X}, outputs=[{"name": "z"}]), "INVALID_ARGUMENT", "Available: 'x'"),
    "an output twice": (
        infer_request("x", {"x": X}, outputs=[{"name": "x"}, {"name": "x"}]), "INVALID_ARGUMENT", "more than once"),
    "an unknown signature": (
        infer_request("x", {"x": X}, parameters={"signature": {"string_param": "no"}}), "INVALID_ARGUMENT", "'no'"),
    "a priority that is text": (
        infer_request("x", {"x": X}, parameters={"priority": {"string_param": "a"}}), "INVALID_ARGUMENT", "priority"),
    "another datatype": (infer_request("x", {"x": X.astype(np.float64)}), "INVALID_ARGUMENT", "FP32"),
    "an unknown datatype": (with_input(datatype="FP33"), "INVALID_ARGUMENT", "did you mean 'FP32'"),
    "a negative size": (with_input(shape=[-2, 4]), "INVALID_ARGUMENT", "negative"),
    "a huge shape": (with_input(shape=[1 << 62, 4]), "INVALID_ARGUMENT", "the maximum is 1099511627776 elements"),
    "another shape": (with_input(shape=[4, 2]), "INVALID_ARGUMENT", "[-1, 4]"),
    "too few bytes": (with_input(shape=[3, 4]), "INVALID_ARGUMENT", "48 bytes (12 elements of 4), got 32"),
    "raw bytes beside contents": (
        v2.ModelInferRequest(model_name="x", raw_input_contents=[raw(X)], inputs=[
            {"name": "x", "datatype": "FP32", "shape": [2, 4], "contents": {"fp32_contents": [1]}}]),
        "INVALID_ARGUMENT", "in addition to raw_input_contents"),
    "raw bytes for another number of inputs": (
        v2.ModelInferRequest(model_name="x", raw_input_contents=[b"", b""], inputs=[
            {"name": "x", "datatype": "FP32", "shape": [0, 4]}]), "INVALID_ARGUMENT", "2 entries for 1 inputs"),
    "no data": (with_contents("FP32"), "INVALID_ARGUMENT", "4 elements, got 0"),
    "data in another list": (with_contents("FP32", int_contents=[1, 2, 3, 4]), "INVALID_ARGUMENT", "fp32_contents"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_request_is_refused_with_a_sentence(port: Port, what: str) -> None:
    request, code, words = BAD[what]
    given, details = refused(lambda: port.call("ModelInfer", request))
    assert (given.name, words in details) == (code, True), details


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\xff"])
def test_what_is_no_message_is_an_invalid_argument(port: Port, data: bytes) -> None:
    for method in (f"/{V2}/ModelInfer", f"/{V1}/Predict"):
        given, details = refused(lambda method=method: port.channel.unary_unary(method)(data, timeout=60))
        assert (given.name, "Request" in details) == ("INVALID_ARGUMENT", True), details
    stream = port.channel.stream_stream(f"/{V2}/ModelStreamInfer")
    given, details = refused(lambda: list(stream(iter([data]), timeout=60)))
    assert (given.name, "ModelInferRequest" in details) == ("INVALID_ARGUMENT", True), details


def test_the_repository_unloads_and_loads_again(port: Port) -> None:
    unload = v2.RepositoryModelUnloadRequest(model_name="all")
    load = v2.RepositoryModelLoadRequest(model_name="all")
    port.call("RepositoryModelUnload", unload)
    index = port.call("RepositoryIndex", v2.RepositoryIndexRequest())
    assert {each.name: each.state for each in index.models}["all"] == "UNAVAILABLE"
    ready = port.call("RepositoryIndex", v2.RepositoryIndexRequest(ready=True))
    assert "all" not in {each.name for each in ready.models}
    port.call("RepositoryModelLoad", load)
    assert port.call("ModelReady", v2.ModelReadyRequest(name="all")).ready


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".."])
def test_a_name_that_is_a_path_is_not_loaded(port: Port, name: str) -> None:
    code, _ = refused(lambda: port.call("RepositoryModelLoad", v2.RepositoryModelLoadRequest(model_name=name)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_statistics_count_what_was_asked(port: Port) -> None:
    def counted() -> v2.ModelStatistics:
        return port.call("ModelStatistics", v2.ModelStatisticsRequest(name="x")).model_stats[0]

    before = counted()
    port.call("ModelInfer", infer_request("x", {"x": X}))
    after = counted()
    assert after.inference_count == before.inference_count + 2
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1
    assert len(port.call("ModelStatistics", v2.ModelStatisticsRequest()).model_stats) >= 2


def test_an_unknown_method_is_unimplemented(port: Port) -> None:
    code, _ = refused(lambda: port.unary(V2, "TraceSetting", v2.ServerLiveResponse)(v2.ServerLiveRequest(), timeout=60))
    assert code == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("CudaSharedMemoryRegister", "as binary data"),
        ("TraceSetting", "traceparent"),
        ("LogSettings", "when the server starts"),
        ("ModelInferr", "did you mean '/inference.GRPCInferenceService/ModelInfer'"),
    ],
)
def test_a_missing_method_says_what_to_use_instead(port: Port, method: str, expected: str) -> None:
    call = port.unary(V2, method, v2.ServerLiveResponse)
    _, message = refused(lambda: call(v2.ServerLiveRequest(), timeout=60))
    assert expected in message
    assert ("did you mean" in message) == (method == "ModelInferr")


# --- time


def slow(turns: int) -> v2.ModelInferRequest:
    return infer_request(
        "real", {"turns": np.array([turns], np.int32)}, parameters={"signature": {"string_param": "slow"}}
    )


def counted_of_real(real: Port) -> v2.ModelStatistics:
    return real.call("ModelStatistics", v2.ModelStatisticsRequest(name="real")).model_stats[0]


def test_the_deadline_of_a_call_ends_it(real: Port) -> None:
    infer = real.unary(V2, "ModelInfer", v2.ModelInferResponse)
    code, _ = refused(lambda: infer(slow(3000), timeout=0.05))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_timeout_parameter_is_in_microseconds(real: Port) -> None:
    request = slow(3000)
    request.parameters["timeout"].int64_param = 50_000
    code, details = refused(lambda: real.call("ModelInfer", request))
    assert (code, "0.05 s" in details) == (grpc.StatusCode.DEADLINE_EXCEEDED, True), details


def test_a_call_that_is_cancelled_while_it_waits_is_not_computed(real: Port) -> None:
    infer = real.unary(V2, "ModelInfer", v2.ModelInferResponse)
    before = counted_of_real(real).inference_count
    first = infer.future(slow(3000), timeout=60)
    second = infer.future(slow(3000), timeout=60)
    assert not first.done()
    second.cancel()
    first.result()
    infer(slow(1), timeout=60)
    assert counted_of_real(real).inference_count == before + 2


# --- TensorFlow Serving


def test_predict_takes_and_gives_every_type(port: Port) -> None:
    tensors = {}
    for name, array in VALUES.items():
        content = {"string_val": array.ravel().tolist()} if name == "string" else {"tensor_content": array.tobytes()}
        tensors[name] = tensor((2, 3), DTYPES[name].v1, **content)
    answer = port.ask("Predict", predict_request("all", tensors), v1.PredictResponse)
    assert (answer.model_spec.name, answer.model_spec.version.value > 0) == ("all", True)
    assert answer.model_spec.signature_name == "serving_default"
    for name, array in VALUES.items():
        given = answer.outputs[name]
        assert given.dtype == tensors[name].dtype
        assert [dim.size for dim in given.tensor_shape.dim] == [2, 3]
        field = V1_FIELDS.get(name, "half_val" if "float16" in name else "int_val")
        want = array.view(np.uint16) if field == "half_val" else array
        np.testing.assert_array_equal(np.array(getattr(given, field), want.dtype), want.ravel(), name)
    again = port.ask("Predict", predict_request("all", answer.outputs), v1.PredictResponse)
    assert raw(np.array(again.outputs["float32"].float_val, np.float32)) == raw(VALUES["float32"])
    assert again.outputs["bfloat16"].half_val == answer.outputs["bfloat16"].half_val


def test_the_last_value_stands_for_the_rest_and_no_value_for_zeros(port: Port) -> None:
    def predict(**fields: object) -> list[float]:
        request = predict_request("x", {"x": tensor((2, 4), "DT_FLOAT", **fields)}, signature_name="serving_default")
        return list(port.ask("Predict", request, v1.PredictResponse).outputs["x"].float_val)

    assert predict(float_val=[1.5]) == [1.5] * 8
    assert predict(float_val=[1.0, 2.0]) == [1.0] + [2.0] * 7
    assert predict() == [0.0] * 8


def test_strings_in_tensor_content_have_their_lengths_in_front(port: Port) -> None:
    values = VALUES["string"].ravel().tolist()
    lengths = b"\x01\x00\x02\x02\xac\x02\x01"  # 300 takes two bytes
    tensors = {name: tensor((2, 3), DTYPES[name].v1) for name in VALUES}
    tensors["string"].tensor_content = lengths + b"".join(values)
    answer = port.ask("Predict", predict_request("all", tensors), v1.PredictResponse)
    assert list(answer.outputs["string"].string_val) == values


def x_of(**fields: object) -> dict[str, tf.TensorProto]:
    return {"x": tensor((1, 4), "DT_FLOAT", **fields)}


BAD_V1 = {
    "no name": (predict_request("", x_of()), "INVALID_ARGUMENT", "Missing model name"),
    "an unknown model": (predict_request("nobody", x_of()), "NOT_FOUND", "nobody"),
    "an unknown version": (predict_request("x", x_of(), version={"value": 9}), "NOT_FOUND", "Specific(x, 9)"),
    "a label": (predict_request("x", x_of(), version_label="stable"), "INVALID_ARGUMENT", "label"),
    "an unknown signature": (predict_request("x", x_of(), signature_name="no"), "INVALID_ARGUMENT", "serving_default"),
    "an unknown input": (predict_request("x", {"y": x_of()["x"]}), "INVALID_ARGUMENT", "Available: 'x'"),
    "no input": (predict_request("x", {}), "INVALID_ARGUMENT", "Missing input 'x'"),
    "another type": (predict_request("x", {"x": tensor((1, 4), "DT_INT32")}), "INVALID_ARGUMENT", "DT_FLOAT"),
    "too many values": (predict_request("x", x_of(float_val=[1.0] * 5)), "INVALID_ARGUMENT", "4 elements, got 5"),
    "too few bytes": (predict_request("x", x_of(tensor_content=b"1234")), "INVALID_ARGUMENT", "16 bytes"),
    "another shape": (predict_request("x", {"x": tensor((4,), "DT_FLOAT")}), "INVALID_ARGUMENT", "[-1, 4]"),
    "a negative size": (predict_request("x", {"x": tensor((-1, 4), "DT_FLOAT")}), "INVALID_ARGUMENT", "negative"),
    "one value for very many": (
        predict_request("x", {"x": tensor((1 << 40, 4), "DT_FLOAT", float_val=[1.0])}),
        "INVALID_ARGUMENT", "the maximum is"),
    "an unknown output": (
        v1.PredictRequest(model_spec={"name": "x"}, inputs=x_of(), output_filter=["z"]), "INVALID_ARGUMENT", "'z'"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_V1)
def test_a_bad_predict_is_refused_with_a_sentence(port: Port, what: str) -> None:
    request, code, words = BAD_V1[what]
    given, details = refused(lambda: port.ask("Predict", request, v1.PredictResponse))
    assert (given.name, words in details) == (code, True), details


def example(**features: float) -> tf.Example:
    lists = {name: {"float_list": {"value": [value]}} for name, value in features.items()}
    return tf.Example(features={"feature": lists})


def test_examples_are_classified_and_regressed(real: Port) -> None:
    rows = v1.Input(example_list={"examples": [example(x=1.0, y=0.5), example(x=2.0)]})
    spec = v1.ModelSpec(name="real", signature_name="classify")
    answer = real.ask("Classify", v1.ClassificationRequest(model_spec=spec, input=rows), v1.ClassificationResponse)
    assert [[(one.label, one.score) for one in row.classes] for row in answer.result.classifications] == [
        [("plus", 1.5), ("minus", -1.5)],
        [("plus", 2.0), ("minus", -2.0)],
    ]
    examples = {"examples": [example(x=1.0), example(x=2.0)], "context": example(y=10.0)}
    context = v1.Input(example_list_with_context=examples)
    spec = v1.ModelSpec(name="real", signature_name="regress")
    answer = real.ask("Regress", v1.RegressionRequest(model_spec=spec, input=context), v1.RegressionResponse)
    assert [each.value for each in answer.result.regressions] == [11.0, 12.0]
    assert answer.model_spec.signature_name == "regress"


def test_several_inferences_on_the_same_examples(real: Port) -> None:
    rows = v1.Input(example_list={"examples": [example(x=1.0)]})
    tasks = [
        {"model_spec": {"name": "real", "signature_name": name}, "method_name": f"tensorflow/serving/{name}"}
        for name in ("classify", "regress")
    ]
    answer = real.ask("MultiInference", v1.MultiInferenceRequest(tasks=tasks, input=rows), v1.MultiInferenceResponse)
    assert answer.results[0].classification_result.classifications[0].classes[0].score == 1.0
    assert answer.results[1].regression_result.regressions[0].value == 1.0


def test_a_signature_for_something_else_and_no_examples_are_refused(real: Port) -> None:
    rows = v1.Input(example_list={"examples": [example(x=1.0)]})
    for spec, given, words in (
        ({"name": "real"}, rows, "method_name to be tensorflow/serving/classify"),
        ({"name": "real", "signature_name": "regress"}, rows, "method_name to be tensorflow/serving/classify"),
        ({"name": "real", "signature_name": "classify"}, v1.Input(), "no examples"),
    ):
        request = v1.ClassificationRequest(model_spec=spec, input=given)
        code, details = refused(lambda request=request: real.ask("Classify", request, v1.ClassificationResponse))
        assert (code, words in details) == (grpc.StatusCode.INVALID_ARGUMENT, True), details


def test_metadata_has_the_signatures_in_an_any(real: Port) -> None:
    request = v1.GetModelMetadataRequest(model_spec={"name": "real"}, metadata_field=["signature_def"])
    answer = real.ask("GetModelMetadata", request, v1.GetModelMetadataResponse)
    signatures = v1.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["classify"].method_name == "tensorflow/serving/classify"
    assert signatures.signature_def["serving_default"].inputs["plain"].dtype == tf.DT_FLOAT
    request = v1.GetModelMetadataRequest(model_spec={"name": "x"})
    code, _ = refused(lambda: real.ask("GetModelMetadata", request, v1.GetModelMetadataResponse))
    assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_the_status_of_a_model_is_reported(port: Port) -> None:
    request = v1.GetModelStatusRequest(model_spec={"name": "x"})
    (status,) = port.ask("GetModelStatus", request, v1.GetModelStatusResponse, STATUS).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, v1.ModelVersionStatus.AVAILABLE, 0)
    code, details = refused(
        lambda: port.ask("HandleReloadConfigRequest", v1.ReloadConfigRequest(), v1.ReloadConfigResponse, STATUS)
    )
    assert (code, "model_config_list" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def reload(port: Port, **fields: Any) -> v1.ReloadConfigResponse:
    request = v1.ReloadConfigRequest(config={"model_config_list": {"config": [fields] if fields else []}})
    answer: v1.ReloadConfigResponse = port.ask("HandleReloadConfigRequest", request, v1.ReloadConfigResponse, STATUS)
    return answer


def test_the_list_of_models_is_replaced_with_versions_and_labels(port: Port) -> None:
    base = port.server.roots / "listed"
    for number in ("1", "2"):
        (base / number).mkdir(parents=True)
        echo.write(base / number / "model.echo", {"x": {"dtype": "float32", "shape": [-1, 4]}})
    listed = {"name": "listed", "base_path": str(base), "version_labels": {"stable": 1, "canary": 2}}
    specific = {"specific": {"versions": [1, 2]}}
    assert reload(port, **listed, model_version_policy=specific).status.error_code == 0
    asked = {"stable": 1, "canary": 2}
    for label, version in asked.items():
        request = predict_request("listed", x_of(), version_label=label)
        assert port.ask("Predict", request, v1.PredictResponse).model_spec.version.value == version
    code, details = refused(lambda: reload(port, **{**listed, "version_labels": {"stable": 3}}))
    assert (code, "has no version 3" in details) == (grpc.StatusCode.UNAVAILABLE, True)
    code, details = refused(lambda: reload(port, **{**listed, "base_path": "/etc"}))
    assert (code, "'listed'" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert port.server.refused("/undeploy/", name="listed")[0] == 409
    reload(port)
    code, _ = refused(lambda: port.ask("Predict", predict_request("listed", x_of()), v1.PredictResponse))
    assert code == grpc.StatusCode.NOT_FOUND


# --- health, reflection, start


def test_health_is_reported_of_the_server_of_services_and_of_models(port: Port) -> None:
    health = health_pb2_grpc.HealthStub(port.channel)
    for name in ("", V2, V1, "x"):
        assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=60).status == 1, name
    code, details = refused(lambda: health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=60))
    assert (code, "Available:" in details) == (grpc.StatusCode.NOT_FOUND, True)


def test_a_change_of_a_models_health_is_reported_to_who_watches(port: Port) -> None:
    watch = health_pb2_grpc.HealthStub(port.channel).Watch(health_pb2.HealthCheckRequest(service="all"), timeout=60)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    port.call("RepositoryModelUnload", v2.RepositoryModelUnloadRequest(model_name="all"))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    port.call("RepositoryModelLoad", v2.RepositoryModelLoadRequest(model_name="all"))
    while next(watch).status != health_pb2.HealthCheckResponse.SERVING:
        pass
    watch.cancel()


def test_reflection_reports_the_services_and_their_messages(port: Port) -> None:
    ask = reflection_pb2_grpc.ServerReflectionStub(port.channel).ServerReflectionInfo
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.ModelInferRequest"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="tensorflow.serving.PredictionService"),
    ]
    services, infer, predict = ask(iter(requests), timeout=60)
    assert {V2, V1, STATUS, "grpc.health.v1.Health"} <= {each.name for each in services.list_services_response.service}
    assert infer.file_descriptor_response.file_descriptor_proto
    assert len(predict.file_descriptor_response.file_descriptor_proto) > 1


def test_nothing_of_grpc_is_loaded_without_a_port() -> None:
    program = (
        "import django, sys; django.setup(); import tfserve.web.app, tfserve.web.api.v2.rest,"
        " tfserve.web.api.v1.rest; sys.exit(not {'grpc', 'google.protobuf'}.isdisjoint(sys.modules))"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tfserve.django_settings"}
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, env=environment, check=True)


def test_an_open_stream_is_closed_when_its_client_goes(port: Port) -> None:
    """And leaves nothing behind: the fixture looks for tracebacks in the server's log."""
    stream = port.channel.stream_stream(
        f"/{V2}/ModelStreamInfer",
        request_serializer=v2.ModelInferRequest.SerializeToString,
        response_deserializer=v2.ModelStreamInferResponse.FromString,
    )
    endless = (infer_request("x", {"x": X}, id=str(at)) for at in itertools.count())
    answers = stream(endless, timeout=60)
    assert next(answers).infer_response.id == "0"
    answers.cancel()
    assert port.call("ServerLive", v2.ServerLiveRequest()).live


def test_a_port_that_is_taken_fails_the_start_with_a_sentence(port: Port, tmp_path: object) -> None:
    options = ["127.0.0.1:0", "--data-dir", str(tmp_path), "--grpc-port", str(port.number)]
    done = subprocess.run(
        [sys.executable, "manage.py", "runserver", *options],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"can't listen on {port.address}" in done.stderr
