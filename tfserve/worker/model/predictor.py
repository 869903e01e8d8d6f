"""Answers predict requests of the workspace API, in JSON."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tfserve.errors import Internal, Invalid, Overloaded, TFserveError, TooLarge
from tfserve.ipc.messages import Prediction
from tfserve.ipc.predictions import ComputeRequest, to_tensor
from tfserve.runtimes import state
from tfserve.runtimes.error_summary import named_cause
from tfserve.runtimes.interface import OnlyTensorFlowKnows, ResolvedName, Runtime
from tfserve.tensors import json_values, tensor_json
from tfserve.tensors.json_numbers import LONG
from tfserve.tensors.json_values import DoesNotFit
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array
from tfserve.worker.model import batching
from tfserve.worker.model.batching import BatchPlan, Inputs, Outputs

log = logging.getLogger(__name__)

MAX_PLANS = 256
MAX_RESULT_BYTES = 64 * 1024 * 1024
MAX_RESULTS_BYTES = 128 * 1024 * 1024
"""Beyond this size of results no more requests are answered; one more result still fits into a frame."""


class PredictRequest(msgspec.Struct):
    """A parsed request: names to fetch, and values by name."""

    fetches: str | list[str]
    feed_dict: dict[str, Any] | None = None
    signature: str = DEFAULT_SIGNATURE


@dataclass(frozen=True)
class _Prepared:
    plan: BatchPlan
    inputs: Inputs


class Predictor:
    """One model, and what the names in its requests mean.

    `limit_bytes` bounds the JSON of a single result, `together_bytes` how much there may be before it is enough.
    `on_change` is called before a request that may change the model's state.
    """

    def __init__(
        self, runtime: Runtime, *, limit_bytes: int = MAX_RESULT_BYTES, together_bytes: int = MAX_RESULTS_BYTES,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._on_change = on_change
        self._limit_bytes = limit_bytes
        self._together_bytes = together_bytes
        self._plans: OrderedDict[tuple[Any, ...], BatchPlan] = OrderedDict()
        self._decoder = msgspec.json.Decoder(PredictRequest)

    def predict(self, requests: Sequence[bytes]) -> list[Prediction]:
        """One response per request, in order. A failed request does not affect the others.

        When the results are too many bytes together, only the first requests (at least one) are answered.
        """
        answers, size_bytes = [], 0
        for answer in self._answers([self._prepare(request) for request in requests]):
            answers.append(answer)
            size_bytes += len(answer.result or b"")
            if size_bytes > self._together_bytes:
                break
        return answers

    def changes_state(self, request: bytes) -> bool:
        """Whether computing the request may change what is computed later, be it by a name inside the graph."""
        prepared = self._prepare(request)
        return isinstance(prepared, _Prepared) and prepared.plan.changes_state

    def as_ask(self, request: bytes) -> ComputeRequest | None:
        """A request as web sends one; None when it feeds anything but the inputs of a signature."""
        parsed = self._read(request)
        signature, given = self._runtime.signatures.get(parsed.signature), parsed.feed_dict or {}
        if signature is None or given.keys() != {spec.name for spec in signature.inputs}:
            return None
        tensors = [to_tensor(tensor_json.to_array(given[spec.name], spec, spec.name)) for spec in signature.inputs]
        outputs = tuple(spec.name for spec in signature.outputs)
        return ComputeRequest(parsed.signature, tuple(spec.name for spec in signature.inputs), tuple(tensors), outputs)

    def _answers(self, prepared: Sequence[_Prepared | TFserveError]) -> Iterator[Prediction]:
        """Responses in order; a batch is computed when its first response is needed."""
        groups = {n: positions for positions in _groups(prepared) for n in positions}
        computed: dict[int, Outputs | TFserveError] = {}
        for n, each in enumerate(prepared):
            if isinstance(each, TFserveError):
                yield _failed(each)
                continue
            if n not in computed:
                inputs = [other.inputs for m in groups[n] if isinstance(other := prepared[m], _Prepared)]
                computed.update(zip(groups[n], self._run(each.plan, inputs), strict=True))
            yield self._answer(each.plan, computed.pop(n))

    def _prepare(self, request: bytes) -> _Prepared | TFserveError:
        try:
            parsed = self._read(request)
            fetches = [parsed.fetches] if isinstance(parsed.fetches, str) else parsed.fetches
            given = parsed.feed_dict or {}
            plan = self._plan(parsed.signature, fetches, tuple(given))
            inputs = _inputs(plan, given)
            return _Prepared(plan.for_rows(batching.row_shape(inputs)) if plan.can_batch() else plan, inputs)
        except TFserveError as error:
            return error
        except msgspec.DecodeError as error:
            return Invalid(
                f"The predict request is not valid: {error}. Its fields are fetches, feed_dict and signature."
            )
        except RecursionError:
            return Invalid("The request is nested too deeply for a tensor.")
        except Exception as unexpected:  # a request that can't be parsed fails alone, never the process
            return _unforeseen("The request can't be parsed", unexpected)

    def _read(self, request: bytes) -> PredictRequest:
        """The request, long lists of numbers in its feeds still as they are read. Raises `Invalid`, `TooLarge`."""
        if len(request) < LONG:
            return self._decoder.decode(request)
        document = tensor_json.decode(request)
        feeds = document.pop("feed_dict", None) if isinstance(document, dict) else None
        if not isinstance(feeds, dict | None):
            raise Invalid(f"feed_dict must be an object that maps names to values, got {type(feeds).__name__}.")
        parsed = msgspec.convert(document, PredictRequest)
        parsed.feed_dict = feeds
        return parsed

    def _plan(self, signature: str, fetches: Sequence[str], given: Sequence[str]) -> BatchPlan:
        key = (signature, tuple(fetches), given)
        if (known := self._plans.get(key)) is not None:
            self._plans.move_to_end(key)
            return known
        plan = self._new_plan(signature, fetches, given)
        self._plans[key] = plan
        if len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)
        return plan

    def _new_plan(self, signature: str, fetches: Sequence[str], given: Sequence[str]) -> BatchPlan:
        if not fetches:
            raise Invalid("fetches is empty: name at least one output, tensor or collection to fetch.")
        found = _found([(self._runtime.feeds, given), (self._runtime.fetches, fetches)], signature)
        feeds = dict(zip(given, found[0], strict=True))
        fetched = [(name, target) for name, targets in zip(fetches, found[1], strict=True) for target in targets]
        outputs = [target for _, target in fetched]
        missing = self._runtime.missing(_without_duplicates(feeds), [target.name for target in outputs], signature)
        if missing:
            raise Invalid(f"feed_dict is missing {', '.join(map(repr, missing))}, which the fetched values depend on.")
        changes_state = state.changes_state(self._runtime, [target.name for target in outputs], signature)
        return BatchPlan(signature, feeds, outputs, [name for name, _ in fetched], changes_state=changes_state)

    def _run(self, plan: BatchPlan, inputs: Sequence[Inputs]) -> Sequence[Outputs | TFserveError]:
        if plan.changes_state:
            self._on_change()
        try:
            return batching.run(self._runtime, plan, inputs)
        except Exception as unexpected:
            return [_unforeseen("The model failed", unexpected)] * len(inputs)

    def _answer(self, plan: BatchPlan, outputs: Outputs | TFserveError) -> Prediction:
        if isinstance(outputs, TFserveError):
            return _failed(outputs)
        left, encoded = self._limit_bytes, []
        for name, output in zip(plan.names, outputs, strict=True):
            try:
                encoded.append(json_values.encode(output, limit_bytes=left, bytes_as_text=True))
            except DoesNotFit:
                return _failed(_too_large(name, output, self._limit_bytes))
            except Exception as unexpected:
                return _failed(_unforeseen(f"The result {name!r} can't be written", unexpected))
            left -= len(encoded[-1])
        return Prediction(result=json_values.encode_list(encoded))


def _found(
    searches: Sequence[tuple[Callable[[str, str], Sequence[ResolvedName]], Sequence[str]]], signature: str
) -> list[list[Sequence[ResolvedName]]]:
    """The targets of names. An unknown name is reported before names that only TensorFlow can resolve."""
    found: list[list[Sequence[ResolvedName]]] = []
    others: list[OnlyTensorFlowKnows] = []
    for search, names in searches:
        found.append([])
        for name in names:
            try:
                found[-1].append(search(name, signature))
            except OnlyTensorFlowKnows as error:
                others.append(error)
    if others:
        raise others[0]
    return found


def _groups(prepared: Sequence[_Prepared | TFserveError]) -> list[list[int]]:
    """Positions of the requests that may be computed together, in the order of the first of each."""
    groups: dict[Any, list[int]] = {}
    for n, each in enumerate(prepared):
        key: Any = n
        if isinstance(each, _Prepared) and each.plan.can_batch():
            shape = batching.row_shape(each.inputs)
            key = n if shape is None else (id(each.plan), shape)
        groups.setdefault(key, []).append(n)
    return list(groups.values())


def _inputs(plan: BatchPlan, given: dict[str, Any]) -> dict[str, Array]:
    """The array for each target. Raises `Invalid` for a value that does not fit."""
    return {
        target.name: tensor_json.to_array(given[name], target.spec, name)
        for name, targets in plan.feeds.items()
        for target in targets
        if target.spec is not None
    }


def _without_duplicates(feeds: dict[str, Sequence[ResolvedName]]) -> list[str]:
    """The targets that are given values. Raises `Invalid` when one is given two."""
    givers: dict[str, str] = {}
    for name, targets in feeds.items():
        for target in targets:
            if target.name in givers and givers[target.name] != name:
                raise Invalid(
                    f"{givers[target.name]!r} and {name!r} in feed_dict both refer to {target.name!r}. Give only one."
                )
            givers[target.name] = name
    return list(givers)


def _unforeseen(what: str, error: Exception) -> TFserveError:
    """The error for an unexpected exception; the log has its traceback."""
    if isinstance(error, MemoryError):
        return Overloaded("Not enough memory for this prediction.")
    log.error("%s", what, exc_info=error)
    return Internal(f"{what}: {named_cause(error)}")


def _failed(error: TFserveError) -> Prediction:
    return Prediction(error=msgspec.json.encode(error.to_failure()), in_full=isinstance(error, OnlyTensorFlowKnows))


def _too_large(name: str, output: Any, limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"The result {name!r} of shape {json_values.shape_of(output)} does not fit into a response of"
        f" {limit_bytes} bytes of JSON (max_response_bytes). Send fewer examples, or fetch a smaller tensor."
    )
