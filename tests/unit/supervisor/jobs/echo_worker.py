"""A worker without TensorFlow that does what the test has written into the question's parameters.

It is started as the real one is, speaks the same messages, and is as quick as Python itself.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tfserve.errors import Invalid
from tfserve.ipc import frames
from tfserve.ipc.messages import (
    BecomeModel,
    Done,
    ExamineProject,
    Failed,
    IdleSince,
    Interrupt,
    JobState,
    Message,
    ModelLoaded,
    Progress,
    ProjectExamined,
    RunScript,
    ScriptEnded,
    Stop,
    Train,
    TrainingEnded,
    WorkerReady,
)
from tfserve.training.fit.checkpoint_files import path_of

DEADLINE_S = 30.0


class Line:
    """The worker's end of the socket: as `BlockingConnection`, but without importing asyncio, which takes longest."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def receive(self) -> Iterator[tuple[int, Message]]:
        reader = frames.FrameReader()
        while data := self._socket.recv(65536):
            yield from reader.feed(data)

    def answer(self, request_id: int, message: Message) -> None:
        self._socket.sendall(frames.encode(request_id | frames.RESPONSE, message))

    def tell(self, message: Message) -> None:
        self._socket.sendall(frames.encode(0, message))


class Training:
    """What the program of a test may use."""

    def __init__(self, line: Line, question: Train, interrupted: threading.Event) -> None:
        self._line, self._question, self._interrupted = line, question, interrupted
        self.project, self.work = Path(question.project_dir), Path(question.work_folder)
        with (self.work / "attempts").open("a") as file:
            print("attempt", file=file)
        self.attempt = (self.work / "attempts").read_text().count("attempt")
        self.end = TrainingEnded(state=JobState.SUCCEEDED, model_path=question.folder, metrics={"accuracy": 1.0})

    def progress(self, percent: float, message: str = "training", **fields: Any) -> None:
        self._line.tell(Progress(job=self._question.job, progress=percent, message=message, **fields))

    def checkpoint(self, epoch: int) -> None:
        path_of(self.work, epoch).touch()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def note(self, word: str) -> None:
        """Writes a file into the project that the test waits for."""
        (self.project / word).touch()

    def until(self, word: str) -> None:
        """Until the test has written this file into the project, or wants the end of the training."""
        give_up_at = time.monotonic() + DEADLINE_S
        while not (self.project / word).exists() and not self._interrupted.wait(0.005):
            assert time.monotonic() < give_up_at
        if self._interrupted.is_set():
            self.end = TrainingEnded(state=JobState.CANCELLED)

    def fail(self, message: str) -> None:
        failure = Invalid(message).to_failure()
        self.end = TrainingEnded(state=JobState.FAILED, error=msgspec.json.encode(failure))


def answer(line: Line, question: Message, interrupted: threading.Event) -> Message:
    if isinstance(question, ExamineProject):
        return examined(question)
    if isinstance(question, Train):
        training = Training(line, question, interrupted)
        exec(question.parameters.get("program", ""), {"t": training})
        return training.end
    if isinstance(question, RunScript):
        exec(question.text or "", {"Path": Path, "time": time})
        return ScriptEnded(state=JobState.SUCCEEDED, error=None, variables=b"{}")
    if isinstance(question, BecomeModel):
        return ModelLoaded(format="echo", version=None, signatures={}, warm_up="", memory_bytes=0)
    return Done(value=float(os.environ.get("TEST_IDLE_S", "0"))) if isinstance(question, IdleSince) else Done()


def examined(question: ExamineProject) -> Message:
    parameters = question.parameters
    if parameters.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if "refusal" in parameters:
        return Failed(failure=Invalid(parameters["refusal"]).to_failure())
    Path(question.findings).write_text("{}")
    return ProjectExamined(
        problems=parameters.get("problems", []), skipped=[{"path": "a.txt", "reason": "not an image file"}],
        skipped_count=1, image_count=8, classes=["a", "b"], dataset={"layout": "folders"},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int)
    options, _ = parser.parse_known_args()
    line = Line(options.fd)
    questions: queue.SimpleQueue[tuple[int, Message] | None] = queue.SimpleQueue()
    interrupted = threading.Event()

    def receive() -> None:
        for request_id, message in line.receive():
            if isinstance(message, Interrupt):
                interrupted.set()
            else:
                questions.put((request_id, message))
        os._exit(0)  # the supervisor is gone

    threading.Thread(target=receive, daemon=True).start()
    line.tell(WorkerReady(warm=True))
    while (question := questions.get()) is not None:
        if isinstance(question[1], Stop):
            sys.exit()
        line.answer(question[0], answer(line, question[1], interrupted))


if __name__ == "__main__":
    main()
