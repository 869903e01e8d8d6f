"""What a workspace of type 1 has of its own of the things that a process has once.

Those are the module `__main__`, the standard streams and `sys.argv`. Code finds the ones of its session: the session of
its thread, which threads hand on to those that they start; or else, in a thread that C code has started (as TensorFlow
does for `tf.data`), the session whose script is on the stack; or else the only one that runs a job.
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

from tfserve.worker import linux, script, streams
from tfserve.worker.script import Script

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
        #: what scripts have put in place of `sys.stdout` and the like
        self.overrides: dict[str, Any] = {}
        self._streams = {number: self.outputs.writer(number) for number in self.outputs}
        self.main = self._new_main()

    def close(self) -> None:
        """Its code is no longer known as such. Its files stay open as long as a thread or an object uses them."""
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
        """Within, a job runs: the streams are as Python leaves them to a program."""
        self.script = program
        self.overrides = {"argv": [program.name if program.text is None else ""]}
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
            with contextlib.suppress(Exception):  # closed by a script, or nobody reads any more
                stream.flush()
        streams.flush()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Within, the calling thread works for this session."""
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
    """The descriptors that stand for 1 and 2, open as long as somebody has this object or a stream made from it."""

    def __init__(self, stdout: str, stderr: str) -> None:
        for number, path in ((1, stdout), (2, stderr)):
            self[number] = fd = streams.open_output(path)
            weakref.finalize(self, os.close, fd).atexit = False

    def writer(self, number: int) -> io.TextIOWrapper:
        stream = streams.writer(self[number])
        stream.buffer.raw.outputs = self  # type: ignore[attr-defined]
        return stream


def current() -> Session | None:
    """The session that the calling code belongs to; None for the worker itself, and where nobody knows."""
    session: Session | None = getattr(_thread, "session", None)
    if session is not None or getattr(_thread, "is_ours", False):
        return session
    return _on_stack() or (_running[0] if len(_running) == 1 else None)


def is_ours() -> None:
    """The calling thread is the worker's own: nothing that it does belongs to a session."""
    _thread.is_ours = True


def forget_lock() -> None:
    """In a forked child: whoever may have held it is not there."""
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
    """While one job runs alone, also what C code writes to the descriptors 1 and 2 is its own."""
    with _lock:
        if on:
            _running.append(session)
        else:
            _running.remove(session)
        alone = _running[0] if len(_running) == 1 else None
        linux.flush_c_streams()
        point_descriptors(_process_outputs if alone is None else alone.outputs)


def point_descriptors(outputs: Mapping[int, int]) -> None:
    """Makes 1 and 2 lead where the given descriptors do."""
    for number, fd in outputs.items():
        os.dup2(fd, number)


_process_outputs = {number: streams.saved(number) for number in (1, 2)}
