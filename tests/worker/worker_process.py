"""A real worker at the other end of a socket pair, and the few words that the tests say to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tfserve.ipc import frames
from tfserve.ipc.messages import (
    BecomeModel,
    BecomeScripts,
    ClearVariables,
    Failed,
    Interrupt,
    Message,
    ModelLoaded,
    Predict,
    Predictions,
    ReadVariables,
    RunScript,
    ScriptEnded,
    Stop,
    Variables,
    WorkerReady,
)

M = TypeVar("M")

DEADLINE_S = 60.0
WORKSPACE = "w"


class WorkerProcess:
    """Started as the supervisor starts it. Its output goes to files, so that it never blocks."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._answers: dict[int, Message] = {}
        self._next_id = 1
        self._jobs = 0
        self._printed_before = {1: 0, 2: 0}
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(DEADLINE_S)
        self._reader = frames.FrameReader()
        self._out = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._err = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        command = [sys.executable, "-P", "-X", "faulthandler", "-m", "tfserve.worker", "--fd", str(theirs.fileno())]
        self.process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        theirs.close()
        self.ready = self._receive_until(lambda: self._answers.pop(0, None))
        assert isinstance(self.ready, WorkerReady)

    # --- one word each

    def become_scripts(self) -> None:
        self.ask(BecomeScripts(workspace=WORKSPACE))

    def begin_again(self) -> None:
        """As good as new for a test that breaks nothing: no variables, no files, no output; jobs count from 0."""
        self.ask(ClearVariables(workspace=WORKSPACE))
        for left in self.folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self._jobs = 0
        self._printed_before = {1: os.fstat(self._out.fileno()).st_size, 2: os.fstat(self._err.fileno()).st_size}

    def run(self, text: str | None = None, **fields: Any) -> ScriptEnded:
        return self.wait(self.start(text, **fields), ScriptEnded)

    def start(self, text: str | None = None, **fields: Any) -> int:
        """Sends a script job and returns the id of the question; `last_job` is its number."""
        message = {"job": self._jobs, "workspace": WORKSPACE, "folder": str(self.folder), "text": text, **fields}
        self._jobs += 1
        return self.send(RunScript(**message))

    @property
    def last_job(self) -> int:
        return self._jobs - 1

    def interrupt(self, job: int | None = None, workspace: str = WORKSPACE) -> None:
        self.send(Interrupt(job=self.last_job if job is None else job, workspace=workspace), request_id=0)

    def read(self, *names: str, limit_bytes: int = 64 * 1024 * 1024) -> dict[str, Any]:
        question = ReadVariables(workspace=WORKSPACE, names=list(names) or None, limit_bytes=limit_bytes)
        return json.loads(self.ask(question, Variables).values)

    def load(self, path: Path | str, **fields: Any) -> ModelLoaded | Failed:
        return self.ask(BecomeModel(workspace=WORKSPACE, path=str(path), **fields))

    def predict(self, *requests: dict[str, Any]) -> list[Any]:
        """The result of each request, or its error as a dict."""
        answer = self.ask(Predict(requests=[json.dumps(request).encode() for request in requests]), Predictions)
        return [json.loads(each.result or each.error) for each in answer.predictions]

    # --- the socket

    def ask(self, message: Message, expected: type[M] | tuple[()] = ()) -> M:
        return self.wait(self.send(message), expected)

    def send(self, message: Message, request_id: int | None = None) -> int:
        if request_id is None:
            request_id = self._next_id
            self._next_id += 1
        self._socket.sendall(frames.encode(request_id, message))
        return request_id

    def wait(self, request_id: int, expected: type[M] | tuple[()] = ()) -> M:
        answer = self._receive_until(lambda: self._answers.pop(request_id | frames.RESPONSE, None))
        assert not expected or isinstance(answer, expected), answer
        return answer

    def _receive_until(self, found: Callable[[], Any]) -> Any:
        while (answer := found()) is None:
            data = self._socket.recv(65536)
            assert data, f"the worker is gone: {self.process.wait(10)} {self.stderr()}"
            for request_id, message in self._reader.feed(data):
                self._answers[request_id] = message
        return answer

    # --- around it

    def stdout(self) -> str:
        return _content(self._out, self._printed_before[1])

    def stderr(self) -> str:
        return _content(self._err, self._printed_before[2])

    def hang_up(self) -> None:
        """What the worker sees when the supervisor dies."""
        self._socket.close()

    def stop(self) -> int:
        self.send(Stop())
        return self.process.wait(DEADLINE_S)

    def end(self) -> None:
        self._socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._out.close()
        self._err.close()


StartWorker = Callable[..., WorkerProcess]
"""Takes the options of a worker and starts one."""


def eventually(condition: Callable[[], Any], within_s: float = 30.0) -> Any:
    """The first true value of `condition()`; fails when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


UNTELLABLE = {
    "str() raises an interrupt": "class Odd(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise Odd",
    "str() exits": "class Odd(Exception):\n    def __str__(self): raise SystemExit\nraise Odd",
    "str() is no str": "class Odd(Exception):\n    def __str__(self): return 5\nraise Odd",
    "a class without a name": (
        "class Meta(type):\n    @property\n    def __qualname__(self): raise BaseException\n"
        "class Odd(Exception, metaclass=Meta): pass\nraise Odd"
    ),
    "no boolean": "class Odd(Exception):\n    def __bool__(self): raise KeyboardInterrupt\nraise Odd",
    "an exit without a code": (
        "class Odd(SystemExit):\n    @property\n    def code(self): raise KeyboardInterrupt\nraise Odd"
    ),
    "wrong text": "error = SyntaxError('x')\nerror.text = 5\nerror.lineno = 1\nraise error",
    "a cycle": "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\nraise a",
    "its own cause": "error = ValueError('a')\nerror.__cause__ = error\nraise error",
    "a long chain": (
        "error = None\nfor n in range(200_000):\n    new = ValueError(str(n))\n"
        "    new.__cause__, error = error, new\nraise error"
    ),
    "a deep group": "error = ValueError()\nfor _ in range(3000): error = ExceptionGroup('g', [error])\nraise error",
}
"""Scripts whose exceptions are hard to tell."""


def ended_by(process: subprocess.Popen[bytes], within_s: float = 30.0) -> int:
    """The signal that a process died by."""
    return signal.Signals(-process.wait(within_s))


def _content(file: Any, start: int) -> str:
    return os.pread(file.fileno(), 1 << 24, start).decode(errors="replace")
