"""ONNX's own cases for backends, served with `runtime: auto`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.conftest import REPOSITORY, Server
from tests.foreign_models import onnx_cases, v2_bytes
from tests.protocols.clients import CACHE

ENOUGH = 1236
WORKSPACES = 2


@pytest.fixture(scope="module")
def folders() -> list[Path]:
    return onnx_cases.find(onnx_cases.unpack(CACHE))


@pytest.fixture(scope="module")
def cases_server(tmp_path_factory: pytest.TempPathFactory, folders: list[Path]) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("onnx") / "data"
    running = Server(data_dir, environment={"TFSERVE_ROOTS": str(CACHE)})
    yield running
    running.close()


@pytest.fixture(scope="module")
def verdicts(cases_server: Server, folders: list[Path]) -> dict[Path, str]:
    """For each case `right`, `wrong`, or why it was refused."""
    for n in range(WORKSPACES):
        cases_server.call("/create_workspace/", name=f"cases {n}")
    with ThreadPoolExecutor(WORKSPACES) as threads:
        parts = threads.map(lambda n: judge_all(cases_server, f"cases {n}", folders[n::WORKSPACES]), range(WORKSPACES))
        found = {folder: verdict for part in parts for folder, verdict in part.items()}
    report = CACHE / "onnx-backend.json"
    report.write_text(json.dumps({str(folder.name): verdict for folder, verdict in sorted(found.items())}, indent=1))
    return found


@pytest.mark.timeout(5400)
def test_enough_of_the_cases_are_right(verdicts: dict[Path, str]) -> None:
    right = sum(verdict == "right" for verdict in verdicts.values())
    print(f"{right} of {len(verdicts)} cases are right")
    assert len(verdicts) == 1428
    assert right >= ENOUGH


@pytest.mark.timeout(5400)
def test_nothing_that_onnxruntime_computes_is_wrong_or_refused(verdicts: dict[Path, str]) -> None:
    others = [folder for folder, verdict in verdicts.items() if verdict != "right"]
    with ThreadPoolExecutor(WORKSPACES) as threads:
        plain = dict(zip(others, threads.map(judge_plain, others), strict=True))
    worse = {folder.name: verdicts[folder] for folder in others if plain[folder] == "right"}
    assert worse == {}


def judge_all(server: Server, name: str, folders: list[Path]) -> dict[Path, str]:
    return {folder: judge(server, name, folder) for folder in folders}


def judge(server: Server, name: str, folder: Path) -> str:
    case = onnx_cases.read(folder)
    if not case.is_of_tensors:
        return "a value is a sequence or optional"
    deployed = server.call("/deploy/", name=name, path=str(case.model), timeout=60)
    if not deployed["result"]:
        return f"deploy: {deployed.get('error')}"
    try:
        outputs = v2_bytes.infer(server.http, name, case.inputs)
    except v2_bytes.Refused as refusal:
        return f"predict: {refusal}"
    missing = set(case.outputs) - set(outputs)
    if missing:
        return f"outputs are missing: {missing}"
    wrong = [key for key, value in case.outputs.items() if not onnx_cases.agree(value, outputs[key])]
    return f"wrong: {wrong}" if wrong else "right"


def judge_plain(folder: Path) -> str:
    command = [sys.executable, "-m", "tests.foreign_models.plain_onnxruntime", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else f"crashed with {done.returncode}"
