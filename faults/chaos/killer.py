"""Does harm, at random and repeatable by its seed as far as the moments of a real machine can be."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import psutil

from faults.chaos.disk import Disk
from faults.chaos.journal import Journal
from faults.chaos.probe import Probe
from faults.chaos.server import KeptServer

PROGRAMS = {"worker": "tfserve.worker", "web": "tfserve.web.app", "guardian": "guardian.py"}
MEAN_PAUSE_S = 3.0
SERVING_TIMEOUT_S = 90.0
AT_ONCE = 0.2
"""The share of kills that do not wait until the server serves again."""


class Database(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Killer(threading.Thread):
    """`done` counts what it did."""

    def __init__(
        self, server: KeptServer, disk: Disk, probe: Probe, journal: Journal, seed: int, database: Database | None
    ) -> None:
        super().__init__(name="killer")
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self.is_over = threading.Event()
        self._server, self._disk, self._probe, self._journal, self._database = server, disk, probe, journal, database
        self._random = random.Random(seed)
        actions: dict[str, tuple[int, Callable[[], None] | None]] = {
            "SIGKILL of a worker": (30, lambda: self._signal("worker", signal.SIGKILL)),
            "SIGKILL of a web process": (12, lambda: self._signal("web", signal.SIGKILL)),
            "SIGKILL of the guardian": (6, lambda: self._signal("guardian", signal.SIGKILL)),
            "SIGKILL of the supervisor": (10, self._kill_supervisor),
            "SIGKILL of everything": (10, self._kill_everything),
            "SIGSTOP and SIGCONT": (12, self._pause_one),
            "full disk": (8, self._fill if disk.may_fill else None),
            "SIGTERM and restart": (6, self._restart),
            "kill of a running job's worker": (6, self._probe_death),
            "immediate stop of PostgreSQL": (10, self._database_gone if database else None),
        }
        self._actions = {name: (weight, act) for name, (weight, act) in actions.items() if act is not None}

    def run(self) -> None:
        names = list(self._actions)
        weights = [self._actions[name][0] for name in names]
        while not self.is_over.wait(min(self._random.expovariate(1 / MEAN_PAUSE_S), 4 * MEAN_PAUSE_S)):
            if self._random.random() > AT_ONCE and not self._server.serving.wait(SERVING_TIMEOUT_S):
                self.problems.append(f"the server did not serve again within {SERVING_TIMEOUT_S:.0f} s")
            name = self._random.choices(names, weights)[0]
            self._journal.write("harm", what=name)
            self._actions[name][1]()
            self.done[name] += 1
            self._journal.write("harm done", what=name)

    # --- parts

    def _signal(self, role: str, number: int) -> None:
        if (process := self._one(role)) is not None:
            _send(process, number)

    def _one(self, role: str) -> psutil.Process | None:
        found = [each for each in self._server.processes() if PROGRAMS[role] in _command(each)]
        return self._random.choice(found) if found else None

    def _kill_supervisor(self) -> None:
        self._server.serving.clear()
        for process in self._server.processes()[:1]:
            _send(process, signal.SIGKILL)

    def _kill_everything(self) -> None:
        self._server.serving.clear()
        processes = self._server.processes()
        for process in processes:
            _send(process, signal.SIGKILL)

    def _pause_one(self) -> None:
        """Any of its processes, also the supervisor."""
        processes = self._server.processes()
        if processes:
            process = self._random.choice(processes)
            _send(process, signal.SIGSTOP)
            time.sleep(self._random.uniform(0.2, 3))
            _send(process, signal.SIGCONT)

    def _fill(self) -> None:
        self._disk.fill()
        time.sleep(self._random.uniform(0.5, 3))
        self._disk.free()

    def _restart(self) -> None:
        self._server.serving.clear()
        for process in self._server.processes()[:1]:
            _send(process, signal.SIGTERM)

    def _probe_death(self) -> None:
        if self._server.serving.is_set():
            self._probe.measure()

    def _database_gone(self) -> None:
        assert self._database is not None
        self._database.stop()
        time.sleep(self._random.uniform(0.2, 3))
        self._database.start()


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _send(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        if process.pid != os.getpid():
            process.send_signal(number)
