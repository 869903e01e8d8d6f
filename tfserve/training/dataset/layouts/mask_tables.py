"""Tables with an image and its mask in each row: `image,mask`, HuggingFace's `file_name,mask_file_name`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfserve.training.dataset import masks
from tfserve.training.dataset.layouts import table_text, tables
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.mask_pairs import MaskPair
from tfserve.training.dataset.layouts.parts import NO_FOLDER, in_split, own_split, part_of, part_of_path
from tfserve.training.dataset.search import Labelled, Search, words

MASK_HEADERS = words(
    "mask masks mask_file mask_filename mask_file_name mask_path mask_name label label_file label_file_name label_path"
    " annotation annotation_file annotation_file_name annotation_path segmentation segmentation_file_name target gt"
)


def find(search: Search, index: ImageIndex) -> list[MaskPair] | None:
    """The images with their masks; None without such a table. Sets `search.layout`."""
    for path in tables.files(search, tables.TEXT_SUFFIXES):
        text = table_text.read(path)
        above = table_text.titles(text.rows)
        cells = text.rows[above:]
        columns = _columns(cells, index, path.parent) if len(cells) > 1 else None
        if columns and (pairs := _pairs(search, index, path, cells, columns, above)):
            search.layout = f"a table of images and masks: {search.name(path)}"
            search.remarks += text.remarks(search.name(path)) + index.remarks(search.name(path))
            return pairs
    return None


def _columns(cells: Sequence[Sequence[str]], index: ImageIndex, near: Path) -> tuple[int, int, int] | None:
    """The columns of the image, the mask and the split, -1 without one, by what their cells name."""
    names = [table_text.plain(name) for name in cells[0]]
    fitting = tables.fitting_columns(cells[0], cells, index, near, least=0.0)
    masks = [column for column in fitting if names[column] in MASK_HEADERS]
    masks = sorted(masks, key=lambda column: "mask" not in names[column])
    images = [column for column in fitting if names[column] in tables.FILE_HEADERS and column not in masks]
    splits = [column for column, name in enumerate(names) if name in tables.SPLIT_HEADERS]
    return (images[0], masks[0], min(splits, default=-1)) if images and masks else None


def _pairs(
    search: Search, index: ImageIndex, path: Path, cells: Sequence[Sequence[str]], columns: tuple[int, int, int],
    above: int,
) -> list[MaskPair]:  # fmt: skip
    """Empty if no row names two images. Rows without one of them are skipped and listed."""
    found: dict[Path, MaskPair] = {}
    missing: list[tuple[str, str]] = []
    for number, row in enumerate(cells[1:], start=above + 2):
        image_name, mask_name, split = (row[at].strip() if 0 <= at < len(row) else "" for at in columns)
        image, mask = (index.find(name, path.parent) if name else None for name in (image_name, mask_name))
        if image and mask and mask.suffix.lower() not in masks.SUFFIXES:
            search.skip(
                mask, f"a mask in {mask.suffix}, which does not keep its values exactly: save it as PNG", bad=True
            )
        elif image and mask and image != mask:
            part = part_of(split) or part_of_path(index.relative(image))
            found.setdefault(image, MaskPair(image, mask, part))
        else:
            missing.append((mask_name if image else image_name, tables.place(search, path, number)))
    for name, where in missing if found else ():
        search.skip(search.root / (name or "(no name)")[:200], f"missing: named in {where}", bad=True)
    name = search.name(path)
    why = f"not listed with a part in {name}" if columns[2] >= 0 else NO_FOLDER
    files = in_split(search, [Labelled(pair.image, "", pair.part) for pair in found.values()], why)
    return [found[file.path]._replace(part=file.part) for file in own_split(files)]
