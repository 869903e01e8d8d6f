"""Candidates compete on the same selection folds, the cheapest first; the best one is trained again on all images.

This module is independent of images and networks: a candidate reports a credit for each held-out image, 1 for a perfect
answer and 0 for a wrong one, and the weights of the images make a score of the credits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.atomic_files import written_aside
from tfserve.training.fit.folds import Fold, Folds
from tfserve.training.fit.timing import Clock

PERFECT = 0.995
ENOUGH_TO_BE_SURE = 20
"""A perfect score on fewer images than this does not end the competition."""
CLEARLY = 0.5
"""A more expensive candidate has to be better by this many standard errors of the difference."""
LIKELY, LIKELY_TO_WIN = 0.9, 0.5
"""That a dearer candidate is tried, and that it is delivered, before this machine knows better."""
ENOUGH_MEASURED = 300
"""Dear candidates are measured on further folds until this many images were held out."""


@dataclass(frozen=True)
class FoldAnswers:
    """What a candidate answers for the held-out images of a fold, for each of its variants (settings that are solved
    together, such as the strengths of a penalty): `output` is (variants, images, …), the others (variants, images)."""

    output: Array
    credit: Array
    loss: Array


class Candidate(Protocol):
    """`is_cheap`: measured on every fold, in seconds. `size` is that of the images that it learns from."""

    name: str
    is_cheap: bool
    size: tuple[int, int]

    def cost(self, images: int) -> float:
        """Seconds on two ordinary cores to train on this number of images."""

    def preparation(self) -> float:
        """Seconds on two ordinary cores before the first training, such as computing features."""

    def unsuitable(self) -> str | None:
        """Why it is not worth trying with these images."""

    def evaluate(self, number: int, fold: Fold) -> FoldAnswers: ...


class CandidateRow(msgspec.Struct, kw_only=True):
    """A line of the table of candidates. The score is the weighted mean of the credits, `spread` its standard deviation
    over folds, `folds` how many were used, `seconds` what all of it took."""

    name: str
    score: float | None = None
    spread: float | None = None
    folds: int = 0
    seconds: float = 0.0
    chosen: bool = False
    skipped: str | None = None


@dataclass
class MeasuredCandidate:
    candidate: Any
    row: CandidateRow
    outcomes: list[FoldAnswers] = field(default_factory=list)
    variant: int = 0

    def credits(self, folds: int) -> Array:
        return np.concatenate([each.credit[self.variant] for each in self.outcomes[:folds]])

    def outputs(self, folds: int) -> Array:
        """Of the chosen variant, for the held-out images of the first folds."""
        return np.concatenate([each.output[self.variant] for each in self.outcomes[:folds]])


@dataclass
class Contest:
    """`weights` has one number for each image. `keep` is a folder for outcomes, which outlive the process."""

    folds: Folds
    weights: Array
    allowance: float
    keep: Path
    fingerprint: str
    announce: Callable[[str], None]
    clock: Clock
    entries: list[MeasuredCandidate] = field(default_factory=list)
    winner: MeasuredCandidate | None = None

    def enter(self, candidate: Candidate) -> MeasuredCandidate:
        """Measures the candidate unless there is a reason not to, and makes it the winner if it is the best so far."""
        entry = MeasuredCandidate(candidate, CandidateRow(name=candidate.name))
        self.entries.append(entry)
        count = len(self.folds.folds) if candidate.is_cheap else self._affordable(candidate, self.left)
        entry.row.skipped = self._reason_to_skip(candidate)
        if entry.row.skipped is None:
            self._measure(entry, max(1, count))
            if self.winner is None or self._is_better(entry, self.winner):
                self.winner = entry
        for each in self.entries:
            each.row.chosen = each is self.winner
            if each is self.winner:
                self.clock.settle(stage_name(each.candidate))
            else:
                self._forget(each.candidate, with_folds=each.row.skipped is not None)
        return entry

    def expect(self, candidates: Sequence[Candidate]) -> None:
        """Adds their trainings to the time left, in the order in which they will be entered.

        Leaves out those that `enter` is going to skip: one dear candidate would make the time left ten times too long.
        """
        left = self.left
        for number, candidate in enumerate(candidates):
            is_first = number == 0
            if not is_first and (candidate.unsuitable() is not None or self._needed(candidate, 1) > left):
                continue
            count = len(self.folds.folds) if candidate.is_cheap else max(1, self._affordable(candidate, left))
            self._expect_stages(candidate, count, chance=1.0 if is_first else LIKELY)
            left -= self._needed(candidate, count) - candidate.cost(len(self.folds.development))

    def _expect_stages(self, candidate: Candidate, count: int, *, chance: float) -> None:
        """Until the candidate is skipped or beaten."""
        self.clock.expect(preparation_of(candidate), candidate.preparation(), chance=chance)
        for number, fold in enumerate(self.folds.folds[:count]):
            self.clock.expect(stage_name(candidate, number), candidate.cost(len(fold.training)), chance=chance)
        wins = 1.0 if candidate.is_cheap else LIKELY_TO_WIN
        self.clock.expect(stage_name(candidate), candidate.cost(len(self.folds.development)), chance=wins)

    def _forget(self, candidate: Candidate, *, with_folds: bool) -> None:
        numbers = [*range(len(self.folds.folds))] if with_folds else []
        self.clock.drop(preparation_of(candidate))
        for number in [*numbers, None]:
            self.clock.drop(stage_name(candidate, number))

    def measured(self) -> tuple[int, Array]:
        """How many folds of the first division the winner was measured on, and which images they held out."""
        assert self.winner is not None
        count = min(self.folds.count, len(self.winner.outcomes))
        return count, np.concatenate([fold.held_out for fold in self.folds.folds[:count]])

    def rivals(self) -> list[Array]:
        """For every candidate measured on at least these folds, the classes that its variants predicted
        (variants, images)."""
        count, _ = self.measured()
        tried = [entry.outcomes[:count] for entry in self.entries if len(entry.outcomes) >= count]
        return [
            np.concatenate([each.output.argmax(axis=-1).astype(np.int32) for each in outcomes], axis=1)
            for outcomes in tried
        ]

    def _reason_to_skip(self, candidate: Candidate) -> str | None:
        if self.winner is None:
            return None
        if (reason := candidate.unsuitable()) is not None:
            return reason
        if self.clock.ends_early():
            return "the training was ended early"
        credit = self.winner.credits(self.folds.count)
        score = self.winner.row.score or 0.0
        if score >= PERFECT and len(credit) >= ENOUGH_TO_BE_SURE:
            return f"{self.winner.row.name} is already almost perfect on the folds"
        needed = self._needed(candidate, 1)
        if needed > self.left:
            return f"would take about {needed:.0f} s, but only {max(0.0, self.left):.0f} s of the budget are left"
        return None

    @property
    def left(self) -> float:
        """Seconds of two ordinary cores for what is still to be tried: of the allowance, or by the clock."""
        return self.allowance if self.clock.budget_s is None else self.clock.spare_s / self.clock.speed

    def _needed(self, candidate: Candidate, folds: int) -> float:
        """Seconds for measuring on some folds and training on everything."""
        sizes = [len(fold.training) for fold in self.folds.folds[:folds]]
        training = sum(map(candidate.cost, sizes)) + candidate.cost(len(self.folds.development))
        return candidate.preparation() + training

    def _affordable(self, candidate: Candidate, left: float) -> int:
        """How many folds can be used, with this many seconds of two ordinary cores."""
        count, held_out = 0, 0
        for fold in self.folds.folds[: self.folds.count]:
            if held_out >= ENOUGH_MEASURED or self._needed(candidate, count + 1) > left:
                break
            count, held_out = count + 1, held_out + len(fold.held_out)
        return count

    def _measure(self, entry: MeasuredCandidate, count: int) -> None:
        began_at = time.monotonic()
        for number, fold in enumerate(self.folds.folds[:count]):
            if number and (self.clock.ends_early() or self.clock.spare_s <= self._quiet_s(entry.candidate, fold)):
                break
            with self.clock.limited(1 / 2 if not entry.candidate.is_cheap else 1.0):
                entry.outcomes.append(self._outcome(entry.candidate, number, fold))
            self.clock.drop(preparation_of(entry.candidate))
            self.clock.drop(stage_name(entry.candidate, number))
        count = len(entry.outcomes)
        for number in range(count, len(self.folds.folds)):
            self.clock.drop(stage_name(entry.candidate, number))
        held_out = [fold.held_out for fold in self.folds.folds[:count]]
        weights = [self.weights[each] for each in held_out]
        losses = sum(
            ((out.loss - out.credit) @ w for out, w in zip(entry.outcomes, weights, strict=True)), start=np.zeros(1)
        )
        entry.variant = int(np.argmin(losses))
        scores = [
            float(np.average(out.credit[entry.variant], weights=w))
            for out, w in zip(entry.outcomes, weights, strict=True)
        ]
        row = entry.row
        row.folds, row.score = count, float(np.average(entry.credits(count), weights=np.concatenate(weights)))
        row.spread = float(np.std(scores)) if count > 1 else None
        row.seconds = round(time.monotonic() - began_at, 1)
        self.allowance -= self._needed(entry.candidate, count) - entry.candidate.cost(len(self.folds.development))
        spread = f" ± {row.spread:.3f}" if row.spread is not None else ""
        self.announce(f"Candidate {row.name}: {row.score:.3f}{spread} on {count} folds, {row.seconds:.0f} s.")

    def _quiet_s(self, candidate: Candidate, fold: Fold) -> float:
        """What another fold, and the training on all images, take on this machine if nothing else runs on it."""
        cost = candidate.cost(len(fold.training)) + candidate.cost(len(self.folds.development))
        return cost * self.clock.speed

    def _outcome(self, candidate: Candidate, number: int, fold: Fold) -> FoldAnswers:
        """From the file, if an earlier attempt has come so far."""
        file = self.keep / f"outcome-{self.fingerprint[:16]}-{kept_name(candidate)}-{number}.npz"
        if file.is_file():
            try:
                with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
                    return FoldAnswers(content["output"], content["credit"], content["loss"])
            except Exception:  # noqa: S110 (a damaged file is computed again)
                pass
        outcome = candidate.evaluate(number, fold)
        with written_aside(file) as aside, aside.open("wb") as written:
            np.savez(written, output=outcome.output, credit=outcome.credit, loss=outcome.loss)
        return outcome

    def _is_better(self, entry: MeasuredCandidate, champion: MeasuredCandidate) -> bool:
        """On the folds that both were measured on, by more than chance easily does."""
        count = min(len(entry.outcomes), len(champion.outcomes))
        weights = np.concatenate([self.weights[fold.held_out] for fold in self.folds.folds[:count]])
        gain = (entry.credits(count) - champion.credits(count)) * weights
        return bool(gain.sum() > CLEARLY * np.sqrt(np.square(gain).sum()))


def stage_name(candidate: Candidate, fold: int | None = None) -> str:
    """The stage of a training on a fold, or on all images."""
    return f"{candidate.name}: " + ("all images" if fold is None else f"fold {fold + 1}")


def preparation_of(candidate: Candidate) -> str:
    """The stage before the first training."""
    return f"{candidate.name}: preparation"


def kept_name(candidate: Candidate) -> str:
    """What the files are called in which a candidate keeps results for the next attempt.

    Its size is a part of the name, since results in another size are those of another model.
    """
    return f"{slug(candidate.name)}-{candidate.size[1]}x{candidate.size[0]}"


def slug(name: str) -> str:
    return "".join(each if each.isalnum() else "-" for each in name.lower())
