"""How candidates are divided into folds, measured, chosen and judged: decisions, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

from tfserve.ipc.messages import Progress
from tfserve.training.dataset.dataset_index import ImageFile
from tfserve.training.dataset.splitting import aside
from tfserve.training.fit import budget, linear_head
from tfserve.training.fit.candidates import LIKELY, LIKELY_TO_WIN, Contest, FoldAnswers
from tfserve.training.fit.folds import Fold, divide
from tfserve.training.fit.timing import Clock
from tfserve.training.progress import Reporter
from tfserve.training.report import verdict


def image(label: int, part: str = "", group: str = "") -> ImageFile:
    return ImageFile("a.png", width=8, height=8, grey=True, digest="", label=label, part=part, group=group)


def images(counts: Sequence[int]) -> list[ImageFile]:
    return [image(label) for label, count in enumerate(counts) for _ in range(count)]


# --- folds


def test_folds_hold_out_each_image_once_and_keep_the_shares_of_the_classes() -> None:
    found = images([50, 25])
    folds = divide(found, 0.2, 1)
    first = folds.folds[: folds.count]
    assert sorted(np.concatenate([fold.held_out for fold in first]).tolist()) == list(range(75))
    for fold in first:
        assert np.bincount([found[at].label for at in fold.held_out]).tolist() == [10, 5]
        assert not set(fold.training) & set(fold.held_out)


def test_folds_follow_from_the_seed_and_few_images_are_divided_several_times() -> None:
    few = divide(images([12, 12]), 0.2, 1)
    assert (few.count, len(few.folds)) == (5, 20)
    assert [fold.held_out.tolist() for fold in divide(images([12, 12]), 0.2, 1).folds] == [
        fold.held_out.tolist() for fold in few.folds
    ]
    assert few.folds[0].held_out.tolist() != few.folds[5].held_out.tolist()
    assert len(divide(images([200, 200]), 0.2, 1).folds) == 5


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_never_on_both_sides_and_every_class_can_be_learnt(seed: int) -> None:
    random = np.random.default_rng(seed)
    found = [image(int(random.integers(3)), group=f"scene {random.integers(9)}") for _ in range(60)]
    found += [image(3, group="the only one")] * 4
    for fold in divide(found, 0.2, seed).folds:
        assert not {found[at].group for at in fold.training} & {found[at].group for at in fold.held_out}
        assert {found[at].label for at in fold.training} == {0, 1, 2, 3}


def test_a_class_of_two_is_learnt_from_in_every_fold() -> None:
    found = images([40, 2])
    folds = divide(found, 0.2, 1)
    assert all({found[at].label for at in fold.training} == {0, 1} for fold in folds.folds)
    assert sum(40 in fold.held_out or 41 in fold.held_out for fold in folds.folds[: folds.count]) == 2


def test_the_projects_own_parts_are_kept() -> None:
    found = [image(label, part) for label in (0, 1) for part in ["train"] * 6 + ["validation"] * 3 + ["test"] * 4]
    folds = divide(found, 0.2, 1)
    (fold,) = folds.folds
    assert {found[at].part for at in fold.training} == {"train"}
    assert {found[at].part for at in fold.held_out} == {"validation"}
    assert {found[at].part for at in folds.test} == {"test"}
    assert {found[at].part for at in folds.development} == {"train", "validation"}
    assert folds.measured_on(1) == "test part"
    without_test = divide([each for each in found if each.part != "test"], 0.2, 1)
    assert without_test.measured_on(1) == "validation part"


def test_a_small_class_does_not_take_the_selection_images_from_the_others() -> None:
    labels = np.array([0] * 60 + [1] * 60 + [2] * 4)
    training, selection = aside(labels, np.arange(124), 1)
    assert np.bincount(labels[selection], minlength=3).tolist() == [6, 6, 0]
    assert sorted([*training, *selection]) == list(range(124))
    assert len(aside(labels[:30], np.arange(30), 1)[1]) == 0


# --- the linear head


@pytest.mark.parametrize("load", [load_iris, load_wine, load_digits])
def test_the_head_is_as_good_as_that_of_scikit_learn(load: Any) -> None:
    features, labels = load(return_X_y=True)
    features = features.astype(np.float32)
    test = np.arange(len(labels)) % 3 == 0
    solved = linear_head.heads(
        features[~test], labels[~test], labels.max() + 1, weights=np.ones((~test).sum())
    )  # fmt: skip
    best = max((head.probabilities(features[test]).argmax(1) == labels[test]).mean() for head in solved)
    reference = (
        LogisticRegression(max_iter=5000).fit(features[~test], labels[~test]).score(features[test], labels[test])
    )
    assert best >= reference - 0.01


def test_a_head_for_known_classes_is_a_part_of_the_answer_for_new_ones() -> None:
    """The new classes are mixtures of known ones, hidden in many features that say nothing."""
    random = np.random.default_rng(1)
    known = linear_head.HeadWeights(random.normal(size=(400, 6)).astype(np.float32), np.zeros(6, np.float32))
    features = random.normal(size=(430, 400)).astype(np.float32)
    labels = ((features @ known.kernel)[:, :3].sum(axis=1) > 0).astype(int)
    few, unseen = np.arange(30), np.arange(30, 430)
    right = {}
    for name, given in (("without", None), ("with", known)):
        (head,) = linear_head.heads(
            features[few], labels[few], 2, weights=np.ones(30), penalties=(0.01,), known=given
        )  # fmt: skip
        assert head.kernel.shape == (400, 2)
        right[name] = (head.probabilities(features[unseen]).argmax(1) == labels[unseen]).mean()
    assert right["with"] > right["without"] + 0.03


def test_a_narrow_block_of_features_counts_as_much_as_a_wide_one() -> None:
    """The truth is in three features next to 400 that say nothing."""
    random = np.random.default_rng(1)
    features = random.normal(size=(440, 403)).astype(np.float32)
    labels = (features[:, 400:].sum(axis=1) > 0).astype(int)
    few, unseen = np.arange(40), np.arange(40, 440)
    right = {}
    for name, blocks in (("one", None), ("two", [400, 3])):
        (head,) = linear_head.heads(
            features[few], labels[few], 2, weights=np.ones(40), penalties=(0.01,), blocks=blocks
        )  # fmt: skip
        right[name] = (head.probabilities(features[unseen]).argmax(1) == labels[unseen]).mean()
    assert right["two"] > right["one"] + 0.1


def test_differences_as_small_as_those_of_decoders_are_not_enlarged() -> None:
    random = np.random.default_rng(1)
    features = 1 + random.normal(size=(40, 100)).astype(np.float32) * 1e-4
    (head,) = linear_head.heads(features, np.arange(40) % 2, 2, weights=np.ones(40), penalties=(1e-4,))
    moved = head.probabilities(features + 1e-4) - head.probabilities(features)
    assert np.abs(moved).max() < 0.05


def test_a_head_of_fewer_features_can_be_the_prior_of_one_with_more() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(60, 12)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(int)
    prior = linear_head.HeadWeights(np.zeros((10, 2), np.float32), np.zeros(2, np.float32))
    prior.kernel[0] = -3.0, 3.0
    (head,) = linear_head.heads(
        features, labels, 2, weights=np.ones(60), penalties=(1000.0,), prior=prior, known=prior, blocks=[10, 2]
    )  # fmt: skip
    assert head.kernel.shape == (12, 2)
    assert np.diff(head.kernel[0]) == pytest.approx(6.0, abs=0.5)


def test_the_head_finds_the_same_with_more_features_than_images_as_without_the_shortcut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(20, 50)).astype(np.float32)
    labels = np.arange(20) % 2
    (short,) = linear_head.heads(features, labels, 2, weights=np.ones(20), penalties=(0.1,))
    monkeypatch.setattr(linear_head, "_rotation", lambda _: None)
    (long,) = linear_head.heads(features, labels, 2, weights=np.ones(20), penalties=(0.1,))
    assert short.probabilities(features) == pytest.approx(long.probabilities(features), abs=0.02)


# --- the contest


class Guess:
    """A candidate that is right for a given share of the images."""

    size = 16, 16

    def __init__(self, name: str, hits: Sequence[int], *, cost: float = 1.0, is_cheap: bool = False) -> None:
        self.name, self.is_cheap = name, is_cheap
        self.evaluated: list[int] = []
        self._hits, self._cost = np.asarray(hits, np.float32), cost

    def cost(self, images: int) -> float:
        return self._cost

    def preparation(self) -> float:
        return 0.0

    def unsuitable(self) -> str | None:
        return None

    def evaluate(self, number: int, fold: Fold) -> FoldAnswers:
        self.evaluated.append(number)
        credit = self._hits[fold.held_out][np.newaxis]
        return FoldAnswers(credit, credit, 1 - credit)


class Unsuitable(Guess):
    def __init__(self) -> None:
        super().__init__("unsuitable", [], cost=0.1)

    def unsuitable(self) -> str | None:
        return "too few images"


def contest(folder: Path, *, allowance: float, count: int = 40) -> Contest:
    folds = divide(images([count // 2, count // 2]), 0.25, 1)
    return Contest(folds, np.ones(count), allowance, folder, "f", lambda _: None, Clock(Reporter(1, lambda _: None)))


def hits(count: int, missed: int) -> list[int]:
    return [0] * missed + [1] * (count - missed)


def test_the_better_candidate_wins_and_the_table_says_by_how_much(tmp_path: Path) -> None:
    race = contest(tmp_path, allowance=100)
    race.enter(Guess("cheap", hits(40, 10), is_cheap=True))
    race.enter(Guess("dear", hits(40, 2)))
    assert [(entry.row.name, entry.row.score, entry.row.chosen) for entry in race.entries] == [
        ("cheap", pytest.approx(0.75), False), ("dear", pytest.approx(0.95), True),
    ]  # fmt: skip
    folds, indices = race.measured()
    assert (folds, sorted(indices.tolist())) == (4, list(range(40)))


def test_a_dearer_candidate_that_is_better_by_luck_only_does_not_win(tmp_path: Path) -> None:
    race = contest(tmp_path, allowance=100)
    race.enter(Guess("cheap", [0, 0, 0, 1, 1] + [1] * 35, is_cheap=True))
    race.enter(Guess("dear", [1, 1, 1, 0, 0] + [1] * 35))
    assert race.winner is race.entries[0]


def test_what_the_budget_does_not_allow_or_nothing_can_beat_is_skipped_with_the_reason(tmp_path: Path) -> None:
    race = contest(tmp_path, allowance=10)
    race.enter(Guess("cheap", hits(40, 10), is_cheap=True))
    assert "of the budget are left" in str(race.enter(Guess("dear", hits(40, 0), cost=50)).row.skipped)
    race = contest(tmp_path / "other", allowance=100)
    race.enter(Guess("cheap", hits(40, 0), is_cheap=True))
    dear = Guess("dear", hits(40, 0))
    assert "almost perfect" in str(race.enter(dear).row.skipped)
    assert dear.evaluated == []


def test_a_dear_candidate_is_measured_on_as_many_folds_as_the_budget_allows(tmp_path: Path) -> None:
    race = contest(tmp_path, allowance=32)
    race.enter(Guess("cheap", hits(40, 10), is_cheap=True, cost=0.1))
    assert race.enter(Guess("dear", hits(40, 0), cost=10)).row.folds == 2
    alone = contest(tmp_path / "alone", allowance=0)
    assert alone.enter(Guess("dear", hits(40, 0), cost=10)).row.folds == 1, "there is no other"


def test_only_what_is_still_to_come_is_a_part_of_the_time_left(tmp_path: Path) -> None:
    race = contest(tmp_path, allowance=100)
    cheap, dear, beaten = (
        Guess("cheap", hits(40, 10), is_cheap=True),
        Guess("dear", hits(40, 2)),
        Guess("beaten", [0] * 40),
    )
    race.expect([cheap, dear, beaten])
    dearer = 4 * LIKELY + LIKELY_TO_WIN
    assert race.clock.time_left() == pytest.approx(16 + 1 + 2 * dearer)
    race.enter(cheap)
    assert race.clock.time_left() == pytest.approx(1 + 2 * dearer)
    race.enter(dear)
    race.enter(beaten)
    assert race.clock.time_left() == pytest.approx(1), "the winner on all images"


def test_candidates_that_will_be_skipped_are_no_part_of_the_time_left(tmp_path: Path) -> None:
    race = contest(tmp_path, allowance=32)
    cheap = Guess("cheap", hits(40, 10), is_cheap=True, cost=0.1)
    tried, too_dear, unsuitable = Guess("tried", hits(40, 0), cost=10), Guess("too dear", [], cost=9), Unsuitable()
    race.expect([cheap, tried, too_dear, unsuitable])
    assert race.clock.time_left() == pytest.approx(17 * 0.1 + (2 * LIKELY + LIKELY_TO_WIN) * 10)
    for each in (cheap, tried, too_dear, unsuitable):
        race.enter(each)
    assert [entry.row.folds for entry in race.entries] == [16, 2, 0, 0], "as expected"


def test_what_was_measured_is_not_measured_again_by_the_next_attempt(tmp_path: Path) -> None:
    first, second, damaged = (Guess("cheap", hits(40, 10), is_cheap=True) for _ in range(3))
    scores = [contest(tmp_path, allowance=100).enter(each).row.score for each in (first, second)]
    assert (len(first.evaluated), second.evaluated) == (16, [])
    assert scores[0] == scores[1]
    file = next(tmp_path.glob("outcome-*-3.npz"))
    file.write_bytes(file.read_bytes()[:50])
    contest(tmp_path, allowance=100).enter(damaged)
    assert damaged.evaluated == [3]


def test_what_was_measured_in_another_size_is_measured_again(tmp_path: Path) -> None:
    first, smaller = (Guess("cheap", hits(40, missed), is_cheap=True) for missed in (2, 10))
    smaller.size = 8, 16
    for each in (first, smaller):
        contest(tmp_path, allowance=100).enter(each)
    assert smaller.evaluated == first.evaluated
    again = contest(tmp_path, allowance=100).enter(Guess("cheap", hits(40, 20), is_cheap=True))
    assert again.row.score == pytest.approx(0.95), "that of the first, which has its size"


# --- the verdict


def judged(matrix: Sequence[Sequence[int]], labels: Sequence[str] = ("kiwi", "lime", "plum")) -> verdict.Verdict:
    cells = [
        (row, column) for row, line in enumerate(matrix) for column, count in enumerate(line) for _ in range(count)
    ]
    truth, predicted = np.array(cells).T
    return verdict.judge(truth, predicted, labels[: len(matrix)], images=[sum(line) for line in matrix])


@pytest.mark.parametrize(
    ("matrix", "code"),
    [
        ([[50, 0], [50, 0]], "guessing"),
        ([[25, 25], [25, 25]], "guessing"),
        ([[90, 0], [10, 0]], "guessing"),
        ([[3, 3], [3, 3]], "too_few"),
        ([[4, 2], [2, 4]], "too_few"),
        ([[6, 0], [1, 5]], "good"),
        ([[45, 5], [4, 46]], "good"),
        ([[40, 10], [10, 40]], "fair"),
        ([[120, 80], [80, 120]], "weak"),
        ([[36, 24], [24, 36]], "guessing"),
        ([[60, 30], [1, 9]], "fair"),
        ([[10, 0, 0], [0, 10, 0], [0, 0, 10]], "good"),
    ],
)
def test_the_verdict_says_whether_anything_was_learnt(matrix: list[list[int]], code: str) -> None:
    assert judged(matrix).code == code


def test_the_verdict_is_a_sentence_for_people() -> None:
    assert judged([[50, 0], [50, 0]]).text.startswith("no better than guessing (50 of 100 images correct")
    assert judged([[3, 3], [3, 3]]).text.startswith("too few images for a verdict")
    assert judged([[30, 0, 0], [0, 30, 0], [0, 0, 30]]).text == "good"
    assert judged([[22, 8, 0], [0, 30, 0], [0, 0, 30]]).text == "good, but `kiwi` is often mistaken for `lime`"
    assert judged([[29, 1, 0], [0, 30, 0], [0, 0, 30]]).text == "good", "one mistake is bad luck"
    assert "largest class would be correct more often" in judged([[60, 30], [1, 9]]).text
    few = judged([[30, 0, 0], [0, 30, 0], [0, 1, 3]])
    assert few.text == "good, with too few images to judge `plum`"


def test_chance_is_rarely_taken_for_a_result() -> None:
    random = np.random.default_rng(1)
    codes = [
        verdict.judge(random.integers(0, 3, 60), random.integers(0, 3, 60), ("a", "b", "c"), images=[20] * 3).code
        for _ in range(60)
    ]
    assert sum(code in ("good", "fair") for code in codes) == 0
    assert sum(code == "weak" for code in codes) <= 4


# --- budget and time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60s", 60),
        ("10m", 600),
        ("1.5h", 5400),
        (90, 90),
        ("90", 90),
        ("0s", None),
        ("soon", None),
        (True, None),
        (10**400, None),
        ("9" * 400, None),
        (f"1{' ' * 200_000}x", None),
    ],
)
def test_a_budget_is_a_duration(text: Any, seconds: float | None) -> None:
    assert budget.seconds_of(text) == seconds


def test_the_allowance_follows_from_effort_and_images() -> None:
    def allowed(images: int, effort: str = "balanced") -> float:
        return budget.allowance({"effort": effort}, images)

    assert allowed(100) == allowed(500) < allowed(2000)
    assert allowed(100, "fast") < allowed(100) < allowed(100, "best")


def test_progress_of_an_earlier_attempt_is_kept(tmp_path: Path) -> None:
    told: list[Progress] = []
    Reporter(1, told.append, tmp_path / "progress").report(40, "there")
    again = Reporter(1, told.append, tmp_path / "progress")
    again.report(3, "starts")
    assert [each.progress for each in told] == [40, 40]
