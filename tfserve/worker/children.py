"""Threads and processes that the script of a session starts belong to the session, and print to its output."""

from __future__ import annotations

import _posixsubprocess
import _thread
import concurrent.futures.thread
import functools
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from tfserve.worker import sessions
from tfserve.worker.sessions import Session

# positions among the arguments of _posixsubprocess.fork_exec
_CHILD_STDOUT, _CHILD_STDERR = 9, 11

_FORK_HANDLED = threading.local()


def install() -> None:
    """From now on, for good, in this process."""
    _hand_on_to_threads()
    _hand_on_to_work_items()
    _hand_on_to_processes()


# --- threads


def _hand_on_to_threads() -> None:
    for module, name in (
        (_thread, "start_new_thread"),
        (_thread, "start_new"),
        (_thread, "start_joinable_thread"),  # from Python 3.13 on
        (threading, "_start_new_thread"),
        (threading, "_start_joinable_thread"),
    ):
        if (original := getattr(module, name, None)) is not None:
            setattr(module, name, _handing_on(original))


def _handing_on(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def start_in_session(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        session = sessions.current()
        return start(function if session is None else _Entering(session, function), *args, **kwargs)

    return start_in_session


class _Entering:
    """Calls a function in a session."""

    def __init__(self, session: Session, function: Callable[..., Any]) -> None:
        self._session = session
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._session.entered():
            return self._function(*args, **kwargs)


def _hand_on_to_work_items() -> None:
    """A pool that several sessions share runs each call for the one that submitted it."""
    item = concurrent.futures.thread._WorkItem
    make, run = item.__init__, item.run

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        make(self, *args, **kwargs)
        self.session = sessions.current()

    def run_in_session(self: Any, *args: Any) -> None:
        if self.session is None:
            run(self, *args)
        else:
            _Entering(self.session, run)(self, *args)

    item.__init__, item.run = __init__, run_in_session  # type: ignore[method-assign]


# --- processes


def _hand_on_to_processes() -> None:
    # `subprocess` and `multiprocessing` reach it by different names.
    subprocess._fork_exec = _posixsubprocess.fork_exec = _executing(_posixsubprocess.fork_exec)  # type: ignore[attr-defined]
    os.posix_spawn = _spawning(os.posix_spawn)
    os.posix_spawnp = _spawning(os.posix_spawnp)
    os.system = _system
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _executing(fork_exec: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(fork_exec)
    def fork_exec_in_session(*args: Any) -> int:
        if (session := sessions.current()) is not None:
            changed = list(args)
            for position, number in ((_CHILD_STDOUT, 1), (_CHILD_STDERR, 2)):
                changed[position] = _output_for(session, args[position], number)
            args = tuple(changed)
        return fork_exec(*args)

    return fork_exec_in_session


def _output_for(session: Session, given: int, number: int) -> int:
    """The descriptor that becomes a child's stdout or stderr: -1 would be inherited, 1 and 2 are the process's."""
    return session.outputs.get(number if given == -1 else given, given)


def _spawning(spawn: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(spawn)
    def spawn_in_session(*args: Any, **kwargs: Any) -> int:
        if (session := sessions.current()) is not None:
            own = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in session.outputs.items()]
            kwargs["file_actions"] = [*own, *(kwargs.get("file_actions") or ())]
        return spawn(*args, **kwargs)

    return spawn_in_session


def _system(command: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> int:
    """`os.system`, by way of what is handed on above."""
    code = subprocess.call(["/bin/sh", "-c", command], close_fds=False)
    return -code if code < 0 else code << 8


def _before_fork() -> None:
    _FORK_HANDLED.files = [_identity(number) for number in (1, 2)]


def _after_fork() -> None:
    """In a forked child the session is alone: the descriptors are its own, unless the fork gave it a terminal."""
    sessions.forget_lock()
    session = sessions.current()
    if session is not None and _FORK_HANDLED.files == [_identity(number) for number in (1, 2)]:
        sessions.point_descriptors(session.outputs)


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        stat = os.fstat(fd)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
