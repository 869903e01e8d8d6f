"""Which model a path means, and what is told about a path that means none."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.models import formats

# Only what is looked at before a runtime is imported: names, sizes and the first bytes.


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return data.getvalue()


def hdf5(size: int = 96) -> bytes:
    """The superblock of a file that declares this size in bytes."""
    return b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08" + bytes(25) + struct.pack("<Q", size) + bytes(48)


KERAS = zipped("metadata.json", "config.json", "model.weights.h5")
NODE = b"\x0a\x01x\x12\x0bPlaceholder"
FROZEN = b"\x0a" + bytes([len(NODE)]) + NODE
ONNX = b"\x08\x08\x12\x02me\x3a\x04\x0a\x02\x0a\x00\x42\x02\x10\x11"
LITERT = b"\x1c\0\0\0TFL3" + bytes(20)
CONTENTS = {
    ".keras": KERAS,
    ".h5": hdf5(),
    ".onnx": ONNX,
    ".tflite": LITERT,
    ".ort": b"\0\0\0\0ORTM",
    ".xml": b"<?xml ?><net></net>\n",
    ".pb": b"\x08\x01\x12\x00",
    ".meta": b"\x0a\x00\x12\x00",
    ".pdmodel": b"\x0a\x05\x08\x00\x10\x00\x1a",
}


def file(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENTS.get(path.suffix, b"x") if content is None else content)
    return path


def checkpoint(folder: Path, name: str = "model") -> Path:
    for suffix in (".meta", ".index", ".data-00000-of-00001"):
        file(folder / f"{name}{suffix}")
    return folder / name


def refusal(path: Path | str, **options: str) -> str:
    with pytest.raises(Invalid) as caught:
        formats.locate(str(path), **options)
    assert str(path) in caught.value.message
    return caught.value.message


def test_a_checkpoint_prefix_is_a_meta_graph_with_or_without_its_suffix(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path)
    for path in (prefix, f"{prefix}.meta"):
        found = formats.locate(str(path))
        assert (found.format, found.path, found.weights) == (formats.META_GRAPH, Path(f"{prefix}.meta"), str(prefix))


def test_a_prefix_with_a_dot_in_it_is_found(tmp_path: Path) -> None:
    assert formats.locate(str(checkpoint(tmp_path, "model.ckpt-10"))).weights == str(tmp_path / "model.ckpt-10")


def test_other_weights_may_be_named_by_prefix_or_index(tmp_path: Path) -> None:
    prefix, other = checkpoint(tmp_path), checkpoint(tmp_path, "other")
    for weights in (other, f"{other}.index"):
        assert formats.locate(str(prefix), str(weights)).weights == str(other)


def test_a_saved_model_has_the_version_of_its_numbered_folder(tmp_path: Path) -> None:
    file(tmp_path / "plain" / "saved_model.pb")
    file(tmp_path / "7" / "saved_model.pb")
    assert formats.locate(str(tmp_path / "plain")).version is None
    assert formats.locate(str(tmp_path / "7")).version == 7


def test_the_highest_version_wins_by_number_not_by_name(tmp_path: Path) -> None:
    for name in ("9", "10", "latest", "2.old"):
        file(tmp_path / name / "saved_model.pb")
    found = formats.locate(str(tmp_path))
    assert (found.path, found.version) == (tmp_path / "10", 10)


def test_a_version_may_be_a_single_file(tmp_path: Path) -> None:
    keras = file(tmp_path / "3" / "model.keras")
    found = formats.locate(str(tmp_path))
    assert (found.format, found.path, found.version) == (formats.KERAS, keras, 3)


@pytest.mark.parametrize(
    ("make", "path", "words"),
    [
        (lambda _: None, "missing", "does not exist"),
        (lambda folder: file(folder / "modell"), "model", "did you mean 'modell'?"),
        (lambda folder: file(folder / "model.keras", b""), "model.keras", "is empty (0 bytes)"),
        (lambda folder: file(folder / "m/saved_model.pb", b""), "m", "is empty (0 bytes)"),
        (lambda folder: file(folder / "m/variables/variables.index"), "m", "variables but no saved_model.pb"),
        (
            lambda folder: file(folder / "m/readme"),
            "m",
            "contains no model: found neither saved_model.pb nor",
        ),
        (lambda folder: file(folder / "m/inference.pdmodel"), "m", "Give the path of one, such as"),
        (lambda folder: file(folder / "m/cat.xml", b"<annotation></annotation>"), "m", "contains no model"),
        (lambda folder: file(folder / "m/net.xml", b'<net name="m"></net>'), "m", "such as"),
        (lambda folder: file(folder / "w.json", b'[{"paths": [], "weights": []}]'), "w.json", "as for face-api.js"),
        (lambda folder: checkpoint(folder / "m"), "m", "Give the path of one of them, such as"),
        (lambda folder: file(folder / "m/saved_model.pb"), "m/saved_model.pb", "Give the path of its folder"),
        (lambda folder: file(folder / "m.index"), "m.index", "m.meta does not exist"),
        (lambda folder: file(folder / "m.txt"), "m.txt", "is not a recognised model file"),
        (lambda folder: file(folder / "m.meta"), "m", "m.index is missing"),
        (lambda folder: (file(folder / "m.meta"), file(folder / "m.index")), "m", "found 0 of 1 files"),
        (lambda folder: (checkpoint(folder, "m"), file(folder / "m.index", b"")), "m", "is empty (0 bytes)"),
        (
            lambda folder: file(folder / "m/1/readme"),
            "m",
            "contains no model: found neither saved_model.pb nor",
        ),
    ],
)
def test_what_is_wrong_with_a_path_is_reported(
    tmp_path: Path, make: Callable[[Path], object], path: str, words: str
) -> None:
    make(tmp_path)
    assert words in refusal(tmp_path / path)


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("m.keras", formats.KERAS),
        ("m.h5", formats.HDF5),
        ("m.hdf5", formats.HDF5),
        ("m.onnx", formats.ONNX),
        ("m.tflite", formats.LITERT),
        ("m.ort", formats.ORT),
        ("m.xml", formats.OPENVINO),
        ("m.pdmodel", formats.PADDLE),
    ],
)
def test_a_file_is_recognised_by_its_content(tmp_path: Path, name: str, format_: str) -> None:
    content = CONTENTS[".h5" if name == "m.hdf5" else Path(name).suffix]
    for companion in ("m.bin", "m.pdiparams"):
        file(tmp_path / companion)
    assert formats.locate(str(file(tmp_path / name, content))).format == format_


@pytest.mark.parametrize(
    ("content", "format_"), [(ONNX, formats.ONNX), (LITERT, formats.LITERT), (FROZEN, formats.FROZEN_GRAPH)]
)
@pytest.mark.parametrize("name", ["model.pb", "model.bin", "model", "model.keras"])
def test_a_misnamed_file_is_served_where_its_runtime_does_not_care(
    tmp_path: Path, name: str, content: bytes, format_: str
) -> None:
    assert formats.locate(str(file(tmp_path / name, content))).format == format_


FOREIGN = {
    "TorchScript": zipped("m/data.pkl", "m/code/__torch__.py", "m/constants.pkl"),
    "torch.save": zipped("m/data.pkl", "m/data/0"),
    "exported by PyTorch": zipped("m/archive_format", "m/models/model.json"),
    "a zip archive": zipped("model/saved_model.pb"),
    "numpy arrays": zipped("a.npy"),
    "Python pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x07sklearn",
    "joblib": b"\x78\x9c\x01\x02",
    "safetensors": struct.pack("<Q", 2) + b"{}" + bytes(10),
    "GGUF": b"GGUF\x03\0\0\0",
    "TensorRT": b"ftrt\0\0",
    "tar xzf": b"\x1f\x8b\x08",
    "gunzip --keep": gzip.compress(b"\x08\x08model" * 500),
    "without its weights": b'{"class_name": "Sequential", "config": {}}',
    "Core ML": b"\x08\x04\x12\x02\x0a\x00\xa2\x1f\x00",
    "graph of a SavedModel": CONTENTS[".pb"],
    "as text": b'node {\n  name: "x"\n  op: "Placeholder"\n}',
    "graph of an ONNX model alone": b"\x0a\x05\x22\x03Abs\x12\x01g\x5a\x03\x0a\x01x\x62\x03\x0a\x01y",
    "weights but no model": zipped("metadata.json", "model.weights.h5"),
    "pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "a web page": b"\n<!DOCTYPE html>\n<title>404</title>",
    "Caffe": b'name: "n"\nlayer {\n type: "Data"\n}',
}


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("name", ["my model.pt", "my model.keras"])
def test_a_file_that_no_runtime_reads_is_named_with_what_to_do(tmp_path: Path, what: str, name: str) -> None:
    message = refusal(file(tmp_path / name, FOREIGN[what]))
    assert what in message
    assert "{" not in message


def test_the_command_that_converts_a_model_names_its_file(tmp_path: Path) -> None:
    path = file(tmp_path / "my model.pt", FOREIGN["TorchScript"])
    assert f"torch.jit.load('{path}')), '{path.with_suffix('')}.xml'" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.keras", KERAS[: len(KERAS) // 2]),
        ("m.keras", zipped("metadata.json", "config.json")),
        ("m.onnx", b"\x08\x08\x42\x02\x10\x11"),
        ("m.h5", hdf5(1000)),
        ("m.xml", b"<?xml ?><net><layers>"),
        ("m.onnx", ONNX + b"\x3a\xff\x7f\x0a"),
        ("m.pb", FROZEN + FROZEN[:-1]),
        ("m.pb", b""),
    ],
)
def test_half_a_file_is_refused_before_a_runtime_reads_it(tmp_path: Path, name: str, content: bytes) -> None:
    assert "not completely saved or copied" in refusal(file(tmp_path / name, content))


@pytest.mark.parametrize("suffix", sorted(formats.FILE_FORMATS.keys() - {".echo"}))
def test_garbage_is_no_model_whatever_its_name_says(tmp_path: Path, suffix: str) -> None:
    for content in (
        b"junk" * 100,
        b"\xff" * 100,
        b"\0" * 5000,
        b"hello\n",
        b"PK\x03\x04",
        bytes(range(256)),
        b"{",
        b"<a/>",
    ):
        refusal(file(tmp_path / f"model{suffix}", content))


def test_a_keras_file_by_another_name_is_to_be_renamed(tmp_path: Path) -> None:
    assert "is a Keras HDF5 file. Rename it so that its name ends in .h5" in refusal(file(tmp_path / "m.keras", hdf5()))
    assert "is a Keras file. Rename it so that its name ends in .keras" in refusal(file(tmp_path / "m.zip", KERAS))


def test_pipes_and_devices_are_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    assert "is a pipe, not a file" in refusal(tmp_path / "model.onnx")
    assert "is a device, not a file" in refusal("/dev/zero")


def test_inputs_and_outputs_are_for_frozen_graphs(tmp_path: Path) -> None:
    found = formats.locate(str(file(tmp_path / "m.pb", FROZEN)), inputs=["x"], outputs=["y"])
    assert (found.inputs, found.outputs) == (("x",), ("y",))
    with pytest.raises(Invalid, match="only frozen graphs need them"):
        formats.locate(str(file(tmp_path / "m.onnx")), inputs=["x"])


def test_a_missing_shard_of_a_checkpoint_is_reported(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path)
    shutil.move(f"{prefix}.data-00000-of-00001", f"{prefix}.data-00000-of-00002")
    assert "found 1 of 2 files" in refusal(prefix)


def test_other_weights_are_for_meta_graphs_only(tmp_path: Path) -> None:
    keras = file(tmp_path / "model.keras")
    assert "is not a TF1 meta graph" in refusal(keras, weights="other")


def test_an_echo_model_gives_back_what_it_gets(tmp_path: Path) -> None:
    path = file(tmp_path / "model.echo", b'{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    runtime = runtimes.load(formats.locate(str(path)), device="/cpu:0")
    assert runtime.signatures["serving_default"].inputs[0].shape == (-1, 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{", "does not describe an echo model"), (b'{"x": {"dtype": "flot32", "shape": null}}', "'float32'")],
)
def test_a_broken_echo_file_is_reported(tmp_path: Path, content: bytes, words: str) -> None:
    path = file(tmp_path / "model.echo", content)
    with pytest.raises(Invalid, match=words):
        runtimes.load(formats.locate(str(path)), device="/cpu:0")
