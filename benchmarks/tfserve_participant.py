"""TFserve itself, behind the same interface as the peers."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.participants import Running
from benchmarks.peers.environments import Unavailable
from benchmarks.requests import Request, Samples, instances, model_of, v2
from benchmarks.server_process import REPOSITORY, ServerProcess

DEPLOY_S = 120
CHOICE_S = 300
IMAGES: dict[str, dict[str, Any]] = {
    "mobilenet": {"height": 224, "width": 224, "scale": 1 / 127.5, "offset": -1, "antialias": False},
}
"""How image files become the input, so that every runtime can serve them."""


@dataclass(frozen=True)
class Variant:
    runtime: str
    title: str


VARIANTS = {
    "tfserve": Variant("tensorflow", "TFserve, TensorFlow runtime"),
    "tfserve-auto": Variant("auto", "TFserve, runtime `auto`"),
}


class TFserve:
    def __init__(self, variant: Variant, *, checkout: Path = REPOSITORY) -> None:
        self.title = variant.title
        self._runtime = variant.runtime
        self._checkout = checkout
        self.notes: list[str] = []
        """What `auto` chose: a busy machine may lead to another choice."""
        self._conversions: Path | None = None
        """Of the last server: the trials of a model are made once in a run, not again for each of its rows."""

    def ask(self, row: str, samples: Samples) -> Request | str:
        name = model_of(row)
        if row == "mobilenet-raw":
            return v2(f"/v2/models/{name}/infer", row, samples)
        fields = {"signature_name": "image_bytes"} if row == "mobilenet-jpeg" else {}
        return instances(f"/v1/models/{name}:predict", row, samples, **fields)

    def versions(self) -> str:
        return f"tfserve {version('tfserve')}, tensorflow-cpu {version('tensorflow-cpu')}"

    @contextmanager
    def serve(self, model: str, path: Path, folder: Path) -> Iterator[Running]:
        place = Path(tempfile.mkdtemp(dir=folder, prefix="tfserve-"))
        if self._conversions:
            shutil.copytree(self._conversions, place / "data" / "conversions")
        with ExitStack() as stack:
            try:
                server = stack.enter_context(ServerProcess(place, checkout=self._checkout))
            except RuntimeError as error:
                raise Unavailable(str(error)[:300]) from error
            deploy(server, model, path, self._runtime, image=IMAGES.get(model))
            if self._runtime == "auto":
                choice = wait_until_chosen(server, model)
                self.notes = list(dict.fromkeys([*self.notes, f"{model}: {choice}"]))
                self._conversions = place / "data" / "conversions"
            server.wait_for_spare()
            server.processes.wait_until_idle()
            yield Running(server.url, server.processes)


def deploy(server: ServerProcess, name: str, path: Path, runtime: str, image: dict[str, Any] | None = None) -> None:
    """Raises Unavailable with the server's own words. `image` says how files become the input of any runtime."""
    try:
        server.call("/create_workspace/", name=name)
        job: Any = server.call("/deploy/", name=name, path=str(path), runtime=runtime, image=image, timeout=DEPLOY_S)
    except RuntimeError as error:
        raise Unavailable(f"deploy refused: {error}"[:300]) from error
    if job["result"] is not True:
        why = job.get("error") or {key: value for key, value in job.items() if value not in (None, "", [], {})}
        raise Unavailable(f"deploy failed: {why}"[:300])


def wait_until_chosen(server: ServerProcess, name: str) -> str:
    """The choice, when `auto` has made it: rows are measured after it. Raises Unavailable if it takes too long."""
    deadline = time.monotonic() + CHOICE_S
    while time.monotonic() < deadline:
        state: Any = server.http.get("/server/").json()["result"]
        status: Any = server.call("/get_status/", name=name)
        choice = status["deployment"]["choice"]
        if is_made(choice):
            return str(choice)
        server.http.get("/server/", params={"since": state["revision"], "wait": 5})
    raise Unavailable(f"no runtime was chosen within {CHOICE_S} s: {choice}")


def is_made(choice: str) -> bool:
    """Of a deployment's `choice`: the trials are over. A part about requests that TensorFlow computes may follow."""
    return " was chosen" in choice or choice.startswith("stays")
