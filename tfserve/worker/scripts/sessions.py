"""The per-workspace versions of process-wide objects, for workspaces of type 1.

Those are the module `__main__`, the standard streams, `sys.argv` and `sys.excepthook`. Code finds the ones of its
session: the session of its thread, which threads hand on to those that they start; or else, in a thread that C code has
started (as TensorFlow does for `tf.data`), the session whose script is on the stack; or else the only one that runs a
job.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import types
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from tfserve.worker import process_group
from tfserve.worker.scripts import script, streams
from tfserve.worker.scripts.exits import ExitFunctions
from tfserve.worker.scripts.script import Script

SCRIPT_DEPTH = 200
"""How many frames are searched for one of a script's."""

_thread = threading.local()
_lock = threading.RLock()
_by_namespace: dict[int, Session] = {}
_running: list[Session] = []


class Session:
    """One workspace. Its output goes to the two files, which may be pipes."""

    def __init__(self, stdout: str, stderr: str) -> None:
        """Raises `OSError` if one of the files can't be opened."""
        self.outputs = _Outputs(stdout, stderr)
        self.script: Script | None = None
        self.exit_functions = ExitFunctions()
        #: what scripts have assigned to `sys.stdout` and the like
        self.overrides: dict[str, Any] = {}
        self._streams = {number: self.outputs.writer(number) for number in self.outputs}
        self.main = self._new_main()

    def close(self) -> None:
        """Ends the session. Its files stay open as long as a thread or an object uses them."""
        with _lock:
            _by_namespace.pop(id(self.main.__dict__), None)

    def forget(self) -> None:
        """Gives it an empty `__main__`."""
        self.close()
        self.main = self._new_main()

    def stream(self, number: int) -> io.TextIOWrapper:
        return self._streams[number]

    @contextlib.contextmanager
    def running(self, program: Script) -> Iterator[None]:
        """Runs a job: the streams are as Python sets them up for a program."""
        self.script = program
        self.overrides = {"argv": [program.file or ""]}
        for number, stream in self._streams.items():
            if stream.closed:
                self._streams[number] = self.outputs.writer(number)
        _set_running(self, on=True)
        try:
            yield
        finally:
            self.flush()
            _set_running(self, on=False)

    def flush(self) -> None:
        for stream in self._streams.values():
            with contextlib.suppress(Exception):  # closed by a script, or the reader is gone
                stream.flush()
        streams.flush()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Assigns the calling thread to this session."""
        before = getattr(_thread, "session", None)
        _thread.session = self
        try:
            yield
        finally:
            _thread.session = before

    def _new_main(self) -> types.ModuleType:
        main = script.new_main()
        with _lock:
            _by_namespace[id(main.__dict__)] = self
        return main


class _Outputs(dict[int, int]):
    """The descriptors used for 1 and 2, open as long as this object or a stream made from it is referenced."""

    def __init__(self, stdout: str, stderr: str) -> None:
        for number, path in ((1, stdout), (2, stderr)):
            self[number] = fd = streams.open_output(path)
            weakref.finalize(self, os.close, fd).atexit = False

    def writer(self, number: int) -> io.TextIOWrapper:
        stream = streams.writer(self[number])
        stream.buffer.raw.outputs = self  # type: ignore[attr-defined]
        return stream


def current() -> Session | None:
    """The session that the calling code belongs to; None for the worker itself, and if unknown."""
    session: Session | None = getattr(_thread, "session", None)
    if session is not None or getattr(_thread, "is_ours", False):
        return session
    return _on_stack() or (_running[0] if len(_running) == 1 else None)


def is_ours() -> None:
    """Marks the calling thread as the worker's own, which belongs to no session."""
    _thread.is_ours = True


def forget_lock() -> None:
    """In a forked child, where the thread that held the lock no longer exists."""
    global _lock
    _lock = threading.RLock()


def _on_stack() -> Session | None:
    frame: types.FrameType | None = sys._getframe(2)
    for _ in range(SCRIPT_DEPTH):
        if frame is None:
            break
        if (session := _by_namespace.get(id(frame.f_globals))) is not None:
            return session
        frame = frame.f_back
    return None


def _set_running(session: Session, *, on: bool) -> None:
    """While only one job is running, redirects descriptors 1 and 2 for C code to its output."""
    with _lock:
        if on:
            _running.append(session)
        else:
            _running.remove(session)
        alone = _running[0] if len(_running) == 1 else None
        process_group.flush_c_streams()
        point_descriptors(_process_outputs if alone is None else alone.outputs)


def point_descriptors(outputs: Mapping[int, int]) -> None:
    """Points descriptors 1 and 2 to the given ones."""
    for number, fd in outputs.items():
        os.dup2(fd, number)


_process_outputs = {number: streams.saved(number) for number in (1, 2)}
