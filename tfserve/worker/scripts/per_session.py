"""Replaces process-wide objects such as `sys.stdout` by proxies for those of the calling code's session."""

from __future__ import annotations

import io
import logging
import sys
import types
from collections.abc import Iterator
from typing import Any

from tfserve.worker.scripts import script, sessions

_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}


def install() -> None:
    """Installs the proxies in this process, permanently."""
    main = _Main("__main__")
    object.__setattr__(main, "process_main", sys.modules["__main__"])
    script.set_main(main)
    for name, number in _STREAMS.items():
        _install_stream(name, number)
    sys.__class__ = _Sys


def _install_stream(name: str, number: int) -> None:
    real = getattr(sys, name)
    stream = _Stream(number, real)
    setattr(_Sys, name, _Attribute(name, stream))
    setattr(sys, f"__{name}__", stream)
    setattr(sys, name, _Front(name, stream))
    for reference in logging._handlerList:  # type: ignore[attr-defined]
        handler = reference()
        if isinstance(handler, logging.StreamHandler) and handler.stream is real:
            handler.stream = stream


class _Stream:
    """`sys.stdout` as scripts see it: the stream of their own session, in every thread."""

    def __init__(self, number: int, real: Any) -> None:
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_real", real)

    def _own(self) -> Any:
        session = sessions.current() if self._number else None
        return self._real if session is None else session.stream(self._number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._own(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._own(), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._own())

    def __next__(self) -> str:
        line: str = next(self._own())
        return line

    def __enter__(self) -> Any:
        return self._own().__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self._own().__exit__(*error)

    def __repr__(self) -> str:
        return repr(self._own())


io.TextIOBase.register(_Stream)


class _Front(_Stream):
    """`sys.stdout` as C code (such as `print`) sees it: the session's replacement, if there is one."""

    def __init__(self, name: str, stream: _Stream) -> None:
        super().__init__(0, stream)
        object.__setattr__(self, "_name", name)

    def _own(self) -> Any:
        return getattr(sys, self._name)


class _Attribute:
    """An attribute of `sys` that each session sets for itself."""

    def __init__(self, name: str, default: Any) -> None:
        self._name = name
        self._default = default

    def __get__(self, module: Any, _: type | None = None) -> Any:
        session = sessions.current()
        value = self._default if session is None else session.overrides.get(self._name, self._default)
        if value is _DELETED:
            raise AttributeError(f"module 'sys' has no attribute {self._name!r}")
        return value

    def __set__(self, module: Any, value: Any) -> None:
        session = sessions.current()
        if session is None:
            self._default = value
        else:
            session.overrides[self._name] = value

    def __delete__(self, module: Any) -> None:
        self.__set__(module, _DELETED)


_DELETED = object()


class _Sys(types.ModuleType):
    argv = _Attribute("argv", sys.argv)
    excepthook = _Attribute("excepthook", sys.excepthook)


class _Main(types.ModuleType):
    """`sys.modules["__main__"]`: for each session its own module."""

    def __getattribute__(self, name: str) -> Any:
        return getattr(_main(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_main(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_main(self), name)

    def __dir__(self) -> list[str]:
        return dir(_main(self))

    def __repr__(self) -> str:
        return repr(_main(self))


def _main(module: _Main) -> types.ModuleType:
    session = sessions.current()
    if session is not None:
        return session.main
    process_main: types.ModuleType = object.__getattribute__(module, "process_main")
    return process_main
