"""Runs the model before the first request, so that no caller waits for one-time initialisation.

Inputs are the deployment's own example if it has one; otherwise synthetic inputs, a recorded request of the
workspace API, and the last real predictions. Batches are compared with single rows here too: of a small model at once,
so that requests can share a batch from the start, of a larger one when it is quiet, so that it serves sooner. A model
may reject any of these inputs: that is a remark, not an error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from tfserve.errors import TFserveError
from tfserve.ipc import predictions
from tfserve.ipc.messages import BecomeModel
from tfserve.ipc.predictions import ComputeRequest, Refusal, to_tensor
from tfserve.runtimes import row_walk, state, synthetic_inputs
from tfserve.runtimes.error_summary import named_cause
from tfserve.runtimes.interface import OnlyTensorFlowKnows, Runtime, find_signature
from tfserve.runtimes.synthetic_inputs import RANDOM, Recipe
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature
from tfserve.worker.model.computation import Computation
from tfserve.worker.model.predictor import Predictor
from tfserve.worker.model.request_queue import Waiting
from tfserve.worker.model.warm_up_steps import Steps

log = logging.getLogger(__name__)

PROOF_ROWS = 3
MAX_WARM_BYTES = 64 * 1024 * 1024
ENOUGH_S = 0.1
"""After this time no larger batches are tried: a large model should serve soon."""
LIGHT_CPU_S = 0.002
"""Batches of a model that takes less processor time for a row are compared before it serves."""
TRY_S = 5.0
"""After this time no more synthetic inputs are tried."""

EXAMPLE, FORMER, BATCHES = "the given example", "recorded requests", "batches"
TIMING = "the timing of the model"
"""Steps, in addition to those of `synthetic_inputs.FILLS`."""


@dataclass
class WarmUpResult:
    """What was done, and what users of the model must know about it, for people. `later` is still to be done.

    `accepted` generates inputs of the signature `name` that the model computes.
    """

    done: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    later: Callable[[], None] | None = None
    name: str = DEFAULT_SIGNATURE
    accepted: Recipe | None = None

    def with_examples(self, signatures: Mapping[str, Signature]) -> dict[str, Signature]:
        """The signatures, with examples of inputs where the model rejects the usual ones."""
        if self.accepted is None:
            return dict(signatures)
        return {**signatures, self.name: synthetic_inputs.with_examples(signatures[self.name], self.accepted)}


class WarmUp:
    """The warm-up of one model."""

    def __init__(self, runtime: Runtime, predictor: Predictor, computation: Computation, *, steps: Steps) -> None:
        self._runtime = runtime
        self._predictor = predictor
        self._computation = computation
        self._steps = steps
        self._result = WarmUpResult()
        self._is_light = True
        #: how long the accepted synthetic inputs take
        self._request_s = 0.0
        self._name = DEFAULT_SIGNATURE if len(runtime.signatures) != 1 else next(iter(runtime.signatures))

    def run(self, become: BecomeModel) -> WarmUpResult:
        """Runs the warm-up without leaving traces in the model's state."""
        requested = become.options.warm_up
        if requested is False:
            self._result.done.append("none, as set in the deployment")
        elif not state.may_compute(self._runtime):
            self._result.done.append("none, because the model's state could not be restored afterwards")
        else:
            self._compute_all(become, requested if isinstance(requested, dict) else None)
            state.reset(self._runtime)
        return self._result

    def _compute_all(self, become: BecomeModel, example: dict[str, Any] | None) -> None:
        recipe: Recipe | None = None
        if example is not None:
            self._try_example(example)
        else:
            recipe = self._try_synthetic()
        if become.sample is not None:
            self._try_former_request(become.sample)
        asks = [predictions.decode_sample(sample) for sample in become.samples]
        if asks:
            self._try_former_predictions(asks)
        if example is None and not state.is_stateful(self._runtime):
            self._compare_batches(recipe, become.options.max_batch_size)

    def _compare_batches(self, recipe: Recipe | None, max_rows: int) -> None:
        """Compares batches, or leaves that for later."""
        if len(self._runtime.signatures) == 1 and not self._is_in_time(self._request_s):
            self._result.done.append(f"batches are compared at load, because a row takes {self._request_s:.2g} s")
        elif self._is_light:
            self._try_batches(recipe, max_rows)
        elif self._steps.may(BATCHES):
            self._result.later = partial(self._try_batches, recipe, max_rows, is_serving=True)
            self._result.done.append("batches are compared as soon as the model is quiet")

    # --- one row

    def _try_example(self, example: Mapping[str, Any]) -> None:
        """Tries any kind of predict request: with other names than those of a signature, or with image files."""
        refused = ""
        if self._steps.may(EXAMPLE):
            with self._steps.begin(EXAMPLE):
                try:
                    refused = self._refusal(self._request(example))
                except TFserveError as error:
                    refused = error.message
            self._result.done.append(EXAMPLE + (f" was rejected ({refused})" if refused else ""))
        if refused:
            self._result.remarks.append(f"not warmed up: the given example was rejected ({refused})")

    def _request(self, example: Mapping[str, Any]) -> bytes:
        """The predict request for an example."""
        if "feed_dict" in example or "fetches" in example:
            return msgspec.json.encode(example)
        name, inputs = self._name, dict(example)
        if isinstance(example.get("inputs"), dict) and "b64" not in example["inputs"]:
            name, inputs = str(example.get("signature", self._name)), example["inputs"]
        signature = find_signature(self._runtime.signatures, name)
        outputs = [spec.name for spec in signature.outputs]
        return msgspec.json.encode({"fetches": outputs, "feed_dict": inputs, "signature": name})

    def _refusal(self, request: bytes) -> str:
        (answer,) = self._predictor.predict([request])
        return "" if answer.error is None else str(msgspec.json.decode(answer.error)["message"])

    def _try_synthetic(self) -> Recipe | None:
        """The first recipe whose inputs the model computes."""
        signature = self._runtime.signatures.get(self._name)
        if signature is None:
            self._result.done.append("no signature to warm up with")
            return None
        if not synthetic_inputs.is_possible(signature):
            self._result.done.append(
                f"signature {self._name!r}: it has an input of a type for which no values can be generated"
            )
            return None
        refusals: dict[str, str] = {}
        recipe = self._first_accepted(signature, refusals)
        self._report(signature, recipe, refusals)
        self._result.name, self._result.accepted = self._name, recipe
        return recipe

    def _first_accepted(self, signature: Signature, refusals: dict[str, str]) -> Recipe | None:
        """Adds to `refusals` what was rejected, and why."""
        started_at = time.monotonic()
        for recipe in synthetic_inputs.recipes(signature):
            if not self._steps.may(recipe.fill):
                continue
            with self._steps.begin(recipe.fill):
                try:
                    inputs = recipe.inputs(signature)
                    self._run(inputs, signature)
                    self._steps.next_computation()
                    self._is_light = self._takes_little(inputs, signature)
                    return recipe
                except OnlyTensorFlowKnows:  # another process computes such requests
                    pass
                except TFserveError as error:
                    refusals.setdefault(recipe.fill, error.message)
                except Exception as error:  # an error of a library, for which a request would get status 500
                    log.warning("the warm-up of a model failed", exc_info=True)
                    refusals.setdefault(recipe.fill, named_cause(error))
            if time.monotonic() - started_at > TRY_S:
                break
        return None

    def _takes_little(self, inputs: Mapping[str, Array], signature: Signature) -> bool:
        """Whether batches take so little time that the first request may wait for them. Raises what the model does."""
        started_at, started_cpu_s = time.monotonic(), time.process_time()
        self._run(inputs, signature)
        self._request_s = time.monotonic() - started_at
        return time.process_time() - started_cpu_s < LIGHT_CPU_S and self._request_s < ENOUGH_S

    def _run(self, inputs: Mapping[str, Array], signature: Signature) -> None:
        self._runtime.run(inputs, [spec.name for spec in signature.outputs], self._name)

    def _report(self, signature: Signature, recipe: Recipe | None, refusals: Mapping[str, str]) -> None:
        named, why = " and ".join(refusals), next(iter(refusals.values()), "")
        refused = f"{named} rejected ({why})" if refusals else ""
        if recipe is not None:
            self._result.done.append(
                f"signature {self._name!r} with {recipe.title}" + (f"; {refused}" if refused else "")
            )
            if refused and synthetic_inputs.is_certain(signature):
                self._result.remarks.append(f"the model rejected {named} in its warm-up ({why})")
        elif refusals:
            self._result.done.append(f"signature {self._name!r}: {refused}")
            self._result.remarks.append(
                f"not warmed up, so the first request may take longer: the model rejected {named} ({why});"
                " give an example in the field warm_up of /deploy/"
            )

    # --- recorded requests

    def _try_former_request(self, sample: bytes) -> None:
        if self._steps.may(FORMER) and not self._predictor.changes_state(sample):
            with self._steps.begin(FORMER):
                refused = self._refusal(sample)
            self._result.done.append(
                f"a recorded request was rejected ({refused})" if refused else "a recorded request"
            )
            if refused and not self._runtime.signatures:
                self._result.remarks.append(f"not warmed up: a recorded request was rejected ({refused})")

    def _try_former_predictions(self, asks: Sequence[ComputeRequest]) -> None:
        """A new version may have another signature, so rejecting a recorded prediction is not a failure."""
        if not self._steps.may(FORMER):
            return
        started_at, computed, refused = time.monotonic(), 0, 0
        with self._steps.begin(FORMER):
            for ask in asks:
                if time.monotonic() - started_at > self._steps.long_s:
                    break
                self._steps.next_computation()
                refused += isinstance(self._compute([ask])[0], Refusal)
                computed += 1
            self._prove(asks[:computed], (time.monotonic() - started_at) / computed)
        self._result.done.append(
            f"{computed} recorded predictions" + (f", {refused} of which were rejected" if refused else "")
        )

    def _prove(self, asks: Sequence[ComputeRequest], request_s: float) -> None:
        """Computes recorded requests that may share a batch as one, twice, and also alone."""
        groups: dict[object, list[ComputeRequest]] = {}
        for ask in asks:
            group, rows = self._computation.sort(ask)
            if rows is not None:
                groups.setdefault(group, []).append(ask)
        started_at = time.monotonic()
        for together in groups.values():
            is_soon_done = 4 * len(together) * request_s <= self._steps.long_s
            if len(together) > 1 and is_soon_done and time.monotonic() - started_at < ENOUGH_S:
                self._steps.next_computation()
                self._compute(together)
                self._compute(together)

    # --- batches

    def _try_batches(self, recipe: Recipe | None, max_rows: int, *, is_serving: bool = False) -> None:
        """Uses different rows, which show whether the model keeps them apart."""
        if not self._steps.may(BATCHES):
            return
        sizes: set[int] = set()
        with self._steps.begin(BATCHES, is_serving=is_serving):
            for name, signature in self._runtime.signatures.items():
                self._steps.next_computation()
                sizes |= self._batches_of(name, signature, recipe, max_rows)
        self._computation.check_again()
        if sizes and (why := self._why_alone()):
            self._result.done.append(f"requests are computed alone, because {why}")
        elif sizes:
            self._result.done.append(f"batches of {', '.join(map(str, sorted(sizes)))}")

    def _why_alone(self) -> str:
        """Why requests may not be batched; empty if they may, or if it is not known."""
        signature = self._runtime.signatures.get(self._name)
        if signature is None:
            return ""
        outputs = [spec.name for spec in signature.outputs]
        return row_walk.why_mixed(self._runtime, signature.input_names, outputs, self._name)

    def _batches_of(self, name: str, signature: Signature, recipe: Recipe | None, max_rows: int) -> set[int]:
        """The sizes that were computed."""
        used = recipe if name == self._name else None
        if used is None and (name == self._name or not synthetic_inputs.is_certain(signature)):
            return set()
        if not all(spec.is_batched for spec in (*signature.inputs, *signature.outputs)):
            return set()
        request_s = self._request_s if used is not None else 0.0
        if used is None:
            used = Recipe(RANDOM)
            request_s = self._time_of(_ask(name, signature, used.inputs(signature, 0)))
        if not self._is_in_time(request_s):
            return set()
        self._steps.next_computation()
        sizes: set[int] = set()
        started_at = time.monotonic()
        for requests in _sizes(min(max_rows, MAX_WARM_BYTES // max(1, used.size_bytes(signature))) // used.rows):
            asks = [_ask(name, signature, used.inputs(signature, seed)) for seed in range(requests)]
            if not any(isinstance(answer, Refusal) for answer in self._compute(asks)):
                sizes.add(requests * used.rows)
            if time.monotonic() - started_at > ENOUGH_S:
                break
        return sizes

    def _is_in_time(self, request_s: float) -> bool:
        """Whether a comparison of requests that take this long is over soon: some as a batch, and alone."""
        return 2 * PROOF_ROWS * request_s <= self._steps.long_s

    def _time_of(self, ask: ComputeRequest) -> float:
        started_at = time.monotonic()
        self._compute([ask])
        return time.monotonic() - started_at

    def _compute(self, asks: Sequence[ComputeRequest]) -> Sequence[object]:
        groups = [(ask, *self._computation.sort(ask)) for ask in asks]
        return self._computation.run(
            [Waiting(_Nobody(), n, ask, rows, group, 0) for n, (ask, group, rows) in enumerate(groups)]
        )


def _sizes(most: int) -> Iterator[int]:
    """Twice a few rows, which are computed together and alone, then powers of two."""
    if most >= PROOF_ROWS:
        yield from (PROOF_ROWS, PROOF_ROWS)
    size = 1
    while size <= most:
        yield size
        size *= 4


class _Nobody:
    """The client of a warm-up computation."""

    def answer(self, request_id: int, answer: predictions.ComputeResult | Refusal) -> None:
        pass

    def flush(self) -> None:
        pass


def _ask(name: str, signature: Signature, inputs: Mapping[str, Array]) -> ComputeRequest:
    return ComputeRequest(
        name, tuple(inputs), tuple(map(to_tensor, inputs.values())), tuple(spec.name for spec in signature.outputs)
    )
