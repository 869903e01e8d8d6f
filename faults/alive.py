"""After each fault: every server that still runs is alive, and an unrelated workspace still predicts."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.acceptance.conftest import Server
from tfserve.access import local_token

BYSTANDER = "bystander of the faults"
MODEL = Path(__file__).with_name("bystander.echo")
ROW = [[1.0, 2.0]]
TAKES_NO_WORKSPACE = (409, 429, 503, 507)


def check(server: Server, *, keep: bool) -> str:
    """What was observed. Raises AssertionError if the server is not alive. `keep`: later checks use the workspace."""
    with httpx.Client(base_url=server.url, timeout=60, headers=_headers(server)) as http:
        assert http.get("/v2/health/live").status_code == 200, "not alive: /v2/health/live"
        if http.get("/v2/health/ready").status_code != 200:
            return "alive, not ready"
        try:
            return _predict(http)
        finally:
            if not keep:
                http.post("/destroy_workspace/", json={"name": BYSTANDER})


def _headers(server: Server) -> dict[str, str]:
    """A server that requires tokens has one for this machine."""
    secret = local_token.read(server.data_dir)
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def _predict(http: httpx.Client) -> str:
    made = http.post("/create_workspace/", json={"name": BYSTANDER})
    if made.status_code == 200:
        fields = {"name": BYSTANDER, "path": str(MODEL), "timeout": 60}
        if http.post("/deploy/", json=fields).status_code == 400:  # a server that may read other folders only
            http.post("/destroy_workspace/", json={"name": BYSTANDER})
            return "alive"
    elif BYSTANDER not in http.post("/get_workspace/", json={}).text:
        assert made.status_code in TAKES_NO_WORKSPACE, made.text
        return "alive"
    response = http.post(f"/v1/models/{BYSTANDER}:predict", json={"instances": ROW})
    assert response.status_code == 200, f"an unrelated workspace does not predict: {response.text}"
    assert response.json() == {"predictions": ROW}, response.text
    return "alive and predicting"
