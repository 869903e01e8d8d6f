"""Uploads are removed after their days of running time, unless something uses them or writes to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_server import open_server

from tfserve.db import running_time
from tfserve.errors import NotFound
from tfserve.ipc.messages import DeleteUpload
from tfserve.supervisor.uploads import UNUSED_SINCE, UploadInUse, UploadRetention
from tfserve.uploads.store import Upload, UploadBusy, Uploads

DAY_S = 24 * 3600.0


def stored(uploads: Uploads, owner: str = "") -> Upload:
    upload = uploads.create(owner, "job.py", quota_bytes=10**9)
    upload.unpacking.mkdir()
    (upload.unpacking / "job.py").write_text("pass")
    upload.publish(1, 4, None, 4)
    return upload


def unused_for(upload: Upload, days: float) -> None:
    (upload.folder / UNUSED_SINCE).write_text(str(running_time.now_s() - days * DAY_S))


async def test_only_what_is_unused_for_its_days_is_removed(database: Path, tmp_path: Path) -> None:
    async with open_server(database, upload_days=7) as server:
        uploads = Uploads(server.settings.uploads_path)
        retention = UploadRetention(server.settings, server.journal)
        await server.create()
        await server.begin_waiting(tmp_path / "go")
        new, old, used, busy, again = (stored(uploads) for _ in range(5))
        abandoned = uploads.create("", "a.zip", quota_bytes=10**9)
        resumable = uploads.create("", "a.zip", quota_bytes=10**9, size=10, is_resumable=True)
        job = await server.submit(f"open({str(used.content / 'job.py')!r}).read()")
        for each in (old, used, busy, again):
            unused_for(each, 7.01)
        unused_for(new, 6.99)
        again.path("")
        with busy.locked():
            await retention.prune()
        assert {each.record.id for each in uploads} == {each.record.id for each in (new, used, busy, again, resumable)}
        assert not abandoned.folder.exists()
        assert not (used.folder / UNUSED_SINCE).exists()
        with pytest.raises(UploadInUse, match=f"job {job.job} of workspace"):
            await server.ask(DeleteUpload(id=used.record.id))
        (tmp_path / "go").touch()
        await server.all_ended()
        await server.ask(DeleteUpload(id=used.record.id))
        assert not used.folder.exists()


async def test_an_upload_is_not_deleted_while_it_is_written(database: Path) -> None:
    async with open_server(database) as server:
        upload = stored(Uploads(server.settings.uploads_path), owner="anna")
        with upload.locked(), pytest.raises(UploadBusy):
            await server.ask(DeleteUpload(id=upload.record.id))
        await server.ask(DeleteUpload(id=upload.record.id))
        with pytest.raises(NotFound):
            await server.ask(DeleteUpload(id=upload.record.id))
