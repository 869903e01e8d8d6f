"""Runs the server in the background, one per data folder.

The data folder's lock file is the pid file. The server holds the lock while it runs, so a pid in an unlocked file
belongs to a former server, or by now to another program, and is never sent a signal.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from tfserve.config import Settings
from tfserve.supervisor.lock import NAME, Holder, holder

LOG = Path("log") / "tfserve.log"
STOP_EXTRA_S = 30.0

# Exit codes of `status`, following the LSB conventions for init scripts.
RUNNING, DEAD, STOPPED = 0, 1, 3


def start(settings: Settings) -> int:
    """Returns when the ports respond, or the server could not be started."""
    found = holder(settings.data_path)
    if found.is_alive:
        return _done(f"tfserve is already running, pid {found.pid}{_at(found)}")
    if found.pid is not None:
        print(f"the previous server did not stop cleanly (pid {found.pid}{_whose(found.pid)}); starting a new one")
    try:
        LOG.parent.mkdir(mode=0o700, exist_ok=True)
        with LOG.open("ab") as log:
            LOG.chmod(0o600)
            written_before = log.tell()
    except OSError as error:
        return _failed(f"cannot write the log {LOG.resolve()}: {error.strerror}")
    if message := _start_in_background(settings):
        return _done(f"{message}\n  log    {LOG.resolve()}")
    with LOG.open("rb") as log:
        log.seek(written_before)
        return _failed(f"tfserve could not be started:\n{log.read().decode(errors='replace').rstrip()}")


def stop(settings: Settings) -> int:
    """Returns when the server has stopped."""
    found = holder(settings.data_path)
    if not found.is_alive:
        why = "" if found.pid is None else f" (stale pid {found.pid} in its lock file{_whose(found.pid)})"
        return _done(f"tfserve is not running{why}")
    if found.pid is None:
        return _failed(f"tfserve is running, but its lock file {settings.data_path / NAME} contains no pid")
    if _ended(found.pid, settings.drain_s + STOP_EXTRA_S):
        return _done(f"tfserve has stopped (pid {found.pid})")
    return _failed(f"tfserve (pid {found.pid}) is still running; kill -9 {found.pid} kills it immediately")


def restart(settings: Settings) -> int:
    return stop(settings) or start(settings)


def status(settings: Settings) -> int:
    found = holder(settings.data_path)
    if found.is_alive:
        print(f"tfserve is running, pid {found.pid}{_at(found)}")
        return RUNNING
    if found.pid is not None:
        print(f"tfserve is not running; it did not stop cleanly (pid {found.pid}{_whose(found.pid)})")
        return DEAD
    print("tfserve is not running")
    return STOPPED


ACTIONS: dict[str, Callable[[Settings], int]] = {"start": start, "stop": stop, "restart": restart, "status": status}
"""Each returns the exit code."""


def _start_in_background(settings: Settings) -> str:
    """The server's ready message; empty if it exited first."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        _become_daemon(settings, writing)
    os.close(writing)
    os.wait()
    with os.fdopen(reading) as pipe:
        return pipe.read()


def _become_daemon(settings: Settings, ready_fd: int) -> None:
    """Never returns."""
    from daemon import DaemonContext

    from tfserve.supervisor.main import main as run

    def on_ready(message: str) -> None:
        os.write(ready_fd, message.encode())
        os.close(ready_fd)

    with LOG.open("ab", buffering=0) as log:
        context = DaemonContext(
            working_directory=str(Path.cwd()), umask=os.umask(0o022), files_preserve=[ready_fd, log], stdout=log,
            stderr=log, detach_process=True, signal_map={},
        )  # fmt: skip
        context.open()
        sys.exit(run(settings, on_ready))


def _ended(pid: int, timeout_s: float) -> bool:
    """Stops the server. Returns whether it exited in time."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        return bool(select.select([process], [], [], timeout_s)[0])
    finally:
        os.close(process)


def _done(message: str) -> int:
    print(message)
    return 0


def _failed(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


def _at(found: Holder) -> str:
    return f", {found.address}" if found.address else ""


def _whose(pid: int) -> str:
    """Which process has the pid now, for a message."""
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f", now used by another program, {process.name()!r}"
    except psutil.Error:
        return ""
