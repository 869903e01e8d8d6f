"""What the pages of models show, from the status of the server and the announced models."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from django.http import QueryDict

from tfserve.db.models import Deployment
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Signature, TensorSpec
from tfserve.web.pages import node_rows
from tfserve.web.pages.listing import Shown, escaped_size, fitting
from tfserve.web.pages.traffic import Traffic
from tfserve.web.snippets import example_values

MAX_EARLIER = 10
IMAGE_BYTES = "image_bytes"
MANY_FIELDS = 16
"""A signature with more inputs has one field for all of them."""
MAX_FIELD_CHARS, MAX_WHOLE_CHARS = 1200, 4000
"""Longer values are not written into a form."""
FORMS_BYTES, FORM_BYTES, FIELD_BYTES = 9000, 600, 420
"""What the forms of a page may take together, and about what each takes without its values."""
EARLIER_BYTES, ROW_BYTES = 5000, 900
NAMES = {"litert": "LiteRT", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "tensorflow": "TensorFlow"}
PLAIN = {
    "stateful": "Computing it changes its later outputs, and all callers share that state.",
    "not compared yet": "It serves with a converted form that was never compared with the original.",
    "served by TensorFlow": "The runtime that was requested is not used.",
    "not warmed up": "The first request may take longer than others.",
}
"""What a remark that begins with these words means."""


class Caveat(NamedTuple):
    """`detail` is the remark of the server; `meaning` says it for people without its terms, if it is a known one."""

    meaning: str
    detail: str


@dataclass(frozen=True)
class ModelRow:
    """A model in the list. `deployment` is that of `get_status`; None after a failed first attempt."""

    name: str
    deployment: Mapping[str, Any] | None
    failure: str | None
    traffic: Traffic

    @property
    def runtime(self) -> str:
        return NAMES.get(self.deployment["runtime"], self.deployment["runtime"]) if self.deployment else ""

    @property
    def at_load(self) -> str:
        """How a process of the model computes when requests have to wait."""
        found = self.deployment["concurrency"] if self.deployment else None
        if not found:
            return ""
        batches, threads = _plural(found["computations"], "batch", "batches"), _plural(found["threads"], "thread")
        return f"{batches} at once of up to {_plural(found['max_batch'], 'row')}, {threads} each"

    @property
    def nodes(self) -> str:
        """Where its processes run, if not only on this machine."""
        return node_rows.nodes_of(self.deployment) if self.deployment else ""

    @property
    def scaling(self) -> str:
        """The limits of its autoscaling; empty for a fixed number of processes."""
        limits = self.deployment["options"].get("autoscale") if self.deployment else None
        return f"{limits['min']} to {limits['max']}, one for {limits['target_queue']:g} in flight" if limits else ""

    @property
    def caveats(self) -> list[Caveat]:
        return [_caveat(each) for each in self.deployment["remarks"]] if self.deployment else []


@dataclass(frozen=True)
class TrialBar:
    """A runtime as a bar: its speed relative to TensorFlow, in words and as a length of 0 to 100."""

    name: str
    words: str
    length: float
    is_chosen: bool
    ok: bool


@dataclass(frozen=True)
class InputField:
    """An input of the form that tries a signature. `way` is `one` (a single value), `json`, or `fill` (one number for
    all elements, because there are too many to write)."""

    name: str
    dtype: str
    shape: Sequence[int] | None
    way: str
    value: str
    nesting: int
    sizes: str
    is_text: bool
    count: int


@dataclass(frozen=True)
class SignatureForm:
    """`whole` is a request with all inputs as JSON, for a signature with too many inputs for fields of their own."""

    name: str
    fields: list[InputField]
    whole: str = ""
    is_usable: bool = True

    @property
    def bytes(self) -> int:
        """About what it takes on a page."""
        values = sum(FIELD_BYTES + escaped_size(each.name, each.name, each.value) for each in self.fields)
        return FORM_BYTES + 3 * escaped_size(self.name) + values + escaped_size(self.whole)


def row(workspace: Mapping[str, Any], counted: Traffic) -> ModelRow:
    """A workspace, which may have no model."""
    return ModelRow(workspace["name"], workspace["deployment"], workspace["last_deployment_failure"], counted)


def earlier(query: QueryDict, name: str, current: str | None) -> Shown:
    """The page `?earlier=` of versions that were deployed before, newest first, each path once and without the current
    one."""
    found = Deployment.objects.filter(workspace__name=name, version__isnull=False).order_by("-pk")
    chosen: dict[str, Deployment] = {}
    for each in found[: 5 * MAX_EARLIER]:
        if each.path != current and not each.weights:
            chosen.setdefault(each.path, each)
    rows = list(chosen.values())[:MAX_EARLIER]
    return fitting(query, "earlier", rows, EARLIER_BYTES, lambda each: ROW_BYTES + 3 * escaped_size(each.path, name))


def trial_bars(deployment: Mapping[str, Any]) -> list[TrialBar]:
    """TensorFlow first, as the measure of the others."""
    trials = deployment["trials"]
    base = next((each.get("p50_s") for each in trials if each["runtime"] == "tensorflow"), None)
    speeds = {each["runtime"]: base / each["p50_s"] for each in trials if base and each.get("p50_s")}
    longest = max(speeds.values(), default=1.0)
    return [
        TrialBar(
            NAMES.get(each["runtime"], each["runtime"]),
            _trial_words(each, speeds.get(each["runtime"])),
            round(100 * speeds.get(each["runtime"], 0.0) / longest, 1),
            each["runtime"] == deployment["runtime"],
            each["ok"],
        )
        for each in trials
    ]


def forms(query: QueryDict, signatures: Mapping[str, Signature], default: str) -> Shown:
    """The page `?forms=`, the default signature first. That of image files has a form of its own."""
    names = sorted((name for name in signatures if name != IMAGE_BYTES), key=lambda name: name != default)
    made = functools.cache(lambda name: _form(name, signatures[name]))
    shown = fitting(query, "forms", names, FORMS_BYTES, lambda name: made(name).bytes)
    return Shown([made(name) for name in shown.rows], shown.range)


def _caveat(remark: str) -> Caveat:
    return Caveat(next((text for begin, text in PLAIN.items() if remark.startswith(begin)), ""), remark)


def _trial_words(trial: Mapping[str, Any], speed: float | None) -> str:
    if not trial["ok"]:
        return f"not used: {trial.get('reason') or 'it does not agree with TensorFlow'}"
    compared = trial.get("compared", 0)
    if trial["runtime"] == "tensorflow":
        return "the reference" + (f", {_plural(compared, 'input')}" if compared else "")
    pace = f"{speed:.1f} × as fast" if speed else "not timed"
    if not compared:
        return pace
    difference = trial.get("max_abs_diff") or 0.0
    same = "same numbers" if difference <= 1e-4 else f"numbers within {difference:.1g}"
    return f"{pace}, {same} on {_plural(compared, 'input')}"


def _plural(count: int, noun: str, plural: str = "") -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {plural or f'{noun}s'}"


def _form(name: str, signature: Signature) -> SignatureForm:
    if signature.method or any(spec.dtype not in DTYPES for spec in signature.inputs):
        return SignatureForm(name, [], is_usable=False)
    if len(signature.inputs) <= MANY_FIELDS:
        return SignatureForm(name, [_field(spec) for spec in signature.inputs])
    is_small = example_values.is_small(signature)
    whole = json.dumps({spec.name: example_values.filled(spec) for spec in signature.inputs}) if is_small else ""
    is_usable = 0 < len(whole) <= MAX_WHOLE_CHARS
    return SignatureForm(name, [], whole if is_usable else "", is_usable)


def _field(spec: TensorSpec) -> InputField:
    sizes = example_values.shape(spec)
    count, is_text = prod(sizes), DTYPES[spec.dtype].kind == "string"
    written = json.dumps(example_values.filled(spec)) if count <= example_values.FEW else ""
    way = "one" if count == 1 and not spec.part else "json" if 0 < len(written) <= MAX_FIELD_CHARS else "fill"
    if way == "json":
        text = written
    else:
        value = example_values.literal(spec)
        text = str(value) if is_text else json.dumps(value)
    return InputField(
        spec.name, spec.dtype, spec.shape, way, text, len(sizes), ",".join(map(str, sizes)), is_text, count
    )
