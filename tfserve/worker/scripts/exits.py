"""What Python does at the end of a program: `sys.excepthook` and the functions registered with `atexit`.

Only what the script's own code registers ends with its job. A library registers once, when it is imported, and stays
imported for the next job.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tfserve.worker.scripts.script import exit_status

_OUR_FOLDER = str(Path(__file__).parents[1]) + os.sep

_register, _unregister = atexit.register, atexit.unregister

_PYTHON_HOOK = sys.__excepthook__


@dataclass(frozen=True, eq=False)
class _ExitFunction:
    # Compared by identity: the `==` of the function and of its arguments may be the script's code.
    function: Callable[..., object]
    arguments: tuple[Any, ...]
    named: dict[str, Any]

    def __call__(self) -> None:
        self.function(*self.arguments, **self.named)


class ExitFunctions:
    """What the running job of a workspace has registered with `atexit`.

    Takes no lock: each step is one operation of a list. A lock could be held in another thread when a script forks, or
    be taken again by a signal handler.
    """

    def __init__(self) -> None:
        self._functions: list[_ExitFunction] | None = None

    def begin(self) -> None:
        """A job starts, with nothing registered."""
        self._functions = []

    def end(self) -> None:
        """Drops what is left. A thread that registers something until the next job does it for no job."""
        self._functions = None

    def add(self, function: Callable[..., object], arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self._functions is not None:
            self._functions.append(_ExitFunction(function, arguments, named))

    def remove(self, function: Callable[..., object]) -> None:
        functions = self._functions or []
        for each in functions.copy():
            if each.function is function or each.function == function:
                with contextlib.suppress(ValueError):  # `==` has removed it, or it runs already
                    functions.remove(each)

    def run(self, was_interrupted: Callable[[], bool]) -> None:
        """Runs all, the last first. An error is printed, and the others run all the same, unless the job must stop."""
        while self._functions:
            each = self._functions.pop()
            error = _shielded(each, was_interrupted)
            if error is not None:
                _shielded(partial(_print_ignored, each, error), was_interrupted)


def _no_job() -> None:
    """In a process that runs no scripts."""


_current: Callable[[], ExitFunctions | None] = _no_job


def install(current: Callable[[], ExitFunctions | None]) -> None:
    """Lets scripts register functions that run at the end of their jobs; `current`: those of the calling code's job."""
    global _current
    _current = current
    atexit.register, atexit.unregister = register, unregister  # type: ignore[assignment]


def register(function: Callable[..., object], /, *arguments: Any, **named: Any) -> Callable[..., object]:
    """The same as `atexit.register`, for the end of the job if a script calls it."""
    functions = _current()
    if functions is None or _is_imported(sys._getframe(1).f_globals):
        return _register(function, *arguments, **named)
    if not callable(function):
        raise TypeError("the first argument must be callable")
    functions.add(function, arguments, named)
    return function


def unregister(function: Callable[..., object]) -> None:
    """The same as `atexit.unregister`: a library may also remove what the script has registered."""
    if (functions := _current()) is not None:
        functions.remove(function)
    _unregister(function)


def _is_imported(namespace: dict[str, Any]) -> bool:
    """Whether it is that of a module which stays, rather than of code run by the script (`exec`, `runpy`)."""
    return namespace.get("__spec__") is not None and namespace.get("__name__") != "__main__"


def call_hook(error: BaseException, was_interrupted: Callable[[], bool]) -> None:
    """Calls the `sys.excepthook` that a script has set. The job's error remains `error`, even if the hook exits."""
    hook = getattr(sys, "excepthook", _PYTHON_HOOK)
    if hook is _PYTHON_HOOK or isinstance(error, SystemExit):
        return
    failed = _shielded(lambda: hook(type(error), error, _of_script(error)), was_interrupted)
    if isinstance(failed, SystemExit):
        _shielded(partial(_print_exit, failed), was_interrupted)
    elif failed is not None:
        _shielded(partial(_print, "Error in sys.excepthook:", failed), was_interrupted)


def restore_hook() -> None:
    """The next job begins with Python's own hook."""
    sys.excepthook = _PYTHON_HOOK


def _shielded(function: Callable[[], None], was_interrupted: Callable[[], bool]) -> BaseException | None:
    """Calls code of a script and returns what it raises, even an exit; raises it if the job was interrupted."""
    try:
        function()
    except BaseException as error:
        if was_interrupted():
            raise
        return error
    return None


def _print_ignored(exit_function: _ExitFunction, error: BaseException) -> None:
    _print(f"Exception ignored in atexit callback: {exit_function.function!r}", error)


def _print(title: str, error: BaseException) -> None:
    print(title, file=sys.stderr)
    traceback.print_exception(type(error), error, _of_script(error))


def _print_exit(error: SystemExit) -> None:
    _, text = exit_status(error)
    if text:
        print(text, file=sys.stderr)


def _of_script(error: BaseException) -> types.TracebackType | None:
    """The traceback of an error from the script's first frame on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OUR_FOLDER):
        trace = trace.tb_next
    return trace
