"""Loads models: tables of formats and of the runtimes for them, each imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

from tfserve.errors import Invalid, Unsupported, nearest
from tfserve.models import formats, links
from tfserve.models.formats import Located
from tfserve.models.runtime_reports import CANDIDATES
from tfserve.runtimes import operation_check
from tfserve.runtimes.interface import Runtime, add_remark
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
"""The runtimes that read a format without conversion, best first. For SavedModels `tfserve.worker.trials` decides."""

PRECISIONS: dict[str, tuple[str, ...]] = CANDIDATES | {"float32": tuple(MODULES)}
"""The runtimes that support each precision. float32 means: the model's own precision."""

NEEDS = {
    "tensorflow": "This model needs TensorFlow, which is not installed: pip install 'tfserve[tensorflow]'.",
    "keras": "This model needs Keras, which is not installed: pip install 'tfserve[tensorflow]'.",
    "tf_keras": "Files of Keras 2 need tf_keras, which is not installed: pip install --no-deps 'tf-keras>=2.21,<2.22'.",
    "openvino": "This model needs OpenVINO, which is not installed: pip install 'tfserve[openvino]'.",
    "ai_edge_litert": "This model needs LiteRT, which is not installed: pip install 'tfserve[litert]'.",
    "onnxruntime": "This model needs ONNX Runtime, which is not installed: pip install 'tfserve[onnxruntime]'.",
}


Measuring = Callable[[], AbstractContextManager[object]]
"""Makes the context manager for computations that only measure a model."""


def load(
    model: Located, *, device: str, runtime: str = AUTO, precision: str = "float32",
    measuring: Measuring | None = nullcontext, allow_unsafe: bool = False,
    device_memory_bytes: int = 0,
) -> Runtime:  # fmt: skip
    """Loads a model that `formats.locate` has found, with the first runtime for it that is installed.

    Unless `allow_unsafe`, a model with operations that use files, Python or the network is refused. TensorFlow takes at
    most `device_memory_bytes` of a GPU; 0 for the server's limit.

    Without `measuring`, a runtime does not run the model on synthetic inputs to choose its settings.
    Raises `Invalid` or `Unsupported`, with the cause.
    """
    links.check(model)
    remarks = operation_check.check(model, allow=allow_unsafe)
    options: dict[str, object] = {
        "measuring": measuring, "allow_unsafe": allow_unsafe, "device_memory_bytes": device_memory_bytes,
    }  # fmt: skip
    loaded = _load(model, device=device, runtime=runtime, precision=precision, tensorflow=options)
    links.check(model)  # a link that was created after the first check
    for each in remarks:
        add_remark(loaded, each)
    return loaded


def _load(model: Located, *, device: str, runtime: str, precision: str, tensorflow: Mapping[str, object]) -> Runtime:
    """`tensorflow` are the options that only this runtime has."""
    missing = None
    for name in choices(model, runtime=runtime, precision=precision):
        try:
            module = importlib.import_module(MODULES[name])
            # The others use the file's own precision.
            chosen: dict[str, object] = {"precision": precision} if name in PRECISIONS["bf16"] else {}
            if name == "tensorflow":
                chosen |= tensorflow
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
    """How to install a missing module; None if it belongs to no runtime."""
    return NEEDS.get(str(error.name).partition(".")[0])


def choices(model: Located, *, runtime: str = AUTO, precision: str = "float32") -> Sequence[str]:
    """The runtimes that read a model as it is at this precision, best first. Raises `Invalid`, `Unsupported`."""
    if runtime not in (AUTO, *MODULES):
        known = [AUTO, *MODULES]
        raise Invalid(f"Unknown runtime {runtime!r}{nearest(runtime, known)}. Expected one of: {', '.join(known)}.")
    if precision not in PRECISIONS:
        known = list(PRECISIONS)
        raise Invalid(
            f"Unknown precision {precision!r}{nearest(precision, known)}. Expected one of: {', '.join(known)}."
        )
    readers = RUNTIMES[model.format]
    requested = [name for name in readers if runtime in (AUTO, name)]
    if not requested:
        raise Unsupported(
            f"{runtime} can't read {model.path}, a {model.format}. Set runtime to {' or '.join(readers)}, or leave it"
            " out."
        )
    found = [name for name in requested if name in PRECISIONS[precision]]
    if not found:
        raise Unsupported(
            f"{precision} is supported by {' and '.join(PRECISIONS[precision])} only; {model.path} is a {model.format},"
            f" which would run on {' or '.join(requested)}."
        )
    return found
