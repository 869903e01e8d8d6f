"""Converts a model before it is loaded, because its deployment requests a runtime that can't read its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tfserve.errors import Unsupported
from tfserve.models.runtime_reports import Report
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.runtime_trials import RuntimeTrials


async def convert_as_requested(
    trials: RuntimeTrials, deployment: Deployment, samples: Sequence[bytes], set_choice: Callable[[str], None]
) -> Report | None:
    """Converts the model for the requested runtime; None if it needs no conversion. `set_choice` gets the progress."""
    requested = deployment.requested_runtime
    try:
        report = await trials.find(
            deployment.model_path, precision=deployment.options.precision, requested=requested, in_background=False,
            samples=samples, on_progress=set_choice,
        )  # fmt: skip
    except Unsupported:  # not a SavedModel or Keras file: the runtime reads it itself, or says what it reads
        return None
    if report.chosen != requested:
        deployment.report = report
        raise Unsupported(f"{deployment.path} can't be served by {requested}: {report.reason(requested)}.")
    deployment.set_report(report)
    set_choice(f"{requested} was requested")
    return report
