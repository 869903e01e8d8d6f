"""The pages: what a browser shows, live, and with nothing in it that a script could have smuggled in."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.acceptance.browser import CHROMIUM, Browser
from tests.acceptance.conftest import Server
from tests.acceptance.training_calls import ENDLESS, begin, finished

EVIL = "<script>alert(1)</script><b>"


def test_the_pages_show_server_workspaces_and_jobs(server: Server, workspace: str) -> None:
    server.run(workspace, "x = 1")
    server.run(workspace, "1 / 0")
    shown = {
        "/": (str(server.pid), "ready", "ZeroDivisionError"),
        "/pages/workspaces/": (workspace, "idle"),
        f"/pages/workspaces/{workspace}/": ("x = 1", "1 / 0", "Variables"),
        "/pages/jobs/": (workspace, "x = 1", "failed", "succeeded", "ZeroDivisionError"),
    }
    for path, texts in shown.items():
        page = server.http.get(path)
        assert page.status_code == 200
        assert page.headers["Content-Type"].startswith("text/html")
        for text in texts:
            assert text in page.text, path


def test_nothing_may_run_but_the_servers_own_scripts(server: Server) -> None:
    policy = server.http.get("/").headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'self'" in policy or "default-src 'none'" in policy
    page = server.http.get("/").text
    assert not re.search(r"<script(?![^>]*src=)", page)
    assert not re.search(r"\son\w+=|style=", page)
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        assert server.http.get(path).status_code == 200, path


def test_what_scripts_say_is_text_on_every_page(server: Server, workspace: str) -> None:
    job = server.run(workspace, f"evil = {EVIL!r}\nprint(evil)\nraise ValueError(evil)")
    for path in ("/", "/pages/jobs/", f"/pages/workspaces/{workspace}/", f"/pages/jobs/{job['id']}/"):
        page = server.http.get(path).text
        assert EVIL not in page
        assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("script", ["1 / 0", "x = 1", "import os; os._exit(3)", "def f(:", "import sys; sys.exit(2)"])
@pytest.mark.parametrize("type_", [0, 1])
def test_every_kind_of_job_has_a_page(server: Server, script: str, type_: int) -> None:
    name = server.call("/create_workspace/", type=type_)
    job = server.run(name, script)
    page = server.http.get(f"/pages/jobs/{job['id']}/")
    assert page.status_code == 200
    assert job["state"] in page.text
    server.call("/destroy_workspace/", name=name)


def test_model_jobs_have_a_page_too(server: Server, workspace: str, models: Path) -> None:
    jobs = [server.call("/deploy/", name=workspace, path=str(models / "scale"), timeout=60)]
    jobs.append(server.call("/predict/", name=workspace, fetches="y", feed_dict={"x": [[1, 2]]}, timeout=60))
    jobs.append(server.call("/predict/", name=workspace, fetches="zzz", feed_dict={"x": [[1, 2]]}, timeout=60))
    jobs.append(server.call("/clear/", name=workspace, timeout=60))
    assert "scale" in server.http.get("/").text
    jobs.append(server.call("/undeploy/", name=workspace, timeout=60))
    for job in jobs:
        assert server.http.get(f"/pages/jobs/{job['id']}/").status_code == 200


def test_an_unknown_page_is_404(server: Server) -> None:
    assert server.http.get("/pages/jobs/999999999/").status_code == 404
    assert server.http.get("/pages/nothing/").status_code == 404


def test_a_change_is_reported_to_open_pages(server: Server, workspace: str) -> None:
    with server.http.stream("GET", "/pages/events", timeout=30) as events:
        changes = 0
        for line in events.iter_lines():
            if line == "event: changed":
                changes += 1
                if changes == 1:
                    server.run(workspace, "x = 1")
                else:
                    break
    assert changes == 2


def test_an_open_page_gets_only_the_parts_that_changed(server: Server, workspace: str) -> None:
    server.run(workspace, "y = 1")
    page = server.http.get("/pages/jobs/", headers={"Accept-Encoding": "gzip"})
    assert page.headers["Content-Encoding"] == "gzip"
    known = dict(re.findall(r'id="(part-[\w-]+)" data-version="(\w+)"', page.text))
    assert known.keys() == {"part-filters", "part-list"}

    def changed() -> set[str]:
        parts = ",".join(f"{name}={version}" for name, version in known.items())
        update = server.http.get("/pages/jobs/", headers={"HX-Request": "true", "X-Parts": parts})
        return set(re.findall(r'id="(part-[\w-]+)"', update.text))

    assert changed() == set(), "the age of a job does not count as a change"
    server.run(workspace, "x = 1")
    assert changed() == {"part-list"}


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_what_happens_after_the_page_was_loaded(server: Server, workspace: str, tmp_path: Path) -> None:
    browser = Browser(tmp_path, f"{server.url}/pages/jobs/")
    try:
        assert browser.wait_for("Jobs")
        server.run(workspace, "raise RuntimeError('happened later')")
        assert browser.wait_for("happened later")
    finally:
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_output_as_it_comes(server: Server, workspace: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = server.run(
        workspace, f"print('{EVIL} first', flush=True)\nopen({str(gate)!r}).read()\nprint('second')", timeout=0
    )
    browser = Browser(tmp_path / "profile", f"{server.url}/pages/jobs/{job['id']}/")
    try:
        assert browser.wait_for(f"{EVIL} first"), "shown as the text that it is"
        gate.write_text("")
        assert browser.wait_for("second")
        assert browser.wait_for("succeeded")
    finally:
        browser.close()


@pytest.mark.slow
def test_a_training_is_on_the_overview_while_it_runs(server: Server, digits: Path) -> None:
    project = server.roots / "projects" / f"{EVIL.replace('/', '')} page"
    shutil.copytree(digits, project)
    task = begin(server, project, {"epochs": 2, "exports": "all"}, projectId=EVIL)
    page = server.http.get("/").text
    assert task["taskId"] in page
    assert EVIL not in page
    assert EVIL.replace("/", "") not in page
    assert "&lt;script&gt;alert(1)" in page
    ended = finished(server, task["taskId"])
    assert ended["state"] == "done", ended
    assert server.http.get(f"/pages/jobs/{task['jobId']}/").status_code == 200


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_the_epochs_of_a_training_as_they_end(server: Server, digits: Path, tmp_path: Path) -> None:
    project = server.roots / "projects" / "in the browser"
    shutil.copytree(digits, project)
    browser = Browser(tmp_path, server.url)
    try:
        task = begin(server, project, ENDLESS)
        assert browser.wait_for("in the browser")
        assert browser.wait_for("epoch 2 of 500")
        server.http.post(f"/tasks/{task['taskId']}/cancel")
        assert browser.wait_for("Nothing is training.")
    finally:
        browser.close()


def test_an_address_that_only_takes_a_form_says_so(server: Server) -> None:
    opened = server.http.get("/pages/logout/", headers={"Accept": "text/html"})
    assert (opened.status_code, opened.headers["allow"]) == (405, "POST")
    assert "can&#x27;t be requested with GET, only with POST" in opened.text
    assert "temporarily" not in opened.text
    program = server.http.get("/pages/logout/", headers={"Accept": "application/json"})
    assert (program.status_code, program.json()["request_result"]) == (405, False)
