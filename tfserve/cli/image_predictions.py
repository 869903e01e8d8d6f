"""`tfserve predict` for a folder of images: a CSV file that grows with each image, so it can be continued."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import click

from tfserve.cli.display import Bar, note
from tfserve_client import Invalid, TooLarge, Unsupported

COLUMNS = ("file", "label", "score", "box", "mask", "error")
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".heic", ".heif"}
REQUESTS = 4
"""Requests at a time: one is computed while others are read, sent and decoded."""

Row = tuple[str, ...]
Ask = Callable[[Path], dict[str, Any]]


class Done(NamedTuple):
    """Images in total, those of an earlier run, and those that could not be predicted."""

    images: int
    before: int
    failed: int


def predict_folder(folder: Path, output: Path, ask: Ask) -> Done:
    """Writes the prediction of each image of a folder. Continues if `output` has some. Raises `TFserveError`."""
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not images:
        raise click.BadParameter(f"{str(folder)!r} has no images ({', '.join(sorted(SUFFIXES))}).", param_hint="INPUT")
    finished = _continued(output)
    left = [path for path in images if str(path.relative_to(folder)) not in finished]
    before, failed = len(images) - len(left), 0
    table = Table(folder, output)
    with output.open("ab", buffering=0) as file, Bar(folder.name, total=len(images)) as bar:
        for number, rows in enumerate(_predicted(left, table, ask), before + 1):
            file.write(_text(rows))  # all rows of an image at once
            failed += bool(rows[0][-1])
            bar.set(number)
    return Done(len(images), before, failed)


class Table:
    """What the rows of the images are made with: names are relative to the folder, masks are files."""

    def __init__(self, folder: Path, output: Path) -> None:
        self._folder = folder
        self._masks = output.with_name(f"{output.stem}-masks")

    def rows(self, image: Path, ask: Ask) -> list[Row]:
        name = str(image.relative_to(self._folder))
        try:
            found = ask(image)
        except (Invalid, TooLarge, Unsupported) as error:  # about this image; other errors end the run
            return [(name, "", "", "", "", error.message)]
        if isinstance(found.get("mask"), bytes):
            mask = self._masks / f"{name}.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            mask.write_bytes(found["mask"])
            return [(name, "", "", "", str(mask), "")]
        return rows_of(name, found)


def rows_of(name: str, found: dict[str, Any]) -> list[Row]:
    """The rows of one image: one for each box of a detector, otherwise one."""
    if "boxes" not in found:
        return [(name, str(found.get("label", "")), _number(found.get("score")), "", "", "")]
    boxes: list[Row] = [
        (name, each["label"], _number(each["score"]), _box(each["box"]), "", "") for each in found["boxes"]
    ]
    return boxes or [(name, "", "", "", "", "")]


def plain(found: dict[str, Any]) -> dict[str, Any]:
    """A prediction without the bytes of its mask."""
    return {name: value for name, value in found.items() if not isinstance(value, bytes)}


def _predicted(images: list[Path], table: Table, ask: Ask) -> Iterator[list[Row]]:
    with ThreadPoolExecutor(REQUESTS) as pool:
        try:
            yield from pool.map(lambda image: table.rows(image, ask), images)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            note("Run the same command again to continue.")
            raise


def _continued(output: Path) -> set[str]:
    """The images whose predictions `output` has. Removes a truncated last image, and those that failed."""
    if not output.exists():
        output.write_bytes(_text([COLUMNS]))
        return set()
    head, *rows = list(csv.reader(io.StringIO(output.read_text(encoding="utf-8"), newline=""))) or [[]]
    if tuple(head) != COLUMNS:
        message = f"{str(output)!r} exists, and is not a table of predictions. Choose another file."
        raise click.BadParameter(message, param_hint="--output")
    is_whole = output.read_bytes().endswith(b"\n")
    broken = {rows[-1][0]} if rows and not is_whole else set()
    kept = [tuple(row) for row in rows if len(row) == len(COLUMNS) and not row[-1] and row[0] not in broken]
    temporary = output.with_name(f".{output.name}.new")
    temporary.write_bytes(_text([COLUMNS, *kept]))
    temporary.replace(output)
    return {row[0] for row in kept}


def _text(rows: list[Row]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


def _box(box: list[float]) -> str:
    return " ".join(f"{each:g}" for each in box)
