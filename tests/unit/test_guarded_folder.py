"""The files of a folder that programs change at the same time: never one outside of it."""

from __future__ import annotations

import ctypes
import os
import threading
from functools import partial
from pathlib import Path

import pytest

from tfserve.errors import Conflict, Invalid, NotFound, TFserveError
from tfserve.web.http.guarded_folder import GuardedFolder, LeavesFolder

RENAME_EXCHANGE = 2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspaces" / "1" / "files"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "a").mkdir()
    (folder / "a" / "x").write_text("inside")
    (folder / "out").symlink_to(tmp_path)
    (folder / "in").symlink_to("a")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return folder


def content(folder: GuardedFolder, path: str) -> str:
    descriptor = folder.open_file(path)
    assert descriptor is not None
    with os.fdopen(descriptor) as file:
        return file.read()


def test_links_inside_are_followed_and_others_are_refused(root: Path) -> None:
    folder = GuardedFolder(root)
    assert content(folder, "a/x") == content(folder, "in/x") == content(folder, "./a//x") == "inside"
    for path, error in {
        "out/secret": LeavesFolder, "../secret": LeavesFolder, "a/../../x": LeavesFolder, "loop": NotFound,
        "a/x/y": NotFound, "none": NotFound, "pipe": Conflict, "a\0": Invalid, "x" * 300: Invalid,
    }.items():  # fmt: skip
        with pytest.raises(error):
            folder.open_file(path)


def test_a_file_is_replaced_in_one_step_and_only_inside(root: Path, tmp_path: Path) -> None:
    folder = GuardedFolder(root)

    def put(path: str) -> None:
        (tmp_path / "new").write_text("new")
        folder.check_target(path)
        folder.replace(tmp_path / "new", path)

    put("a/x")
    put("b/c/d")
    put("in/y")
    put("loop")
    assert [content(folder, path) for path in ("a/x", "b/c/d", "a/y", "loop")] == ["new"] * 4
    for path in ("out/new", "../new", "out", "a"):
        if path == "out":
            put(path)  # the link itself is replaced
            continue
        with pytest.raises(TFserveError):
            put(path)
    assert (tmp_path / "secret").read_text() == "secret"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new", "secret", "workspaces"]


@pytest.mark.parametrize("above", ["a/x", "loop", "pipe", "dangling"])
def test_a_file_is_not_created_below_what_is_no_folder(root: Path, above: str) -> None:
    (root / "dangling").symlink_to("nothing")
    folder = GuardedFolder(root)
    with pytest.raises(Conflict, match=f"'{above}/new/file' can't be created: '.*' is not a folder"):
        folder.check_target(f"{above}/new/file")
    assert sorted(each.name for each in root.iterdir()) == ["a", "dangling", "in", "loop", "out", "pipe"]


def test_deleting_does_not_follow_links(root: Path, tmp_path: Path) -> None:
    folder = GuardedFolder(root)
    with pytest.raises(Conflict, match="not empty"):
        folder.delete("a", recursive=False)
    (root / "a" / "link").symlink_to(tmp_path)
    for path in ("a", "out", "pipe", "in"):
        folder.delete(path, recursive=True)
    with pytest.raises(LeavesFolder):
        folder.delete("../../../secret", recursive=True)
    with pytest.raises(Invalid, match="expected the path"):
        folder.delete("", recursive=True)
    assert (tmp_path / "secret").exists()
    assert [each.name for each in folder.entries("")] == ["loop"]


def test_a_listing_shows_what_each_entry_is(root: Path) -> None:
    found = {each.name: each for each in GuardedFolder(root).entries("")}
    assert {name: each.type for name, each in found.items()} == {
        "a": "folder", "in": "link", "loop": "link", "out": "link", "pipe": "other",
    }  # fmt: skip
    (inner,) = GuardedFolder(root).entries("a")
    assert (inner.name, inner.type, inner.size) == ("x", "file", 6)


def test_exchanging_a_folder_for_a_link_never_shows_a_file_outside(root: Path, tmp_path: Path) -> None:
    """While one thread exchanges a folder for a link to another one and back, the other reads and writes."""
    folder, stop = GuardedFolder(root), threading.Event()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("secret")

    (root / "b").symlink_to(outside)
    exchange = partial(ctypes.CDLL(None).renameat2, -1, bytes(root / "a"), -1, bytes(root / "b"), RENAME_EXCHANGE)

    def swap() -> None:
        while not stop.is_set():
            exchange()

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for number in range(1500):
            try:
                seen.add(content(folder, "a/x"))
                (tmp_path / "new").write_text("inside")
                folder.replace(tmp_path / "new", f"a/new{number % 5}")
            except TFserveError as error:
                seen.add(type(error).__name__)
    finally:
        stop.set()
        swapping.join()
    assert seen == {"inside", "LeavesFolder"}
    assert [each.name for each in outside.iterdir()] == ["x"]
