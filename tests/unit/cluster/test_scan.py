"""What is listed below a root: every file once, no way out of the allowed folders, and nothing hashed twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import pytest
from lines import scanned

from tfserve.cluster.content import scan as scanning
from tfserve.cluster.content.digests import Digests, Stamp
from tfserve.cluster.content.errors import UnreadableFile
from tfserve.cluster.content.scan import without
from tfserve.cluster.content.trees import BadTree, check, key_of
from tfserve.ipc.messages import ContentEntry, FileTree

FILE = ContentEntry("a", size=1, mode=0o644, digest=b"d" * 32)


def listed(root: Path, **options: object) -> dict[str, ContentEntry]:
    return {each.entry.path: each.entry for each in scanned(root, **options)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "model" / "3"
    (folder / "variables").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "graph.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"weights")
    return folder


def test_files_and_folders_are_listed_with_size_mode_and_digest(root: Path) -> None:
    (root / "graph.pb").chmod(0o750)
    found = listed(root)
    assert list(found) == ["empty", "graph.pb", "variables", "variables/data"]
    assert found["graph.pb"] == ContentEntry("graph.pb", 5, 0o750, hashlib.sha256(b"graph").digest())
    assert not found["empty"].is_file
    assert not found["empty"].is_link


def test_some_paths_are_listed_with_the_folders_above(root: Path) -> None:
    assert list(listed(root, paths=["variables/data", "missing"])) == ["variables", "variables/data"]


def test_patterns_leave_out_files_and_everything_below(root: Path) -> None:
    (root / ".x.writing").write_bytes(b"")
    assert list(listed(root, includes=without(".*.writing", "variables"))) == ["empty", "graph.pb"]


def test_a_link_inside_stays_a_link(root: Path) -> None:
    (root / "latest").symlink_to(root / "variables")
    (root / "variables" / "up").symlink_to("../graph.pb")
    found = listed(root)
    assert (found["latest"].target, found["variables/up"].target) == ("variables", "../graph.pb")


def test_a_link_to_an_allowed_folder_is_followed(root: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "labels.txt").write_bytes(b"cat")
    (root / "assets").symlink_to(shared)
    (root / "labels.txt").symlink_to(shared / "labels.txt")
    found = listed(root, roots=[tmp_path])
    assert found["assets/labels.txt"].digest == found["labels.txt"].digest == hashlib.sha256(b"cat").digest()


def test_a_link_to_elsewhere_is_not_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    assert listed(root, roots=[root])["link"] == ContentEntry("link", target=str(tmp_path / "secret"))


def test_circular_links_end(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "back").symlink_to(tmp_path / "other")
    (root / "other").symlink_to(tmp_path / "other")
    (root / "self").symlink_to(".")
    found = listed(root, roots=[tmp_path])
    assert found["self"].target == "."
    assert found["other/back"].is_link


def test_special_files_are_left_out(root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert "pipe" not in listed(root)


def test_an_unreadable_file_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "FLAGS", os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(UnreadableFile, match=r"graph\.pb can't be copied to another machine: Not a directory"):
        scanned(root)


def test_nothing_is_hashed_twice(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stamp, "is_settled", True)
    first = scanned(root, tmp_path / "digests.sqlite")
    monkeypatch.setattr(scanning, "digest_of", None)  # a further process has the same records
    assert scanned(root, tmp_path / "digests.sqlite") == first


def test_a_file_that_has_just_changed_is_hashed_again(root: Path, tmp_path: Path) -> None:
    scanned(root, tmp_path / "digests.sqlite")
    with contextlib.closing(Digests(tmp_path / "digests.sqlite")) as digests:
        assert digests.below(root) == {}


@pytest.mark.parametrize("change", [b"Graph", b"longer than before"])
def test_a_changed_file_is_hashed_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: bytes
) -> None:
    monkeypatch.setattr(Stamp, "is_settled", True)
    scanned(root, tmp_path / "digests.sqlite")
    status = (root / "graph.pb").stat()
    (root / "graph.pb").write_bytes(change)
    os.utime(root / "graph.pb", ns=(status.st_atime_ns, status.st_mtime_ns))  # only the ctime shows the change
    found = {each.entry.path: each.entry for each in scanned(root, tmp_path / "digests.sqlite")}
    assert found["graph.pb"].digest == hashlib.sha256(change).digest()


def test_a_damaged_record_of_digests_is_only_slower(root: Path, tmp_path: Path) -> None:
    (tmp_path / "digests.sqlite").write_bytes(b"not a database" * 1000)
    assert len(scanned(root, tmp_path / "digests.sqlite")) == 4


def test_the_key_changes_with_names_and_contents_only() -> None:
    tree = FileTree(name="3", entries=[FILE])
    same = FileTree(name="3", entries=[ContentEntry("a", 1, 0o644, b"d" * 32, mtime_ns=5)])
    others = [FileTree(name="4", entries=[FILE]), FileTree(name="3", entries=[ContentEntry("b", 1, 0o644, b"d" * 32)])]
    assert key_of(tree) == key_of(same)
    assert key_of(tree) not in [key_of(each) for each in others]


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a\0b", "x" * 300, "\udc80", "a/" * 3000 + "b"],
)
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(BadTree, match="is not a relative path"):
        check(FileTree(name="x", entries=[ContentEntry(path, digest=b"d" * 32)]))


@pytest.mark.parametrize("name", ["", "..", "a/b", "/"])
def test_a_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(BadTree, match="is not the name of a folder"):
        check(FileTree(name=name, entries=[]))


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([FILE, FILE], "occurs twice"),
        ([ContentEntry("a", target="/etc"), ContentEntry("a/passwd", digest=b"d" * 32)], "which is not a folder"),
        ([FILE, ContentEntry("a/b/c", digest=b"d" * 32)], "which is not a folder"),
        ([ContentEntry("a", digest=b"short")], "invalid size or digest"),
        ([ContentEntry("a", size=-1, digest=b"d" * 32)], "invalid size or digest"),
        ([ContentEntry("a", mode=0o4755, digest=b"d" * 32)], "invalid target or mode"),
    ],
)
def test_an_ambiguous_tree_is_refused(entries: list[ContentEntry], problem: str) -> None:
    with pytest.raises(BadTree, match=problem):
        check(FileTree(name="x", entries=entries))
