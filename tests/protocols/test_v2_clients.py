"""Clients of Triton and KServe work unchanged, for every datatype, in JSON and as bytes, plain and compressed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import Server
from tests.protocols import echo
from tests.protocols.clients import Clients


@pytest.fixture(scope="module")
def model(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A workspace with an echo model."""
    name = server.call("/create_workspace/", name="echo of every type")
    server.call("/deploy/", name=name, path=str(echo.write(server.roots / "types.echo")), timeout=60)
    yield name
    server.call("/destroy_workspace/", name=name)


@pytest.fixture
def other(server: Server, workspace: str) -> str:
    """A model that may be loaded and unloaded; in its folder is a newer version meanwhile."""
    folder = server.roots / "versions"
    for version in ("3", "12"):
        (folder / version).mkdir(parents=True)
        echo.write(folder / version / "model.echo")
        if version == "3":
            server.call("/deploy/", name=workspace, path=str(folder), timeout=60)
    return workspace


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_the_http_clients_of_triton_work(server: Server, clients: Clients, model: str, kind: str) -> None:
    report = clients.run("triton_http_client.py", kind, urlsplit(server.url).netloc, model)
    assert report["failures"] == []
    assert report["count"] == 14 * 2 * 3
    check_looks(report["looks"], model)
    check_refusals(report["refusals"])
    assert report["predictions"] == {
        "classes": [["0.500000:1", "0.250000:0"], ["3.000000:0", "2.000000:2"]],
        "empty": [0, 3],
        "wishes": [[0.25, 0.5, 0.125], [3, 1, 2]],
    }


def test_triton_s_client_loads_and_unloads_models(server: Server, clients: Clients, other: str) -> None:
    report = clients.run("triton_http_client.py", "repository", urlsplit(server.url).netloc, other)
    assert report == {
        "reloaded": "12",
        "ready after unload": False,
        "index": {"name": other, "version": "12", "state": "UNAVAILABLE", "reason": "unloaded"},
        "ready after load": True,
    }


def check_looks(looks: dict[str, Any], model: str) -> None:
    assert [looks[name] for name in ("live", "ready", "model ready", "version ready", "unknown ready")] == [
        True
    ] * 4 + [False]
    assert looks["server"]["name"] == "tfserve"
    assert "binary_tensor_data" in looks["server"]["extensions"]
    x = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
    assert looks["model"] == {
        "name": model, "versions": ["1"], "platform": looks["config"]["platform"], "inputs": [x], "outputs": [x],
    }  # fmt: skip
    assert looks["config"]["max_batch_size"] == 64
    assert looks["config"]["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [3], "format": "FORMAT_NONE"}]
    (statistics,) = looks["statistics"]["model_stats"]
    success = statistics["inference_stats"]["success"]
    assert (statistics["name"], statistics["version"]) == (model, "1")
    assert success["count"] >= 78
    assert success["ns"] >= statistics["inference_stats"]["compute_infer"]["ns"] > 0
    assert statistics["inference_count"] >= 78 * 300
    assert model in [each["name"] for each in looks["all statistics"]["model_stats"]]
    assert {"name": model, "version": "1", "state": "READY", "reason": ""} in looks["index"]


def check_refusals(refusals: dict[str, tuple[str, str]]) -> None:
    assert {name: status for name, (status, _) in refusals.items()} == {
        "unknown model": "404", "unknown version": "404", "load unknown": "404",
        "wrong type": "400", "wrong shape": "400", "wrong name": "400",
        "output twice": "400", "unknown output": "400", "load files": "400",
        "shared memory": "501", "log settings": "501",
    }  # fmt: skip
    for name in ("wrong type", "wrong shape", "wrong name", "output twice", "unknown output"):
        assert "'x'" in refusals[name][1]


def test_the_rest_client_of_kserve_works(server: Server, clients: Clients, model: str) -> None:
    report = clients.run("kserve_rest_client.py", server.url, model)
    assert report["failures"] == []
    assert report["count"] == 13 * 4 - 2, "KServe knows no BF16, and FP16 as bytes only"
    assert [report[name] for name in ("live", "ready", "model ready", "unknown ready")] == [True, True, True, False]
    assert "There is no model 'unknown'" in report["unknown model"]
