"""The role of the shared host: each workspace of type 1 is a thread with its own `__main__`, output and folder.

They share everything else: other modules, `sys.path`, the environment, the interpreter. A script that ends the process
ends it for all of them.
"""

from __future__ import annotations

import logging
import threading
import types
from contextlib import AbstractContextManager
from queue import SimpleQueue

from tfserve.errors import Invalid
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import (
    ClearVariables,
    Done,
    DropWorkspace,
    Failed,
    Message,
    OpenWorkspace,
    ReadVariables,
    RunScript,
)
from tfserve.worker import process_group
from tfserve.worker.inbox import Inbox
from tfserve.worker.scripts import children, class_sources, exits, per_session, script, sessions, spawning
from tfserve.worker.scripts.exits import ExitFunctions
from tfserve.worker.scripts.interrupts import Interrupts, ScriptThread
from tfserve.worker.scripts.script import Script
from tfserve.worker.scripts.script_session import ScriptSession
from tfserve.worker.scripts.sessions import Session

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
        class_sources.install()
        exits.install(_current_exit_functions)

    def serve(self, inbox: Inbox) -> None:
        """Routes all messages in order, until `Stop`."""
        for request_id, message in inbox:
            try:
                self._route(request_id, message)
            except Exception as error:  # for example, no more threads can be started
                log.exception("while routing %s", type(message).__name__)
                self._connection.answer(request_id, script.replacement_response(message, error))

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
                refused = Invalid(f"a host of workspace threads received {type(message).__name__}")
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
    """The thread of one workspace, and the requests that wait for it."""

    def __init__(
        self, workspace: str, connection: BlockingConnection, interrupts: Interrupts, session: Session
    ) -> None:
        self._workspace = workspace
        self._connection = connection
        self._interrupts = interrupts
        self._session = session
        self._queue: SimpleQueue[tuple[int, Message] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=f"workspace {workspace}", daemon=True).start()

    def put(self, request_id: int, message: Message) -> None:
        self._queue.put((request_id, message))

    def leave(self) -> None:
        """Interrupts the thread's jobs and then ends it. Does not wait for it."""
        self._queue.put(None)
        self._interrupts.interrupt_all(self._workspace)

    def _serve(self) -> None:
        with self._session.entered():
            self._serve_inside()
        self._session.close()

    def _serve_inside(self) -> None:
        scripts = ThreadSession(self._workspace, self._interrupts, self._session)
        if not process_group.unshare_folder():
            log.warning("this system does not support a working directory per thread: workspace threads share one")
        while (item := self._next()) is not None:
            request_id, message = item
            self._connection.answer(request_id, scripts.answer(message))

    def _next(self) -> tuple[int, Message] | None:
        return self._queue.get()


class ThreadSession(ScriptSession):
    """A workspace that shares the process: made by its own thread, with its own `__main__`, streams and folder."""

    def __init__(self, workspace: str, interrupts: Interrupts, session: Session) -> None:
        super().__init__(interrupts, ScriptThread(interrupts), session.exit_functions)
        self._workspace = workspace
        self._session = session

    @property
    def _main(self) -> types.ModuleType:
        return self._session.main

    def _new_main(self) -> None:
        self._session.forget()

    def _script_name(self, job: int) -> str:
        return f"<job {job} of {self._workspace}>"

    def _running(self, program: Script) -> AbstractContextManager[None]:
        return self._session.running(program)

    def _before_script(self, program: Script) -> None:
        """Nothing to do: `_running` sets up the session."""

    def _after_script(self) -> None:
        self._import_folder.remove()  # the other threads see it as well


def _current_script() -> Script | None:
    session = sessions.current()
    return None if session is None else session.script


def _current_exit_functions() -> ExitFunctions | None:
    session = sessions.current()
    return None if session is None else session.exit_functions
