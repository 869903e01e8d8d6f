"""Models and data from other servers: a real S3 server on this machine, and an HTTPS server on a public address."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.acceptance.conftest import Server
from tests.certificates import Authority

pytestmark = pytest.mark.slow
PUBLIC = "203.0.114.9"
"""An address on the internet that this machine gives itself, so that nothing is sent to the internet."""
BUCKET = "models"


@pytest.fixture(scope="module")
def bucket(models: Path) -> Iterator[str]:
    """An S3 server whose bucket has the model `scale` as a folder and as an archive. Returns its address."""
    storage = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    storage.start()
    host, port = storage.get_host_and_port()
    address = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "key", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, **keys)
    client.create_bucket(Bucket=BUCKET)
    folder = models / "scale"
    for file in folder.rglob("*"):
        if file.is_file():
            client.upload_file(str(file), BUCKET, f"scale/{file.relative_to(folder)}")
    client.put_object(Bucket=BUCKET, Key="bad/../../evil", Body=b"x")
    yield address
    storage.stop()


@pytest.fixture(scope="module")
def fetching(tmp_path_factory: pytest.TempPathFactory, bucket: str, authority: Authority) -> Iterator[Server]:
    environment = {
        "AWS_ENDPOINT_URL": bucket, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_DEFAULT_REGION": "us-east-1", "SSL_CERT_FILE": str(authority.file),
        "TFSERVE_REMOTE_SOURCES": f"s3://{BUCKET}, s3://nothing, https://localhost, https://{PUBLIC}:8443",
    }  # fmt: skip
    server = Server(tmp_path_factory.mktemp("remote") / "data", environment=environment)
    yield server
    server.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def name(fetching: Server) -> str:
    created: str = fetching.call("/create_workspace/", name="remote")
    return created


@pytest.fixture(scope="module")
def web_site(tmp_path_factory: pytest.TempPathFactory, authority: Authority, models: Path) -> Iterator[str]:
    """An HTTPS server on a public address that this machine has for a moment; needs root. Redirects /away."""
    folder = tmp_path_factory.mktemp("site")
    shutil.make_archive(str(folder / "scale"), "zip", models / "scale")
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root can give this machine an address")
    pair = authority.pair("site", PUBLIC)
    subprocess.run(["ip", "address", "add", f"{PUBLIC}/32", "dev", "lo"], check=True)

    class Site(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", "https://127.0.0.1:8443/scale.zip")
                self.end_headers()
                return
            super().do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    try:
        site = http.server.ThreadingHTTPServer((PUBLIC, 8443), lambda *each: Site(*each, directory=str(folder)))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair.certificate, pair.key)
        site.socket = context.wrap_socket(site.socket, server_side=True)
        threading.Thread(target=site.serve_forever, daemon=True).start()
        with contextlib.closing(site.socket):
            yield f"https://{PUBLIC}:8443"
        site.shutdown()
    finally:
        subprocess.run(["ip", "address", "del", f"{PUBLIC}/32", "dev", "lo"], check=True)


def predicted(server: Server, name: str) -> object:
    body = {"inputs": {"x": [[1.0, 2.0]]}}
    return server.http.post(f"/v1/models/{name}:predict", json=body).json()


def test_a_folder_of_a_bucket_is_deployed_and_counts_as_an_upload(fetching: Server, name: str) -> None:
    fetching.call("/deploy/", name=name, path=f"s3://{BUCKET}/scale", timeout=60)
    assert "outputs" in str(predicted(fetching, name))
    (upload,) = fetching.http.get("/upload/").json()["result"]["uploads"]
    assert upload["name"] == "scale"
    assert fetching.http.delete(f"/upload/{upload['id']}").status_code == 409, "the deployment uses it"


def test_an_archive_on_a_web_site_is_deployed(fetching: Server, name: str, web_site: str) -> None:
    fetching.call("/deploy/", name=name, path=f"{web_site}/scale.zip?signature=abc", timeout=60)
    assert "outputs" in str(predicted(fetching, name))


def test_a_redirect_can_not_lead_elsewhere(fetching: Server, name: str, web_site: str) -> None:
    status, message = fetching.refused("/deploy/", name=name, path=f"{web_site}/away", timeout=60)
    assert status == 403
    assert "127.0.0.1" in message
    status, message = fetching.refused("/deploy/", name=name, path=f"{web_site}/nothing.zip?key=secret", timeout=60)
    assert status == 404
    assert "secret" not in message


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("s3://other/scale", 403, f"s3://{BUCKET}"),
        ("https://localhost/scale.zip", 403, "not a public address"),
        (f"s3://{BUCKET}/missing", 404, "has no file"),
        (f"s3://{BUCKET}/bad", 400, "name can't be used"),
        ("s3://nothing/scale", 404, "has no file"),
        ("http://localhost/a", 400, "expected an address such as"),
        ("file:///etc/passwd", 400, "expected an address such as"),
    ],
)
def test_refusals_teach_and_leave_nothing(fetching: Server, name: str, path: str, status: int, expected: str) -> None:
    before = fetching.http.get("/upload/").json()["result"]["uploads"]
    answer = fetching.refused("/deploy/", name=name, path=path, timeout=60)
    assert answer[0] == status, answer
    assert expected in answer[1]
    assert fetching.http.get("/upload/").json()["result"]["uploads"] == before


def test_a_server_without_sources_fetches_nothing(server: Server, workspace: str) -> None:
    status, message = server.refused("/deploy/", name=workspace, path="s3://models/scale")
    assert status == 403
    assert "TFSERVE_REMOTE_SOURCES" in message
