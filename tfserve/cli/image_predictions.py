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
HEAD = (*COLUMNS, "model")
"""The columns of a file. The model says to which predictions others may be added."""
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".heic", ".heif"}
REQUESTS = 4
"""Requests at a time: one is computed while others are read, sent and decoded."""

ERROR = COLUMNS.index("error")

Row = tuple[str, ...]
Ask = Callable[[Path], dict[str, Any]]


class ImageCounts(NamedTuple):
    """Images in total, those of an earlier run, and those that could not be predicted."""

    images: int
    before: int
    failed: int


def predict_folder(folder: Path, output: Path, model: str, ask: Ask) -> ImageCounts:
    """Writes the prediction of each image of a folder. Continues if `output` has some of the same model (its name and
    version). Raises `TFserveError`.
    """
    table = ImageRows(folder, output)
    images = sorted(path for path in folder.rglob("*") if table.takes(path))
    if not images:
        raise click.BadParameter(f"{str(folder)!r} has no images ({', '.join(sorted(SUFFIXES))}).", param_hint="INPUT")
    finished = _continued(output, model)
    left = [path for path in images if str(path.relative_to(folder)) not in finished]
    before, failed = len(images) - len(left), 0
    with output.open("ab", buffering=0) as file, Bar(folder.name, total=len(images)) as bar:
        for number, rows in enumerate(_predicted(left, table, ask), before + 1):
            file.write(_text([(*row, model) for row in rows]))  # all rows of an image at once
            failed += bool(rows[0][-1])
            bar.set(number)
    return ImageCounts(len(images), before, failed)


class ImageRows:
    """What the rows of the images are made with: names are relative to the folder, masks are files."""

    def __init__(self, folder: Path, output: Path) -> None:
        self._folder = folder
        self._masks = output.with_name(f"{output.stem}-masks")

    def takes(self, path: Path) -> bool:
        """Whether it is an image of the folder, and not a mask that was written for one."""
        return (
            path.suffix.lower() in SUFFIXES and self._masks.absolute() not in path.absolute().parents and path.is_file()
        )

    def rows(self, image: Path, ask: Ask) -> list[Row]:
        name = str(image.relative_to(self._folder))
        try:
            image.open("rb").close()
            found = ask(image)
        except (Invalid, TooLarge, Unsupported) as error:  # about this image; other errors end the run
            return [(name, "", "", "", "", error.message)]
        except (PermissionError, FileNotFoundError) as error:
            return [(name, "", "", "", "", error.strerror or str(error))]
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


def _predicted(images: list[Path], table: ImageRows, ask: Ask) -> Iterator[list[Row]]:
    with ThreadPoolExecutor(REQUESTS) as pool:
        try:
            yield from pool.map(lambda image: table.rows(image, ask), images)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            note("Run the same command again to continue.")
            raise


def _continued(output: Path, model: str) -> set[str]:
    """The images whose predictions `output` has. Removes a truncated last image, and those that failed."""
    if not output.exists():
        output.write_bytes(_text([HEAD]))
        return set()
    kept = _whole_rows(output)
    if others := {row[-1] for row in kept} - {model}:
        message = (
            f"{str(output)!r} has predictions of {others.pop()}, not of {model}. Choose another file, or delete it."
        )
        raise click.BadParameter(message, param_hint="--output")
    kept = [row for row in kept if not row[ERROR]]
    temporary = output.with_name(f".{output.name}.new")
    temporary.write_bytes(_text([HEAD, *kept]))
    temporary.replace(output)
    return {row[0] for row in kept}


def _whole_rows(output: Path) -> list[Row]:
    """The rows of the images that were written to their end. Raises `click.BadParameter`."""
    content = output.read_bytes()
    text = content.decode("utf-8", "surrogateescape")
    try:
        head, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    except csv.Error:
        head, rows = [], []
    if tuple(head) != HEAD:
        problem = "is not a table of predictions of `tfserve predict`"
        if tuple(head) == COLUMNS:
            problem = "was written by an earlier release, which did not note the model"
        message = f"{str(output)!r} exists, and {problem}. Choose another file."
        raise click.BadParameter(message, param_hint="--output")
    broken = {rows[-1][0]} if rows and rows[-1] and not content.endswith(b"\n") else set()
    return [tuple(row) for row in rows if len(row) == len(HEAD) and row[0] not in broken]


def _text(rows: list[Row]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


def _box(box: list[float]) -> str:
    return " ".join(f"{each:g}" for each in box)
