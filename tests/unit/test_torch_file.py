"""Weights of PyTorch are read without PyTorch, and nothing that a file names is run."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.training import torch_file


class Storage:
    """Stands for a storage in a pickle: it is pickled by reference, as PyTorch does."""

    def __init__(self, key: str, values: Any, type_name: str) -> None:
        self.key, self.values, self.type_name = key, values, type_name


class Global:
    """Is pickled as nothing but its name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Tensor:
    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())


class Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes what PyTorch writes, without having PyTorch."""

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Storage):
            return ("storage", Global("torch", value.type_name), value.key, "cpu", len(value.values))
        return None

    def save(self, value: Any, save_persistent_id: bool = True) -> Any:
        if isinstance(value, Global):
            return self.write(f"c{value.module}\n{value.name}\n".encode())
        if isinstance(value, Tensor):
            self.save(Global("torch._utils", "_rebuild_tensor_v2"))
            self.save(value.arguments)
            return self.write(pickle.REDUCE)
        return super().save(value, save_persistent_id)


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(value)
    return buffer.getvalue()


def stream(state: Any, storages: Iterable[Storage]) -> bytes:
    """A file as PyTorch before 1.6 wrote it."""
    kept = list(storages)
    head = [torch_file.MAGIC, 1001, {"little_endian": True}, state, [each.key for each in kept]]
    numbers = [struct.pack("<q", len(each.values)) + each.values.tobytes() for each in kept]
    return b"".join([*map(pickled, head), *numbers])


def archive(state: Any, storages: Iterable[Storage]) -> bytes:
    """A file as PyTorch since 1.6 writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("net/data.pkl", pickled(state))
        for each in storages:
            opened.writestr(f"net/data/{each.key}", each.values.tobytes())
    return buffer.getvalue()


@pytest.mark.parametrize("form", [stream, archive])
def test_tensors_are_read_from_both_forms_of_the_file(form: Any, tmp_path: Path) -> None:
    floats = Storage("7", np.arange(12, dtype=np.float32), "FloatStorage")
    longs = Storage("8", np.array([3], np.int64), "LongStorage")
    state = OrderedDict(
        turned=Tensor(floats, 0, (3, 4), (1, 3)), part=Tensor(floats, 8, (4,), (1,)), count=Tensor(longs, 0, (), ())
    )
    file = tmp_path / "net.pth"
    file.write_bytes(form({"state_dict": state}, [floats, longs]))
    found = torch_file.read(file)
    np.testing.assert_array_equal(found["turned"], np.arange(12, dtype=np.float32).reshape(4, 3).T)
    np.testing.assert_array_equal(found["part"], [8, 9, 10, 11])
    assert found["count"] == 3


@pytest.mark.parametrize("form", [stream, archive])
def test_a_file_that_names_anything_but_tensors_is_refused(form: Any, tmp_path: Path) -> None:
    file = tmp_path / "evil.pth"
    file.write_bytes(form({"weight": Global("os", "system")}, []))
    with pytest.raises(Invalid, match=r"names os\.system, but a state dict holds nothing but tensors"):
        torch_file.read(file)


@pytest.mark.parametrize(
    "view",
    [
        (0, (13,), (1,)),
        (-4, (4,), (1,)),
        (9, (4,), (1,)),
        (0, (2, 2), (-1, 1)),
        (0, (2**40,), (1,)),
        (0, (2**40,), (0,)),
    ],
)
def test_a_tensor_can_not_reach_beyond_its_storage(view: Any, tmp_path: Path) -> None:
    storage = Storage("0", np.arange(12, dtype=np.float32), "FloatStorage")
    file = tmp_path / "beyond.pth"
    file.write_bytes(stream({"weight": Tensor(storage, *view)}, [storage]))
    with pytest.raises(Invalid, match="reaches beyond its storage"):
        torch_file.read(file)


@pytest.mark.parametrize("content", [b"", b"\x80\x02.", b"PK\x05\x06" + bytes(18), b"<html>", bytes(1000)])
def test_other_files_are_refused_with_what_was_expected(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    file.write_bytes(content)
    with pytest.raises(Invalid, match=r"Expected: a file written by torch\.save"):
        torch_file.read(file)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    storage = Storage("0", np.arange(12, dtype=np.float32), "FloatStorage")
    file = tmp_path / "cut.pth"
    file.write_bytes(stream({"weight": Tensor(storage, 0, (12,), (1,))}, [storage])[:-4])
    with pytest.raises(Invalid, match="truncated"):
        torch_file.read(file)
