"""Projects in tar files, packed with gzip or not."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from layout_projects import class_folders, counts, examined, good
from test_examination import only

from tfserve.training.dataset.layouts import archives
from tfserve.training.dataset.project_folders import results_folder


def packed(archive: Path, folder: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w" if archive.suffix == ".tar" else "w:gz") as file:
        for path in sorted(folder.rglob("*")):
            file.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return archive


@pytest.mark.parametrize("name", ["flowers.tar", "flowers.tar.gz", "Flowers.TGZ", "v1.2.tar.gz"])
def test_a_tar_file_may_be_the_project(tmp_path: Path, name: str) -> None:
    project = packed(tmp_path / name, class_folders(tmp_path / "set", ("Rose", "Tulip")))
    found = good(project)
    assert counts(found) == {"Rose": 3, "Tulip": 3}
    assert found.layout == "<class>/<image>, unpacked from a tar file"
    assert results_folder(project).name == {"Flowers.TGZ": "Flowers", "v1.2.tar.gz": "v1.2"}.get(name, "flowers")


def test_a_tar_file_may_be_in_the_project_and_in_another_archive(tmp_path: Path) -> None:
    packed(tmp_path / "outer" / "flowers.tar.gz", class_folders(tmp_path / "set", ("Rose", "Tulip")))
    packed(tmp_path / "p" / "download.tgz", tmp_path / "outer")
    assert counts(good(tmp_path / "p")) == {"Rose": 3, "Tulip": 3}
    assert not list((tmp_path / "derived").rglob("*gz"))


def test_what_leads_outside_of_a_tar_file_is_left_out(tmp_path: Path) -> None:
    project = packed(tmp_path / "p.tar", class_folders(tmp_path / "set", ("Rose", "Tulip")))
    with tarfile.open(project, "a") as file:
        for name, kind in (("../evil.png", tarfile.REGTYPE), ("Rose/link.png", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            file.addfile(member, io.BytesIO())
    reasons = {each.path.rpartition("/")[2]: each.reason for each in good(project).skipped}
    assert "leads outside" in reasons["evil.png"]
    assert "a link" in reasons["link.png"]
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("content", [b"", b"no tar", b"\x1f\x8b\x08\0\0"])
def test_a_broken_tar_file_is_a_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.tar.gz").write_bytes(content)
    only(examined(tmp_path / "p.tar.gz").problems, "p.tar.gz can't be unpacked")


def test_a_tar_file_of_zeros_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as file:
        member = tarfile.TarInfo("Rose/a.png")
        member.size = 300 * 2**20
        with open("/dev/zero", "rb") as zeros:
            file.addfile(member, zeros)
    only(examined(tmp_path / "p.tgz").problems, "more than 100 times its size")


def test_an_archive_with_the_name_of_a_file_next_to_it_is_left_out(tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    packed(outer / "flowers.tar", class_folders(tmp_path / "set", ("Rose", "Tulip")))
    packed(outer / "labels.csv.tar", tmp_path / "set")
    (outer / "labels.csv").write_text("nothing\n")
    found = good(packed(tmp_path / "p.tar", outer))
    (skipped,) = found.skipped
    assert skipped.path == "labels.csv.tar"
    assert "a file is called labels.csv" in skipped.reason


def test_an_archive_in_an_archive_may_have_the_longest_name(tmp_path: Path) -> None:
    packed(tmp_path / "outer" / f"{'x' * 251}.tar", class_folders(tmp_path / "set", ("Rose", "Tulip")))
    assert counts(good(packed(tmp_path / "p.tar", tmp_path / "outer"))) == {"Rose": 3, "Tulip": 3}


@pytest.mark.parametrize("name", [".zip", ".tar.gz", "..zip", "...zip", "....tgz"])
def test_a_file_that_is_called_only_by_a_suffix_is_no_archive(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert results_folder(tmp_path / name) == tmp_path / name
    only(examined(tmp_path / name).problems, "neither a folder nor a zip or tar file")


def test_only_the_folder_of_unpacked_archives_is_left_out_of_names() -> None:
    assert archives.inside("images/derived/unpacked/a.jpg") == "images/derived/unpacked/a.jpg"
    assert archives.inside("/data/tasks/5/derived/unpacked/set/derived/unpacked/a.jpg") == "set/derived/unpacked/a.jpg"
