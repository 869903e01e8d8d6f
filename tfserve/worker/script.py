"""One script: compile it, run it in a namespace, and tell how it ended."""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tfserve.errors import Failure
from tfserve.ipc.messages import JobState
from tfserve.worker import streams

MAX_TRACEBACK_CHARACTERS = 64 * 1024
MAX_MESSAGE_CHARACTERS = 8 * 1024
MAX_REMEMBERED_TEXTS = 500

_OUR_FOLDER = str(Path(__file__).parent) + os.sep

_remembered: list[str] = []


@dataclass(frozen=True)
class Script:
    """A file, or a text under a name made up for it."""

    name: str
    text: str | None = None

    def compile(self) -> types.CodeType:
        """Its code. Raises what Python raises for a missing file or a wrong syntax."""
        if self.text is None:
            return compile(Path(self.name).read_bytes(), self.name, "exec", dont_inherit=True)
        _remember(self.name, self.text)
        return compile(self.text, self.name, "exec", dont_inherit=True)

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


def ended(error: BaseException | None, *, interrupted: bool) -> tuple[JobState, Failure | None]:
    """How a job ended that raised `error`, or nothing; `interrupted` tells whether it had been asked to stop."""
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
        print(_traceback(error), end="", file=sys.stderr)
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
    return Failure(code=code, message=message, type=_type_name(type(error)), traceback=_traceback(error))


def _type_name(cls: type) -> str:
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    return _text(error) or type(error).__name__


def _text(value: object) -> str:
    try:
        text = str(value)
    except Exception as failed:
        return f"<{type(value).__name__} whose str() raised {type(failed).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:MAX_MESSAGE_CHARACTERS]


def _traceback(error: BaseException) -> str:
    """The traceback with the script's frames only. Too long a one loses its middle."""
    told = traceback.TracebackException.from_exception(error, compact=True)
    _keep_script_frames(told)
    text = "".join(told.format()).encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= MAX_TRACEBACK_CHARACTERS:
        return text
    half = MAX_TRACEBACK_CHARACTERS // 2 - 20
    return f"{text[:half]}\n[... left out ...]\n{text[-half:]}"


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
    lines = [line + "\n" for line in text.splitlines()]
    linecache.cache[name] = (len(text), None, lines, name)
    _remembered.append(name)
    if len(_remembered) > MAX_REMEMBERED_TEXTS:
        linecache.cache.pop(_remembered.pop(0), None)


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
