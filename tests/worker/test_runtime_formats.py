"""Which model a path means, and what is told about a path that means none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.runtimes import formats

# Only what is looked at before a runtime is imported: names and sizes, so any content will do.


def file(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
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
        (lambda folder: file(folder / "m/variables/variables.index"), "m", "saved_model.pb is missing"),
        (lambda folder: file(folder / "m/readme"), "m", "a folder without a model"),
        (lambda folder: checkpoint(folder / "m"), "m", "give the one you mean, such as"),
        (lambda folder: file(folder / "m/saved_model.pb"), "m/saved_model.pb", "give its folder"),
        (lambda folder: file(folder / "m.index"), "m.index", "m.meta does not exist"),
        (lambda folder: file(folder / "m.txt"), "m.txt", "no known kind"),
        (lambda folder: file(folder / "m.meta"), "m", "m.index is missing"),
        (lambda folder: (file(folder / "m.meta"), file(folder / "m.index")), "m", "0 of 1 files"),
        (lambda folder: (checkpoint(folder, "m"), file(folder / "m.index", b"")), "m", "is empty (0 bytes)"),
        (lambda folder: file(folder / "m/1/readme"), "m", "a folder without a model"),
    ],
)
def test_what_is_wrong_with_a_path_is_told(
    tmp_path: Path, make: Callable[[Path], object], path: str, words: str
) -> None:
    make(tmp_path)
    assert words in refusal(tmp_path / path)


def test_a_missing_shard_of_a_checkpoint_is_told(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path)
    shutil.move(f"{prefix}.data-00000-of-00001", f"{prefix}.data-00000-of-00002")
    assert "1 of 2 files" in refusal(prefix)


def test_other_weights_are_for_meta_graphs_only(tmp_path: Path) -> None:
    keras = file(tmp_path / "model.keras")
    assert "is no meta graph" in refusal(keras, weights="other")


def test_an_echo_model_gives_back_what_it_gets(tmp_path: Path) -> None:
    path = file(tmp_path / "model.echo", b'{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    runtime = runtimes.load(formats.locate(str(path)), device="/cpu:0")
    assert runtime.signatures["serving_default"].inputs[0].shape == (-1, 2)


@pytest.mark.parametrize(
    ("content", "words"), [(b"{", "no description"), (b'{"x": {"dtype": "flot32", "shape": null}}', "'float32'")]
)
def test_a_broken_echo_file_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    path = file(tmp_path / "model.echo", content)
    with pytest.raises(Invalid, match=words):
        runtimes.load(formats.locate(str(path)), device="/cpu:0")
