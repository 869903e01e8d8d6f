"""The role of a workspace of type 0: its scripts run here, one after the other, in the main thread."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from tfserve.errors import Failure, Invalid, TFserveError, TimedOut
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import (
    READING,
    BecomeScripts,
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
from tfserve.worker import linux, script, spawning, streams, variables
from tfserve.worker.inbox import Inbox
from tfserve.worker.interrupts import Interrupts, Key, MainThread
from tfserve.worker.script import ImportFolder, Script
from tfserve.worker.streams import StandardStreams


class ScriptsRole:
    """One workspace: its namespace, which lasts from job to job, and its folder."""

    def __init__(self, become: BecomeScripts, connection: BlockingConnection, interrupts: Interrupts) -> None:
        self._folder = Path(become.folder)
        self._connection = connection
        self._interrupts = interrupts
        self._main_thread = MainThread(interrupts)
        self._streams = StandardStreams()
        self._import_folder = ImportFolder()
        self._pid = os.getpid()
        self._snapshot = b"{}"
        self._script: Script | None = None
        spawning.install(lambda: self._script)
        self._forget()

    def serve(self, inbox: Inbox) -> None:
        """Answers everything in order, until the worker is to stop."""
        for request_id, message in inbox:
            self._connection.answer(request_id, self._answer_surely(message))

    def _answer_surely(self, message: Message) -> Message:
        try:
            return self._answer(message)
        except BaseException as error:  # whatever a script has done to this process, somebody waits for an answer
            return script.instead_of_answer(message, error)

    def _answer(self, message: Message) -> Message:
        match message:
            case RunScript():
                return self._run(message)
            case ClearVariables():
                self._forget()
                return Done()
            case ReadVariables():
                return self._read(message)
        return Failed(failure=Invalid(f"a worker that runs scripts was sent {type(message).__name__}").to_failure())

    def _forget(self) -> None:
        self._main = script.new_main()
        script.set_main(self._main)
        self._snapshot = b"{}"

    def _run(self, message: RunScript) -> ScriptEnded:
        key = (message.workspace, message.job)
        started = linux.now()
        try:
            if message.clear:
                self._forget()
            state, failure = self._run_script(key, message)
            state, failure = self._take_snapshot(key, state, failure)
        finally:
            self._main_thread.finish(key)
        if state is JobState.CANCELLED:
            linux.kill_descendants(since=started)
        error = None if failure is None else msgspec.json.encode(failure)
        return ScriptEnded(state=state, error=error, variables=self._snapshot)

    def _run_script(self, key: Key, message: RunScript) -> tuple[JobState, Failure | None]:
        error: BaseException | None = None
        namespace = self._main.__dict__
        try:
            program = self._prepare(message)
            self._call(key, lambda: program.run(namespace))
        except BaseException as raised:  # whatever a script does, its worker goes on
            error = raised
        streams.flush()
        return script.ended(error, interrupted=self._interrupts.was_asked(key))

    def _prepare(self, message: RunScript) -> Script:
        """Makes the process look as Python leaves it to a program: streams, folder, `sys.argv`, `sys.path`."""
        self._main_thread.restore()
        self._streams.restore()
        script.set_main(self._main)
        self._folder.mkdir(parents=True, exist_ok=True)
        os.chdir(self._folder)
        sys.argv = [message.file or ""]
        self._import_folder.set(str(Path(message.file).parent) if message.file else "")
        self._script = Script(message.file or f"<job {message.job}>", None if message.file else message.text or "")
        return self._script

    def _take_snapshot(self, key: Key, state: JobState, failure: Failure | None) -> tuple[JobState, Failure | None]:
        try:
            self._snapshot = self._call(key, lambda: variables.snapshot(self._main.__dict__))
        except BaseException as error:  # user code runs here too: __str__, __len__, __iter__
            if self._interrupts.was_asked(key):
                return script.ended(error, interrupted=True)
        return state, failure

    def _read(self, message: ReadVariables) -> Message:
        key = (message.workspace, READING)
        try:
            namespace = self._main.__dict__
            return Variables(
                values=self._call(key, lambda: variables.full(namespace, message.names, message.limit_bytes))
            )
        except TFserveError as error:
            return Failed(failure=error.to_failure())
        except BaseException as error:  # user code runs here too: __str__, __len__, __iter__
            return Failed(failure=TimedOut(f"The variables can't be read: {type(error).__name__}.").to_failure())
        finally:
            self._main_thread.finish(key)

    def _call(self, key: Key, function: Callable[[], bytes | None]) -> bytes:
        """Runs what is or contains user code. A child that it has forked ends here."""
        try:
            return self._main_thread.call(key, function) or b""
        finally:
            script.mend_builtins()
            if os.getpid() != self._pid:
                script.leave_child(sys.exception())
