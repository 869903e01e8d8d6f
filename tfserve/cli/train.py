"""`tfserve train DIR`: trains in its own worker process, without a server, and shows the progress."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tfserve.cli.kept_training import Chosen, KeptTraining, find, left_behind
from tfserve.errors import Failure, Invalid, TFserveError, from_failure
from tfserve.ipc import frames, messages
from tfserve.ipc.messages import ExamineProject, Failed, Interrupt, JobState, Message, ProjectExamined, TrainingEnded
from tfserve.training.recipes import parameters

console = Console()

ENDED_WELL, ENDED_BADLY, CANCELLED = 0, 1, 130


class TrainWorker:
    """A worker process that handles one request at a time and yields progress messages meanwhile."""

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

    def request(self, message: Message) -> Iterator[Message]:
        """Yields messages up to and including the response. Raises the error that the worker reports."""
        self._socket.sendall(frames.encode(1, message))
        reader = frames.FrameReader()
        while data := self._socket.recv(65536):
            for request_id, message in reader.feed(data):
                if isinstance(message, Failed):
                    raise from_failure(message.failure)
                yield message
                if request_id & frames.RESPONSE:
                    return
        raise TFserveError(f"The worker died (exit code {self.process.wait()}).")

    def notify(self, message: Message) -> None:
        self._socket.sendall(frames.encode(0, message))

    def close(self) -> None:
        self._socket.close()
        self.process.kill()
        self.process.wait()


def train(folder: Path, train_type: str, chosen: dict[str, Any], resume: str | None = None) -> int:
    """Returns the exit code."""
    try:
        if resume is not None:
            if chosen:
                raise Invalid("--resume uses the original parameters and cannot be combined with --set.")
            return _train(find(folder, resume))
        for left in left_behind(folder):
            console.print(f"[yellow]kept[/yellow] {escape(_how_to_resume(left))}", soft_wrap=True)
        train_type = parameters.train_type(train_type)
        requested = Chosen(train_type, parameters.complete(train_type, chosen))
        kept = KeptTraining(folder, secrets.token_hex(8))
        return _train(kept) if _examine(kept, folder, requested) else ENDED_BADLY
    except TFserveError as error:
        console.print(error.message, style="red", markup=False)
        return ENDED_BADLY


def _examine(kept: KeptTraining, folder: Path, requested: Chosen) -> bool:
    """Whether the project is ready for training. Prints every problem."""
    request = ExamineProject(
        project_dir=_in_utf8(folder), train_type=requested.train_type, parameters=requested.parameters,
        findings=str(kept.findings),
    )  # fmt: skip
    with _worker() as worker, console.status("checking the project"):
        *_, found = worker.request(request)
    assert isinstance(found, ProjectExamined)
    for each in found.skipped[:20]:
        reason = escape(f"{each['path']}: {each['reason']}")
        console.print(f"[yellow]skipped[/yellow] {reason}")
    for problem in found.problems:
        console.print(f"[red]problem[/red] {escape(problem)}")
    if not found.problems:
        kept.keep(requested)
        names = [each["display"] for each in found.dataset["classes"]]
        console.print(f"Layout: {found.dataset['layout']}", markup=False)
        for remark in found.dataset["remarks"]:
            console.print(f"Remark: {remark}", markup=False)
        console.print(f"{found.image_count} images, {len(names)} classes: {', '.join(names)}", markup=False)
    return not found.problems


def _train(kept: KeptTraining) -> int:
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    try:
        with kept.held(), _worker() as worker, _interrupting(worker), Progress(*columns, console=console) as bars:
            bar = bars.add_task("starting", total=100)
            for message in worker.request(kept.request()):
                _show(bars, bar, message)
                ended = message
        assert isinstance(ended, TrainingEnded)
        return _summary(ended, kept.result)
    finally:
        _explain_what_is_kept(kept)


def _explain_what_is_kept(kept: KeptTraining) -> None:
    """Explains how to resume an interrupted training, if it has a checkpoint."""
    if kept.epoch:
        console.print(_how_to_resume(kept), soft_wrap=True, markup=False)
    elif not kept.result.exists():
        kept.forget()


def _how_to_resume(kept: KeptTraining) -> str:
    project = shlex.quote(str(kept.result.parent.parent))
    return (
        f"The best checkpoint of {kept.epoch} epochs is in {kept.folder}. Resume with:"
        f" tfserve train {project} --resume {kept.task_id}"
    )


def _in_utf8(folder: Path) -> str:
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise Invalid(f"The name of the folder {str(folder)!r} is not UTF-8. Rename it.") from None
    return str(folder)


def _show(bars: Progress, bar: TaskID, message: Message) -> None:
    if isinstance(message, messages.Progress):
        left = f", {message.eta_s:.0f} s left" if message.eta_s else ""
        bars.update(bar, completed=message.progress, description=message.message + left)
    elif isinstance(message, TrainingEnded) and message.state == JobState.SUCCEEDED:
        bars.update(bar, completed=100, description="done")


def _summary(ended: TrainingEnded, folder: Path) -> int:
    if ended.state != JobState.SUCCEEDED:
        failure = msgspec.json.decode(ended.error or b"{}", type=Failure)
        console.print(f"[red]{ended.state}[/red]: {escape(failure.message)}")
        return CANCELLED if ended.state == JobState.CANCELLED else ENDED_BADLY
    table = Table("measure", "value", title="Result")
    for name, value in (ended.metrics or {}).items():
        if isinstance(value, (int, float, str)):
            table.add_row(name, f"{value:.4f}" if isinstance(value, float) else escape(str(value)))
    console.print(table)
    for name in sorted(path.name for path in folder.iterdir()):
        console.print(f"  {folder / name}", soft_wrap=True, markup=False)
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
    """The first Ctrl-C stops the training gracefully, the second kills it."""

    def on_interrupt(_: int, __: object) -> None:
        signal.signal(signal.SIGINT, former)
        worker.notify(Interrupt(job=0, workspace=""))

    former = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
