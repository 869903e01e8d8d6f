"""That luck is not taken for learning: several settings that were tried, and images that belong together."""

from __future__ import annotations

import numpy as np

from tfserve.training.report import mask_verdict, verdict

RUNS = 60


def weights_of(truth: np.ndarray) -> np.ndarray:
    return 1 / np.bincount(truth, minlength=2)[truth]


def test_the_best_of_many_settings_on_random_labels_is_no_better_than_guessing() -> None:
    random, codes = np.random.default_rng(1), []
    for _ in range(RUNS):
        truth, rivals = random.integers(0, 2, 40), random.integers(0, 2, (30, 40))
        best = rivals[((rivals == truth) @ weights_of(truth)).argmax()]
        codes.append(verdict.judge(truth, best, ("a", "b"), images=[20, 20], rivals=rivals).code)
    assert sum(code not in ("guessing", "too_few") for code in codes) <= 0.05 * RUNS


def test_a_good_result_among_many_settings_stays_good() -> None:
    random = np.random.default_rng(1)
    truth = np.arange(40) % 2
    rivals = np.where(random.random((30, 40)) < 0.08, 1 - truth, truth)
    judged = verdict.judge(truth, rivals[0], ("a", "b"), images=[20, 20], rivals=rivals)
    assert (judged.code, judged.by_chance < 0.001) == ("good", True)


def test_images_of_one_group_count_once() -> None:
    """Eight scenes of ten images: what is predicted for a scene is right by luck in ten images or in none."""
    random, codes = np.random.default_rng(2), []
    groups = [f"scene {n // 10}" for n in range(80)]
    for _ in range(RUNS):
        truth, predicted = (random.integers(0, 2, 8).repeat(10) for _ in range(2))
        codes.append(verdict.judge(truth, predicted, ("a", "b"), images=[40, 40], groups=groups).code)
    assert sum(code not in ("guessing", "too_few") for code in codes) <= 0.05 * RUNS


def test_groups_of_different_sizes_and_mixed_labels_are_dealt_too() -> None:
    truth = np.array([0, 0, 0, 1, 1, 0, 1] * 12)
    groups = [["a", "a", "a", "b", "b", "", ""][n % 7] and f"{n // 7}{'aaabb..'[n % 7]}" for n in range(len(truth))]
    judged = verdict.judge(truth, truth, ("a", "b"), images=[48, 36], groups=groups)
    assert judged.code == "good"


def test_masks_of_one_scene_count_once() -> None:
    """Six scenes of eight frames, each with a block in one of two places, and masks that are the same in a scene."""
    random, lucky = np.random.default_rng(3), 0
    groups = [f"scene {n // 8}" for n in range(48)]
    for _ in range(20):
        truth, predicted = (np.zeros((48, 8, 8), np.uint8) for _ in range(2))
        for masks in (truth, predicted):
            for number, place in enumerate(random.integers(0, 2, 6).repeat(8)):
                masks[number, :4, 4 * place : 4 * place + 4] = 1
        lucky += mask_verdict.probability_of_luck(truth, predicted, 2, groups) <= verdict.CHANCE
    assert lucky <= 1


def test_labels_are_dealt_within_the_groups_of_the_giver() -> None:
    groups = ["a", "", "b", "a", "b", "a"]
    deal, random = verdict.Deal(groups), np.random.default_rng(1)
    assert deal.count == 3
    givers = {tuple(deal(random).tolist()) for _ in range(200)}
    assert (0, 1, 2, 3, 4, 5) in givers
    assert all(len({groups[at] for at in np.array(each)[[0, 3, 5]]}) == 1 for each in givers)
    assert len(givers) == 6


def test_few_groups_of_images_are_too_few_however_well_they_are_segmented() -> None:
    masks = np.zeros((60, 8, 8), np.uint8)
    for number, mask in enumerate(masks):
        mask[number % 7 : number % 7 + 2, number % 5 : number % 5 + 3] = 1
    judged = mask_verdict.judge(
        np.array([[900, 0], [0, 100]]), 1.0, masks, masks, ("background", "object"), images=[60, 60],
        groups=[f"video {number % 3}" for number in range(60)],
    )  # fmt: skip
    assert judged.code == "too_few"
    assert "too few groups of images (3) for a verdict" in judged.text
