"""The commands of `tfserve` that use a server, as users type them: real processes, one server."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.acceptance.conftest import REPOSITORY, Server
from tests.acceptance.training_calls import digit_project
from tests.protocols import echo
from tests.protocols.grpc_port import free_port
from tfserve.cli import main
from tfserve.cli.commands.jobs import existing_workspace
from tfserve_client import Client, Invalid

COMMAND = (sys.executable, "-m", "tfserve.cli")
INTERRUPTIBLE = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
"""A shell that starts the tests in the background has them, and what they start, ignore SIGINT."""
ENDLESS = "import threading\nprint('begun', flush=True)\nthreading.Event().wait()"


class Ended(NamedTuple):
    """What a command has printed."""

    out: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def tfserve(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder of its own, for the shared server. In this process: a new one takes half a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFSERVE_URL", server.url)

    def run(*words: object, stdin: str = "", code: int = 0) -> Ended:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        returned = main.run([str(word) for word in words])
        ended = Ended(*capfd.readouterr())
        assert returned == code, ended
        return ended

    return run


def in_a_process(server: Server, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *words, "--server", server.url]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def small(server: Server) -> Path:
    """Small ONNX models and an image, below the roots of the server."""
    folder = server.roots / "small-for-commands"
    write = [sys.executable, "examples/small_models.py", str(folder), "half.onnx", "brightness.onnx", "photo.png"]
    subprocess.run(write, cwd=REPOSITORY, check=True)
    return folder


# --- workspaces and jobs


def test_workspaces_are_created_listed_and_destroyed(tfserve: Run) -> None:
    assert tfserve("workspaces", "create", "typed").out == "typed\n"
    assert "already exists" in tfserve("workspaces", "create", "typed", code=1).errors
    assert "typed" in tfserve("workspaces").out
    assert "typed" in [each["name"] for each in tfserve("workspaces", "--json").json]
    assert tfserve("workspaces", "restart", "typed").out == "typed is restarted\n"
    assert tfserve("workspaces", "destroy", "typed").out == "typed is destroyed\n"
    assert "or give --all" in tfserve("workspaces", "destroy", code=2).errors


def test_what_is_done_to_several_things_is_one_json_document(tfserve: Run) -> None:
    for name in ("one", "two", "three"):
        tfserve("workspaces", "create", name)
    assert tfserve("workspaces", "destroy", "one", "two", "--json").json == {"destroyed": ["one", "two"]}
    partly = tfserve("workspaces", "destroy", "three", "no-such", "--json", code=1)
    assert (partly.json, "'no-such'" in partly.errors) == ({"destroyed": ["three"]}, True)
    Path("a.txt").write_text("a")
    uploaded = [tfserve("upload", "a.txt", "--json").json["path"].partition(":")[2].partition("/")[0] for _ in "ab"]
    assert tfserve("uploads", "rm", *uploaded, "--json").json == {"deleted": uploaded}


def test_a_script_runs_with_its_output_and_exit_code(tfserve: Run, workspace: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("print('hello')\nx = [1, 2]")
    done = tfserve("run", "job.py", "-w", workspace)
    assert (done.out, done.errors) == ("hello\n", "")
    assert tfserve("run", "-", stdin="print(6 * 7)").out == "42\n"
    failed = tfserve("run", "-", "-w", workspace, stdin="print('before')\n1 / 0", code=1)
    assert failed.out == "before\n"
    assert "ZeroDivisionError: division by zero" in failed.errors
    assert tfserve("variables", workspace, "x").out.splitlines() == ["name  value", "x     [1, 2]"]
    assert tfserve("variables", workspace, "--json").json == {"x": [1, 2]}
    assert "'none.py': No such file" in tfserve("run", "none.py", code=2).errors


def test_the_exit_code_of_the_process_is_that_of_the_script(server: Server) -> None:
    failed = in_a_process(server, "run", "-", stdin="print('before')\nraise ValueError('no')")
    assert (failed.returncode, failed.stdout) == (1, "before\n")
    assert failed.stderr.endswith("ValueError: no\n")
    assert "tfserve/cli" not in failed.stderr


def test_a_temporary_workspace_is_destroyed(tfserve: Run, server: Server) -> None:
    before = server.call("/get_workspace/")
    tfserve("run", "-", stdin="1 / 0", code=1)
    assert server.call("/get_workspace/") == before


def test_control_c_cancels_the_job_of_run(server: Server, workspace: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "-", "-w", workspace, "--server", server.url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(ENDLESS)
    process.stdin.close()
    process.stdin = None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "cancelled" in errors
    assert "Traceback" not in errors
    with Client(server.url) as client:
        assert client.jobs(workspace)[0][0]["state"] == "cancelled"


def test_a_pushed_job_is_followed_and_cancelled(tfserve: Run, workspace: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("print('done')")
    pushed = tfserve("push", "job.py", "-w", workspace, "--json").json
    assert tfserve("logs", "-f", pushed["id"]).out == "done\n"
    assert tfserve("logs", pushed["id"]).out == "done\n"
    endless = tfserve("push", "-", "-w", workspace, "--json", stdin=ENDLESS).json
    assert tfserve("cancel", endless["id"]).out == f"job {endless['id']}: cancelled\n"
    listed = tfserve("jobs", "-w", workspace, "--json").json
    assert [each["state"] for each in listed] == ["cancelled", "succeeded"]
    assert tfserve("jobs", "-w", workspace, "--state", "succeeded").out.count("\n") == 2
    assert "1 of 2 jobs" in tfserve("jobs", "-w", workspace, "-n", 1).errors
    assert "job 1000000000 not found" in tfserve("logs", 10**9, code=1).errors.lower()


def test_files_and_uploads(tfserve: Run, workspace: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("y = 'uploaded'")
    tfserve("files", "put", workspace, "job.py", "code/job.py")
    assert [each["name"] for each in tfserve("files", "ls", workspace, "code", "--json").json] == ["job.py"]
    assert tfserve("files", "get", workspace, "code/job.py", "-").out == "y = 'uploaded'"
    tfserve("files", "get", workspace, "code/job.py", "copy.py")
    assert (tmp_path / "copy.py").read_text() == "y = 'uploaded'"
    assert tfserve("files", "rm", workspace, "code", code=1).errors
    tfserve("files", "rm", "-r", workspace, "code")
    path = tfserve("upload", "job.py").out.strip()
    tfserve("push", "--on-server", path, "-w", workspace, "--wait", 60)
    assert tfserve("variables", workspace, "--json").json == {"y": "uploaded"}
    assert path in [each["path"] for each in tfserve("uploads", "--json").json]
    tfserve("uploads", "rm", path)


# --- models


def test_an_upload_that_was_interrupted_says_how_to_continue(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    for each in range(4):
        (folder / f"{each}.bin").write_bytes(bytes(8 * 2**20))
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    proxy_command = [sys.executable, "-m", "tests.acceptance.holding_proxy", server.url, str(4 * 2**20)]
    with subprocess.Popen(proxy_command, cwd=REPOSITORY, **piped) as proxy:
        assert proxy.stdout is not None
        url = proxy.stdout.readline().strip()
        command = [*COMMAND, "upload", "my photos", "--name", "all", "--server", url]
        with subprocess.Popen([sys.executable, "-c", INTERRUPTIBLE, *command], cwd=tmp_path, **piped) as upload:
            try:
                assert proxy.stdout.readline() == "holding\n"
                upload.send_signal(signal.SIGINT)
                out, errors = upload.communicate(timeout=60)
            finally:
                upload.kill()
                proxy.kill()
    assert (upload.returncode, out.strip()) == (130, "")
    found = re.search(r"`tfserve (.*)` continues this upload", errors)
    assert found, errors
    words = shlex.split(found[1])
    assert words[:-1] == ["upload", "my photos", "--name", "all", "--server", url, "--resume"]
    words[words.index("--server") + 1] = server.url
    resumed = subprocess.run([*COMMAND, *words], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert resumed.stdout == f"upload:{words[-1]}\n", resumed
    assert server.http.delete(f"/upload/{words[-1]}").status_code == 200


def test_a_model_is_deployed_described_and_run(tfserve: Run, workspace: str, small: Path, tmp_path: Path) -> None:
    assert tfserve("deploy", workspace, small / "half.onnx").out == f"{workspace} is deployed: version 1\n"
    assert workspace in tfserve("models").out
    described = tfserve("models", workspace).out
    assert "x     FP32  [-1, 2]" in described
    assert tfserve("predict", workspace, "[[1, 2]]").json == [[2.5, 3.0]]
    assert tfserve("predict", workspace, "-", stdin='{"inputs": [[1.0, 2.0]]}').json == [[2.5, 3.0]]
    np.save(tmp_path / "x.npy", np.array([[1.0, 2.0]]))
    np.savez(tmp_path / "x.npz", x=np.array([[1.0, 2.0]], np.float32))
    for file in ("x.npy", "x.npz"):
        assert tfserve("predict", workspace, file).json == {"y": [[2.5, 3.0]]}
    tfserve("predict", workspace, "x.npz", "-o", "y.npz")
    assert np.load(tmp_path / "y.npz")["y"].tolist() == [[2.5, 3.0]]
    assert tfserve("scale", workspace, 2).out == f"{workspace} is served by 2 processes\n"
    assert tfserve("update", workspace, "--upload", small / "half.onnx").out.endswith("is updated: version 2\n")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as outside:  # which the server may not read
        shutil.copy(small / "half.onnx", outside)
        updated = tfserve("update", workspace, Path(outside) / "half.onnx")
        assert (
            "is outside the readable folders"
            in tfserve("update", workspace, "--no-upload", Path(outside) / "half.onnx", code=1).errors
        )
    assert (updated.out, "uploaded" in updated.errors) == (f"{workspace} is updated: version 3\n", True)
    tfserve("undeploy", workspace)
    refused = tfserve("predict", workspace, "[[1, 2]]", code=1)
    assert "There is no model" in refused.errors


def test_wrong_input_is_explained(tfserve: Run, workspace: str, small: Path) -> None:
    tfserve("deploy", workspace, small / "half.onnx")
    assert "takes float32 of shape [-1, 2]" in tfserve("predict", workspace, '[["a"]]', code=1).errors
    assert "is not JSON" in tfserve("predict", workspace, "[[1, 2", code=2).errors
    assert "is not a file" in tfserve("predict", workspace, "none.png", code=2).errors
    assert "does not exist" in tfserve("deploy", workspace, small / "none.onnx", code=1).errors
    assert "limits.memory must be a size" in tfserve("workspaces", "create", "x", "--memory", "much", code=1).errors
    limited = tfserve("push", "-", "-w", workspace, "--time-limit", "-1", stdin="x = 1", code=1)
    assert "(field: time_limit)" in limited.errors
    assert "did you mean 'models'" in tfserve("model", code=2).errors
    assert "is not an address" in tfserve("models", "--server", "http://a:b", code=2).errors


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("push", "missing.py", "-w", "typo"), 2),
        (("run", "missing.py", "-w", "typo"), 2),
        (("run", "/etc/missing.py", "-w", "typo", "--on-server"), 1),
        (("deploy", "typo", "/etc/missing.onnx"), 1),
    ],
    ids=["push", "run", "run on server", "deploy"],
)
def test_a_refused_command_leaves_no_workspace(
    tfserve: Run, server: Server, command: tuple[str, ...], code: int
) -> None:
    assert "created workspace" not in tfserve(*command, code=code).errors
    assert "typo" not in server.call("/get_workspace/")


def test_a_new_workspace_that_others_use_meanwhile_stays_when_the_command_is_refused(server: Server) -> None:
    def refused(name: str, error: BaseException, script: str) -> None:
        with existing_workspace(client, name):
            if script:
                client.push_script(name, script)
            raise error

    with Client(server.url) as client:
        with pytest.raises(Invalid):
            refused("unused", Invalid("the command was refused"), "")
        with pytest.raises(Invalid):
            refused("used meanwhile", Invalid("the command was refused"), "x = 1")
        with pytest.raises(KeyboardInterrupt):
            refused("interrupted", KeyboardInterrupt(), "")
        kept = {"unused", "used meanwhile", "interrupted"} & set(client.get_workspace())
        assert kept == {"used meanwhile", "interrupted"}
        assert client.get_variable("used meanwhile", "x")["x"] == 1
        for name in kept:
            client.destroy_workspace(name)


def test_a_folder_of_images_becomes_a_table_that_is_continued(
    tfserve: Run, workspace: str, small: Path, tmp_path: Path
) -> None:
    tfserve("deploy", workspace, small / "brightness.onnx")
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.png", "b.png", "more/c.png"):
        shutil.copy(small / "photo.png", folder / name)
    (folder / "broken.jpg").write_bytes(b"not an image")
    first = tfserve("predict", workspace, folder, code=1)
    assert first.out == "photos.csv: 4 images, 1 failed\n"
    with (tmp_path / "photos.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert [rows[name]["label"] for name in ("a.png", "b.png", "more/c.png")] == ["light"] * 3
    assert "not an image" in rows["broken.jpg"]["error"]
    shutil.copy(small / "photo.png", folder / "broken.jpg")
    lines = (tmp_path / "photos.csv").read_text().splitlines(keepends=True)
    (tmp_path / "photos.csv").write_text("".join(lines)[:-5])  # as after a kill while it was written
    assert tfserve("predict", workspace, folder).out == "photos.csv: 4 images (2 before), 0 failed\n"
    assert (tmp_path / "photos.csv").read_text().count("light") == 4
    image = tfserve("predict", workspace, folder / "a.png", "--json").json[0]
    assert (image["file"], image["label"]) == (str(folder / "a.png"), "light")
    tfserve("update", workspace, small / "brightness.onnx")
    refused = tfserve("predict", workspace, folder, code=2)
    assert f"has predictions of {workspace} 1, not of {workspace} 2" in refused.errors
    assert tfserve("predict", workspace, folder, "-o", "second.csv").out.startswith("second.csv: 4 images, 0 failed")


@pytest.mark.parametrize(
    ("name", "content"), [("a.npy", b""), ("b.npy", b"no array"), ("c.npz", b"PK\x03\x04"), ("d.npz", b"")]
)
def test_a_damaged_file_of_an_array_is_refused(tfserve: Run, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name} is damaged, or has no array" in tfserve("predict", "any", name, "--input", "x", code=2).errors


def test_tokens_are_those_of_the_server_that_the_environment_names(
    start: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """From another folder, as on another machine: nothing is created in it."""
    server = start()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main.run(["token", "create", "root", "--scope", "admin", "--data-dir", str(server.data_dir)]) == 0
    secret = capfd.readouterr().out.strip()
    monkeypatch.setenv("TFSERVE_URL", server.url)
    assert main.run(["token", "list"]) == 1
    assert "requires a token" in capfd.readouterr().err
    assert main.run(["token", "list", "--token", secret, "--json"]) == 0
    assert [each["name"] for each in json.loads(capfd.readouterr().out)] == ["root"]
    monkeypatch.setenv("TFSERVE_TOKEN", secret)
    assert main.run(["token", "create", "second", "--scope", "predict"]) == 0
    assert [*elsewhere.iterdir()] == []


# --- trainings and the server


def test_a_training_on_the_server_is_started_listed_and_cancelled(tfserve: Run, server: Server) -> None:
    project = digit_project(server.roots / "digits-of-commands", per_class=6)
    options = ("--set", "exports=saved_model", "--set", "backbone=compact", "--detach")
    task = tfserve("train", project, "--remote", *options).out.strip()
    assert task in tfserve("trainings").out
    assert tfserve("trainings", "cancel", task).out == f"{task}: cancelled\n"
    shown = tfserve("trainings", "show", task, "--json").json
    assert (shown["state"], shown["projectId"]) == ("cancelled", project.name)
    assert tfserve("trainings", "follow", task, code=130).errors.startswith("tfserve: ")
    assert "unknown parameter" in tfserve("train", project, "--remote", "--set", "epoch=1", code=1).errors
    assert "trainType" in tfserve("train", project, "--remote", "--type", "dreaming", code=1).errors


def test_the_options_of_a_command_may_come_before_and_after_it(tfserve: Run, server: Server) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert isinstance(tfserve("--server", nowhere, "models", "--server", server.url, "--json").json, list)
    assert tfserve("--json", "--server", server.url, "status").json["version"]
    assert tfserve("status", "--server", server.url).out.startswith("server ")


def test_an_option_with_a_wrong_number_says_which_are_meant(tfserve: Run) -> None:
    expected = "'abc' is not a whole number. Expected a whole number from 1 to 1000."
    assert expected in tfserve("jobs", "--limit", "abc", code=2).errors
    assert "0 is not in the range 1<=x<=1000" in tfserve("jobs", "--limit", "0", code=2).errors
    assert "a number from 0 to 1." in tfserve("predict", "m", "[]", "--min-score", "x", code=2).errors
    assert "a whole number of at least 1." in tfserve("scale", "m", "many", code=2).errors


def test_without_a_server_a_sentence_says_how_to_start_one(tfserve: Run) -> None:
    done = tfserve("models", "--server", f"127.0.0.1:{free_port()}", code=3)
    assert (done.out, done.errors.count("\n")) == ("", 2)
    assert "No response from http://127.0.0.1:" in done.errors
    assert "Start a server with `tfserve serve`" in done.errors
    assert "--server URL" in tfserve("models", "--server", "http://127.0.0.2:9", code=3).errors


def test_https_to_a_server_without_tls_is_explained(tfserve: Run, server: Server) -> None:
    done = tfserve("models", "--server", server.url.replace("http:", "https:"), code=3)
    assert "its address begins with http://" in done.errors
    assert "Start a server" not in done.errors


def test_a_closed_pipe_ends_a_command_quietly(server: Server) -> None:
    line = f"{sys.executable} -m tfserve.cli jobs --json --server {server.url} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_names_are_completed(tfserve: Run, workspace: str, server: Server) -> None:
    assert "_TFSERVE_COMPLETE=bash_complete" in tfserve("completion", "bash").out
    fish = tfserve("completion", "fish").out
    assert 'string split --max 1 ","' in fish, "descriptions have commas"
    environment = {**os.environ, "TFSERVE_URL": server.url, "_TFSERVE_COMPLETE": "bash_complete", "COMP_CWORD": "2"}

    def completed(line: str) -> list[str]:
        done = subprocess.run(
            COMMAND, env={**environment, "COMP_WORDS": line}, capture_output=True, text=True, check=True
        )
        return [each.partition(",")[2] for each in done.stdout.splitlines()]

    assert workspace in completed("tfserve variables ")
    assert completed("tfserve trainings re") == ["resume"]


@pytest.mark.slow
def test_doctor_imports_the_runtimes(tfserve: Run, server: Server) -> None:
    diagnoses = {each["name"]: each for each in tfserve("doctor", "--json").json}
    assert diagnoses["TensorFlow"]["level"] == "ok"
    assert {"Python", "packages", "GPU", "disk", "memory", "data folder"} <= diagnoses.keys()


def test_a_batch_runs_over_a_file_and_is_followed_again(
    tfserve: Run, server: Server, workspace: str, tmp_path: Path
) -> None:
    server.call("/deploy/", name=workspace, path=str(echo.write(server.roots / "batch.echo")), timeout=60)
    (tmp_path / "rows.jsonl").write_text('[1.0, 2.0, 3.0]\n["no"]\n')
    done = tfserve("batch", workspace, "rows.jsonl", "-o", "out.jsonl")
    assert "2 rows, 1 with errors" in done.errors
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [each["index"] for each in lines] == [0, 1]
    assert (lines[0]["prediction"], "error" in lines[1]) == ([1.0, 2.0, 3.0], True)
    batch = re.search(r"--continue (\d+)", done.errors)
    assert batch
    assert tfserve("batch", workspace, "--continue", batch[1]).out == (tmp_path / "out.jsonl").read_text()
    assert "does not exist here" in tfserve("batch", workspace, "none.csv", code=2).errors
    again = tfserve("repeat", batch[1]).out.strip()
    assert tfserve("batch", workspace, "--continue", again).out == (tmp_path / "out.jsonl").read_text()
    failed = re.search(
        r"--continue (\d+)", tfserve("batch", workspace, "rows.jsonl", "--max-errors", "0", code=1).errors
    )
    assert failed
    assert "Give a larger number" in tfserve("batch", workspace, "--resume", failed[1], code=1).errors
    resumed = tfserve("batch", workspace, "--resume", failed[1], "--max-errors", "1")
    assert resumed.out == (tmp_path / "out.jsonl").read_text()
    assert "--resume" in tfserve("batch", workspace, "rows.jsonl", "--resume", "1", code=2).errors
