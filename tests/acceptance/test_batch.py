"""Batches: a model over a file or a folder of images."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.model_jobs import batch_output, ended, files_of, process_of, rows_file, with_echo
from tests.acceptance.upload_requests import send, zipped


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("batch") / "data")
    with_echo(running)
    yield running
    running.close()
    assert "Traceback" not in running.log, running.log


def run(server: Server, **fields: Any) -> Any:
    return server.call("/batch/", name="m", timeout=60, **fields)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_json_lines_have_one_line_each_in_order_and_a_bad_row_is_an_error_line(
    server: Server, tmp_path: Path, batch_size: int
) -> None:
    rows: list[str] = [f"[{n}, 1.5, {-n}]" for n in range(300)]
    rows[10], rows[20], rows[30] = "[1, 2]", "nonsense", '{"x": [1, 2, 3]}'
    upload = send(server, "rows.jsonl", "\n\n".join(rows).encode())
    batch = run(server, input=upload["path"], batch_size=batch_size)
    assert (batch["state"], batch["kind"], batch["model"], batch["error"]) == ("succeeded", "batch", "m", None)
    assert (batch["done"], batch["total"], batch["errors"]) == (300, 300, 2)
    assert (batch["result"]["rows"], batch["time_left_s"]) == (300, None)
    assert batch["rows_per_s"] > 0
    lines = batch_output(server, batch["id"])
    assert [line["index"] for line in lines] == [*range(300)]
    direct = server.http.post("/v1/models/m:predict", json={"instances": [[1, 2]]})
    for n, line in enumerate(lines):
        if n in (10, 20):
            assert line.keys() == {"index", "error"}
        else:
            assert line["prediction"] == ([1, 2, 3] if n == 30 else [n, 1.5, -n])
    assert lines[10]["error"] == direct.json()["error"]
    assert "not JSON" in lines[20]["error"]


def test_a_csv_file_of_the_workspace_becomes_csv(server: Server) -> None:
    content = 'name,a0,a1\nAnn,1,2\nBen,,3\n"C, D",4,5\n'
    server.http.put("/workspaces/m/files/in/rows.csv", content=content.encode()).raise_for_status()
    columns = {"a": ["a0", "a1"], "b": "name"}
    batch = run(server, input="workspace:in/rows.csv", output="csv", signature="two", columns=columns)
    answer = server.http.get(batch["output"])
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="batch-{batch["id"]}.csv"'
    first, second, third, fourth = csv.reader(io.StringIO(answer.text))
    assert first == ["index", "a_0", "a_1", "b", "error"]
    assert (second, fourth) == (["0", "1.0", "2.0", "Ann", ""], ["2", "4.0", "5.0", "C, D", ""])
    assert third == ["1", "", "", "", "Column 'a0' must be float32, got an empty cell."]


def test_an_uploaded_archive_of_images_is_classified_as_each_image_alone(server: Server, tmp_path: Path) -> None:
    from skimage import data

    from tests.unit.image_models import onnx_model

    path = onnx_model(
        server.roots / "colours.onnx",
        [
            ("GlobalAveragePool", ["in"], ["mean"], {}), ("Flatten", ["mean"], ["flat"], {"axis": 1}),
            ("Softmax", ["flat"], ["out"], {"axis": 1}),
        ],
        shape=["n", 3, 64, 64],
        out=["n", 3],
    )  # fmt: skip
    server.call("/create_workspace/", name="colours")
    image = {"labels": ["red", "green", "blue"]}
    deployed = server.call("/deploy/", name="colours", path=str(path), image=image, timeout=60)
    assert deployed["result"] is True, deployed
    names = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "retina.jpg"]
    files = {f"images/{name}": (Path(data.__file__).parent / name).read_bytes() for name in names}
    upload = send(server, "images.zip", zipped(**{"images/broken.png": b"no image", **files}))
    batch = server.call("/batch/", name="colours", input=upload["path"], timeout=60)
    assert (batch["state"], batch["done"], batch["errors"]) == ("succeeded", 6, 1), batch
    found = {line["file"].rpartition("/")[2]: line for line in batch_output(server, batch["id"])}
    assert list(found) == sorted([*names, "broken.png"])
    assert "image" in found["broken.png"]["error"]
    for name in names:
        direct = server.http.post(
            "/v1/models/colours:predict", content=files[f"images/{name}"], headers={"Content-Type": "image/png"}
        )
        assert found[name]["prediction"] == direct.json()["predictions"][0]
    table = server.call("/batch/", name="colours", input=upload["path"], output="csv", timeout=60)
    lines = list(csv.DictReader(io.StringIO(server.http.get(table["output"]).text)))
    assert [line["label"] for line in lines if not line["error"]] == [
        found[name]["prediction"]["label"] for name in sorted(names)
    ]


def test_wrong_requests_are_refused_and_a_batch_that_can_not_begin_fails(server: Server, tmp_path: Path) -> None:
    file = rows_file(server.roots, 3)
    (server.roots / "empty").mkdir()
    for fields, status, words in (
        ({"name": "none", "input": str(file)}, 404, "no model"),
        ({"name": "m", "input": str(server.roots / "none.csv")}, 404, "does not exist"),
        ({"name": "m", "input": "/etc/passwd", "format": "csv"}, 400, "outside the readable folders"),
        ({"name": "m", "input": "workspace:../../../data.sqlite3", "format": "jsonl"}, 400, "outside"),
        ({"name": "m", "input": "upload:" + "0" * 32}, 404, "no upload"),
        ({"name": "m", "input": str(server.roots), "format": "csv"}, 400, "requires a file"),
        ({"name": "m", "input": str(server.roots / "empty")}, 400, "no image files"),
        ({"name": "m", "input": str(file), "signature": "nope"}, 400, "no signature"),
        ({"name": "m", "input": str(file), "batch_size": 0}, 400, "batch_size"),
        ({"name": "m", "input": str(file), "callback": "http://169.254.169.254/"}, 400, "not a public address"),
    ):
        found = server.refused("/batch/", **fields)
        assert found[0] == status, found
        assert words in found[1]
    (server.roots / "few.csv").write_text("a,b\n1,2\n")
    failed = run(server, input=str(server.roots / "few.csv"))
    assert (failed["state"], failed["error"]["code"]) == ("failed", "invalid")
    assert "3 values per row" in failed["error"]["message"]


def test_too_many_errors_end_a_batch_and_keep_its_output(server: Server) -> None:
    (server.roots / "bad.jsonl").write_text("[1, 2, 3]\n[1]\n[2]\n[3]\n")
    batch = run(server, input=str(server.roots / "bad.jsonl"), max_errors=1)
    assert batch["state"] == "failed"
    assert "max_errors" in batch["error"]["message"]
    lines = batch_output(server, batch["id"])
    assert lines[0]["prediction"] == [1, 2, 3]
    assert "shape" in lines[1]["error"]


def test_a_batch_that_failed_is_resumed_after_its_last_row(server: Server) -> None:
    file = server.roots / "to-resume.jsonl"
    file.write_text("[0, 0, 0]\n[1]\n[2]\n" + "".join(f"[{n}, 0, 0]\n" for n in range(3, 200)))
    failed = run(server, input=str(file), max_errors=1)
    path = f"/batch/{failed['id']}/resume"
    assert failed["state"] == "failed"
    status, words = server.refused(path)
    assert (status, "2 rows with errors, more than 1" in words) == (400, True)
    assert server.refused(path, max_errors="many")[0] == 400
    before = batch_output(server, failed["id"])
    resumed = server.call(path, max_errors=2, timeout=60)
    assert (resumed["state"], resumed["done"], resumed["errors"]) == ("succeeded", 200, 2), resumed
    assert (resumed["request"]["resumes"], resumed["request"]["max_errors"]) == (failed["id"], 2)
    lines = batch_output(server, resumed["id"])
    assert [line["index"] for line in lines] == [*range(200)]
    assert lines[: len(before)] == before == batch_output(server, failed["id"])
    assert "all rows are done" in server.refused(f"/batch/{resumed['id']}/resume")[1]
    file.write_text("[9, 9, 9]\n")
    assert "has changed" in server.call(path, max_errors=2, timeout=60)["error"]["message"]
    file.unlink()
    assert server.refused(path, max_errors=2)[0] == 404


def test_a_key_resumes_a_batch_once_and_leaves_no_folder(server: Server) -> None:
    (server.roots / "keyed.jsonl").write_text("[1]\n[2, 2, 2]\n")
    failed = run(server, input=str(server.roots / "keyed.jsonl"), max_errors=0)
    ids, folders = set(), set()
    for _ in range(2):
        answer = server.http.post(
            f"/batch/{failed['id']}/resume", json={"max_errors": 5}, headers={"Idempotency-Key": "resume"}
        )
        ids.add(answer.json()["result"]["id"])
        folders.add(frozenset(files_of(server)))
    assert (len(ids), len(folders)) == (1, 1)


def test_a_batch_is_repeated_from_the_beginning(server: Server) -> None:
    file = rows_file(server.roots, 5, "again.jsonl")
    batch = run(server, input=str(file))
    file.write_text("[7, 7, 7]\n")
    again = server.call(f"/jobs/{batch['id']}/repeat")
    assert ended(server, again["id"])["done"] == 1
    assert batch_output(server, again["id"]) == [{"index": 0, "prediction": [7, 7, 7]}]
    assert len(batch_output(server, batch["id"])) == 5
    script = server.call("/push_job/", name="m", job="x = 1", type=1, timeout=60)
    assert "Only deferred predictions and batches" in server.refused(f"/jobs/{script['id']}/repeat")[1]
    assert server.refused("/jobs/99999/repeat")[0] == 404


def test_the_output_grows_in_whole_lines_and_a_running_batch_can_be_cancelled(server: Server) -> None:
    file = rows_file(server.roots, 300_000, "many.jsonl")
    batch = server.call("/batch/", name="m", input=str(file))
    offset, text = 0, ""
    while offset < 500_000:
        piece = server.http.get(batch["output"], params={"offset": offset, "wait": 30})
        assert piece.headers["x-job-state"] in ("queued", "running")
        assert not piece.text or piece.text.endswith("\n")
        offset, text = int(piece.headers["x-next-offset"]), text + piece.text
    assert [json.loads(line)["index"] for line in text.splitlines()] == [*range(text.count("\n"))]
    cancelled = server.http.post(f"/jobs/{batch['id']}/cancel").json()["result"]
    assert (cancelled["state"], cancelled["cancelled"]) == ("cancelled", True)
    assert server.http.post(f"/jobs/{batch['id']}/cancel").json()["result"]["cancelled"] is False
    part = batch_output(server, batch["id"])
    resumed = server.call(f"/batch/{batch['id']}/resume")
    piece = server.http.get(resumed["output"], params={"offset": int(piece.headers["x-next-offset"]), "wait": 30})
    server.http.post(f"/jobs/{resumed['id']}/cancel").raise_for_status()
    lines = batch_output(server, resumed["id"])
    assert lines[: len(part)] == part
    assert [line["index"] for line in lines] == [*range(len(lines))]
    assert 0 < ended(server, batch["id"])["done"] < 300_000


def test_a_changed_input_is_not_mixed_with_the_old_one(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start()
    with_echo(server)
    file = rows_file(tmp_path, 60_000)
    batch = server.call("/batch/", name="m", input=str(file))
    server.http.get(batch["output"], params={"wait": 30})
    server.stop()
    rows_file(tmp_path, 100)
    again = start()
    job = ended(again, batch["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "conflict")
    assert "has changed" in job["error"]["message"]


def test_an_upload_in_use_by_a_batch_can_not_be_deleted(server: Server, tmp_path: Path) -> None:
    upload = send(server, "many.jsonl", rows_file(tmp_path, 200_000).read_bytes())
    batch = server.call("/batch/", name="m", input=upload["path"])
    refused = server.http.delete(f"/upload/{upload['id']}")
    assert (refused.status_code, f"batch {batch['id']}" in refused.text) == (409, True)
    server.http.post(f"/jobs/{batch['id']}/cancel").raise_for_status()
    assert server.http.delete(f"/upload/{upload['id']}").status_code == 200


@pytest.mark.slow
def test_kill_9_of_any_process_loses_no_row_and_repeats_none(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start()
    with_echo(server)
    file = rows_file(tmp_path, 100_000)
    batch = server.call("/batch/", name="m", input=str(file))["id"]
    for program in ("batch.process", "tfserve.worker", "web.app", "batch.process"):
        offset = until_more_lines(server, batch)
        process_of(server, program).kill()
        assert until_more_lines(server, batch) >= offset
    until_more_lines(server, batch)
    server.stop(signal.SIGKILL)
    server = start()
    until_more_lines(server, batch)
    server.stop()
    server = start()
    job = ended(server, batch)
    assert (job["state"], job["done"], job["total"], job["errors"]) == ("succeeded", 100_000, 100_000, 0)
    lines = batch_output(server, batch)
    assert job["attempts"] > 2
    assert len(lines) == 100_000
    assert all(line == {"index": n, "prediction": [n, 0, -n]} for n, line in enumerate(lines))
    shutil.rmtree(server.data_dir / "model-jobs")  # the file of the output is gone, but not the job
    assert server.http.get(f"/batch/{batch}/output").text == ""


def until_more_lines(server: Server, batch: int) -> int:
    """The size of the output, after waiting for it to grow, or for the end of the batch on a fast machine."""
    size = int(request_again(server, f"/batch/{batch}", {}).json()["result"]["output_bytes"])
    while True:
        answer = request_again(server, f"/batch/{batch}/output", {"offset": size, "wait": 30})
        if answer.text or answer.headers["x-job-state"] == "succeeded":
            return int(answer.headers["x-next-offset"])
        assert answer.headers["x-job-state"] in ("queued", "running")


def request_again(server: Server, path: str, query: dict[str, int]) -> Any:
    """A request that may meet the death of a web process."""
    import httpx

    try:
        return server.http.get(path, params=query)
    except httpx.TransportError:
        return server.http.get(path, params=query)
