"""Models: deploying them, and what the server knows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tfserve_client.core import Core, given, in_path
from tfserve_client.errors import from_response
from tfserve_client.flows import Flow, Request, operation, submission
from tfserve_client.jobs import submit


class Models(Core):
    """Each workspace has at most one deployed model. The name of the model is that of the workspace."""

    @submission
    def deploy(
        self, name: str, path: str, *, device: str | None = None, device_memory: str | None = None,
        replicas: int | None = None, runtime: str | None = None, precision: str | None = None,
        max_batch_size: int | None = None, max_delay: float | None = None, computations: int | None = None,
        image: Mapping[str, Any] | None = None, warm_up: bool | Mapping[str, Any] | None = None,
        stateless: bool | None = None, idle_after: float | None = None, placement: str | None = None,
        resources: Mapping[str, Any] | None = None, autoscale: Mapping[str, Any] | None = None,
        inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None, timeout: float = 1,
        time_limit: float | None = None, callback: str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[Any]:  # fmt: skip
        """Load a model, replacing the deployed one. `guide` describes the options and their defaults.

        `path` is on the server, `upload:<id>`, or `task:<taskId>` for the result of a training. `resources` is what
        each process needs, such as {"gpu": 1}; with `autoscale` the load decides how many there are: {"max": 4}.
        """
        fields = given(
            name=name, path=path, device=device, device_memory=device_memory, replicas=replicas, runtime=runtime,
            precision=precision, max_batch_size=max_batch_size, max_delay=max_delay, computations=computations,
            image=image, warm_up=warm_up, stateless=stateless, idle_after=idle_after, placement=placement,
            resources=resources, autoscale=autoscale, inputs=inputs, outputs=outputs, timeout=timeout,
            time_limit=time_limit, callback=callback,
        )  # fmt: skip
        return submit(self, "/deploy/", fields, idempotency_key)

    @submission
    def update(
        self, name: str, path: str, *, warm_up: bool | Mapping[str, Any] | None = None,
        idle_after: float | None = None, replicas: int | None = None, placement: str | None = None,
        resources: Mapping[str, Any] | None = None, autoscale: Mapping[str, Any] | bool | None = None,
        timeout: float = 1, time_limit: float | None = None, callback: str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[Any]:  # fmt: skip
        """Swap new weights or a new version into the deployed model, without dropping a request.

        What is not given stays as deployed. `autoscale=False` keeps a fixed number of replicas from now on.
        """
        fields = given(
            name=name, path=path, warm_up=warm_up, idle_after=idle_after, replicas=replicas, placement=placement,
            resources=resources, autoscale=autoscale, timeout=timeout, time_limit=time_limit, callback=callback,
        )  # fmt: skip
        return submit(self, "/update/", fields, idempotency_key)

    @submission
    def undeploy(
        self,
        name: str,
        *,
        timeout: float = 1,
        time_limit: float | None = None,
        callback: str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[Any]:
        """Unload the model and release its memory."""
        return submit(
            self,
            "/undeploy/",
            given(name=name, timeout=timeout, time_limit=time_limit, callback=callback),
            idempotency_key,
        )

    @operation
    def scale(
        self, name: str, replicas: int | None = None, *, autoscale: Mapping[str, Any] | bool | None = None
    ) -> Flow[bool]:
        """Change the number of processes that serve the deployed model, or the limits of its autoscaling.

        Returns when they serve. A model that scales by itself takes `replicas` only with `autoscale=False`.
        """
        fields = given(name=name, replicas=replicas, autoscale=autoscale)
        return self._post("/scale/", fields, wait_s=None, idempotent=True)

    # --- what is deployed

    @operation
    def models(self) -> Flow[list[dict[str, Any]]]:
        """Every version of every model: {name, version, state, format, runtime, signatures}."""
        found = yield from self._get("/v1/models")
        return list(found["models"])

    @operation
    def model_versions(self, model: str, version: str | None = None) -> Flow[list[dict[str, Any]]]:
        """The state of each version of a model: {version, state, status}."""
        found = yield from self._get(v1_path(model, version))
        return list(found["model_version_status"])

    @operation
    def model_names(self) -> Flow[list[str]]:
        """The names of the deployed models."""
        found = yield from self._get("/v2/models")
        return list(found["models"])

    @operation
    def model(self, model: str, version: str | None = None) -> Flow[dict[str, Any]]:
        """Name, versions, inputs and outputs of a model."""
        return self._get(v2_path(model, version))

    @operation
    def signatures(self, model: str, version: str | None = None) -> Flow[dict[str, Any]]:
        """The signatures of a model, in the format of TensorFlow Serving."""
        return self._get(f"{v1_path(model, version)}/metadata")

    @operation
    def example(self, model: str, version: str | None = None) -> Flow[dict[str, Any]]:
        """A sample request for a model, also as commands and code."""
        return self._get(f"{v1_path(model, version)}/example")

    @operation
    def is_model_ready(self, model: str, version: str | None = None) -> Flow[bool]:
        """Whether a model accepts predictions now: one attempt. Raises `Unreachable`, and `Unauthenticated`."""
        response: httpx.Response = yield Request("GET", f"{v2_path(model, version)}/ready")
        if response.status_code in (401, 403):
            raise from_response(response)
        return response.is_success

    @operation
    def model_config(self, model: str, version: str | None = None) -> Flow[dict[str, Any]]:
        """The configuration of a model, in the format of Triton."""
        return self._get(f"{v2_path(model, version)}/config")

    @operation
    def model_statistics(self, model: str | None = None, version: str | None = None) -> Flow[dict[str, Any]]:
        """Numbers and times of the predictions of a model, or of all."""
        return self._get("/v2/models/stats" if model is None else f"{v2_path(model, version)}/stats")

    @operation
    def repository(self, *, ready: bool = False) -> Flow[list[dict[str, Any]]]:
        """Loaded models, and unless `ready` is true, also the last deployment of workspaces without one."""
        return self._post("/v2/repository/index", {"ready": ready}, idempotent=True)

    @operation
    def load_model(self, model: str, path: str | None = None) -> Flow[Any]:
        """Repeat the last deployment of a workspace, or deploy `path`. Returns when the model is loaded."""
        fields = {} if path is None else {"parameters": {"path": path}}
        return self._post(f"/v2/repository/models/{in_path(model)}/load", fields, wait_s=None)

    @operation
    def unload_model(self, model: str) -> Flow[Any]:
        """Undeploy the model of a workspace."""
        return self._post(f"/v2/repository/models/{in_path(model)}/unload", wait_s=None, idempotent=True)


def v1_path(model: str, version: str | None = None) -> str:
    return f"/v1/models/{in_path(model)}" + ("" if version is None else f"/versions/{in_path(version)}")


def v2_path(model: str, version: str | None = None) -> str:
    return f"/v2/models/{in_path(model)}" + ("" if version is None else f"/versions/{in_path(version)}")
