"""A model's name by its bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tfserve.errors import Invalid
from tfserve.models import fingerprint, formats


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def test_a_copy_has_the_same_name_and_any_other_byte_another(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    assert fingerprint.fingerprint(copy) == fingerprint.fingerprint(model)
    (copy / "variables" / "variables.index").write_bytes(b"Index")
    assert fingerprint.fingerprint(copy) != fingerprint.fingerprint(model)


def test_bytes_that_moved_from_one_file_to_another_make_another_name(tmp_path: Path) -> None:
    names = set()
    for first, second in ((b"ab", b"c"), (b"a", b"bc")):
        (tmp_path / "a.xml").write_bytes(first)
        (tmp_path / "a.bin").write_bytes(second)
        names.add(fingerprint.fingerprint(tmp_path / "a.xml"))
    assert len(names) == 2


def test_other_weights_make_another_name(tmp_path: Path) -> None:
    (tmp_path / "m.meta").write_bytes(b"graph")
    names = {fingerprint.fingerprint(tmp_path / "m.meta", None)}
    for name in ("one", "two"):
        (tmp_path / f"{name}.index").write_bytes(name.encode())
        names.add(fingerprint.fingerprint(tmp_path / "m.meta", tmp_path / name))
    assert len(names) == 3


def test_the_key_changes_with_the_precision(model: Path) -> None:
    located = formats.locate(str(model))
    assert fingerprint.key(located) == fingerprint.key(located)
    assert fingerprint.key(located) != fingerprint.key(located, precision="bf16")


def test_a_file_that_is_gone_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="can't be read"):
        fingerprint.fingerprint(tmp_path / "gone.keras")
