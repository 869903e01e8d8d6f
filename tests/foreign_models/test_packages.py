"""Trained models of other people's packages give the numbers of their own libraries, over every protocol."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.acceptance.conftest import Server
from tests.protocols.clients import Clients

PROGRAM = Path(__file__).with_name("libraries")
LIBRARIES = re.findall(r"^def (\w+)\(record: ", (PROGRAM / "__main__.py").read_text(), re.MULTILINE)
LIBRARIES.remove("keras_file")
PROTOCOLS = ("v1", "json", "http", "grpc")
Arrays = dict[str, Any]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_model_gives_the_numbers_of_its_library(
    library: str,
    server: Server,
    grpc_address: str,
    packages: Clients,
    clients: Clients,
    photograph: Path,
    tmp_path: Path,
) -> None:
    packages.output(PROGRAM, library, str(tmp_path), str(photograph), timeout_s=300)
    recorded = json.loads((tmp_path / "recording.json").read_text())
    assert recorded
    differences = []
    for model, calls in recorded.items():
        name = server.call("/create_workspace/", name=f"{library} {len(differences)} {Path(model).stem}"[:90])
        for protocol in PROTOCOLS:
            deployed = server.call("/deploy/", name=name, path=model, timeout=120)
            if not deployed["result"]:
                differences.append(f"{model}: {deployed.get('error', deployed)}")
                break
            address = grpc_address if protocol == "grpc" else urlsplit(server.url).netloc
            found = ask(protocol, address, name, prepare(server, name, calls, tmp_path), clients)
            differences += [
                f"{model} over {protocol}, call {n}: {problem}"
                for n, (call, outputs) in enumerate(zip(calls, found, strict=True))
                if (problem := difference(load(call["outputs"]), outputs))
            ]
        server.call("/destroy_workspace/", name=name)
    assert differences == []


def prepare(server: Server, name: str, calls: list[dict[str, str]], folder: Path) -> list[Path]:
    """The inputs of each call under the names that the server gives them: a Keras model's are known by order only."""
    known = [each["name"] for each in server.http.get(f"/v2/models/{name}").json()["inputs"]]
    files = []
    for n, call in enumerate(calls):
        inputs = load(call["inputs"])
        if set(inputs) - set(known):
            assert len(inputs) == len(known), (list(inputs), known)
            inputs = dict(zip(known, inputs.values(), strict=True))
        files.append(folder / f"request-{n}.npz")
        numbered = {f"a{at}": array for at, array in enumerate(inputs.values())}
        np.savez(files[-1], names=np.array(json.dumps(list(inputs))), **numbered)
    return files


def ask(protocol: str, address: str, name: str, requests: list[Path], clients: Clients) -> list[Arrays]:
    if protocol == "v1":
        return [ask_v1(address, name, load(request)) for request in requests]
    responses = [request.with_suffix(".out.npz") for request in requests]
    pairs = [str(file) for pair in zip(requests, responses, strict=True) for file in pair]
    clients.output(Path(__file__).parents[1] / "programs" / "triton_infer.py", protocol, address, name, *pairs)
    return [load(response) for response in responses]


def ask_v1(address: str, name: str, inputs: Arrays) -> Arrays:
    import httpx

    body = json.dumps({"inputs": {key: array.tolist() for key, array in inputs.items()}})
    response = httpx.post(f"http://{address}/v1/models/{name}:predict", content=body, timeout=120)
    assert response.status_code == 200, response.text[:500]
    outputs = json.loads(response.text)["outputs"]
    outputs = outputs if isinstance(outputs, dict) else {"": outputs}
    return {key: np.array(value) for key, value in outputs.items()}


def load(file: Path | str) -> Arrays:
    with np.load(file) as arrays:
        return {name: arrays[f"a{n}"] for n, name in enumerate(json.loads(str(arrays["names"])))}


def difference(expected: Mapping[str, Any], found: Mapping[str, Any], *, tolerance: float = 2e-6) -> str:
    """What is not the same, in words; nothing if all is. Outputs are paired by name, else by shape.

    `tolerance` is relative to the largest number of an output.
    """
    left = dict(found)
    for name, array in expected.items():
        key = name if name in left else next((key for key, each in left.items() if same_shape(each, array)), None)
        if key is None:
            shapes = {key: np.shape(each) for key, each in left.items()}
            return f"output {name!r} of shape {np.shape(array)} is missing; there are {shapes}"
        other = np.asarray(left.pop(key))
        if np.shape(other) != np.shape(array) and other.size != array.size:
            return f"output {name!r} has shape {np.shape(other)}, not {np.shape(array)}"
        if array.dtype.kind == "U":
            if other.astype(str).tolist() != array.tolist():
                return f"output {name!r} is {other.tolist()}, not {array.tolist()}"
            continue
        largest = max(1.0, float(np.nanmax(np.abs(array), initial=0)))
        if not np.allclose(other.reshape(array.shape), array, rtol=1e-5, atol=tolerance * largest, equal_nan=True):
            return f"output {name!r} differs by {np.nanmax(np.abs(other.reshape(array.shape) - array))}"
    return ""


def same_shape(one: Any, other: Any) -> bool:
    return bool(np.shape(one) == np.shape(other))
