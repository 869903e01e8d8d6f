"""The role of a deployed model: load it, warm it up, answer predictions."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import psutil

from tfserve import runtimes
from tfserve.cluster.membership import Membership
from tfserve.errors import Internal, Invalid, TFserveError
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import (
    BecomeModel,
    Concurrency,
    ConcurrencyChosen,
    Done,
    Failed,
    IdleSince,
    Message,
    ModelLoaded,
    Predict,
    Prediction,
    Predictions,
    ReadSamples,
    Samples,
    SamplesSeen,
)
from tfserve.ipc.predictions import ComputeRequest, decode_sample
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes import devices, image_metadata, images, operation_check, state
from tfserve.runtimes.error_summary import named_cause
from tfserve.runtimes.guarded import Guarded
from tfserve.runtimes.image_metadata import FoundDescription
from tfserve.runtimes.images import ImageFiles
from tfserve.runtimes.interface import Runtime, remarks_of
from tfserve.worker.inbox import Inbox
from tfserve.worker.model import samples
from tfserve.worker.model.computation import Computation
from tfserve.worker.model.concurrency import Setting
from tfserve.worker.model.listener import Listener
from tfserve.worker.model.predictor import Predictor
from tfserve.worker.model.warm_up import TIMING, WarmUp
from tfserve.worker.model.warm_up_steps import Steps

log = logging.getLogger(__name__)

QUIET_S = 0.5
"""The rest of a warm-up waits until no prediction was requested for this time."""


class ModelRole:
    """Serves one model until the worker exits. If it can't be loaded, the worker only waits for `Stop`."""

    def __init__(self, connection: BlockingConnection) -> None:
        self._connection = connection
        self._predictor: Predictor | None = None
        self._computation: Computation | None = None
        #: held while the supervisor's predictions are computed, and while those of web are, unless the runtime lets
        #: several threads call it
        self._lock = threading.Lock()
        self._predicted_ns = time.perf_counter_ns()
        #: the rest of the warm-up
        self._later: Callable[[], None] | None = None

    def serve(self, inbox: Inbox, request_id: int, become: BecomeModel) -> None:
        """Answers `become`, then all further requests in order, until `Stop`."""
        self._connection.answer(request_id, self._load(become))
        if self._later is not None and self._computation is not None:
            work = [self._later, self._computation]
            threading.Thread(target=self._complete, args=work, name="warm-up", daemon=True).start()
        for each_id, message in inbox:
            self._connection.answer(each_id, self._answer_or_failure(message))

    def _complete(self, warm_up: Callable[[], None], computation: Computation) -> None:
        """Completes a warm-up when no prediction was requested for a moment. Requests of a busy model do the same."""
        # A timer of its own thread, which each request extends: waking it for each would cost more than the wait.
        while (quiet_s := (time.perf_counter_ns() - self._last_ns()) / 1e9) < QUIET_S:
            time.sleep(QUIET_S - quiet_s)
        try:
            with computation.samples.paused():
                warm_up()
        except Exception:
            log.exception("the warm-up could not be completed")
        computation.release_memory()

    def _last_ns(self) -> int:
        """When the last prediction was requested."""
        return max(self._predicted_ns, self._computation.last_run_ns if self._computation is not None else 0)

    def _load(self, become: BecomeModel) -> Message:
        # A full collection next to TensorFlow's objects takes 165 ms and finds next to nothing; what is here when the
        # model is loaded stays for good.
        gc.disable()
        try:
            return self._loaded(become)
        except TFserveError as error:
            return Failed(failure=error.to_failure())
        except OSError as error:
            return Failed(failure=Invalid(f"{become.path} can't be read: {error}").to_failure())
        except Exception as error:
            log.exception("while loading %s", become.path)
            problem = f"{become.path} can't be loaded: {named_cause(error)}"
            return Failed(failure=Internal(problem[:1000]).to_failure())
        finally:
            gc.freeze()
            gc.enable()
            self._predicted_ns = time.perf_counter_ns()  # it has not been idle while it was loaded

    def _loaded(self, become: BecomeModel) -> ModelLoaded:
        options = become.options
        given = {"inputs": options.inputs, "outputs": options.outputs} if not become.source else {}
        model = formats.locate(become.path, become.weights, **given)
        described = _images(become, model)
        steps = Steps(self._connection, limit_s=become.time_limit_s, skip=become.skip)
        loaded = self._runtime(become, model, steps)
        if become.guard is not None:
            loaded = Guarded(loaded, become.guard)
        runtime = images.with_files(loaded, described)
        computation = Computation(runtime, self._lock, memory_limit_bytes=become.memory_limit_bytes)
        predictor = Predictor(runtime, on_change=computation.share_state)
        warmed = WarmUp(runtime, predictor, computation, steps=steps).run(become)
        self._predictor, self._computation, self._later = predictor, computation, warmed.later
        self._begin_sampling(computation, runtime, become.samples)
        computation.release_memory()  # an idle process should use little memory
        address = self._listen(computation, become) if become.address else ""
        return ModelLoaded(
            address=address,
            format=runtime.format,
            version=model.version,
            signatures=msgspec.to_builtins(warmed.with_examples(runtime.signatures)),
            warm_up="; ".join(warmed.done),
            runtime=runtime.runtime,
            image=msgspec.to_builtins(runtime.spec) if isinstance(runtime, ImageFiles) else None,
            remarks=[*state.remarks(loaded), *remarks_of(runtime), *warmed.remarks],
            is_stateful=state.is_stateful(loaded),
            memory_bytes=psutil.Process().memory_full_info().uss,
        )

    def _listen(self, computation: Computation, become: BecomeModel) -> str:
        """The address for web."""
        listener = Listener(
            computation,
            become.options,
            name=become.address,
            time_limit_s=become.time_limit_s,
            is_on_cpu=devices.is_cpu(become.device),
            notify=lambda chosen: self._connection.notify(ConcurrencyChosen(concurrency=_described(chosen))),
            membership=Membership.of_environment(),
        )
        listener.start()
        return listener.address

    def _answer_or_failure(self, message: Message) -> Message:
        """An unexpected exception fails the request, not the process that all requests share."""
        try:
            return self._answer(message)
        except Exception as error:
            log.exception("a request could not be answered")
            problem = f"The request can't be answered: {named_cause(error)}"
            return Failed(failure=Internal(problem[:500]).to_failure())

    def _runtime(self, become: BecomeModel, model: Located, steps: Steps) -> Runtime:
        """The model, with its state reset before each call if the deployment is stateless."""
        options = become.options
        may_measure = options.warm_up is True and steps.may(TIMING)
        loaded = runtimes.load(
            model, device=become.device, runtime=options.runtime, precision=options.precision,
            measuring=partial(steps.begin, TIMING) if may_measure else None,
            device_memory_bytes=options.device_memory_bytes or 0,
            allow_unsafe=operation_check.are_allowed(),
        )  # fmt: skip
        return state.stateless(loaded) if options.stateless else loaded

    def _answer(self, message: Message) -> Message:
        if isinstance(message, IdleSince):
            return Done(value=(time.perf_counter_ns() - self._last_ns()) / 1e9)
        if isinstance(message, ReadSamples):
            return Samples(asks=[msgspec.msgpack.encode(ask) for ask in self._samples(prepared=message.prepared)])
        if not isinstance(message, Predict):
            return Failed(failure=Invalid(f"a model worker received {type(message).__name__}").to_failure())
        if self._predictor is None:
            return Failed(failure=Invalid("this worker could not load its model").to_failure())
        self._predicted_ns = time.perf_counter_ns()
        with self._lock:
            predictions = self._predictor.predict(message.requests)
        self._sample(self._predictor, message.requests, predictions)
        return Predictions(predictions=predictions)

    def _begin_sampling(self, computation: Computation, runtime: Runtime, former: Sequence[bytes]) -> None:
        """Called after the warm-up, so that synthetic inputs are not among the samples."""
        computation.samples = samples.RequestSamples(lambda count: self._connection.notify(SamplesSeen(count=count)))
        for ask in map(decode_sample, former):
            if ask.signature in runtime.signatures:
                computation.samples.keep(ask)

    def _samples(self, *, prepared: bool) -> list[ComputeRequest]:
        if self._computation is None:
            return []
        return self._computation.prepared_samples() if prepared else self._computation.samples.all()

    def _sample(self, predictor: Predictor, requests: Sequence[bytes], predictions: Sequence[Prediction]) -> None:
        """Requests of the workspace API are samples like those of web."""
        assert self._computation is not None
        answered = [n for n, each in enumerate(predictions) if each.error is None]
        chosen = self._computation.samples.wants(len(answered)) if answered else None
        if chosen is not None and (ask := predictor.as_ask(requests[answered[chosen]])) is not None:
            self._computation.samples.keep(ask)


def _described(setting: Setting) -> Concurrency:
    return Concurrency(setting.way.computations, setting.way.threads, setting.max_batch)


def _images(become: BecomeModel, model: Located) -> FoundDescription | None:
    """A converted model is described where it was made from, if that is still there. Raises `Invalid`."""
    if become.source:
        with contextlib.suppress(Invalid):
            model = formats.locate(become.source, None)
    return image_metadata.find(model, become.options.image)
