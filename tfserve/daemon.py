"""Runs the whole server in the background, one for each data folder.

The data folder's lock file is the pid file: the server holds its lock for as long as it lives, so a pid in a file
that is not locked is a former server's, or by now some other program's, and is never sent a signal.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from tfserve.config import MAX_PORT, Settings, from_arguments
from tfserve.supervisor.lock import NAME, Holder, holder

TRAINING_PORT = 2333
LOG = Path("log") / "tfserve.log"
STOP_EXTRA_S = 30.0

# What `status` exits with, as service managers know it.
RUNNING, DEAD, STOPPED = 0, 1, 3


def main(arguments: Sequence[str], *, prog: str = "server.py") -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Run the server in the background. Further options are those of `tfserve serve`.",
    )
    parser.add_argument("action", choices=["start", "stop", "restart", "status"])
    parser.add_argument("--port", type=_port, default=TRAINING_PORT, help=f"port of the training API ({TRAINING_PORT})")
    known, rest = parser.parse_known_args(arguments)
    settings = from_arguments([*rest, "--training-port", str(known.port)], f"{prog} {known.action}")
    actions = {"start": start, "stop": stop, "restart": restart, "status": status}
    return actions[known.action](settings)


def start(settings: Settings) -> int:
    """Returns when the ports answer, or the server could not be started."""
    found = holder(settings.data_path)
    if found.is_alive:
        return _say(f"tfserve is already running, pid {found.pid}{_at(found)}")
    if found.pid is not None:
        print(f"the server before did not stop cleanly (pid {found.pid}{_whose(found.pid)}); starting a new one")
    try:
        LOG.parent.mkdir(mode=0o700, exist_ok=True)
        with LOG.open("ab") as log:
            LOG.chmod(0o600)
            written_before = log.tell()
    except OSError as error:
        return _refuse(f"the log {LOG.resolve()} can't be written: {error.strerror}")
    if told := _start_in_background(settings):
        return _say(f"{told}\n  log    {LOG.resolve()}")
    with LOG.open("rb") as log:
        log.seek(written_before)
        return _refuse(f"tfserve could not be started:\n{log.read().decode(errors='replace').rstrip()}")


def stop(settings: Settings) -> int:
    """Returns when the server is gone."""
    found = holder(settings.data_path)
    if not found.is_alive:
        why = "" if found.pid is None else f" (pid {found.pid} was left in its file{_whose(found.pid)})"
        return _say(f"tfserve is not running{why}")
    if found.pid is None:
        return _refuse(f"tfserve is running, but its file {settings.data_path / NAME} does not tell the pid")
    if _ended(found.pid, settings.drain_s + STOP_EXTRA_S):
        return _say(f"tfserve has stopped (pid {found.pid})")
    return _refuse(f"tfserve (pid {found.pid}) is still running; kill -9 {found.pid} ends it at once")


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


def _start_in_background(settings: Settings) -> str:
    """What the server says when it is ready; nothing when it ended before."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        _become_daemon(settings, writing)
    os.close(writing)
    os.wait()
    with os.fdopen(reading) as told:
        return told.read()


def _become_daemon(settings: Settings, ready_fd: int) -> None:
    """Never returns."""
    from daemon import DaemonContext

    from tfserve.supervisor.main import main as run

    def on_ready(sentence: str) -> None:
        os.write(ready_fd, sentence.encode())
        os.close(ready_fd)

    with LOG.open("ab", buffering=0) as log:
        context = DaemonContext(
            working_directory=str(Path.cwd()), umask=os.umask(0o022), files_preserve=[ready_fd, log], stdout=log,
            stderr=log, detach_process=True, signal_map={},
        )  # fmt: skip
        context.open()
        sys.exit(run(settings, on_ready))


def _ended(pid: int, timeout_s: float) -> bool:
    """Asks the server to stop; whether it has ended in time."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        return bool(select.select([process], [], [], timeout_s)[0])
    finally:
        os.close(process)


def _say(sentence: str) -> int:
    print(sentence)
    return 0


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"a port from 1 to {MAX_PORT} was expected, {text!r} was given")
    return int(text)


def _at(found: Holder) -> str:
    return f", {found.address}" if found.address else ""


def _whose(pid: int) -> str:
    """Who has the pid now, in words."""
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f", which is {process.name()!r} now and not ours"
    except psutil.Error:
        return ""
