"""The limit of every server of the same runtime: the runtime's own calls, without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.load_point import Point
from benchmarks.participants import environment, last_line
from benchmarks.requests import ROWS, Samples

PROGRAM = Path(__file__).parent / "peers" / "bare_loop.py"


@dataclass(frozen=True)
class Setting:
    """`callers` call at the same time, each with `batch` rows; `threads` share one call (0: as TensorFlow chooses)."""

    way: str
    threads: int
    callers: int
    batch: int

    def __str__(self) -> str:
        threads = f"{self.threads} thread" if self.threads else "all threads"
        return f"{self.way}, {self.callers} calling, {threads} each, {self.batch} rows"


def settings(row: str, connections: int) -> list[Setting]:
    """What may be fastest: with one connection for one row at a time, with many when many rows wait."""
    if connections == 1:
        return [Setting("signature", 0, 1, 1), Setting("session", 0, 1, 1), Setting("session", 1, 1, 1)]
    batch = 32 if row == "small-json" else 8
    return [
        Setting("signature", 0, 2, 1),
        Setting("signature", 1, 2, batch),
        Setting("session", 1, 2, 1),
        Setting("session", 1, 2, batch),
        Setting("session", 0, 2, batch),
    ]


class BareLoop:
    """TensorFlow's signature, called by threads of one process, in the best of several settings."""

    name, title = "bare-loop", "bare calls of TensorFlow"

    def __init__(self) -> None:
        self._best: dict[tuple[str, int], Setting] = {}

    def ask(self, row: str, _samples: Samples) -> str | None:
        """Why the row is left out; None: it is measured."""
        return "the network is that of the next row" if row == "mobilenet-json" else None

    def versions(self) -> str:
        return f"tensorflow-cpu {version('tensorflow-cpu')}"

    def remarks(self) -> list[str]:
        """Which settings were the fastest."""
        return [f"{ROWS[row]}, {connections} at a time: {best}" for (row, connections), best in self._best.items()]

    @contextmanager
    def open(self, row: str, model: str, path: Path, folder: Path) -> Iterator[BareCalls]:
        log = folder / "bare-loop.log"
        with ExitStack() as stack:
            loops = {threads: stack.enter_context(loop(model, path, threads, log)) for threads in (0, 1)}
            yield BareCalls(row, loops, self._best, log)


class BareCalls:
    memory_bytes: int | None = None

    def __init__(
        self, row: str, loops: dict[int, subprocess.Popen[str]], best: dict[tuple[str, int], Setting], log: Path
    ) -> None:
        self._row = row
        self._log = log
        self._loops = loops
        self._best = best

    def measure(self, connections: int, seconds: float) -> Point:
        found = settings(self._row, connections)
        points = {each: self._measure(each, max(0.5, seconds / len(found))) for each in found}
        self._best[self._row, connections] = best = max(points, key=lambda each: points[each].rate)
        return points[best]

    def _measure(self, setting: Setting, seconds: float) -> Point:
        loop = self._loops[setting.threads]
        assert loop.stdin is not None
        assert loop.stdout is not None
        order = {**asdict(setting), "row": self._row, "seconds": seconds}
        print(json.dumps(order), file=loop.stdin, flush=True)
        if not (line := loop.stdout.readline()):
            raise RuntimeError(f"the bare loop ended with {loop.wait(60)}: {last_line(self._log)}")
        seen: dict[str, Any] = json.loads(line)
        return Point(seen["rate"], seen["p50_ms"], seen["p99_ms"], cpu_us={"calls": seen["cpu_us"]})


@contextmanager
def loop(model: str, path: Path, threads: int, log: Path) -> Iterator[subprocess.Popen[str]]:
    """In the benchmark's own Python: nothing has to be installed."""
    variables = environment(Path(sys.executable), model, path, port=0)
    if threads:
        variables["TF_NUM_INTRAOP_THREADS"] = str(threads)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)
