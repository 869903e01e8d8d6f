"""Starts child processes, is notified of their end, and kills them together with everything that they started.

Every process has the mark of its server in its environment (`TFSERVE_OWNER`). Its descendants inherit it, unless they
get another environment. The guardian and the next server on the same data folder find leftover processes by this mark,
by their parents, and by the record of the guardian (see `guardian`).
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
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from weakref import WeakSet

import psutil

from tfserve.cluster.identity import HEAD
from tfserve.linux import Use, use_of
from tfserve.supervisor.processes import guardian
from tfserve.supervisor.processes.limits import Exceeded
from tfserve.supervisor.processes.output import OfferedPipes, OutputPipes, Pipe, Sink

if TYPE_CHECKING:
    from tfserve.supervisor.processes.worker_process import WorkerProcess

log = logging.getLogger(__name__)

OWNER = "TFSERVE_OWNER"

_KILLED_CODE = 128 + signal.SIGKILL
"""A shell exits with it when its child is killed, which may be a moment before it is killed itself."""

_ours: dict[int, Child] = {}

#: those on other machines that have not ended
elsewhere: WeakSet[WorkerProcess] = WeakSet()

#: the number of unexpected ends since the server started, by role and workspace
deaths: Counter[tuple[Role, str]] = Counter()


class Role(StrEnum):
    """The purpose of a process."""

    WEB = "web"
    GUARDIAN = "guardian"
    SPARE = "spare"
    SCRIPT = "script"
    HOST = "host"
    MODEL = "model"
    TRAIN = "train"
    CONVERT = "convert"
    BATCH = "batch"
    RAY = "ray"


@dataclass(frozen=True)
class Exit:
    """How a process ended."""

    code: int | None
    signal: int | None
    peak_memory_bytes: int
    #: from when it got its role
    lived_s: float
    #: the reason if this server killed it
    killed_because: str | None = None
    #: the limit of its workspace that it exceeded
    exceeded: Exceeded | None = None
    #: what is gone, if its end was not seen: the node, or the connection to it
    lost: str | None = None

    @property
    def signal_name(self) -> str | None:
        """For example SIGKILL, or `signal 40` if the number has no name."""
        if self.signal is None:
            return None
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"signal {self.signal}"

    @property
    def sentence(self) -> str:
        if self.exceeded is not None:
            return self.exceeded.sentence
        if self.lost is not None:
            return f"lost: {self.lost}"
        memory = f"(peak memory {self.peak_memory_bytes // 2**20} MiB)"
        if self.killed_because is not None and (self.signal == signal.SIGKILL or self.code == _KILLED_CODE):
            return f"this server killed it because {self.killed_because} {memory}"
        if self.signal is None:
            return f"it exited with code {self.code} {memory}"
        hint = ", often the out-of-memory killer" if self.signal == signal.SIGKILL else ""
        return f"it was killed by {self.signal_name}{hint} {memory}"

    @property
    def reason(self) -> str:
        """Why what it served is gone."""
        return self.sentence if self.lost is not None else f"its worker died: {self.sentence}"

    @property
    def counts(self) -> bool:
        """Whether it shows that what the process did is unstable: this server did not end it, nor did its node."""
        return self.killed_because is None and self.lost is None


class Child:
    """A process that this one has started. `ended` becomes its `Exit`."""

    def __init__(self, popen: subprocess.Popen[bytes], role: Role) -> None:
        loop = asyncio.get_running_loop()
        self.pid = popen.pid
        self.node = HEAD
        self.node_stops = False
        self.role = role
        #: the name of the workspace that it works for, if any
        self.workspace = ""
        self.exceeded: Exceeded | None = None
        self.find_exceeded: Callable[[], Exceeded | None] | None = None
        #: whether this server has decided to end it
        self.end_requested = False
        self.ended: asyncio.Future[Exit] = loop.create_future()
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
        """Starts a process as the leader of a new session. `output` None inherits, PIPE creates two pipes."""
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
        """Sets the role. Its lifetime counts from here, because the time as a spare does not show that it is stable."""
        self.role, self.workspace = role, workspace
        self._started_at = time.monotonic()

    def read_output(self, deliver: Sink) -> list[Pipe]:
        """Delivers what it prints from now on; it was started with output PIPE."""
        streams = enumerate((self._popen.stdout, self._popen.stderr), start=1)
        return [Pipe(file, stream, deliver) for stream, file in streams if file is not None]

    @contextlib.asynccontextmanager
    async def offer_pipes(self) -> AsyncIterator[OfferedPipes]:
        """Pipes that the process can open within the context."""
        pipes = OutputPipes()
        with pipes.offered() as (stdout, stderr):
            yield OfferedPipes(pipes, stdout, stderr)

    def memory_bytes(self) -> int:
        """The memory that its end would release: pages that it does not share with others. 0 when it is gone."""
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self.pid).memory_full_info().uss)
        return 0

    def use(self) -> Use:
        with contextlib.suppress(OSError):
            return use_of(self.pid)
        return Use()

    @property
    def age_s(self) -> float:
        """Since it got its role."""
        return time.monotonic() - self._started_at

    def terminate(self) -> None:
        self.end_requested = True
        if self.alive:
            os.kill(self.pid, signal.SIGTERM)

    async def stop(self, grace_s: float) -> None:
        """Asks the process to end, and returns when it has; after `grace_s` it is killed."""
        if self.alive:
            self.terminate()
            done, _ = await asyncio.wait([self.ended], timeout=grace_s)
            if not done:
                self.kill("it did not stop in time")
                await asyncio.shield(self.ended)

    def kill(self, because: str) -> None:
        """Kills the process, its process group, and descendants that left the group.

        The process is first: it must not report the end of its children.
        """
        if not self.alive:
            return
        self.end_requested = True
        self._killed_because = self._killed_because or because
        descendants = self._descendants()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        _kill_all(descendants)

    def kill_descendants(self) -> None:
        """Kills everything that the process started, but not the process itself."""
        _kill_all(self._descendants())

    def _descendants(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def _on_end(self) -> None:
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        _ours.pop(self.pid, None)
        deaths[self.role, self.workspace] += not self.end_requested
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
                exceeded=self.exceeded or (self.find_exceeded() if self.find_exceeded is not None else None),
            )
        )


def living() -> list[Child]:
    """The processes that this one has started on this machine and that have not ended."""
    return list(_ours.values())


def end_strays() -> None:
    """Kills and reaps the orphans of a dead worker, which this process has adopted (see `linux`).

    Children in the session of this process do not come from a worker, which has its own session: a shell script may
    start a program before it becomes this server.
    """
    session = os.getsid(0)
    for stray in psutil.Process().children():
        if stray.pid not in _ours and guardian.session_of(stray.pid) != session:
            log.warning("killing process %s, which was started by a dead worker", stray.pid)
            _kill(stray.pid)
            _reap(stray.pid)


def kill_leftovers(owner_prefix: str, records: Path) -> None:
    """Kills all processes of a former server on this data folder.

    Those are the ones whose mark starts with `owner_prefix`, those in the guardians' records in the folder `records`,
    which may have lost their environment and their parents, and all descendants.
    """
    files = list(records.glob("*"))
    known: guardian.Started = {}
    for file in files:
        known |= guardian.read(str(file))
    for pid in sorted(guardian.end_all(owner_prefix, known)):
        log.warning("killed process %s, left over from a former server", pid)
    for file in files:
        file.unlink(missing_ok=True)


def _reap(pid: int) -> None:
    """Reaps an adopted process when it ends, so that it does not stay a zombie."""
    loop, pidfd = asyncio.get_running_loop(), os.pidfd_open(pid)

    def on_end() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    loop.add_reader(pidfd, on_end)


def owner_of(data_dir: str) -> str:
    """The prefix of the owner mark of every server on this data folder."""
    return hashlib.sha256(data_dir.encode()).hexdigest()[:16] + ":"


def _kill_all(processes: Sequence[psutil.Process]) -> None:
    for each in processes:
        with contextlib.suppress(psutil.Error):
            each.kill()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
