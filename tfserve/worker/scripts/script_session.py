"""The scripts of one workspace: run in order, in a namespace that lasts from job to job."""

from __future__ import annotations

import os
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tfserve.errors import Failure, Invalid, TFserveError, TimedOut
from tfserve.ipc.messages import (
    READING,
    ClearVariables,
    Done,
    Failed,
    JobState,
    Message,
    ReadVariables,
    RunScript,
    ScriptEnded,
    Variables,
)
from tfserve.worker.scripts import exits, script, variables
from tfserve.worker.scripts.exits import ExitFunctions
from tfserve.worker.scripts.interrupts import Interrupts, Key, MainThread, ScriptThread
from tfserve.worker.scripts.script import ImportFolder, Script

NO_VARIABLES = b"{}"


class ScriptSession(ABC):
    """Answers the requests to one workspace. A subclass has the process or the thread in which its scripts run."""

    def __init__(
        self, interrupts: Interrupts, thread: MainThread | ScriptThread, exit_functions: ExitFunctions
    ) -> None:
        """`thread` is the calling one, in which the scripts run."""
        self._interrupts = interrupts
        self._thread = thread
        self._exit_functions = exit_functions
        self._import_folder = ImportFolder()
        self._pid = os.getpid()
        self._snapshot = self._types = NO_VARIABLES

    def answer(self, message: Message) -> Message:
        """The response; never raises."""
        try:
            return self._answer(message)
        except BaseException as error:  # even if a script has damaged this process, the caller needs a response
            return script.replacement_response(message, error)

    # --- the process or thread

    @property
    @abstractmethod
    def _main(self) -> types.ModuleType:
        """The `__main__` of the scripts."""

    @abstractmethod
    def _new_main(self) -> None:
        """Makes `__main__` an empty module."""

    @abstractmethod
    def _script_name(self, job: int) -> str:
        """The name in tracebacks of a script that is not in a file."""

    @abstractmethod
    def _running(self, program: Script) -> AbstractContextManager[None]:
        """Makes `program` the current script until the variables are read."""

    @abstractmethod
    def _before_script(self, program: Script) -> None:
        """Restores the process to what a program expects from Python, except for its folders."""

    @abstractmethod
    def _after_script(self) -> None:
        """Follows the script, however it ended."""

    # --- requests

    def _answer(self, message: Message) -> Message:
        match message:
            case RunScript():
                return self._run(message)
            case ClearVariables():
                self._forget()
                return Done()
            case ReadVariables():
                return self._read(message)
        return Failed(failure=Invalid(f"a script worker received {type(message).__name__}").to_failure())

    def _forget(self) -> None:
        self._new_main()
        self._snapshot = self._types = NO_VARIABLES

    def _run(self, message: RunScript) -> ScriptEnded:
        key = (message.workspace, message.job)
        try:
            if message.clear:
                self._forget()
            self._join_trace(message.traceparent)
            program = self._program(message)
            with self._running(program):
                state, failure = self._run_script(key, program, message.folder)
                state, failure = self._take_snapshot(key, state, failure)
        finally:
            self._thread.finish(key)
            # Not earlier: an interrupt could hit here and leave what the script has registered to the next job.
            self._exit_functions.end()
            exits.restore_hook()
        error = None if failure is None else msgspec.json.encode(failure)
        return ScriptEnded(state=state, error=error, variables=self._snapshot, types=self._types)

    def _join_trace(self, traceparent: str) -> None:
        """Lets the script continue the trace of the request that submitted it."""
        self._main.__dict__["__traceparent__"] = traceparent or None

    def _program(self, message: RunScript) -> Script:
        return Script(message.file) if message.file else Script(self._script_name(message.job), message.text or "")

    def _run_script(self, key: Key, program: Script, folder: str) -> tuple[JobState, Failure | None]:
        error: BaseException | None = None
        try:
            self._prepare(program, folder)
            self._call(key, lambda: self._run_to_end(key, program))
        except BaseException as raised:  # a failing script must not end its worker
            error = raised
        self._after_script()
        return script.ended(error, interrupted=self._interrupts.was_interrupted(key))

    def _run_to_end(self, key: Key, program: Script) -> None:
        """Runs a program, and what Python runs after it, unless the job was interrupted."""
        was_interrupted = partial(self._interrupts.was_interrupted, key)
        self._exit_functions.begin()
        error = _raised_by(program, self._main.__dict__)
        script.mend_builtins()
        if error is None:
            self._exit_functions.run(was_interrupted)
            return
        if not was_interrupted():
            exits.call_hook(error, was_interrupted)
            script.mend_builtins()
            self._exit_functions.run(was_interrupted)
        raise error

    def _prepare(self, program: Script, folder: str) -> None:
        self._before_script(program)
        Path(folder).mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        self._import_folder.set(program.folder)

    def _take_snapshot(self, key: Key, state: JobState, failure: Failure | None) -> tuple[JobState, Failure | None]:
        try:
            self._types = self._call(key, lambda: variables.types(self._main.__dict__))
            self._snapshot = self._call(key, lambda: variables.snapshot(self._main.__dict__))
        except BaseException as error:  # user code runs here too: __str__, __len__, __iter__
            if self._interrupts.was_interrupted(key):
                return script.ended(error, interrupted=True)
        return state, failure

    def _read(self, message: ReadVariables) -> Message:
        key = (message.workspace, READING)
        try:
            namespace = self._main.__dict__
            values = self._call(key, lambda: variables.full(namespace, message.names, message.limit_bytes))
            return Variables(values=values)
        except TFserveError as error:
            return Failed(failure=error.to_failure())
        except BaseException as error:  # user code runs here too: __str__, __len__, __iter__
            return Failed(failure=TimedOut(f"The variables can't be read: {type(error).__name__}.").to_failure())
        finally:
            self._thread.finish(key)

    def _call(self, key: Key, function: Callable[[], bytes | None]) -> bytes:
        """Runs a function that contains user code. A forked child ends here."""
        try:
            return self._thread.call(key, function) or b""
        finally:
            script.mend_builtins()
            if os.getpid() != self._pid:
                script.leave_child(sys.exception())


def _raised_by(program: Script, namespace: dict[str, Any]) -> BaseException | None:
    """Runs a program. Returns its error, so that it is not being handled when the script's exit functions run."""
    try:
        program.run(namespace)
    except BaseException as error:
        return error
    return None
