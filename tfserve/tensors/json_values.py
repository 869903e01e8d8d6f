"""Python values as JSON, by the rule of the workspace API.

Numbers of numpy, TensorFlow and Keras become numbers and nested lists, pandas frames CSV text, sets and tuples lists,
bytes `{"b64": …}`, NaN and infinities null. Everything else becomes its `str()`. None of those libraries is imported
here: their values are recognised by the module of their class.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import math
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import ModuleType, NoneType
from typing import Any

import msgspec

MAX_DEPTH = 100
SIZED = frozenset({str, bytes, bytearray, list, tuple, dict, set, frozenset, deque})
PREVIEW_VALUES = 5
PREVIEW_BYTES = 200
PREVIEW_CHARACTERS = 100

_NAME_OF_CLASS: Any = type.__dict__["__name__"]


class DoesNotFit(Exception):
    """The JSON of the value exceeds the caller's limit."""


class Interrupted(KeyboardInterrupt):
    """An interrupt of this process, as opposed to an exception of a value's own code. It ends a conversion.

    Any other exception from a value's own code, even KeyboardInterrupt, affects only that value. Scripts see this one
    under its usual name.
    """

    __module__ = "builtins"
    __qualname__ = "KeyboardInterrupt"


def encode(value: Any, *, limit_bytes: int | None = None, bytes_as_text: bool = False) -> bytes:
    """The JSON text of any value. Raises `DoesNotFit` early, before a huge value is fully converted.

    With `bytes_as_text`, UTF-8 bytes become text, as for the elements of a string tensor.
    """
    plain = _Conversion(limit_bytes, bytes_as_text).convert(value)
    encoded = msgspec.json.encode(plain)
    if limit_bytes is not None and len(encoded) > limit_bytes:
        raise DoesNotFit
    return encoded


def encode_object(members: Mapping[str, bytes]) -> bytes:
    """A JSON object from members that are already JSON text."""
    return msgspec.json.encode({_clean(name): msgspec.Raw(value) for name, value in members.items()})


def encode_list(items: Iterable[bytes]) -> bytes:
    """A JSON list from items that are already JSON text."""
    return msgspec.json.encode([msgspec.Raw(item) for item in items])


def summary(value: Any) -> dict[str, Any]:
    """A summary of a value that is too large: its type, shape, dtype, length and first few values."""
    facts = {"summary": True, **description(value)}
    for name, fact in (("length", len), ("values", _preview)):
        # User-defined classes may raise anything; then this attribute is omitted.
        with tolerance():
            facts[name] = fact(value)
    return facts


def description(value: Any) -> dict[str, Any]:
    """The type of a value, its shape and dtype if it has them, and the length of one of Python's own collections.

    The length of others may take long: some compute their elements to count them.
    """
    facts: dict[str, Any] = {"type": type_name(value)}
    if type(value) in SIZED:
        return {**facts, "length": len(value)}
    if issubclass(type(value), type | ModuleType):  # numpy has names such as shape and dtype
        return facts
    if (shape := shape_of(value)) is not None:
        facts["shape"] = shape
    with tolerance():
        facts["dtype"] = _dtype(value)
    return facts


def shape_of(value: Any) -> list[int] | None:
    """The shape of an array, tensor or data frame; None for everything else."""
    with tolerance():
        return [int(size) for size in value.shape]
    return None


def type_name(value: Any) -> str:
    """The name of a value's class, bypassing its metaclass."""
    name: str = _NAME_OF_CLASS.__get__(type(value))
    return _clean(name)


@contextlib.contextmanager
def tolerance() -> Iterator[None]:
    """Suppresses every exception of a value's own code, except an interrupt of this process."""
    try:
        yield
    except Interrupted:
        raise
    except BaseException:  # noqa: S110  # a user-defined __len__ may raise SystemExit
        pass


class _Conversion:
    """Converts a value to plain lists, dicts and scalars within a budget of JSON bytes.

    The estimated cost of each part never exceeds its true length, so a value that fits is never refused.
    """

    def __init__(self, limit_bytes: int | None, bytes_as_text: bool) -> None:
        self._left = sys.maxsize if limit_bytes is None else limit_bytes
        self._bytes_as_text = bytes_as_text
        self._above: set[int] = set()

    def convert(self, value: Any) -> Any:
        try:
            return _converter(type(value))(self, value)
        except (DoesNotFit, Interrupted):
            raise
        except BaseException:  # user code runs here: __len__, __iter__, __array__
            return self.text(value)

    def foresee(self, size_bytes: int) -> None:
        """Raises `DoesNotFit` if `least` more bytes exceed the budget."""
        if size_bytes > self._left:
            raise DoesNotFit

    def charge(self, size_bytes: int) -> None:
        self._left -= size_bytes
        if self._left < 0:
            raise DoesNotFit

    def text(self, value: Any) -> str:
        try:
            return self.string(str(value))
        except (DoesNotFit, Interrupted):
            raise
        except BaseException as error:
            return f"<{type_name(value)} whose str() raised {type_name(error)}>"

    def unchanged(self, value: Any) -> Any:
        self.charge(1)
        return value

    def integer(self, value: int) -> Any:
        number = int.__int__(value)
        self.charge(1)
        if _fits(number):
            return number
        self.charge(number.bit_length() // 4)
        return msgspec.Raw(str(number).encode())

    def number(self, value: float) -> float | None:
        self.charge(1)
        return float.__float__(value) if math.isfinite(value) else None

    def string(self, value: str) -> str:
        self.charge(len(value) + 2)
        return _clean(str.__str__(value))

    def octets(self, value: bytes | bytearray | memoryview) -> Any:
        self.charge(len(value))
        if self._bytes_as_text:
            with contextlib.suppress(UnicodeDecodeError):
                return str(value, "utf-8")
        return {"b64": base64.b64encode(value).decode("ascii")}

    def items(self, value: Collection[Any]) -> Any:
        self.foresee(2 * len(value))
        return self._within(value, lambda: self._list(list(value)))

    def sorted_items(self, value: set[Any] | frozenset[Any]) -> Any:
        self.foresee(2 * len(value))
        try:
            return self._list(sorted(value))
        except TypeError:
            return self.items(value)

    def members(self, value: dict[Any, Any]) -> Any:
        def convert() -> dict[str, Any]:
            self.foresee(5 * len(value))
            self.charge(2 * len(value))
            return {self._key(key): self.convert(item) for key, item in list(dict.items(value))}

        return self._within(value, convert)

    def array(self, value: Any) -> Any:
        """A numpy array or scalar."""
        import numpy as np

        if isinstance(value, np.ma.MaskedArray):
            return self.convert(value.tolist())
        array = np.asarray(value)
        self.foresee(2 * array.size if array.ndim else 1)
        if type(array.dtype).__module__.startswith("ml_dtypes") or array.dtype.type.__module__ == "ml_dtypes":
            array = array.astype(np.int64 if "int" in array.dtype.name else np.float64)
        if array.dtype.kind in "biufmM":
            # A fraction is at least "0.0," or "null,".
            self.charge((4 if array.dtype.kind == "f" else 2) * array.size if array.ndim else 1)
        if array.dtype.kind in "biu":
            return array.tolist()
        if array.dtype.kind == "f":
            return _with_nulls(array.astype(np.float64), np.isfinite(array))
        if array.dtype.kind in "mM":
            return _with_nulls(array.astype(str), ~np.isnat(array))
        return self.convert(array.tolist())

    def tensor(self, value: Any) -> Any:
        """A TensorFlow or Keras tensor or variable that has a value."""
        if getattr(getattr(value, "dtype", None), "name", "") == "string":
            self._bytes_as_text, before = True, self._bytes_as_text
            try:
                return self.convert(value.numpy())
            finally:
                self._bytes_as_text = before
        return self.convert(value.numpy())

    def csv(self, value: Any) -> str:
        """A pandas data frame or series."""
        self.foresee(2 * int(value.size))
        return self.string(value.to_csv())

    def listed(self, value: Any) -> Any:
        """A value with `tolist`, such as a pandas index."""
        self.foresee(2 * len(value))
        return self.convert(value.tolist())

    def null(self, _: Any) -> None:
        self.charge(4)

    def _list(self, values: list[Any]) -> list[Any]:
        self.charge(len(values))
        if _is_plain(values):
            self.charge(len(values))
            return values
        return [self.convert(value) for value in values]

    def _key(self, key: Any) -> str:
        if isinstance(key, str):
            return self.string(key)
        converted = self.convert(key)
        return converted if isinstance(converted, str) else msgspec.json.encode(converted).decode()

    def _within(self, container: Any, convert: Callable[[], Any]) -> Any:
        if id(container) in self._above:
            return f"<circular reference to {type_name(container)}>"
        if len(self._above) >= MAX_DEPTH:
            return f"<{type_name(container)} nested deeper than {MAX_DEPTH} levels>"
        self._above.add(id(container))
        try:
            return convert()
        finally:
            self._above.discard(id(container))


_Converter = Callable[[_Conversion, Any], Any]

_BY_TYPE: dict[type, _Converter] = {
    NoneType: _Conversion.unchanged,
    bool: _Conversion.unchanged,
    int: _Conversion.integer,
    float: _Conversion.number,
    str: _Conversion.string,
    bytes: _Conversion.octets,
    bytearray: _Conversion.octets,
    memoryview: _Conversion.octets,
    list: _Conversion.items,
    tuple: _Conversion.items,
    deque: _Conversion.items,
    set: _Conversion.sorted_items,
    frozenset: _Conversion.sorted_items,
    dict: _Conversion.members,
    object: _Conversion.text,
}


def _of_numpy(cls: type) -> _Converter | None:
    return _Conversion.array if cls.__name__ in ("ndarray", "generic", "MaskedArray") else None


def _of_pandas(cls: type) -> _Converter | None:
    return {
        "DataFrame": _Conversion.csv,
        "Series": _Conversion.csv,
        "Index": _Conversion.listed,
        "ExtensionArray": _Conversion.listed,
        "NAType": _Conversion.null,
        "NaTType": _Conversion.null,
    }.get(cls.__name__)


def _of_tensorflow(cls: type) -> _Converter | None:
    return _Conversion.tensor if callable(getattr(cls, "numpy", None)) else None


_BY_LIBRARY: dict[str, Callable[[type], _Converter | None]] = {
    "numpy": _of_numpy,
    "pandas": _of_pandas,
    "tensorflow": _of_tensorflow,
    "keras": _of_tensorflow,
}


def _converter(cls: type) -> _Converter:
    """The converter of a class: that of its first known base class."""
    if (known := _BY_TYPE.get(cls)) is not None:
        return known
    for ancestor in cls.__mro__:
        if (known := _BY_TYPE.get(ancestor)) is not None:
            return known
        library = _BY_LIBRARY.get(ancestor.__module__.partition(".")[0])
        if library is not None and (known := library(ancestor)) is not None:
            return known
    return _Conversion.text


def _is_plain(values: list[Any]) -> bool:
    """Whether the list needs no conversion. All in C: a million numbers take about 20 ms."""
    types = set(map(type, values))
    if types <= {NoneType, bool}:
        return True
    if types == {float}:
        return all(map(math.isfinite, values))
    if types <= {int, bool}:
        return _fits(min(values)) and _fits(max(values))
    return False


def _fits(number: int) -> bool:
    return -(2**63) <= number < 2**64


def _with_nulls(array: Any, valid: Any) -> Any:
    """The nested list of an array, with null wherever `valid` is false."""
    if valid.all():
        return array.tolist()
    holed = array.astype(object)
    holed[~valid] = None
    return holed.tolist()


def _clean(text: str) -> str:
    """Replaces unpaired surrogates, which UTF-8 cannot encode."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _dtype(value: Any) -> str:
    name = getattr(value.dtype, "name", None)
    return str.__str__(name) if isinstance(name, str) and name else str(value.dtype)


def _preview(value: Any) -> list[Any]:
    """The first few values, omitting long ones."""
    if isinstance(value, str | bytes | bytearray):
        return [_plain(value[:PREVIEW_CHARACTERS])]
    if hasattr(value, "dtype") and hasattr(value, "__getitem__"):
        first = value
        while len(shape_of(first) or []) > 1:
            first = first[0]
        return [_plain(item) for item in first[:PREVIEW_VALUES]]
    if hasattr(value, "to_csv"):
        return [_plain(value.head(PREVIEW_VALUES))]
    return [_plain(item) for item in itertools.islice(iter(value), PREVIEW_VALUES)]


def _plain(value: Any) -> Any:
    try:
        return msgspec.Raw(encode(value, limit_bytes=PREVIEW_BYTES))
    except DoesNotFit:
        return f"<{type_name(value)}>"
