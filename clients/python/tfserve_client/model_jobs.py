"""Batches, deferred predictions, and callbacks: jobs of models that survive any end of the server."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tfserve_client.core import JSON, Core, encoded, given, result_in, whole
from tfserve_client.downloads import save_response
from tfserve_client.errors import JobTimeout
from tfserve_client.flows import Flow, Request, Work, operation
from tfserve_client.jobs import FINISHED
from tfserve_client.models import v1_path, v2_path
from tfserve_client.output import Output
from tfserve_client.tensors import infer_body, read_outputs

DEFERRED = {"Prefer": "respond-async"}
WAIT_S = 60.0
"""What the server waits at most for the end of a job."""


class ModelJobs(Core):
    """Work that is accepted now and done later. Each method that starts some sends a key, so it starts once."""

    # --- batches

    @operation
    def start_batch(
        self, name: str, input: str, *, format: Literal["auto", "jsonl", "csv", "images"] = "auto",  # noqa: A002
        output: Literal["jsonl", "csv"] = "jsonl", version: int | None = None, signature: str | None = None,
        batch_size: int | None = None, max_errors: int | None = None,
        columns: Sequence[str] | Mapping[str, Any] | None = None, callback: str | None = None, timeout: float = 0,
        idempotency_key: str | None = None,
    ) -> Flow[dict[str, Any]]:  # fmt: skip
        """Run the model of a workspace over a file of rows or a folder of images, and return the batch.

        `input` is `upload:<id>`, `workspace:<path>` or a path on the server. `wait_for_batch` takes the `id`.
        """
        fields = given(
            name=name, input=input, format=format, output=output, version=version, signature=signature,
            batch_size=batch_size, max_errors=max_errors, columns=columns, callback=callback, timeout=timeout,
        )  # fmt: skip
        return self._post("/batch/", fields, headers=_key(idempotency_key), wait_s=timeout, idempotent=True)

    @operation
    def resume_batch(
        self, id: int, *, max_errors: int | None = None, callback: str | None = None,  # noqa: A002
        timeout: float = 0, idempotency_key: str | None = None,
    ) -> Flow[dict[str, Any]]:  # fmt: skip
        """Continue a batch that failed, was cancelled or was lost, as a new batch with the rows that are done.

        `max_errors` must be larger than before if too many failed rows ended the old batch.
        """
        fields = given(max_errors=max_errors, callback=callback, timeout=timeout)
        path = f"/batch/{id}/resume"
        return self._post(path, fields, headers=_key(idempotency_key), wait_s=timeout, idempotent=True)

    @operation
    def batch(self, id: int, *, wait: float | None = None) -> Flow[dict[str, Any]]:  # noqa: A002
        """The progress of a batch: state, done, total, errors, rows_per_s, time_left_s. `wait` waits for its end."""
        return self._get(f"/batch/{id}", wait=whole(wait), wait_s=wait or 0)

    @operation
    def wait_for_batch(self, id: int, timeout: float | None = None) -> Flow[dict[str, Any]]:  # noqa: A002
        """The batch when it has ended, after at most about `timeout` seconds. Raises `JobTimeout`."""
        return self._ended(f"/batch/{id}", id, timeout)

    @operation
    def read_batch_output(self, id: int, *, offset: int = 0, wait: float | None = None) -> Flow[Output]:  # noqa: A002
        """The lines of a batch's output that are there, from `offset` on (in bytes). `wait` waits for a next one."""
        params = given(offset=offset, wait=whole(wait))
        response = yield from self._send(
            Request("GET", f"/batch/{id}/output", params, wait_s=wait or 0, idempotent=True)
        )
        headers = response.headers
        return Output(response.content, int(headers["X-Next-Offset"]), headers["X-Job-State"])

    @operation
    def download_batch_output(self, id: int, target: str | Path) -> Flow[int]:  # noqa: A002
        """Write the output that is there to the local path `target`. Returns its size in bytes."""
        return save_response(self, f"/batch/{id}/output", Path(target))

    # --- deferred predictions

    @operation
    def infer_later(
        self, model: str, inputs: Mapping[str, Any], *, outputs: Sequence[str] | None = None,
        version: str | None = None, callback: str | None = None, idempotency_key: str | None = None,
    ) -> Flow[int]:  # fmt: skip
        """Record a prediction on arrays (v2), and return the id of its job. `later_outputs` has the outputs."""
        found = yield from self._get(v2_path(model, version))
        datatypes = {each["name"]: each["datatype"] for each in found["inputs"]}
        body = yield Work(partial(infer_body, inputs, datatypes, outputs=outputs))
        headers = {**body.headers, **_deferral(callback, idempotency_key)}
        path = f"{v2_path(model, version)}/infer"
        response = yield from self._send(Request("POST", path, content=body.content, headers=headers, idempotent=True))
        return int(result_in(response)["id"])

    @operation
    def later_outputs(self, id: int, timeout: float | None = None) -> Flow[dict[str, Any]]:  # noqa: A002
        """The outputs of `infer_later`, after waiting for them. Raises the error of the prediction, `JobTimeout`."""
        yield from self._ended(f"/jobs/{id}", id, timeout)
        response = yield from self._send(Request("GET", f"/jobs/{id}/result", idempotent=True))
        return read_outputs(response)

    @operation
    def predict_rows_later(
        self, model: str, instances: Sequence[Any], *, signature_name: str | None = None, version: str | None = None,
        callback: str | None = None, idempotency_key: str | None = None,
    ) -> Flow[int]:  # fmt: skip
        """Record a prediction on rows of JSON (v1), and return the id of its job. `later_result` has the result."""
        content = encoded(given(instances=instances, signature_name=signature_name))
        headers = {**JSON, **_deferral(callback, idempotency_key)}
        path = f"{v1_path(model, version)}:predict"
        response = yield from self._send(Request("POST", path, content=content, headers=headers, idempotent=True))
        return int(result_in(response)["id"])

    @operation
    def later_result(self, id: int, timeout: float | None = None) -> Flow[Any]:  # noqa: A002
        """The JSON of a deferred prediction, after waiting for it. Raises the error of the prediction, `JobTimeout`."""
        yield from self._ended(f"/jobs/{id}", id, timeout)
        return (yield from self._get(f"/jobs/{id}/result"))

    @operation
    def job_response(self, id: int, *, wait: float | None = None) -> Flow[bytes]:  # noqa: A002
        """The response of a deferred prediction as bytes. `wait` is how long to wait for it, in seconds."""
        path = f"/jobs/{id}/result"
        response = yield from self._send(
            Request("GET", path, given(wait=whole(wait)), wait_s=wait or 0, idempotent=True)
        )
        return bytes(response.content)

    # --- jobs by their id, and callbacks

    @operation
    def repeat_job(self, id: int, *, idempotency_key: str | None = None) -> Flow[dict[str, Any]]:  # noqa: A002
        """Run a deferred prediction or a batch that has ended again, from the beginning, and return the new job."""
        return self._post(f"/jobs/{id}/repeat", headers=_key(idempotency_key), wait_s=None, idempotent=True)

    @operation
    def cancel_job_by_id(self, id: int) -> Flow[str]:  # noqa: A002
        """Cancel a job of any kind except a training, wait until it has ended, and return its final state."""
        ended = yield from self._post(f"/jobs/{id}/cancel", wait_s=None, idempotent=True)
        return str(ended["state"])

    @operation
    def callback_secret(self) -> Flow[str]:
        """The key of the signature of your callbacks."""
        found = yield from self._get("/callbacks/secret")
        return str(found["secret"])

    def _ended(self, path: str, id: int, timeout: float | None) -> Flow[dict[str, Any]]:  # noqa: A002
        left_s = timeout
        while True:
            wait_s = WAIT_S if left_s is None else max(0.0, min(WAIT_S, left_s))
            found: dict[str, Any] = yield from self._get(path, wait=whole(wait_s), wait_s=wait_s)
            if found["state"] in FINISHED:
                return found
            left_s = None if left_s is None else left_s - wait_s
            if left_s is not None and left_s <= 0:
                raise JobTimeout(f"Job {id} has not ended after {timeout:g} s; its state is {found['state']}.")


def _key(given_key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": given_key or secrets.token_hex(16)}


def _deferral(callback: str | None, idempotency_key: str | None) -> dict[str, str]:
    return {**DEFERRED, **_key(idempotency_key), **({"X-TFserve-Callback": callback} if callback else {})}
