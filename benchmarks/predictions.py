"""Measures predictions, compared with the peers and with the physical limits: same SavedModels, same client, one run.

python -m benchmarks.predictions                              everything, about an hour and a half
python -m benchmarks.predictions --minutes 30                 shorter measurements, so that everything fits
python -m benchmarks.predictions --quick                      one repetition of 3 seconds
python -m benchmarks.predictions --only tfserve,triton,bare-loop --rows small-json
python -m benchmarks.predictions --show FILE FILE …           the tables of earlier runs, also interrupted ones
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import results, wrk
from benchmarks.budget import Budget
from benchmarks.entrants import NAMES, Entrant, Opened, entrant
from benchmarks.peers.environments import Unavailable
from benchmarks.prediction_tables import markdown, show
from benchmarks.requests import ROWS, Samples, model_of
from benchmarks.results import MANY, ONE, Cell, Measured
from benchmarks.server_process import CACHE, REPOSITORY
from benchmarks.tables import wide_console

ROUNDS_AT_MOST_S = 20

console = wide_console()
sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # progress is visible in a file, too


def main() -> None:
    options = parse()
    if options.show:
        measured = results.merged([results.read(file) for file in options.show])
        return report(measured, options)
    if (reason := wrk.missing()) is not None:
        sys.exit(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # an end that still stops the servers under test
    file = CACHE / "results" / f"predictions-{time.strftime('%Y%m%d-%H%M%S')}.json"
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        budget = Budget(options.minutes, options.seconds)
        bench = Bench(Samples(models()), Path(name), options.only, budget, options.repetitions, file)
        try:
            for number, row in enumerate(options.rows):
                bench.row(row, rows_left=len(options.rows) - number)
        finally:
            report(bench.measured, options)
            console.print(f"kept in {file}", highlight=False, soft_wrap=True)
    return None


def report(measured: list[Measured], options: argparse.Namespace) -> None:
    show(console, measured, options.rows)
    if options.markdown:
        options.markdown.write_text(markdown(measured, options.rows))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=some_of(NAMES), default=NAMES, help=f"of {', '.join(NAMES)}")
    parser.add_argument("--rows", type=some_of(list(ROWS)), default=list(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, help="how long each measurement takes (8)")
    parser.add_argument("--repetitions", type=int, default=3, help="the tables show medians of these (3)")
    parser.add_argument("--minutes", type=float, help="how long everything may take; decides about --seconds")
    parser.add_argument("--quick", action="store_true", help="one repetition of 3 seconds")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    parser.add_argument("--show", type=Path, metavar="FILE", nargs="+", help="measure nothing; tables of these runs")
    options = parser.parse_args()
    options.seconds = options.seconds or (3 if options.quick else 8)
    options.repetitions = 1 if options.quick else options.repetitions
    return options


def some_of(known: list[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        given = text.split(",")
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return given

    return names


def models() -> Path:
    """The folder of the models, made on first use and when the program that makes them has changed."""
    folder, program = CACHE / "models", Path(__file__).with_name("models.py")
    rows, made_by = folder / "rows.npz", folder / "models.py"
    if not rows.exists() or not made_by.exists() or made_by.read_bytes() != program.read_bytes():
        console.print("making the models")
        subprocess.run([sys.executable, "-m", "benchmarks.models", str(folder)], cwd=REPOSITORY, check=True)
        made_by.write_bytes(program.read_bytes())
    return folder


@dataclass
class Bench:
    """Row by row: all participants are started, checked, and then measured in turns, A B C A B C …

    A change of the machine's speed then meets all of them. They wait idle meanwhile; what that costs is in the notes.
    """

    samples: Samples
    folder: Path
    names: list[str]
    budget: Budget
    repetitions: int
    file: Path
    models: Path = field(default_factory=models)

    def __post_init__(self) -> None:
        self._entrants: dict[str, Entrant] = {name: entrant(name, self.samples) for name in self.names}
        self._measured = {name: Measured(name, each.title) for name, each in self._entrants.items()}

    @property
    def measured(self) -> list[Measured]:
        return list(self._measured.values())

    def row(self, row: str, *, rows_left: int) -> None:
        console.rule(ROWS[row])
        end = self.budget.row_end(rows_left)
        with ExitStack() as stack:
            opened = {name: each for name in self.names if (each := self._open(row, name, stack)) is not None}
            for number in range(self.repetitions):
                if number and self.budget.is_over(end):
                    break
                left = (self.repetitions - number) * len(opened) * 2
                seconds = self.budget.measurement_s(end, max(1, left))
                console.print(f"repetition {number + 1}, {seconds:.1f} s each", highlight=False)
                self._repetition(row, opened, seconds)

    def _open(self, row: str, name: str, stack: ExitStack) -> Opened | None:
        """None: the row has no such participant, and its cell says why."""
        each, result = self._entrants[name], self._measured[name]
        if isinstance(why := each.ask(row, self.samples), str):
            result.cells[row] = why
            return None
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix=f"{name}-"))
        model = model_of(row)
        console.print(f"starting {each.title}", highlight=False, markup=False)
        try:
            result.versions = result.versions or each.versions()
            opened = stack.enter_context(each.open(row, model, self.models / model, folder))
        except Unavailable as error:
            result.cells[row] = str(error)
            console.print(f"{each.title}: {error}", highlight=False, markup=False)
            return None
        if opened.memory_bytes is not None:
            result.memory_bytes[row] = opened.memory_bytes
        result.cells[row] = Cell()
        return opened

    def _repetition(self, row: str, opened: dict[str, Opened], seconds: float) -> None:
        for name, each in opened.items():
            result = self._measured[name]
            cell = result.cells[row]
            assert isinstance(cell, Cell)
            try:
                one = each.measure(ONE, seconds)
                cell.add(ONE, one)
                cell.add(MANY, each.measure(MANY, self._long_enough(one.p50_ms, seconds)))
            except (Unavailable, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                result.remarks.append(f"{ROWS[row]}: {error}"[:300])
            result.notes = self._entrants[name].remarks()
            console.print(f"{result.title}: {cell}", highlight=False, markup=False)
            results.write(self.measured, self.file)  # what was measured outlives an interruption

    def _long_enough(self, p50_ms: float, seconds: float) -> float:
        """Four rounds of all connections at least: where each response takes long, few would arrive in a fixed time."""
        rounds_s = min(ROUNDS_AT_MOST_S, 4 * MANY * p50_ms / 1000)
        return max(seconds, rounds_s if self.budget.minutes is None else min(rounds_s, 2 * seconds))


if __name__ == "__main__":
    main()
