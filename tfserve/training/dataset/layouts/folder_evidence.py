"""Whether a program wrote a folder, by what is in it, and whether annotations refer to it."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from tfserve.training.dataset import text_reading
from tfserve.training.dataset.search import Search, words

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".manifest", ".labels")
LISTS = (".yaml", ".yml", ".txt")
"""Suffixes of other files that may name images: YOLO's `data.yaml` and `train.txt`."""
MAX_LISTS, MAX_LIST_BYTES, MAX_NAMES = 50, 16 * 2**20, 50
"""Files that are searched for the name of a folder, their size, and the names in each that are compared with it."""
LEVELS = 3
_FOLDERS = re.compile(r"detect|segment|classify|pose|obb|predict\d*|exp\d+|weights|version_\d+", re.IGNORECASE)
_FILES = words(
    "args.yaml opt.yaml hyp.yaml hparams.yaml meta.yaml pyvenv.cfg wandb-summary.json wandb-metadata.json results.csv"
    " metrics.json checkpoint"
)
_ENDINGS = (".pt", ".pth", ".ckpt", ".onnx", ".keras", ".h5", ".tflite", ".log")
_EVENTS = "events.out."
"""The beginning of the names of TensorBoard's files."""


def is_written(search: Search, folder: Path, levels: int = LEVELS) -> bool:
    """Whether it has files or folders that trainings and predictions leave."""
    for entry in search.entries(folder):
        name = entry.name.lower()
        if entry.is_dir(follow_symlinks=False):
            if _FOLDERS.fullmatch(name) or (levels > 1 and is_written(search, Path(entry.path), levels - 1)):
                return True
        elif name in _FILES or name.endswith(_ENDINGS) or name.startswith(_EVENTS):
            return True
    return False


def tables(search: Search, folder: Path) -> list[Path]:
    """The files in a folder that may have labels for many images."""
    return search.below(folder, TABLES, depth=0)


def is_named(search: Search, folder: Path) -> bool:
    """Whether a table or a list outside of the folder names files in it."""
    lists = sorted(search.below(search.root, (*TABLES, *LISTS), depth=1), key=lambda path: path.suffix not in TABLES)
    pattern = re.compile(rf"(?<![\w.-]){re.escape(folder.name)}[/\\]([^\"',;\t\r\n]+)")
    return any(_names(path, folder, pattern) for path in lists[:MAX_LISTS] if not path.is_relative_to(folder))


def _names(path: Path, folder: Path, pattern: re.Pattern[str]) -> bool:
    try:
        text = text_reading.read(path) if path.stat().st_size <= MAX_LIST_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return False
    names = (match[1].strip().replace("\\", "/") for match in islice(pattern.finditer(text), MAX_NAMES))
    return any(".." not in name and _exists(folder / name.lstrip("/")) for name in names)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or has a null byte
        return False
