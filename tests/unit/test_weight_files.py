"""Files with weights are recognised by their content, and checked before anything is trained."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.training.fit import lite_weights, pretrained, torch_file, uploaded_weights, weight_files
from tfserve.training.fit.pretrained import KNOWN

SMALL = "MobileNetV3Small"


@pytest.fixture(scope="module")
def real() -> bytes:
    """EfficientNet-Lite0, as its package ships it."""
    file = pretrained.packaged_weights()
    assert file is not None
    return file.read_bytes()


def network_of(tmp_path: Path, data: bytes, *names: str) -> str:
    return weight_files.network_of(uploaded_weights.keep(tmp_path, data), names or list(KNOWN))


def hdf5(count: int, **attributes: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as opened:
        opened["conv/kernel"] = np.zeros(count, np.float32)
        opened.attrs.update(attributes)
    return buffer.getvalue()


class Runs:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_the_packages_own_file_is_known_under_any_name(tmp_path: Path, real: bytes) -> None:
    assert network_of(tmp_path, real) == "efficientnet-lite0"
    with pytest.raises(Invalid, match="is supported for efficientnet-lite0 only; the backbone is MobileNetV2"):
        network_of(tmp_path, real, "MobileNetV2")


@pytest.mark.parametrize(("share", "words"), [(0.01, "can be read here"), (0.5, "truncated"), (0.999, "truncated")])
def test_a_truncated_file_is_refused(share: float, words: str, tmp_path: Path, real: bytes) -> None:
    with pytest.raises(Invalid, match=words):
        network_of(tmp_path, real[: int(len(real) * share)])


@pytest.mark.parametrize("content", [b"no weights", b"PK", b"\x89PNG\r\n\x1a\n" + bytes(100), b"{}", bytes(5000)])
def test_another_file_is_refused_with_what_was_expected(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=rf"has {len(content)} bytes and begins with .* Expected: Keras"):
        network_of(tmp_path, content)


def test_a_zip_file_of_something_else_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    with pytest.raises(Invalid, match=r"a zip file with 0 files named data\.pkl"):
        network_of(tmp_path, buffer.getvalue())


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    evil = pickle.dumps({"_conv_stem.weight": Runs(mark)}, protocol=2)
    magic = b"".join(pickle.dumps(each, protocol=2) for each in (torch_file.MAGIC, 1001, {}))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/data.pkl", evil)
    for data in (magic + evil, buffer.getvalue()):
        with pytest.raises(Invalid, match="contains only tensors"):
            network_of(tmp_path, data)
    assert not mark.exists()


def test_a_pickle_that_names_a_huge_table_is_refused(tmp_path: Path) -> None:
    magic = b"".join(pickle.dumps(each, protocol=2) for each in (torch_file.MAGIC, 1001))
    with pytest.raises(Invalid, match="stores a value under the number 4294967040"):
        network_of(tmp_path, magic + b"\x80\x02}r\x00\xff\xff\xff.")


@pytest.mark.parametrize("said", [100, 2**31])
def test_a_zip_bomb_is_not_unpacked(said: int, tmp_path: Path) -> None:
    """A storage that unpacks to 2 GiB of zeros, of which the index claims more, or less."""
    index = (
        b"\x80\x02}U\x01w" + b"ctorch._utils\n_rebuild_tensor_v2\n("
        b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu" + b"\x8a\x08" + struct.pack("<q", said) + b"tQ"
        b"K\x00K\x01\x85K\x01\x85\x89}tRs."
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("net/data.pkl", index)
        with archive.open("net/data/0", "w") as storage:
            for _ in range(64):
                storage.write(bytes(2**20))
    with pytest.raises(Invalid, match="is missing" if said == 100 else "it has a storage of"):
        network_of(tmp_path, buffer.getvalue())


def test_tensors_of_another_shape_or_without_numbers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pretrained.packaged_weights()
    assert file is not None
    tensors = dict(torch_file.read(file))
    for change, words in (
        ({"_bn0.weight": np.full(32, np.nan, np.float32)}, "not finite"),
        ({"_bn0.running_var": np.full(32, -1, np.float32)}, "negative"),
        (
            {"_conv_stem.weight": np.zeros((32, 1, 3, 3), np.float32)},
            r"the shape \(32, 1, 3, 3\) instead of \(32, 3, 3, 3\)",
        ),
    ):
        monkeypatch.setattr(torch_file, "read", lambda _, found=tensors | change: found)
        with pytest.raises(Invalid, match=words):
            lite_weights.read(file)


def test_keras_weights_are_known_by_how_many_they_are(tmp_path: Path) -> None:
    for name, count in weight_files.COUNTS.items():
        assert network_of(tmp_path, hdf5(count)) == name
    with pytest.raises(Invalid, match="has 7 numbers, which matches no backbone"):
        network_of(tmp_path, hdf5(7))
    with pytest.raises(Invalid, match=r"\(MobileNetV2 has 2257984\)"):
        network_of(tmp_path, hdf5(weight_files.COUNTS[SMALL]), "MobileNetV2")


@pytest.mark.parametrize(
    ("name", "attributes", "suffix"),
    [("a.h5", {}, ".weights.h5"), ("a.weights.h5", {}, ".weights.h5"), ("a.bin", {"layer_names": ["conv"]}, ".h5"),
     ("a.weights.h5", {"layer_names": ["conv"]}, ".h5")],
)  # fmt: skip
def test_keras_gets_a_name_with_the_suffix_of_the_form(
    name: str, attributes: dict[str, Any], suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(hdf5(3, **attributes))
    with weight_files.named_for_keras(file) as named:
        assert named.read_bytes() == file.read_bytes()
        assert named.name.endswith(suffix)
        assert named.name.endswith(".weights.h5") == (suffix == ".weights.h5")
    assert file.exists()


def test_an_hdf5_file_can_not_refer_to_other_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(40))
    for make in (
        lambda opened: opened.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")),
        lambda opened: opened.__setitem__("x", h5py.SoftLink("/conv")),
        lambda opened: opened.create_dataset("x", (10,), "f4", external=str(secret)),
    ):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as opened:
            make(opened)
        with pytest.raises(Invalid, match="weights must be in the file itself"):
            network_of(tmp_path, buffer.getvalue())


def test_damaged_hdf5_files_and_huge_ones_are_refused(tmp_path: Path) -> None:
    whole = hdf5(weight_files.COUNTS[SMALL])
    with pytest.raises(Invalid, match="Is it truncated"):
        network_of(tmp_path, whole[:3000])
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as opened:
        opened.create_dataset("x", (2**40,), "f4", chunks=(2**20,), compression="gzip")
        opened["self"] = opened["/"]
    with pytest.raises(Invalid, match="more numbers than any backbone"):
        network_of(tmp_path, buffer.getvalue())
    broken = io.BytesIO()
    with h5py.File(broken, "w") as opened:
        opened["x"] = np.full(weight_files.COUNTS[SMALL], np.nan, np.float32)
    with pytest.raises(Invalid, match="not finite numbers"):
        network_of(tmp_path, broken.getvalue())
