"""All benchmarks of the server, one after another: `make bench`. Output and results are kept part by part.

python -m benchmarks                                everything, about three hours (the first time it installs the peers)
python -m benchmarks --minutes 30                   predictions with shorter measurements, the rest with --quick
python -m benchmarks --quick                        as short as possible
python -m benchmarks --only predictions,under_update
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.predictions import some_of
from benchmarks.server_process import CACHE, REPOSITORY
from benchmarks.tables import wide_console

console = wide_console()


@dataclass(frozen=True)
class Part:
    """`full` and `quick` are its options; the minutes say how long they usually take."""

    name: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)
    full_min: float = 4
    quick_min: float = 1


PARTS = (
    Part("predictions", full_min=110, quick_min=25),
    Part("grpc_predictions"),
    Part("web_processes", quick=("--times", "1", "--seconds", "3")),
    Part("rows_never_mixed", full=("--responses", "250000"), full_min=6),
    Part("under_update", full_min=6),
    Part("cold_start"),
    Part("workspace_api", full_min=6, quick_min=2),
    Part("tls_cost", quick=()),
    Part("pages", quick=()),
    Part("full_load_soak", full=("--minutes", "10"), quick=("--minutes", "1"), full_min=11, quick_min=2),
)
PATIENCE = 3.0
"""A part ends after this multiple of its usual time: a busy machine is slow, and the other parts need time as well."""


@dataclass(frozen=True)
class Order:
    name: str
    options: tuple[str, ...]
    at_most_s: float


def orders(parts: Sequence[Part], *, minutes: float | None, quick: bool) -> list[Order]:
    """With `minutes`, the predictions get what the quick forms of the other parts leave, at least half."""
    is_quick = quick or minutes is not None
    found = []
    others_min = sum(part.quick_min for part in parts if part.name != "predictions")
    for part in parts:
        options = part.quick if is_quick else part.full
        usual_min = part.quick_min if is_quick else part.full_min
        if part.name == "predictions" and minutes is not None:
            usual_min = max(minutes / 2, minutes - others_min)
            options = ("--minutes", f"{usual_min:g}")
        found.append(Order(part.name, options, usual_min * 60 * PATIENCE))
    return found


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    folder = CACHE / "results" / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    chosen = [part for part in PARTS if part.name in options.only]
    states: dict[str, str] = {}
    try:
        for order in orders(chosen, minutes=options.minutes, quick=options.quick):
            console.rule(" ".join((order.name, *order.options)))
            states[order.name] = run(order, folder / f"{order.name}.txt")
    finally:
        report(states, folder)
    return 0 if all(state == "done" for state in states.values()) else 1


def parse() -> argparse.Namespace:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=some_of(names), default=names, help=f"of {', '.join(names)}")
    parser.add_argument("--minutes", type=float, help="about how long everything may take, installations left out")
    parser.add_argument("--quick", action="store_true", help="fewer requests and cycles, shorter measurements")
    return parser.parse_args()


def run(order: Order, output: Path) -> str:
    """How the part ended. Its output is shown, and kept in the file."""
    environment = {**os.environ, "COLUMNS": str(console.width)}  # it writes to a pipe
    command = [sys.executable, "-u", "-m", f"benchmarks.{order.name}", *order.options]
    until = time.monotonic() + order.at_most_s
    with output.open("w") as kept:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        alarm = threading.Timer(order.at_most_s, process.terminate)
        alarm.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                kept.write(line)
                kept.flush()
            code = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
            alarm.cancel()
    if time.monotonic() > until:
        return "ended, out of time"
    return "done" if code == 0 else f"failed with {code}"


def report(states: dict[str, str], folder: Path) -> None:
    table = Table("part", "state", "output")
    for name, state in states.items():
        table.add_row(name, state, f"{name}.txt")
    console.print(table, f"in {folder}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
