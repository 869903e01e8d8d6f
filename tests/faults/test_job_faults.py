"""Faults of jobs that no other test has."""

from __future__ import annotations

from tests.acceptance.conftest import Server

VALUES = """
import numpy
nan, octets = float('nan'), b'\\xff\\x00'
circle = []
circle.append(circle)
huge = 10 ** 5000
class Evil:
    def __repr__(self): raise RuntimeError('no')
    __str__ = __repr__
evil, deep = Evil(), numpy.zeros((2, 2))
for _ in range(5000): deep = [deep]
fine = 1
"""


def test_variables_that_have_no_plain_form_cost_only_themselves(server: Server, workspace: str) -> None:
    job = server.run(workspace, VALUES)
    assert job["state"] == "succeeded", job
    variables = server.http.post("/get_variable/", json={"name": workspace})
    assert variables.status_code == 200, variables.text
    values = variables.json()["result"]
    assert (values["nan"], values["octets"], values["fine"]) == (None, {"b64": "/wA="}, 1)
    for name in ("circle", "huge", "evil", "deep"):
        answer = server.http.post("/get_variable/", json={"name": workspace, "variable": name})
        assert answer.status_code in (200, 400, 413), answer.text
    assert server.run(workspace, "more = fine + 1")["variable"]["more"] == 2
