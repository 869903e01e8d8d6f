"""One script: compile it, run it in a namespace, and tell how it ended."""

from __future__ import annotations

import builtins
import contextlib
import io
import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from tfserve.config import load
from tfserve.errors import Failure, Internal
from tfserve.ipc.messages import Failed, JobState, Message, RunScript, ScriptEnded
from tfserve.json_values import type_name
from tfserve.paths import read_inside
from tfserve.worker import streams

MAX_TRACEBACK_CHARACTERS = 64 * 1024
MAX_MESSAGE_CHARACTERS = 8 * 1024
MAX_REMEMBERED_TEXTS = 500
BYTE_ORDER_MARK = "\ufeff"
MAX_CHAIN = 100
"""So many exceptions that led to one another are told."""

_OUR_FOLDER = str(Path(__file__).parent) + os.sep

_ROOTS = load().configured_roots  # when the worker starts: a script may change the environment

_BUILTINS = dict(builtins.__dict__)

_remembered: list[str] = []


@dataclass(frozen=True)
class Script:
    """A file, or a text under a name made up for it."""

    name: str
    text: str | None = None

    def compile(self) -> types.CodeType:
        """Its code. Raises what Python raises for a missing file or a wrong syntax."""
        if self.text is None:
            return compile(read_inside(self.name, _ROOTS), self.name, "exec", dont_inherit=True)
        text = self.text.removeprefix(BYTE_ORDER_MARK)
        _remember(self.name, text)
        return compile(text, self.name, "exec", dont_inherit=True)

    def run(self, namespace: dict[str, Any]) -> None:
        """Runs it as Python runs a program: `__file__` is set for a file only."""
        if self.text is None:
            namespace["__file__"] = self.name
        else:
            namespace.pop("__file__", None)
        exec(self.compile(), namespace)  # noqa: S102


def new_main() -> types.ModuleType:
    """An empty `__main__`, as a fresh interpreter has it."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    return module


def set_main(module: types.ModuleType) -> None:
    """Makes a module `__main__`, also under the name by which what comes from spawned processes refers to it."""
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


def mend_builtins() -> None:
    """Puts back what a script has deleted from `builtins`. Needs none of them itself."""
    builtins.__dict__.update(_BUILTINS | builtins.__dict__)


def ended(error: BaseException | None, *, interrupted: bool) -> tuple[JobState, Failure | None]:
    """How a job ended that raised `error`, or nothing; `interrupted` tells whether it had been asked to stop.

    Never raises, whatever the methods and attributes of a script's own exception do.
    """
    try:
        return _ended(error, interrupted=interrupted)
    except BaseException as failed:
        message = f"The script raised {type_name(error)}, which can't be told: that raised {type_name(failed)}."
        return JobState.FAILED, Failure(code="script_error", message=message, type=type_name(error))


def instead_of_answer(message: Message, error: BaseException) -> Message:
    """What is answered when the way to an answer broke: a script may have meddled with what all code needs."""
    cause = f"a script has changed something in this process that the worker itself needs ({type_name(error)})"
    if isinstance(message, RunScript):
        failure = Failure(code="script_error", message=f"How the job ended can't be told: {cause}.")
        return ScriptEnded(state=JobState.FAILED, error=msgspec.json.encode(failure), variables=b"{}")
    return Failed(failure=Internal(f"This can't be done: {cause}.").to_failure())


def _ended(error: BaseException | None, *, interrupted: bool) -> tuple[JobState, Failure | None]:
    if error is None:
        return JobState.SUCCEEDED, None
    if interrupted:
        return JobState.CANCELLED, _failure(error, code="cancelled", message="The job was cancelled while it ran.")
    if isinstance(error, SystemExit):
        return _exited(error)
    return JobState.FAILED, _failure(error, code="script_error", message=_message(error))


def leave_child(error: BaseException | None) -> NoReturn:
    """Ends a process that a script has forked and that has come to the script's end, as Python would end it."""
    status = 0
    if isinstance(error, SystemExit):
        status, text = exit_status(error)
        if text:
            print(text, file=sys.stderr)
    elif error is not None:
        print(_told(lambda: _traceback(error)), end="", file=sys.stderr)
        status = 1
    streams.flush()
    os._exit(status)


def exit_status(error: SystemExit) -> tuple[int, str]:
    """The status that Python would exit with, and what it would print on the way."""
    if error.code is None:
        return 0, ""
    if isinstance(error.code, int):
        return int(error.code) & 0xFF, ""
    return 1, _text(error.code)


def _exited(error: SystemExit) -> tuple[JobState, Failure | None]:
    status, text = exit_status(error)
    if status == 0:
        return JobState.SUCCEEDED, None
    message = f"The script exited with status {status}" + (f": {text}" if text else ".")
    return JobState.FAILED, _failure(error, code="script_error", message=message)


def _failure(error: BaseException, *, code: str, message: str) -> Failure:
    return Failure(
        code=code,
        message=message,
        type=_told(lambda: _full_type_name(type(error))),
        traceback=_told(lambda: _traceback(error)),
    )


def _full_type_name(cls: type) -> str:
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    return _text(error) or type_name(error)


def _text(value: object) -> str:
    return _told(lambda: str(value), f"{type_name(value)} whose str() raised")[:MAX_MESSAGE_CHARACTERS]


def _told(
    function: Callable[[], str], otherwise: str = "this can't be told, since the script's own code raised"
) -> str:
    """The text that `function` makes, where code of the script's may run that raises anything."""
    try:
        # Not text.encode: it may be a str of the script's own.
        return str.encode(function(), "utf-8", "backslashreplace").decode("utf-8")
    except BaseException as failed:
        return f"<{otherwise} {type_name(failed)}>"


def _traceback(error: BaseException) -> str:
    """The traceback with the script's frames only. Too long a one loses its middle."""
    with _shortened(error):
        told = traceback.TracebackException.from_exception(error, compact=True)
    _keep_script_frames(told)
    text = "".join(told.format())
    if len(text) <= MAX_TRACEBACK_CHARACTERS:
        return text
    half = MAX_TRACEBACK_CHARACTERS // 2 - 20
    return f"{text[:half]}\n[... left out ...]\n{text[-half:]}"


@contextlib.contextmanager
def _shortened(error: BaseException) -> Iterator[None]:
    """Within, the chain of exceptions that led to this one ends after `MAX_CHAIN`: all of a long one takes minutes."""
    last = error
    for _ in range(MAX_CHAIN):
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None:
            break
        last = before
    cut = last.__cause__, last.__context__, last.__suppress_context__
    last.__cause__ = last.__context__ = None
    try:
        yield
    finally:
        last.__cause__, last.__context__, last.__suppress_context__ = cut


def _keep_script_frames(told: traceback.TracebackException) -> None:
    pending: list[traceback.TracebackException | None] = [told]
    while pending:
        each = pending.pop()
        if each is not None:
            frames = [frame for frame in each.stack if not frame.filename.startswith(_OUR_FOLDER)]
            each.stack = traceback.StackSummary.from_list(frames)
            pending += [each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or [])]


def _remember(name: str, text: str) -> None:
    """Lets tracebacks show the lines of a script that is in no file."""
    linecache.cache[name] = (len(text), None, _lines(text), name)
    _remembered.append(name)
    if len(_remembered) > MAX_REMEMBERED_TEXTS:
        linecache.cache.pop(_remembered.pop(0), None)


def _lines(text: str) -> list[str]:
    """Its lines as the compiler counts them and as `linecache` reads them from a file.

    Not `str.splitlines`, for which a form feed or U+2028 ends a line too.
    """
    return list(io.StringIO(text if text.endswith("\n") else text + "\n", newline=None))


class ImportFolder:
    """The place in `sys.path` where Python puts a program's own folder: the first."""

    def __init__(self) -> None:
        self._entry: str | None = None

    def set(self, folder: str) -> None:
        """Puts `folder` first, in place of the one set before; what scripts have added stays."""
        self.remove()
        sys.path.insert(0, folder)
        self._entry = folder

    def remove(self) -> None:
        if self._entry is not None:
            with contextlib.suppress(ValueError):
                sys.path.remove(self._entry)
            self._entry = None
