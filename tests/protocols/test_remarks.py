"""What users of a model must know is said wherever they look: in each response about the model, and on the page."""

from __future__ import annotations

import json

from tests.acceptance.conftest import Server
from tests.protocols.grpc_port import Port, port
from tfserve.web.api.protos import oip_pb2 as v2

__all__ = ["port"]

REMARKS = ["stateful: callers share its state", "a remark with <b>tags</b> & more"]
X = {"x": {"dtype": "float32", "shape": [-1]}}


def test_the_remarks_of_a_model_are_in_every_description_of_it(port: Port) -> None:
    server, workspace = port.server, port.server.call("/create_workspace/")
    path = server.roots / "remarks.echo"
    path.write_text(json.dumps({"signatures": {"serving_default": X}, "remarks": REMARKS}))
    deployed = server.call("/deploy/", name=workspace, path=str(path), timeout=60)
    assert deployed["remarks"] == REMARKS
    assert server.call("/get_status/", name=workspace)["deployment"]["remarks"] == REMARKS
    assert server.http.get(f"/v1/models/{workspace}/metadata").json()["remarks"] == REMARKS
    assert server.http.get(f"/v2/models/{workspace}").json()["parameters"] == {"remarks": REMARKS}
    config = server.http.get(f"/v2/models/{workspace}/config").json()
    assert config["parameters"]["remarks"] == {"string_value": "\n".join(REMARKS)}
    assert port.call("ModelMetadata", v2.ModelMetadataRequest(name=workspace)).properties["remarks"] == "\n".join(
        REMARKS
    )
    page = server.http.get(f"/pages/models/{workspace}/").text
    assert REMARKS[0] in page
    assert "a remark with &lt;b&gt;tags" in page


def test_a_model_without_remarks_has_no_field_for_them_in_its_metadata(server: Server, workspace: str) -> None:
    path = server.roots / "plain.echo"
    path.write_text(json.dumps(X))
    assert server.call("/deploy/", name=workspace, path=str(path), timeout=60)["remarks"] == []
    assert "remarks" not in server.http.get(f"/v1/models/{workspace}/metadata").json()
    assert "parameters" not in server.http.get(f"/v2/models/{workspace}").json()
