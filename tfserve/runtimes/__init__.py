"""What can load a model: tables of formats and of the runtimes for them, each imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

from tfserve.errors import Invalid, Unsupported, nearest
from tfserve.models import formats, links
from tfserve.models.formats import Located
from tfserve.runtimes.interface import Runtime
from tfserve.runtimes.signature_only import SignatureOnly

AUTO = "auto"

MODULES = {
    "tensorflow": "tfserve.runtimes.tensorflow",
    "openvino": "tfserve.runtimes.openvino",
    "litert": "tfserve.runtimes.litert",
    "onnxruntime": "tfserve.runtimes.onnxruntime",
    "echo": "tfserve.runtimes.echo",
}

RUNTIMES: dict[str, tuple[str, ...]] = {
    formats.META_GRAPH: ("tensorflow",),
    formats.SAVED_MODEL: ("tensorflow", "openvino"),
    formats.KERAS: ("tensorflow",),
    formats.HDF5: ("tensorflow",),
    formats.LITERT: ("litert",),
    formats.ONNX: ("onnxruntime", "openvino"),
    formats.ORT: ("onnxruntime",),
    formats.OPENVINO: ("openvino",),
    formats.FROZEN_GRAPH: ("tensorflow", "openvino"),
    formats.PADDLE: ("openvino",),
    formats.TFJS_GRAPH: ("tensorflow",),
    formats.TFJS_LAYERS: ("tensorflow",),
    formats.ECHO: ("echo",),
}
"""Who reads a format as it is, the best first. For a SavedModel `tfserve.worker.compare` finds the best one."""

PRECISIONS: dict[str, tuple[str, ...]] = {
    "float32": tuple(MODULES),
    "bf16": ("openvino",),
    "int8": ("litert",),
}
"""Who computes with fewer bits when asked to. float32 means: as the model was made."""

NEEDS = {
    "tensorflow": "This model needs TensorFlow, which is not installed: pip install 'tfserve[tensorflow]'.",
    "keras": "This model needs Keras, which is not installed: pip install 'tfserve[tensorflow]'.",
    "tf_keras": "Files of Keras 2 need tf_keras, which is not installed: pip install --no-deps 'tf-keras>=2.21,<2.22'.",
    "openvino": "This model needs OpenVINO, which is not installed: pip install 'tfserve[openvino]'.",
    "ai_edge_litert": "This model needs LiteRT, which is not installed: pip install 'tfserve[litert]'.",
    "onnxruntime": "This model needs ONNX Runtime, which is not installed: pip install 'tfserve[onnxruntime]'.",
}


Measuring = Callable[[], AbstractContextManager[object]]
"""Makes what is to be around computations that only measure a model."""


def load(
    model: Located, *, device: str, runtime: str = AUTO, precision: str = "float32",
    measuring: Measuring | None = nullcontext,
) -> Runtime:  # fmt: skip
    """Loads a model that `formats.locate` has found, with the first runtime for it that is installed.

    A runtime that would measure the model with synthetic inputs to choose its settings does not without `measuring`.
    Raises `Invalid` or `Unsupported`, with the cause.
    """
    links.check(model)
    loaded = _load(model, device=device, runtime=runtime, precision=precision, measuring=measuring)
    links.check(model)  # a link that was put in place after the first check
    return loaded


def _load(model: Located, *, device: str, runtime: str, precision: str, measuring: Measuring | None) -> Runtime:
    missing = None
    for name in choices(model, runtime=runtime, precision=precision):
        try:
            module = importlib.import_module(MODULES[name])
            # The others compute as the file was made.
            chosen: dict[str, object] = {"precision": precision} if name in PRECISIONS["bf16"] else {}
            if name == "tensorflow":
                chosen["measuring"] = measuring
            loaded = cast(Callable[..., Runtime], module.load)(model, device=device, **chosen)
            if isinstance(loaded, SignatureOnly):
                loaded.names_folder = model.path.parent
            return loaded
        except ModuleNotFoundError as error:
            if need(error) is None:
                raise
            missing = missing or error
    assert missing is not None
    raise Unsupported(need(missing)) from missing


def need(error: ModuleNotFoundError) -> str | None:
    """What to do about a module that was not found; None when it is not one of a runtime."""
    return NEEDS.get(str(error.name).partition(".")[0])


def choices(model: Located, *, runtime: str = AUTO, precision: str = "float32") -> Sequence[str]:
    """The runtimes that read a model as it is and compute as asked, the best first. Raises `Invalid`, `Unsupported`."""
    if runtime not in (AUTO, *MODULES):
        known = [AUTO, *MODULES]
        raise Invalid(f"There is no runtime {runtime!r}{nearest(runtime, known)}. There are: {', '.join(known)}.")
    if precision not in PRECISIONS:
        known = list(PRECISIONS)
        raise Invalid(f"There is no precision {precision!r}{nearest(precision, known)}. There are: {', '.join(known)}.")
    readers = RUNTIMES[model.format]
    wanted = [name for name in readers if runtime in (AUTO, name)]
    if not wanted:
        raise Unsupported(
            f"{model.path} is a {model.format}, which {' and '.join(readers)} can read; the runtime {runtime!r} was"
            " asked for."
        )
    found = [name for name in wanted if name in PRECISIONS[precision]]
    if not found:
        raise Unsupported(
            f"With {precision} {' and '.join(PRECISIONS[precision])} can compute; {model.path} is a {model.format},"
            f" to be computed by {' or '.join(wanted)}."
        )
    return found
