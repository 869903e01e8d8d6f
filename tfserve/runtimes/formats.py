"""Which model a path means: what format it has, which version it is, and what is wrong with a broken one.

Only names and sizes of files are looked at here, so that most mistakes are told before a runtime is imported.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tfserve.errors import Invalid, nearest

META_GRAPH = "TF1 meta graph"
SAVED_MODEL = "SavedModel"
KERAS = "Keras file"
HDF5 = "Keras HDF5 file"
LITERT = "LiteRT file"
ONNX = "ONNX file"
OPENVINO = "OpenVINO IR"
ECHO = "echo"

FILE_FORMATS = {
    ".keras": KERAS,
    ".h5": HDF5,
    ".hdf5": HDF5,
    ".tflite": LITERT,
    ".onnx": ONNX,
    ".xml": OPENVINO,
    ".echo": ECHO,
}

KNOWN = (
    "A model is a SavedModel folder, a folder of numbered versions, a TF1 checkpoint prefix that has a .meta file,"
    " or a .keras, .h5, .tflite, .onnx or .xml file (OpenVINO, with its .bin beside it)."
)

_GRAPH_FILES = ("saved_model.pb", "saved_model.pbtxt")
_SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")


@dataclass(frozen=True)
class Located:
    """A model on disk. `weights` is a checkpoint prefix, for a meta graph only; it may end with a slash."""

    format: str
    path: Path
    version: int | None
    weights: str | None = None


def locate(path: str, weights: str | None = None) -> Located:
    """Finds out what a path is. Raises `Invalid` that names the path and says what is wrong with it."""
    place = Path(path)
    for meta in (place, Path(f"{path}.meta"), place / ".meta"):
        if meta.name.endswith(".meta") and meta.is_file():
            return _meta_graph(meta, weights or str(meta).removesuffix(".meta"))
    if weights:
        raise Invalid(f"{path} is no meta graph, so it can't be given other weights ({weights}). Deploy a new version.")
    if place.is_dir():
        return _folder(place)
    if place.is_file():
        return _file(place)
    raise Invalid(f"{path} does not exist{_neighbour(place)}. {KNOWN}")


def check_checkpoint(prefix: str, what: str) -> None:
    """Raises `Invalid` unless all files of a checkpoint are there. `what` says whose it is, for the message."""
    index = Path(f"{prefix}.index")
    if not index.is_file():
        if Path(prefix).is_file() and Path(prefix).stat().st_size:
            return  # the older format, one file without an index
        raise Invalid(f"{what} is incomplete: {index} is missing. Copy all of its files.")
    _check_size(index)
    shards = [match for file in index.parent.glob("*") if (match := _shard_of(file, index.name.removesuffix(".index")))]
    if not shards or len(shards) < int(shards[0][2]):
        expected = int(shards[0][2]) if shards else 1
        raise Invalid(
            f"{what} is incomplete: {len(shards)} of {expected} files {prefix}.data-… are there. Copy all of its files."
        )


def checkpoint_files(prefix: str) -> list[tuple[str, Path]]:
    """The files of a checkpoint in order, each with what its name has after the prefix."""
    folder, name = os.path.split(prefix)
    files = sorted(file for file in Path(folder or ".").iterdir() if file.name.startswith(name))
    found = [(file.name[len(name) :], file) for file in files]
    return [(rest, file) for rest, file in found if not rest or rest.startswith(".")]


def _shard_of(file: Path, name: str) -> re.Match[str] | None:
    return _SHARD.fullmatch(file.name[len(name) :]) if file.name.startswith(name) else None


def _meta_graph(meta: Path, weights: str) -> Located:
    _check_size(meta)
    weights = weights.removesuffix(".index").removesuffix(".meta")
    if Path(weights, ".index").is_file():
        weights = f"{weights.rstrip('/')}/"  # a prefix that is only a folder
    check_checkpoint(weights, f"The checkpoint {weights}")
    return Located(META_GRAPH, meta, _version(meta.parent), weights)


def _folder(folder: Path) -> Located:
    if found := [folder / name for name in _GRAPH_FILES if (folder / name).is_file()]:
        _check_size(found[0])
        return Located(SAVED_MODEL, folder, _version(folder))
    if (single := _single(folder)) is not None and _version(folder) is not None:
        return _file(single)
    versions = [child for child in folder.iterdir() if child.is_dir() and _version(child) is not None]
    if versions:
        return _folder(max(versions, key=lambda version: int(version.name)))
    if (folder / "variables").is_dir():
        raise Invalid(f"{folder} is half a SavedModel: it has variables, but saved_model.pb is missing. Copy it again.")
    if metas := sorted(folder.glob("*.meta")):
        raise Invalid(f"{folder} is a folder of TF1 checkpoints: give the one you mean, such as {metas[-1]}.")
    raise Invalid(f"{folder} is a folder without a model: neither saved_model.pb nor numbered versions. {KNOWN}")


def _single(folder: Path) -> Path | None:
    """The one file that is a model, if a folder has exactly one."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in FILE_FORMATS and file.is_file()]
    return files[0] if len(files) == 1 else None


def _file(file: Path) -> Located:
    _check_size(file)
    if file.name in _GRAPH_FILES:
        raise Invalid(f"{file} is a part of a SavedModel: give its folder, {file.parent}.")
    if file.suffix == ".index" or _SHARD.search(file.name):
        prefix = str(file).removesuffix(".index")
        raise Invalid(
            f"{file} is a part of a checkpoint. A model needs its .meta graph too; {prefix}.meta does not exist."
        )
    if file.suffix.lower() == ".bin" and file.with_suffix(".xml").is_file():
        raise Invalid(f"{file} is the weights of an OpenVINO model: give its graph, {file.with_suffix('.xml')}.")
    if file.suffix.lower() not in FILE_FORMATS:
        raise Invalid(f"{file} is a file of no known kind. {KNOWN}")
    if file.suffix.lower() == ".xml":
        _check_weights(file)
    return Located(FILE_FORMATS[file.suffix.lower()], file, _version(file.parent))


def _check_weights(file: Path) -> None:
    """A model of OpenVINO without any weights still has the file for them, and that may be empty."""
    weights = file.with_suffix(".bin")
    if not weights.is_file():
        raise Invalid(f"{file} is half a model: its weights, {weights}, are missing. Copy both files.")


def _check_size(file: Path) -> None:
    if not file.stat().st_size:
        raise Invalid(f"{file} is empty (0 bytes): it was not written or copied to its end. Copy it again.")


def _version(folder: Path) -> int | None:
    return int(folder.name) if folder.name.isascii() and folder.name.isdigit() else None


def _neighbour(place: Path) -> str:
    try:
        return nearest(place.name, [child.name for child in place.parent.iterdir()])
    except OSError:
        return ""
