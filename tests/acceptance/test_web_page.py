"""The page that runs a trained model in the browser, from a plain static web server."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.acceptance.browser import CHROMIUM, Browser
from tfserve.training.export import web_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

SIDE = 16
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
Open = Callable[..., Browser]


@pytest.fixture
def open_page(tmp_path: Path) -> Iterator[Open]:
    """Serves a folder as `python -m http.server` does, and opens it."""
    with ExitStack() as stack:

        def open_one(folder: Path, *options: str) -> Browser:
            handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
            server = stack.enter_context(http.server.ThreadingHTTPServer(("localhost", 0), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            browser = Browser(tmp_path / "profile", f"http://localhost:{server.server_port}/", *options)
            stack.callback(browser.close)
            return browser

        yield open_one


def write_page(folder: Path, task: str, nodes: list[Any], outputs: dict[str, tuple[int, list[int]]]) -> Path:
    """A page for a model of these nodes, whose input is `images`."""
    values = [helper.make_tensor_value_info(name, type_, shape) for name, (type_, shape) in outputs.items()]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, SIDE, SIDE, 3])
    graph = helper.make_graph(nodes, "g", [images], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    image = {"task": task, "height": SIDE, "width": SIDE, "labels": list(COLOURS)}
    display = ["Rot", "Grün", "青"]
    web_page.write(folder / "web", folder / "model.onnx", image, title="Farben", about="3 labels", display=display)
    return folder / "web"


def constant(name: str, values: Any, dtype: Any = np.float32) -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(values, dtype)))


def picture(folder: Path, name: str, **options: Any) -> Path:
    file = folder / f"{name}.png"
    Image.new("RGB", (40, 30), COLOURS[name]).save(file, **options)
    return file


def test_a_chosen_file_gets_the_label_of_its_colour(tmp_path: Path, open_page: Open) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Softmax", ["mean"], ["probabilities"]),
    ]
    page = open_page(write_page(tmp_path, "classification", nodes, {"probabilities": (TensorProto.FLOAT, [None, 3])}))
    assert page.wait_for("Ready.")
    page.choose("#files", picture(tmp_path, "green"), picture(tmp_path, "blue"))
    assert page.wait_for("青\n100%")
    assert "Grün\n100%" in page.text()
    (tmp_path / "broken.jpg").write_text("no image")
    page.choose("#files", tmp_path / "broken.jpg")
    assert page.wait_for("cannot read the image")


def test_masks_are_shown_with_the_share_of_each_class(tmp_path: Path, open_page: Open) -> None:
    nodes = [helper.make_node("Softmax", ["images"], ["probabilities"])]
    shape = (TensorProto.FLOAT, [None, SIDE, SIDE, 3])
    page = open_page(write_page(tmp_path, "segmentation", nodes, {"probabilities": shape}))
    assert page.wait_for("Ready.")
    half = Image.new("RGB", (32, 32), COLOURS["blue"])
    half.paste(COLOURS["green"], (0, 0, 8, 32))
    half.save(tmp_path / "half.png")
    page.choose("#files", tmp_path / "half.png")
    assert page.wait_for("青\n75%")
    assert "Grün\n25%" in page.text()


def test_boxes_are_listed_with_their_scores(tmp_path: Path, open_page: Open) -> None:
    nodes = [
        constant("boxes", [[[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1]]]),
        constant("scores", [[0.9, 0.1]]),
        constant("labels", [[2, 0]], np.int32),
        constant("count", [2], np.int32),
    ]
    outputs = {
        "boxes": (TensorProto.FLOAT, [1, 2, 4]), "scores": (TensorProto.FLOAT, [1, 2]),
        "labels": (TensorProto.INT32, [1, 2]), "count": (TensorProto.INT32, [1]),
    }  # fmt: skip
    page = open_page(write_page(tmp_path, "detection", nodes, outputs))
    assert page.wait_for("Ready.")
    page.choose("#files", picture(tmp_path, "red"))
    assert page.wait_for("青\n90%")
    assert "Rot" not in page.text()


def test_the_camera_is_read_frame_by_frame(tmp_path: Path, open_page: Open) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Softmax", ["mean"], ["probabilities"]),
    ]
    folder = write_page(tmp_path, "classification", nodes, {"probabilities": (TensorProto.FLOAT, [None, 3])})
    page = open_page(folder, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    assert page.wait_for("Ready.")
    page.click("#camera")
    assert page.wait_for("The camera is on.")
    assert page.wait_for(" ms")


def test_a_model_that_is_missing_is_reported_on_the_page(tmp_path: Path, open_page: Open) -> None:
    nodes = [helper.make_node("Softmax", ["images"], ["probabilities"])]
    shape = (TensorProto.FLOAT, [None, SIDE, SIDE, 3])
    folder = write_page(tmp_path, "classification", nodes, {"probabilities": shape})
    (folder / "model.onnx").unlink()
    assert open_page(folder).wait_for("model.onnx: the server answered 404")
