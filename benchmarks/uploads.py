"""Measures an upload of 1 GiB: the throughput, and how much the memory of the web process grows.

python -m benchmarks.uploads              1 GiB as one body, in pieces, and as an archive
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tables import Row, show

MIB = 2**20
PIECE_BYTES = 8 * MIB
GOAL_MIB = 64
"""The memory of the web process may grow by this much, whatever the size of the upload."""

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".bench-") as name:
        folder = Path(name)
        file = random_file(folder / "big.bin", options.mib)
        archive = folder / "big.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(file, "big.bin")
        rows = [plain_copy(file)]
        for what, path, send in (
            ("one body", file, whole),
            ("pieces of 8 MiB", file, pieces),
            ("a tar file", archive, whole),
        ):
            rows.append(measured(folder, what, path, send))
    show(console, rows)


def measured(folder: Path, what: str, file: Path, send: Callable[[ServerProcess, Path], dict[str, object]]) -> Row:
    """One upload to a new server, since the peak of a process never falls."""
    with tempfile.TemporaryDirectory(dir=folder) as data, ServerProcess(Path(data), "--no-warm-spare") as server:
        send(server, small_file(folder))
        before = peak_bytes(server)
        begun_at = time.perf_counter()
        upload = send(server, file)
        took_s = time.perf_counter() - begun_at
        if upload["state"] != "complete":
            raise RuntimeError(upload)
        grown = peak_bytes(server) - before
    size = file.stat().st_size
    speed = f"{size / MIB / took_s:.0f} MiB/s, {grown / MIB:.0f} MiB more memory"
    return f"upload of {size // MIB} MiB as {what}", speed, f"≤ {GOAL_MIB} MiB"


def plain_copy(file: Path) -> Row:
    """What the machine needs for the same without a server: write, checksum, and flush to the disk."""
    begun_at = time.perf_counter()
    copy, digest = file.with_suffix(".copy"), hashlib.sha256()
    with file.open("rb") as source, copy.open("wb") as target:
        while chunk := source.read(MIB):
            digest.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    took_s = time.perf_counter() - begun_at
    copy.unlink()
    return "copy with SHA-256 and fsync, without a server", f"{file.stat().st_size / MIB / took_s:.0f} MiB/s", "–"


def whole(server: ServerProcess, file: Path) -> dict[str, object]:
    return request(server, f"POST /upload/?name={file.name}", file, 0, file.stat().st_size)


def pieces(server: ServerProcess, file: Path) -> dict[str, object]:
    size = file.stat().st_size
    upload = request(server, f"POST /upload/?name={file.name}&size={size}", file, 0, 0)
    for offset in range(0, size, PIECE_BYTES):
        line = f"PATCH /upload/{upload['id']}?offset={offset}"
        upload = request(server, line, file, offset, min(PIECE_BYTES, size - offset))
    return upload


def request(server: ServerProcess, line: str, file: Path, offset: int, size: int) -> dict[str, object]:
    """Sends a part of a file as the kernel does it, so that the client takes little of the processors."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as sock, file.open("rb") as source:
        head = f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
        sock.sendall(head.encode())
        if size:
            sock.sendfile(source, offset, size)
        response = b"".join(iter(lambda: sock.recv(65536), b""))
    content = json.loads(response.partition(b"\r\n\r\n")[2])
    if not content["request_result"]:
        raise RuntimeError(content)
    upload: dict[str, object] = content["result"]
    return upload


def peak_bytes(server: ServerProcess) -> int:
    """The largest resident size that the web process has had."""
    (web,) = (each for each in server.tree() if "tfserve.web.app" in " ".join(each.cmdline()))
    lines = Path(f"/proc/{web.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def random_file(path: Path, mib: int) -> Path:
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
    return path


def small_file(folder: Path) -> Path:
    return random_file(folder / "small.bin", 1)


if __name__ == "__main__":
    main()
