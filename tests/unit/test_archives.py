"""Archives from untrusted sources: bad ones are refused before anything is written, good ones are unpacked exactly."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tfserve.archives.entries import ArchiveEntry, ArchiveNoRoom, ArchiveTooLarge, BadArchive, NotInside
from tfserve.archives.unpacking import MAX_FILES, Unpacked, is_archive, unpack
from tfserve.errors import TFserveError

MIB = 2**20
LIMIT = 512 * MIB


def zipped(path: Path, *files: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # duplicate names
        for name, content in files:
            archive.writestr(name, content)
    return path


def member(name: str, content: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tarred(path: Path, *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def unpacked(path: Path, **limits: int) -> Unpacked:
    return unpack(path, path.parent / "out", name=path.name, **{"max_bytes": LIMIT, "room": LIMIT, **limits})


def refusal(path: Path, **limits: int) -> str:
    """The message; nothing was written."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(TFserveError) as caught:
        unpacked(path, **limits)
    assert sorted(path.parent.iterdir()) == before
    return caught.value.message


def typed(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


OUTSIDE = "leads outside"
BAD_NAMES = {
    "../../evil": OUTSIDE,
    "a/../../evil": OUTSIDE,
    "/evil": OUTSIDE,
    "C:\\evil": OUTSIDE,
    "a\\..\\..\\evil": OUTSIDE,
    "a\nb": "control characters",
    "a\x1b[2J": "control characters",
    "x" * 256: "too long",
    "y/" * 60 + "z": "folders",
    "é" * 128: "too long",
}


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_a_name_that_is_no_path_inside_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(path, ("good", b"x"), (name, b"x"))
    else:
        tarred(path, member("good"), member(name))
    assert BAD_NAMES[name] in refusal(path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a", "a"), "duplicate"), (("a", "./a"), "duplicate"), (("e\u0301", "\u00e9"), "duplicate"),
        (("a", "a/b"), "both a file and a folder"), (("a/b", "a"), "both a file and a folder"),
        (("a/b/c", "a/b"), "both a file and a folder"), (("d/", "d"), "both a file and a folder"),
    ],
)  # fmt: skip
def test_names_that_can_not_exist_next_to_each_other_are_refused(
    tmp_path: Path, names: tuple[str, str], words: str
) -> None:
    assert words in refusal(zipped(tmp_path / "a.zip", *((name, b"x" * ("/" not in name[-1])) for name in names)))


@pytest.mark.parametrize(
    ("mode", "words"), [(0o120777, "a link"), (0o020666, "a device"), (0o010666, "a pipe"), (0o140666, "a socket")]
)
def test_what_is_no_file_in_a_zip_file_is_refused(tmp_path: Path, mode: int, words: str) -> None:
    assert words in refusal(zipped(tmp_path / "a.zip", (typed("x", mode), b"/etc/passwd")))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc"}, "a link"),
        ({"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, "a link"),
        ({"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "a device"),
        ({"type": tarfile.BLKTYPE}, "a device"),
        ({"type": tarfile.FIFOTYPE}, "a pipe"),
        ({"type": b"Z"}, "neither a file nor a folder"),
        ({"type": tarfile.GNUTYPE_SPARSE}, "sparse"),
        ({"pax_headers": {"path": "a\0b"}}, "control characters"),
        ({"pax_headers": {"path": "../b"}}, OUTSIDE),
        ({"pax_headers": {"size": "-5"}}, "negative"),
    ],
)
def test_what_is_no_file_in_a_tar_file_is_refused(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    form = tarfile.GNU_FORMAT if fields.get("type") == tarfile.GNUTYPE_SPARSE else tarfile.PAX_FORMAT
    assert words in refusal(tarred(tmp_path / "a.tgz", member("x", b"", **fields), form=form))


def test_a_name_that_is_not_in_utf_8_is_refused(tmp_path: Path) -> None:
    assert "not in UTF-8" in refusal(tarred(tmp_path / "a.tar", member("a\udcff"), form=tarfile.GNU_FORMAT))


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("aXb", b"x"))
    path.write_bytes(path.read_bytes().replace(b"aXb", b"a\0b"))
    assert "control characters" in refusal(path)


def with_size(path: Path, size: int) -> Path:
    """A zip file that declares another size of its content."""
    content = bytearray(zipped(path, ("a", b"hello world" * 100)).read_bytes())
    struct.pack_into("<I", content, content.rfind(b"PK\x01\x02") + 24, size)
    path.write_bytes(content)
    return path


def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path) -> None:
    assert "times its size" in refusal(with_size(tmp_path / "a.zip", 300 * MIB))


def test_a_tar_bomb_is_refused_when_its_header_is_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.tgz", "wb", 1) as file:
        file.write(member("x", b"", size=2 * LIMIT)[0].tobuf())
        file.write(bytes(MIB))
    with pytest.raises(ArchiveTooLarge):
        unpacked(tmp_path / "a.tgz")


@pytest.mark.parametrize("type_", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_metadata_that_would_fill_the_memory_is_refused(tmp_path: Path, type_: bytes) -> None:
    header = member("x", b"", type=type_, size=3_000_000_000)[0].tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(header + bytes(10_000))
    assert "metadata" in refusal(tmp_path / "a.tar")


def test_data_after_the_end_is_read_up_to_a_limit(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.tgz", "wb", 1) as file:
        file.write(member("x", b"")[0].tobuf() + bytes(40 * MIB))
    assert "after its end" in refusal(tmp_path / "a.tgz")


def overlap(path: Path, names: list[bytes]) -> Path:
    """A zip file whose list has the same data under several names."""
    content = zipped(path, ("aaaa", os.urandom(50_000)), method=zipfile.ZIP_STORED).read_bytes()
    at, end = content.rfind(b"PK\x01\x02"), content.rfind(b"PK\x05\x06")
    listed = [content[at:end].replace(b"aaaa", name) for name in names]
    tail = bytearray(content[end:])
    struct.pack_into("<HHI", tail, 8, len(names), len(names), len(listed[0]) * len(names))
    path.write_bytes(content[:at] + b"".join(listed) + tail)
    return path


def test_overlapping_files_are_refused(tmp_path: Path) -> None:
    assert "overlaps" in refusal(overlap(tmp_path / "a.zip", [b"aaaa", b"bbbb"]))
    assert "duplicate" in refusal(overlap(tmp_path / "b.zip", [b"aaaa"] * 100))


@pytest.mark.parametrize(("size", "words"), [(5, "Bad CRC-32"), (50_000, "smaller than")])
def test_a_wrong_size_is_found_while_it_is_unpacked(tmp_path: Path, size: int, words: str) -> None:
    path = with_size(tmp_path / "a.zip", size)
    with pytest.raises(BadArchive, match=words):
        unpacked(path)


def test_more_files_than_allowed_are_refused_before_they_are_listed(tmp_path: Path) -> None:
    end = b"PK\x06\x06" + (44).to_bytes(8, "little") + b"\0" * 20 + (10**9).to_bytes(8, "little") + b"\0" * 40
    (tmp_path / "a.zip").write_bytes(end)
    assert f"1000000000 files (limit: {MAX_FILES})" in refusal(tmp_path / "a.zip")


def damaged(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def header(name: str, content: bytes) -> bytes:
    return member(name, content)[0].tobuf()


TAR = header("a", b"x" * 600) + b"x" * 600 + bytes(424) + header("b", b"y") + b"y" + bytes(511 + 1024)
DAMAGE: dict[str, Callable[[], bytes]] = {
    "empty.zip": lambda: b"",
    "text.tar": lambda: b"hello" * 1000,
    "random.zip": lambda: os.urandom(10_000),
    "random.tgz": lambda: b"\x1f\x8b" + os.urandom(1000),
    "in-header.tar": lambda: TAR[:1700],
    "at-header.tar": lambda: TAR[:1536],
    "in-data.tar": lambda: TAR[:1000],
    "header.tar": lambda: damaged(TAR, 1546),
    "end.tgz": lambda: gzip.compress(TAR)[:-4],
    "checksum.tgz": lambda: damaged(gzip.compress(TAR), -6),
    "after.tgz": lambda: gzip.compress(TAR) + b"garbage",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_truncated_or_damaged_archive_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DAMAGE[name]())
    assert "can't be unpacked" in refusal(tmp_path / name)


def test_an_archive_without_files_is_refused(tmp_path: Path) -> None:
    assert "no files" in refusal(zipped(tmp_path / "a.zip", ("a/", b"")))
    assert "no files" in refusal(zipped(tmp_path / "b.zip"))


def test_an_archive_has_to_fit(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("a", b"x" * 1000))
    with pytest.raises(ArchiveNoRoom, match="unpacks to 1000 bytes, and 999 are left"):
        unpacked(path, room=999)
    with pytest.raises(ArchiveTooLarge):
        unpacked(path, max_bytes=999)


def test_good_archives_are_unpacked_exactly(tmp_path: Path) -> None:
    files = {"m/saved_model.pb": os.urandom(3000), "m/variables/v.data": b"", "m/猫.txt": b"cat", "A": b"1", "a": b"2"}
    zipped(tmp_path / "a.zip", *files.items(), ("__MACOSX/m/._v", b"x"), (".DS_Store", b"x"))
    tarred(tmp_path / "a.tar", *(member(name, content) for name, content in files.items()))
    tarred(tmp_path / "a.tar.gz", *(member(f"./{name}", content) for name, content in files.items()))
    for name in ("a.zip", "a.tar", "a.tar.gz"):
        folder = tmp_path / name[2:]
        found = unpack(tmp_path / name, folder, name=name, max_bytes=LIMIT, room=LIMIT)
        assert found == Unpacked(5, sum(map(len, files.values())))
        written = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        assert {key: path.read_bytes() for key, path in written.items()} == files


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("a.zip", True),
        ("a.TGZ", True),
        ("a.tar.gz", True),
        ("a.keras", False),
        ("weights.gz", False),
        ("zip", False),
        (".zip", False),
        (".tar.gz", False),
        ("...zip", False),
        ("..a.zip", True),
    ],
)
def test_the_name_decides_what_is_an_archive(name: str, result: bool) -> None:
    assert is_archive(name) is result


def test_an_archive_is_unpacked_by_a_process_of_its_own(tmp_path: Path) -> None:
    zipped(tmp_path / "data", ("a", b"x"))
    command = [sys.executable, "-P", "-m", "tfserve.archives", "data", "a.zip", "out", str(MIB)]
    done = subprocess.run([*command, str(MIB)], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, '{"files": 1, "size_bytes": 1}\n')
    done = subprocess.run([*command, "0"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert '"code": "out_of_space"' in done.stdout


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "..\\x", "", "./", "C:\\x", "a\nb", "x" * 300])
def test_a_name_that_nobody_has_checked_does_not_become_a_path_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotInside, match="can't be the path of a file"):
        ArchiveEntry(0, name, 0).path_in(tmp_path)


def test_a_name_with_folders_becomes_a_path_inside(tmp_path: Path) -> None:
    assert ArchiveEntry(0, "./a\\b//c..txt", 0).path_in(tmp_path) == tmp_path / "a" / "b" / "c..txt"
