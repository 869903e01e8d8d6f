"""The candidates of a segmentation: a linear head and decoders on a known network's maps, and a U-Net from scratch."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset.sizes import network_size
from tfserve.training.dataset.splitting import aside
from tfserve.training.fit import batches, pixel_head, segmentation_decoder
from tfserve.training.fit.augment import Augment
from tfserve.training.fit.batches import ImageSource
from tfserve.training.fit.candidates import FoldAnswers, preparation_of, slug, stage_name
from tfserve.training.fit.checkpoints import State
from tfserve.training.fit.delivery import Delivered, FoldStates, useful_epochs
from tfserve.training.fit.fitting import FIT_S, TRAINED_MACS_PER_S, fit, schedule
from tfserve.training.fit.folds import Fold
from tfserve.training.fit.linear_head import HeadWeights
from tfserve.training.fit.map_rows import KnownMaps, leading
from tfserve.training.fit.pixel_head import Pixels
from tfserve.training.fit.segmentation_material import SegmentationMaterial, rarest_classes
from tfserve.training.fit.timing import TimedStage
from tfserve.training.fit.unet import IGNORED, MAX_DEPTH, cross_entropy_with_dice, macs, pixel_accuracy, unet
from tfserve.training.fit.warm_start import EPOCHS_SHARE
from tfserve.training.recipes import schedule_defaults
from tfserve.training.recipes.run import resume

MEASURED_IMAGE_S = 0.06
"""Seconds for the prediction and the confusion of an image."""
DECODED_IMAGE_S, TUNED_IMAGE_S = 0.012, 0.055
"""Seconds of a step for each image of 256x256, on two ordinary cores."""
DECODER_STEPS, TUNING_STEPS = 400, 150
FEWEST_EPOCHS = 3
DECODER_RATE, TUNING_RATE, UNET_RATE = 3e-3, 3e-4, 2e-3
LARGEST_UNET = 256
FEW_IMAGES = 8


class PixelHead:
    """Logistic regression of each pixel on the maps of a known network, which are computed once."""

    is_cheap = True

    def __init__(self, material: SegmentationMaterial, maps: KnownMaps) -> None:
        self.name = f"linear head on {maps.name}"
        self.size = maps.size
        self._material, self._maps = material, maps
        self._pixels: Pixels | None = None

    def cost(self, images: int) -> float:
        pixels = min(pixel_head.MAX_PIXELS, images * pixel_head.MOST_PER_IMAGE)
        return 0.5 + 5e-5 * pixels * (1 + 0.1 * self._material.classes) + _measuring_s(self._material, images)

    def preparation(self) -> float:
        return FIT_S + self._maps.plain_s

    def unsuitable(self) -> str | None:
        return None

    def evaluate(self, number: int, fold: Fold) -> FoldAnswers:
        pixels = self._sampled()
        with self._material.run.clock.stage(stage_name(self, number)) as stage:
            bodies = self._bodies(self._solve(pixels, fold.training, pixel_head.PENALTIES))
            network = segmentation_decoder.segmenter_of_rows(self._maps.shapes, bodies)
            message = f"{self.name}: measuring fold {number + 1}"
            return self._material.outcome(
                self, number, fold, network, self._maps.rows, lambda share: stage.mention(share, message)
            )  # fmt: skip

    def deliver(self, variant: int, indices: Array) -> Delivered:
        """Solved for the chosen penalty on all of `indices`."""
        pixels = self._sampled()
        with self._material.run.clock.stage(stage_name(self)):
            heads = self._solve(pixels, indices, pixel_head.PENALTIES[: variant + 1])[-1:]
        network = segmentation_decoder.segmenter(self._maps.backbone(), self._bodies(heads))
        return Delivered(network, self.size, self._maps.name)

    def _solve(self, pixels: Pixels, indices: Array, penalties: Sequence[float]) -> list[HeadWeights]:
        return pixel_head.solve(pixels.of(indices), self._material.class_weights(indices), penalties=penalties)

    def _bodies(self, heads: Sequence[HeadWeights]) -> list[Any]:
        return [
            segmentation_decoder.linear(self._maps.shapes, head.kernel, head.bias, name=f"linear{number}_")
            for number, head in enumerate(heads)
        ]

    def _sampled(self) -> Pixels:
        if self._pixels is None:
            self._material.read(self.size)
            self._material.masks(self._maps.trained_size)
            with self._material.run.clock.stage(preparation_of(self)) as stage:
                self._maps.compute_plain(stage)
                self._pixels = pixel_head.sample(
                    self._maps.rows, self._material.masks(self.size), self._maps.shapes, count=self._material.count,
                    seed=self._material.run.parameters["seed"],
                )  # fmt: skip
        return self._pixels


class Trained(ABC):
    """A candidate that is trained in epochs. `_train` gives the network with probabilities for a part of the images."""

    is_cheap = False
    name: str
    size: tuple[int, int]
    backbone: str

    def __init__(self, material: SegmentationMaterial) -> None:
        self._material = material
        warm = material.run.warm
        self._warm = warm if warm is not None and warm.earlier.backbone == self.backbone else None

    def unsuitable(self) -> str | None:
        return None

    def evaluate(self, number: int, fold: Fold) -> FoldAnswers:
        self._prepare()
        message = f"{self.name}, fold {number + 1}"
        with self._material.run.clock.stage(stage_name(self, number)) as stage:
            network, _ = self._train(f"fold {number + 1}", fold.training, fold.held_out, stage)
            return self._material.outcome(
                self, number, fold, network, self._material.pictures(self.size),
                lambda _: stage.mention(0.99, f"{message}: measuring"),
            )  # fmt: skip

    def deliver(self, _: int, indices: Array) -> Delivered:
        self._prepare()
        with self._material.run.clock.stage(stage_name(self)) as stage:
            network, state = self._train("all images", indices, indices[:0], stage)
        return Delivered(network, self.size, self.backbone, state)

    def _prepare(self) -> None:
        """What is needed before the first training."""
        self._material.read(self.size)

    @abstractmethod
    def cost(self, images: int) -> float: ...

    @abstractmethod
    def preparation(self) -> float: ...

    @abstractmethod
    def _train(self, part: str, training: Array, watched: Array, stage: TimedStage) -> tuple[Any, State]: ...

    def _fit(
        self, part: str, model: Any, data: Callable[[int], Any], watched: Any, indices: Array, stage: TimedStage, *,
        rate: float, epochs: int, steps: int, selected_on: int = 0,
    ) -> State:  # fmt: skip
        """`data` makes the batches to learn from, from a seed; `indices` are the images that they show."""
        material, chosen = self._material, self._material.run.parameters
        rate = material.run.rate(rate, continued=self._warm is not None)
        model.compile(
            optimizer=keras.optimizers.AdamW(schedule(rate, epochs, steps), weight_decay=1e-4, clipnorm=10.0),
            loss=cross_entropy_with_dice(
                material.classes, chosen["dice_weight"], material.class_weights(indices).tolist()
            ),
            metrics=[
                keras.metrics.MeanIoU(material.classes, sparse_y_pred=False, ignore_class=IGNORED, name="mean_iou"),
                keras.metrics.MeanMetricWrapper(pixel_accuracy, name="accuracy"),
            ],
            jit_compile=False,
        )
        checkpoints = material.run.checkpoints(slug(f"{self.name} {part}"), epochs, self.size)
        state = resume(material.run, model, checkpoints, f"{self.name}, {part}")
        fit(
            model, data(chosen["seed"] + state.epoch), watched, state=state, checkpoints=checkpoints, stage=stage,
            patience=chosen["patience"], steps=steps, selected_on=selected_on, name=f"{self.name}, {part}",
        )  # fmt: skip
        return state


class MaskDecoder(Trained):
    """A light decoder on the frozen maps of a known network, also on those of changed copies of the images."""

    def __init__(self, material: SegmentationMaterial, maps: KnownMaps) -> None:
        self.name, self.size, self.backbone = f"decoder on {maps.name}", maps.size, maps.name
        super().__init__(material)
        self._maps = maps
        self._image_s = DECODED_IMAGE_S
        self._rate, self._steps = DECODER_RATE, DECODER_STEPS
        self._bodies: dict[str, tuple[Any, State]] = {}

    def cost(self, images: int) -> float:
        batch_size, steps, epochs = self._schedule(images)
        step_s = batch_size * self._image_s * np.prod(self.size) / 256**2
        return FIT_S + float(epochs * steps * step_s) + _measuring_s(self._material, images)

    def preparation(self) -> float:
        return self._maps.copies_s

    def _schedule(self, images: int) -> tuple[int, int, int]:
        """(batch size, steps of an epoch, epochs); an epoch shows every image and every copy."""
        chosen, shown = self._material.run.parameters, images * (1 + self._maps.copies)
        batch_size = min(schedule_defaults.batch_size(chosen, images), images)
        steps = max(1, shown // batch_size)
        if chosen["epochs"] != "auto":
            return batch_size, steps, int(chosen["epochs"])
        share = 1.0 if self._warm is None else EPOCHS_SHARE
        return batch_size, steps, max(FEWEST_EPOCHS, round(self._steps * share / steps))

    def _train(self, part: str, training: Array, watched: Array, stage: TimedStage) -> tuple[Any, State]:
        backbone = self._maps.backbone()
        body, state = self.body(part, training, watched, stage)
        return segmentation_decoder.segmenter(backbone, [body]), state

    def _prepare(self) -> None:
        super()._prepare()
        self._material.masks(self._maps.trained_size)
        if not self._maps.is_complete:
            with self._material.run.clock.stage(preparation_of(self)) as stage:
                self._maps.compute_plain(stage)
                self._maps.compute_copies(stage)

    def body(self, part: str, training: Array, watched: Array, stage: TimedStage) -> tuple[Any, State]:
        """The decoder alone, trained on a part of the images."""
        if part not in self._bodies:
            keras.utils.set_random_seed(self._material.run.parameters["seed"])
            shapes = self._maps.shapes
            body = segmentation_decoder.decoder(shapes, self._material.classes)
            if self._warm is not None:
                self._warm.fill(body)
            model = segmentation_decoder.from_rows(shapes, body)
            self._bodies[part] = body, self._fit_rows(part, model, training, watched, stage)
        return self._bodies[part]

    def _fit_rows(self, part: str, model: Any, training: Array, watched: Array, stage: TimedStage) -> State:
        threads = self._material.run.threads
        batch_size, steps, epochs = self._schedule(len(training))
        rows = self._maps.rows
        source = ImageSource(leading(rows, model.input_shape[1]), self._maps.masks.batch, self._maps.trained_size)
        return self._fit(
            part, model,
            lambda seed: batches.shuffled(source, rows.indices(training), batch_size, threads, seed=seed, augment=None),
            batches.plain(source, watched, batch_size, threads) if len(watched) else None,
            training, stage, rate=self._rate, epochs=epochs, steps=steps,
        )  # fmt: skip


class Tuned(MaskDecoder):
    """The same decoder, trained on together with the backbone from stride 8 on."""

    def __init__(self, material: SegmentationMaterial, maps: KnownMaps, decoder: MaskDecoder) -> None:
        super().__init__(material, maps)
        self.name = f"{maps.name}, fine-tuned"
        self._decoder = decoder
        self._image_s = TUNED_IMAGE_S
        self._rate, self._steps = TUNING_RATE, TUNING_STEPS

    def cost(self, images: int) -> float:
        """Including a decoder to begin with."""
        return super().cost(images) + self._decoder.cost(images)

    def preparation(self) -> float:
        return 0.0

    def _train(self, part: str, training: Array, watched: Array, stage: TimedStage) -> tuple[Any, State]:
        begun, _ = self._decoder.body(part, training, watched[:0], stage)
        keras.utils.set_random_seed(self._material.run.parameters["seed"])
        backbone = self._maps.backbone()
        upper = segmentation_decoder.tunable(backbone)
        body = segmentation_decoder.decoder(self._maps.shapes, self._material.classes)
        body.set_weights(begun.get_weights())
        fine = self._maps.shapes[: -len(upper.outputs)]
        model = segmentation_decoder.from_rows(fine, lambda levels: body([*levels, *upper(levels[-1])]))
        state = self._fit_rows(part, model, training, watched, stage)
        return segmentation_decoder.segmenter(backbone, [body]), state


class UNet(Trained):
    """A U-Net from scratch, trained on augmented images, for images that are not photographs."""

    backbone = "unet"

    def __init__(self, material: SegmentationMaterial, allowance: float) -> None:
        super().__init__(material)
        self.name = "U-Net from scratch"
        run = material.run
        self._states = FoldStates(run.work, self.name)
        self._filters = run.parameters["filters"]
        self.size = network_size(
            run.findings.images, run.parameters["image_size"], largest=LARGEST_UNET, multiple=2**MAX_DEPTH
        )  # fmt: skip
        self._macs = macs(self.size, filters=self._filters)
        self._epochs = self._affordable_epochs(allowance)

    def cost(self, images: int) -> float:
        return FIT_S + self._epochs * self._epoch_s(images) + _measuring_s(self._material, images)

    def preparation(self) -> float:
        return self._material.count * 5e-3

    def unsuitable(self) -> str | None:
        count = len(self._material.folds.development)
        return (
            None if count >= FEW_IMAGES or self._warm else f"{count} images are too few to train a network from scratch"
        )

    def deliver(self, variant: int, indices: Array) -> Delivered:
        """Trained from the start on all of `indices`, for as many epochs as were useful on the folds."""
        states = self._states.read(len(self._material.folds.folds))
        if states:
            self._epochs = useful_epochs(states)
        made = super().deliver(variant, indices)
        return dataclasses.replace(made, state=states[0]) if states else made

    def _train(self, part: str, training: Array, watched: Array, stage: TimedStage) -> tuple[Any, State]:
        material, run = self._material, self._material.run
        chosen = run.parameters
        learnt, selection = training, training[:0]
        if len(watched):
            learnt, selection = aside(np.array(rarest_classes(material.pixels)), training, chosen["seed"])
        keras.utils.set_random_seed(chosen["seed"])
        model = unet(self.size, material.classes, filters=self._filters)
        if self._warm is not None:
            self._warm.fill(model)
        batch_size = min(run.batch_size, len(learnt))
        masks = material.masks(self.size)
        source = ImageSource(material.pictures(self.size), masks.batch, self.size)
        shown = selection if len(selection) else watched
        state = self._fit(
            part, model,
            lambda seed: batches.shuffled(
                source, learnt, batch_size, run.threads, seed=seed, augment=Augment.from_parameters(chosen)
            ),
            batches.plain(source, shown, batch_size, run.threads) if len(shown) else None,
            learnt, stage, rate=UNET_RATE, epochs=self._epochs, steps=len(learnt) // batch_size,
            selected_on=len(selection),
        )  # fmt: skip
        if len(watched):
            self._states.keep(part, state)
        outputs = keras.layers.Softmax(name="probabilities")(model.output)
        return keras.Model(model.input, outputs, name="segmenter"), state

    def _epoch_s(self, images: float) -> float:
        return images * self._macs / TRAINED_MACS_PER_S + images / self._material.run.batch_size * 0.02 + 0.1

    def _affordable_epochs(self, allowance: float) -> int:
        """The usual number; at least a third of it when two trainings would take longer than allowed."""
        images = len(self._material.folds.folds[0].training)
        share = 1.0 if self._warm is None else EPOCHS_SHARE
        usual = schedule_defaults.epochs(self._material.run.parameters, images, share=share)
        if self._material.run.parameters["epochs"] != "auto":
            return usual
        affordable = int((allowance / 2 - FIT_S) / self._epoch_s(images))
        return max(FEWEST_EPOCHS, min(usual, max(affordable, usual // 3)))


def _measuring_s(material: SegmentationMaterial, images: int) -> float:
    """For the held-out share of images, in proportion to the training images."""
    share = float(material.run.parameters["validation_split"])
    return MEASURED_IMAGE_S * images * share / (1 - share)
