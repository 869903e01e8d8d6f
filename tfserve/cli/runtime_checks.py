"""Which runtimes and GPUs this machine has. Runtimes are imported in processes of their own, as they may crash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata, util
from typing import NamedTuple

IMPORT_S = 120.0
GPU_S = 20.0

Result = tuple[str, str, str, str]
"""Name, level, text and advice of a diagnosis."""


class RuntimeLibrary(NamedTuple):
    """A library that computes models, the extra that installs it, and what it is for."""

    name: str
    module: str
    extra: str
    purpose: str


RUNTIMES = (
    RuntimeLibrary(
        "TensorFlow", "tensorflow", "tensorflow", "SavedModel and Keras models, scripts that use TensorFlow"
    ),
    RuntimeLibrary("OpenVINO", "openvino", "openvino", "OpenVINO models, and faster predictions"),
    RuntimeLibrary("LiteRT", "ai_edge_litert", "litert", ".tflite models, and faster predictions"),
    RuntimeLibrary("ONNX Runtime", "onnxruntime", "onnxruntime", ".onnx models"),
    RuntimeLibrary("training", "tf2onnx", "training", "training on folders of images"),
)


def runtimes() -> Iterator[Result]:
    """A missing runtime is a warning, and a broken one a problem. Without any, nothing can be deployed."""
    with ThreadPoolExecutor() as pool:
        results = [*pool.map(_runtime, RUNTIMES)]
    yield from results
    if not any(level == "ok" for name, level, _, _ in results if name != "training"):
        yield "runtimes", "problem", "no runtime works, so no model can be deployed", _install("tensorflow")


def _runtime(runtime: RuntimeLibrary) -> Result:
    if util.find_spec(runtime.module) is None:
        return runtime.name, "warning", f"not installed; it is for {runtime.purpose}", _install(runtime.extra)
    command = [sys.executable, "-P", "-c", f"import {runtime.module}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_S, check=False)
    except subprocess.TimeoutExpired:
        return runtime.name, "problem", f"could not be imported in {IMPORT_S:.0f} s", _install(runtime.extra)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return runtime.name, "problem", f"can't be imported: {lines[-1][:200]}", _install(runtime.extra)
    return runtime.name, "ok", _version(runtime.module), ""


def _version(module: str) -> str:
    names = metadata.packages_distributions().get(module, [module])
    return f"{names[0]} {metadata.version(names[0])}"


def _install(extra: str) -> str:
    return f"{sys.executable} -m pip install 'tfserve[{extra}]'"


def gpu() -> Result:
    """The GPUs that the driver reports, and whether the installed TensorFlow can use them."""
    if shutil.which("nvidia-smi") is None:
        return "GPU", "ok", "none, or without a driver (nvidia-smi); models are computed on the processors", ""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=GPU_S, check=False)
    except subprocess.TimeoutExpired:
        return "GPU", "warning", "nvidia-smi does not respond", "Restart the machine, or reinstall the driver."
    if done.returncode != 0:
        return "GPU", "warning", " ".join(done.stdout.split())[:200], "Check the installation of the driver."
    text = "; ".join(done.stdout.strip().splitlines())
    if _has("tensorflow-cpu") and not _has("tensorflow"):
        return "GPU", "warning", f"{text}, not used by tensorflow-cpu", _install("gpu")
    return "GPU", "ok", text, ""


def _has(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
