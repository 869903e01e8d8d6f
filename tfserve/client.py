"""A small HTTP client of the workspace API, for programs in Python.

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
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from tfserve.client_connection import (
    Connection,
    Failure,
    JobAnswer,
    Output,
    ServerRefused,
    ServerUnreachable,
    read,
    refusal,
)

__all__ = ["DEFAULT_URL", "Client", "Failure", "JobAnswer", "Output", "ServerRefused", "ServerUnreachable"]

DEFAULT_URL = "http://127.0.0.1:8000"

#: how many jobs are looked at together to find one by its number
PAGE = 100


class Client:
    """One server, seen from a program. Every method may raise `ServerRefused` and `ServerUnreachable`.

    The calls that submit a job return when it has ended, or after `timeout` seconds: the job goes on then, and
    `result_of` waits for it. A job that failed is no exception: look at `result` and `error` of its answer.
    """

    def __init__(self, base_url: str = DEFAULT_URL) -> None:
        self._connection = Connection(base_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    # --- the service

    def is_ready(self) -> bool:
        """Whether the server can take work. False too while nobody listens there."""
        try:
            return self._connection.send("GET", "/v2/health/ready").status_code == httpx.codes.OK
        except ServerUnreachable:
            return False

    def server(self, since: int | None = None, *, wait: int | None = None) -> dict[str, Any]:
        """The live state of the server; with `since`, once its `revision` is another, or after `wait` seconds."""
        return read(self._connection.send("GET", "/server/", params=_given(since=since, wait=wait)), dict[str, Any])

    def guide(self) -> dict[str, Any]:
        """The API guide: each endpoint's path with its purpose, request fields and result."""
        return self._connection.post("/", dict[str, Any])

    def json_test(self, value: Any) -> Any:
        """The same value back, as JSON makes it."""
        return self._connection.post("/json_test/", Any, value)

    def create(self) -> bool:
        """Turn the workspace service on. True if it was off."""
        return self._connection.post("/create/", bool)

    def destroy(self) -> bool:
        """Turn the workspace service off: every workspace is destroyed. True if it was on."""
        return self._connection.post("/destroy/", bool)

    # --- workspaces

    def create_workspace(self, name: str | None = None, *, type: Literal[0, 1] = 0) -> str:  # noqa: A002
        """The new workspace's name (random when none is given). Type 0 is a process, type 1 a thread."""
        return self._connection.post("/create_workspace/", str, _given(name=name, type=type))

    def destroy_workspace(self, name: str | None = None) -> bool:
        """Destroy one workspace, or all of them. True if something was destroyed."""
        return self._connection.post("/destroy_workspace/", bool, _given(name=name))

    def restart_workspace(self, name: str) -> bool:
        """Give a workspace a fresh process. Its waiting jobs and its deployment are kept, its variables are not."""
        return self._connection.post("/restart_workspace/", bool, {"name": name})

    def get_workspace(self) -> list[str]:
        """The names of all workspaces."""
        return self._connection.post("/get_workspace/", list[str])

    def get_status(self, name: str) -> dict[str, Any]:
        """`STATUS`, `CUR_JOB_NUM`, `FIN_JOB_NUM`, `JOB_COUNT`, `folder` and more, as the API guide tells."""
        return self._connection.post("/get_status/", dict[str, Any], {"name": name})

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
        return self._connection.post("/get_job/", int, {"name": name})

    def get_finish(self, name: str, job: int | None = None) -> bool:
        """Whether a job (the last one, if none is named) has finished."""
        return self._connection.post("/get_finish/", bool, _given(name=name, job=job))

    def get_result(self, name: str, job: int | None = None) -> Any:
        """A job's result, null while it runs; without `job` the list of the results of all finished jobs."""
        return self._connection.post("/get_result/", Any, _given(name=name, job=job))

    def get_variable(self, name: str, variable: str | Sequence[str] | None = None) -> dict[str, Any]:
        """Variables by name (all, if none is named); null for a name that is not set."""
        return self._connection.post("/get_variable/", dict[str, Any], _given(name=name, variable=variable))

    def cancel_job(self, name: str, job: int) -> str:
        """End a job. Returns when it has really ended: the state that it ended in."""
        # A script may use the whole grace time, and the answer comes only after that.
        ended: dict[str, Any] = self._connection.post("/cancel_job/", dict[str, Any], {"name": name, "job": job})
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
        found: dict[str, Any] = read(self._connection.send("GET", "/jobs/", params=query), dict[str, Any])
        return found["jobs"], found["total"]

    def job(self, id: int) -> dict[str, Any]:  # noqa: A002
        """Everything that is known of the job with this id."""
        return read(self._connection.send("GET", f"/jobs/{id}"), dict[str, Any])

    def read_output(self, id: int, *, offset: int = 0) -> Output:  # noqa: A002
        """The job's output from `offset` (in bytes) to its present end."""
        response = self._connection.send("GET", f"/jobs/{id}/output", params={"offset": offset})
        if response.status_code != httpx.codes.OK:
            raise refusal(response)
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
                for event in self._connection.output_events(id, offset, deadline):
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

    def _submit(self, path: str, fields: dict[str, Any], idempotency_key: str | None) -> JobAnswer:
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._connection.post(path, JobAnswer, fields, headers=headers, wait_s=fields["timeout"])


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that were given: the server knows the defaults of the others."""
    return {name: value for name, value in fields.items() if value is not None}
