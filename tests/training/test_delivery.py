"""How trainings on folds ended, kept for later attempts."""

from __future__ import annotations

from pathlib import Path

from tfserve.training.fit.checkpoints import State
from tfserve.training.fit.delivery import FoldStates, useful_epochs


def test_the_states_of_folds_are_kept_next_to_their_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "u-net-from-scratch-fold-2"
    folder.mkdir()
    states = FoldStates(tmp_path, "U-Net from scratch")
    assert states.read(3) == []
    states.keep("fold 2", State(fingerprint="f", epochs=9, epoch=4, best_epoch=3))
    assert (folder / "state.json").is_file()
    assert [(each.epoch, each.best_epoch) for each in states.read(3)] == [(4, 3)]
    assert states.read(1) == []


def test_a_training_that_ended_early_was_useful_up_to_its_best_epoch() -> None:
    early, whole = State(fingerprint="f", epochs=9, epoch=5, best_epoch=2), State(fingerprint="f", epochs=9, epoch=9)
    assert useful_epochs([early]) == 2
    assert useful_epochs([whole, whole, early]) == 9
