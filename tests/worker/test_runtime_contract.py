"""What every runtime promises, shown with one model: as a SavedModel, and converted for each of the others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tfserve import runtimes
from tfserve.errors import Invalid, Unsupported
from tfserve.models import formats
from tfserve.runtimes import layout
from tfserve.runtimes.interface import OnlyTensorFlowKnows, Runtime
from tfserve.tensors.specs import Array, Signature, TensorSpec
from tfserve.worker.model.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

SIGNATURE = "serving_default"
FILES = {
    "tensorflow": ("contract", "tensorflow"),
    "openvino": ("openvino/model.xml", "openvino"),
    "openvino reading a SavedModel": ("contract", "openvino"),
    "litert": ("litert/model.tflite", "litert"),
    "onnxruntime": ("onnxruntime/model.onnx", "onnxruntime"),
}
CONVERTED = ["openvino", "litert", "onnxruntime"]


def load(path: Path, **options: str) -> Runtime:
    return runtimes.load(formats.locate(str(path)), device="/cpu:0", **options)


@pytest.fixture(scope="module", params=FILES)
def model(request: pytest.FixtureRequest, converted: Path) -> Runtime:
    """Its files are gone as soon as it is loaded."""
    path, runtime = FILES[request.param]
    folder = converted / f"copy of {request.param}"
    shutil.copytree(converted / path.partition("/")[0], folder / path.partition("/")[0])
    loaded = load(folder / path, runtime=runtime)
    shutil.rmtree(folder)
    return loaded


def inputs(rows: int) -> dict[str, Array]:
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2) / 4
    return {"count": np.arange(rows, dtype=np.int32), "x": x}


def compute(model: Runtime, outputs: Sequence[str], given: dict[str, Array]) -> list[Array]:
    return [np.asarray(output) for output in model.run(given, outputs, SIGNATURE)]


def test_it_reports_names_types_and_shapes_in_the_order_of_names(model: Runtime) -> None:
    signature = Signature(
        (TensorSpec("count", "int32", (-1,)), TensorSpec("x", "float32", (-1, 2))),
        (
            TensorSpec("is_large", "bool", (-1,)),
            TensorSpec("more", "int32", (-1,)),
            TensorSpec("y", "float32", (-1, 2)),
        ),
    )
    assert model.signatures == {SIGNATURE: signature}
    assert model.runtime in runtimes.MODULES


@pytest.mark.parametrize("rows", [1, 3, 2, 0])
def test_it_computes_any_number_of_rows(model: Runtime, rows: int) -> None:
    given = inputs(rows)
    y, more, is_large = compute(model, ["y", "more", "is_large"], given)
    assert (y.dtype, more.dtype, is_large.dtype) == (np.float32, np.int32, np.bool_)
    np.testing.assert_allclose(y, given["x"] * 3)
    np.testing.assert_array_equal(more, given["count"] + 1)
    np.testing.assert_array_equal(is_large, (given["x"] > 1).any(axis=1))


def test_outputs_are_those_that_were_requested_in_that_order(model: Runtime) -> None:
    for names in (["more"], ["y", "more"], ["more", "y"], ["y", "y"]):
        given = compute(model, names, inputs(2))
        assert [array.dtype.name for array in given] == [{"more": "int32", "y": "float32"}[name] for name in names]


def test_inputs_may_come_in_any_order_and_from_memory_that_is_read_only_or_in_pieces(model: Runtime) -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::3]
    count = np.frombuffer(bytes(8), dtype=np.int32)
    y, more = compute(model, ["y", "more"], {"x": x, "count": count})
    np.testing.assert_allclose(y, x * 3)
    np.testing.assert_array_equal(more, [1, 1])


def test_an_answer_stays_as_it_is_when_more_is_computed(model: Runtime) -> None:
    (first,) = compute(model, ["y"], inputs(2))
    before = first.copy()
    for rows in (2, 5):
        compute(model, ["y"], {**inputs(rows), "x": np.full((rows, 2), 7, np.float32)})
    np.testing.assert_array_equal(first, before)


def test_names_of_the_signature_are_targets_with_their_specs(model: Runtime) -> None:
    (feed,), (fetch,) = model.feeds("x", SIGNATURE), model.fetches("y", SIGNATURE)
    assert feed.spec == TensorSpec("x", "float32", (-1, 2))
    assert fetch.spec is not None
    given = {feed.name: inputs(1)["x"], model.feeds("count", SIGNATURE)[0].name: inputs(1)["count"]}
    (y,) = compute(model, [fetch.name], given)
    assert y.shape == (1, 2)
    assert model.missing(list(given), [fetch.name], SIGNATURE) == []


@pytest.mark.parametrize(("name", "hint"), [("xs", "'x'"), ("nonsense", "'count'")])
def test_an_unknown_input_is_reported_with_what_there_is(model: Runtime, name: str, hint: str) -> None:
    with pytest.raises(Invalid, match=f"no input '{name}'") as caught:
        model.feeds(name, SIGNATURE)
    assert hint in caught.value.message


def test_an_unknown_output_or_signature_is_reported(model: Runtime) -> None:
    with pytest.raises(Invalid, match="no output 'z'"):
        model.fetches("z", SIGNATURE)
    with pytest.raises(Invalid, match=r"no signature 'serving_defualt'.*did you mean 'serving_default'"):
        model.fetches("y", "serving_defualt")


@pytest.mark.parametrize("runtime", CONVERTED)
def test_what_only_tensorflow_can_answer_is_marked(converted: Path, runtime: str) -> None:
    model = load(converted / FILES[runtime][0])
    for ask in (
        lambda: model.fetches("StatefulPartitionedCall:0", SIGNATURE),
        lambda: model.feeds("x:0", SIGNATURE),
        lambda: model.fetches("y", "other"),
        lambda: model.missing(["x"], ["y"], SIGNATURE),
    ):
        with pytest.raises(OnlyTensorFlowKnows):
            ask()


def test_a_name_that_tensorflow_does_not_know_either_is_refused_at_once(converted: Path, tmp_path: Path) -> None:
    shutil.copytree(converted / "litert", tmp_path / "litert")
    full = load(converted / "contract")
    full.known_names().write(tmp_path / "litert")  # type: ignore[attr-defined]
    model = load(tmp_path / "litert/model.tflite")
    for name in ("zz", "StatefulPartitionedCall:99", "StatefulPartitionedCall:x", "x:0"):
        with pytest.raises(Invalid, match=f"no output '{name}'") as caught:
            model.fetches(name, SIGNATURE)
        assert not isinstance(caught.value, OnlyTensorFlowKnows)
    for name, signature in (("StatefulPartitionedCall:0", SIGNATURE), ("StatefulPartitionedCall", SIGNATURE)):
        with pytest.raises(OnlyTensorFlowKnows):
            model.fetches(name, signature)
    with pytest.raises(Invalid, match="no signature 'other'"):
        model.fetches("y", "other")
    predictor = Predictor(model)
    request = b'{"fetches": ["zz"], "feed_dict": {"serving_default_x:0": [[1, 2]]}}'
    assert [each.in_full for each in predictor.predict([request, request.replace(b"zz", b"y")])] == [False, True]


@pytest.mark.parametrize("runtime", CONVERTED)
def test_a_closed_model_holds_nothing(converted: Path, runtime: str) -> None:
    model = load(converted / FILES[runtime][0])
    model.close()
    assert vars(model) == {}


# --- files that were not converted here


@pytest.mark.parametrize("runtime", ["openvino", "litert"])
def test_a_file_of_another_origin_has_its_own_names(converted: Path, tmp_path: Path, runtime: str) -> None:
    file = converted / FILES[runtime][0]
    shutil.copytree(file.parent, tmp_path / "model")
    copy = tmp_path / "model" / file.name
    layout.path_of(copy).unlink()
    model = load(copy)
    names = {spec.name for spec in model.signatures[SIGNATURE].inputs}
    assert names == {"x", "count"}
    assert model.missing(["x"], ["y"], SIGNATURE) == ["count"]
    (y,) = compute(model, ["y"], inputs(3))
    assert y.shape == (3, 2)


def test_a_litert_file_without_signatures_has_the_names_of_its_tensors(converted: Path) -> None:
    model = load(converted / "plain.tflite")
    (out,) = model.signatures[SIGNATURE].outputs
    assert model.signatures[SIGNATURE].inputs == (TensorSpec("x", "float32", (-1, 2)),)
    for rows in (1, 3, 3, 1):
        x = np.ones((rows, 2), np.float32) * rows
        np.testing.assert_array_equal(compute(model, [out.name], {"x": x})[0], x * 2)


def test_a_litert_file_that_can_t_compute_a_row_of_one_value_is_loaded(converted: Path) -> None:
    model = load(converted / "sound.tflite")
    (out,) = model.signatures[SIGNATURE].outputs
    for size in (5, 2, 8, 2):
        x = np.ones((1, size, 1, 1), np.float32)
        if size < 5:
            with pytest.raises(Invalid, match="LiteRT could not run the model on these inputs"):
                compute(model, [out.name], {"x": x})
        else:
            assert compute(model, [out.name], {"x": x})[0].ravel().tolist() == [5.0] * (size - 4)


def test_a_litert_file_takes_text_and_any_other_bytes(converted: Path) -> None:
    model = load(converted / "text.tflite")
    assert model.signatures[SIGNATURE].outputs == (TensorSpec("chosen", "string", (-1,)),)
    words = np.array([b"a\xff", b"", "grün".encode(), b"nul\0"], dtype=object)
    at = np.array([3, 2, 1, 0], np.int32)
    (chosen,) = compute(model, ["chosen"], {"word": words, "at": at})
    assert chosen.tolist() == words[::-1].tolist()


def onnx_file(path: Path, dtype: int, shape: Sequence[Any], operation: str = "Identity") -> Path:
    from onnx import helper, save_model

    graph = helper.make_graph(
        [helper.make_node(operation, ["in"], ["out"])], "g",
        [helper.make_tensor_value_info("in", dtype, shape)], [helper.make_tensor_value_info("out", dtype, shape)],
    )  # fmt: skip
    save_model(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_symbols_in_the_shape_of_an_onnx_file_are_open_sizes(tmp_path: Path, runtime: str) -> None:
    model = load(onnx_file(tmp_path / "m.onnx", 1, ["batch", 2, "width"], "Neg"), runtime=runtime)
    assert model.signatures[SIGNATURE].inputs == (TensorSpec("in", "float32", (-1, 2, -1)),)
    (out,) = compute(model, ["out"], {"in": np.ones((3, 2, 5), np.float32)})
    assert (out == -1).all()


def test_an_onnx_file_takes_text(tmp_path: Path) -> None:
    model = load(onnx_file(tmp_path / "m.onnx", 8, ["n"]))
    assert model.signatures[SIGNATURE].inputs == (TensorSpec("in", "string", (-1,)),)
    words = np.array(["grün".encode(), b""], dtype=object)
    assert compute(model, ["out"], {"in": words})[0].tolist() == words.tolist()
    with pytest.raises(Invalid, match="UTF-8"):
        compute(model, ["out"], {"in": np.array([b"\xff"], dtype=object)})


def onnx_model(
    path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], *, ir: int = 10
) -> Path:
    from onnx import helper, save_model

    graph = helper.make_graph(nodes, "g", inputs, outputs)
    save_model(helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", 21)]), str(path))
    return path


def test_an_onnx_input_without_a_rank_takes_any_shape_and_a_scalar_none(tmp_path: Path) -> None:
    model = load(onnx_file(tmp_path / "any.onnx", 1, None, "Neg"))  # type: ignore[arg-type]
    assert model.signatures[SIGNATURE].inputs == (TensorSpec("in", "float32", None),)
    for shape in ((), (3,), (2, 2, 1)):
        assert compute(model, ["out"], {"in": np.ones(shape, np.float32)})[0].shape == shape
    scalar = load(onnx_file(tmp_path / "scalar.onnx", 1, [], "Neg"))
    assert scalar.signatures[SIGNATURE].inputs == (TensorSpec("in", "float32", ()),)
    assert compute(scalar, ["out"], {"in": np.array(2, np.float32)})[0].tolist() == -2


def test_an_onnx_file_without_any_tensor_to_return_is_refused(tmp_path: Path) -> None:
    from onnx import helper

    x = helper.make_tensor_value_info("x", 1, [2])
    list_of_x = helper.make_tensor_sequence_value_info("s", 1, None)
    node = helper.make_node("SequenceConstruct", ["x"], ["s"])
    with pytest.raises(Unsupported, match=r"no output that can be returned: output 's' is not a tensor but a seq"):
        load(onnx_model(tmp_path / "m.onnx", [node], [x], [list_of_x]))
    negative = [helper.make_node("Neg", ["x"], ["y"]), helper.make_tensor_value_info("y", 1, [2])]
    model = load(onnx_model(tmp_path / "both.onnx", [node, negative[0]], [x], [list_of_x, negative[1]]))
    assert [each.name for each in model.signatures[SIGNATURE].outputs] == ["y"]
    assert model.remarks == ["output 's' is not available: it is not a tensor but a seq(tensor(float))"]  # type: ignore[attr-defined]


def test_how_to_get_the_probabilities_of_a_converted_classifier_is_a_remark(tmp_path: Path) -> None:
    from onnx import helper, save_model

    nodes = [
        helper.make_node("ZipMap", ["x"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
        helper.make_node("Neg", ["x"], ["y"]),
    ]
    x, y = helper.make_tensor_value_info("x", 1, ["n", 2]), helper.make_tensor_value_info("y", 1, ["n", 2])
    row = helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, None))
    maps = helper.make_value_info("maps", helper.make_sequence_type_proto(row))
    graph = helper.make_graph(nodes, "g", [x], [maps, y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    save_model(helper.make_model(graph, ir_version=10, opset_imports=opsets), str(tmp_path / "maps.onnx"))
    (remark,) = load(tmp_path / "maps.onnx").remarks  # type: ignore[attr-defined]
    assert remark.startswith("output 'maps' is not available: it is not a tensor but a seq(map(int64,tensor(float))).")
    assert "options={'zipmap': False}" in remark


@pytest.mark.parametrize(("type_", "name"), [(17, "float8_e4m3fn"), (22, "int4"), (21, "uint4")])
def test_types_that_numpy_lacks_are_named(tmp_path: Path, type_: int, name: str) -> None:
    from onnx import helper

    floats, others = helper.make_tensor_value_info("x", 1, [2]), helper.make_tensor_value_info("y", type_, [2])
    cast = helper.make_node("Cast", ["x"], ["y"], to=type_)
    with pytest.raises(Unsupported, match=f"output 'y' is a tensor of {name}"):
        load(onnx_model(tmp_path / "out.onnx", [cast], [floats], [others]))
    back = helper.make_node("Cast", ["y"], ["x"], to=1)
    for runtime in ("onnxruntime", "openvino"):
        with pytest.raises(Unsupported, match=f"'y'.* of {name}"):
            load(onnx_model(tmp_path / "in.onnx", [back], [others], [floats]), runtime=runtime)


def test_onnx_runtime_takes_and_gives_bfloat16(tmp_path: Path) -> None:
    from onnx import helper

    x, y = (helper.make_tensor_value_info(name, 16, ["n"]) for name in ("x", "y"))
    wide = helper.make_tensor_value_info("wide", 1, ["n"])
    nodes = [helper.make_node("Neg", ["x32"], ["n32"]), helper.make_node("Cast", ["x"], ["x32"], to=1)][::-1]
    nodes += [helper.make_node("Cast", ["n32"], ["y"], to=16), helper.make_node("Cast", ["x"], ["wide"], to=1)]
    model = load(onnx_model(tmp_path / "m.onnx", nodes, [x], [y, wide]), runtime="onnxruntime")
    for given in ([1.5, -2.25, float("inf")], []):
        array = np.array(given, ml_dtypes.bfloat16)
        negative, same = compute(model, ["y", "wide"], {"x": array})
        assert (negative.dtype, same.dtype) == (array.dtype, np.float32)
        np.testing.assert_array_equal(negative.astype(np.float32), -array.astype(np.float32))
        np.testing.assert_array_equal(same, array.astype(np.float32))


def test_an_onnx_file_that_changes_the_case_of_text_is_computed_or_says_which_locale_is_missing(tmp_path: Path) -> None:
    from onnx import helper

    x, y = (helper.make_tensor_value_info(name, 8, [None]) for name in "xy")
    node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER", is_case_sensitive=0)
    file = onnx_model(tmp_path / "m.onnx", [node], [x], [y])
    if "en_US.utf8" in subprocess.run(["locale", "-a"], capture_output=True, text=True, check=True).stdout:
        (found,) = compute(load(file), ["y"], {"x": np.array([b"The"], object)})
        assert found.tolist() == [b"the"]
    else:
        with pytest.raises(Invalid, match=r"localedef -i en_US -f UTF-8 en_US\.UTF-8"):
            load(file)


def test_an_onnx_file_of_a_newer_version_or_without_its_weights_says_what_to_do(tmp_path: Path) -> None:
    from onnx import helper, save_model

    x = helper.make_tensor_value_info("x", 1, [1])
    newer = onnx_model(tmp_path / "m.onnx", [helper.make_node("Neg", ["x"], ["y"])], [x], [x], ir=99)
    with pytest.raises(Invalid, match=r"Unsupported model IR version: 99.*Update onnxruntime"):
        load(newer)
    weights = helper.make_tensor("w", 1, [1], np.ones(1, np.float32).tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [helper.make_tensor_value_info("y", 1, [1])], [weights]
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    save_model(model, str(tmp_path / "a.onnx"), save_as_external_data=True, location="a.data", size_threshold=0)
    (tmp_path / "a.data").unlink()
    with pytest.raises(Invalid, match=r"a\.data.*copy it into the model's folder"):
        load(tmp_path / "a.onnx")


def test_64_bits_are_exact_or_refused(tmp_path: Path) -> None:
    file = onnx_file(tmp_path / "m.onnx", 7, ["n"])
    wide = np.array([2**53 + 1], np.int64)
    assert compute(load(file, runtime="onnxruntime"), ["out"], {"in": wide})[0].tolist() == [2**53 + 1]
    with pytest.raises(Invalid, match="beyond 32 bits"):
        compute(load(file, runtime="openvino"), ["out"], {"in": wide})


def test_openvino_is_reported_not_to_reduce_the_precision(tmp_path: Path) -> None:
    file = onnx_file(tmp_path / "m.onnx", 1, ["n"], "Exp")
    x = np.linspace(0.1, 1, 64, dtype=np.float32)
    (exact,) = compute(load(file, runtime="openvino"), ["out"], {"in": x})
    np.testing.assert_allclose(exact, np.exp(x), rtol=1e-5)
    with pytest.raises(Unsupported, match="bf16 is supported by openvino"):
        load(file, runtime="onnxruntime", precision="bf16")
    assert load(file, precision="bf16").runtime == "openvino"


# --- what can't be loaded


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.onnx", b"", "is empty (0 bytes)"),
        ("m.onnx", b"junk", "damaged or not a model"),
        ("m.onnx", b"\x08\x08\x3a\x00", "can't be loaded by ONNX Runtime"),
        ("m.tflite", b"", "is empty (0 bytes)"),
        ("m.tflite", b"junk" * 100, "damaged or not a model"),
        ("m.tflite", b"junkTFL3" * 100, "can't be loaded by LiteRT"),
        ("m.xml", b"<net></net>", "its weights, "),
        ("m.bin", b"x", "is not a recognised model file"),
    ],
)
def test_a_wrong_file_is_reported(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Invalid) as caught:
        load(tmp_path / name)
    assert words in caught.value.message
    assert str(tmp_path / name) in caught.value.message


def test_a_damaged_openvino_model_is_reported_and_its_weights_lead_to_it(tmp_path: Path) -> None:
    for name in ("m.xml", "m.bin"):
        (tmp_path / name).write_bytes(b"<net></net>")
    with pytest.raises(Invalid, match="can't be read by OpenVINO"):
        load(tmp_path / "m.xml")
    with pytest.raises(Invalid, match=r"Give the path of its graph, .*m\.xml"):
        load(tmp_path / "m.bin")


@pytest.mark.parametrize("cut", [0.2, 0.9])
@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_half_a_file_is_reported(converted: Path, tmp_path: Path, runtime: str, cut: float) -> None:
    whole = converted / FILES[runtime][0]
    half = tmp_path / whole.name
    half.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * cut)])
    with pytest.raises(Invalid, match=r"can't be loaded|not completely saved"):
        load(half)


def test_a_runtime_that_does_not_read_a_format_is_refused_with_those_that_do(converted: Path) -> None:
    with pytest.raises(Unsupported, match=r"onnxruntime can't read .*, a LiteRT file\. Set runtime to litert"):
        load(converted / "litert/model.tflite", runtime="onnxruntime")
    with pytest.raises(Invalid, match=r"Unknown runtime 'litr'.*did you mean 'litert'"):
        load(converted / "litert/model.tflite", runtime="litr")
    with pytest.raises(Invalid, match="Unknown precision 'float16'"):
        load(converted / "litert/model.tflite", precision="float16")


LOAD_WITHOUT = """
import sys
for name in sys.argv[2:]:
    sys.modules[name] = None
from tfserve import runtimes
from tfserve.errors import Unsupported
from tfserve.models import formats
try:
    model = runtimes.load(formats.locate(sys.argv[1]), device="/cpu:0")
    print(model.runtime, *model.signatures["serving_default"].inputs)
except Unsupported as error:
    print(error.message)
"""


@pytest.mark.parametrize(
    ("name", "lacking", "words"),
    [
        ("contract", ["tensorflow", "keras"], "openvino int32 of shape [-1] float32 of shape [-1, 2]"),
        ("contract", ["tensorflow", "openvino"], "needs TensorFlow, which is not installed: pip install"),
        ("network.keras", ["tensorflow", "keras"], "needs TensorFlow, which is not installed"),
        (
            "litert/model.tflite",
            ["ai_edge_litert"],
            "needs LiteRT, which is not installed: pip install 'tfserve[litert]'",
        ),
        ("onnxruntime/model.onnx", ["onnxruntime", "openvino"], "needs ONNX Runtime, which is not installed"),
    ],
)
def test_what_is_not_installed_is_done_without_or_named(
    converted: Path, name: str, lacking: list[str], words: str
) -> None:
    command = [sys.executable, "-c", LOAD_WITHOUT, converted / name, *lacking]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert words in done.stdout


@pytest.mark.parametrize("runtime", CONVERTED)
def test_only_tensorflow_computes_on_other_devices(converted: Path, runtime: str) -> None:
    with pytest.raises(Invalid, match="To use a GPU, set runtime to tensorflow"):
        runtimes.load(formats.locate(str(converted / FILES[runtime][0])), device="/gpu:0")
