"""Scripts: the requests to a worker that runs them."""

from __future__ import annotations

from tfserve.ipc.messages.base import JobState, Message, Request


class WorkerReady(Message):
    """The first message of a worker: it can be given a role. Sent with request id 0."""

    warm: bool


class BecomeScripts(Request[None]):
    """Run the scripts of one workspace in the main thread."""

    workspace: str


class BecomeHost(Request[None]):
    """Run the scripts of many workspaces, each in a thread of its own."""


class ScriptEnded(Message):
    """`error` is a Failure as JSON; `variables` the bounded snapshot, a JSON object.

    `types` is a JSON object of what each variable is in Python: `{"x": {"type": "ndarray", "shape": [2], …}}`.
    """

    state: JobState
    error: bytes | None
    variables: bytes
    types: bytes = b"{}"


class RunScript(Request[ScriptEnded]):
    """Run a file, or a text, with `folder` as working directory."""

    job: int
    workspace: str
    folder: str
    file: str | None = None
    text: str | None = None
    clear: bool = False
    #: of the request that submitted it (W3C Trace Context); empty without one
    traceparent: str = ""


class ClearVariables(Request[None]):
    """Forget all variables of a workspace."""

    workspace: str


class Variables(Message):
    """A JSON object {name: value}. `complete` is false when it comes from the bounded snapshot."""

    values: bytes
    complete: bool = True


class ReadVariables(Request[Variables]):
    """Full values by name (all when None), up to `limit_bytes` of JSON."""

    workspace: str
    names: list[str] | None
    limit_bytes: int


class Interrupt(Message):
    """Raise KeyboardInterrupt in the job, if it is the one that runs. No response: the job ends."""

    job: int
    workspace: str


class DropWorkspace(Request[None]):
    """A host forgets a workspace."""

    workspace: str


class OpenWorkspace(Request[None]):
    """A host makes a workspace, whose output it writes to two files that it opens."""

    workspace: str
    stdout: str
    stderr: str


class Stop(Message):
    """Finish what is running and exit. No response."""
