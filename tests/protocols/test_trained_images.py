"""A training's model and all its exports take image files over every protocol; the model moves to a faster runtime."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import pillow_heif
import pytest
from PIL import Image

from tests.acceptance.conftest import Server
from tests.acceptance.training_calls import begin, digit_project, finished, mask_project
from tests.box_project import LEARNT_IN, box_project
from tests.protocols.grpc_port import V2, free_port
from tests.protocols.test_serving import deployment, until
from tfserve.ipc.predictions import split_strings
from tfserve.runtimes import image_files
from tfserve.web.api.protos import oip_pb2 as v2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

FORMS = ("model.keras", "model.tflite", "model_int8.tflite", "model.onnx")


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def converting(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Server]:
    """A server that looks for the fastest runtime."""
    folder = tmp_path_factory.mktemp("converting") / "data"
    running = Server(folder, "--grpc-port", str(port), environment={"TFSERVE_CONVERT": "1"})
    yield running
    running.close()


def trained(server: Server, project: Path, **fields: Any) -> tuple[str, Path]:
    """The id of the task, and the folder of its results."""
    ended = finished(server, begin(server, project, **fields)["taskId"], timeout_s=400)
    assert ended["state"] == "done", ended
    return str(ended["taskId"]), Path(ended["modelPath"]).parent


def deploy(server: Server, name: str, path: Path | str) -> None:
    """Waits for the job, however long other work on the machine makes it."""
    job = server.call("/deploy/", name=name, path=str(path))
    job = job if job["finish"] else server.wait(name, job["job"], timeout=300)
    assert job["result"] is True, job["error"]


def over_v1(server: Server, name: str, file: bytes) -> tuple[str, list[float]]:
    path, form = f"/v1/models/{name}:predict?top=10", {"content-type": "image/png"}
    (answer,) = server.http.post(path, content=file, headers=form).json()["predictions"]
    scores = {each["label"]: each["score"] for each in answer["top"]}
    return str(answer["label"]), [scores[label] for label in sorted(scores)]


def over_v2(server: Server, name: str, file: bytes) -> tuple[str, list[float]]:
    outputs = outputs_over_v2(server, name, file)
    return outputs["label"][0], outputs["probabilities"]


def boxes_over_v2(server: Server, name: str, file: bytes) -> tuple[Any, list[float], list[str]]:
    outputs = outputs_over_v2(server, name, file)
    return np.reshape(outputs["boxes"], (-1, 4)), outputs["scores"], outputs["labels"]


def outputs_over_v2(server: Server, name: str, file: bytes) -> dict[str, Any]:
    """The values of each output, flat."""
    given = {
        "name": "image_bytes",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": len(file) + 4},
    }
    head = orjson.dumps({"parameters": {"signature": "image_bytes"}, "inputs": [given]})
    answer = server.http.post(
        f"/v2/models/{name}/infer", content=head + len(file).to_bytes(4, "little") + file,
        headers={"inference-header-content-length": str(len(head))},
    ).json()  # fmt: skip
    return {each["name"]: each["data"] for each in answer["outputs"]}


def over_grpc(port: int, name: str, file: bytes) -> tuple[str, list[float]]:
    raw = outputs_over_grpc(port, name, file)
    return split_strings(raw["label"])[0].decode(), np.frombuffer(raw["probabilities"], np.float32).tolist()


def boxes_over_grpc(port: int, name: str, file: bytes) -> tuple[Any, list[float], list[str]]:
    raw = outputs_over_grpc(port, name, file)
    boxes, scores = np.frombuffer(raw["boxes"], np.float32), np.frombuffer(raw["scores"], np.float32)
    return boxes.reshape(-1, 4), scores.tolist(), [each.decode() for each in split_strings(raw["labels"])]


def outputs_over_grpc(port: int, name: str, file: bytes) -> dict[str, bytes]:
    request = v2.ModelInferRequest(model_name=name, raw_input_contents=[len(file).to_bytes(4, "little") + file])
    request.parameters["signature"].string_param = "image_bytes"
    request.inputs.add(name="image_bytes", datatype="BYTES", shape=[1])
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            f"/{V2}/ModelInfer", v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
        )
        answer = call(request)
    return dict(zip([each.name for each in answer.outputs], answer.raw_output_contents, strict=True))


def over_predict(server: Server, name: str, file: bytes) -> tuple[str, list[float]]:
    feed = {"image_bytes": [{"b64": base64.b64encode(file).decode()}]}
    job = server.call(
        "/predict/", name=name, fetches=["label", "probabilities"], feed_dict=feed, signature="image_bytes", timeout=60
    )
    return job["result"][0][0], job["result"][1][0]


def moved(server: Server, name: str) -> Any:
    """The deployment once its runtimes were compared and the fastest serves."""
    return until(lambda: found if "was chosen" in (found := deployment(server, name))["choice"] else None, within_s=500)


@pytest.mark.long
def test_a_classifier_moves_and_its_exports_answer_alike(converting: Server, port: int) -> None:
    project = digit_project(converting.roots / "digits")
    task, folder = trained(converting, project, parameters={"exports": "all", "epochs": 8})
    for name in ("task", *FORMS):
        converting.call("/create_workspace/", name=name)
        deploy(converting, name, f"task:{task}" if name == "task" else folder / name)
    told = moved(converting, "task")
    assert all(trial["ok"] for trial in told["trials"]), told["trials"]
    assert told["runtime"] != "tensorflow", told
    files = [(project / "images" / f"Digit_{n}" / "3.png").read_bytes() for n in (1, 7, 9)]
    for file in files:
        label, scores = over_v1(converting, "task", file)
        assert len(scores) == 10
        for name in ("task", *FORMS):
            answers = [
                over_v1(converting, name, file), over_v2(converting, name, file), over_grpc(port, name, file),
                over_predict(converting, name, file),
            ]  # fmt: skip
            assert {found for found, _ in answers} == {label}
            for _, found in answers:
                assert found == pytest.approx(scores, abs=0.05 if "int8" in name else 1e-3)
    for form in ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "HEIF"):
        # a photograph that is stored on its side counts as it is seen
        rotated, upright = on_its_side(files[1], form)
        for name in ("task", *FORMS):
            expected = over_v1(converting, name, upright)
            found = [ask(converting, name, rotated) for ask in (over_v1, over_v2, over_predict)]
            for label, scores in (*found, over_grpc(port, name, rotated)):
                assert (label, scores) == (expected[0], pytest.approx(expected[1], abs=1e-3)), (name, form)


def on_its_side(file: bytes, form: str) -> tuple[bytes, bytes]:
    """The same picture, stored a quarter turn further with the tag that says so, and what is seen then as PNG."""
    picture = Image.open(io.BytesIO(file)).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    tag, buffer, upright = Image.Exif(), io.BytesIO(), io.BytesIO()
    tag[0x0112] = 6
    more = {"save_all": True, "append_images": [picture]} if form == "MPO" else {}
    if form == "HEIF":
        pillow_heif.register_heif_opener()
    picture.save(buffer, form, exif=tag, **more)
    seen = image_files.read(buffer.getvalue())
    assert seen.size == picture.size[::-1]
    seen.image.save(upright, "PNG")
    return buffer.getvalue(), upright.getvalue()


@pytest.mark.long
def test_a_segmenter_moves_and_its_exports_give_the_same_masks(converting: Server) -> None:
    project = mask_project(converting.roots / "masks", count=24)
    task, folder = trained(converting, project, parameters={"exports": "all", "epochs": 8}, trainType="SEGMENTATION")
    file = (project / "images" / "003.png").read_bytes()
    masks = {}
    for name in ("task", *FORMS):
        workspace = f"mask {name}"
        converting.call("/create_workspace/", name=workspace)
        deploy(converting, workspace, f"task:{task}" if name == "task" else folder / name)
        path = f"/v1/models/{workspace}:predict"
        if name == "task":
            before = converting.http.post(path, content=file, headers={"content-type": "image/png"}).content
            told = moved(converting, workspace)
            assert told["runtime"] != "tensorflow", told
            assert converting.http.post(path, content=file, headers={"content-type": "image/png"}).content == before
        masks[name] = mask_of(converting.http.post(path, content=file, headers={"content-type": "image/png"}).content)
    assert set(np.unique(masks["task"])) == {0, 255}
    lead = lead_of_each_pixel(converting, "mask task", file)
    for name in FORMS:
        assert masks[name].shape == masks["task"].shape == (32, 40)
        different = masks[name] != masks["task"]
        # These forms get files that are resized outside of the graph, which rounds scores another way.
        assert different.mean() <= (0.02 if "int8" in name else 0.005)
        assert lead[different].max(initial=0.0) < (0.3 if "int8" in name else 0.05)


def lead_of_each_pixel(server: Server, workspace: str, file: bytes) -> Any:
    """How far apart the two highest probabilities of each pixel are: (height, width)."""
    with Image.open(io.BytesIO(file)) as image:
        pixels = np.asarray(image.convert("RGB"))
    job = server.call(
        "/predict/", name=workspace, fetches=["probabilities"], feed_dict={"images": [pixels.tolist()]},
        signature="probabilities", timeout=60,
    )  # fmt: skip
    ordered = np.sort(np.array(job["result"][0][0]), axis=-1)
    return ordered[..., -1] - ordered[..., -2]


@pytest.mark.long
def test_a_detector_answers_a_file_with_boxes_over_every_protocol(converting: Server, port: int) -> None:
    project = box_project(converting.roots / "boxes")
    task, folder = trained(converting, project, parameters=LEARNT_IN | {"exports": "all"}, trainType="Detection")
    file = (project / "images" / "03.png").read_bytes()
    for name in ("task", *FORMS):
        workspace = f"boxes {name}"
        converting.call("/create_workspace/", name=workspace)
        deploy(converting, workspace, f"task:{task}" if name == "task" else folder / name)
        path, headers = f"/v1/models/{workspace}:predict", {"content-type": "image/png"}
        (found,) = converting.http.post(path, content=file, headers=headers).json()["predictions"]
        assert {each["label"] for each in found["boxes"]} == {"bright", "dark"}, (name, found)
        assert {each["display"] for each in found["boxes"]} == {"Bright", "Dark"}, (name, found)
        best = found["boxes"][0]
        (one,) = converting.http.post(f"{path}?top=1", content=file, headers=headers).json()["predictions"]
        assert one["boxes"] == [best]
        (none,) = converting.http.post(f"{path}?min_score=1", content=file, headers=headers).json()["predictions"]
        assert none["boxes"] == []
        for query in ("min_score=many", "min_score=0_1", f"top={'9' * 5000}"):
            assert converting.http.post(f"{path}?{query}", content=file, headers=headers).status_code == 400
        feed = {"image_bytes": [{"b64": base64.b64encode(file).decode()}]}
        fetches = ["boxes", "scores", "labels", "count"]
        job = converting.call(
            "/predict/", name=workspace, fetches=fetches, feed_dict=feed, signature="image_bytes", timeout=60
        )
        boxes, scores, labels, count = job["result"]
        assert labels[0][0] == best["label"]
        assert scores[0][0] == pytest.approx(best["score"], abs=1e-3)
        assert boxes[0][0] == pytest.approx(best["box"], abs=0.02)
        assert count[0] >= len(found["boxes"])
        for boxes, scores, labels in (
            boxes_over_v2(converting, workspace, file),
            boxes_over_grpc(port, workspace, file),
        ):
            assert (labels[0], scores[0]) == (best["label"], pytest.approx(best["score"], abs=1e-3))
            assert boxes[0] == pytest.approx(best["box"], abs=0.02)


def mask_of(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)))
