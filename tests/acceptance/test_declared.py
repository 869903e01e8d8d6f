"""Models declared in a file: the server makes it so, at its start and whenever the file or a folder changes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Server
from tests.protocols import echo

QUICK = {"TFSERVE_WARM_SPARE": "0"}
FAILS = json.dumps({"x": {"dtype": "no such type", "shape": [-1, 3]}})


class Declared:
    """A server with a models file, and what a test does to both."""

    def __init__(self, folder: Path, start: Callable[..., Server], declared: str) -> None:
        self.folder = folder
        self.file = folder / "models.toml"
        if declared:
            self.write(declared)
        self._start = start
        self.server = self.start()

    def start(self) -> Server:
        self.server = self._start("--models", str(self.file), data_dir=self.folder / "data", **QUICK)
        return self.server

    def write(self, declared: str) -> None:
        """Replaces the file as most editors do."""
        new = self.file.with_suffix(".new")
        new.write_text(declared)
        new.rename(self.file)

    def version(self, model: str, number: int, content: str | None = None) -> Path:
        """Moves the folder of a complete version into place."""
        made = self.folder / "made"
        made.mkdir(exist_ok=True)
        echo.write(made / "model.echo")
        if content is not None:
            (made / "model.echo").write_text(content)
        (self.folder / model).mkdir(exist_ok=True)
        return made.rename(self.folder / model / str(number))

    def until(self, is_so: Callable[[], Any]) -> Any:
        """Follows the server's changes until something is so."""
        revision, deadline = 0, time.monotonic() + 100
        while not (found := is_so()):
            answer = self.server.http.get("/server/", params={"since": revision, "wait": 15}).json()["result"]
            assert time.monotonic() < deadline, answer["declared"]
            revision = answer["revision"]
        return found

    def states(self, model: str) -> dict[int, str]:
        answer = self.server.http.get(f"/v1/models/{model}").json()
        return {int(each["version"]): each["state"] for each in answer.get("model_version_status", [])}

    def serve(self, model: str, *versions: int) -> Callable[[], bool]:
        return lambda: [number for number, state in self.states(model).items() if state == "AVAILABLE"] == [*versions]

    def index(self) -> dict[str, dict[str, str]]:
        return {
            f"{each['name']} {each.get('version', '-')}": each
            for each in self.server.http.post("/v2/repository/index").json()
        }

    def problems(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.http.get("/server/").json()["result"]["declared"]
        return found

    def predict(self, path: str) -> tuple[int, Any]:
        answer = self.server.http.post(f"/v1/models/{path}:predict", json={"instances": [[1.0, 2.0, 3.0]]})
        return answer.status_code, answer.json()


@pytest.fixture
def declare(tmp_path: Path, start: Callable[..., Server]) -> Callable[[str], Declared]:
    return lambda declared: Declared(tmp_path, start, declared)


def test_versions_labels_and_defaults(declare: Callable[[str], Declared], tmp_path: Path) -> None:
    """Also the life of a model: labels move, versions come and go, and what is not declared is left alone."""
    for number in (3, 5):
        folder = tmp_path / "prices" / str(number)
        folder.mkdir(parents=True)
        echo.write(folder / "model.echo")
    echo.write(tmp_path / "one.echo")
    labels = '[models.prices]\npath = "prices"\nlabels = {{stable = {stable}, canary = {canary}}}\n'
    other = '[models.one]\npath = "one.echo"\nreplicas = 2\n[models.lost]\npath = "nowhere"\n[workspaces.empty]\n'
    declared = declare(labels.format(stable=3, canary=5) + other)
    declared.until(declared.serve("prices", 5, 3))
    declared.until(declared.serve("one", 1))
    declared.until(lambda: declared.predict("prices/labels/stable")[0] == 200)
    assert declared.predict("prices/versions/5")[0] == 200
    status = declared.server.http.get("/v1/models/prices/labels/stable").json()["model_version_status"]
    assert [each["version"] for each in status] == ["3"]
    assert declared.predict("prices/labels/new") == (
        400, {"error": "Unrecognized servable version label: new. Labels of this model: canary, stable."}
    )  # fmt: skip
    status_code, answer = declared.predict("lost")
    assert (status_code, "does not exist" in answer["error"]) == (503, True)
    assert declared.index()["lost -"]["state"] == "UNAVAILABLE"
    assert {*declared.server.call("/get_workspace/")} == {"one", "prices", "empty"}

    # Clients can't change it, but use the workspace, and deploy in others.
    for path, fields in (
        ("/deploy/", {"path": "one.echo"}), ("/undeploy/", {}), ("/update/", {"path": "one.echo"}),
        ("/scale/", {"replicas": 1}), ("/destroy_workspace/", {}),
    ):  # fmt: skip
        code, message = declared.server.refused(path, name="one", **fields)
        assert (code, "declared in the models file (models.toml)" in message) == (409, True), message
    assert declared.server.call("/push_job/", name="one", job="a = 1", type=1, timeout=60)["finish"]
    declared.server.call("/create_workspace/", name="mine")
    declared.server.call("/deploy/", name="mine", path=str(tmp_path / "one.echo"), timeout=60)

    # The label moves when its new version serves; a version that fails to load leaves it where it is.
    declared.write(labels.format(stable=5, canary=7) + other)
    declared.until(lambda: "7" in str(declared.problems()["models"].get("prices")))
    assert declared.predict("prices/labels/canary")[0] == 200
    declared.version("prices", 7)
    declared.until(declared.serve("prices", 7, 5))
    declared.until(lambda: "prices@3" not in str(declared.server.http.get("/server/").json()))
    status = declared.server.http.get("/v1/models/prices/labels/stable").json()["model_version_status"]
    assert [each["version"] for each in status] == ["5"]

    # A model whose declaration was removed is undeployed.
    declared.write("[models]\n")
    declared.until(lambda: not declared.states("prices") and not declared.states("one"))
    assert declared.predict("mine")[0] == 200
    declared.until(lambda: "prices@" not in str(declared.server.http.get("/server/").json()))


@pytest.mark.slow
def test_a_watched_folder(declare: Callable[[str], Declared], tmp_path: Path) -> None:
    (tmp_path / "prices").mkdir()
    declared = declare('[models.prices]\npath = "prices"\nversions = "latest"\n')
    declared.until(lambda: "prices" in declared.problems()["models"])
    declared.version("prices", 1)
    declared.until(declared.serve("prices", 1))
    declared.version("prices", 2)
    declared.until(declared.serve("prices", 2))

    # One that is incomplete or fails is left alone until its files change; its reason is visible.
    folder = tmp_path / "prices" / "4"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"")
    declared.until(lambda: "empty" in declared.index().get("prices 4", {}).get("reason", ""))
    assert declared.states("prices") == {2: "AVAILABLE", 4: "END"}
    (folder / "model.onnx").unlink()
    (folder / "model.echo").write_text(FAILS)
    declared.until(lambda: "unknown dtype" in declared.index()["prices 4"]["reason"])
    assert declared.predict("prices")[0] == 200
    echo.write(folder / "model.echo")
    declared.until(declared.serve("prices", 4))
    assert "prices" not in declared.problems()["models"]

    # Without the newest, the next one serves; without any, the last one keeps serving.
    folder.rename(tmp_path / "away")
    declared.until(declared.serve("prices", 2))
    for number in (1, 2):
        (tmp_path / "prices" / str(number)).rename(tmp_path / f"away{number}")
    declared.until(lambda: "no numbered versions" in str(declared.problems()["models"].get("prices")))
    assert declared.predict("prices")[0] == 200


@pytest.mark.slow
def test_a_mistake_in_the_file_leaves_the_last_valid_state_in_force(
    declare: Callable[[str], Declared], tmp_path: Path
) -> None:
    """Also over a restart, which deploys nothing twice."""
    for name in ("one", "two"):
        echo.write(tmp_path / f"{name}.echo")
    valid = '[models.one]\npath = "one.echo"\n'
    declared = declare(valid)
    declared.until(declared.serve("one", 1))
    declared.write(f'{valid}replics = 2\n\n[models.two]\npath = "two.echo"\nruntime = 3\n')
    declared.until(lambda: declared.problems()["problems"])
    problems = declared.problems()["problems"]
    assert problems[0]["line"] == 3
    assert problems[0]["key"] == "models.one.replics"
    assert "did you mean 'replicas'?" in problems[0]["message"]
    assert (problems[1]["line"], problems[1]["key"]) == (7, "models.two.runtime")
    entry = declared.index()["models.toml -"]
    assert (entry["state"], "line 3" in entry["reason"]) == ("UNAVAILABLE", True)
    page = declared.server.http.get("/", headers={"Accept": "text/html"}).text
    assert "line 3, models.one.replics" in page
    assert declared.states("two") == {}

    assert declared.server.stop(signal.SIGTERM) == 0
    declared.start()
    declared.until(declared.serve("one", 1))
    assert declared.problems()["problems"] == problems
    jobs = declared.server.http.get("/jobs/").json()["result"]["jobs"]
    assert [each["workspace"] for each in jobs] == ["one"]

    declared.write(f'{valid}\n[models.two]\npath = "two.echo"\n')
    declared.until(declared.serve("two", 1))
    assert declared.problems()["problems"] == []
    declared.file.unlink()
    declared.until(lambda: "No such file" in str(declared.problems()["problems"]))
    assert declared.predict("two")[0] == 200


@pytest.mark.slow
def test_a_config_map_is_swapped_by_a_link(declare: Callable[[str], Declared], tmp_path: Path) -> None:
    """Kubernetes mounts a folder whose files lead through a link, which it replaces."""
    for name in ("one", "two"):
        echo.write(tmp_path / f"{name}.echo")
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "models.toml").write_text(f'[models.{name}]\npath = "{tmp_path}/{name}.echo"\n')
    (tmp_path / "..data").symlink_to("..one")

    (tmp_path / "models.toml").symlink_to("..data/models.toml")
    declared = declare("")
    declared.until(declared.serve("one", 1))
    (tmp_path / "..data_tmp").symlink_to("..two")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    declared.until(declared.serve("two", 1))
    declared.until(lambda: not declared.states("one"))
