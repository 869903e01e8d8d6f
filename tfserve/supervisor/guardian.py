"""Outlives the supervisor by a moment, to end what it left behind.

Started by the supervisor as a program of its own, with the server's owner mark as its argument and the read end of
a pipe as its standard input. Nothing is ever written to the pipe; when the supervisor ends, however it ends, the
pipe does too. Imports nothing but the standard library's smallest parts, since it waits in memory all the time.
"""

import os
import signal
import sys


def main(mark: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.read(0, 1)
    wanted = b"TFSERVE_OWNER=" + os.fsencode(mark)
    while pids := [pid for pid in _others() if wanted in _environment(pid)]:
        for pid in pids:
            _kill(pid)


def _others() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]  # noqa: PTH208


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return file.read().split(b"\0")
    except OSError:  # gone, a zombie, or somebody else's
        return []


def _kill(pid: int) -> None:
    try:  # noqa: SIM105 (contextlib would be the largest import)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    main(sys.argv[1])
