"""Version 2 over REST against a real server: what is answered, and what is refused in which words."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from tests.acceptance.conftest import Server
from tests.protocols import echo

LENGTH = "Inference-Header-Content-Length"
X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.5, -2, 3]}


@pytest.fixture(scope="module")
def model(server: Server) -> Iterator[str]:
    """A workspace with an echo model: one input by default, `two` has two, `loose` is open in all sizes."""
    name = server.call("/create_workspace/", name="echo ü")
    loose = {"x": {"dtype": "float32", "shape": None}}
    odd = {"c": {"dtype": "float32", "shape": [2, -1, -1]}}
    path = echo.write(server.roots / "rest.echo", two=echo.TWO, loose=loose, odd=odd)
    server.call("/deploy/", name=name, path=str(path), timeout=60)
    yield name
    server.call("/destroy_workspace/", name=name)


def infer(server: Server, model: str, *inputs: Any, status: int = 200, **more: Any) -> Any:
    body = {"inputs": inputs or [X], **more}
    answer = server.http.post(f"/v2/models/{model}/infer", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def refused(server: Server, model: str, *inputs: Any, status: int = 400, **more: Any) -> str:
    return sentence(infer(server, model, *inputs, status=status, **more))


def sentence(answer: Any) -> str:
    assert list(answer) == ["error"]
    assert isinstance(answer["error"], str)
    return str(answer["error"])


def post(server: Server, model: str, content: bytes, *, status: int = 400, **headers: str) -> httpx.Response:
    """A body as it is, with headers named like `Content_Encoding`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = server.http.post(f"/v2/models/{model}/infer", content=content, headers=named)
    assert answer.status_code == status, answer.text
    return answer


def binary(inputs: list[dict[str, Any]], tail: bytes, **more: Any) -> tuple[bytes, str]:
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + tail, str(len(head))


def as_bytes(array: np.ndarray, name: str = "x", datatype: str = "FP32", **parameters: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": array.nbytes, **parameters}
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": parameters}


# --- looks


def test_the_server_reports_that_it_lives_and_is_ready(server: Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready"):
        answer = server.http.get(path)
        assert (answer.status_code, answer.json()) == (200, {"live": True, "ready": True})
        assert server.http.head(path).status_code == 200


def test_the_server_reports_what_it_is_at_both_spellings(server: Server) -> None:
    found = server.http.get("/v2").json()
    assert server.http.get("/v2/").json() == found
    assert set(found) == {"name", "version", "extensions"}
    assert {"binary_tensor_data", "model_repository", "statistics", "classification"} <= set(found["extensions"])


def test_a_model_reports_what_it_takes_and_gives(server: Server, model: str) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
    for path in ("", "/versions/1"):
        found = server.http.get(f"/v2/models/{model}{path}").json()
        assert {**found, "platform": ""} == {
            "name": model, "versions": ["1"], "platform": "", "inputs": [x], "outputs": [x],
        }  # fmt: skip
        assert server.http.get(f"/v2/models/{model}{path}/ready").json() == {"name": model, "ready": True}
    assert model in server.http.get("/v2/models").json()["models"]
    decomposed = "echo u\u0308"
    assert server.http.get(f"/v2/models/{decomposed}").json()["name"] == model, "names are the same however typed"


def test_statistics_count_rows_and_failures(server: Server, model: str) -> None:
    def counted() -> Any:
        (found,) = server.http.get(f"/v2/models/{model}/versions/1/stats").json()["model_stats"]
        return found

    before = counted()
    infer(server, model, {**X, "shape": [4, 3], "data": [1.0] * 12})
    refused(server, model, X, outputs=[{"name": "z"}])
    after = counted()
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 1
    assert after["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
    assert after["last_inference"] > 1.6e12
    assert 4 in [batch["batch_size"] for batch in after["batch_stats"]]
    everything = server.http.get("/v2/models/stats").json()["model_stats"]
    assert model in [each["name"] for each in everything]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/unknown", 404), ("/v2/models/unknown/ready", 404), ("/v2/models/unknown/stats", 404),
        ("/v2/models/{}/versions/9", 404), ("/v2/models/{}/versions/v1/config", 404), ("/v2/models/{}/nothing", 404),
        ("/v2/models/{}/versions/99999999999999999999999/ready", 404), ("/v2/nothing", 404), ("/v2/health", 404),
        ("/v2//", 404), ("/v2/models//ready", 404), ("/v2/repository/nothing", 404), ("/v2/%00", 404),
        ("/v2/models/{}/infer", 405), ("/v2/repository/index", 405), ("/v2/repository/models/{}/load", 405),
        ("/v2/trace/setting", 501), ("/v2/logging", 501), ("/v2/models/{}/trace/setting", 501),
        ("/v2/systemsharedmemory/status", 501), ("/v2/cudasharedmemory/status", 501), ("/v2/models/{}/generate", 501),
    ],
)  # fmt: skip
def test_what_is_not_there_is_reported_in_the_protocol_s_shape(
    server: Server, model: str, path: str, status: int
) -> None:
    answer = server.http.get(path.format(model))
    assert answer.status_code == status, answer.text
    assert sentence(answer.json())


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("/v2/cudasharedmemory/region/a/register", "as binary data"),
        ("/v2/systemsharedmemory/status", "as binary data"),
        ("/v2/models/{}/trace/setting", "traceparent"), ("/v2/logging", "when the server starts"),
        ("/v2/models/{}/generate_stream", "`infer`"),
    ],
)  # fmt: skip
def test_a_missing_extension_says_what_to_use_instead(server: Server, model: str, path: str, instead: str) -> None:
    assert instead in server.http.post(path.format(model), json={}).json()["error"]


def test_a_wrong_verb_is_answered_with_the_right_one(server: Server, model: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = server.http.request(method, f"/v2/models/{model}/ready")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert server.http.get(f"/v2/models/{model}/infer").headers["allow"] == "POST"


def test_a_name_is_suggested_for_one_that_is_wrong(server: Server, model: str) -> None:
    assert model in sentence(server.http.get(f"/v2/models/{model}x").json())


# --- infer


def test_a_prediction_echoes_its_id_and_names_model_and_version(server: Server, model: str) -> None:
    found = infer(server, model, id="a b", parameters={"anything": 1.5, "sequence_id": 3})
    assert found == {
        "model_name": model, "model_version": "1", "id": "a b",
        "outputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -2.0, 3.0]}],
    }  # fmt: skip
    for absent in ({}, {"id": None, "outputs": None, "parameters": None}):
        assert set(infer(server, model, **absent)) == {"model_name", "model_version", "outputs"}


def test_the_type_of_the_body_is_not_looked_at(server: Server, model: str) -> None:
    body = json.dumps({"inputs": [X]}).encode()
    for kind in ("application/x-www-form-urlencoded", "text/plain", "nonsense", "image/png"):
        post(server, model, body, status=200, Content_Type=kind)


def test_outputs_come_in_the_order_in_which_they_are_requested(server: Server, model: str) -> None:
    a = {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2]]}
    b = {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["text"]}
    two = {"signature": "two"}
    for names in (["a", "b"], ["b", "a"], ["b"]):
        found = infer(server, model, b, a, parameters=two, outputs=[{"name": name} for name in names])
        assert [output["name"] for output in found["outputs"]] == names
    assert [output["name"] for output in infer(server, model, b, a, parameters=two)["outputs"]] == ["a", "b"]
    assert "more than once" in refused(server, model, a, b, parameters=two, outputs=[{"name": "a"}, {"name": "a"}])
    assert "'a', 'b'" in refused(server, model, a, b, parameters=two, outputs=[{"name": "c"}])
    assert "'b'" in refused(server, model, a, parameters=two)
    assert "more than once" in refused(server, model, a, a, b, parameters=two)
    assert "'a', 'b'" in refused(server, model, a, b, {**a, "name": "c"}, parameters=two)
    assert "serving_default" in refused(server, model, parameters={"signature": "none"})


def test_large_json_is_answered_exactly(server: Server, model: str) -> None:
    array = np.random.default_rng(3).standard_normal((5000, 3)).astype(np.float32)
    for data in (array.tolist(), array.ravel().tolist()):
        found = infer(server, model, {**X, "shape": [5000, 3], "data": data})["outputs"][0]
        np.testing.assert_array_equal(np.array(found["data"], np.float32), array.ravel())
    ragged = [[1.0, 2, 3]] * 4998 + [[1.0, 2], [1.0, 2, 3, 4]]
    assert "'x'" in refused(server, model, {**X, "shape": [5000, 3], "data": ragged})


def test_integers_stay_exact(server: Server, model: str) -> None:
    data = [2**53 + 1, -(2**63), 2**63 - 1]
    given = {"name": "x", "shape": [1, 3], "datatype": "INT64", "data": data}
    assert infer(server, model, given, parameters={"signature": "INT64"})["outputs"][0]["data"] == data
    for wrong in (2**63, 1.0, True, "1", None):
        given["data"] = [wrong, 0, 0]
        assert "'x'" in refused(server, model, given, parameters={"signature": "INT64"})


def test_json_and_bytes_may_be_mixed(server: Server, model: str) -> None:
    a = np.array([[1, 2]], np.float32)
    text = struct.pack("<I", 3) + b"\0\xff!"
    b = {"name": "b", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(text)}}
    parameters = {"signature": "two", "binary_data_output": True}
    body, length = binary(
        [as_bytes(a, "a"), b], a.tobytes() + text, parameters=parameters,
        outputs=[{"name": "b"}, {"name": "a", "parameters": {"binary_data": False}}],
    )  # fmt: skip
    answer = post(server, model, body, status=200, **{LENGTH: length})
    assert answer.headers["content-type"] == "application/octet-stream"
    head = json.loads(answer.content[: int(answer.headers[LENGTH])])
    first, second = head["outputs"]
    assert first == {"name": "b", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 7}}
    assert answer.content[int(answer.headers[LENGTH]) :] == text
    assert second["data"] == [1, 2]
    # A model that takes both may get one of them in JSON.
    json_b = {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["ü"]}
    body, length = binary([json_b, as_bytes(a, "a")], a.tobytes(), parameters={"signature": "two"})
    answer = post(server, model, body, status=200, **{LENGTH: length})
    assert [output["data"] for output in answer.json()["outputs"]] == [[1, 2], ["ü"]]


def test_bytes_that_are_no_text_are_refused_in_json(server: Server, model: str) -> None:
    text = struct.pack("<I", 1) + b"\xff"
    given = {"name": "x", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    three = {**given, "shape": [1, 3], "parameters": {"binary_data_size": 15}}
    body, length = binary([three], text * 3, parameters={"signature": "BYTES"})
    assert "binary" in sentence(post(server, model, body, **{LENGTH: length}).json())


def test_empty_tensors_keep_their_shape_and_say_that_they_have_no_bytes(server: Server, model: str) -> None:
    none = {**X, "shape": [0, 3], "data": []}
    assert infer(server, model, none)["outputs"][0] == {"name": "x", "datatype": "FP32", "shape": [0, 3], "data": []}
    body = json.dumps({"inputs": [none], "parameters": {"binary_data_output": True}}).encode()
    head = json.loads(post(server, model, body, status=200).content)
    assert head["outputs"][0] == {
        "name": "x", "datatype": "FP32", "shape": [0, 3], "parameters": {"binary_data_size": 0},
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["FP16", "BF16"])
def test_half_precision_is_for_bytes_only(server: Server, model: str, dtype: str) -> None:
    given = {"name": "x", "shape": [1, 3], "datatype": dtype, "parameters": {"binary_data_size": 6}}
    ask = {"signature": dtype}
    body, length = binary([given], bytes(6), parameters=ask)
    assert "binary" in sentence(post(server, model, body, **{LENGTH: length}).json())
    body, length = binary([given], bytes(6), parameters={**ask, "binary_data_output": True})
    assert post(server, model, body, status=200, **{LENGTH: length}).content[-6:] == bytes(6)
    assert "binary" in refused(server, model, {**X, "datatype": dtype}, parameters=ask)


def test_a_raw_body_is_the_only_input(server: Server, model: str) -> None:
    array = np.arange(6, dtype=np.float32)
    answer = post(server, model, array.tobytes(), status=200, **{LENGTH: "0"})
    length = int(answer.headers[LENGTH])
    assert json.loads(answer.content[:length])["outputs"][0]["shape"] == [2, 3]
    assert answer.content[length:] == array.tobytes()
    assert "12 bytes" in sentence(post(server, model, array.tobytes()[:-1], **{LENGTH: "0"}).json())


@pytest.mark.parametrize("length", ["-1", "x", "1.5", "99999", "4294967296", "0x10", "1e3", "9" * 30])
def test_a_wrong_length_of_the_json_is_refused(server: Server, model: str, length: str) -> None:
    body, _ = binary([as_bytes(np.zeros((1, 3), np.float32))], bytes(12))
    assert LENGTH in sentence(post(server, model, body, **{LENGTH: length}).json())


@pytest.mark.parametrize("cut", [-1, 1])
def test_a_length_that_cuts_the_json_is_refused(server: Server, model: str, cut: int) -> None:
    body, length = binary([as_bytes(np.zeros((1, 3), np.float32))], bytes(12))
    sentence(post(server, model, body, **{LENGTH: str(int(length) + cut)}).json())


@pytest.mark.parametrize(("size", "tail"), [(12, 11), (12, 13), (11, 11), (0, 12), (-1, 12), (2**64, 12), ("12", 12)])
def test_sizes_that_do_not_add_up_are_refused_with_the_name_of_the_input(
    server: Server, model: str, size: Any, tail: int
) -> None:
    given = as_bytes(np.zeros((1, 3), np.float32), binary_data_size=size)
    body, length = binary([given], bytes(tail))
    text = sentence(post(server, model, body, **{LENGTH: length}).json())
    assert "'x'" in text or "binary_data_size" in text


def test_bytes_without_the_header_are_no_json(server: Server, model: str) -> None:
    body, _ = binary([as_bytes(np.zeros((1, 3), np.float32))], bytes(12))
    post(server, model, body)
    assert "'x'" in refused(server, model, as_bytes(np.zeros((1, 3), np.float32)))


@pytest.mark.parametrize(
    "shape",
    [[-1, 3], [2**63, 3], [2**31, 2**31, 3], [0, 10**25], [3], [1, 3, 1], [], "1", [1.5, 3], [True, 3], None, [[1], 3]],
)  # fmt: skip
def test_impossible_shapes_are_refused(server: Server, model: str, shape: Any) -> None:
    refused(server, model, {**X, "shape": shape})
    if shape not in ([3], [1, 3, 1], []):
        refused(server, model, {**X, "shape": shape}, parameters={"signature": "loose"})


@pytest.mark.parametrize(
    "data",
    [[1, 2], [1, 2, 3, 4], [[1, 2, 3], [4]], [[[1, 2, 3]]], [[1, 2], [3]], "123", {"a": 1}, None, [1, 2, "3"],
     [1, 2, None], [1, 2, True], [1, 2, 1e39], [1, 2, {}], [1, 2, []], []],
)  # fmt: skip
def test_wrong_values_are_refused_with_the_name_of_the_input(server: Server, model: str, data: Any) -> None:
    assert "'x'" in refused(server, model, {**X, "data": data})
    infer(server, model)


@pytest.mark.parametrize("datatype", ["FP64", "fp32", "FLOAT", "", None, 1])
def test_a_wrong_datatype_is_refused(server: Server, model: str, datatype: Any) -> None:
    refused(server, model, {**X, "datatype": datatype})


@pytest.mark.parametrize(
    "body",
    [b"null", b"[]", b"", b"{}", b'{"inputs":[', b"\xff\xfe", b'{"inputs":1}', b'{"inputs":[1]}', b"{}{}",
     b'{"id":1,"inputs":[]}'],
)  # fmt: skip
def test_what_is_no_request_is_refused(server: Server, model: str, body: bytes) -> None:
    sentence(post(server, model, body).json())


def test_deep_nesting_is_refused_quickly(server: Server, model: str) -> None:
    deep = b"[" * 250_000
    for body in (deep, b'{"inputs":' + deep, b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + deep):
        answer = post(server, model, body)
        assert answer.elapsed.total_seconds() < 5
        sentence(answer.json())
    assert server.http.get("/v2/health/live").status_code == 200


def test_values_that_json_lacks_are_refused_or_written_as_asked(server: Server, model: str) -> None:
    array = np.array([[1.5, np.nan, -np.inf]], np.float32)

    def ask(**parameters: Any) -> httpx.Response:
        body, length = binary([as_bytes(array)], array.tobytes(), parameters=parameters)
        return server.http.post(f"/v2/models/{model}/infer", content=body, headers={LENGTH: length})

    answer = ask()
    assert answer.status_code == 400
    assert "'x'" in sentence(answer.json())
    assert "binary" in sentence(answer.json())
    assert ask(non_finite="null").json()["outputs"][0]["data"] == [1.5, None, None]
    assert b"[1.5,NaN,-Infinity]" in ask(non_finite="literal").content
    assert ask(non_finite="other").status_code == 400
    assert ask(binary_data_output=True).content.endswith(array.tobytes())


def test_the_best_classes_are_reported(server: Server, model: str) -> None:
    outputs = [{"name": "x", "parameters": {"classification": 2}}]
    (found,) = infer(server, model, outputs=outputs)["outputs"]
    assert found == {"name": "x", "datatype": "BYTES", "shape": [1, 2], "data": ["3.000000:2", "1.500000:0"]}
    assert "classification" in refused(server, model, outputs=[{"name": "x", "parameters": {"classification": -1}}])
    refused(server, model, outputs=[{"name": "x", "parameters": {"classification": "2"}}])


def test_priority_and_timeout_are_taken_and_checked(server: Server, model: str) -> None:
    infer(server, model, parameters={"priority": 1, "timeout": 5_000_000})
    post(server, model, json.dumps({"inputs": [X]}).encode(), status=200, Priority="u=0", Request_Timeout="5")
    for wrong in ({"priority": "high"}, {"timeout": -1}, {"timeout": 1.5}):
        refused(server, model, parameters=wrong)


def test_what_nobody_waits_for_any_more_is_dropped(server: Server, workspace: str) -> None:
    path = echo.write(server.roots / "patient.echo")
    server.call("/deploy/", name=workspace, path=str(path), max_delay=10, max_batch_size=2, timeout=60)
    url = f"/v2/models/{workspace}/infer"
    assert "0.05 s" in refused(server, workspace, parameters={"timeout": 50_000}, status=504)
    with pytest.raises(httpx.ReadTimeout):
        server.http.post(url, json={"inputs": [X]}, timeout=0.2)
    # Were they still there, then one of these two would be computed with them, and the other would wait.
    started_at = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: infer(server, workspace), range(2)))
    assert time.monotonic() - started_at < 5
    assert [answer["outputs"][0]["data"] for answer in answers] == [X["data"]] * 2


# --- compression


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_requests_may_be_packed_and_the_length_counts_what_is_unpacked(
    server: Server, model: str, encoding: str
) -> None:
    array = np.ones((200, 3), np.float32)
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    body, length = binary([as_bytes(array)], array.tobytes())
    answer = post(server, model, pack(body), status=200, Content_Encoding=encoding, **{LENGTH: length})
    assert answer.json()["outputs"][0]["data"] == [1] * 600
    post(server, model, pack(body)[:-3], Content_Encoding=encoding, **{LENGTH: length})
    post(server, model, body, Content_Encoding=encoding, **{LENGTH: length})
    post(server, model, body, Content_Encoding="br", **{LENGTH: length})


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"), ("deflate", "deflate"), ("br, gzip;q=0.5", "gzip"),
        ("gzip;q=0", None), ("identity", None), ("br", None),
    ],
)  # fmt: skip
def test_replies_are_packed_when_asked(server: Server, model: str, accepted: str, encoding: str | None) -> None:
    rows = {**X, "shape": [400, 3], "data": [1.0] * 1200}
    body = json.dumps({"inputs": [rows]}).encode()
    answer = post(server, model, body, status=200, Accept_Encoding=accepted)
    assert answer.headers.get("content-encoding") == encoding
    assert answer.json()["outputs"][0]["data"] == [1.0] * 1200
    noise = np.random.default_rng(1).integers(0, 2**32, (3000, 3), np.uint32)
    body, length = binary(
        [as_bytes(noise, datatype="UINT32")], noise.tobytes(),
        parameters={"signature": "UINT32", "binary_data_output": True},
    )  # fmt: skip
    answer = post(server, model, body, status=200, Accept_Encoding=accepted, **{LENGTH: length})
    assert "content-encoding" not in answer.headers, "noise does not get smaller"
    assert post(server, model, json.dumps({"inputs": [X]}).encode(), status=200).headers.get("content-encoding") is None


def test_a_body_in_pieces_is_put_together(server: Server, model: str) -> None:
    array = np.ones((1, 3), np.float32)
    body, length = binary([as_bytes(array)], array.tobytes())
    pieces = iter([body[:5], body[5:40], body[40:]])
    answer = server.http.post(f"/v2/models/{model}/infer", content=pieces, headers={LENGTH: length})
    assert answer.json()["outputs"][0]["data"] == [1, 1, 1]


def test_a_body_that_unpacks_to_too_much_is_413(server: Server, model: str) -> None:
    bomb = gzip.compress(bytes(80 * 2**20))
    answer = post(server, model, bomb, status=413, Content_Encoding="gzip")
    assert "max_body_bytes" in sentence(answer.json())
    infer(server, model)


# --- the repository


def test_files_and_settings_are_not_taken_over_the_wire(server: Server, model: str) -> None:
    path = f"/v2/repository/models/{model}/load"
    for parameters, status in (({"file:1/model.pb": "AA=="}, 400), ({"config": "{}"}, 501)):
        answer = server.http.post(path, json={"parameters": parameters})
        assert answer.status_code == status
        sentence(answer.json())
    assert server.http.post(f"/v2/repository/other/models/{model}/load").status_code == 501
    for body in (b"[]", b"{", b'{"parameters":[]}'):
        assert server.http.post(path, content=body).status_code == 400


@pytest.mark.parametrize(
    "name",
    ["../etc", "a/../b", "model/..", "..", "/etc/passwd", "model/subdir", "model/", " ..", "", " ", "a\\b", "a\0b"],
)  # fmt: skip
def test_names_that_look_like_paths_are_refused(server: Server, name: str) -> None:
    encoded = "".join(f"%{byte:02x}" for byte in name.encode())
    for verb in ("load", "unload"):
        raw = talk(server, f"POST /v2/repository/models/{encoded}/{verb} HTTP/1.1")
        assert raw.startswith(b"HTTP/1.1 400"), raw
        assert sentence(json.loads(raw.partition(b"\r\n\r\n")[2]))


def talk(server: Server, line: str) -> bytes:
    """What the server says to a request that httpx would tidy up."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as sock:
        sock.sendall(f"{line}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
        found = b""
        while piece := sock.recv(65536):
            found += piece
        return found


def test_the_index_lists_what_can_be_loaded_too(server: Server, workspace: str, model: str) -> None:
    path = echo.write(server.roots / "index.echo")
    index = "/v2/repository/index"
    assert workspace not in [each["name"] for each in server.http.post(index).json()]
    assert server.http.post(f"/v2/repository/models/{workspace}/load").status_code == 404, "nothing was deployed"
    job = server.call("/deploy/", name=workspace, path=str(path.with_name("gone.echo")), timeout=60)
    assert job["result"] is False
    found = {each["name"]: each for each in server.http.post(index).json()}
    assert found[workspace]["state"] == "UNAVAILABLE"
    assert "gone.echo" in found[workspace]["reason"]
    assert found[model]["state"] == "READY"
    only_ready = server.http.post(index, json={"ready": True}).json()
    assert model in [each["name"] for each in only_ready]
    assert workspace not in [each["name"] for each in only_ready]
    assert server.http.post(f"/v2/repository/models/{workspace}/unload").status_code == 404
