"""Models on nodes: placed as requested, reached through every machine, scaled and updated without a lost request."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ray_cluster.cluster import Cluster, two_nodes
from tests.ray_cluster.driving import ROWS, predict
from tests.ray_cluster.machines import Machine


@pytest.fixture(scope="module")
def shared(machines: list[Machine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head that runs no worker itself, and two nodes, for all tests of this file."""
    with two_nodes(machines, tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """The same, without workspaces."""
    yield shared
    for name in shared.call("/get_workspace/"):
        shared.call("/destroy_workspace/", name=name)


def test_a_real_model_is_placed_on_both_nodes_and_answers_through_every_machine(cluster: Cluster, scale: Path) -> None:
    cluster.workspace("m")
    job = cluster.deploy("m", scale / "2", replicas=2, placement="spread")
    assert job["result"] is True, job
    assert Counter(each["node"] for each in cluster.replicas("m")) == {"tfserve-2": 1, "tfserve-3": 1}
    urls = [cluster.url, *map(cluster.url_of, cluster.node_machines)]
    for url in urls:
        assert predict(url, "m").json() == {"predictions": [[2.0, 4.0]]}
        inputs = [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]
        answer = httpx.post(f"{url}/v2/models/m/infer", json={"inputs": inputs}, timeout=60).json()
        assert answer["outputs"][0]["data"] == [2.0, 4.0]
        assert httpx.get(f"{url}/v2/health/ready", timeout=10).status_code == 200
    # Everything else reaches the head through any machine.
    for url in urls[1:]:
        answer = httpx.post(f"{url}/get_status/", json={"name": "m"}, timeout=30).json()
        assert answer["result"]["deployment"]["version"] == 2
        assert httpx.get(f"{url}/server/", timeout=30).json()["result"]["nodes"]
        assert predict(url, "nothing").status_code == 404


def test_scaling_and_updating_across_nodes_drops_no_request(cluster: Cluster, scale: Path) -> None:
    cluster.workspace("m")
    cluster.deploy("m", scale / "2")
    stop, answers = threading.Event(), Counter[str]()

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                answers[client.post("/v1/models/m:predict", json=ROWS).text] += 1

    threads = [threading.Thread(target=ask, args=(url,)) for url in map(cluster.url_of, cluster.node_machines)]
    for thread in threads:
        thread.start()
    try:
        cluster.call("/scale/", name="m", replicas=3)
        assert cluster.call("/update/", name="m", path=str(scale / "1"), timeout=90)["result"] is True
        cluster.call("/scale/", name="m", replicas=1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    found = {text.replace(" ", "").replace("\n", "") for text in answers}
    assert found == {'{"predictions":[[2.0,4.0]]}', '{"predictions":[[1.0,2.0]]}'}, answers


def test_a_second_deployment_of_the_same_model_sends_nothing(cluster: Cluster, scale: Path) -> None:
    for name in ("a", "b"):
        cluster.workspace(name)
        cluster.deploy(name, scale / "2", resources={"node": "tfserve-2"})
        assert predict(cluster.url, name).json() == {"predictions": [[2.0, 4.0]]}
        assert [each["node"] for each in cluster.replicas(name)] == ["tfserve-2"]


def test_what_no_node_has_is_refused_with_what_there_is(cluster: Cluster, echo: Path) -> None:
    cluster.workspace("m")
    for resources, word in (({"gpu": 1}, "gpu"), ({"node": "big"}, "big"), ({"memory": "9TiB"}, "memory")):
        answer = cluster.http.post("/deploy/", json={"name": "m", "path": str(echo), "resources": resources})
        assert answer.status_code in (400, 503), answer.text
        assert word in answer.json()["result"], answer.text
        assert "tfserve-2" in answer.json()["result"], answer.text


def test_scripts_keep_their_variables_on_a_node(cluster: Cluster) -> None:
    cluster.workspace("w")
    first = cluster.run("w", "import os; x = 41; node = os.environ.get('TFSERVE_NODE')\nprint('hello')")
    assert (first["result"], first["stdout"]) == (True, "hello\n"), first
    assert first["variable"]["node"] in ("tfserve-2", "tfserve-3")
    assert cluster.run("w", "x += 1")["variable"]["x"] == 42
    lost = cluster.run("w", "import os; os._exit(3)")
    assert lost["result"] is False
    assert "code 3" in lost["error"]["message"], lost
    assert cluster.run("w", "x = 1")["variable"]["x"] == 1


def test_relative_paths_of_a_script_mean_the_folder_of_its_workspace(cluster: Cluster) -> None:
    cluster.workspace("paths")
    folder = Path(cluster.status("paths")["folder"])
    (folder / "sub").mkdir()
    (folder / "sub" / "given.txt").write_text("given")
    script = (
        "import os\nhere = os.getcwd()\nread = open('sub/given.txt').read()\n"
        "open('sub/made.txt', 'w').write('made')\nprint(here)\nopen('here.txt', 'w').write(here)\ndel os"
    )
    found = cluster.run("paths", script)
    assert found["variable"] == {"here": str(folder), "read": "given"}, found
    assert (folder / "sub" / "made.txt").read_text() == "made"
    assert found["stdout"].strip() == (folder / "here.txt").read_text() != str(folder), "the path on the node"
    failed = cluster.run("paths", "open('missing/file')")
    assert "missing/file" in failed["error"]["message"], failed
    absolute = cluster.run("paths", f"open({str(folder / 'missing')!r})")
    assert str(folder / "missing") in absolute["error"]["message"], absolute
