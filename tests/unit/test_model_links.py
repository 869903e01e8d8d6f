"""Links among a model's files that lead outside the roots are refused, wherever they are and whenever they were put."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tfserve.models import formats, links
from tfserve.models.links import LinkRefused
from tfserve.paths import read_inside


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that models may be in, next to a file outside the roots."""
    (tmp_path / "root" / "model").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setenv("TFSERVE_ROOTS", str(tmp_path / "root"))
    monkeypatch.setenv("TFSERVE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "root"


def saved_model(folder: Path) -> Path:
    (folder / "variables").mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    return folder


def check(path: Path, weights: Path | None = None) -> None:
    links.check(formats.locate(str(path), None if weights is None else str(weights)))


@pytest.mark.parametrize("name", ["variables/variables.index", "assets/deep/vocabulary.txt", "saved_model.pb"])
def test_a_link_in_a_saved_model_that_leads_outside_is_refused(root: Path, name: str) -> None:
    link = saved_model(root / "model") / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(root.parent / "secret")
    with pytest.raises(LinkRefused, match="outside the folders"):
        check(root / "model")


def test_a_link_behind_links_to_folders_is_found_and_circles_end(root: Path) -> None:
    saved_model(root / "model")
    (root / "other").mkdir()
    (root / "model" / "assets").symlink_to(root / "other")
    (root / "other" / "back").symlink_to(root / "model")
    check(root / "model")
    (root / "other" / "deep").symlink_to(root.parent)
    with pytest.raises(LinkRefused):
        check(root / "model")


def test_a_model_that_was_replaced_by_a_link_is_refused(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    saved_model(outside)
    (root / "swapped").symlink_to(outside)
    with pytest.raises(LinkRefused):
        check(root / "swapped")


def test_links_beside_a_model_in_one_file_are_refused_when_they_belong_to_it(root: Path) -> None:
    secret, folder = root.parent / "secret", root / "model"
    (folder / "m.xml").write_text("<net></net>")
    (folder / "unrelated").symlink_to(secret)
    (folder / "m.onnx").write_bytes(b"\x08\x08\x42\x00\x3a\x1egraph, location weights.data .")
    (folder / "m.bin").write_bytes(b"x")
    check(folder / "m.xml")
    check(folder / "m.onnx")
    (folder / "weights.data").symlink_to(secret)
    with pytest.raises(LinkRefused):
        check(folder / "m.onnx")
    check(folder / "m.xml")
    (folder / "m.bin").unlink()
    (folder / "m.bin").symlink_to(secret)
    with pytest.raises(LinkRefused):
        check(folder / "m.xml")


def test_external_data_in_a_folder_below_an_onnx_file_may_not_lead_outside(root: Path) -> None:
    folder = root / "model"
    named = b"".join(b"\x0a\x08location\x12" + bytes([len(each)]) + each for each in (b"weights/w.bin", b"../x", b"\0"))
    (folder / "m.onnx").write_bytes(b"\x08\x08\x42\x00\x3a" + bytes([len(named)]) + named)
    (folder / "weights").mkdir()
    (folder / "weights" / "w.bin").write_bytes(b"x")
    check(folder / "m.onnx")
    (folder / "weights" / "w.bin").unlink()
    (folder / "weights" / "w.bin").symlink_to(root.parent / "secret")
    with pytest.raises(LinkRefused):
        check(folder / "m.onnx")
    (folder / "weights" / "w.bin").unlink()
    (root.parent / "w.bin").write_bytes(b"secret")
    (folder / "weights").rmdir()
    (folder / "weights").symlink_to(root.parent)
    with pytest.raises(LinkRefused, match="outside the folders"):
        check(folder / "m.onnx")


def test_weights_of_a_meta_graph_that_lead_outside_are_refused(root: Path) -> None:
    folder = root / "model"
    (folder / "g.meta").write_bytes(b"\x0a\x00\x12\x00")
    (folder / "w.index").write_bytes(b"x")
    (folder / "w.data-00000-of-00001").symlink_to(root.parent / "secret")
    with pytest.raises(LinkRefused):
        check(folder / "g.meta", folder / "w")


def test_links_inside_the_roots_are_followed(root: Path) -> None:
    (root / "store").write_bytes(b"x")
    link = saved_model(root / "model") / "variables" / "variables.index"
    link.symlink_to(root / "store")
    check(root / "model")


def test_a_script_is_read_only_where_the_file_that_was_opened_lies_inside(root: Path) -> None:
    script, link = root / "a.py", root / "b.py"
    script.write_text("x = 1")
    link.symlink_to(root.parent / "secret")
    assert read_inside(str(script), [root]) == b"x = 1"
    where = f"leads to {root.parent}/secret, outside the readable folders of this server: {root}"
    with pytest.raises(PermissionError, match=f"{re.escape(where)}$"):
        read_inside(str(link), [root])
    assert read_inside(str(link), []) == b"secret"
