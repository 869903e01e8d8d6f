"""The folder of uploads: names, owners, quotas, and what is left after processes that were killed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from tfserve.config import Settings
from tfserve.errors import Invalid, NotFound
from tfserve.uploads.record import RECORD, UploadState, read_record
from tfserve.uploads.store import (
    NoSuchUpload,
    QuotaReached,
    ServerQuotaReached,
    Upload,
    UploadBusy,
    UploadIncomplete,
    Uploads,
)
from tfserve.uploads.stored_files import LEDGER

GIB = 2**30


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    (tmp_path / "uploads").mkdir()
    return Uploads(tmp_path / "uploads")


def complete(uploads: Uploads, owner: str = "", **files: str) -> Upload:
    upload = uploads.create(owner, "files", quota_bytes=GIB)
    for name, content in (files or {"a": "text"}).items():
        path = upload.unpacking / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    upload.publish(len(files), sum(map(len, files.values())), "f" * 64, 4)
    return upload


def test_a_path_names_a_file_of_an_upload(uploads: Uploads) -> None:
    upload = complete(uploads, m__1__x="x", m__y="y")
    root, id_ = upload.content, upload.record.id
    assert uploads.resolve(f"upload:{id_}", "") == root / "m", "the only folder"
    assert uploads.resolve(f"upload:{id_}/", "") == root / "m"
    assert uploads.resolve(f"upload:{id_}/m/1/x", "") == root / "m" / "1" / "x"
    assert uploads.resolve(f"upload:{id_}/1/x", "") == root / "m" / "1" / "x"
    several = complete(uploads, a="a", b="b")
    assert uploads.resolve(f"upload:{several.record.id}", "") == several.content
    single = complete(uploads, a="a")
    assert uploads.resolve(f"upload:{single.record.id}", "") == single.content / "a"


def test_a_checkpoint_is_named_by_the_prefix_of_its_files(uploads: Uploads) -> None:
    upload = complete(uploads, **{"m__model.ckpt.index": "", "m__model.ckpt.meta": ""})
    for path in ("m/model.ckpt", "model.ckpt"):
        assert uploads.resolve(f"upload:{upload.record.id}/{path}", "") == upload.content / "m" / "model.ckpt"
    with pytest.raises(NotFound):
        uploads.resolve(f"upload:{upload.record.id}/m/mod", "")


def test_a_path_does_not_lead_outside_of_its_upload(uploads: Uploads) -> None:
    upload, other = complete(uploads), complete(uploads)
    (upload.content / "link").symlink_to(other.content)
    for inside in ("..", "../record.json", "a/../../x", "link/a", "%2e%2e/record.json", "..\\record.json"):
        with pytest.raises(Invalid, match="leads outside"):
            uploads.resolve(f"upload:{upload.record.id}/{inside}", "")
    with pytest.raises(Invalid):
        uploads.resolve(f"upload:{upload.record.id}/a\0", "")
    with pytest.raises(NotFound, match="no file or folder 'none'"):
        uploads.resolve(f"upload:{upload.record.id}/none", "")


@pytest.mark.parametrize("id_", ["", "..", "../x", "0" * 32, "A" * 32, "0" * 31 + "\n", "x" * 10_000])
def test_unknown_ids_are_not_found(uploads: Uploads, id_: str) -> None:
    with pytest.raises(NoSuchUpload):
        uploads.resolve(f"upload:{id_}", "")


def test_an_upload_does_not_exist_for_other_owners(uploads: Uploads) -> None:
    upload = complete(uploads, owner="anna")
    assert uploads.resolve(f"upload:{upload.record.id}", "anna").exists()
    with pytest.raises(NoSuchUpload):
        uploads.resolve(f"upload:{upload.record.id}", "bert")
    assert [each.record.id for each in uploads.of("anna")] == [upload.record.id]
    assert uploads.of("bert") == []


def test_an_incomplete_upload_can_not_be_used(uploads: Uploads) -> None:
    upload = uploads.create("", "a.zip", quota_bytes=GIB, size=10, is_resumable=True)
    (upload.received / "0").write_bytes(b"1234")
    with pytest.raises(UploadIncomplete, match="has 4 of 10 bytes"):
        upload.path("")
    upload.refuse("It is bad.")
    with pytest.raises(UploadIncomplete, match="It is bad"):
        upload.path("")
    assert [each.name for each in upload.folder.iterdir()] == [RECORD]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "/a", "a\0", "x" * 256, "a\n", "\udcff", "C:x"])
def test_a_name_must_be_that_of_a_file(uploads: Uploads, name: str) -> None:
    with pytest.raises(Invalid):
        uploads.create("", name, quota_bytes=GIB)
    assert list(uploads.folder.iterdir()) == []


def test_quotas_apply_per_owner_and_count_what_is_announced(uploads: Uploads) -> None:
    uploads.create("anna", "a", quota_bytes=100, size=60, is_resumable=True)
    with pytest.raises(QuotaReached, match="100 bytes in total"):
        uploads.create("anna", "b", quota_bytes=100, size=41)
    uploads.create("bert", "b", quota_bytes=100, size=100)
    uploads.create("anna", "b", quota_bytes=100, size=40)
    assert uploads.used_bytes("anna") == 100
    assert len(list(uploads.folder.iterdir())) == 3


def stored_file(uploads: Uploads, owner: str, path: str, size: int, workspace: str = "1") -> Path:
    """A file that a client has stored in a workspace."""
    root = uploads.folder.parent / "workspaces" / workspace / "files"
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))
    uploads.stored.add(root, owner, path, size)
    return file


def test_files_in_workspaces_count_until_they_are_gone(uploads: Uploads) -> None:
    uploads.create("anna", "a", quota_bytes=100, size=40, is_resumable=True)
    stored_file(uploads, "anna", "data/x", 50)
    stored_file(uploads, "bert", "y", 1000, workspace="2")
    assert uploads.used_bytes("anna") == 90
    uploads.check_quota("anna", 100, more=10)
    with pytest.raises(QuotaReached, match="and 90 are used or reserved"):
        uploads.check_quota("anna", 100, more=11)
    stored_file(uploads, "anna", "data/./x", 20)
    assert uploads.used_bytes("anna") == 60, "the same file, replaced"
    stored_file(uploads, "bert", "data/x", 30)
    assert uploads.used_bytes("anna") == 40, "the file of another client by now"
    stored_file(uploads, "anna", "z", 60).unlink()  # by a script
    uploads.check_quota("anna", 100, more=60)
    assert uploads.used_bytes("anna") == 40


def test_all_owners_together_have_a_limit(uploads: Uploads) -> None:
    limited = Uploads(uploads.folder, total_bytes=100)
    limited.create("anna", "a", quota_bytes=100, size=60, is_resumable=True)
    stored_file(limited, "bert", "y", 30)
    upload = limited.create("carl", "c", quota_bytes=100, size=10, is_resumable=True)
    assert limited.room_for(upload, 100) == 10
    with pytest.raises(ServerQuotaReached, match="all_uploads_bytes"):
        limited.create("carl", "d", quota_bytes=100, size=1)
    with pytest.raises(ServerQuotaReached):
        limited.check_quota("bert", 100, more=1)


def test_the_list_of_stored_files_survives_torn_lines_and_stays_short(uploads: Uploads) -> None:
    stored_file(uploads, "anna", "x", 10)
    ledger = uploads.folder.parent / "workspaces" / "1" / LEDGER
    with ledger.open("ab") as opened:
        opened.write(b'["anna", "torn\n')
    for size in range(1100):
        uploads.stored.add(ledger.parent / "files", "anna", "x", size)
    assert uploads.used_bytes("anna") == 1099
    assert ledger.read_bytes().count(b"\n") == 1
    shutil.rmtree(ledger.parent)
    assert uploads.used_bytes("anna") == 0


def test_one_process_at_a_time_changes_an_upload(uploads: Uploads) -> None:
    upload = complete(uploads)
    with upload.locked():
        with pytest.raises(UploadBusy), Upload(upload.folder, upload.record).locked():
            pass
        assert os.fork() or os._exit(0) is None  # a child does not take the lock away
        os.wait()
        with pytest.raises(UploadBusy), Upload(upload.folder, upload.record).locked():
            pass
    with upload.locked():
        shutil.rmtree(upload.folder)
    with pytest.raises(NoSuchUpload), upload.locked():
        pass


def test_nothing_is_left_of_processes_that_were_killed(uploads: Uploads) -> None:
    kept = complete(uploads, a="a")
    kept.received.mkdir()  # it had just become complete
    resumable = uploads.create("", "a.zip", quota_bytes=GIB, size=10, is_resumable=True)
    (resumable.received / "0").write_bytes(b"12345")
    resumable.unpacking.mkdir()
    single = uploads.create("", "a.zip", quota_bytes=GIB)
    (single.received / "0").write_bytes(b"12345")
    (uploads.folder / ("0" * 32)).mkdir()  # its record was not written yet
    (uploads.folder / f".{'1' * 32}.removed").mkdir()
    (single.folder / f".{RECORD}").write_bytes(b"{")
    uploads.clean_up()
    assert {each.name for each in uploads.folder.iterdir()} == {kept.record.id, resumable.record.id}
    assert sorted(each.name for each in kept.folder.iterdir()) == ["content", RECORD]
    assert sorted(each.name for each in resumable.folder.iterdir()) == ["received", RECORD]
    assert resumable.offset == 5


def test_an_attempt_that_ended_before_its_record_is_repeated(uploads: Uploads) -> None:
    upload = uploads.create("", "a", quota_bytes=GIB, size=1, is_resumable=True)
    upload.content.mkdir()
    (upload.content / "old").write_text("old")
    upload.unpacking.mkdir()
    (upload.unpacking / "new").write_text("new")
    upload.publish(1, 3, None, 1)
    assert [each.name for each in upload.content.iterdir()] == ["new"]
    record = read_record(upload.folder)
    assert record is not None
    assert (record.state, record.top) == (UploadState.COMPLETE, "new")


def test_a_record_that_can_not_be_read_is_no_upload(uploads: Uploads) -> None:
    upload = complete(uploads)
    for content in (b"", b"{}", b"[]", msgspec.json.encode({"id": 1})):
        (upload.folder / RECORD).write_bytes(content)
        assert list(uploads) == []


def test_uploads_can_be_read_whatever_the_roots_are(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / "data"), roots="/srv/models")
    assert settings.root_paths == [Path("/srv/models"), tmp_path / "data" / "uploads"]
    settings = Settings(data_dir=str(tmp_path / "data"), roots=str(tmp_path))
    assert settings.root_paths == [tmp_path]
