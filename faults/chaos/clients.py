"""The clients of the chaos run. Each does one kind of work until it is stopped, and journals before and after."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from faults.chaos import versions
from faults.chaos.journal import Journal

REQUEST_TIMEOUT_S = 20.0
GIVE_UP_S = 90.0
"""How long a client repeats a request after the end of the run."""
MAY_COME_AGAIN = (429, 502, 503, 504, 507)
GIVEN_UP = "/restart_workspace/"


class Client(threading.Thread):
    """`statuses` counts the HTTP statuses of all responses; `problems` are responses that must not occur."""

    def __init__(self, name: str, url: str, folder: Path, seed: int) -> None:
        super().__init__(name=name)
        self.http = httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S)
        self.journal = Journal(folder / f"{name}.journal")
        self.random = random.Random(f"{seed} {name}")
        self.statuses: Counter[int | str] = Counter()
        self.problems: list[str] = []
        self.is_over = threading.Event()
        self._number = 0

    def run(self) -> None:
        try:
            while not self.is_over.is_set():
                self.work()
        except Exception as error:
            self.problems.append(f"the client itself failed: {error!r}")
            raise
        finally:
            self.http.close()
            self.journal.close()

    def work(self) -> None:
        """One piece of work."""
        raise NotImplementedError

    def pause(self, at_most_s: float) -> None:
        self.is_over.wait(self.random.uniform(0, at_most_s))

    def send(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """None if there was no response."""
        try:
            response = self.http.request(method, path, **options)
            response.json()
        except httpx.HTTPError as error:
            self.statuses[type(error).__name__] += 1
            return None
        except ValueError:
            self.problems.append(f"{path}: {response.status_code} without JSON: {response.text[:200]}")
        self.statuses[response.status_code] += 1
        if response.status_code == 500:
            self.journal.write("error 500", call=path, text=response.text[:500])
        return response

    def submit(self, path: str, fields: dict[str, Any]) -> dict[str, Any] | None:
        """Sends a job until it is acknowledged, always with the same key. None if that did not happen."""
        key = f"{self.name}-{self._number}"
        self._number += 1
        self.journal.write("intent", key=key, call=path, fields=fields)
        deadline: float | None = None
        while deadline is None or time.monotonic() < deadline:
            if self.is_over.is_set() and deadline is None:
                deadline = time.monotonic() + GIVE_UP_S
            response = self.send("POST", path, json=fields, headers={"Idempotency-Key": key})
            if response is not None and response.status_code == 200:
                result: dict[str, Any] = response.json()["result"]
                kept = {name: result.get(name) for name in ("id", "job", "finish", "result", "state")}
                self.journal.write("acknowledged", key=key, workspace=fields["name"], **kept)
                return result
            if response is not None and not self._may_come_again(response, fields["name"]):
                self.problems.append(f"{path} was refused with {response.status_code}: {response.text[:300]}")
                return None
            time.sleep(self.random.uniform(0.05, 0.4))
        return None

    def _may_come_again(self, response: httpx.Response, workspace: str) -> bool:
        if response.status_code == 503 and GIVEN_UP in response.text:
            self.send("POST", GIVEN_UP, json={"name": workspace})
        return response.status_code in MAY_COME_AGAIN


class Submitter(Client):
    """Scripts of all sorts. Each begins with a line in a file, which shows how often it ran."""

    def __init__(self, name: str, workspace: str, ran: Path, *rest: Any) -> None:
        super().__init__(name, *rest)
        self._workspace, self._ran = workspace, ran
        self._scripts: list[tuple[int, Callable[[], str]]] = [
            (12, lambda: f"print({self._number})"),
            (4, lambda: f"import time\ntime.sleep({self.random.uniform(0.05, 1.0):.2f})"),
            (2, lambda: "1 / 0"),
            (2, lambda: "print('x' * 200_000)\ntext = 'y' * 10_000"),
            (1, lambda: "import subprocess\nsubprocess.Popen(['sleep', '300'], start_new_session=True)"),
            (1, lambda: "import os\nos._exit(3)"),
        ]

    def work(self) -> None:
        weights, makers = zip(*self._scripts, strict=True)
        token = f"{self.name}-{self._number}"
        begin = f"import os\nwith open({str(self._ran)!r}, 'a') as file: file.write({token + chr(10)!r})\n"
        script = begin + self.random.choices(makers, weights)[0]()
        timeout = self.random.choice((0, 0, 0.5, 3))
        if self.random.random() < 0.05:
            self.submit("/clear/", {"name": self._workspace, "timeout": timeout})
        else:
            self.submit("/push_job/", {"name": self._workspace, "job": script, "type": 1, "timeout": timeout})
        self.pause(0.4)


class Deployer(Client):
    """Deploys one version after another."""

    def __init__(self, name: str, workspace: str, models: Path, *rest: Any) -> None:
        super().__init__(name, *rest)
        self._workspace, self._models, self._version = workspace, models, 0
        self.has_deployed = threading.Event()

    def work(self) -> None:
        self._version += 1
        path = versions.write(self._models, self._version)
        call = "/deploy/" if self._version == 1 else self.random.choice(("/deploy/", "/update/"))
        self.journal.write("version", version=self._version)
        result = self.submit(call, {"name": self._workspace, "path": str(path), "timeout": 15})
        if result is not None and result["finish"] and result["result"]:
            self.journal.write("deployed", version=self._version)
            self.has_deployed.set()
        self.pause(4)


class Predictor(Client):
    """Predictions over v1 or v2, or as jobs: all rows of a response must come from one version."""

    def __init__(self, name: str, workspace: str, kind: str, has_model: threading.Event, *rest: Any) -> None:
        super().__init__(name, *rest)
        self._workspace, self._kind, self._has_model = workspace, kind, has_model

    def work(self) -> None:
        if not self._has_model.wait(0.5):
            return
        x = [[float(self.random.randrange(100)), float(self.random.randrange(100))] for _ in range(4)]
        sent_at = time.monotonic()
        y = {"v1": self._v1, "v2": self._v2, "job": self._job}[self._kind](x)
        if y is not None:
            found = sorted(versions.versions_of(x, y))
            self.journal.write("predicted", sent_at=sent_at, versions=found)
        self.pause(0.1)

    def _v1(self, x: list[list[float]]) -> Any:
        response = self.send("POST", f"/v1/models/{self._workspace}:predict", json={"instances": x})
        return response.json()["predictions"] if response is not None and self._is_good(response) else None

    def _v2(self, x: list[list[float]]) -> Any:
        tensor = {"name": "x", "shape": [4, 2], "datatype": "FP32", "data": x}
        response = self.send("POST", f"/v2/models/{self._workspace}/infer", json={"inputs": [tensor]})
        if response is None or not self._is_good(response):
            return None
        data = response.json()["outputs"][0]["data"]
        return [data[at : at + 2] for at in range(0, 8, 2)]

    def _job(self, x: list[list[float]]) -> Any:
        fields = {"name": self._workspace, "fetches": "y", "feed_dict": {"x": x}, "timeout": 10}
        result = self.submit("/predict/", fields)
        return result["result"][0] if result is not None and result["result"] else None

    def _is_good(self, response: httpx.Response) -> bool:
        if response.status_code == 200:
            return True
        if response.status_code not in (*MAY_COME_AGAIN, 500):
            self.problems.append(f"a prediction was refused with {response.status_code}: {response.text[:300]}")
        return False


class Trainer(Client):
    """Small trainings, one after another. The progress of each must never decrease."""

    PARAMETERS = {"epochs": 3, "exports": "saved_model", "backbone": "compact", "effort": "fast"}
    OVER = ("done", "done with error", "cancelled")

    def __init__(self, name: str, project: Callable[[int], Path], *rest: Any) -> None:
        super().__init__(name, *rest)
        self._project, self._task = project, 0

    def work(self) -> None:
        self._task += 1
        task = self._begin(str(self._project(self._task)), f"chaos{self._task}")
        if task is not None:
            self.journal.write("task", task=task)
            self._follow(task)

    def _begin(self, folder: str, project_id: str) -> str | None:
        """Repeats until it is acknowledged; a task whose acknowledgement got lost is found by its project."""
        fields = {"userId": "chaos", "projectId": project_id, "projectDir": folder, "trainType": "classification"}
        body = {**fields, "parameters": self.PARAMETERS}
        self.journal.write("task intent", project=project_id)
        while not self.is_over.is_set():
            response = self.send("POST", "/tasks/", json=body, timeout=60)
            if response is not None and response.status_code == 200:
                return str(response.json()["taskId"])
            if response is not None and response.status_code == 409:
                known = self.send("GET", "/tasks/", params={"projectId": project_id})
                if known is not None and known.status_code == 200 and (tasks := known.json()["tasks"]):
                    return str(tasks[0]["taskId"])
            elif response is not None and response.status_code not in (*MAY_COME_AGAIN, 500):
                self.problems.append(f"a training was refused with {response.status_code}: {response.text[:300]}")
                return None
            self.pause(1)
        return None

    def _follow(self, task: str) -> None:
        progress = 0.0
        while not self.is_over.is_set():
            response = self.send("GET", "/", params={"taskId": task})
            if response is not None and response.status_code == 200:
                now = response.json()
                if now["progress"] < progress:
                    self.problems.append(f"the progress of task {task} went back: {progress} → {now['progress']}")
                progress = now["progress"]
                if now["state"] in self.OVER:
                    self.journal.write("task over", task=task, state=now["state"], error=now.get("error"))
                    return
            elif response is not None and response.status_code == 404:
                self.problems.append(f"task {task} was acknowledged and is not known any more: {response.text[:200]}")
                return
            self.is_over.wait(0.5)
