"""The TensorFlow runtime on broken models: every cause is told, and nothing is left behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.models import formats

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's and Keras' own


def refusal(path: Path | str, *, weights: str | None = None, device: str = "/cpu:0") -> str:
    with pytest.raises(Invalid) as caught:
        runtimes.load(formats.locate(str(path), weights), device=device)
    assert "Traceback" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_layer_is_refused_with_the_reason(models: Path, suffix: str) -> None:
    message = refusal(models / f"lambda.{suffix}")
    assert str(models / f"lambda.{suffix}") in message
    assert "it has a Lambda layer, which holds Python code" in message


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_class_that_is_not_keras_own_is_named(models: Path, suffix: str) -> None:
    message = refusal(models / f"custom.{suffix}")
    assert "Custom' is not one of Keras' own" in message
    assert "model.export(folder)" in message


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_file_that_is_no_keras_model_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"junk" * 1000)
    assert "damaged or something else" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["dense.keras", "dense.h5"])
def test_half_a_keras_file_is_told(models: Path, tmp_path: Path, name: str) -> None:
    whole = (models / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    assert "was not written or copied to its end" in refusal(tmp_path / name)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[: min(64, len(content))] = b"\xff" * min(64, len(content))
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "name", "words"),
    [
        (Path.unlink, "variables/variables.index", "variables.index is missing"),
        (Path.unlink, "variables/variables.data-00000-of-00001", "0 of 1 files"),
        (truncate, "variables/variables.data-00000-of-00001", "may be damaged"),
        (damage, "variables/variables.data-00000-of-00001", "may be damaged"),
        (damage, "variables/variables.index", "may be damaged"),
        (damage, "saved_model.pb", "may be damaged"),
        (truncate, "saved_model.pb", "may be damaged"),
    ],
)
def test_a_damaged_or_half_copied_saved_model_is_told(
    models: Path, tmp_path: Path, harm: Callable[[Path], None], name: str, words: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "v2", folder)
    harm(folder / name)
    message = refusal(folder)
    assert str(folder) in message
    assert words in message


def test_a_damaged_checkpoint_and_weights_of_another_model_are_told(models: Path, tmp_path: Path) -> None:
    for file in models.glob("one.*"):
        shutil.copy(file, tmp_path)
    damage(tmp_path / "one.data-00000-of-00001")
    assert "may be damaged" in refusal(tmp_path / "one")
    other = models / "v2" / "variables" / "variables"
    assert "belong to another model" in refusal(models / "one", weights=str(other))
    damage(tmp_path / "one.meta")
    assert "may be damaged" in refusal(tmp_path / "one")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("/gpu:7", "There is no device '/gpu:7' on this machine. There are: /cpu:0"),
        ("/cpu:1", "There is no device '/cpu:1'"),
        ("tpu", "'/cpu:0' or '/gpu:0' was expected; 'tpu' was given"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(models: Path, device: str, words: str) -> None:
    assert words in refusal(models / "v2", device=device)


@pytest.mark.parametrize("device", ["cpu:0", "/CPU:0", "/device:CPU:0", "device:cpu:0"])
def test_a_device_may_be_written_in_several_ways(models: Path, device: str) -> None:
    runtime = runtimes.load(formats.locate(str(models / "v2")), device=device)
    assert "serving_default" in runtime.signatures
    runtime.close()


def test_loading_a_keras_file_leaves_nothing_in_the_temporary_folder(models: Path, tmp_path: Path) -> None:
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path)
    try:
        runtimes.load(formats.locate(str(models / "dense.keras")), device="/cpu:0").close()
    finally:
        tempfile.tempdir = before
    assert list(tmp_path.iterdir()) == []
