"""The archive of a backup: what it contains, and what is refused when it is restored."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tfserve.backups import CHECKSUMS, EXCLUDED, MANIFEST, RESTORING, BackupUnusable, Manifest, extract, write
from tfserve.cli import backup as command
from tfserve.config import Settings, load
from tfserve.db import copies

CONTENT = {"secret_key": b"key", "workspaces/1/files/a.txt": b"a\n" * 70_000, "workspaces/1/jobs/0.out": b"hello\n",
           "workspaces/2/files/\u00e4\ud83d\ude00 .bin".encode("utf-16", "surrogatepass").decode("utf-16"): b"",
           os.fsdecode(b"workspaces/2/files/\xff\xfe"): b"\x00"}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return made(tmp_path / "data")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup to be changed."""
    folder = tmp_path_factory.mktemp("archive")
    assert command.backup(folder / "saved.tar", settings(made(folder / "data"))) == 0
    return folder / "saved.tar"


def made(folder: Path) -> Path:
    """A data folder, also with what a running server has."""
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "workspaces" / "3" / "files").mkdir(parents=True)
    (folder / "processes").mkdir()
    (folder / "processes" / "record").write_text("1")
    (folder / "server.lock").write_text("1\n")
    database = sqlite3.connect(folder / copies.FILE)
    database.executescript(
        "PRAGMA journal_mode=WAL; CREATE TABLE control_job (id INTEGER, state TEXT, request TEXT);"
        "CREATE TABLE control_deployment (path TEXT, weights TEXT);"
        "CREATE TABLE control_trainingtask (project_dir TEXT, model_path TEXT);"
        f"INSERT INTO control_job VALUES (1, 'queued', '{{\"path\":\"{folder}/m\"}}'), (2, 'succeeded', '{folder}/m');"
        f"INSERT INTO control_deployment VALUES ('{folder}/m', NULL), ('{folder}2/m', '/x{folder}/m')"
    )
    database.close()
    return folder


def settings(folder: Path) -> Settings:
    return load({"data_dir": str(folder)}, {})


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def saved(data: Path, tmp_path: Path) -> Path:
    assert command.backup(tmp_path / "saved.tar", settings(data)) == 0
    return tmp_path / "saved.tar"


def test_a_backup_has_everything_but_what_belongs_to_the_process(data: Path, saved: Path, tmp_path: Path) -> None:
    assert command.restore(saved, settings(tmp_path / "new")) == 0
    restored = files_below(tmp_path / "new")
    assert restored.pop(copies.FILE)
    assert restored.pop("server.lock") == b""
    assert restored == CONTENT
    assert (tmp_path / "new" / "workspaces" / "3" / "files").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "new", "saved.tar"]
    assert saved.stat().st_mode & 0o077 == 0


def test_paths_into_the_data_folder_follow_it(data: Path, saved: Path, tmp_path: Path) -> None:
    assert command.restore(saved, settings(tmp_path / "new")) == 0
    database = sqlite3.connect(tmp_path / "new" / copies.FILE)
    jobs = [request for (request,) in database.execute("SELECT request FROM control_job ORDER BY id")]
    assert jobs == [f'{{"path":"{tmp_path}/new/m"}}', f"{data}/m"]
    deployments = database.execute("SELECT path, weights FROM control_deployment").fetchall()
    assert deployments == [(f"{tmp_path}/new/m", None), (f"{data}2/m", f"/x{data}/m")]
    database.close()


def test_links_and_special_files_are_left_out(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "link").symlink_to("/etc/passwd")
    (data / "workspaces" / "folder").symlink_to("/etc")
    os.mkfifo(data / "pipe")
    assert command.backup(tmp_path / "saved.tar", settings(data)) == 0
    printed = capsys.readouterr().out
    assert all(str(data / name) in printed for name in ("link", "workspaces/folder", "pipe"))
    with tarfile.open(tmp_path / "saved.tar") as archive:
        assert all(member.isreg() or member.isdir() for member in archive)


def test_a_file_may_change_its_size_meanwhile(data: Path, tmp_path: Path) -> None:
    """As if a job printed, or a script wrote its file again, between finding its size and reading it."""
    database = tmp_path / "database"
    database.mkdir()

    class Slow(io.BytesIO):
        """Writing the head of a file changes the file."""

        def write(self, data: object) -> int:
            text = bytes(data)  # type: ignore[call-overload]
            if b"data/workspaces/1/jobs/0.out" in text[:100]:
                (data_folder / "workspaces/1/jobs/0.out").write_bytes(b"much longer than before\n")
            if b"data/workspaces/1/files/a.txt" in text[:100]:
                (data_folder / "workspaces/1/files/a.txt").write_bytes(b"short")
            return super().write(text)

    data_folder, file = data, Slow()
    write(file, Manifest(tfserve="1", created_at="", database="sqlite", data_dir=""), database, data)
    (tmp_path / "saved.tar").write_bytes(file.getvalue())
    (tmp_path / "into").mkdir()
    extract(tmp_path / "saved.tar", tmp_path / "into")
    assert (tmp_path / "into/data/workspaces/1/jobs/0.out").read_bytes() == b"much l"
    assert (tmp_path / "into/data/workspaces/1/files/a.txt").stat().st_size == 140_000


# --- refusals of backup


def refused(run: Callable[[Path, Settings], int], file: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(file, settings(folder)) == 1
    return capsys.readouterr().err


def test_a_backup_never_replaces_a_file(data: Path, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = saved.read_bytes()
    assert "exists already" in refused(command.backup, saved, data, capsys)
    assert saved.read_bytes() == content


def test_a_backup_is_not_written_into_the_data_folder(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "would be in the data folder" in refused(command.backup, data / "a.tar", data, capsys)


def test_a_folder_without_a_database_is_not_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert "has no database of TFserve" in refused(command.backup, tmp_path / "a.tar", folder, capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_is_not_saved(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / copies.FILE).write_bytes(b"not a database" * 1000)
    assert "The database can't be copied" in refused(command.backup, tmp_path / "a.tar", data, capsys)
    assert not (tmp_path / "a.tar").exists()


# --- refusals of restore


def test_only_an_empty_folder_is_restored_into(data: Path, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_below(data)
    assert "is not empty" in refused(command.restore, saved, data, capsys)
    assert files_below(data) == before


def test_an_interrupted_restore_is_noticed(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new" / RESTORING).mkdir(parents=True)
    assert "was interrupted" in refused(command.restore, saved, tmp_path / "new", capsys)


Change = Callable[[tarfile.TarInfo, bytes], Iterator[tuple[tarfile.TarInfo, bytes]]]


def changed(saved: Path, target: Path, change: Change) -> Path:
    """A copy of the archive with other members."""
    with tarfile.open(saved) as archive, tarfile.open(target, "w") as copy:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            for info, data in change(member, content.read() if content else b""):
                info.size = len(data)
                copy.addfile(info, io.BytesIO(data))
    return target


def extra(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Change:
    def change(member: tarfile.TarInfo, content: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        if member.name == CHECKSUMS:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            yield info, b""
        yield member, content

    return change


HOSTILE = {
    "a path out of the folder": extra("data/../../evil"),
    "an absolute path": extra("/evil"),
    "a path out of the two folders": extra("evil"),
    "the folder itself": extra("data/."),
    "an empty part": extra("data//evil"),
    "a link": extra("data/evil", tarfile.SYMTYPE, "/etc/passwd"),
    "a link to a folder": extra("data/workspaces/evil", tarfile.SYMTYPE, "/tmp"),
    "a hard link": extra("data/evil", tarfile.LNKTYPE, "data/secret_key"),
    "a device": extra("data/evil", tarfile.CHRTYPE),
    "a pipe": extra("data/evil", tarfile.FIFOTYPE),
    "a file twice": extra("data/secret_key"),
    "a file below a file": extra("data/secret_key/evil"),
    "a file that is not in the list": extra("data/evil"),
    "the log of a database": extra("data/tfserve.sqlite3-wal"),
    "a lock": extra("data/server.lock"),
}


def one(name: str, content: bytes | None) -> Change:
    def change(member: tarfile.TarInfo, data: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        if member.name != name:
            yield member, data
        elif content is not None:
            yield member, content

    return change


MANIFEST_FIELDS = {"tfserve": "9", "created_at": "", "database": "sqlite", "data_dir": "/"}
DAMAGED = {
    "another content": one("data/secret_key", b"yek"),
    "a missing file": one("data/secret_key", None),
    "no list": one(CHECKSUMS, None),
    "no manifest": one(MANIFEST, None),
    "a damaged manifest": one(MANIFEST, b"{"),
    "a newer format": one(MANIFEST, json.dumps({"format": 2, "other": 1}).encode()),
    "an incomplete manifest": one(MANIFEST, b'{"format": 1}'),
    "no database": one("database/tfserve.sqlite3", None),
}


@pytest.mark.parametrize("case", [*HOSTILE, *DAMAGED])
def test_a_hostile_or_damaged_archive_leaves_nothing(
    case: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = changed(archive, tmp_path / "bad.tar", (HOSTILE | DAMAGED)[case])
    message = refused(command.restore, bad, tmp_path / "new", capsys)
    assert message.startswith(f"tfserve: The backup {bad} can't be restored: "), message
    assert {path.name for path in (tmp_path / "new").iterdir()} <= {"server.lock"}
    assert not (tmp_path / "evil").exists()
    assert not Path("/evil").exists()


def test_other_files_are_refused(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = archive.read_bytes()
    bad = tmp_path / "bad.tar"
    for part in (b"", b"hello", content[: len(content) // 2], content[:512], b"\x1f\x8b" + content):
        bad.write_bytes(part)
        assert "can't be restored" in refused(command.restore, bad, tmp_path / "new", capsys)
    assert "not found" in refused(command.restore, tmp_path / "none", tmp_path / "new", capsys)
    assert {path.name for path in (tmp_path / "new").iterdir()} <= {"server.lock"}


def test_a_sparse_file_does_not_expand(archive: Path, tmp_path: Path) -> None:
    """A small archive could fill the disk."""
    info = tarfile.TarInfo("data/evil")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "data/evil",
                        "GNU.sparse.realsize": str(2**40)}  # fmt: skip
    body = b"1\n0\n0\n".ljust(512, b"\0")
    info.size = len(body)
    with tarfile.open(archive) as complete, tarfile.open(tmp_path / "bad.tar", "w", format=tarfile.PAX_FORMAT) as bad:
        first = complete.next()
        assert first is not None
        bad.addfile(first, complete.extractfile(first))
        bad.addfile(info, io.BytesIO(body))
    (tmp_path / "into").mkdir()
    with pytest.raises(BackupUnusable, match="is not a regular file"):
        extract(tmp_path / "bad.tar", tmp_path / "into")


def header(kind: bytes, size: int) -> bytes:
    """A header with a size that tarfile itself would not write."""
    raw = bytearray(tarfile.TarInfo("data/evil").tobuf(tarfile.GNU_FORMAT))
    raw[156:157] = kind
    raw[124:136] = (
        b"\xff" * 4 + size.to_bytes(8, "big", signed=True) if size < 0 else b"\x80" + size.to_bytes(11, "big")
    )
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-1, -1024, -(2**40), 2**62])
def test_a_header_with_an_impossible_size_is_refused(archive: Path, kind: bytes, size: int, tmp_path: Path) -> None:
    """A negative size would make some versions of tarfile read the same header again, without an end."""
    first = archive.read_bytes()[:1024]
    (tmp_path / "bad.tar").write_bytes(first + header(kind, size) + bytes(2048))
    (tmp_path / "into").mkdir()
    with pytest.raises(BackupUnusable):
        extract(tmp_path / "bad.tar", tmp_path / "into")


def test_endless_headers_are_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(archive.read_bytes()[:1024] + header(tarfile.XHDTYPE, 0) * 5000 + bytes(1024))
    (tmp_path / "into").mkdir()
    with pytest.raises(BackupUnusable):
        extract(tmp_path / "bad.tar", tmp_path / "into")


def test_names_of_the_server_are_excluded() -> None:
    assert {copies.FILE, f"{copies.FILE}-wal", "server.lock", "processes", RESTORING} <= EXCLUDED
