"""Which files on the head belong to what a request names: the root on this machine, and the paths below it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tfserve.errors import TFserveError
from tfserve.models import formats, onnx_data
from tfserve.models.contents import ONNX, OPENVINO, PADDLE
from tfserve.training.dataset.project_folders import FEEDBACK, LATEST, METRICS_FILE, MODELS, is_archive, results_folder
from tfserve.training.fit.earlier_models import NONE, PARAMETER

KNOWN_NAMES = "known_names.msgpack"
"""Next to a converted model: the names that TensorFlow knows."""
SIDECARS = (".image.json", ".signature.json")
"""What the runtimes read about a model in one file: how images become its input, and the names of its tensors."""
INCOMPLETE = (".*.writing", ".*.arriving")
MAX_MODULES = 2000
"""Maximum Python files that travel with a script in a file."""


@dataclass(frozen=True)
class Share:
    """Files below `root`. Its name is that of the root on the node, as it may be the version of a model."""

    root: Path
    paths: tuple[str, ...] = ("",)
    includes: Callable[[str], bool] = lambda _: True


def of_model(path: str) -> Share:
    """A folder, a file with those that belong to it, or a prefix of checkpoint files."""
    model = Path(path)
    if model.is_dir():
        return Share(model)
    if model.suffix == ".meta" or not model.is_file():
        return of_checkpoint(path)
    next_to_it = (KNOWN_NAMES, *(f"{model.stem}{suffix}" for suffix in SIDECARS))
    names = {model.name, *_companions(model), *(name for name in next_to_it if (model.parent / name).is_file())}
    return Share(model.parent, tuple(sorted(names)))


def of_checkpoint(prefix: str) -> Share:
    prefix = prefix.removesuffix(".index").removesuffix(".meta")
    if Path(prefix, ".index").is_file():
        prefix = f"{prefix.rstrip('/')}/"  # a prefix that is only a folder
    folder = Path(prefix) if prefix.endswith("/") else Path(prefix).parent
    files = formats.checkpoint_files(prefix) if folder.is_dir() else []
    return Share(folder, tuple(file.name for _, file in files))


def of_file(path: str) -> Share:
    return Share(Path(path).parent, (Path(path).name,))


def of_script(path: str) -> Share:
    """A script with the modules next to it and in packages below."""
    folder = Path(path).parent
    modules = {str(file.relative_to(folder)) for file in _first(folder.glob("*.py"))}
    modules |= {str(file.relative_to(folder)) for file in _first(folder.glob("*/**/*.py"))}
    return Share(folder, (Path(path).name, *sorted(modules - {Path(path).name})))


def of_project(project_dir: str, parameters: dict[str, object]) -> Share:
    """The images and labels, with what a training needs of the results: feedback, figures, and an earlier model."""
    project = Path(project_dir)
    results = results_folder(project)
    root = project.parent if is_archive(project) else project
    models = f"{results.name}/{MODELS}" if is_archive(project) else MODELS
    earlier = _earlier(results / MODELS, str(parameters.get(PARAMETER, NONE)))

    def includes(path: str) -> bool:
        if not path.startswith(f"{models}/"):
            return True
        inside = path.removeprefix(f"{models}/").split("/")
        needed = (Path(FEEDBACK).name, earlier)
        return inside[0] in needed or inside == [LATEST] or len(inside) == 1 or inside[1:] == [METRICS_FILE]

    return Share(root, (project.name, f"{results.name}/{MODELS}") if is_archive(project) else ("",), includes)


def _earlier(models: Path, given: str) -> str:
    """The name of the folder of the model from which a training starts."""
    folder = (models / given).resolve()
    return folder.name if given != NONE and folder.parent == models.resolve() else ""


def _companions(model: Path) -> set[str]:
    """The other files of a model in one file, relative to its folder."""
    format_ = formats.FILE_FORMATS.get(model.suffix.lower())
    if format_ == PADDLE:
        return {model.with_suffix(".pdiparams").name}
    if format_ == ONNX:
        return _external_data(model)
    if format_ not in (None, OPENVINO):
        return set()
    try:
        return {str(file.relative_to(model.parent)) for file in formats.companions(model)}
    except (TFserveError, OSError, ValueError):  # the worker reports what is wrong with it
        return set()


def _external_data(model: Path) -> set[str]:
    """The files that an ONNX file names, as far as they are below its folder."""
    return {name for name in onnx_data.names(model) if (model.parent / name).is_file()}


def _first(files: object) -> list[Path]:
    found: list[Path] = []
    for file in files:  # type: ignore[attr-defined]  # a generator of paths
        if len(found) == MAX_MODULES:
            break
        found.append(file)
    return found
