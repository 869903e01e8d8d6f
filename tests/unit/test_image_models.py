"""What models made by others take as images, and what their outputs mean: real files of two runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from image_models import as_array, litert_copy, loaded, located, onnx_model, png

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.runtimes import concurrent, image_metadata, images
from tfserve.runtimes.images import ImageFiles
from tfserve.runtimes.interface import remarks_of
from tfserve.tensors.specs import Array, Quantization
from tfserve.training.export import litert_metadata

FLAT = ("Flatten", ["in"], ["out"], {})
COLOURS = np.array([[[255, 0, 51], [0, 102, 255]], [[1, 2, 3], [4, 5, 6]]], np.uint8)
"""Two rows of two pixels. With sizes of 1 or 3 it would not be certain which one is the channels."""
LAST = [255, 0, 51, 0, 102, 255, 1, 2, 3, 4, 5, 6]
FIRST = [255, 0, 1, 4, 0, 102, 2, 5, 51, 255, 3, 6]


def with_files(path: Path, image: dict[str, Any] | None = None) -> ImageFiles:
    runtime = images.with_files(loaded(path), image_metadata.find(located(path), image))
    assert isinstance(runtime, ImageFiles)
    return runtime


def classified(runtime: ImageFiles, *files: bytes) -> tuple[list[str], Array]:
    """Labels and probabilities, as everybody gets them: what was prepared is computed."""
    prepared = runtime.prepare({"image_bytes": as_array(*files)})
    labels, probabilities = runtime.run(prepared, ["label", "probabilities"], images.PIXELS)
    assert labels is not None
    assert probabilities is not None
    return [label.decode() for label in labels], probabilities


def values(runtime: ImageFiles, pixels: Any) -> list[float]:
    """What a model that gives back its input was given for one file."""
    return [round(float(value), 4) for value in classified(runtime, png(pixels))[1][0]]


def flat(tmp_path: Path, shape: list[Any], dtype: str = "FLOAT") -> Path:
    nodes = [FLAT] if dtype == "FLOAT" else [("Flatten", ["in"], ["flat"], {}), ("Cast", ["flat"], ["out"], {"to": 1})]
    return onnx_model(tmp_path / "flat.onnx", nodes, shape=shape, out=["n", "k"], dtype=dtype)


# --- layout


def test_a_fixed_number_of_channels_shows_the_layout(tmp_path: Path) -> None:
    last = with_files(flat(tmp_path, ["n", 2, 2, 3]), {})
    assert values(last, COLOURS) == LAST
    first = with_files(flat(tmp_path, ["n", 3, 2, 2]), {})
    assert values(first, COLOURS) == FIRST
    assert (first.spec.layout, first.spec.height, first.spec.width, first.spec.channels) == ("NCHW", 2, 2, 3)
    open_sizes = with_files(flat(tmp_path, ["n", 3, "h", "w"]), {})
    assert values(open_sizes, COLOURS) == FIRST


@pytest.mark.parametrize("shape", [["n", "a", "b", "c"], ["n", 3, 3, 3], ["n", 3, 8, 3]])
def test_a_layout_that_is_not_certain_must_be_given(tmp_path: Path, shape: list[Any]) -> None:
    path = flat(tmp_path, shape)
    with pytest.raises(Invalid, match='Add "layout"'):
        with_files(path, {})
    assert with_files(path, {"layout": "NCHW"}).spec.layout == "NCHW"


def test_sizes_that_are_given_show_the_layout(tmp_path: Path) -> None:
    assert with_files(flat(tmp_path, ["n", 3, 4, 3]), {"height": 3, "width": 4}).spec.layout == "NHWC"
    with pytest.raises(Invalid, match=r"layout NHWC, but the model takes float32 of shape \[-1, 3, 2, 2\]"):
        with_files(flat(tmp_path, ["n", 3, 2, 2]), {"layout": "NHWC"})


def test_flattened_images_are_taken(tmp_path: Path) -> None:
    path = flat(tmp_path, ["n", 12])
    assert values(with_files(path, {"height": 2, "width": 2, "layout": "NHWC"}), COLOURS) == LAST
    assert values(with_files(path, {"height": 2, "width": 2, "layout": "NCHW"}), COLOURS) == FIRST
    grey = with_files(flat(tmp_path, ["n", 6]), {"height": 2, "width": 3})
    assert values(grey, [[1, 2, 3], [4, 5, 6]]) == [1, 2, 3, 4, 5, 6]
    for image in ({}, {"height": 2, "width": 2}, {"height": 3, "width": 3}):
        with pytest.raises(Invalid, match=r"flattened|values"):
            with_files(flat(tmp_path, ["n", 12]), image)


def test_grey_images_without_an_axis_for_channels_are_taken(tmp_path: Path) -> None:
    rows = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]]
    assert values(with_files(flat(tmp_path, ["n", 2, 5]), {}), rows) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    for shape in (["n", "h", "w"], [224, 224, 3], [3, 224, 224], ["n", 5, 3]):
        with pytest.raises(Invalid, match="count, height, width"):
            with_files(flat(tmp_path, shape), {})


def test_a_fixed_batch_is_filled_up_and_cut(tmp_path: Path) -> None:
    runtime = with_files(flat(tmp_path, [2, 2, 1, 1]), {})
    files = [png([[n], [n + 1]]) for n in (10, 20, 30)]
    assert classified(runtime, *files)[1].tolist() == [[10, 11], [20, 21], [30, 31]]


# --- values


def test_channels_may_be_blue_first_each_with_its_own_mean_and_deviation(tmp_path: Path) -> None:
    image = {"channel_order": "BGR", "mean": [51, 0, 55], "std": [1, 2, 4]}
    assert values(with_files(flat(tmp_path, ["n", 2, 2, 3]), image), COLOURS)[:6] == [0, 0, 50, 204, 51, -13.75]
    of_one = {"scale": 1 / 255, "mean": [0.2, 0.4, 0.5], "std": [0.5, 0.5, 0.5]}
    assert values(with_files(flat(tmp_path, ["n", 2, 2, 3]), of_one), COLOURS)[:6] == [1.6, -0.8, -0.6, -0.4, 0, 1]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, "pixels from 0 to 1"),
        ({"mean": 128, "offset": 3}, "not both"), ({"std": 0}, "std must not be 0"),
        ({"mean": [1, 2]}, "one per channel"), ({"scale": [1, 2]}, "one per channel"),
        ({"softmax": True, "sigmoid": True}, "exclude"),
        ({"channel_order": "GRB"}, "channel_order"), ({"layout": "CHW"}, "layout"),
    ],
)  # fmt: skip
def test_descriptions_that_make_no_sense_are_refused(tmp_path: Path, image: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        with_files(flat(tmp_path, ["n", 2, 2, 3]), image)


def test_integers_without_a_quantization_take_pixels_only_if_these_fit(tmp_path: Path) -> None:
    assert values(with_files(flat(tmp_path, ["n", 2, 1, 1], "UINT8"), {}), [[7], [255]]) == [7, 255]
    assert values(with_files(flat(tmp_path, ["n", 2, 1, 1], "INT8"), {"offset": -128}), [[7], [255]]) == [-121, 127]
    assert values(with_files(flat(tmp_path, ["n", 2, 1, 1], "FLOAT16"), {"scale": 0.5}), [[7], [255]]) == [3.5, 127.5]
    for dtype, image in (("INT8", {}), ("UINT8", {"scale": 1 / 255}), ("INT32", {"scale": 1 / 255})):
        with pytest.raises(Invalid, match="pixels"):
            with_files(flat(tmp_path, ["n", 2, 1, 1], dtype), image)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "image", "expected"),
    [
        ("int8", 1.0, -128, {}, [0, 128, 255]),
        ("uint8", 1 / 255, 0, {}, [0, 0.502, 1]),
        ("int8", 1 / 128, 0, {}, [-1, 0.0039, 0.9922]),
        ("uint8", 1 / 128, 128, {"mean": 127.5, "std": 127.5}, [-1, 0.0078, 0.9922]),
        ("int8", 0.02, 10, {"scale": 1 / 255, "mean": 0.5, "std": 0.25}, [-2, 0.0, 2.0]),
    ],
)
def test_the_files_own_scale_and_zero_point_are_used(
    tmp_path: Path, dtype: str, scale: float, zero_point: int, image: dict[str, Any], expected: list[float]
) -> None:
    path = litert_copy(tmp_path / "q.tflite", shape=[1, 2, 3, 1], dtype=dtype, quantization=([scale], [zero_point]))
    runtime = with_files(path, image)
    # What comes back is dequantized, so it is what the pixels became, to half a step.
    assert values(runtime, [[0, 128, 255]] * 2)[:3] == pytest.approx(expected, abs=scale / 2)
    (given,) = runtime.signatures["serving_default"].inputs  # others give integers, as before
    assert given.quantization == Quantization(pytest.approx(scale), zero_point)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_onnx_graph_shows_what_its_integers_stand_for(tmp_path: Path, runtime: str) -> None:
    nodes = [
        ("Transpose", ["in"], ["moved"], {"perm": [0, 1, 2, 3]}),
        ("DequantizeLinear", ["moved", "scale", "zero"], ["real"], {}), ("Flatten", ["real"], ["flat"], {}),
        ("QuantizeLinear", ["flat", "out_scale", "out_zero"], ["out"], {}),
    ]  # fmt: skip
    constants = {
        "scale": np.float32(1 / 255), "zero": np.int8(-128), "out_scale": np.float32(0.5), "out_zero": np.uint8(3),
    }  # fmt: skip
    path = onnx_model(
        tmp_path / "q.onnx", nodes, shape=["n", 2, 1, 1], out=["n", 2], dtype="INT8", out_dtype="UINT8",
        constants=constants,
    )  # fmt: skip
    described = image_metadata.find(located(path), {})
    model = images.with_files(runtimes.load(located(path), device="/cpu:0", runtime=runtime), described)
    (given,), (told,) = model.signatures["serving_default"].inputs, model.signatures["serving_default"].outputs
    assert given.quantization == Quantization(pytest.approx(1 / 255), -128)
    assert told.quantization == Quantization(0.5, 3)
    assert isinstance(model, ImageFiles)
    assert values(model, [[0], [255]]) == [0, 1]


def test_an_unusual_quantization_needs_the_normalization(tmp_path: Path) -> None:
    path = litert_copy(tmp_path / "q.tflite", shape=[1, 2, 3, 1], dtype="int8", quantization=([0.0186], [-14]))
    with pytest.raises(Invalid, match=r"quantized for values from -2.12 to 2.623"):
        with_files(path, {})
    with pytest.raises(Invalid, match="pixels would become 0 to 255"):
        with_files(path, {"scale": 1.0})
    with pytest.raises(Invalid, match="lost in rounding"):
        with_files(path, {"scale": 1e-4})


# --- outputs


def scored(tmp_path: Path, shape: list[Any], out: list[Any], *, weights: list[float] | None = None) -> Path:
    """Its scores are the two grey pixels of a file, or their weighted sum, in the shape `out`."""
    constants = {"shape": np.array([size if isinstance(size, int) else -1 for size in shape], np.int64)}
    if weights is None:
        nodes: list[Any] = [("Reshape", ["in", "shape"], ["out"], {})]
    else:
        constants["weights"] = np.array(weights, np.float32).reshape(2, 1)
        nodes = [("Flatten", ["in"], ["flat"], {}), ("MatMul", ["flat", "weights"], ["one"], {}),
                 ("Reshape", ["one", "shape"], ["out"], {})]  # fmt: skip
    return onnx_model(tmp_path / "scored.onnx", nodes, shape=["n", 2, 1, 1], out=out, constants=constants)


@pytest.mark.parametrize("shape", [[-1, 2], [-1, 1, 1, 2], [-1, 2, 1, 1], [-1, 1, 2]])
def test_scores_may_have_axes_of_one(tmp_path: Path, shape: list[int]) -> None:
    path = scored(tmp_path, shape, ["n", *shape[1:]])
    labels, scores = classified(
        with_files(path, {"labels": ["a", "b"], "scale": 1 / 255}), png([[255], [0]]), png([[0], [51]])
    )
    assert labels == ["a", "b"]
    assert scores.tolist() == pytest.approx(np.array([[1, 0], [0, 0.2]]))


@pytest.mark.parametrize("shape", [[-1, 1], [-1], [-1, 1, 1, 1]])
def test_one_probability_with_two_labels_is_that_of_the_second(tmp_path: Path, shape: list[int]) -> None:
    path = scored(tmp_path, shape, ["n", *shape[1:]], weights=[1 / 255, 0])
    runtime = with_files(path, {"labels": ["no", "yes"]})
    labels, scores = classified(runtime, png([[51], [0]]), png([[204], [0]]))
    assert labels == ["no", "yes"]
    assert scores.tolist() == pytest.approx(np.array([[0.8, 0.2], [0.2, 0.8]]))
    logit = scored(tmp_path, shape, ["n", *shape[1:]], weights=[0.1, 0])
    with pytest.raises(Invalid, match='"sigmoid": true'):
        classified(with_files(logit, {"labels": ["no", "yes"]}), png([[200], [0]]))
    labels, scores = classified(with_files(logit, {"labels": ["no", "yes"], "sigmoid": True}), png([[20], [0]]))
    assert scores[0].tolist() == pytest.approx([1 - 0.880797, 0.880797], abs=1e-5)


def test_logits_become_probabilities_when_asked(tmp_path: Path) -> None:
    path = scored(tmp_path, [-1, 2], ["n", 2])
    _, scores = classified(
        with_files(path, {"labels": ["a", "b"], "softmax": True, "scale": 1 / 255}), png([[255], [0]])
    )
    assert scores[0].tolist() == pytest.approx([0.731059, 0.268941], abs=1e-5)
    _, scores = classified(
        with_files(path, {"labels": ["a", "b"], "sigmoid": True, "scale": 1 / 255}), png([[255], [0]])
    )
    assert scores[0].tolist() == pytest.approx([0.731059, 0.5], abs=1e-5)
    one = scored(tmp_path, [-1, 1], ["n", 1], weights=[1, 0])
    with pytest.raises(Invalid, match="always 1"):
        with_files(one, {"softmax": True})


@pytest.mark.parametrize("labels", [["a"], ["a", "b", "c"]])
@pytest.mark.parametrize("out", [["n", 2], ["n", "k"]])
def test_labels_must_be_as_many_as_the_outputs(tmp_path: Path, labels: list[str], out: list[Any]) -> None:
    with pytest.raises(Invalid, match=rf"labels has {len(labels)} entries, but the output 'out' has 2 classes"):
        with_files(scored(tmp_path, [-1, 2], out), {"labels": labels})


def test_class_numbers_are_not_probabilities(tmp_path: Path) -> None:
    nodes = [("Flatten", ["in"], ["flat"], {}), ("ArgMax", ["flat"], ["out"], {"axis": 1})]
    path = onnx_model(tmp_path / "best.onnx", nodes, shape=["n", 2, 1, 1], out=["n", 1], out_dtype="INT64")
    with pytest.raises(Invalid, match="Expected probabilities: floats"):
        with_files(path, {"labels": ["a", "b"]})


# --- masks


def segmented(tmp_path: Path, nodes: list[Any], out: list[Any], image: dict[str, Any], pixels: Any) -> list[Any]:
    path = onnx_model(tmp_path / "mask.onnx", nodes, shape=["n", 2, 2, 3], out=out)
    runtime = with_files(path, {"task": "segmentation", **image})
    (mask,) = runtime.run(runtime.prepare({"image_bytes": as_array(png(pixels))}), ["mask"], images.PIXELS)
    assert mask is not None
    return [list(map(int, row)) for row in mask[0]]


def test_classes_of_a_mask_may_be_last_or_first(tmp_path: Path) -> None:
    """The class of a pixel is its strongest colour."""
    image = {"labels": ["red", "green", "blue"]}
    last = [("Identity", ["in"], ["out"], {})]
    first = [("Transpose", ["in"], ["out"], {"perm": [0, 3, 1, 2]})]
    assert segmented(tmp_path, last, ["n", 2, 2, 3], image, COLOURS) == [[0, 2], [2, 2]]
    assert segmented(tmp_path, first, ["n", 3, 2, 2], image, COLOURS) == [[0, 2], [2, 2]]
    assert segmented(tmp_path, first, ["n", "a", "b", "c"], {}, COLOURS) == [[0, 2], [2, 2]]
    values_of = {**image, "mask_values": [0, 128, 255]}
    assert segmented(tmp_path, first, ["n", 3, 2, 2], values_of, COLOURS) == [[0, 255], [255, 255]]
    large = np.repeat(np.repeat(COLOURS, 4, axis=0), 2, axis=1)
    mask = segmented(tmp_path, first, ["n", 3, 2, 2], image, large)
    assert (len(mask), mask[0]) == (8, [0, 0, 2, 2])
    for labels in (["a"], ["a", "b"]):
        with pytest.raises(Invalid, match="3 classes"):
            segmented(tmp_path, first, ["n", 3, 2, 2], {"labels": labels}, COLOURS)


def test_a_mask_of_one_channel_is_a_probability(tmp_path: Path) -> None:
    one = [("Slice", ["in", "begin", "end", "axis"], ["out"], {})]
    constants = {"begin": np.array([0]), "end": np.array([1]), "axis": np.array([3])}
    path = onnx_model(tmp_path / "m.onnx", one, shape=["n", 2, 2, 3], out=["n", 2, 2, 1], constants=constants)

    def mask(image: dict[str, Any]) -> list[int]:
        runtime = with_files(path, {"task": "segmentation", **image})
        (found,) = runtime.run(
            {"image_bytes": as_array(png([[[255, 0, 0], [102, 0, 0]]] * 2))}, ["mask"], "image_bytes"
        )
        assert found is not None
        return [int(value) for value in found[0][0]]

    assert mask({"scale": 1 / 255}) == [1, 0]
    assert mask({"scale": 1 / 255, "offset": -0.3, "sigmoid": True}) == [1, 1]
    assert mask({"scale": 1 / 255, "mask_values": [0, 255]}) == [255, 0]
    assert mask({}) == [255, 102]  # whole numbers above 1 are classes
    with pytest.raises(Invalid, match='"sigmoid": true'):
        mask({"scale": 1 / 10})


# --- what files say of themselves


def test_an_onnx_property_or_a_file_beside_describes_the_images(tmp_path: Path) -> None:
    own = {"labels": ["a", "b"], "scale": 1 / 255}
    path = onnx_model(
        tmp_path / "m.onnx", [FLAT], shape=["n", 2, 1, 1], out=["n", 2],
        properties={"producer": "x", "tfserve.image": msgspec.json.encode(own).decode()},
    )  # fmt: skip
    assert classified(with_files(path), png([[0], [255]]))[0] == ["b"]
    # What is given comes first, the rest is the model's own; the normalization is one thing.
    assert values(with_files(path, {"mean": 5}), [[0], [255]]) == [-5, 250]
    assert with_files(path, {"mean": 5}).spec.labels == ["a", "b"]
    image_metadata.sidecar(path).write_text('{"labels": ["left", "right"]}')
    assert classified(with_files(path), png([[0], [255]]))[0] == ["right"]
    image_metadata.sidecar(path).write_text('{"labels": ["left", "right", "up"]}')
    with pytest.raises(Invalid, match="labels has 3 entries"):
        with_files(path)
    image_metadata.sidecar(path).write_text("[1")
    with pytest.raises(Invalid, match=r"m\.image\.json is not a JSON object"):
        with_files(path)


def test_names_for_people_go_with_their_labels(tmp_path: Path) -> None:
    own = {"labels": ["a", "b"], "display": ["Ä", "猫"], "scale": 1 / 255}
    path = onnx_model(
        tmp_path / "m.onnx", [FLAT], shape=["n", 2, 1, 1], out=["n", 2],
        properties={"tfserve.image": msgspec.json.encode(own).decode()},
    )  # fmt: skip
    assert with_files(path).spec.display == ["Ä", "猫"]
    assert with_files(path, {"labels": ["x", "y"]}).spec.display == [], "they belong to other labels"
    with pytest.raises(Invalid, match="display must have one name per label: expected 2, got 1"):
        with_files(path, {"display": ["x"]})


def test_the_metadata_of_a_litert_file_describes_its_images(tmp_path: Path) -> None:
    """As tools of others write it: colours, mean and standard deviation, and labels in the archive after the model."""
    card = {"task": "t", "train_type": "classification", "size": [2, 1], "labels": ["a", "b"]}

    def copy(labels: str) -> Path:
        return litert_copy(
            tmp_path / "m.tflite", shape=[1, 2, 1, 3], dtype="float32", quantization=None,
            metadata=litert_metadata.metadata(card), files={"labels.txt": labels},
        )  # fmt: skip

    runtime = with_files(copy("a\nb\nc\nd\ne\nlast\n"))
    assert (runtime.spec.mean, runtime.spec.std, runtime.spec.channels) == (0, 1, 3)
    labels, scores = classified(runtime, png([[[1, 2, 3]], [[4, 5, 6]]]))
    assert (labels, scores.tolist()) == (["last"], [[1, 2, 3, 4, 5, 6]])
    assert with_files(copy("a\n" * 6), {"labels": list("uvwxyz")}).spec.labels == list("uvwxyz")
    # What was written for others to read may be wrong: the model is served all the same.
    path = copy("a\nb\n")
    refused = images.with_files(loaded(path), image_metadata.find(located(path), None))
    assert "image_bytes" not in refused.signatures
    assert "labels has 2 entries" in remarks_of(refused)[0]
    path.write_bytes(path.read_bytes()[:-20])
    assert with_files(path).spec.labels == []


def test_a_quantized_tensor_may_have_a_scale_for_each_channel() -> None:
    quantization = Quantization((0.5, 2.0), (0, 10), 1)
    assert quantization.real(np.array([[2, 11], [4, 9]], np.int8)).tolist() == [[1, 2], [2, -2]]
    assert quantization.quantized(np.array([[1.0, 2.0], [2.0, -2.0]]), np.dtype(np.int8)).tolist() == [[2, 11], [4, 9]]


def test_a_copy_for_concurrent_batches_reads_files_and_can_be_closed_alone(tmp_path: Path) -> None:
    model = with_files(flat(tmp_path, ["n", 2, 2, 3]), {})
    files = {images.IMAGE_BYTES: as_array(*[png(np.full((2, 2, 3), value)) for value in (10, 200, 90)])}
    (expected,) = model.run(files, ["probabilities"], images.IMAGE_BYTES)
    copy = concurrent.narrowed(model, 2)
    for _ in range(2):
        (found,) = copy.run(files, ["probabilities"], images.IMAGE_BYTES)
        assert np.array_equal(np.asarray(found), np.asarray(expected))
    copy.close()
    (again,) = model.run(files, ["probabilities"], images.IMAGE_BYTES)
    assert np.array_equal(np.asarray(again), np.asarray(expected))
