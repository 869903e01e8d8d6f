"""How honest the time left is: runs trainings, and compares what each said of its end with when it ended.

    python -m benchmarks.time_left DIR [DIR …] [--type classification] [--set name=value …] [--timings FILE]

`--timings` is the file in which a machine keeps how long stages took; without it each run is the first of its machine.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from tfserve.cli.train import TrainWorker
from tfserve.ipc.messages import ExamineProject, Progress, Train, TrainingEnded
from tfserve.training.recipes import parameters

SHARES = (0.1, 0.25, 0.5, 0.75)
WORST_UNTIL = 0.9
"""The worst ratio is looked for between the first tenth and this share of the run."""


class Said(NamedTuple):
    """What a run said `at_s` seconds after its beginning."""

    at_s: float
    left_s: float
    message: str


class Run(NamedTuple):
    said: list[Said]
    took_s: float
    processor_s: float
    state: str

    def ratio(self, share: float) -> float:
        """The time left as it was said after this share of the run, over what it really was; NaN before anything."""
        at_s = share * self.took_s
        before = [each for each in self.said if each.at_s <= at_s]
        return (before[-1].left_s - (at_s - before[-1].at_s)) / (self.took_s - at_s) if before else float("nan")

    def worst(self) -> tuple[float, float]:
        """(share, ratio) where it is farthest from 1."""
        shares = [0.1 + n / 100 for n in range(round((WORST_UNTIL - 0.1) * 100) + 1)]
        pairs = [(share, self.ratio(share)) for share in shares]
        return max(pairs, key=lambda pair: max(pair[1], 1 / max(pair[1], 1e-3)) if pair[1] == pair[1] else 0.0)


def run(project: Path, train_type: str, chosen: dict[str, Any], timings: Path | None) -> Run:
    """Trains in a worker of its own; the result is removed."""
    task = f"time-{secrets.token_hex(4)}"
    work = project.parent / f".{task}"
    work.mkdir()
    folder = project / "models" / task
    findings = work / "findings.json"
    question = Train(
        job=1, task_id=task, project_dir=str(project), train_type=train_type, parameters=chosen,
        findings=str(findings), folder=str(folder), work_folder=str(work / "work"), timings=str(timings or ""),
    )  # fmt: skip
    worker = TrainWorker()
    said: list[Said] = []
    try:
        examine = ExamineProject(
            project_dir=str(project), train_type=train_type, parameters=chosen, findings=str(findings)
        )
        *_, examined = worker.ask(examine)
        assert not getattr(examined, "problems", None), examined
        began_at = time.monotonic()
        for message in worker.ask(question):
            at_s = time.monotonic() - began_at
            if isinstance(message, Progress) and message.eta_s is not None:
                said.append(Said(at_s, message.eta_s, message.message))
        assert isinstance(message, TrainingEnded)
        return Run(said, at_s, _processor_s(worker.process.pid), message.state)
    finally:
        worker.close()
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def report(name: str, ended: Run) -> str:
    ratios = "  ".join(f"{share:.0%} {ended.ratio(share):5.2f}" for share in SHARES)
    at, worst = ended.worst()
    return (
        f"{name:24} {ended.state:10} {ended.took_s:6.1f} s, processor {ended.processor_s:6.1f} s   {ratios}   worst"
        f" {worst:5.2f} at {at:.0%}"
    )


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("projects", nargs="+", type=Path)
    reader.add_argument("--type", default="classification")
    reader.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    reader.add_argument("--timings", type=Path)
    reader.add_argument("--repeat", type=int, default=1)
    reader.add_argument("--verbose", action="store_true", help="also everything that was said")
    given = reader.parse_args()
    pairs = [text.partition("=") for text in given.set]
    chosen = {name: parameters.parsed(given.type, name, value) for name, _, value in pairs}
    for project in given.projects:
        for _ in range(given.repeat):
            ended = run(project.resolve(), given.type, chosen, given.timings)
            if given.verbose:
                for each in ended.said:
                    times = f"{each.at_s:6.1f} s: {each.left_s:6.1f} left, ends at {each.at_s + each.left_s:6.1f}"
                    print(f"  {times}: {each.message}")
            print(report(project.name, ended), flush=True)


if __name__ == "__main__":
    main()
