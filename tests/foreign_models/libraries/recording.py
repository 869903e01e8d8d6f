"""Records the calls that a library makes of its models: which file, what went in, what came out.

Runs in the environment of the packages, so it imports nothing of the product.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

CALLS_PER_MODEL = 3


class Recording:
    """The calls of each model file, written below `folder` as they happen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models: dict[str, list[dict[str, str]]] = {}

    def add(self, model: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        calls = self.models.setdefault(model, [])
        if len(calls) == CALLS_PER_MODEL:
            return
        stem = f"{list(self.models).index(model)}-{len(calls)}"
        call = {"inputs": str(self.folder / f"{stem}-in.npz"), "outputs": str(self.folder / f"{stem}-out.npz")}
        save(call["inputs"], inputs)
        save(call["outputs"], outputs)
        calls.append(call)

    def keep(self, content: bytes, suffix: str) -> str:
        """The file of a model that the library has in memory only."""
        file = self.folder / f"model-{len(list(self.folder.glob('model-*')))}{suffix}"
        file.write_bytes(content)
        return str(file)

    def close(self) -> None:
        (self.folder / "recording.json").write_text(json.dumps(self.models))


def save(file: str, arrays: Mapping[str, Any]) -> None:
    # Tensor names may look like paths, so they are kept in an array of their own.
    names = list(arrays)
    numbered = {f"a{n}": np.asarray(arrays[name]) for n, name in enumerate(names)}
    np.savez(file, names=np.array(json.dumps(names)), **numbered)


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[Recording]:
    """ONNX Runtime and LiteRT record every call until the end of the block."""
    record = Recording(folder)
    watch_onnxruntime(record)
    watch_litert(record)
    yield record
    record.close()


def watch_onnxruntime(record: Recording) -> None:
    import onnxruntime

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path_or_bytes: Any, *args: Any, **options: Any) -> None:
            super().__init__(path_or_bytes, *args, **options)
            is_bytes = isinstance(path_or_bytes, bytes)
            self.file = record.keep(path_or_bytes, ".onnx") if is_bytes else str(path_or_bytes)

        def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
            names = list(output_names or [each.name for each in self.get_outputs()])
            outputs = super().run(names, input_feed, run_options)
            record.add(self.file, input_feed, dict(zip(names, outputs, strict=True)))
            return outputs

    onnxruntime.InferenceSession = Session


def watch_litert(record: Recording) -> None:
    from ai_edge_litert import interpreter

    plain = interpreter.Interpreter

    class Recorded(plain):  # type: ignore[misc, valid-type]
        def __init__(self, model_path: Any = None, model_content: bytes | None = None, **options: Any) -> None:
            super().__init__(model_path=model_path, model_content=model_content, **options)
            self.file = record.keep(model_content, ".tflite") if model_path is None else str(model_path)

        def invoke(self) -> None:
            inputs = {name: self.get_tensor(index).copy() for name, index in indices(self, "input").items()}
            super().invoke()
            record.add(
                self.file, inputs, {name: self.get_tensor(index) for name, index in indices(self, "output").items()}
            )

    interpreter.Interpreter = Recorded
    sys.modules["tflite_runtime"] = sys.modules["ai_edge_litert"]
    sys.modules["tflite_runtime.interpreter"] = interpreter


def indices(interpreter: Any, side: str) -> dict[str, int]:
    """The tensor of each input or output, by its name in the first signature, else by its own name."""
    signatures = list(interpreter.get_signature_list())
    if signatures:
        runner = interpreter.get_signature_runner(signatures[0])
        details: Callable[[], dict[str, Any]] = getattr(runner, f"get_{side}_details")
        return {name: each["index"] for name, each in details().items()}
    return {each["name"]: each["index"] for each in getattr(interpreter, f"get_{side}_details")()}
