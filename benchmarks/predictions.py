"""Measures predictions, beside the peers: the same SavedModels, the same client, one server after the other.

python -m benchmarks.predictions                              everything, about twenty minutes
python -m benchmarks.predictions --quick                      shorter rows
python -m benchmarks.predictions --only tfserve,triton --rows small-json
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from benchmarks import wrk
from benchmarks.participants import Participant, PeerParticipant, Running, environment
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.table import PEERS
from benchmarks.prediction_tables import markdown, show
from benchmarks.requests import ROWS, Request, Samples, model_of
from benchmarks.results import Cell, Measured
from benchmarks.server_process import CACHE, REPOSITORY
from benchmarks.tfserve_participant import VARIANTS, TFserve

BARE_LOOP = "bare-loop"
READY_S = 20
ROUNDS_AT_MOST_S = 20

console = Console()


def main() -> None:
    options = parse()
    if (reason := wrk.missing()) is not None:
        sys.exit(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # an end that still stops the server under test
    samples = Samples(models())
    measured = []
    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".bench-") as name:
        bench = Bench(samples, Path(name), options.rows, options.seconds)
        for participant in options.only:
            measured.append(bench.bare_loop() if participant == BARE_LOOP else bench.measure(participant))
            if options.markdown:  # after each: what was measured outlives an interruption
                options.markdown.write_text(markdown(measured, options.rows))
    show(console, measured, options.rows)


def parse() -> argparse.Namespace:
    known = [BARE_LOOP, *VARIANTS, *PEERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=some_of(known), default=known, help=f"of {', '.join(known)}")
    parser.add_argument("--rows", type=some_of(list(ROWS)), default=list(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, help="how long each row is measured (8)")
    parser.add_argument("--quick", action="store_true", help="3 seconds each")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    options = parser.parse_args()
    options.seconds = options.seconds or (3 if options.quick else 8)
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
    rows = folder / "rows.npz"
    if not rows.exists() or rows.stat().st_mtime < program.stat().st_mtime:
        console.print("making the models")
        subprocess.run([sys.executable, "-m", "benchmarks.models", str(folder)], cwd=REPOSITORY, check=True)
    return folder


def participant_of(name: str) -> Participant:
    return TFserve(VARIANTS[name]) if name in VARIANTS else PeerParticipant(name, PEERS[name], CACHE)


@dataclass
class Bench:
    samples: Samples
    folder: Path
    rows: list[str]
    seconds: float
    models: Path = field(default=CACHE / "models")

    def measure(self, name: str) -> Measured:
        participant = participant_of(name)
        result = Measured(name, participant.title)
        for row in self.rows:
            console.print(f"{participant.title}: {ROWS[row]}")
            request = participant.ask(row, self.samples)
            result.cells[row] = request if isinstance(request, str) else self._row(participant, row, request, result)
            console.print(f"  {result.cells[row]}", highlight=False, markup=False)
        return result

    def _row(self, participant: Participant, row: str, request: Request, result: Measured) -> Cell | str:
        """In a server of its own: some go on with what they learned of the row before (how long a batch may wait)."""
        model = model_of(row)
        try:
            result.versions = result.versions or participant.versions()
            with participant.serve(model, self.models / model, self.folder) as running:
                if wrong := self._wrong(running, row, request):
                    return wrong
                running.tree.wait_until_idle()
                result.memory_bytes[row] = running.tree.pss_bytes()
                return self._cell(running, request)
        except Unavailable as error:
            return str(error)

    def _wrong(self, running: Running, row: str, request: Request) -> str:
        """What is wrong with the server's answer; empty if it is TensorFlow's."""
        try:
            answer = first_answer(running.url, request)
            got = request.read({name.lower(): value for name, value in answer.headers.items()}, answer.content)
            np.testing.assert_allclose(got, self.samples.expected(row), rtol=1e-3, atol=1e-6)
        except (httpx.HTTPError, ValueError, KeyError, TypeError, Unavailable) as error:
            return f"failed: {type(error).__name__} {error}"[:300]
        except AssertionError as error:
            return f"wrong answer: {' '.join(str(error).split())}"[:300]
        return ""

    def _cell(self, running: Running, request: Request) -> Cell:
        one = self._at(1, running, request, self.seconds)
        # Four rounds of all connections at least: where each answer takes long, little would be seen in a fixed time.
        rounds_s = min(ROUNDS_AT_MOST_S, 4 * 32 * one.p50_ms / 1000)
        many = self._at(32, running, request, max(self.seconds, rounds_s))
        return Cell(one.rate, many.rate, one.p50_ms, one.p99_ms, one.failed + many.failed)

    def _at(self, connections: int, running: Running, request: Request, seconds: float) -> wrk.Seen:
        running.tree.wait_until_idle()
        wrk.run(running.url, request, self.folder, connections=connections, seconds=seconds / 4)  # the warm-up
        running.tree.wait_until_idle()  # what the warm-up left behind is answered before the clock starts
        return wrk.run(running.url, request, self.folder, connections=connections, seconds=seconds)

    def bare_loop(self) -> Measured:
        """In the benchmark's own environment: there is no framework to install."""
        result = Measured(BARE_LOOP, "a bare loop, no server")
        program = Path(__file__).parent / "peers" / "bare_loop.py"
        for model in dict.fromkeys(map(model_of, self.rows)):
            told = environment(Path(sys.executable), model, self.models / model, port=0)
            command = [sys.executable, str(program)]
            told["BENCH_SECONDS"] = str(self.seconds)
            printed = subprocess.run(command, env=told, stdout=subprocess.PIPE, text=True, check=True).stdout
            result.cells.update(loop_cells(json.loads(printed)))
        return result


def loop_cells(told: dict[str, Any]) -> dict[str, Cell | str]:
    return {row: Cell(seen["rate"], None, seen["p50_ms"], seen["p99_ms"]) for row, seen in told.items()}


def first_answer(url: str, request: Request) -> httpx.Response:
    """The first 200; a server may listen before its model is loaded."""
    deadline = time.monotonic() + READY_S
    while True:
        answer = httpx.post(url + request.path, content=request.body, headers=request.headers, timeout=60)
        if answer.status_code == 200:
            return answer
        if time.monotonic() > deadline or answer.status_code not in (404, 503):
            raise Unavailable(f"{answer.status_code}: {answer.text[:200]}")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
