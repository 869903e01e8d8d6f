"""The role of the shared host: each workspace of type 1 is a thread with its own `__main__`, output and folder.

They share all else: other modules, `sys.path`, the environment, the interpreter. Who ends the process ends it for all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import msgspec

from tfserve.errors import Failure, Invalid, TFserveError, TimedOut
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import (
    READING,
    ClearVariables,
    Done,
    DropWorkspace,
    Failed,
    JobState,
    Message,
    OpenWorkspace,
    ReadVariables,
    RunScript,
    ScriptEnded,
    Variables,
)
from tfserve.worker import children, linux, per_session, script, sessions, spawning, variables
from tfserve.worker.inbox import Inbox
from tfserve.worker.interrupts import Interrupts, Key, ScriptThread
from tfserve.worker.script import Script
from tfserve.worker.sessions import Session

log = logging.getLogger(__name__)


class HostRole:
    """Hands every message to the thread of its workspace."""

    def __init__(self, connection: BlockingConnection, interrupts: Interrupts) -> None:
        self._connection = connection
        self._interrupts = interrupts
        self._workspaces: dict[str, WorkspaceThread] = {}
        sessions.is_ours()
        per_session.install()
        children.install()
        spawning.install(_current_script)

    def serve(self, inbox: Inbox) -> None:
        """Routes everything in order, until the worker is to stop."""
        for request_id, message in inbox:
            try:
                self._route(request_id, message)
            except Exception as error:  # no more threads can be started, say
                log.exception("while routing %s", type(message).__name__)
                self._connection.answer(request_id, script.instead_of_answer(message, error))

    def _route(self, request_id: int, message: Message) -> None:
        match message:
            case OpenWorkspace():
                self._open(message)
                self._connection.answer(request_id, Done())
            case RunScript() | ClearVariables() | ReadVariables() if message.workspace in self._workspaces:
                self._workspaces[message.workspace].put(request_id, message)
            case DropWorkspace():
                self._drop(message.workspace)
                self._connection.answer(request_id, Done())
            case _:
                refused = Invalid(f"a host of threads was sent {type(message).__name__}")
                self._connection.answer(request_id, Failed(failure=refused.to_failure()))

    def _open(self, message: OpenWorkspace) -> None:
        self._drop(message.workspace)
        session = Session(message.stdout, message.stderr)
        self._workspaces[message.workspace] = WorkspaceThread(
            message.workspace, self._connection, self._interrupts, session
        )

    def _drop(self, workspace: str) -> None:
        if (thread := self._workspaces.pop(workspace, None)) is not None:
            thread.leave()


class WorkspaceThread:
    """One workspace: a thread that runs its scripts in order, in its namespace and its folder."""

    def __init__(
        self,
        workspace: str,
        connection: BlockingConnection,
        interrupts: Interrupts,
        session: Session,
    ) -> None:
        self._workspace = workspace
        self._connection = connection
        self._interrupts = interrupts
        self._session = session
        self._snapshot = b"{}"
        self._pid = os.getpid()
        self._queue: SimpleQueue[tuple[int, Message] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=f"workspace {workspace}", daemon=True).start()

    def put(self, request_id: int, message: Message) -> None:
        self._queue.put((request_id, message))

    def leave(self) -> None:
        """Ends the thread after what it was given before, which is interrupted. Does not wait for it."""
        self._queue.put(None)
        self._interrupts.interrupt_all(self._workspace)

    def _serve(self) -> None:
        with self._session.entered():
            self._serve_inside()
        self._session.close()

    def _serve_inside(self) -> None:
        self._thread = ScriptThread(self._interrupts)
        self._has_own_folder = linux.unshare_folder()
        if not self._has_own_folder:
            log.warning("this system does not let a thread have its own folder: workspace threads share one")
        while (item := self._next()) is not None:
            request_id, message = item
            self._connection.answer(request_id, self._answer_surely(message))

    def _next(self) -> tuple[int, Message] | None:
        return self._queue.get()

    def _answer_surely(self, message: Message) -> Message:
        try:
            return self._answer(message)
        except BaseException as error:  # whatever a script has done to this process, somebody waits for an answer
            return script.instead_of_answer(message, error)

    def _answer(self, message: Message) -> Message:
        match message:
            case RunScript():
                return self._run(message)
            case ReadVariables():
                return self._read(message)
        self._forget()
        return Done()

    def _forget(self) -> None:
        self._session.forget()
        self._snapshot = b"{}"

    def _run(self, message: RunScript) -> ScriptEnded:
        key = (message.workspace, message.job)
        try:
            if message.clear:
                self._forget()
            program = self._program(message)
            with self._session.running(program):
                state, failure = self._run_script(key, message, program)
                state, failure = self._take_snapshot(key, state, failure)
        finally:
            self._thread.finish(key)
        error = None if failure is None else msgspec.json.encode(failure)
        return ScriptEnded(state=state, error=error, variables=self._snapshot)

    def _run_script(self, key: Key, message: RunScript, program: Script) -> tuple[JobState, Failure | None]:
        error: BaseException | None = None
        try:
            Path(message.folder).mkdir(parents=True, exist_ok=True)
            os.chdir(message.folder)
            with _import_folder(message.file):
                self._call(key, lambda: program.run(self._session.main.__dict__))
        except BaseException as raised:  # whatever a script does, the other workspaces go on
            error = raised
        return script.ended(error, interrupted=self._interrupts.was_asked(key))

    def _take_snapshot(self, key: Key, state: JobState, failure: Failure | None) -> tuple[JobState, Failure | None]:
        try:
            self._snapshot = self._call(key, lambda: variables.snapshot(self._session.main.__dict__))
        except BaseException as error:  # user code runs here too: __str__, __len__, __iter__
            if self._interrupts.was_asked(key):
                return script.ended(error, interrupted=True)
        return state, failure

    def _read(self, message: ReadVariables) -> Message:
        key = (message.workspace, READING)
        try:
            namespace = self._session.main.__dict__
            return Variables(
                values=self._call(key, lambda: variables.full(namespace, message.names, message.limit_bytes))
            )
        except TFserveError as error:
            return Failed(failure=error.to_failure())
        except BaseException as error:  # user code runs here too: __str__, __len__, __iter__
            return Failed(failure=TimedOut(f"The variables can't be read: {type(error).__name__}.").to_failure())
        finally:
            self._thread.finish(key)

    def _call(self, key: Key, function: Callable[[], bytes | None]) -> bytes:
        """Runs what is or contains user code. A child that it has forked ends here."""
        try:
            return self._thread.call(key, function) or b""
        finally:
            script.mend_builtins()
            if os.getpid() != self._pid:
                script.leave_child(sys.exception())

    def _program(self, message: RunScript) -> Script:
        if message.file:
            return Script(message.file)
        return Script(f"<job {message.job} of {self._workspace}>", message.text or "")


@contextlib.contextmanager
def _import_folder(file: str | None) -> Iterator[None]:
    """Puts a script's folder first in `sys.path` while it runs; the other threads see it as well."""
    folder = str(Path(file).parent) if file else ""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _current_script() -> Script | None:
    session = sessions.current()
    return None if session is None else session.script
