"""Starts the workers of one machine."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tfserve.config import Settings, to_environment
from tfserve.supervisor.processes import malloc_env
from tfserve.supervisor.processes.child import OWNER, Child, Role
from tfserve.supervisor.processes.limits import Limiter
from tfserve.supervisor.processes.worker import Worker

PRIVATE_SETTINGS = ("TFSERVE_DATABASE_URL", "TFSERVE_TOKEN", "RAY_AUTH_TOKEN")


@dataclass(frozen=True)
class Workshop:
    """Starts the workers of this server on this machine."""

    settings: Settings
    owner: str
    #: the umask that the server was started with, for workers that write to paths from requests
    callers_umask: int
    #: the arguments with which Python runs a worker
    program: Sequence[str] = ("-m", "tfserve.worker")
    limiter: Limiter | None = None
    #: what workers inherit
    inherited: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def environment(self) -> dict[str, str]:
        """The environment of a worker, without the server's secrets because a worker runs the code of callers."""
        return {
            **{name: value for name, value in self.inherited.items() if name not in PRIVATE_SETTINGS},
            **{k: v for k, v in to_environment(self.settings).items() if k not in PRIVATE_SETTINGS},
            **malloc_env.environment(),
            # Without it, TensorFlow would take a whole GPU, and a second process would find none of its memory.
            "TF_FORCE_GPU_ALLOW_GROWTH": self.inherited.get("TF_FORCE_GPU_ALLOW_GROWTH", "true"),
            OWNER: self.owner,
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8:backslashreplace",
            "TF_CPP_MIN_LOG_LEVEL": self.inherited.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        }

    def launch(self, *, warm: bool = False, light: str = "") -> tuple[Child, socket.socket]:
        """A new process and the connection to it, before it has loaded anything. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable, "-P", "-X", "faulthandler", *self.program,
                "--fd", str(theirs.fileno()), "--callers-umask", f"{self.callers_umask:o}",
            ]  # fmt: skip
            try:
                child = Child.start(
                    command + ["--warm"] * warm + (["--light", light] if light else []),
                    role=Role.SPARE,
                    environment=self.environment(),
                    keep_fds=[theirs.fileno()],
                    output=subprocess.PIPE,
                )
            except OSError:
                ours.close()
                raise
        return child, ours

    async def start(self, *, warm: bool = False, light: str = "") -> Worker:
        """A new worker that is ready for a role; `warm` loads TensorFlow first, `light` another runtime.

        Raises `WorkerDied`, or `OSError` if no process can be started.
        """
        child, ours = self.launch(warm=warm, light=light)
        try:
            worker = await Worker.open(child, ours)
            worker.limiter = self.limiter
        except BaseException:
            child.kill("it is not needed any more")
            raise
        return await when_ready(worker)


async def when_ready(worker: Worker) -> Worker:
    """The worker, when it can be given a role. Raises `WorkerDied`; it is killed if this is cancelled."""
    try:
        await asyncio.shield(worker.ready)
    except BaseException:
        worker.kill("it is not needed any more")
        raise
    return worker
