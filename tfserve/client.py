"""A small Python client for the workspace API.

    from tfserve.client import Client

    with Client("http://127.0.0.1:8000") as client:
        name = client.create_workspace()
        job = client.push_script(name, "x = 6 * 7", timeout=10)
        assert client.get_variable(name, "x") == {"x": 42}

It has a method for every endpoint, with the endpoint's name, fields and defaults. It does not import TensorFlow, Django
or numpy. Threads may share a client.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
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
    tls_context,
)
from tfserve.client_upload import upload

__all__ = ["DEFAULT_URL", "Client", "Failure", "JobAnswer", "Output", "ServerRefused", "ServerUnreachable"]

DEFAULT_URL = "http://127.0.0.1:8000"

#: page size for finding a job by its number
PAGE = 100


class Client:
    """A client for one server. Every method may raise `ServerRefused` and `ServerUnreachable`.

    Methods that submit a job return when it has finished, or after `timeout` seconds. In the latter case the job keeps
    running and `result_of` waits for it. A failed job does not raise: check `result` and `error` of the response.

    `ca_file` is the CA or self-signed certificate of a server with TLS, in addition to the CAs of the system.
    `certificate` has the files of the client's certificate and key, if the server requires one.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        ca_file: str | Path | None = None,
        certificate: tuple[str | Path, str | Path] | None = None,
    ) -> None:
        self._connection = Connection(base_url, tls_context(ca_file, certificate))

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
        """Whether the server is ready for work. Also False if nothing listens at its address."""
        try:
            return self._connection.send("GET", "/v2/health/ready").status_code == httpx.codes.OK
        except ServerUnreachable:
            return False

    def server(self, since: int | None = None, *, wait: int | None = None) -> dict[str, Any]:
        """The live state of the server. With `since`, waits up to `wait` seconds until `revision` differs from it."""
        return read(self._connection.send("GET", "/server/", params=_given(since=since, wait=wait)), dict[str, Any])

    def guide(self) -> dict[str, Any]:
        """The API guide: purpose, request fields and result of each endpoint, by path."""
        return self._connection.post("/", dict[str, Any])

    def json_test(self, value: Any) -> Any:
        """Echo `value` after a round trip through JSON."""
        return self._connection.post("/json_test/", Any, value)

    def create(self) -> bool:
        """Turn the workspace service on. True if it was off."""
        return self._connection.post("/create/", bool)

    def destroy(self) -> bool:
        """Turn the workspace service off: every workspace is destroyed. True if it was on."""
        return self._connection.post("/destroy/", bool)

    # --- workspaces

    def create_workspace(
        self,
        name: str | None = None,
        *,
        type: Literal[0, 1] = 0,  # noqa: A002
        limits: Mapping[str, Any] | None = None,
    ) -> str:
        """The new workspace's name (random when none is given). Type 0 is a process, type 1 a thread.

        `limits` are below those of the server, for example {"memory": "2GiB"}.
        """
        return self._connection.post("/create_workspace/", str, _given(name=name, type=type, limits=limits))

    def destroy_workspace(self, name: str | None = None) -> bool:
        """Destroy one workspace, or all of them. True if something was destroyed."""
        return self._connection.post("/destroy_workspace/", bool, _given(name=name))

    def restart_workspace(self, name: str) -> bool:
        """Restart a workspace in a fresh process. Queued jobs and the deployment are kept, variables are lost."""
        return self._connection.post("/restart_workspace/", bool, {"name": name})

    def get_workspace(self) -> list[str]:
        """The names of all workspaces."""
        return self._connection.post("/get_workspace/", list[str])

    def get_status(self, name: str) -> dict[str, Any]:
        """`STATUS`, `CUR_JOB_NUM`, `FIN_JOB_NUM`, `JOB_COUNT`, `folder` and more; see the API guide."""
        return self._connection.post("/get_status/", dict[str, Any], {"name": name})

    # --- uploads

    def upload(self, path: str | Path, *, name: str | None = None, unpack: bool = True) -> str:
        """Upload a file, or a folder as an archive, and return `upload:<id>`, which all methods take as a path.

        Archives (.zip, .tar, .tar.gz, .tgz) are unpacked unless `unpack` is false. Continues after a broken connection.
        """
        return upload(self._connection, Path(path), name=name, unpack=unpack)

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
        """Run a script file from the server's disk. `time_limit` is its maximum run time in seconds."""
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
        """Run a script given as text. `time_limit` is its maximum run time in seconds."""
        fields = _given(name=name, job=script, type=1, clear=clear, timeout=timeout, time_limit=time_limit)
        return self._submit("/push_job/", fields, idempotency_key)

    def clear(
        self, name: str, *, timeout: float = 1, time_limit: float | None = None, idempotency_key: str | None = None
    ) -> JobAnswer:
        """Delete all variables."""
        return self._submit("/clear/", _given(name=name, timeout=timeout, time_limit=time_limit), idempotency_key)

    def deploy(
        self,
        name: str,
        path: str,
        *,
        device: str = "/cpu:0",
        device_memory: str | None = None,
        replicas: int | None = None,
        runtime: str | None = None,
        precision: str | None = None,
        max_batch_size: int | None = None,
        max_delay: float | None = None,
        image: Mapping[str, Any] | None = None,
        warm_up: bool | Mapping[str, Any] | None = None,
        stateless: bool | None = None,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float = 1,
        time_limit: float | None = None,
        idempotency_key: str | None = None,
    ) -> JobAnswer:
        """Load a model, replacing the one that is deployed. The API guide describes the options and their defaults."""
        fields = _given(
            name=name, path=path, device=device, device_memory=device_memory, replicas=replicas, runtime=runtime,
            precision=precision, max_batch_size=max_batch_size, max_delay=max_delay, image=image, warm_up=warm_up,
            stateless=stateless, inputs=inputs, outputs=outputs, timeout=timeout, time_limit=time_limit,
        )  # fmt: skip
        return self._submit("/deploy/", fields, idempotency_key)

    def update(
        self,
        name: str,
        path: str,
        *,
        warm_up: bool | Mapping[str, Any] | None = None,
        timeout: float = 1,
        time_limit: float | None = None,
        idempotency_key: str | None = None,
    ) -> JobAnswer:
        """Swap new weights or a new version into the deployed model, without dropping a request."""
        fields = _given(name=name, path=path, warm_up=warm_up, timeout=timeout, time_limit=time_limit)
        return self._submit("/update/", fields, idempotency_key)

    def undeploy(
        self, name: str, *, timeout: float = 1, time_limit: float | None = None, idempotency_key: str | None = None
    ) -> JobAnswer:
        """Unload the model and release its memory."""
        return self._submit("/undeploy/", _given(name=name, timeout=timeout, time_limit=time_limit), idempotency_key)

    def predict(
        self,
        name: str,
        fetches: str | Sequence[str],
        feed_dict: Mapping[str, Any] | None = None,
        *,
        signature: str | None = None,
        timeout: float = 1,
        time_limit: float | None = None,
        idempotency_key: str | None = None,
    ) -> JobAnswer:
        """Run the deployed model. `result` has one value per fetched tensor, in the order of `fetches`."""
        fields = _given(
            name=name, fetches=fetches, feed_dict=feed_dict, signature=signature, timeout=timeout, time_limit=time_limit
        )
        return self._submit("/predict/", fields, idempotency_key)

    # --- the deployed model

    def scale(self, name: str, replicas: int) -> bool:
        """Change the number of processes that serve the deployed model, without interruption."""
        return self._connection.post("/scale/", bool, {"name": name, "replicas": replicas})

    # --- jobs and their results

    def get_job(self, name: str) -> int:
        """The number of queued jobs."""
        return self._connection.post("/get_job/", int, {"name": name})

    def get_finish(self, name: str, job: int | None = None) -> bool:
        """Whether a job (default: the last one) has finished."""
        return self._connection.post("/get_finish/", bool, _given(name=name, job=job))

    def get_result(self, name: str, job: int | None = None) -> Any:
        """A job's result, or None while it runs. Without `job`, the results of all finished jobs."""
        return self._connection.post("/get_result/", Any, _given(name=name, job=job))

    def get_variable(self, name: str, variable: str | Sequence[str] | None = None) -> dict[str, Any]:
        """Variables by name (default: all). Names that are not set map to None."""
        return self._connection.post("/get_variable/", dict[str, Any], _given(name=name, variable=variable))

    def cancel_job(self, name: str, job: int) -> str:
        """Cancel a job, wait until it has ended, and return its final state."""
        # A script may use the whole grace period before the server responds.
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
        """One page of jobs, newest first, and the total number of jobs."""
        query = _given(name=name, state=state, kind=kind, limit=limit, offset=offset)
        found: dict[str, Any] = read(self._connection.send("GET", "/jobs/", params=query), dict[str, Any])
        return found["jobs"], found["total"]

    def job(self, id: int) -> dict[str, Any]:  # noqa: A002
        """All details of the job with this id."""
        return read(self._connection.send("GET", f"/jobs/{id}"), dict[str, Any])

    def read_output(self, id: int, *, offset: int = 0) -> Output:  # noqa: A002
        """The job's output so far, from `offset` (in bytes)."""
        response = self._connection.send("GET", f"/jobs/{id}/output", params={"offset": offset})
        if response.status_code != httpx.codes.OK:
            raise refusal(response)
        headers = response.headers
        return Output(response.content, int(headers["X-Next-Offset"]), headers["X-Job-State"])

    def follow_output(self, id: int, *, offset: int = 0, timeout: float | None = None) -> Iterator[str]:  # noqa: A002
        """Yield the job's output as it is written, until the job has ended.

        Reconnects where a broken connection stopped. Raises `TimeoutError` when the job has not ended after about
        `timeout` seconds.
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
                if offset == begin:  # no output since the last attempt: the server is gone
                    raise

    def result_of(self, name: str, job: int, timeout: float = 60) -> Any:
        """Wait up to about `timeout` seconds for a job and return its result.

        Raises `TimeoutError` if it is still running then. Does not poll: the server closes the output stream.
        """
        if not self.get_finish(name, job):
            for _ in self.follow_output(self._id_of(name, job), timeout=timeout):
                pass
        return self.get_result(name, job)

    # --- helpers

    def _id_of(self, name: str, number: int) -> int:
        """The id of a job by its number. The list is newest first, so this reads a page or two."""
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
    """The fields that were given. The server fills in the defaults of the others."""
    return {name: value for name, value in fields.items() if value is not None}
