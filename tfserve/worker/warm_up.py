"""Computes before the first request comes, so that no caller waits for what only the first computation does.

Inputs are the caller's own example if the deployment has one; otherwise synthetic ones, a former request of the
workspace API, and the last real predictions. Batches are compared with single rows here too, so that requests may
share one from the start. A model may refuse any of these inputs: that is a remark, not an error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tfserve.errors import TFserveError
from tfserve.ipc import predictions
from tfserve.ipc.messages import BecomeModel
from tfserve.ipc.predictions import Ask, Refusal, to_tensor
from tfserve.runtimes import state
from tfserve.runtimes.interface import OnlyTensorFlowKnows, Runtime, find_signature
from tfserve.tensors import DEFAULT_SIGNATURE, Array, Signature
from tfserve.worker import made_up
from tfserve.worker.computation import Computation
from tfserve.worker.made_up import RANDOM, Recipe
from tfserve.worker.predictor import Predictor
from tfserve.worker.steps import Steps
from tfserve.worker.waiting import Waiting

log = logging.getLogger(__name__)

PROOF_ROWS = 3
MAX_WARM_BYTES = 64 * 1024 * 1024
ENOUGH_S = 0.1
"""After so long no larger batches are tried: a large model is to serve soon."""
TRY_S = 5.0
"""After so long no more synthetic inputs are tried."""

EXAMPLE, FORMER, BATCHES = "the given example", "former requests", "batches"
"""Steps, beside those of `made_up.FILLS`."""


@dataclass
class Result:
    """What was done, for people, and what users of the model must know of it."""

    done: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class WarmUp:
    """The warm-up of one model."""

    def __init__(self, runtime: Runtime, predictor: Predictor, computation: Computation, *, steps: Steps) -> None:
        self._runtime = runtime
        self._predictor = predictor
        self._computation = computation
        self._steps = steps
        self._result = Result()
        self._name = DEFAULT_SIGNATURE if len(runtime.signatures) != 1 else next(iter(runtime.signatures))

    def run(self, become: BecomeModel) -> Result:
        """Whatever it computes leaves no trace in the model's state."""
        wanted = become.options.warm_up
        if wanted is False:
            self._result.done.append("none, as the deployment says")
        elif not state.may_compute(self._runtime):
            self._result.done.append("none: the model's state could not be restored after it")
        else:
            self._compute_all(become, wanted if isinstance(wanted, dict) else None)
            state.reset(self._runtime)
        return self._result

    def _compute_all(self, become: BecomeModel, example: dict[str, Any] | None) -> None:
        recipe: Recipe | None = None
        if example is not None:
            self._try_example(example)
        else:
            recipe = self._try_made_up()
        if become.sample is not None:
            self._try_former_request(become.sample)
        asks = [predictions.decode_sample(sample) for sample in become.samples]
        if asks:
            self._try_former_predictions(asks)
        if example is None and not state.is_stateful(self._runtime):
            self._try_batches(recipe, become.options.max_batch_size)

    # --- one row

    def _try_example(self, example: Mapping[str, Any]) -> None:
        """Whatever a predict request may be: with other names than those of a signature, or as image files."""
        refused = ""
        if self._steps.may(EXAMPLE):
            with self._steps.begin(EXAMPLE):
                try:
                    refused = self._refusal(self._request(example))
                except TFserveError as error:
                    refused = error.message
            self._result.done.append(EXAMPLE + (f" was refused ({refused})" if refused else ""))
        if refused:
            self._result.remarks.append(f"not warmed up: the given example was refused ({refused})")

    def _request(self, example: Mapping[str, Any]) -> bytes:
        """The predict request that an example means."""
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

    def _try_made_up(self) -> Recipe | None:
        """The first recipe whose inputs the model computes."""
        signature = self._runtime.signatures.get(self._name)
        if signature is None:
            self._result.done.append("no signature to warm up by")
            return None
        if not made_up.can_be_made_up(signature):
            self._result.done.append(f"signature {self._name!r}: an input of a type that can't be made up")
            return None
        refusals: dict[str, str] = {}
        recipe = self._first_accepted(signature, refusals)
        self._report(signature, recipe, refusals)
        return recipe

    def _first_accepted(self, signature: Signature, refusals: dict[str, str]) -> Recipe | None:
        """`refusals` becomes what was refused, and why."""
        begun_at = time.monotonic()
        for recipe in made_up.recipes(signature):
            if not self._steps.may(recipe.fill):
                continue
            with self._steps.begin(recipe.fill):
                try:
                    self._run(recipe.inputs(signature), signature)
                    return recipe
                except OnlyTensorFlowKnows:  # another process computes such requests
                    pass
                except TFserveError as error:
                    refusals.setdefault(recipe.fill, error.message)
                except Exception as error:  # a library's own, which a request would be answered 500 for
                    log.warning("the warm-up of a model broke", exc_info=True)
                    refusals.setdefault(recipe.fill, f"{type(error).__name__}: {error}"[:500])
            if time.monotonic() - begun_at > TRY_S:
                break
        return None

    def _run(self, inputs: Mapping[str, Array], signature: Signature) -> None:
        self._runtime.run(inputs, [spec.name for spec in signature.outputs], self._name)

    def _report(self, signature: Signature, recipe: Recipe | None, refusals: Mapping[str, str]) -> None:
        named, why = " and ".join(refusals), next(iter(refusals.values()), "")
        refused = f"{named} refused ({why})" if refusals else ""
        if recipe is not None:
            self._result.done.append(
                f"signature {self._name!r} with {recipe.fill}" + (f"; {refused}" if refused else "")
            )
            if refused and made_up.is_certain(signature):
                self._result.remarks.append(f"the model refused {named} in its warm-up ({why})")
        elif refusals:
            self._result.done.append(f"signature {self._name!r}: {refused}")
            self._result.remarks.append(
                f"not warmed up, so the first request may take longer: the model refused {named} ({why});"
                " an example in the field warm_up of /deploy/ helps"
            )

    # --- former requests

    def _try_former_request(self, sample: bytes) -> None:
        if self._steps.may(FORMER) and not self._predictor.changes_state(sample):
            with self._steps.begin(FORMER):
                refused = self._refusal(sample)
            self._result.done.append(f"a former request was refused ({refused})" if refused else "a former request")
            if refused and not self._runtime.signatures:
                self._result.remarks.append(f"not warmed up: a former request was refused ({refused})")

    def _try_former_predictions(self, asks: Sequence[Ask]) -> None:
        """A new version may have another signature, so a refusal of a former prediction is no failure."""
        if not self._steps.may(FORMER):
            return
        with self._steps.begin(FORMER):
            refused = sum(isinstance(self._compute([ask])[0], Refusal) for ask in asks)
            self._prove(asks)
        self._result.done.append(
            f"{len(asks)} former predictions" + (f", {refused} of which were refused" if refused else "")
        )

    def _prove(self, asks: Sequence[Ask]) -> None:
        """Real requests that may share a batch are computed as one, twice, beside being computed alone."""
        groups: dict[object, list[Ask]] = {}
        for ask in asks:
            group, rows = self._computation.sort(ask)
            if rows is not None:
                groups.setdefault(group, []).append(ask)
        begun_at = time.monotonic()
        for together in groups.values():
            if len(together) > 1 and time.monotonic() - begun_at < ENOUGH_S:
                self._compute(together)
                self._compute(together)

    # --- batches

    def _try_batches(self, recipe: Recipe | None, max_rows: int) -> None:
        """Rows that differ show whether the model keeps them apart."""
        if not self._steps.may(BATCHES):
            return
        sizes: set[int] = set()
        with self._steps.begin(BATCHES):
            for name, signature in self._runtime.signatures.items():
                sizes |= self._batches_of(name, signature, recipe, max_rows)
        if sizes:
            self._result.done.append(f"batches of {', '.join(map(str, sorted(sizes)))}")

    def _batches_of(self, name: str, signature: Signature, recipe: Recipe | None, max_rows: int) -> set[int]:
        """The sizes that were computed."""
        used = recipe if name == self._name else None
        if used is None and (name == self._name or not made_up.is_certain(signature)):
            return set()
        if not all(spec.is_batched for spec in (*signature.inputs, *signature.outputs)):
            return set()
        used = used or Recipe(RANDOM)
        sizes: set[int] = set()
        begun_at = time.monotonic()
        for requests in _sizes(min(max_rows, MAX_WARM_BYTES // max(1, used.size_bytes(signature))) // used.rows):
            asks = [_ask(name, signature, used.inputs(signature, seed)) for seed in range(requests)]
            if not any(isinstance(answer, Refusal) for answer in self._compute(asks)):
                sizes.add(requests * used.rows)
            if time.monotonic() - begun_at > ENOUGH_S:
                break
        return sizes

    def _compute(self, asks: Sequence[Ask]) -> Sequence[object]:
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
    """Whom a warm-up is computed for."""

    def answer(self, request_id: int, answer: predictions.Answer | Refusal) -> None:
        pass

    def flush(self) -> None:
        pass


def _ask(name: str, signature: Signature, inputs: Mapping[str, Array]) -> Ask:
    return Ask(
        name, tuple(inputs), tuple(map(to_tensor, inputs.values())), tuple(spec.name for spec in signature.outputs)
    )
