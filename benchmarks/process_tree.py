"""A process and all that it started: what they cost, and their end."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable

import psutil

PROGRAMS = {
    "tfserve.web.app": "web",
    "tfserve.web.batch": "batch",
    "tfserve.worker": "worker",
    "guardian.py": "guardian",
    "runserver": "supervisor",
}
"""TFserve's processes by a word of their command lines."""


class ProcessTree:
    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self._root, *self._root.children(recursive=True)]
        return []

    def pss_bytes(self) -> int:
        """Proportional set size: pages that several processes share count once."""
        return int(self._sum(lambda process: process.memory_full_info().pss))

    def memory_bytes(self) -> int:
        """As if nothing else mapped the same files: PSS, but a file counts whole and once."""
        anonymous, files = 0, Counter[str]()
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                for each in process.memory_maps():
                    if each.path.startswith("/"):
                        files[each.path] = max(files[each.path], each.rss)
                    else:
                        anonymous += each.pss
        return anonymous + files.total()

    def cpu_s(self) -> float:
        return self._sum(lambda process: sum(process.cpu_times()[:2]))

    def cpu_s_by_role(self) -> Counter[str]:
        """Processor time by what the processes of TFserve are; those of other servers are all `server`."""
        seconds: Counter[str] = Counter()
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                seconds[role(process.cmdline())] += sum(process.cpu_times()[:2])  # type: ignore[assignment]
        return seconds

    def wait_until_idle(self, *, share: float = 0.1, at_most_s: float = 30) -> bool:
        """Until half a second costs less than so much of a core; False when that did not come."""
        deadline = time.monotonic() + at_most_s
        while time.monotonic() < deadline:
            before = self.cpu_s()
            time.sleep(0.5)  # the measured quantity is what happens in this time
            if self.cpu_s() - before < 0.5 * share:
                return True
        return False

    def pause(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def go_on(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def stop(self, *, patience_s: float = 15) -> None:
        """Asks the root to end, and ends what it leaves behind."""
        tree = self.processes()
        with contextlib.suppress(psutil.NoSuchProcess):
            self._root.terminate()
        psutil.wait_procs(tree[:1], timeout=patience_s)
        _, left = psutil.wait_procs(tree, timeout=2)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)

    def _sum(self, of: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += of(process)
        return total


def role(command: list[str]) -> str:
    words = " ".join(command)
    return next((name for program, name in PROGRAMS.items() if program in words), "server")
