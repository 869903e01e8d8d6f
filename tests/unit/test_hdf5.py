"""The names in the root group of an HDF5 file are read as the HDF5 library reads them, or the file is left to it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import h5py
import pytest

from tfserve.errors import Invalid
from tfserve.models import formats, hdf5


def written(file: Path, libver: Any, attributes: int, links: int, user_block: int = 0) -> Path:
    with h5py.File(file, "w", libver=libver, userblock_size=user_block) as content:
        for n in range(max(attributes, links)):
            if n < links:
                content.create_group(f"group {n}")
            if n < attributes:
                content.attrs[f"attribute {n}"] = "x" * n * 7
    return file


def read(file: Path) -> hdf5.Hdf5Root | None:
    with file.open("rb") as opened:
        block = hdf5.superblock(opened.read(4096))
        assert block is not None
        assert block.end == file.stat().st_size
        return hdf5.root(opened, block)


@pytest.mark.parametrize("links", [0, 1, 5, 30])
@pytest.mark.parametrize("attributes", [0, 1, 5, 30, 200])
@pytest.mark.parametrize("libver", ["earliest", ("v108", "v108"), "latest"])
def test_all_names_are_found_or_none(tmp_path: Path, libver: Any, attributes: int, links: int) -> None:
    found = read(written(tmp_path / "a.h5", libver, attributes, links))
    with h5py.File(tmp_path / "a.h5") as content:
        names, groups = set(content.attrs), set(content)
    if found is None:
        assert libver != "earliest"
        assert attributes > 8  # a long index of attributes
    else:
        assert found.attributes == names
        assert groups <= found.links or (libver != "earliest" and links > 8)


def test_a_damaged_file_is_left_to_the_library(tmp_path: Path) -> None:
    """Whatever the bytes are, nothing is raised."""
    chance = random.Random(5)
    for libver in ("earliest", "latest"):
        data = written(tmp_path / "a.h5", libver, 5, 3).read_bytes()
        for _ in range(300):
            damaged = bytearray(data)
            for _ in range(3):
                damaged[chance.randrange(8, min(1500, len(data)))] = chance.choice((0, 1, 8, 16, 17, 255))
            (tmp_path / "b.h5").write_bytes(damaged)
            with (tmp_path / "b.h5").open("rb") as opened:
                if (block := hdf5.superblock(bytes(damaged[:4096]))) is not None:
                    hdf5.root(opened, block)


def test_what_is_read_is_limited(tmp_path: Path) -> None:
    """Many messages of this header name the same large list of names."""
    heap_at, names = 4096, b"a\0" * 300_000
    message = b"\x11\0\x10\0\0\0\0\0" + (0).to_bytes(8, "little") + heap_at.to_bytes(8, "little")
    header = b"\x01\0\x1e\0\x01\0\0\0" + (30 * len(message)).to_bytes(8, "little") + 30 * message
    heap = b"HEAP\0\0\0\0" + b"".join(n.to_bytes(8, "little") for n in (len(names), 0, heap_at + 32))
    (tmp_path / "a.h5").write_bytes(header.ljust(heap_at, b"\0") + heap + names)
    with (tmp_path / "a.h5").open("rb") as opened:
        assert hdf5.root(opened, hdf5.Superblock(end=0, root=0, base=0)) is None


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_may_begin_with_other_data(tmp_path: Path, libver: Any) -> None:
    """HDF5 counts its positions from the end of such a block, which a program may put in front."""
    data = written(tmp_path / "a.h5", libver, 3, 2, user_block=512).read_bytes()
    block = hdf5.superblock(data[512:])
    assert block is not None
    with (tmp_path / "a.h5").open("rb") as opened:
        found = hdf5.root(opened, block)
    assert found is not None
    assert found.attributes == {"attribute 0", "attribute 1", "attribute 2"}


def test_blocks_that_lead_to_each_other_end(tmp_path: Path) -> None:
    """Each block of this header continues in itself."""
    header = b"\x01\0\x01\0\x01\0\0\0\x18\0\0\0\0\0\0\0"
    again = b"\x10\0\x10\0\0\0\0\0" + (16).to_bytes(8, "little") + (24).to_bytes(8, "little")
    (tmp_path / "a.h5").write_bytes(header + again)
    with (tmp_path / "a.h5").open("rb") as opened:
        assert hdf5.root(opened, hdf5.Superblock(end=40, root=0, base=0)) == hdf5.Hdf5Root(frozenset(), frozenset())


def located(file: Path) -> str:
    with pytest.raises(Invalid) as caught:
        formats.locate(str(file))
    return caught.value.message


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_without_a_model_is_refused_before_a_process_is_used(tmp_path: Path, libver: Any) -> None:
    with h5py.File(tmp_path / "keras2.h5", "w", libver=libver) as content:
        content.attrs["layer_names"] = ["dense"]
        content.create_group("dense")
    with h5py.File(tmp_path / "keras3.h5", "w", libver=libver) as content:
        content.create_group("layers")
    with h5py.File(tmp_path / "class.h5", "w", libver=libver) as content:
        content.create_group("block1")
        content.create_group("vars")
    for name in ("keras2.h5", "keras3.h5", "class.h5"):
        assert f"model.load_weights('{name}')" in located(tmp_path / name)
    with h5py.File(tmp_path / "data.h5", "w", libver=libver) as content:
        content["measurements"] = [1, 2]
    assert "an HDF5 file that contains no Keras model" in located(tmp_path / "data.h5")
    with h5py.File(tmp_path / "data.h5", "a") as content:
        content.attrs["model_config"] = "{}"
    assert formats.locate(str(tmp_path / "data.h5")).format == formats.HDF5
