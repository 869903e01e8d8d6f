"""The page of nodes in a browser, and where a model's processes run."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.acceptance.conftest import Server
from tests.console.conftest import OpenPage, is_too_wide


def test_this_machine_shows_what_runs_on_it_while_it_changes(
    server: Server, workspace: str, open_page: OpenPage
) -> None:
    page = open_page("/pages/nodes/")
    row = page.get_by_role("row").filter(has_text="127.0.0.1")
    expect(row).to_contain_text("ready")
    expect(page.locator("#connection")).to_have_text("Live")
    (server.roots / "n.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    server.call("/deploy/", name=workspace, path=str(server.roots / "n.echo"), replicas=2, timeout=60)
    expect(row).to_contain_text(f"model {workspace} × 2")
    row.get_by_role("link", name=workspace).click()
    page.get_by_text("Files and processes").click()
    expect(page.get_by_text("on head")).to_be_visible()
    server.call("/undeploy/", name=workspace, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("phone", [False, True])
def test_the_longest_name_fits_on_every_page(server: Server, open_page: OpenPage, phone: bool) -> None:
    """`open_page` checks that no page scrolls sideways."""
    name = "W" * 100
    server.call("/create_workspace/", name=name)
    server.call("/push_job/", name=name, job="raise ValueError('E' * 500)", type=1, timeout=60)
    (server.roots / "n.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    server.call("/deploy/", name=name, path=str(server.roots / "n.echo"), timeout=60)
    lists = "workspaces/", "models/", "jobs/", "nodes/", "audit/"
    for path in ("", *(f"pages/{each}" for each in lists), f"pages/workspaces/{name}/", f"pages/models/{name}/"):
        page = open_page(f"/{path}", phone=phone)
        expect(page.get_by_text(name).first).to_be_visible()
        assert not is_too_wide(page), path
    server.call("/destroy_workspace/", name=name)


def test_a_model_is_deployed_with_what_its_processes_need(server: Server, workspace: str, open_page: OpenPage) -> None:
    (server.roots / "n.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    page = open_page("/pages/models/", ignoring=("status of 409", "status of 400"))
    page.get_by_label("Name of the model").fill(workspace)
    page.get_by_role("radio", name="On the server").check()
    page.get_by_placeholder("models/flowers or").fill(str(server.roots / "n.echo"))
    page.get_by_text("Processes and what they need").click()
    page.get_by_label("By the load, at most").fill("3")
    page.get_by_label("GPUs of each").fill("60")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("60 GPUs for each of 3 processes requested")
    page.get_by_label("GPUs of each").fill("")
    page.get_by_label("Memory of each").fill("64MiB")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_text("1 to 3, one for 4 in flight")).to_be_visible()
    options = server.call("/get_status/", name=workspace)["deployment"]["options"]
    assert options["resources"] == {"memory": "64MiB"}
    server.call("/undeploy/", name=workspace, timeout=60)


def test_autoscaling_is_turned_on_and_off_on_the_page(server: Server, workspace: str, open_page: OpenPage) -> None:
    (server.roots / "n.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    server.call("/deploy/", name=workspace, path=str(server.roots / "n.echo"), timeout=60)
    page = open_page(f"/pages/models/{workspace}/")
    page.get_by_label("At most").fill("3")
    page.get_by_role("button", name="Scale by the load").click()
    expect(page.get_by_text("1 to 3, one for 4 in flight")).to_be_visible()
    page.get_by_label("Processes that serve the model").fill("2")
    page.get_by_role("button", name="Keep a fixed number").click()
    expect(page.locator("#feedback")).to_contain_text("Scaled.", timeout=60_000)
    expect(page.get_by_role("button", name="Scale", exact=True)).to_be_visible()
    status = server.call("/get_status/", name=workspace)["deployment"]
    assert ("autoscale" in status["options"], len(status["replicas"])) == (False, 2)
    server.call("/undeploy/", name=workspace, timeout=60)
