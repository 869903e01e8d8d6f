"""Jobs: submitting scripts, the handle of a job, and lists of jobs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfserve_client.core import Core, given, whole
from tfserve_client.errors import JobFailed, NotFound
from tfserve_client.flows import Flow, Runs, RunsAsync, Stream, operation, stream, submission
from tfserve_client.output import Output, follow_output, read_output, texts, until_ended

PAGE = 100
"""Jobs per page for finding a job by its number."""
FINISHED = ("succeeded", "failed", "cancelled", "lost")


@dataclass(frozen=True)
class Failure:
    """Why a job failed. The error of a script has `type` and `traceback` too."""

    code: str = "unknown"
    message: str = ""
    type: str | None = None
    traceback: str | None = None
    detail: dict[str, Any] | None = None


@dataclass
class JobState:
    """What is known of a job. `wait` brings it up to date.

    `job` is its number in the workspace, `id` its id on the server, `state` one of queued, running, succeeded, failed,
    cancelled and lost. `result` is true or false (of a prediction: a list or None), None while it runs. `time` are the
    seconds that the request waited. `details` has what else the server said, such as `version` after a deployment.
    """

    workspace: str
    job: int
    id: int
    state: str
    finish: bool = False
    result: Any = None
    time: float = 0.0
    variable: dict[str, Any] = field(default_factory=dict)
    error: Failure | None = None
    stdout: str = ""
    stderr: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    _core: Any = field(default=None, repr=False, compare=False)

    @operation
    def wait(self, timeout: float | None = None) -> Flow[bool]:
        """Wait until the job has ended, at most about `timeout` seconds. Whether it succeeded. Raises `JobTimeout`."""
        if not self.finish:
            yield from until_ended(self._core, self._output, timeout)
            yield from self._refresh()
        return self.state == "succeeded"

    @stream
    def output(self, *, offset: int = 0, timeout: float | None = None) -> Stream[str]:
        """The output as it is written, until the job has ended. Then `state`, `result` and `error` are set.

        Reconnects where a broken connection stopped. Raises `JobTimeout` if the job has not ended after about
        `timeout` seconds.
        """
        yield from follow_output(self._core, self._output, offset, timeout, texts)
        yield from self._refresh()

    @operation
    def cancel(self) -> Flow[str]:
        """Cancel the job, wait until it has ended, and return its final state."""
        yield from self._core._post("/cancel_job/", {"name": self.workspace, "job": self.job}, wait_s=None)
        yield from self._refresh()
        return self.state

    def raise_for_error(self) -> None:
        """Raises `JobFailed` if the job has failed, was cancelled or lost."""
        if self.finish and self.state != "succeeded":
            failure = self.error or Failure(self.state, f"Job {self.job} of workspace {self.workspace!r}: {self.state}")
            raise JobFailed(
                failure.message, code=failure.code, type=failure.type, traceback=failure.traceback,
                detail=failure.detail,
            )  # fmt: skip

    @property
    def _output(self) -> str:
        return f"/jobs/{self.id}/output"

    def _refresh(self) -> Flow[None]:
        found = yield from self._core._get(f"/jobs/{self.id}")
        self.state, self.result = found["state"], found["result"]
        self.finish = self.state in FINISHED
        self.error = failure_in(found)
        detail = found.get("detail") or {}
        self.stdout, self.stderr = detail.pop("stdout", ""), detail.pop("stderr", "")
        self.details |= detail


class Job(JobState, Runs):
    """A job of `Client`."""

    def _run(self, flow: Flow[Any]) -> Any:
        return self._core._run(flow)

    def _iterate(self, stream: Stream[Any]) -> Any:
        return self._core._iterate(stream)


class AsyncJob(JobState, RunsAsync):
    """A job of `AsyncClient`."""

    async def _run(self, flow: Flow[Any]) -> Any:
        return await self._core._run(flow)

    def _iterate(self, stream: Stream[Any]) -> Any:
        return self._core._iterate(stream)


_FIELDS = ("job", "id", "state", "finish", "result", "time", "variable", "stdout", "stderr")


def job_fields(workspace: str, response: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job, from the response to a request that submitted it or asked about it."""
    known = {name: response[name] for name in _FIELDS if response.get(name) is not None}
    known.setdefault("finish", known["state"] in FINISHED)
    details = {name: value for name, value in response.items() if name not in (*_FIELDS, "error")}
    return {"workspace": workspace, **known, "error": failure_in(response), "details": details}


def failure_in(response: Mapping[str, Any]) -> Failure | None:
    error = response.get("error")
    if not isinstance(error, dict):
        return None
    known: dict[str, Any] = {name: error[name] for name in Failure.__dataclass_fields__ if name in error}
    return Failure(**known)


def submit(core: Core, path: str, fields: Mapping[str, Any], idempotency_key: str | None) -> Flow[Any]:
    """Submits a job exactly once: the key lets the server recognise a request that is sent again."""
    headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
    wait_s = float(fields.get("timeout", 1))
    response = yield from core._post(path, fields, headers=headers, wait_s=wait_s, idempotent=True)
    return core._job(str(fields["name"]), response)


class Jobs(Core):
    """Scripts and jobs. Methods that submit a job return it when it has finished, or after `timeout` seconds.

    A failed job does not raise: look at `error`, or call `raise_for_error`.
    """

    @submission
    def push_script(
        self, name: str, script: str, *, clear: bool = False, timeout: float = 1, time_limit: float | None = None,
        resources: Mapping[str, Any] | None = None, callback: str | None = None, idempotency_key: str | None = None,
    ) -> Flow[Any]:  # fmt: skip
        """Run a script that is given as text. `time_limit` is its maximum run time in seconds.

        It is refused if the workspace does not have the `resources`, such as {"gpu": 1}.
        """
        fields = given(
            name=name, job=script, type=1, clear=clear, timeout=timeout, time_limit=time_limit, resources=resources,
            callback=callback,
        )  # fmt: skip
        return submit(self, "/push_job/", fields, idempotency_key)

    @submission
    def push_file(
        self, name: str, path: str, *, clear: bool = False, timeout: float = 1, time_limit: float | None = None,
        resources: Mapping[str, Any] | None = None, callback: str | None = None, idempotency_key: str | None = None,
    ) -> Flow[Any]:  # fmt: skip
        """Run a script file of the server's disk, or `upload:<id>`. `time_limit` is its maximum run time in seconds."""
        fields = given(
            name=name, job=path, type=0, clear=clear, timeout=timeout, time_limit=time_limit, resources=resources,
            callback=callback,
        )  # fmt: skip
        return submit(self, "/push_job/", fields, idempotency_key)

    @submission
    def clear(
        self,
        name: str,
        *,
        timeout: float = 1,
        time_limit: float | None = None,
        callback: str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[Any]:
        """Delete all variables."""
        fields = given(name=name, timeout=timeout, time_limit=time_limit, callback=callback)
        return submit(self, "/clear/", fields, idempotency_key)

    @submission
    def predict(
        self, name: str, fetches: str | Sequence[str], feed_dict: Mapping[str, Any] | None = None, *,
        signature: str | None = None, timeout: float = 1, time_limit: float | None = None,
        callback: str | None = None, idempotency_key: str | None = None,
    ) -> Flow[Any]:  # fmt: skip
        """Run the deployed model as a job. `result` has one value per fetched tensor, in the order of `fetches`.

        `infer` is faster, because it needs no job.
        """
        fields = given(
            name=name,
            fetches=fetches,
            feed_dict=feed_dict,
            signature=signature,
            timeout=timeout,
            time_limit=time_limit,
            callback=callback,
        )
        return submit(self, "/predict/", fields, idempotency_key)

    @submission
    def find_job(self, id: int) -> Flow[Any]:  # noqa: A002
        """The job with this id."""
        found = yield from self._get(f"/jobs/{id}")
        details = found.pop("detail", None) or {}
        return self._job(found["workspace"] or "", {**found, **details})

    @operation
    def job(self, id: int, *, wait: float | None = None) -> Flow[dict[str, Any]]:  # noqa: A002
        """All that the server knows of the job with this id. `wait` is how long to wait for its end, in seconds."""
        return self._get(f"/jobs/{id}", wait=whole(wait), wait_s=wait or 0)

    @operation
    def jobs(
        self, name: str | None = None, *, state: str | None = None, kind: str | None = None, limit: int | None = None,
        offset: int | None = None,
    ) -> Flow[tuple[list[dict[str, Any]], int]]:  # fmt: skip
        """One page of jobs, newest first, and the total number of jobs."""
        found = yield from self._get("/jobs/", name=name, state=state, kind=kind, limit=limit, offset=offset)
        return found["jobs"], found["total"]

    @operation
    def cancel_job(self, name: str, job: int) -> Flow[str]:
        """Cancel a job by its number, wait until it has ended, and return its final state."""
        # A script may use the whole grace period before the server responds.
        ended = yield from self._post("/cancel_job/", {"name": name, "job": job}, wait_s=None, idempotent=True)
        return str(ended["state"])

    @operation
    def get_job(self, name: str) -> Flow[int]:
        """The number of queued jobs."""
        return self._post("/get_job/", {"name": name}, idempotent=True)

    @operation
    def get_finish(self, name: str, job: int | None = None) -> Flow[bool]:
        """Whether a job (default: the last one) has finished."""
        return self._post("/get_finish/", given(name=name, job=job), idempotent=True)

    @operation
    def get_result(self, name: str, job: int | None = None) -> Flow[Any]:
        """The result of a job, None while it runs. Without `job`, the results of all finished jobs."""
        return self._post("/get_result/", given(name=name, job=job), idempotent=True)

    @operation
    def read_output(self, id: int, *, offset: int = 0) -> Flow[Output]:  # noqa: A002
        """The output of a job so far, from `offset` (in bytes)."""
        return read_output(self, f"/jobs/{id}/output", offset)

    @stream
    def follow_output(self, id: int, *, offset: int = 0, timeout: float | None = None) -> Stream[str]:  # noqa: A002
        """The output of a job as it is written, until the job has ended. See `Job.output`."""
        return follow_output(self, f"/jobs/{id}/output", offset, timeout, texts)

    @operation
    def result_of(self, name: str, job: int, timeout: float = 60) -> Flow[Any]:
        """Wait up to about `timeout` seconds for a job, and return its result. Raises `JobTimeout`."""
        if not (yield from self._post("/get_finish/", {"name": name, "job": job}, idempotent=True)):
            job_id = yield from self._id_of(name, job)
            yield from until_ended(self, f"/jobs/{job_id}/output", timeout)
        return (yield from self._post("/get_result/", {"name": name, "job": job}, idempotent=True))

    def _id_of(self, name: str, number: int) -> Flow[int]:
        """The id of a job by its number. The list is newest first, so this reads a page or two."""
        offset, total = 0, 1
        while offset < total:
            found = yield from self._get("/jobs/", name=name, limit=PAGE, offset=offset)
            for each in found["jobs"]:
                if each["job"] == number:
                    return int(each["id"])
            total = found["total"]
            offset += len(found["jobs"]) or total
        raise NotFound(f"Workspace {name!r} has no job {number}.", status=404)
