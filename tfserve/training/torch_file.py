"""Reads the tensors of a PyTorch state dict, without PyTorch and without running anything that the file says.

A `.pth` file holds pickles, and unpickling runs whatever they name. Here only three names mean anything: the
dictionary, the constructor of a tensor and the types of storage. Everything else is refused.

    before PyTorch 1.6   magic, protocol, machine, state dict, storage keys: five pickles; then each storage's numbers
    since                a zip with data.pkl and one file for each storage
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfserve.errors import Invalid
from tfserve.tensors import Array

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _View:
    """A tensor: a part of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(file: Path) -> dict[str, Array]:
    """The tensors by name. Raises `Invalid` when the file is something else, or damaged."""
    try:
        with file.open("rb") as opened:
            views, storages = (_read_zip if zipfile.is_zipfile(file) else _read_stream)(opened)
        return {name: _array(view, storages) for name, view in views.items()}
    except Invalid:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise Invalid(
            f"{file} is not a PyTorch state dict that can be read here: {error}. Expected: a file written by"
            " torch.save(model.state_dict(), file)."
        ) from error


class _Unpickler(pickle.Unpickler):
    """Knows tensors, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        raise Invalid(f"the file names {module}.{name}, but a state dict holds nothing but tensors")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, count = pid[:5]
        return _Storage(str(key), dtype, int(count))


def _rebuild(storage: _Storage, offset: int, shape: Any, strides: Any, *_: object) -> _View:
    return _View(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _read_stream(opened: IO[bytes]) -> tuple[dict[str, _View], Mapping[str, Array]]:
    magic, _, _ = (_load(opened) for _ in range(3))
    if magic != MAGIC:
        raise ValueError("it does not begin like one")
    views = _views(_load(opened))
    dtypes = {view.storage.key: view.storage.dtype for view in views.values()}
    return views, {str(key): _next_storage(opened, dtypes.get(str(key))) for key in _load(opened)}


def _next_storage(opened: IO[bytes], dtype: np.dtype[Any] | None) -> Array:
    if dtype is None:
        raise ValueError("it has a storage that no tensor uses")
    (count,) = struct.unpack("<q", opened.read(8))
    return _numbers(opened.read(count * dtype.itemsize), dtype, count)


def _read_zip(opened: IO[bytes]) -> tuple[dict[str, _View], Mapping[str, Array]]:
    with zipfile.ZipFile(opened) as archive:
        (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(index) as pickled:
            views = _views(_load(pickled))
        folder = index.removesuffix("data.pkl") + "data/"
        storages = {view.storage.key: view.storage for view in views.values()}
        return views, {
            key: _numbers(archive.read(folder + key), each.dtype, each.count) for key, each in storages.items()
        }


def _load(opened: IO[bytes]) -> Any:
    return _Unpickler(opened).load()


def _views(loaded: Any) -> dict[str, _View]:
    """The tensors of a state dict, also where a checkpoint keeps it under `state_dict` or `model`."""
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise TypeError(f"it holds a {type(loaded).__name__}, not tensors by name")
    views = {str(name): value for name, value in loaded.items() if isinstance(value, _View)}
    if not views:
        raise ValueError("it holds no tensors")
    return views


def _numbers(data: bytes, dtype: np.dtype[Any], count: int) -> Array:
    if len(data) < count * dtype.itemsize:
        raise ValueError("it is truncated")
    return np.frombuffer(data, dtype, count)


def _array(view: _View, storages: Mapping[str, Array]) -> Array:
    storage = storages[view.storage.key]
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    if 0 in view.shape:
        return np.zeros(view.shape, storage.dtype)
    too_large = math.prod(view.shape) > len(storage)  # a stride of 0 could repeat a number without end
    if view.offset < 0 or min(view.strides, default=0) < 0 or last >= len(storage) or too_large:
        raise ValueError("a tensor reaches beyond its storage")
    strides = tuple(stride * storage.itemsize for stride in view.strides)
    return np.lib.stride_tricks.as_strided(storage[view.offset :], view.shape, strides).copy()
