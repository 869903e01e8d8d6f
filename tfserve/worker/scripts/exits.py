"""What Python does at the end of a program: `sys.excepthook` and the functions registered with `atexit`.

Only what the script's own code registers ends with its job. A library registers once, when it is imported, and stays
imported for the next job.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_OUR_FOLDER = str(Path(__file__).parents[1]) + os.sep

_register, _unregister = atexit.register, atexit.unregister


class _AtExit(NamedTuple):
    namespace: dict[str, Any]
    function: Callable[..., object]
    arguments: tuple[Any, ...]
    named: dict[str, Any]


_lock = threading.Lock()
_registered: list[_AtExit] = []


def install() -> None:
    """Lets scripts register functions that run at the end of their jobs."""
    atexit.register, atexit.unregister = register, unregister  # type: ignore[assignment]


def register(function: Callable[..., object], /, *arguments: Any, **named: Any) -> Callable[..., object]:
    """The same as `atexit.register`, for the end of the job if a script calls it."""
    namespace = sys._getframe(1).f_globals
    if namespace.get("__name__") != "__main__":
        return _register(function, *arguments, **named)
    if not callable(function):
        raise TypeError("the first argument must be callable")
    with _lock:
        _registered.append(_AtExit(namespace, function, arguments, named))
    return function


def unregister(function: Callable[..., object]) -> None:
    """The same as `atexit.unregister`."""
    namespace = sys._getframe(1).f_globals
    with _lock:
        _registered[:] = [each for each in _registered if each.namespace is not namespace or each.function != function]
    _unregister(function)


def forget(namespace: dict[str, Any]) -> None:
    """Drops what the scripts of this namespace have registered."""
    with _lock:
        _registered[:] = [each for each in _registered if each.namespace is not namespace]


def run(namespace: dict[str, Any]) -> None:
    """Runs what was registered, the last first. An error is printed, and the others run all the same."""
    while (each := _last(namespace)) is not None:
        try:
            each.function(*each.arguments, **each.named)
        except SystemExit:
            pass
        except Exception as error:
            print(f"Exception ignored in atexit callback: {each.function!r}", file=sys.stderr)
            traceback.print_exception(type(error), error, _of_script(error))


def _last(namespace: dict[str, Any]) -> _AtExit | None:
    with _lock:
        for each in _registered[::-1]:
            if each.namespace is namespace:
                _registered[:] = [other for other in _registered if other is not each]
                return each
    return None


def call_hook(error: BaseException, namespace: dict[str, Any], *, owns_process: bool) -> None:
    """Calls the `sys.excepthook` that a script has set; in a shared process only if it is the script's function."""
    if isinstance(error, SystemExit) or not _has_hook(namespace, owns_process=owns_process):
        return
    try:
        sys.excepthook(type(error), error, _of_script(error))
    except Exception as failed:
        print("Error in sys.excepthook:", file=sys.stderr)
        traceback.print_exception(type(failed), failed, _of_script(failed))


def restore_hook(namespace: dict[str, Any], *, owns_process: bool) -> None:
    """The next job begins with Python's own hook."""
    if _has_hook(namespace, owns_process=owns_process):
        sys.excepthook = sys.__excepthook__


def _has_hook(namespace: dict[str, Any], *, owns_process: bool) -> bool:
    hook = sys.excepthook
    if hook is sys.__excepthook__:
        return False
    return owns_process or getattr(hook, "__globals__", None) is namespace


def _of_script(error: BaseException) -> types.TracebackType | None:
    """The traceback of an error from the script's first frame on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OUR_FOLDER):
        trace = trace.tb_next
    return trace
