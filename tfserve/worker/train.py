"""The training role: checks the dataset in a project folder, or trains a model on it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import traceback
from pathlib import Path
from typing import Any

import msgspec

from tfserve import linux
from tfserve.config import load
from tfserve.errors import Failure, Internal, Invalid, OutOfSpace, TFserveError
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import ExamineProject, Failed, JobState, Message, ProjectExamined, Train, TrainingEnded
from tfserve.runtimes.error_summary import named_cause
from tfserve.training import atomic_files
from tfserve.training.dataset.examine import examine
from tfserve.training.recipes import parameters
from tfserve.worker.inbox import Inbox
from tfserve.worker.scripts import streams
from tfserve.worker.scripts.interrupts import Interrupts, MainThread

log = logging.getLogger(__name__)

"""Where Linux shares the processor between sessions first (`sched_autogroup_enabled`), a nice number counts only within
its session, and each worker has one of its own: between sessions the one in this file counts. 5 is a third of the
weight of others; with 10 a training was left a twentieth of a busy machine."""
CANCELLED = Failure(code="cancelled", message="The training was cancelled while it was running.")
MAX_SKIPPED = 100
"""Maximum skipped files in a message; the findings list all."""
SAVED_MODEL = "saved_model"
TEMPORARY = "temporary"
"""In the work folder: TensorFlow and the converters write megabytes, which `kill -9` would leave in /tmp for good."""


class TrainRole:
    """Processes dataset checks and trainings one by one."""

    def __init__(
        self, connection: BlockingConnection, interrupts: Interrupts, callers_umask: int | None = None
    ) -> None:  # fmt: skip
        """What is kept between attempts is private; only results get the permissions that `callers_umask` leaves."""
        self._connection = connection
        self._callers_umask = callers_umask
        self._interrupts = interrupts
        self._main_thread = MainThread(interrupts)
        linux.give_way(load().train_nice)

    def serve(self, inbox: Inbox, request_id: int, first: Message) -> None:
        """Answers `first`, then all further requests in order, until `Stop`."""
        self._connection.answer(request_id, self._answer(first))
        for each_id, message in inbox:
            self._connection.answer(each_id, self._answer(message))

    def _answer(self, message: Message) -> Message:
        match message:
            case ExamineProject():
                return _examine(message)
            case Train():
                return self._train(message)
        return Failed(failure=Invalid(f"a training worker received {type(message).__name__}").to_failure())

    def _train(self, message: Train) -> TrainingEnded:
        key = ("", message.job)
        self._interrupts.expect(key)
        metrics: dict[str, Any] = {}
        try:
            metrics = self._main_thread.call(key, lambda: self._run(message))
            failure = None
        except KeyboardInterrupt:
            failure = CANCELLED
        except Exception as error:  # a library may make another error of an interrupt, for example while it is imported
            failure = CANCELLED if self._interrupts.was_interrupted(key) else _failure_of(error, message)
        finally:
            self._main_thread.finish(key)
        if failure is None:
            failure = _publish(message, self._callers_umask)
        streams.flush()
        return _ended(message, metrics, failure)

    def _run(self, message: Train) -> dict[str, Any]:
        """The summary of the metrics of this attempt, or of an earlier one that was complete."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else the task's output is full of them
        from tfserve.training.recipes import registry

        atomic_files.make_folder(Path(message.folder).parent, self._callers_umask)
        with atomic_files.temporary_files(Path(message.work_folder, TEMPORARY)):
            return registry.run(message, self._connection.notify)


def _examine(message: ExamineProject) -> Message:
    try:
        kind = parameters.train_type(message.train_type)
        chosen = parameters.complete(kind, message.parameters)
        found = examine(message.project_dir, kind, chosen, message.roots, work=_derived(message))
        if not found.problems:
            found.write(Path(message.findings))
    except TFserveError as error:
        return Failed(failure=error.to_failure())
    except OSError as error:
        kind_of = OutOfSpace(cause=str(error)) if atomic_files.is_disk_full(error) else Internal(str(error))
        return Failed(failure=kind_of.to_failure())
    except Exception as error:  # the caller gets the cause; a crash would only show an exit code
        traceback.print_exception(error)
        problem = f"The dataset check failed: {named_cause(error)}"
        return Failed(failure=Internal(problem).to_failure())
    return ProjectExamined(
        problems=found.problems,
        skipped=[{"path": each.path, "reason": each.reason} for each in found.skipped[:MAX_SKIPPED]],
        skipped_count=len(found.skipped),
        image_count=len(found.images),
        classes=found.labels,
        dataset={} if found.problems else found.summary(),
        samples=found.samples(),
    )


def _derived(message: ExamineProject | Train) -> Path:
    """The folder for what had to be unpacked or converted, next to the findings that name it."""
    return Path(message.findings).with_name("derived")


def _publish(message: Train, callers_umask: int | None) -> Failure | None:
    """Publishes the result, uninterruptibly, and deletes what was kept for another attempt."""
    folder = Path(message.folder)
    try:
        if folder.exists():
            atomic_files.link_latest(folder)
        else:
            atomic_files.publish(atomic_files.aside_of(folder), folder, callers_umask)
    except OSError as error:
        return _failure_of(error, message)
    with contextlib.suppress(OSError):
        shutil.rmtree(message.work_folder)
    shutil.rmtree(_derived(message), ignore_errors=True)
    return None


def _failure_of(error: BaseException, message: Train) -> Failure:
    """Why a run failed, for people; the traceback goes to the task's output."""
    shutil.rmtree(atomic_files.aside_of(Path(message.folder)), ignore_errors=True)
    if isinstance(error, TFserveError):
        return error.to_failure()
    if atomic_files.is_disk_full(error):
        cause = f"{error}. The last checkpoint is kept in {message.work_folder}. Free some space and resume"
        return OutOfSpace(cause=cause[:1000]).to_failure()
    traceback.print_exception(error)
    failure = Internal(f"The training failed: {named_cause(error, 1000)}").to_failure()
    return msgspec.structs.replace(failure, type=type(error).__name__)


def _ended(message: Train, metrics: dict[str, Any], failure: Failure | None) -> TrainingEnded:
    if failure is None:
        return TrainingEnded(
            state=JobState.SUCCEEDED, model_path=str(Path(message.folder) / SAVED_MODEL), metrics=metrics
        )
    if failure.code == "cancelled":
        shutil.rmtree(atomic_files.aside_of(Path(message.folder)), ignore_errors=True)
    state = JobState.CANCELLED if failure.code == "cancelled" else JobState.FAILED
    print(failure.message, flush=True)
    return TrainingEnded(state=state, error=msgspec.json.encode(failure))
