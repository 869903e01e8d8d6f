"""The role of a deployed model: load it, warm it up, answer predictions."""

from __future__ import annotations

import gc
import logging

import msgspec
import numpy as np
import psutil

from tfserve import runtimes
from tfserve.errors import Internal, Invalid, TFserveError
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import BecomeModel, Failed, Message, ModelLoaded, Predict, Predictions
from tfserve.runtimes import formats
from tfserve.runtimes.interface import Runtime
from tfserve.tensors import DEFAULT_SIGNATURE, DTYPES, Array, Signature, TensorSpec
from tfserve.worker.inbox import Inbox
from tfserve.worker.predictor import Predictor

log = logging.getLogger(__name__)


class ModelRole:
    """One model for the worker's life. If it can't be loaded the worker only waits to be stopped."""

    def __init__(self, connection: BlockingConnection) -> None:
        self._connection = connection
        self._predictor: Predictor | None = None

    def serve(self, inbox: Inbox, request_id: int, become: BecomeModel) -> None:
        """Answers `become`, then everything else in order, until the worker is to stop."""
        self._connection.answer(request_id, self._load(become))
        for each_id, message in inbox:
            self._connection.answer(each_id, self._answer(message))

    def _load(self, become: BecomeModel) -> Message:
        try:
            model = formats.locate(become.path, become.weights)
            runtime = runtimes.load(model, device=become.device)
            predictor = Predictor(runtime)
            told = warm_up(runtime, predictor, become.sample)
        except TFserveError as error:
            return Failed(failure=error.to_failure())
        except OSError as error:
            return Failed(failure=Invalid(f"{become.path} can't be read: {error}").to_failure())
        except Exception as error:
            log.exception("while loading %s", become.path)
            told = f"{become.path} can't be loaded: {type(error).__name__}: {error}"
            return Failed(failure=Internal(told[:1000]).to_failure())
        self._predictor = predictor
        # A full collection next to TensorFlow's objects takes 165 ms; what is here now stays for good.
        gc.collect()
        gc.freeze()
        return ModelLoaded(
            format=runtime.format,
            version=model.version,
            signatures={name: msgspec.to_builtins(each) for name, each in runtime.signatures.items()},
            warm_up=told,
            memory_bytes=psutil.Process().memory_full_info().uss,
        )

    def _answer(self, message: Message) -> Message:
        if not isinstance(message, Predict):
            return Failed(failure=Invalid(f"a model worker was sent {type(message).__name__}").to_failure())
        if self._predictor is None:
            return Failed(failure=Invalid("this worker could not load its model").to_failure())
        return Predictions(predictions=self._predictor.predict(message.requests))


def warm_up(runtime: Runtime, predictor: Predictor, sample: bytes | None) -> str:
    """Computes once what will be asked, and tells what was done. Raises `Invalid` when the model can't compute.

    A made-up input may rightly be refused, unless the signature leaves nothing open but the number of examples.
    """
    told = [_try_signature(runtime)]
    if sample is not None:
        told.append(_try_sample(predictor, sample, must_work=not runtime.signatures))
    return "; ".join(told)


def _try_signature(runtime: Runtime) -> str:
    name = DEFAULT_SIGNATURE if len(runtime.signatures) != 1 else next(iter(runtime.signatures))
    signature = runtime.signatures.get(name)
    if signature is None:
        return "no signature to warm up by"
    if any(spec.dtype not in DTYPES for spec in signature.inputs):
        return f"signature {name!r}: an input of a type that can't be made up"
    zeros = {spec.name: _zeros(spec) for spec in signature.inputs}
    try:
        runtime.run(zeros, [spec.name for spec in signature.outputs], name)
    except TFserveError as error:
        if _is_certain(signature):
            raise Invalid(f"The warm-up of signature {name!r} with zeros failed: {error.message}") from error
        return f"signature {name!r}: a made-up input was refused ({error.message})"
    return f"signature {name!r} with zeros"


def _try_sample(predictor: Predictor, sample: bytes, *, must_work: bool) -> str:
    (answer,) = predictor.predict([sample])
    if answer.error is None:
        return "a former request"
    message = msgspec.json.decode(answer.error)["message"]
    if must_work:
        raise Invalid(f"The warm-up with a former request failed: {message}")
    return f"a former request was refused ({message})"


def _zeros(spec: TensorSpec) -> Array:
    shape = tuple(1 if size == -1 else size for size in spec.shape or ())
    dtype = DTYPES[spec.dtype]
    return np.full(shape, b"", dtype=object) if dtype.kind == "string" else np.zeros(shape, dtype=dtype.numpy)


def _is_certain(signature: Signature) -> bool:
    return all(
        spec.dtype != "string" and spec.shape is not None and -1 not in spec.shape[1:] for spec in signature.inputs
    )
