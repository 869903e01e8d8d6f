"""The blocks that recipes are made of. TensorFlow is real, the data is tiny."""

from __future__ import annotations

import math
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tfserve.errors import Invalid
from tfserve.ipc.messages import Progress
from tfserve.training import atomic_files
from tfserve.training.dataset import sizes
from tfserve.training.dataset.dataset_index import ImageFile
from tfserve.training.dataset.decoded_images import Store
from tfserve.training.dataset.splitting import spread
from tfserve.training.export import exports
from tfserve.training.fit.checkpoints import Checkpoints
from tfserve.training.fit.timing import Clock
from tfserve.training.progress import Reporter
from tfserve.training.recipes import parameters, schedule_defaults
from tfserve.training.report import evaluation, plots

# --- split


def test_places_are_spread_over_all() -> None:
    assert spread(np.arange(100), 3).tolist() == [0, 49, 99]
    assert spread(np.arange(2), 5).tolist() == [0, 1]


# --- sizes and pace


@pytest.mark.parametrize(
    ("side", "wanted", "size"),
    [
        ((28, 28), "auto", (28, 28)),
        ((480, 640), "auto", (96, 128)),
        ((8, 8), "auto", (16, 16)),
        ((30, 60), 40, (20, 40)),
    ],
)
def test_the_size_of_a_network_follows_the_images(side: tuple[int, int], wanted: Any, size: tuple[int, int]) -> None:
    image = ImageFile("a.png", width=side[1], height=side[0], grey=True, digest="")
    assert sizes.network_size([image] * 3, wanted, largest=128, multiple=4) == size


def test_small_data_is_gone_through_more_often() -> None:
    chosen = parameters.complete("classification", {})
    assert schedule_defaults.epochs(chosen, 60) == schedule_defaults.MOST_EPOCHS
    assert schedule_defaults.epochs(chosen, 1260) == 23
    assert schedule_defaults.epochs(chosen, 100_000) == schedule_defaults.FEWEST_EPOCHS
    assert schedule_defaults.epochs({**chosen, "epochs": 7}, 60) == 7


# --- plots


@pytest.mark.parametrize("classes", [2, 10, 45])
def test_nothing_touches_the_edges_of_a_confusion_matrix(tmp_path: Path, classes: int) -> None:
    file = tmp_path / "matrix.png"
    plots.confusion_matrix(file, np.eye(classes, dtype=int), [f"digit {label}" for label in range(classes)])
    grey = np.asarray(Image.open(file).convert("L"))
    edges = [grey[:4], grey[-4:], grey[:, :4], grey[:, -4:]]
    assert [edge.min() for edge in edges] == [255] * 4


# --- numbers


def test_precision_recall_and_f1_are_those_of_the_textbook() -> None:
    truth, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1])
    matrix = evaluation.confusion(truth, predicted, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]
    first, second, third = evaluation.per_class(matrix, ["a", "b", "c"])
    assert (first["precision"], first["recall"], first["f1"]) == (1.0, pytest.approx(2 / 3), 0.8)
    assert (second["precision"], second["recall"]) == (0.5, 1.0)
    assert (third["precision"], third["recall"], third["f1"]) == (0.0, 0.0, 0.0)


def test_the_calibration_error_is_how_far_confidence_is_from_being_right() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.35, 0.65], [0.65, 0.35]])
    told = evaluation.calibration(np.array([0, 1, 1, 0]), probabilities)
    assert told["expected_calibration_error"] == pytest.approx((0.45 * 2 + 0.35 * 2) / 4)
    assert [each["images"] for each in told["bins"]] == [0, 0, 0, 0, 0, 0, 2, 0, 0, 2]


def test_iou_and_dice_leave_out_the_background_and_classes_that_are_not_there() -> None:
    matrix = np.array([[90, 2, 0], [3, 5, 0], [0, 0, 0]])
    told = evaluation.segmentation(matrix, ["background", "a", "b"])
    assert told["mean_iou"] == pytest.approx(0.5)
    assert told["mean_dice"] == pytest.approx(10 / 15)


# --- files


class Counted:
    """Arrays that know how often they were made."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, index: int) -> Any:
        self.made.append(index)
        return np.full((2, 3), index, np.uint8)


@pytest.mark.parametrize("memory_bytes", [1000, 10])
def test_a_store_makes_each_array_once_in_memory_or_in_a_file(tmp_path: Path, memory_bytes: int) -> None:
    make = Counted()
    store = Store(5, (2, 3), make, tmp_path, memory_bytes)
    told: list[float] = []
    store.load(2, told.append)
    for indices in ([3, 1], [0, 4, 4]):
        arrays = store.batch(np.array(indices))
        assert arrays.shape == (len(indices), 2, 3)
        assert arrays[:, 1, 2].tolist() == indices
    assert store.batch(np.array([], int)).shape == (0, 2, 3)
    assert sorted(make.made) == [0, 1, 2, 3, 4]
    assert max(told) == 1
    assert not list(tmp_path.iterdir()), "the file has no name"


def test_a_store_without_room_on_the_disk_makes_them_for_each_batch(tmp_path: Path) -> None:
    make = Counted()
    store = Store(5, (2, 3), make, tmp_path, memory_bytes=10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))  # the limit is met as a full disk would be
    try:
        store.load(2, lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    make.made.clear()
    for _ in range(2):
        assert store.batch(np.array([3, 1]))[:, 0, 0].tolist() == [3, 1]
    assert make.made == [3, 1, 3, 1]


def test_a_file_is_complete_or_not_there(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_files.written_aside(tmp_path / "a") as aside:
            aside.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as failed:
        fail()
    assert atomic_files.is_disk_full(failed.value)
    assert list(tmp_path.iterdir()) == []


def test_latest_is_replaced_at_once_while_others_read_it(tmp_path: Path) -> None:
    for name in ("t1", "t2"):
        (tmp_path / name).mkdir()
    atomic_files.link_latest(tmp_path / "t1")
    missing, stop = [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            if not (tmp_path / "latest").is_dir():
                missing.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(200):
        atomic_files.link_latest(tmp_path / f"t{turn % 2 + 1}")
    stop.set()
    reader.join()
    assert missing == []


# --- with TensorFlow


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


def line(keras: Any) -> Any:
    """A model that learns to double. Seeded: with some first weights, the second epoch is worse than the first."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse", jit_compile=False)
    return model


def fitted(keras: Any, model: Any, checkpoints: Checkpoints, inputs: Any, epochs_in_all: int | None = None) -> Any:
    import tensorflow as tf

    from tfserve.training.fit.fitting import fit

    told: list[Progress] = []
    clock = Clock(Reporter(1, told.append))
    data = tf.data.Dataset.from_tensor_slices((inputs, 2 * inputs)).batch(4)
    state = checkpoints.restore(model)
    if epochs_in_all is not None:
        state.epochs = epochs_in_all
    with clock.stage("training") as stage:
        fit(
            model, data, data, state=state, checkpoints=checkpoints, stage=stage, patience=50, steps=2, selected_on=100
        )  # fmt: skip
    return state


def test_a_loss_that_is_no_number_stops_with_the_cause_and_keeps_the_best(keras: Any, tmp_path: Path) -> None:
    checkpoints, model = Checkpoints(tmp_path, "f", 4), line(keras)
    inputs = np.ones((8, 1), np.float32)
    fitted(keras, model, checkpoints, inputs, epochs_in_all=2)
    with pytest.raises(Invalid, match=r"loss became (nan|inf) in epoch 3 of 4.*epoch 2, is kept.*learning_rate"):
        fitted(keras, model, checkpoints, inputs * math.inf, epochs_in_all=4)
    assert (tmp_path / "best-000002.npz").is_file()


def test_training_in_two_parts_gives_what_training_in_one_gives(keras: Any, tmp_path: Path) -> None:
    inputs = np.linspace(-1, 1, 16, dtype=np.float32).reshape(-1, 1)
    whole, first, second = line(keras), line(keras), line(keras)
    first.set_weights(whole.get_weights())
    fitted(keras, whole, Checkpoints(tmp_path / "whole", "f", 10), inputs)
    parts = Checkpoints(tmp_path / "parts", "f", 10)
    fitted(keras, first, parts, inputs, epochs_in_all=4)
    state = fitted(keras, second, parts, inputs, epochs_in_all=10)
    assert (state.epoch, len(state.history["loss"])) == (10, 10)
    assert second.get_weights()[0] == pytest.approx(whole.get_weights()[0], abs=1e-6)


def test_patience_is_at_least_300_steps_and_a_third_of_the_schedule(keras: Any) -> None:
    from tfserve.training.fit.fitting import Patience

    few_steps = Patience.of(10, 2, 100)
    assert not few_steps.is_over(99, 1)
    assert few_steps.is_over(151, 1)
    many_steps = Patience.of(10, 500, 90)
    assert not many_steps.is_over(29, 1), "a third of the schedule"
    assert many_steps.is_over(30, 20)
    assert not many_steps.is_over(30, 21)


def test_checkpoints_of_another_training_are_not_taken_and_old_ones_go(keras: Any, tmp_path: Path) -> None:
    inputs = np.ones((8, 1), np.float32)
    fitted(keras, line(keras), Checkpoints(tmp_path, "f", 6), inputs)
    assert len(list(tmp_path.glob("checkpoint-*.npz"))) == 2
    assert Checkpoints(tmp_path, "f", 6).restore(line(keras)).epoch == 6
    other = Checkpoints(tmp_path, "other", 3)
    state = fitted(keras, line(keras), other, inputs)
    assert state.epoch == 3
    other.restore_best(line(keras), state)
    assert other.restore(line(keras)).epoch == 3, "older checkpoints with higher epochs are gone"


def test_masks_move_together_with_their_images() -> None:
    tf = pytest.importorskip("tensorflow")
    from tfserve.training.fit.augment import Augment, move

    augment = Augment(rotation=30, shift=0.2, zoom=0.2, brightness=0.2, mirror=True)
    masks = np.zeros((8, 32, 32), np.int32)
    masks[:, 8:20, 10:26] = 1
    images = tf.constant(np.repeat(masks[..., None] * 255.0, 3, axis=-1), tf.float32)
    seed = tf.constant([1, 2])
    moves = augment.moves(images, seed)
    moved = move(images, moves, smooth=False).numpy()[..., 0] > 127
    assert (moved == (move(masks[..., None], moves, smooth=False).numpy()[..., 0] == 1)).all()
    assert len({each.tobytes() for each in moved}) == 8
    assert (augment.moves(images, seed).numpy() == moves.numpy()).all()
    still = Augment(rotation=0, shift=0, zoom=0, brightness=0, mirror=False)
    assert move(images, still.moves(images, seed), smooth=True).numpy() == pytest.approx(images.numpy(), abs=1e-3)
    assert still.lighten(images, seed).numpy() == pytest.approx(images.numpy())
    assert 0 <= augment.lighten(images, seed).numpy().min() <= augment.lighten(images, seed).numpy().max() <= 255


def test_a_perfect_mask_has_almost_no_loss(keras: Any) -> None:
    from tfserve.training.fit.unet import cross_entropy_with_dice

    masks = np.random.default_rng(1).integers(0, 3, (2, 8, 8))
    right = np.eye(3, dtype=np.float32)[masks] * 50
    loss = cross_entropy_with_dice(3, 0.5)
    assert float(loss(masks, right)[0]) < 0.01
    assert float(loss(masks, -right)[0]) > 1


@pytest.mark.parametrize(("margin", "agrees"), [(0.01, True), (0.2, False)])
def test_a_form_that_decides_a_tie_otherwise_is_the_same(tmp_path: Path, margin: float, agrees: bool) -> None:
    original = np.float32([[0.5 + margin / 2, 0.5 - margin / 2]])
    trial = exports.ExportTrial(tmp_path, [np.zeros((1, 1), np.float32)], [original])
    trial.add("other", "other", lambda _: lambda _: original[:, ::-1], tolerance=exports.QUANTIZED)
    trial.add("numbers", "numbers", lambda _: lambda _: np.array([1]), tolerance=exports.QUANTIZED)
    trial.add("outside", "outside", lambda _: lambda _: np.array([2]), tolerance=exports.QUANTIZED)
    assert [each.agrees for each in trial.results] == [agrees, agrees, False]


def test_small_probabilities_of_many_classes_are_no_ties(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    original = random.dirichlet(np.ones(200) * 20, size=50).astype(np.float32)
    trial = exports.ExportTrial(tmp_path, [np.zeros((1, 1), np.float32)], [original])
    shuffled = random.permuted(original, axis=1)
    trial.add("other", "other", lambda _: lambda _: shuffled, tolerance=exports.QUANTIZED)
    assert original.max() < 0.02
    assert not trial.results[0].agrees


def test_a_form_is_reported_when_the_original_has_no_memory_for_its_inputs(tmp_path: Path) -> None:
    def expected() -> list[np.ndarray]:
        raise MemoryError("Unable to allocate 2.00 GiB")

    trial = exports.ExportTrial(tmp_path, [np.zeros((1, 1), np.float32)], [np.float32([[1, 0]])])
    trial.add("files", "files", lambda _: lambda _: np.array([0]), expected=expected)
    trial.add("other", "other", lambda _: lambda _: np.array([0]))
    assert [each.agrees for each in trial.results] == [False, True]
    assert "2.00 GiB" in str(trial.results[0].problem)
