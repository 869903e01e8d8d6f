"""Scripts: what a worker that runs them is told."""

from __future__ import annotations

from tfserve.ipc.messages.base import Base, JobState


class WorkerReady(Base):
    """A worker's first words: it can be given a role. Sent with request id 0."""

    warm: bool


class BecomeScripts(Base):
    """Run the scripts of one workspace in the main thread. Answered by Done."""

    workspace: str


class BecomeHost(Base):
    """Run the scripts of many workspaces, each in a thread of its own. Answered by Done."""


class RunScript(Base):
    """Run a file, or a text, with `folder` as working directory. Answered by ScriptEnded."""

    job: int
    workspace: str
    folder: str
    file: str | None = None
    text: str | None = None
    clear: bool = False


class ScriptEnded(Base):
    """`error` is a Failure as JSON; `variables` the bounded snapshot, a JSON object."""

    state: JobState
    error: bytes | None
    variables: bytes


class ClearVariables(Base):
    """Forget all variables of a workspace. Answered by Done."""

    workspace: str


class ReadVariables(Base):
    """Full values by name (all when None), up to `limit_bytes` of JSON. Answered by Variables or Failed."""

    workspace: str
    names: list[str] | None
    limit_bytes: int


class Variables(Base):
    """A JSON object {name: value}. `complete` is false when it comes from the bounded snapshot."""

    values: bytes
    complete: bool = True


class Interrupt(Base):
    """Raise KeyboardInterrupt in the job, if it is the one that runs. No answer: the job's own end is the answer."""

    job: int
    workspace: str


class DropWorkspace(Base):
    """A host forgets a workspace. Answered by Done."""

    workspace: str


class OpenWorkspace(Base):
    """A host makes a workspace, whose output it writes to two files that it opens. Answered by Done."""

    workspace: str
    stdout: str
    stderr: str


class Stop(Base):
    """Finish what you are doing and exit. No answer but the end of the process."""
