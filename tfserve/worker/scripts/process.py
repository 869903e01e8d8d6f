"""The role of a workspace of type 0: its scripts run here, one after the other, in the main thread."""

from __future__ import annotations

import os
import sys
import types
from contextlib import AbstractContextManager, nullcontext

from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import JobState, RunScript, ScriptEnded
from tfserve.worker import process_group
from tfserve.worker.inbox import Inbox
from tfserve.worker.scripts import class_sources, exits, script, spawning, streams
from tfserve.worker.scripts.exits import ExitFunctions
from tfserve.worker.scripts.interrupts import Interrupts, MainThread
from tfserve.worker.scripts.script import Script
from tfserve.worker.scripts.script_session import ScriptSession
from tfserve.worker.scripts.streams import StandardStreams


class ScriptsRole:
    """Answers the requests to the one workspace of this process."""

    def __init__(self, connection: BlockingConnection, interrupts: Interrupts) -> None:
        self._connection = connection
        self._session = ProcessSession(interrupts)

    def serve(self, inbox: Inbox) -> None:
        """Answers all requests in order, until `Stop`."""
        for request_id, message in inbox:
            self._connection.answer(request_id, self._session.answer(message))


class ProcessSession(ScriptSession):
    """A workspace that has the process to itself."""

    _thread: MainThread

    def __init__(self, interrupts: Interrupts) -> None:
        super().__init__(interrupts, MainThread(interrupts), ExitFunctions())
        self._streams = StandardStreams()
        self._script: Script | None = None
        spawning.install(lambda: self._script)
        class_sources.install()
        exits.install(lambda: self._exit_functions)
        self._new_main()

    @property
    def _main(self) -> types.ModuleType:
        return self._module

    def _new_main(self) -> None:
        self._module = script.new_main()
        script.set_main(self._module)

    def _script_name(self, job: int) -> str:
        return f"<job {job}>"

    def _run(self, message: RunScript) -> ScriptEnded:
        started = process_group.now()
        ended = super()._run(message)
        if ended.state is JobState.CANCELLED:
            process_group.kill_descendants(since=started)
        return ended

    def _join_trace(self, traceparent: str) -> None:
        """Also in the environment, where OpenTelemetry's tools and child processes look for it."""
        super()._join_trace(traceparent)
        os.environ.pop("TRACEPARENT", None)
        if traceparent:
            os.environ["TRACEPARENT"] = traceparent

    def _running(self, program: Script) -> AbstractContextManager[None]:
        self._script = program
        return nullcontext()

    def _before_script(self, program: Script) -> None:
        self._thread.restore()
        self._streams.restore()
        script.set_main(self._module)
        sys.argv = [program.file or ""]

    def _after_script(self) -> None:
        streams.flush()
