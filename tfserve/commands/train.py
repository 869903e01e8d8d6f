"""`tfserve train DIR`: trains in a worker of its own, without a server, and shows how it goes."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tfserve.errors import Failure, TFserveError, from_failure
from tfserve.ipc import frames, messages
from tfserve.ipc.messages import (
    ExamineProject,
    Failed,
    Interrupt,
    JobState,
    Message,
    ProjectExamined,
    Train,
    TrainingEnded,
)
from tfserve.training import parameters

console = Console()

ENDED_WELL, ENDED_BADLY, CANCELLED = 0, 1, 130


class TrainWorker:
    """A worker process, asked one thing at a time; what it tells meanwhile is yielded."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-X", "faulthandler", "-m", "tfserve.worker", "--fd", str(theirs.fileno())]
            environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._socket = ours

    def ask(self, question: Message) -> Iterator[Message]:
        """Yields what comes until the answer, which is the last. Raises the error that the worker answers with."""
        self._socket.sendall(frames.encode(1, question))
        reader = frames.FrameReader()
        while data := self._socket.recv(65536):
            for request_id, message in reader.feed(data):
                if isinstance(message, Failed):
                    raise from_failure(message.failure)
                yield message
                if request_id & frames.ANSWER:
                    return
        raise TFserveError(f"The worker died (exit code {self.process.wait()}).")

    def tell(self, message: Message) -> None:
        self._socket.sendall(frames.encode(0, message))

    def close(self) -> None:
        self._socket.close()
        self.process.kill()
        self.process.wait()


def train(folder: Path, train_type: str, chosen: dict[str, Any]) -> int:
    """Returns the exit code."""
    try:
        train_type = parameters.train_type(train_type)
        values = parameters.complete(train_type, chosen)
        with tempfile.TemporaryDirectory(prefix="tfserve-train-") as name:
            findings = str(Path(name) / "findings.json")
            if not _examine(folder, train_type, values, findings):
                return ENDED_BADLY
            return _train(folder, train_type, values, findings, Path(name) / "work")
    except TFserveError as error:
        console.print(f"[red]{error.message}[/red]")
        return ENDED_BADLY


def _examine(folder: Path, train_type: str, values: dict[str, Any], findings: str) -> bool:
    """Whether the project can be trained on; every problem is printed."""
    with _worker() as worker, console.status("looking through the project"):
        question = ExamineProject(project_dir=str(folder), train_type=train_type, parameters=values, findings=findings)
        *_, found = worker.ask(question)
    assert isinstance(found, ProjectExamined)
    for each in found.skipped[:20]:
        console.print(f"[yellow]left out[/yellow] {each['path']}: {each['reason']}")
    for problem in found.problems:
        console.print(f"[red]problem[/red] {problem}")
    if not found.problems:
        console.print(f"{found.image_count} images, {len(found.classes)} classes: {', '.join(found.classes)}")
    return not found.problems


def _train(folder: Path, train_type: str, values: dict[str, Any], findings: str, work_folder: Path) -> int:
    task_id = secrets.token_hex(8)
    question = Train(
        job=0, task_id=task_id, project_dir=str(folder), train_type=train_type, parameters=values, findings=findings,
        folder=str(folder / "models" / task_id), work_folder=str(work_folder),
    )  # fmt: skip
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with _worker() as worker, _interrupting(worker), Progress(*columns, console=console) as bars:
        bar = bars.add_task("starting", total=100)
        for message in worker.ask(question):
            _show(bars, bar, message)
            ended = message
    assert isinstance(ended, TrainingEnded)
    return _summary(ended, folder / "models" / task_id)


def _show(bars: Progress, bar: TaskID, message: Message) -> None:
    if isinstance(message, messages.Progress):
        left = f", {message.eta_s:.0f} s left" if message.eta_s else ""
        bars.update(bar, completed=message.progress, description=message.message + left)
    elif isinstance(message, TrainingEnded) and message.state == JobState.SUCCEEDED:
        bars.update(bar, completed=100, description="done")


def _summary(ended: TrainingEnded, folder: Path) -> int:
    if ended.state != JobState.SUCCEEDED:
        failure = msgspec.json.decode(ended.error or b"{}", type=Failure)
        console.print(f"[red]{ended.state}[/red]: {failure.message}")
        return CANCELLED if ended.state == JobState.CANCELLED else ENDED_BADLY
    table = Table("measure", "value", title="Result")
    for name, value in (ended.metrics or {}).items():
        if isinstance(value, (int, float, str)):
            table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)
    for name in sorted(path.name for path in folder.iterdir()):
        console.print(f"  {folder / name}", soft_wrap=True)
    return ENDED_WELL


@contextmanager
def _worker() -> Iterator[TrainWorker]:
    worker = TrainWorker()
    try:
        yield worker
    finally:
        worker.close()


@contextmanager
def _interrupting(worker: TrainWorker) -> Iterator[None]:
    """The first Ctrl-C asks the training to end, the second ends it."""

    def on_interrupt(_: int, __: object) -> None:
        signal.signal(signal.SIGINT, former)
        worker.tell(Interrupt(job=0, workspace=""))

    former = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
