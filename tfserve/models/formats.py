"""Locates the model at a path: its format and version, or what is wrong with it.

Formats are recognised by the files' first bytes, so that most mistakes are found within milliseconds and without a
runtime.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from tfserve.errors import Invalid, nearest
from tfserve.models import contents, tfjs
from tfserve.models.contents import (
    FROZEN_GRAPH,
    HDF5,
    KERAS,
    LITERT,
    ONNX,
    OPENVINO,
    ORT,
    PADDLE,
    TFJS_GRAPH,
    TFJS_LAYERS,
    Broken,
    Foreign,
)

__all__ = [
    "CONVERTIBLE", "ECHO", "EXPORTED", "FILE_FORMATS", "FROZEN_GRAPH", "HDF5", "HELD_OUT_IMAGES", "KERAS", "KNOWN",
    "LITERT", "META_GRAPH", "ONNX", "OPENVINO", "ORT", "PADDLE", "SAVED_MODEL", "TFJS_GRAPH", "TFJS_LAYERS", "Located",
    "check_checkpoint", "companions", "locate",
]  # fmt: skip

META_GRAPH = "TF1 meta graph"
"""Such a model takes new weights without a graph of their own."""
SAVED_MODEL = "SavedModel"
ECHO = "echo"

HELD_OUT_IMAGES = Path("assets.extra") / "held_out_images.zip"
"""In the folder of a SavedModel that was trained here: a few images that it was not trained on."""

EXPORTED = (KERAS, HDF5, TFJS_GRAPH, TFJS_LAYERS)
"""Formats that are exported as SavedModels before loading."""

CONVERTIBLE = (SAVED_MODEL, *EXPORTED)
"""Formats that are converted in search of a faster runtime."""

_PADDLE_SUFFIX = ".pdmodel"

FILE_FORMATS = {
    ".keras": KERAS,
    ".h5": HDF5,
    ".hdf5": HDF5,
    ".tflite": LITERT,
    ".onnx": ONNX,
    ".ort": ORT,
    ".xml": OPENVINO,
    ".pb": FROZEN_GRAPH,
    _PADDLE_SUFFIX: PADDLE,
    ".echo": ECHO,
}

_NAMED_BY_SUFFIX = frozenset({KERAS, HDF5, OPENVINO, PADDLE})
"""Formats whose runtimes need the file's suffix."""

KNOWN = (
    "A model is a SavedModel folder, a folder of numbered versions, a TF1 checkpoint prefix that has a .meta file,"
    " or a .keras, .h5, .tflite, .onnx, .ort or .xml file (OpenVINO, with its .bin file in the same folder), a frozen"
    " graph (.pb), a TensorFlow.js model.json with its weight files,"
    " or a .pdmodel file (PaddlePaddle, with its .pdiparams file in the same folder)."
)

MAX_ENTRIES = 10_000
"""Maximum number of folder entries that are examined."""

MAX_EXAMINED = 100
"""Maximum number of JSON files per folder that are searched for a TensorFlow.js model."""

_GRAPH_FILES = ("saved_model.pb", "saved_model.pbtxt")
_SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")


@dataclass(frozen=True)
class Located:
    """A model on disk. `weights` is a checkpoint prefix, for a meta graph only; it may end with a slash."""

    format: str
    path: Path
    version: int | None
    weights: str | None = None
    #: names of tensors in a frozen graph that are the model's inputs and outputs; found if empty
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def locate(
    path: str, weights: str | None = None, *, inputs: Sequence[str] = (), outputs: Sequence[str] = ()
) -> Located:
    """Locates the model at a path. Raises `Invalid` with the path and the problem.

    `inputs` and `outputs` are tensors of a frozen graph, which does not define them itself.
    """
    found = _locate(path, weights)
    if (inputs or outputs) and found.format != FROZEN_GRAPH:
        raise Invalid(
            f"{path} is a {found.format}, which defines its own inputs and outputs. Leave inputs and outputs out; only"
            " frozen graphs need them."
        )
    return replace(found, inputs=tuple(inputs), outputs=tuple(outputs))


def _locate(path: str, weights: str | None) -> Located:
    target = Path(path)
    for meta in (target, Path(f"{path}.meta"), target / ".meta"):
        if meta.name.endswith(".meta") and meta.is_file():
            return _meta_graph(meta, weights or str(meta).removesuffix(".meta"))
    if weights:
        raise Invalid(
            f"{path} is not a TF1 meta graph, so its weights can't be replaced ({weights}). Deploy a new version."
        )
    if target.is_dir():
        return _folder(target)
    if target.is_file():
        return _file(target)
    if target.exists():
        raise Invalid(f"{path} is a {_type(target)}, not a file or a folder. {KNOWN}")
    raise Invalid(f"{path} does not exist{_neighbour(target)}. {KNOWN}")


def check_checkpoint(prefix: str, what: str) -> None:
    """Raises `Invalid` unless all files of a checkpoint exist. `what` names its owner in the message."""
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
            f"{what} is incomplete: found {len(shards)} of {expected} files {prefix}.data-…. Copy all of its files."
        )


def checkpoint_files(prefix: str) -> list[tuple[str, Path]]:
    """The files of a checkpoint in order, each with what its name has after the prefix."""
    folder, name = os.path.split(prefix)
    files = sorted(file for file in Path(folder or ".").iterdir() if file.name.startswith(name))
    found = [(file.name[len(name) :], file) for file in files]
    return [(rest, file) for rest, file in found if not rest or rest.startswith(".")]


def companions(file: Path) -> list[Path]:
    """The other files of a model in one file, named after it or in it. Raises `Invalid`, `OSError`."""
    if FILE_FORMATS.get(file.suffix.lower()) == OPENVINO:
        return [file.with_suffix(".bin")]
    if contents.identify(file) in (TFJS_GRAPH, TFJS_LAYERS):
        return tfjs.shards(file, tfjs.parse(file))
    return []


def _shard_of(file: Path, name: str) -> re.Match[str] | None:
    return _SHARD.fullmatch(file.name[len(name) :]) if file.name.startswith(name) else None


def _meta_graph(meta: Path, weights: str) -> Located:
    _check_size(meta)
    if not _is_message(meta, {1, 2, 3, 4, 5, 6, 7}):
        raise Invalid(f"{meta} is not a TF1 meta graph, or it is damaged. Copy it again.")
    weights = weights.removesuffix(".index").removesuffix(".meta")
    if Path(weights, ".index").is_file():
        weights = f"{weights.rstrip('/')}/"  # a prefix that is only a folder
    check_checkpoint(weights, f"The checkpoint {weights}")
    return Located(META_GRAPH, meta, _version(meta.parent), weights)


def _folder(folder: Path) -> Located:
    if found := [folder / name for name in _GRAPH_FILES if (folder / name).is_file()]:
        _check_size(found[0])
        if found[0].suffix == ".pb" and not _is_message(found[0], {1, 2}):
            raise Invalid(f"{found[0]} is not a SavedModel, or it is damaged. Save or copy it again.")
        return Located(SAVED_MODEL, folder, _version(folder))
    if (single := _single(folder)) is not None and _version(folder) is not None:
        return _file(single)
    versions = [child for child in _entries(folder) if _version(child) is not None and child.is_dir()]
    if versions:
        return _folder(max(versions, key=lambda version: int(version.name)))
    if (folder / "variables").is_dir():
        raise Invalid(f"{folder} is an incomplete SavedModel: it has variables but no saved_model.pb. Copy it again.")
    if metas := sorted(folder.glob("*.meta")):
        raise Invalid(f"{folder} is a folder of TF1 checkpoints. Give the path of one of them, such as {metas[-1]}.")
    if (found_js := _tfjs_model(folder)) is not None:
        return _file(found_js)
    tfjs.check_not_old(folder)
    if (foreign := _foreign_part(folder)) is not None:
        raise Invalid(_refusal(foreign, contents.identify(foreign)))
    if (inside := _first_model(folder)) is not None:
        raise Invalid(f"{folder} is not a model, but contains files of models. Give the path of one, such as {inside}.")
    raise Invalid(f"{folder} contains no model: found neither saved_model.pb nor numbered versions. {KNOWN}")


def _entries(folder: Path) -> list[Path]:
    return list(islice(folder.iterdir(), MAX_ENTRIES))


def _first_model(folder: Path) -> Path | None:
    """The first file that is one by its suffix and its content, from which Paddle models can't be recognised."""
    files = sorted(file for file in _entries(folder) if file.suffix.lower() in FILE_FORMATS and file.is_file())
    return next(
        (
            file for file in files[:MAX_EXAMINED]
            if file.suffix.lower() == _PADDLE_SUFFIX or isinstance(contents.identify(file), str)
        ),
        None,
    )  # fmt: skip


def _single(folder: Path) -> Path | None:
    """The one file that is a model, if a folder has exactly one."""
    files = [file for file in _entries(folder) if file.suffix.lower() in FILE_FORMATS and file.is_file()]
    return files[0] if len(files) == 1 else None


def _tfjs_model(folder: Path) -> Path | None:
    """The one TensorFlow.js model of a folder, whatever its name. Raises `Invalid` if there are several."""
    files = sorted(file for file in _entries(folder) if file.suffix.lower() == ".json" and file.is_file())
    files.sort(key=lambda file: file.name != "model.json")
    found = [file for file in files[:MAX_EXAMINED] if contents.identify(file) in (TFJS_GRAPH, TFJS_LAYERS)]
    if len(found) > 1 and found[0].name != "model.json":
        raise Invalid(
            f"{folder} contains several TensorFlow.js models. Give the path of one of them, such as {found[0]}."
        )
    return found[0] if found else None


def _foreign_part(folder: Path) -> Path | None:
    """The file that identifies a folder of another library."""
    for name in ("model.json", "Data/com.apple.CoreML/model.mlmodel"):
        if (folder / name).is_file():
            return folder / name
    return None


def _file(file: Path) -> Located:
    _check_size(file)
    if file.name in _GRAPH_FILES:
        raise Invalid(f"{file} is part of a SavedModel. Give the path of its folder, {file.parent}.")
    if file.suffix == ".index" or _SHARD.search(file.name):
        prefix = str(file).removesuffix(".index")
        raise Invalid(
            f"{file} is part of a checkpoint. A model also needs its .meta graph, but {prefix}.meta does not exist."
        )
    if file.suffix.lower() == ".bin" and file.with_suffix(".xml").is_file():
        raise Invalid(
            f"{file} has the weights of an OpenVINO model. Give the path of its graph, {file.with_suffix('.xml')}."
        )
    if file.suffix.lower() == ".echo":
        return Located(ECHO, file, _version(file.parent))
    if file.name in tfjs.OLD:
        tfjs.check_not_old(file.parent)
    found = contents.identify(file)
    if not isinstance(found, str):
        raise Invalid(_refusal(file, found))
    named = FILE_FORMATS.get(file.suffix.lower())
    if found in _NAMED_BY_SUFFIX and named != found:
        suffix = next(suffix for suffix, format_ in FILE_FORMATS.items() if format_ == found)
        raise Invalid(f"{file} is a {found}. Rename it so that its name ends in {suffix}.")
    if found in (OPENVINO, PADDLE):
        _check_weights(file, ".bin" if found == OPENVINO else ".pdiparams")
    if found in (TFJS_GRAPH, TFJS_LAYERS):
        found = TFJS_GRAPH if tfjs.read(file).is_graph else TFJS_LAYERS
    return Located(found, file, _version(file.parent))


def _refusal(file: Path, found: Foreign | Broken | str | None) -> str:
    if isinstance(found, Foreign):
        raw, raw_stem = str(file), str(file.with_suffix(""))
        names = {
            "raw": raw,
            "raw_stem": raw_stem,
            "name": file.name,
            "path": shlex.quote(raw),
            "stem": shlex.quote(raw_stem),
        }
        return f"{file} is {found.what}, which no runtime can read. {found.advice.format_map(names)}"
    if isinstance(found, Broken):
        return f"{file} is {found.what}. It was not completely saved or copied. Save or copy it again."
    if (named := FILE_FORMATS.get(file.suffix.lower())) is not None:
        return f"{file} has the suffix of a model ({named}), but its content is damaged or not a model. Copy it again."
    return f"{file} is not a recognised model file. {KNOWN}"


def _type(path: Path) -> str:
    mode = path.stat().st_mode
    names = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return names.get(stat.S_IFMT(mode), "special file")


def _check_weights(file: Path, suffix: str) -> None:
    """An OpenVINO model always has a file of weights, which is empty for a model without weights."""
    weights = file.with_suffix(suffix)
    if not weights.is_file():
        raise Invalid(f"{file} is incomplete: its weights, {weights}, are missing. Copy both files.")


def _is_message(file: Path, numbers: Set[int]) -> bool:
    """A link may lead outside the folders that callers may name; it is not read before that has been checked."""
    return file.is_symlink() or contents.is_message(file, numbers)


def _check_size(file: Path) -> None:
    if not file.stat().st_size:
        raise Invalid(f"{file} is empty (0 bytes). It was not completely saved or copied. Copy it again.")


def _version(folder: Path) -> int | None:
    return int(folder.name) if folder.name.isascii() and folder.name.isdigit() else None


def _neighbour(target: Path) -> str:
    try:
        return nearest(target.name, [child.name for child in _entries(target.parent)])
    except OSError:
        return ""
