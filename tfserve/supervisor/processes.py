"""Starts a process, learns of its end by an event, and ends it together with all that it started.

Every process carries the name of its server in its environment (`TFSERVE_OWNER`), and so does whatever it starts,
unless it is given another environment. The guardian, and the next server on the same data folder, find what was left
over by this mark, by its parents, and by the guardian's record (see `guardian`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import psutil

from tfserve.supervisor import guardian

log = logging.getLogger(__name__)

OWNER = "TFSERVE_OWNER"

_ours: dict[int, Child] = {}

#: how many processes have ended unasked since the server began, by role and workspace
deaths: Counter[tuple[Role, str]] = Counter()


class Role(StrEnum):
    """What a process is there for."""

    WEB = "web"
    GUARDIAN = "guardian"
    SPARE = "spare"
    SCRIPT = "script"
    HOST = "host"
    MODEL = "model"
    TRAIN = "train"
    CONVERT = "convert"


@dataclass(frozen=True)
class Exit:
    """How a process ended."""

    code: int | None
    signal: int | None
    peak_memory_bytes: int
    #: since it was given its role
    lived_s: float
    #: why this server killed it, if it did
    killed_because: str | None = None

    @property
    def signal_name(self) -> str | None:
        """SIGKILL, or `signal 40` where the number has no name."""
        if self.signal is None:
            return None
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"signal {self.signal}"

    @property
    def sentence(self) -> str:
        memory = f"(peak memory {self.peak_memory_bytes // 2**20} MiB)"
        if self.killed_because is not None and self.signal == signal.SIGKILL:
            return f"this server killed it, since {self.killed_because} {memory}"
        if self.signal is None:
            return f"it exited with code {self.code} {memory}"
        hint = ", often the kernel's answer to a lack of memory" if self.signal == signal.SIGKILL else ""
        return f"it was killed by {self.signal_name}{hint} {memory}"


class Child:
    """A running process of ours, and in the end its `Exit`."""

    def __init__(self, popen: subprocess.Popen[bytes], role: Role) -> None:
        loop = asyncio.get_running_loop()
        self.pid = popen.pid
        self.role = role
        #: the name of the workspace that it works for, if it does
        self.workspace = ""
        #: whether this server wants its end
        self.asked_to_end = False
        self.ended: asyncio.Future[Exit] = loop.create_future()
        self.stdout = popen.stdout
        self.stderr = popen.stderr
        self._popen = popen
        self._started_at = time.monotonic()
        self._killed_because: str | None = None
        self._pidfd = os.pidfd_open(popen.pid)
        loop.add_reader(self._pidfd, self._on_end)
        _ours[popen.pid] = self

    @classmethod
    def start(
        cls,
        arguments: Sequence[str],
        *,
        role: Role,
        environment: Mapping[str, str],
        keep_fds: Sequence[int] = (),
        stdin: int | IO[Any] = subprocess.DEVNULL,
        output: int | IO[Any] | None = None,
    ) -> Child:
        """Starts a process as the leader of a session of its own. `output` None inherits, PIPE gives two pipes."""
        return cls(
            subprocess.Popen(
                arguments,
                env=environment,
                pass_fds=keep_fds,
                stdin=stdin,
                stdout=output,
                stderr=output,
                start_new_session=True,
            ),
            role,
        )

    @property
    def alive(self) -> bool:
        return not self.ended.done()

    def take_role(self, role: Role, workspace: str) -> None:
        """From now on the process lives for its role: the time in which it was a spare says nothing about that."""
        self.role, self.workspace = role, workspace
        self._started_at = time.monotonic()

    def terminate(self) -> None:
        self.asked_to_end = True
        if self.alive:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self, because: str) -> None:
        """Kills the process, its process group, and what left the group."""
        if not self.alive:
            return
        self.asked_to_end = True
        self._killed_because = self._killed_because or because
        self.kill_descendants()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def kill_descendants(self) -> None:
        """Kills what the process started, and spares itself."""
        with contextlib.suppress(psutil.Error):
            for descendant in psutil.Process(self.pid).children(recursive=True):
                _kill(descendant.pid)

    def _on_end(self) -> None:
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        _ours.pop(self.pid, None)
        deaths[self.role, self.workspace] += not self.asked_to_end
        end_strays()
        code = os.waitstatus_to_exitcode(status)
        self._popen.returncode = code
        self.ended.set_result(
            Exit(
                code=code if code >= 0 else None,
                signal=-code if code < 0 else None,
                peak_memory_bytes=usage.ru_maxrss * 1024,
                lived_s=time.monotonic() - self._started_at,
                killed_because=self._killed_because,
            )
        )


def living() -> list[Child]:
    """All processes that this one has started."""
    return list(_ours.values())


def end_strays() -> None:
    """Kills and buries the orphans that a dead worker left to this process (which adopts them, see `linux`)."""
    for stray in psutil.Process().children():
        if stray.pid not in _ours:
            log.warning("killing process %s, which a dead worker left behind", stray.pid)
            _kill(stray.pid)
            _bury(stray.pid)


def kill_leftovers(owner_prefix: str, records: Path) -> None:
    """Kills all processes of a former server on this data folder.

    These are the ones whose owner begins so, those that a guardian has written down in the folder `records`, which may
    have lost their environment and their parents, and all below them.
    """
    files = list(records.glob("*"))
    known: guardian.Started = {}
    for file in files:
        known |= guardian.read(str(file))
    for pid in sorted(guardian.end_all(owner_prefix, known)):
        log.warning("killed process %s, left over from a former server", pid)
    for file in files:
        file.unlink(missing_ok=True)


def _bury(pid: int) -> None:
    """Takes note of the end of an adopted process when it comes, so that it does not stay a zombie."""
    loop, pidfd = asyncio.get_running_loop(), os.pidfd_open(pid)

    def on_end() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    loop.add_reader(pidfd, on_end)


def owner_of(data_dir: str) -> str:
    """How the owner mark of every server on this data folder begins."""
    return hashlib.sha256(data_dir.encode()).hexdigest()[:16] + ":"


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
