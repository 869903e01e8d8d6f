"""Signatures read from a SavedModel without TensorFlow, beside what TensorFlow reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.runtimes import saved_model_file

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own


@pytest.mark.parametrize("name", ["v1", "v2", "composites", "sparse_v1"])
def test_they_are_what_tensorflow_reads(models: Path, name: str) -> None:
    model = runtimes.load(formats.locate(str(models / name)), device="/cpu:0", runtime="tensorflow")
    assert saved_model_file.signatures(models / name) == model.signatures
    model.close()


def test_a_damaged_file_is_reported_wherever_it_ends(models: Path, tmp_path: Path) -> None:
    whole = (models / "v1" / "saved_model.pb").read_bytes()
    told = 0
    for end in range(1, len(whole), max(1, len(whole) // 200)):
        (tmp_path / "saved_model.pb").write_bytes(whole[:end])
        with pytest.raises(Invalid, match="is damaged"):
            saved_model_file.signatures(tmp_path)
        told += 1
    assert told > 100


@pytest.mark.parametrize("content", [b"\xff" * 100, b"\x80" * 100, b"", b"<html>"])
def test_what_is_no_saved_model_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(Invalid, match="is damaged"):
        saved_model_file.signatures(tmp_path)


def test_a_file_in_text_form_is_left_to_tensorflow(models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "v1" / "saved_model.pb", tmp_path / "saved_model.pbtxt")
    with pytest.raises(Invalid, match=r"has no saved_model\.pb"):
        saved_model_file.signatures(tmp_path)


@pytest.mark.parametrize(
    ("tags", "served"),
    [
        ([["serve", "gpu"], ["serve"]], 1),
        ([["train"], ["serve", "tpu"], ["serve"], ["serve"]], 2),
        ([["train"], ["serve", "tpu"], ["eval"]], 1),
        ([["train"], ["eval"]], 0),
    ],
)
def test_the_meta_graph_for_serving_on_any_device_comes_first(
    models: Path, tmp_path: Path, tags: list[list[str]], served: int
) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    folder = shutil.copytree(models / "v1", tmp_path / "several")
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    original = saved.meta_graphs.pop()
    for number, each in enumerate(tags):
        meta = saved.meta_graphs.add()
        meta.CopyFrom(original)
        meta.meta_info_def.tags[:] = each
        for name in list(meta.signature_def):
            meta.signature_def[f"{name} {number}"].CopyFrom(meta.signature_def[name])
            del meta.signature_def[name]
        if number != served:  # all others would be refused
            first = next(iter(next(iter(meta.signature_def.values())).outputs.values())).name.partition(":")[0]
            meta.graph_def.node.add(name="name", op="Const")
            meta.graph_def.node.add(name="evil", op="WriteFile", input=["name", "name"])
            next(node for node in meta.graph_def.node if node.name == first).input.append("^evil")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    signatures = saved_model_file.signatures(folder)
    assert {name.rpartition(" ")[2] for name in signatures} == {str(served)}
    model = runtimes.load(formats.locate(str(folder)), device="/cpu:0", runtime="tensorflow")
    assert model.signatures == signatures
    model.close()
