"""Uploads over HTTP: whole, as a form and in pieces; what uses them; and what is left when something goes wrong."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.test_access import bearer, token
from tests.acceptance.upload_requests import (
    append,
    begin,
    echo_model,
    folders,
    half_sent,
    problem,
    result,
    send,
    until_offset,
    zipped,
)
from tfserve_client import Client, Invalid, uploads

Start = Callable[..., Server]

MAX_BODY, MAX_UPLOAD, QUOTA = 100_000, 3_000_000, 20_000_000
OPTIONS = (
    "--max-body-bytes", str(MAX_BODY), "--max-upload-bytes", str(MAX_UPLOAD),
    "--upload-quota-bytes", str(QUOTA), "--body-timeout-s", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits and two web processes."""
    running = Server(tmp_path_factory.mktemp("uploads") / "data", *OPTIONS, "--web-processes", "2")
    yield running
    running.close()
    assert "Traceback" not in running.log, running.log


def test_one_file_whole_as_a_form_and_in_pieces_is_the_same(server: Server) -> None:
    content = os.urandom(2_500_000)
    sha256 = hashlib.sha256(content).hexdigest()
    whole = send(server, "weights.bin", content, sha256=sha256.upper())
    form = result(server.http.post("/upload/", files={"file": ("weights.bin", content)}, data={"sha256": sha256}))
    chunked = result(server.http.post("/upload/?name=weights.bin", content=iter([content[:7], content[7:]])))
    id_ = begin(server, "weights.bin", len(content), sha256=sha256)
    for offset in range(0, len(content), 900_000):
        pieces = result(append(server, id_, offset, content[offset : offset + 900_000]))
        assert result(server.http.get(f"/upload/{id_}")) == pieces
    for upload in (whole, form, chunked, pieces):
        assert (upload["state"], upload["progress"], upload["offset"]) == ("complete", 100, len(content))
        assert (upload["sha256"], upload["files"], upload["stored_bytes"]) == (sha256, 1, len(content))
        assert upload["path"] == f"upload:{upload['id']}"
        folder = server.data_dir / "uploads" / upload["id"]
        assert sorted(each.name for each in folder.iterdir()) == ["content", "record.json"]
        assert (folder / "content" / "weights.bin").read_bytes() == content
    listed = result(server.http.get("/upload/"))
    assert [each["id"] for each in listed["uploads"]][-4:] == [each["id"] for each in (whole, form, chunked, pieces)]
    for upload in (whole, form, chunked, pieces):
        assert result(server.http.delete(f"/upload/{upload['id']}")) is True
        assert problem(server.http.get(f"/upload/{upload['id']}"))[0] == 404


def test_a_wrong_offset_is_409_with_the_right_one(server: Server) -> None:
    id_ = begin(server, "a.bin", 10)
    assert result(append(server, id_, 0, b"12345"))["progress"] == 50
    for offset in (0, 4, 6, 10**15):
        answer = append(server, id_, offset, b"67890")
        assert answer.status_code == 409
        assert answer.json()["error"]["detail"]["offset"] == 5
        assert "begins at offset 5" in answer.json()["result"]
    assert append(server, id_, -1, b"x").status_code == 400
    assert append(server, id_, 5, b"678901").status_code == 413
    assert result(append(server, id_, 5, b""))["offset"] == 5
    assert result(append(server, id_, 5, b"67890"))["state"] == "complete"
    assert "is complete" in problem(append(server, id_, 10, b"x"))[1]
    assert append(server, "0" * 32, 0, b"x").status_code == 404


def test_a_wrong_checksum_is_refused_and_nothing_stays(server: Server) -> None:
    before = folders(server)
    wrong = {"name": "a.bin", "sha256": "0" * 64}
    assert "was announced" in problem(server.http.post("/upload/", params=wrong, content=b"x"))[1]
    assert folders(server) == before
    id_ = begin(server, "a.bin", 1, sha256="0" * 64)
    assert append(server, id_, 0, b"x").status_code == 400
    found = result(server.http.get(f"/upload/{id_}"))
    assert found["state"] == "refused"
    assert "was announced" in found["reason"]
    assert "was announced" in server.refused("/deploy/", name=used_workspace(server), path=f"upload:{id_}")[1]


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({}, 400, "name is missing"), ({"name": "../x"}, 400, "leads outside"),
        ({"name": "a", "size": "0"}, 400, "size"),
        ({"name": "a", "size": "-1"}, 400, "size"), ({"name": "a", "sha256": "0"}, 400, "64 hexadecimal"),
        ({"name": "a", "unpack": "maybe"}, 400, "true or false"), ({"name": "a", "size": "9"}, 400, "9 bytes"),
        ({"name": "a", "size": str(MAX_UPLOAD + 1)}, 413, "max_upload_bytes"),
        ({"name": "a.zip"}, 400, "not a valid archive"), ({"name": "x" * 300}, 400, "too long"),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused_and_nothing_stays(
    server: Server, query: dict[str, str], status: int, words: str
) -> None:
    before = folders(server)
    found = problem(server.http.post("/upload/", params=query, content=b"content"))
    assert found[0] == status
    assert words in found[1]
    assert folders(server) == before


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The body is empty"), (b"nonsense", "Invalid form data"),
        (b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx', "cut off"),
        (b'--b\r\nContent-Disposition: form-data; name="file"; filename="../a"\r\n\r\nx\r\n--b--\r\n', "leads outside"),
        (b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n', "has the field 'other'"),
        (b"--b\r\nX: " + b"y" * 9000 + b"\r\n\r\nx\r\n--b--\r\n", "header size exceeded"),
        (b"--b--\r\n", "no file"),
        (b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nx\r\n' * 2 + b"--b--\r\n", "twice"),
    ],
)  # fmt: skip
def test_a_bad_form_is_refused_and_nothing_stays(server: Server, body: bytes, words: str) -> None:
    before = folders(server)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    status, sentence = problem(server.http.post("/upload/", content=body, headers=headers))
    assert (status, words in sentence) == (400, True), sentence
    assert folders(server) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../../../outside.bin", "leads outside"), ("a/../../x", "leads outside"), ("/outside.bin", "leads outside"),
        ("..\\..\\x", "leads outside"), ("folder/a.bin", "it has folders"), ("..", "leads outside"),
        ("", "it is empty"), (".", "it is empty"), ("x" * 300, "too long"), ("a\nb", "control characters"),
    ],
)  # fmt: skip
def test_the_name_in_a_form_is_checked_like_that_of_the_query(server: Server, name: str, words: str) -> None:
    before = set(server.data_dir.parent.rglob("*"))
    status, sentence = problem(server.http.post("/upload/", files={"file": ("a.bin", b"evil")}, data={"name": name}))
    assert (status, words in sentence) == (400, True), sentence
    new = [each for each in set(server.data_dir.parent.rglob("*")) - before if each.is_file()]
    assert not [each for each in new if each.read_bytes() == b"evil"]


def test_the_name_in_a_form_replaces_that_of_the_file(server: Server) -> None:
    found = result(server.http.post("/upload/", files={"file": ("a.bin", b"x")}, data={"name": "b.bin"}))
    assert found["name"] == "b.bin"
    assert [each.name for each in (server.data_dir / "uploads" / found["id"] / "content").iterdir()] == ["b.bin"]
    result(server.http.delete(f"/upload/{found['id']}"))


def test_a_body_that_is_too_large_ends_at_once_however_it_is_sent(server: Server) -> None:
    before = folders(server)
    piece = bytes(100_000)
    for options in ({"content": iter([piece] * 40)}, {"files": {"file": ("a", bytes(MAX_UPLOAD + 1))}}):
        answer = server.http.post("/upload/?name=a", **options)
        assert answer.status_code == 413
    compressed = server.http.post("/upload/?name=a", content=b"x", headers={"Content-Encoding": "gzip"})
    assert "without Content-Encoding" in problem(compressed)[1]
    assert folders(server) == before


def test_a_quota_is_507_and_what_is_reserved_counts(server: Server) -> None:
    ids = [begin(server, "a", MAX_UPLOAD) for _ in range(5)]
    for _ in range(2):
        answer = server.http.post("/upload/", params={"name": "a", "size": MAX_UPLOAD})
        if answer.status_code == 200:
            ids.append(answer.json()["result"]["id"])
    status, sentence = problem(server.http.post("/upload/", params={"name": "a", "size": MAX_UPLOAD}))
    assert (status, "upload_quota_bytes" in sentence) == (507, True)
    for id_ in ids:
        assert result(server.http.delete(f"/upload/{id_}")) is True


def test_files_of_workspaces_count_in_the_quota_and_all_owners_together_have_a_limit(start: Start) -> None:
    server = start("--upload-quota-bytes", "1000", "--all-uploads-bytes", "1500", "--auth", "on")
    admin, other = (bearer(token(server, name, "admin")) for name in ("root", "other"))
    server.http.post("/create_workspace/", json={"name": "w"}, headers=admin).raise_for_status()

    def put(name: str, size: int, headers: dict[str, str], *, announced: bool = True) -> tuple[int, str]:
        body = bytes(size) if announced else iter([bytes(size)])
        answer = server.http.put(f"/workspaces/w/files/{name}", content=body, headers=headers)
        return answer.status_code, answer.text

    assert put("%2Fa", 700, admin)[0] == 200  # as "a", which is not looked for outside of the workspace
    for announced in (True, False):
        status, text = put("b", 400, admin, announced=announced)
        assert (status, "upload_quota_bytes" in text) == (507, True)
    upload = server.http.post("/upload/?name=c", content=bytes(400), headers=admin)
    assert (upload.status_code, "upload_quota_bytes" in upload.text) == (507, True)
    assert server.http.get("/upload/", headers=admin).json()["result"]["used_bytes"] == 700
    assert put("d", 750, other)[0] == 200
    status, text = put("e", 100, other)
    assert (status, "all_uploads_bytes" in text) == (507, True)
    server.http.delete("/workspaces/w/files/a", headers=admin).raise_for_status()
    assert put("e", 100, other)[0] == 200
    assert put("b", 400, admin, announced=False)[0] == 200


def test_an_upload_that_is_broken_off_is_removed_or_can_be_continued(server: Server) -> None:
    id_ = begin(server, "a.bin", 300_000)
    before = folders(server)
    content = os.urandom(300_000)
    half_sent(server, f"PATCH /upload/{id_}?offset=0", content[:200_000], 300_000).close()
    half_sent(server, "POST /upload/?name=b.bin", content[:200_000], 300_000).close()
    until_offset(server, id_, 200_000)
    assert result(append(server, id_, 200_000, content[200_000:]))["sha256"] == hashlib.sha256(content).hexdigest()
    while folders(server) != before:  # the other one is removed as soon as its connection is
        assert len(folders(server)) <= len(before) + 1


def test_a_slow_upload_is_408_and_keeps_what_has_arrived(server: Server) -> None:
    id_ = begin(server, "a.bin", 300_000)
    before = folders(server)
    response = b"HTTP/1.1 503"
    while response.startswith(b"HTTP/1.1 503"):  # the other request was first
        with half_sent(server, f"PATCH /upload/{id_}?offset=0", bytes(100_000), 300_000) as sock:
            busy = append(server, id_, 100_000, b"x")
            assert busy.status_code in (409, 503)
            response = sock.recv(1000)
    assert response.startswith(b"HTTP/1.1 408")
    with half_sent(server, "POST /upload/?name=b.bin", bytes(100_000), 300_000) as sock:
        assert sock.recv(1000).startswith(b"HTTP/1.1 408")
    assert result(server.http.get(f"/upload/{id_}"))["offset"] == 100_000
    assert folders(server) == before


# --- what uses them


def used_workspace(server: Server) -> str:
    if "uses" not in server.call("/get_workspace/"):
        server.call("/create_workspace/", name="uses")
    return "uses"


def test_a_model_is_deployed_from_an_upload_which_then_can_not_be_deleted(server: Server, tmp_path: Path) -> None:
    name, model = used_workspace(server), echo_model(tmp_path)
    single = send(server, "m.echo", model)
    archive = send(server, "models.zip", zipped(folder__1__readme=b"", folder__m__model=b"", folder__a=model))
    job = server.call("/deploy/", name=name, path=single["path"], timeout=60)
    assert job["result"] is True, job
    status, sentence = problem(server.http.delete(f"/upload/{single['id']}"))
    assert (status, "the model of workspace 'uses'" in sentence) == (409, True)
    again = send(server, "m.echo", model)
    assert server.call("/update/", name=name, path=f"{again['path']}/m.echo", timeout=60)["result"] is True
    assert result(server.http.delete(f"/upload/{single['id']}")) is True
    loaded = server.http.post(f"/v2/repository/models/{name}/load", json={"parameters": {"path": again["path"]}})
    assert loaded.status_code == 200, loaded.text
    assert problem(server.http.delete(f"/upload/{again['id']}"))[0] == 409
    server.call("/undeploy/", name=name, timeout=60)
    assert result(server.http.delete(f"/upload/{again['id']}")) is True
    refused = server.call("/deploy/", name=name, path=archive["path"], timeout=60)
    assert refused["result"] is False
    for path, status in ((f"{archive['path']}/none", 404), (f"{archive['path']}/../x", 400), ("upload:x", 404)):
        assert server.refused("/deploy/", name=name, path=path)[0] == status
    assert (
        server.http.post(f"/v2/repository/models/{name}/load", json={"parameters": {"path": "upload:x"}}).status_code
        == 404
    )


def test_a_script_runs_from_an_upload(server: Server) -> None:
    name = used_workspace(server)
    script = send(server, "job.py", b"x = 6 * 7")
    several = result(
        server.http.post("/upload/", files=[("f", ("a.py", b"import sys; y = 1")), ("f", ("b.py", b"y = 2"))])
    )
    assert server.call("/push_job/", name=name, job=script["path"], timeout=60)["variable"]["x"] == 42
    for path, value in (("a.py", 1), ("b.py", 2)):
        job = server.call("/push_job/", name=name, job=f"{several['path']}/{path}", timeout=60)
        assert job["variable"]["y"] == value
    assert "Send type 0" in server.refused("/push_job/", name=name, job=script["path"], type=1)[1]


def test_an_upload_is_kept_while_a_job_runs_from_it(server: Server, tmp_path: Path) -> None:
    name, gate = used_workspace(server), tmp_path / "gate"
    os.mkfifo(gate)
    script = send(server, "job.py", f"open({str(gate)!r}).read()".encode())
    running = server.call("/push_job/", name=name, job=script["path"], timeout=0)
    queued = server.call("/push_job/", name=name, job=script["path"], timeout=0)
    status, sentence = problem(server.http.delete(f"/upload/{script['id']}"))
    assert (status, f"of workspace {name!r}" in sentence) == (409, True)
    assert server.call("/cancel_job/", name=name, job=queued["job"])["cancelled"] is True
    gate.write_text("")
    assert server.wait(name, running["job"])["state"] == "succeeded"
    assert result(server.http.delete(f"/upload/{script['id']}")) is True


def test_the_python_client_uploads_files_and_folders(server: Server, tmp_path: Path) -> None:
    name, folder = used_workspace(server), tmp_path / "code"
    (folder / "package").mkdir(parents=True)
    (folder / "job.py").write_text("x = 'from a folder'")
    (folder / "large").write_bytes(os.urandom(1_000_000))
    (folder / "package" / "link").symlink_to("../job.py")
    with Client(server.url) as client, pytest.MonkeyPatch.context() as patched:
        patched.setattr(uploads, "PIECE_BYTES", 300_000)
        path = client.upload(folder)
        assert client.push_file(name, f"{path}/package/link", timeout=60).variable["x"] == "from a folder"
        with pytest.raises(Invalid, match="not a valid archive"):
            client.upload(folder / "job.py", name="a.zip")
        archive = client.upload(folder / "job.py", name="a.zip", unpack=False)
    assert result(server.http.get(f"/upload/{archive.removeprefix('upload:')}"))["name"] == "a.zip"


def test_a_training_takes_its_project_and_its_weights_from_uploads(server: Server) -> None:
    project = send(server, "p.zip", zipped(p__images__cat__a_png=b"no image"))
    weights = send(server, "net.pth", b"no weights")
    fields = {"userId": "u", "projectId": "p", "projectDir": project["path"], "trainType": "classification"}
    answer = server.http.post("/", data=fields)
    assert answer.status_code == 400
    assert project["id"] in answer.json()["error"]
    answer = server.http.post("/", data={**fields, "weights": weights["path"]})
    assert (answer.status_code, "not a weight file" in answer.json()["error"]) == (400, True), answer.text
    assert server.http.post("/", data={**fields, "projectDir": "upload:x"}).status_code == 404


# --- the files of a workspace


def test_files_of_a_workspace_are_stored_read_listed_and_deleted(server: Server) -> None:
    name = server.call("/create_workspace/", name="my files")
    root, content = f"/workspaces/{name}/files/", os.urandom(1_000_000)
    stored = result(server.http.put(f"{root}data/a.bin", content=content))
    assert stored == {"path": "data/a.bin", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert server.http.get(f"{root}data/a.bin").content == content
    part = server.http.get(f"{root}data/a.bin", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert server.run(name, "open('data/a.bin').close(); open('page.html', 'w').write('<script>')")["result"]
    page = server.http.get(f"{root}page.html")
    assert page.headers["content-disposition"].startswith("attachment")
    assert page.headers["content-security-policy"].startswith("sandbox")
    listing = result(server.http.get(root))
    assert [(each["name"], each["type"], each["size"]) for each in listing["entries"]][1:] == [("page.html", "file", 8)]
    assert result(server.http.get(root, params={"offset": 1, "limit": 1}))["entries"] == listing["entries"][1:]
    assert problem(server.http.delete(f"{root}data"))[0] == 409
    assert result(server.http.delete(f"{root}data", params={"recursive": "true"})) is True
    assert problem(server.http.get(f"{root}data/a.bin"))[0] == 404
    assert problem(server.http.get("/workspaces/none/files/x"))[0] == 404


def test_a_file_of_a_workspace_is_replaced_as_a_whole_or_not_at_all(server: Server) -> None:
    name = server.call("/create_workspace/", name="whole")
    path = f"/workspaces/{name}/files/a"
    result(server.http.put(path, content=b"old"))
    half_sent(server, f"PUT {path}", b"new", 1000).close()
    with half_sent(server, f"PUT {path}", b"new", 1000) as sock:
        assert sock.recv(1000).startswith(b"HTTP/1.1 408")
    assert server.http.put(path, content=iter([bytes(100_000)] * 40)).status_code == 413
    assert server.http.get(path).content == b"old"
    assert list(server.data_dir.glob("workspaces/*/incoming/*")) == []


# --- across restarts


@pytest.mark.slow
def test_uploads_survive_any_end_of_the_server(start: Start) -> None:
    server = start()
    name = server.call("/create_workspace/", name="w")
    complete, partial = send(server, "job.py", b"x = 1"), begin(server, "a.tar", 20_480)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("a")
        info.size = 10_000
        archive.addfile(info, io.BytesIO(bytes(10_000)))
    content = file.getvalue().ljust(20_480, b"\0")
    result(append(server, partial, 0, content[:5000]))
    single = half_sent(server, "POST /upload/?name=b.bin", bytes(100_000), 300_000)
    while len(folders(server)) < 3:
        result(server.http.get("/upload/"))
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    single.close()
    server = start()
    assert folders(server) == {complete["id"], partial}
    assert result(append(server, partial, 5000, content[5000:]))["files"] == 1
    assert server.call("/push_job/", name=name, job=complete["path"], timeout=60)["variable"] == {"x": 1}


@pytest.mark.slow
def test_only_uploads_that_nothing_uses_are_removed_after_their_days(start: Start, tmp_path: Path) -> None:
    server = start()
    name = server.call("/create_workspace/", name="w")
    used = send(server, "m.echo", echo_model(tmp_path))
    unused, partial = send(server, "job.py", b"x = 1"), begin(server, "a.tar", 20_480)
    assert server.call("/deploy/", name=name, path=used["path"], timeout=60)["result"] is True
    server.stop()
    server = start("--upload-days", "1")
    assert folders(server) == {used["id"], unused["id"], partial}
    server.stop()
    server = start("--upload-days", "0")
    deadline = time.monotonic() + 30
    while folders(server) != {used["id"]}:  # at the start of the server, but not before it is ready
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.call("/get_status/", name=name)["deployment"]["state"] in ("loading", "active")
