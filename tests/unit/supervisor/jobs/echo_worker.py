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
from pathlib import Path
from typing import Any

import msgspec

from tfserve.errors import Invalid
from tfserve.ipc.connections import BlockingConnection
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
    Stop,
    Train,
    TrainingEnded,
    WorkerReady,
)
from tfserve.training.checkpoint_files import path_of

DEADLINE_S = 30.0


class Training:
    """What the program of a test may use."""

    def __init__(self, connection: BlockingConnection, question: Train, interrupted: threading.Event) -> None:
        self._connection, self._question, self._interrupted = connection, question, interrupted
        self.project, self.work = Path(question.project_dir), Path(question.work_folder)
        with (self.work / "attempts").open("a") as file:
            print("attempt", file=file)
        self.attempt = (self.work / "attempts").read_text().count("attempt")
        self.end = TrainingEnded(state=JobState.SUCCEEDED, model_path=question.folder, metrics={"accuracy": 1.0})

    def progress(self, percent: float, message: str = "training", **fields: Any) -> None:
        self._connection.tell(Progress(job=self._question.job, progress=percent, message=message, **fields))

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


def answer(connection: BlockingConnection, question: Message, interrupted: threading.Event) -> Message:
    if isinstance(question, ExamineProject):
        return examined(question)
    if isinstance(question, Train):
        training = Training(connection, question, interrupted)
        exec(question.parameters.get("program", ""), {"t": training})
        return training.end
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
    connection = BlockingConnection(socket.socket(fileno=options.fd))
    questions: queue.SimpleQueue[tuple[int, Message] | None] = queue.SimpleQueue()
    interrupted = threading.Event()

    def receive() -> None:
        for request_id, message in connection.receive():
            if isinstance(message, Interrupt):
                interrupted.set()
            else:
                questions.put((request_id, message))
        os._exit(0)  # the supervisor is gone

    threading.Thread(target=receive, daemon=True).start()
    connection.tell(WorkerReady(warm=True))
    while (question := questions.get()) is not None:
        if isinstance(question[1], Stop):
            sys.exit()
        connection.answer(question[0], answer(connection, question[1], interrupted))


if __name__ == "__main__":
    main()
