"""The peers: their versions, how they are started, what is asked of them. All call TensorFlow on the same models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.requests import Request, Samples, instances, raw, v2

TENSORFLOW = "tensorflow-cpu==2.21.0"


@dataclass(frozen=True)
class Peer:
    """`server` is a program in this folder; `ask` makes a row's request, or says why the peer has no such row."""

    title: str
    packages: tuple[str, ...]
    server: str
    ask: Callable[[str, Samples], Request | str]
    interpreter: str | None = None  # the Python to make its environment with; none: the one that runs the benchmark


def with_raw(path: str, row: str, samples: Samples) -> Request:
    return raw(f"{path}-raw", samples) if row == "mobilenet-raw" else instances(path, row, samples)


def json_only(why: str, row: str, samples: Samples) -> Request | str:
    return why if row == "mobilenet-raw" else instances("/predict", row, samples)


def raw_to(route: str, row: str, samples: Samples) -> Request | str:
    """A server of one route, which recognises raw bytes."""
    return raw(route, samples) if row == "mobilenet-raw" else instances(route, row, samples)


def v1_and_v2(row: str, samples: Samples) -> Request | str:
    """Bytes over v2, everything else over v1."""
    if row == "mobilenet-raw":
        return v2("/v2/models/model/infer", row, samples)
    return instances("/v1/models/model:predict", row, samples)


def v2_json_only(why: str, row: str, samples: Samples) -> Request | str:
    return why if row == "mobilenet-raw" else v2("/v2/models/model/infer", row, samples)


PEERS = {
    "fastapi": Peer(
        "FastAPI",
        (TENSORFLOW, "fastapi==0.165.0", "uvicorn[standard]==0.54.0", "orjson==3.13.0"),
        "fastapi_server.py",
        partial(with_raw, "/predict"),
    ),
    "triton": Peer(
        "Triton (PyTriton)",
        (TENSORFLOW, "nvidia-pytriton==0.7.0"),
        "triton_server.py",
        partial(v2, "/v2/models/model/infer"),
        interpreter="/usr/bin/python3",  # Triton loads the shared library of the Python that it was built for: Debian's
    ),
    "litserve": Peer(
        "LitServe",
        (TENSORFLOW, "litserve==0.2.19"),
        "litserve_server.py",
        partial(json_only, "takes JSON and forms only"),
    ),
    "mlserver": Peer(
        "MLServer",
        (TENSORFLOW, "mlserver==1.7.1", "uvloop<0.22"),  # it asks for the event loop in a way that newer ones refuse
        "mlserver_server.py",
        partial(v2_json_only, "no binary tensors over HTTP"),
    ),
    "bentoml": Peer(
        "BentoML",
        (TENSORFLOW, "bentoml==1.4.39"),
        "bentoml_server.py",
        partial(with_raw, "/predict"),
    ),
    "rayserve": Peer(
        "Ray Serve",
        (TENSORFLOW, "ray[serve]==2.60.0", "orjson==3.13.0"),
        "rayserve_server.py",
        partial(with_raw, "/predict"),
    ),
    "mosec": Peer(
        "Mosec",
        (TENSORFLOW, "mosec==0.9.8", "orjson==3.13.0"),
        "mosec_server.py",
        partial(raw_to, "/predict"),
    ),
    "kserve": Peer(
        "KServe (Python server)",
        (TENSORFLOW, "kserve==0.21.0"),
        "kserve_server.py",
        v1_and_v2,
    ),
}
"""Others that a TensorFlow user could choose, and why they are missing: TensorFlow Serving and OpenVINO Model Server
are neither on PyPI nor in Debian. TorchServe takes PyTorch models and needs Java. Multi Model Server ended in 2023."""
