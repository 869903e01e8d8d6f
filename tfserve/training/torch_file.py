"""Reads the tensors of a PyTorch state dict, without PyTorch and without running anything that the file says.

A `.pth` file holds pickles, and unpickling runs whatever they name. Here only three names mean anything: the
dictionary, the constructor of a tensor and the types of storage. Everything else is refused.

    before PyTorch 1.6   magic, protocol, machine, state dict, storage keys: five pickles; then each storage's numbers
    since                a zip with data.pkl and one file for each storage
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
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
MAGIC_BYTES = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"
"""How files before PyTorch 1.6 begin: a pickle of `MAGIC`."""
MAX_BYTES = 2**30
"""Of all numbers together."""
MAX_PICKLE_BYTES = 16 * 2**20
MAX_MEMO = 1_000_000
"""The highest number under which a pickle keeps a value for later: unpickling makes a table of this size."""
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
        for view in views.values():
            _check(view, len(storages[view.storage.key]))
        _bytes(sum(math.prod(view.shape) for view in views.values()), np.dtype(np.float64))
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
    return _numbers(opened.read(_bytes(count, dtype)), dtype, count)


def _read_zip(opened: IO[bytes]) -> tuple[dict[str, _View], Mapping[str, Array]]:
    with zipfile.ZipFile(opened) as archive:
        indexes = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(indexes) != 1:
            raise ValueError(f"it is a zip file with {len(indexes)} files named data.pkl instead of 1")
        with archive.open(indexes[0]) as pickled:
            views = _views(_load(io.BytesIO(pickled.read(MAX_PICKLE_BYTES))))
        folder = indexes[0].removesuffix("data.pkl") + "data/"
        storages = {view.storage.key: view.storage for view in views.values()}
        _bytes(sum(each.count * each.dtype.itemsize for each in storages.values()), np.dtype(np.uint8))
        return views, {key: _unpacked(archive, folder + key, each) for key, each in storages.items()}


def _unpacked(archive: zipfile.ZipFile, name: str, storage: _Storage) -> Array:
    """No more than the storage says that it has, however much is compressed into the file."""
    with archive.open(name) as opened:
        return _numbers(opened.read(_bytes(storage.count, storage.dtype)), storage.dtype, storage.count)


def _bytes(count: int, dtype: np.dtype[Any]) -> int:
    if not 0 <= count * dtype.itemsize <= MAX_BYTES:
        raise ValueError(f"it has {count} numbers in one place (limit: {MAX_BYTES} bytes)")
    return count * dtype.itemsize


def _load(opened: IO[bytes]) -> Any:
    """The next pickle. It is read over first: a few bytes can name a table that is larger than the memory."""
    begin = opened.tell()
    for opcode, argument, place in pickletools.genops(opened):
        if "PUT" in opcode.name and int(argument or 0) > MAX_MEMO:
            raise ValueError(f"it keeps a value under the number {argument}")
        if (place or 0) - begin > MAX_PICKLE_BYTES:
            raise ValueError("its index is too long")
    opened.seek(begin)
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


def _check(view: _View, count: int) -> None:
    """Whether a tensor lies in its storage of so many numbers. Raises `ValueError`."""
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    too_large = math.prod(view.shape) > count  # a stride of 0 could repeat a number without end
    is_outside = view.offset < 0 or min(view.strides, default=0) < 0 or last >= count
    if 0 not in view.shape and (is_outside or too_large):
        raise ValueError("a tensor reaches beyond its storage")


def _array(view: _View, storages: Mapping[str, Array]) -> Array:
    storage = storages[view.storage.key]
    if 0 in view.shape:
        return np.zeros(view.shape, storage.dtype)
    strides = tuple(stride * storage.itemsize for stride in view.strides)
    return np.lib.stride_tricks.as_strided(storage[view.offset :], view.shape, strides).copy()
