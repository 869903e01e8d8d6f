"""One script: compiles it, runs it in a namespace, and reports its outcome."""

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
from tfserve.paths import read_inside
from tfserve.tensors.json_values import type_name
from tfserve.worker.scripts import streams

MAX_TRACEBACK_CHARACTERS = 64 * 1024
MAX_MESSAGE_CHARACTERS = 8 * 1024
MAX_REMEMBERED_TEXTS = 500
BYTE_ORDER_MARK = "\ufeff"
MAX_CHAIN = 100
"""Maximum chained exceptions in a traceback."""

_OUR_FOLDER = str(Path(__file__).parents[1]) + os.sep

_ROOTS = load().configured_roots  # when the worker starts: a script may change the environment

_BUILTINS = dict(builtins.__dict__)

_remembered: list[str] = []


@dataclass(frozen=True)
class Script:
    """A file, or a text under a name made up for it."""

    name: str
    text: str | None = None

    @property
    def file(self) -> str | None:
        return self.name if self.text is None else None

    @property
    def folder(self) -> str:
        """What Python puts first in `sys.path` for it: empty for a text."""
        return "" if self.file is None else str(Path(self.file).parent)

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
    """The outcome of a job that raised `error` or nothing; `interrupted`: whether it was cancelled.

    Never raises, even if methods and attributes of a script's own exception do.
    """
    try:
        return _ended(error, interrupted=interrupted)
    except BaseException as failed:
        message = (
            f"The script raised {type_name(error)}, which can't be displayed: doing so raised {type_name(failed)}."
        )
        return JobState.FAILED, Failure(code="script_error", message=message, type=type_name(error))


def replacement_response(message: Message, error: BaseException) -> Message:
    """The response when creating the regular one failed, because a script has changed objects that all code needs."""
    cause = f"a script has changed something in this process that the worker needs ({type_name(error)})"
    if isinstance(message, RunScript):
        failure = Failure(code="script_error", message=f"The outcome of the job is unknown: {cause}.")
        return ScriptEnded(state=JobState.FAILED, error=msgspec.json.encode(failure), variables=b"{}")
    return Failed(failure=Internal(f"The request failed: {cause}.").to_failure())


def _ended(error: BaseException | None, *, interrupted: bool) -> tuple[JobState, Failure | None]:
    if error is None:
        return JobState.SUCCEEDED, None
    if interrupted:
        return JobState.CANCELLED, _failure(
            error, code="cancelled", message="The job was cancelled while it was running."
        )
    if isinstance(error, SystemExit):
        return _exited(error)
    return JobState.FAILED, _failure(error, code="script_error", message=_message(error))


def leave_child(error: BaseException | None) -> NoReturn:
    """Ends a forked process that has reached the end of the script, as Python would."""
    status = 0
    if isinstance(error, SystemExit):
        status, text = exit_status(error)
        if text:
            print(text, file=sys.stderr)
    elif error is not None:
        print(_safe_text(lambda: _traceback(error)), end="", file=sys.stderr)
        status = 1
    streams.flush()
    os._exit(status)


def exit_status(error: SystemExit) -> tuple[int, str]:
    """The status that Python would exit with, and what it would print."""
    if error.code is None:
        return 0, ""
    if isinstance(error.code, int):
        return int(error.code) & 0xFF if -(2**63) <= error.code < 2**63 else 255, ""
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
        type=_safe_text(lambda: _full_type_name(type(error))),
        traceback=_safe_text(lambda: _traceback(error)),
    )


def _full_type_name(cls: type) -> str:
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    return _text(error) or type_name(error)


def _text(value: object) -> str:
    return _safe_text(lambda: str(value), f"{type_name(value)} whose str() raised")[:MAX_MESSAGE_CHARACTERS]


def _safe_text(
    function: Callable[[], str], otherwise: str = "this can't be displayed, because the script's own code raised"
) -> str:
    """The text that `function` returns, even if it runs code of the script that raises."""
    try:
        # Not text.encode: it may be a str of the script's own.
        return str.encode(function(), "utf-8", "backslashreplace").decode("utf-8")
    except BaseException as failed:
        return f"<{otherwise} {type_name(failed)}>"


def _traceback(error: BaseException) -> str:
    """The traceback with the script's frames only. A long one is truncated in the middle."""
    with _shortened(error):
        formatted = traceback.TracebackException.from_exception(error, compact=True)
    _keep_script_frames(formatted)
    text = "".join(formatted.format())
    if len(text) <= MAX_TRACEBACK_CHARACTERS:
        return text
    half = MAX_TRACEBACK_CHARACTERS // 2 - 20
    return f"{text[:half]}\n[... left out ...]\n{text[-half:]}"


@contextlib.contextmanager
def _shortened(error: BaseException) -> Iterator[None]:
    """Truncates the chain of exceptions to `MAX_CHAIN`, because formatting a long one takes minutes."""
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


def _keep_script_frames(formatted: traceback.TracebackException) -> None:
    pending: list[traceback.TracebackException | None] = [formatted]
    while pending:
        each = pending.pop()
        if each is not None:
            frames = [frame for frame in each.stack if not frame.filename.startswith(_OUR_FOLDER)]
            each.stack = traceback.StackSummary.from_list(frames)
            pending += [each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or [])]


def remembered_texts() -> list[str]:
    """The names of the last scripts that are in no file."""
    return _remembered.copy()


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
    """The first entry of `sys.path`, which Python sets to the program's folder."""

    def __init__(self) -> None:
        self._entry: str | None = None

    def set(self, folder: str) -> None:
        """Puts `folder` first, replacing the one set before; entries added by scripts stay."""
        self.remove()
        sys.path.insert(0, folder)
        self._entry = folder

    def remove(self) -> None:
        if self._entry is not None:
            with contextlib.suppress(ValueError, AttributeError):  # a script may have replaced the list
                sys.path.remove(self._entry)
            self._entry = None
