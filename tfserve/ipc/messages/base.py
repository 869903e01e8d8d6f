"""What all messages have in common, and the answers that fit many questions."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from tfserve.errors import Failure

AUTO = "auto"

#: Stands for a job's number in an Interrupt that stops the reading of variables.
READING = -1


class Base(msgspec.Struct, kw_only=True, tag=True, tag_field="is", omit_defaults=True):
    """A message is tagged with the name of its class."""


class JobKind(StrEnum):
    SCRIPT = "script"
    CLEAR = "clear"
    DEPLOY = "deploy"
    UPDATE = "update"
    UNDEPLOY = "undeploy"
    PREDICT = "predict"
    TRAIN = "train"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


#: the states of a job that has ended
FINISHED_STATES = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.LOST)


class Done(Base):
    """It is done; `value` is whatever small thing the question asked for."""

    value: Any = None


class Failed(Base):
    """It could not be done, and why."""

    failure: Failure
