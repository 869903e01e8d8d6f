"""Machines and a cluster for the tests of this folder: `make test-cluster` runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.made import made_by
from tests.ray_cluster.cluster import Cluster, two_nodes
from tests.ray_cluster.machines import Machine, Machines, missing

MAKE_MODELS = Path(__file__).parents[1] / "acceptance" / "make_models.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.long)  # and so not part of `make test` and `make test-slow`
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def machines() -> Iterator[list[Machine]]:
    if (reason := missing()) is not None:
        pytest.fail(f"no test cluster: {reason}")
    with Machines(3) as made:
        yield made


@pytest.fixture
def cluster(machines: list[Machine], tmp_path: Path) -> Iterator[Cluster]:
    """A head that runs no worker itself, and two nodes."""
    with two_nodes(machines, tmp_path / "cluster") as found:
        yield found


@pytest.fixture
def scale(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with versions of a real model: y = factor · x."""
    return made_by(MAKE_MODELS, tmp_path_factory, into=cluster.models) / "scale"


@pytest.fixture
def echo(cluster: Cluster) -> Path:
    """A model without TensorFlow, which starts quickly."""
    file = cluster.models / "m.echo"
    file.write_text(json.dumps({"x": {"dtype": "float32", "shape": [-1, 2]}}))
    return file
