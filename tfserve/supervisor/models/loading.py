"""Starts processes with a deployment's model: as it is, converted as was asked for, or with what was chosen for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tfserve.errors import Unsupported
from tfserve.models.runtime_reports import Report
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.models.announcements import Catalogue
from tfserve.supervisor.models.replicas import Deployment, Replica, load
from tfserve.supervisor.models.runtime_trials import Choices
from tfserve.supervisor.processes.worker import Spare


@dataclass(frozen=True)
class Means:
    """What the deployments of all workspaces share."""

    journal: Journal
    spare: Spare
    catalogue: Catalogue
    choices: Choices
    changed: Signal
    #: how long predictions that are under way may take to end when their version goes
    drain_s: float
    #: how long one computation may take
    limit_s: float
    #: whether faster runtimes are looked for
    convert: bool


class Loading:
    """For one workspace, by its name."""

    def __init__(self, name: str, means: Means) -> None:
        self._name = name
        self._means = means

    async def load(
        self, deployment: Deployment, *, sample: bytes | None, samples: Sequence[bytes], chosen: Report | None
    ) -> Replica:
        """One more process, with the runtime that was chosen for the deployment or that is now.

        It is warmed up with a `sample` of the workspace API and `samples` of web's predictions. Raises what is wrong
        with the model, or `WorkerDied`.
        """
        if deployment.asks_for_conversion and deployment.chosen is None:
            deployment.chosen = await self._asked_for(deployment, samples)
        question = deployment.question(
            self._name, sample=sample, samples=samples, limit_s=self._means.limit_s, chosen=chosen or deployment.chosen
        )
        return await load(self._means.spare, question, deployment.format)

    async def load_in_full(self, deployment: Deployment) -> Replica:
        """A process with TensorFlow, whatever was chosen. Raises the same."""
        question = deployment.question(
            self._name, sample=None, samples=(), limit_s=self._means.limit_s, chosen=None, in_full=True
        )
        return await load(self._means.spare, question, deployment.format)

    def tell_choice(self, deployment: Deployment, note: str) -> None:
        """What is being done about the deployment's runtime, for whoever asks for its status."""
        deployment.choice = note
        self._means.changed.fire()

    def remarks(self, report: Report, asked: str) -> list[str]:
        """What users must know of a runtime that was asked for by name."""
        if not report.compared:
            return [f"not compared yet: {asked} serves, but {report.reason(asked)}"]
        if report.chosen != asked:
            return [f"served by TensorFlow: {asked} was requested but does not agree with it ({report.reason(asked)})"]
        return []

    async def _asked_for(self, deployment: Deployment, samples: Sequence[bytes]) -> Report | None:
        """The model converted for the runtime that was asked for; None when it needs no conversion."""
        asked = deployment.asked_runtime
        try:
            report = await self._means.choices.find(
                deployment.path, precision=deployment.options.precision, asked=asked, in_background=False,
                samples=samples, tell=partial(self.tell_choice, deployment),
            )  # fmt: skip
        except Unsupported:  # it is no SavedModel or Keras file: the runtime reads it itself, or tells what it reads
            return None
        deployment.report = report
        if report.chosen != asked:
            raise Unsupported(f"{deployment.path} can't be served by {asked}: {report.reason(asked)}.")
        deployment.own_remarks = self.remarks(report, asked)
        self.tell_choice(deployment, f"{asked} was asked for")
        return report
