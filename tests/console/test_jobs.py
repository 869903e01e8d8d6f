"""Jobs in a browser: found, cancelled and run again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.conftest import Server
from tests.console.conftest import OpenPage, assert_accessible
from tests.console.test_overview import looks
from tests.protocols import echo

ENDLESS = "import threading; threading.Event().wait(60)"


@pytest.mark.slow
def test_jobs_are_named_after_what_they_run(
    server: Server, workspace: str, open_page: OpenPage, tmp_path: Path
) -> None:
    script = server.roots / "fit.py"
    script.write_text("y = 2")
    server.run(workspace, "import os\n\n# prepare\nweights = [1, 2, 3]")
    server.call("/push_job/", name=workspace, job=str(script), timeout=60)
    server.call("/clear/", name=workspace, timeout=60)
    page = open_page(f"/pages/jobs/?workspace={workspace}")
    for name in ("weights = [1, 2, 3]", "fit.py", "clear variables"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


def test_jobs_are_found(server: Server, workspace: str, open_page: OpenPage) -> None:
    server.run(workspace, "needle = 1")
    server.run(workspace, "raise KeyError('the \"quoted\" thorn')")
    page = open_page("/pages/jobs/")
    for text, name in (("needle", "needle = 1"), ('the "quoted" thorn', "raise KeyError")):
        page.get_by_role("searchbox").fill(text)
        page.get_by_role("button", name="Search").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.get_by_role("link", name=name)).to_be_visible()
    page.get_by_role("navigation", name="State").get_by_role("link", name="Succeeded").click()
    expect(page.get_by_text("No job matches.")).to_be_visible()
    page.get_by_role("link", name="Show all jobs").click()
    page.get_by_label("Kind").select_option("clear")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("link", name="needle = 1")).to_have_count(0)
    page.get_by_label("Kind").select_option("")
    page.get_by_label("Workspace").fill(workspace)
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(2)


@pytest.mark.slow
def test_pages_of_jobs_go_back_and_forth(server: Server, workspace: str, open_page: OpenPage) -> None:
    for number in range(45):
        server.run(workspace, f"n = {number}", timeout=0)
    server.wait(workspace, 44)
    page = open_page(f"/pages/jobs/?workspace={workspace}")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(40)
    page.get_by_role("link", name="Older").click()
    expect(rows).to_have_count(5)
    expect(page.get_by_role("link", name="n = 0", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Older")).to_have_count(0)
    page.get_by_role("link", name="Newer").click()
    expect(rows).to_have_count(40)
    expect(page.get_by_role("link", name="n = 44", exact=True)).to_be_visible()


@looks
def test_a_job_is_cancelled_and_run_again_on_its_page(
    server: Server, workspace: str, open_page: OpenPage, look: dict
) -> None:
    job = server.run(workspace, f"print('begun', flush=True)\n{ENDLESS}", timeout=0)
    page = open_page(f"/pages/jobs/{job['id']}/", **look)
    expect(page.locator("[data-output]")).to_have_text("begun\n")
    assert_accessible(page)
    page.get_by_role("button", name="Cancel this job").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".page-actions .state")).to_have_text("cancelled")
    assert_accessible(page)
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(lambda url: url.endswith("/") and not url.endswith(f"/{job['id']}/"))
    expect(page.locator("[data-output]")).to_have_text("begun\n")
    server.call("/cancel_job/", name=workspace, job=1)


@pytest.mark.slow
def test_the_end_of_a_long_output_without_line_breaks_is_shown(
    server: Server, workspace: str, open_page: OpenPage
) -> None:
    job = server.run(workspace, "print('x' * 300_000, end='')")
    page = open_page(f"/pages/jobs/{job['id']}/")
    expect(page.locator("[data-output]")).to_have_text("…" + "x" * 200_000)


@pytest.mark.slow
def test_a_job_is_run_again_from_the_list(server: Server, workspace: str, open_page: OpenPage) -> None:
    server.run(workspace, "count = globals().get('count', 0) + 1")
    page = open_page(f"/pages/jobs/?workspace={workspace}")
    page.get_by_role("button", name="Run count").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    server.wait(workspace, 1)
    assert server.call("/get_variable/", name=workspace) == {"count": 2}


@pytest.mark.slow
def test_a_deployment_is_run_again_with_its_options(
    server: Server, workspace: str, open_page: OpenPage, models: Path
) -> None:
    options = {"max_delay": 0.5, "max_batch_size": 7, "runtime": "tensorflow"}
    first = server.call("/deploy/", name=workspace, path=str(models / "scale"), timeout=60, **options)
    page = open_page(f"/pages/jobs/{first['id']}/")
    expect(page.get_by_role("heading", level=1)).to_have_text("deploy scale")
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(lambda url: not url.endswith(f"/{first['id']}/"))
    server.wait(workspace, 1)
    requests = [server.http.get(f"/jobs/{id_}").json()["result"]["request"] for id_ in (first["id"], first["id"] + 1)]
    assert requests[0] == requests[1]
    assert requests[0]["options"]["max_delay_s"] == 0.5


@pytest.mark.slow
def test_the_result_is_downloaded(server: Server, workspace: str, open_page: OpenPage) -> None:
    job = server.run(workspace, "x = 1")
    page = open_page(f"/pages/jobs/{job['id']}/")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download result").click()
    found = json.loads(Path(download.value.path()).read_text())["result"]
    assert (found["id"], found["state"]) == (job["id"], "succeeded")


@pytest.mark.parametrize(
    "query", ["?before=x", "?after=-1", "?state=nothing", "?before=99999999999999999999", "?q=%00"]
)
def test_an_edited_address_shows_a_list(server: Server, query: str) -> None:
    assert server.http.get(f"/pages/jobs/{query}", headers={"Accept": "text/html"}).status_code == 200


@pytest.mark.slow
def test_a_batch_is_on_the_pages_with_its_result(
    server: Server, workspace: str, open_page: OpenPage, models: Path
) -> None:
    server.call("/deploy/", name=workspace, path=str(models / "scale"), runtime="tensorflow", timeout=60)
    rows = server.roots / "rows.jsonl"
    rows.write_text("[1, 2]\n[3, 4]\n")
    batch = server.call("/batch/", name=workspace, input=str(rows), timeout=60)
    page = open_page("/pages/jobs/?kind=batch")
    row = page.locator("tbody tr").first
    expect(row).to_contain_text("2 of 2")
    row.get_by_role("link", name=f"batch {workspace}").click()
    expect(page.locator(".page-actions")).to_contain_text(f"of the model {workspace}")
    assert_accessible(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download result").click()
    output = server.http.get(f"/batch/{batch['id']}/output")
    assert Path(download.value.path()).read_bytes() == output.content


@pytest.mark.slow
def test_a_batch_that_failed_is_resumed_and_run_again(server: Server, workspace: str, open_page: OpenPage) -> None:
    server.call("/deploy/", name=workspace, path=str(echo.write(server.roots / "resumed.echo")), timeout=60)
    rows = server.roots / "resumed.jsonl"
    rows.write_text("[1]\n[1, 2, 3]\n")
    failed = server.call("/batch/", name=workspace, input=str(rows), max_errors=0, timeout=60)
    page = open_page(f"/pages/jobs/{failed['id']}/", ignoring=("status of 400",))
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("alert")).to_contain_text("Give a larger number")
    assert_accessible(page)
    page.get_by_label("Maximum errors").fill("3")
    page.get_by_label("Maximum errors").press("Enter")
    page.wait_for_url(re.compile(rf"/pages/jobs/(?!{failed['id']}/)\d+/"))
    expect(page.locator(".page-actions")).to_contain_text("succeeded", timeout=30_000)
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(re.compile(rf"/pages/jobs/(?!{failed['id']}/)\d+/"))
    page = open_page(f"/pages/jobs/?q={workspace}", phone=True)
    page.locator(f"#job-{failed['id']}").get_by_role("button", name=re.compile("^Resume")).wait_for()
    assert_accessible(page)


@pytest.mark.slow
def test_a_deferred_prediction_is_run_again(server: Server, workspace: str, open_page: OpenPage) -> None:
    server.call("/deploy/", name=workspace, path=str(echo.write(server.roots / "later.echo")), timeout=60)
    answer = server.http.post(
        f"/v1/models/{workspace}:predict", json={"instances": [[1, 2, 3]]}, headers={"Prefer": "respond-async"}
    )
    first = server.http.get(f"/jobs/{answer.json()['job']}/", params={"wait": 30}).json()["result"]
    page = open_page(f"/pages/jobs/{first['id']}/")
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(re.compile(rf"/pages/jobs/(?!{first['id']}/)\d+/"))
    expect(page.get_by_role("heading", name=f"predict {workspace}")).to_be_visible()
    expect(page.locator(".page-actions")).to_contain_text("succeeded", timeout=30_000)
