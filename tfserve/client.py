"""A small HTTP client of the workspace API, for the command line, for programs in Python, and for the tests.

    from tfserve.client import Client

    with Client("http://127.0.0.1:8000") as client:
        name = client.create_workspace()
        job = client.push_script(name, "x = 6 * 7", timeout=10)
        assert client.get_variable(name, "x") == {"x": 42}

One method for each endpoint, with the endpoint's name, fields and defaults. It imports neither TensorFlow nor Django
nor numpy. A client may be shared by threads.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
import msgspec

DEFAULT_URL = "http://127.0.0.1:8000"

#: seconds that an answer may take beyond the time that the server was asked to wait
PATIENCE_S = 30.0

#: how many jobs are looked at together to find one by its number
PAGE = 100

EVENT_STREAM = "text/event-stream"

T = TypeVar("T")


class Failure(msgspec.Struct, frozen=True):
    """Why a request was refused or a job failed. A script's error has `type` and `traceback` too."""

    code: str = "unknown"
    message: str = ""
    type: str | None = None
    traceback: str | None = None
    detail: dict[str, Any] | None = None


class ServerRefused(Exception):
    """The server answered that it could not do the request (`request_result` was false)."""

    def __init__(self, status: int, code: str, message: str, detail: dict[str, Any] | None = None) -> None:
        super().__init__(f"{message} ({status} {code})")
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail or {}


class ServerUnreachable(ConnectionError):
    """No answer came: nobody listens there, the connection broke, or the answer took too long."""


class JobAnswer(msgspec.Struct, frozen=True):
    """What a call that submits a job tells: how the job ended, or that it goes on.

    `result` is true or false, for a prediction a list or null, and null while the job goes on. `time` is in seconds.
    """

    job: int
    id: int
    finish: bool
    result: Any = None
    time: float = 0.0
    variable: dict[str, Any] = {}
    error: Failure | None = None
    stdout: str = ""
    stderr: str = ""


class Output(msgspec.Struct, frozen=True):
    """A piece of a job's output, the offset where the next piece begins, and the state that the job had then."""

    data: bytes
    next_offset: int
    state: str


class _Answer(msgspec.Struct):
    request_result: bool
    result: Any = None
    error: Failure | None = None


class _OutputEvent(msgspec.Struct):
    offset: int
    text: str


class Client:
    """One server, seen from a program. Every method may raise `ServerRefused` and `ServerUnreachable`.

    The calls that submit a job return when it has ended, or after `timeout` seconds: the job goes on then, and
    `result_of` waits for it. A job that failed is no exception: look at `result` and `error` of its answer.
    """

    def __init__(self, base_url: str = DEFAULT_URL) -> None:
        # Proxies set for the world outside would swallow calls to 127.0.0.1, so the environment is not asked.
        self._http = httpx.Client(
            base_url=base_url,
            trust_env=False,
            timeout=PATIENCE_S,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- the service

    def is_ready(self) -> bool:
        """Whether the server can take work. False too while nobody listens there."""
        try:
            return self._send("GET", "/v2/health/ready").status_code == httpx.codes.OK
        except ServerUnreachable:
            return False

    def server(self, since: int | None = None, *, wait: int | None = None) -> dict[str, Any]:
        """The live state of the server; with `since`, once its `revision` is another, or after `wait` seconds."""
        return self._read(self._send("GET", "/server/", params=_given(since=since, wait=wait)), dict[str, Any])

    def guide(self) -> dict[str, Any]:
        """The API guide: each endpoint's path with its purpose, request fields and result."""
        return self._post("/", dict[str, Any])

    def json_test(self, value: Any) -> Any:
        """The same value back, as JSON makes it."""
        return self._post("/json_test/", Any, value)

    def create(self) -> bool:
        """Turn the workspace service on. True if it was off."""
        return self._post("/create/", bool)

    def destroy(self) -> bool:
        """Turn the workspace service off: every workspace is destroyed. True if it was on."""
        return self._post("/destroy/", bool)

    # --- workspaces

    def create_workspace(self, name: str | None = None, *, type: Literal[0, 1] = 0) -> str:  # noqa: A002
        """The new workspace's name (random when none is given). Type 0 is a process, type 1 a thread."""
        return self._post("/create_workspace/", str, _given(name=name, type=type))

    def destroy_workspace(self, name: str | None = None) -> bool:
        """Destroy one workspace, or all of them. True if something was destroyed."""
        return self._post("/destroy_workspace/", bool, _given(name=name))

    def restart_workspace(self, name: str) -> bool:
        """Give a workspace a fresh process. Its waiting jobs and its deployment are kept, its variables are not."""
        return self._post("/restart_workspace/", bool, {"name": name})

    def get_workspace(self) -> list[str]:
        """The names of all workspaces."""
        return self._post("/get_workspace/", list[str])

    def get_status(self, name: str) -> dict[str, Any]:
        """`STATUS`, `CUR_JOB_NUM`, `FIN_JOB_NUM`, `JOB_COUNT`, `folder` and more, as the API guide tells."""
        return self._post("/get_status/", dict[str, Any], {"name": name})

    # --- submitting jobs

    def push_file(
        self,
        name: str,
        path: str,
        *,
        clear: bool = False,
        timeout: float = 1,
        time_limit: float | None = None,
        idempotency_key: str | None = None,
    ) -> JobAnswer:
        """Run a script that is a file on the server's disk. `time_limit` is how many seconds it may run."""
        fields = _given(name=name, job=path, type=0, clear=clear, timeout=timeout, time_limit=time_limit)
        return self._submit("/push_job/", fields, idempotency_key)

    def push_script(
        self,
        name: str,
        script: str,
        *,
        clear: bool = False,
        timeout: float = 1,
        time_limit: float | None = None,
        idempotency_key: str | None = None,
    ) -> JobAnswer:
        """Run a script that is given as text. `time_limit` is how many seconds it may run."""
        fields = _given(name=name, job=script, type=1, clear=clear, timeout=timeout, time_limit=time_limit)
        return self._submit("/push_job/", fields, idempotency_key)

    def clear(self, name: str, *, timeout: float = 1, idempotency_key: str | None = None) -> JobAnswer:
        """Forget all variables."""
        return self._submit("/clear/", _given(name=name, timeout=timeout), idempotency_key)

    def deploy(
        self, name: str, path: str, *, device: str = "/cpu:0", timeout: float = 1, idempotency_key: str | None = None
    ) -> JobAnswer:
        """Load a model, in place of the one deployed before."""
        fields = _given(name=name, path=path, device=device, timeout=timeout)
        return self._submit("/deploy/", fields, idempotency_key)

    def update(self, name: str, path: str, *, timeout: float = 1, idempotency_key: str | None = None) -> JobAnswer:
        """Swap new weights or a new version into the deployed model, without dropping a request."""
        return self._submit("/update/", _given(name=name, path=path, timeout=timeout), idempotency_key)

    def undeploy(self, name: str, *, timeout: float = 1, idempotency_key: str | None = None) -> JobAnswer:
        """Unload the model and give its memory back."""
        return self._submit("/undeploy/", _given(name=name, timeout=timeout), idempotency_key)

    def predict(
        self,
        name: str,
        fetches: str | Sequence[str],
        feed_dict: Mapping[str, Any] | None = None,
        *,
        signature: str | None = None,
        timeout: float = 1,
        idempotency_key: str | None = None,
    ) -> JobAnswer:
        """Run the deployed model: `result` has one value for each fetched tensor, in the order of `fetches`."""
        fields = _given(name=name, fetches=fetches, feed_dict=feed_dict, signature=signature, timeout=timeout)
        return self._submit("/predict/", fields, idempotency_key)

    # --- jobs and what they leave

    def get_job(self, name: str) -> int:
        """How many jobs are still waiting."""
        return self._post("/get_job/", int, {"name": name})

    def get_finish(self, name: str, job: int | None = None) -> bool:
        """Whether a job (the last one, if none is named) has finished."""
        return self._post("/get_finish/", bool, _given(name=name, job=job))

    def get_result(self, name: str, job: int | None = None) -> Any:
        """A job's result, null while it runs; without `job` the list of the results of all finished jobs."""
        return self._post("/get_result/", Any, _given(name=name, job=job))

    def get_variable(self, name: str, variable: str | Sequence[str] | None = None) -> dict[str, Any]:
        """Variables by name (all, if none is named); null for a name that is not set."""
        return self._post("/get_variable/", dict[str, Any], _given(name=name, variable=variable))

    def cancel_job(self, name: str, job: int) -> str:
        """End a job. Returns when it has really ended: the state that it ended in."""
        # A script may use the whole grace time, and the answer comes only after that.
        ended: dict[str, Any] = self._post("/cancel_job/", dict[str, Any], {"name": name, "job": job})
        return str(ended["state"])

    def jobs(
        self,
        name: str | None = None,
        *,
        state: str | None = None,
        kind: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> tuple[list[dict[str, Any]], int]:
        """One page of jobs, newest first, and how many there are in all."""
        query = _given(name=name, state=state, kind=kind, limit=limit, offset=offset)
        found: dict[str, Any] = self._read(self._send("GET", "/jobs/", params=query), dict[str, Any])
        return found["jobs"], found["total"]

    def job(self, id: int) -> dict[str, Any]:  # noqa: A002
        """Everything that is known of the job with this id."""
        return self._read(self._send("GET", f"/jobs/{id}"), dict[str, Any])

    def read_output(self, id: int, *, offset: int = 0) -> Output:  # noqa: A002
        """The job's output from `offset` (in bytes) to its present end."""
        response = self._send("GET", f"/jobs/{id}/output", params={"offset": offset})
        if response.status_code != httpx.codes.OK:
            raise _refusal(response)
        headers = response.headers
        return Output(response.content, int(headers["X-Next-Offset"]), headers["X-Job-State"])

    def follow_output(self, id: int, *, offset: int = 0, timeout: float | None = None) -> Iterator[str]:  # noqa: A002
        """The job's output, piece by piece as it is written, until the job has ended.

        A connection that breaks is opened again where it broke. Raises `TimeoutError` when the job has not ended after
        about `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            begin = offset
            try:
                for event in self._output_events(id, offset, deadline):
                    offset = event.offset
                    yield event.text
                return
            except ServerUnreachable:
                if offset == begin:  # not a byte since the last attempt: the server is gone
                    raise

    def result_of(self, name: str, job: int, timeout: float = 60) -> Any:
        """Wait up to about `timeout` seconds for a job to end, and return its result.

        Raises `TimeoutError` when it goes on after that. It does not poll: the server tells when the output ends.
        """
        if not self.get_finish(name, job):
            for _ in self.follow_output(self._id_of(name, job), timeout=timeout):
                pass
        return self.get_result(name, job)

    # --- how it travels

    def _id_of(self, name: str, number: int) -> int:
        """The id of a job by its number. The list is newest first, so only a page or two has to be read."""
        offset, total = 0, 1
        while offset < total:
            page, total = self.jobs(name, limit=PAGE, offset=offset)
            for each in page:
                if each["job"] == number:
                    return int(each["id"])
            offset += len(page) or total
        raise ServerRefused(httpx.codes.NOT_FOUND, "not_found", f"Workspace {name!r} has no job {number}.")

    def _output_events(self, id: int, offset: int, deadline: float | None) -> Generator[_OutputEvent]:  # noqa: A002
        """The output from one connection. Returns when the job has ended; a connection that ends earlier is broken."""
        try:
            with self._http.stream(
                "GET",
                f"/jobs/{id}/output",
                params={"offset": offset},
                headers={"Accept": EVENT_STREAM},
                timeout=httpx.Timeout(PATIENCE_S, read=_remaining(deadline)),
            ) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise _refusal(response)
                for kind, data in _events(response.iter_bytes()):
                    if kind == "end":
                        return
                    if kind == "output":
                        yield msgspec.json.decode(data, type=_OutputEvent)
                    _remaining(deadline)
        except httpx.TransportError as error:
            _remaining(deadline)
            raise self._unreachable(error) from error
        raise ServerUnreachable(f"{self._http.base_url} closed the output of job {id} before its end.")

    def _submit(self, path: str, fields: dict[str, Any], idempotency_key: str | None) -> JobAnswer:
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._post(path, JobAnswer, fields, headers=headers, wait_s=fields["timeout"])

    def _post(
        self,
        path: str,
        type_: type[T],
        fields: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
    ) -> T:
        content = b"{}" if fields is None else msgspec.json.encode(fields)
        return self._read(
            self._send(
                "POST",
                path,
                content=content,
                headers={"Content-Type": "application/json", **(headers or {})},
                timeout=httpx.Timeout(PATIENCE_S, read=PATIENCE_S + wait_s),
            ),
            type_,
        )

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _read(self, response: httpx.Response, type_: type[T]) -> T:
        try:
            answer = msgspec.json.decode(response.content, type=_Answer)
        except msgspec.MsgspecError:
            raise _refusal(response) from None
        if not answer.request_result:
            raise _refusal(response)
        return msgspec.convert(answer.result, type_)

    def _unreachable(self, error: httpx.TransportError) -> ServerUnreachable:
        return ServerUnreachable(f"No answer from {self._http.base_url}: {error or type(error).__name__}")


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that were given: the server knows the defaults of the others."""
    return {name: value for name, value in fields.items() if value is not None}


def _remaining(deadline: float | None) -> float | None:
    """Seconds until the deadline. Raises `TimeoutError` when it is past."""
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the job has not ended in the time that it was given")
    return remaining


def _refusal(response: httpx.Response) -> ServerRefused:
    """What the server said. If something else answered, a proxy for example, then its text is the message."""
    status = response.status_code
    try:
        answer = msgspec.json.decode(response.content, type=_Answer)
    except msgspec.MsgspecError:
        return ServerRefused(status, "unknown", response.text[:500] or response.reason_phrase)
    error = answer.error or Failure(message=str(answer.result))
    return ServerRefused(status, error.code, error.message, error.detail)


def _events(chunks: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Server-sent events as (event, data). Lines end with a line feed only: the data is JSON, in which the other
    characters that end a line for `str.splitlines` may stand as they are."""
    event, data = "message", b""
    for line in _lines(chunks):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            event = value.decode()
        elif field == b"data":
            data += value
        elif not line:
            if data:
                yield event, data
            event, data = "message", b""


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
