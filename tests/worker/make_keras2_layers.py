"""Saves every layer that Keras 2 has, with inputs and the outputs that Keras 2 computes, into a folder.

One model per shape of input, each layer of it a branch with an output of its own. Prints the classes that were used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

L = tf_keras.layers
Branches = dict[str, Callable[[Any], Any]]

VECTOR: Branches = {
    "dense": L.Dense(3, activation="elu"), "activation": L.Activation("swish"), "elu": L.ELU(),
    "relu": L.ReLU(1.0, 0.1, 0.2),
    "leaky": L.LeakyReLU(0.2), "prelu": L.PReLU(alpha_initializer="uniform"), "thresholded": L.ThresholdedReLU(0.3),
    "softmax": L.Softmax(), "dropout": L.Dropout(0.5), "alpha_dropout": L.AlphaDropout(0.5), "identity": L.Identity(),
    "gaussian_dropout": L.GaussianDropout(0.5), "gaussian_noise": L.GaussianNoise(1.0), "flatten": L.Flatten(),
    "activity": L.ActivityRegularization(0.1), "batch_norm": L.BatchNormalization(),
    "layer_norm": L.LayerNormalization(),
    "unit_norm": L.UnitNormalization(), "normalization": L.Normalization(mean=0.5, variance=2.0),
    "reshape": L.Reshape((2, 3)),
    "repeat": L.RepeatVector(2), "rescaling": L.Rescaling(2.0, 1.0), "discretization": L.Discretization([-0.5, 0.5]),
    "add": lambda x: L.Add(name="add")([x, x]), "average": lambda x: L.Average(name="average")([x, x]),
    "multiply": lambda x: L.Multiply(name="multiply")([x, x]),
    "subtract": lambda x: L.Subtract(name="subtract")([x, x]),
    "maximum": lambda x: L.Maximum(name="maximum")([x, x]), "minimum": lambda x: L.Minimum(name="minimum")([x, x]),
    "dot": lambda x: L.Dot(1, name="dot")([x, x]), "concatenate": lambda x: L.Concatenate(name="concatenate")([x, x]),
    "einsum": L.EinsumDense("ab,bc->ac", 4, bias_axes="c"),
}  # fmt: skip
SEQUENCE: Branches = {
    "conv": L.Conv1D(4, 2, groups=2), "conv_t": L.Conv1DTranspose(3, 2, strides=2), "depthwise": L.DepthwiseConv1D(2),
    "separable": L.SeparableConv1D(3, 2), "local": L.LocallyConnected1D(3, 2), "average": L.AveragePooling1D(),
    "max": L.MaxPooling1D(), "global_average": L.GlobalAveragePooling1D(), "global_max": L.GlobalMaxPooling1D(),
    "cropping": L.Cropping1D(1), "padding": L.ZeroPadding1D(1), "up": L.UpSampling1D(2), "permute": L.Permute((2, 1)),
    "spatial": L.SpatialDropout1D(0.5), "masking": L.Masking(0.0), "distributed": L.TimeDistributed(L.Dense(2)),
    "simple_rnn": L.SimpleRNN(3), "gru": L.GRU(3, return_sequences=True), "gru_before": L.GRU(3, reset_after=False),
    "lstm": L.LSTM(3, go_backwards=True), "lstm_time_major": L.LSTM(3, time_major=True, return_sequences=True),
    "both_ways": L.Bidirectional(L.LSTM(3)), "gru_cell": L.RNN(L.GRUCell(3)), "simple_cell": L.RNN(L.SimpleRNNCell(3)),
    "stacked": L.RNN(L.StackedRNNCells([L.LSTMCell(3), L.LSTMCell(2)])),
    "attention": lambda x: L.Attention(name="attention")([x, x]),
    "additive": lambda x: L.AdditiveAttention(name="additive")([x, x]),
    "heads": lambda x: L.MultiHeadAttention(2, 3, name="heads")(x, x),
}  # fmt: skip
IMAGE: Branches = {
    "conv": L.Conv2D(4, 3, groups=2), "conv_t": L.Conv2DTranspose(3, 2, strides=2), "depthwise": L.DepthwiseConv2D(2),
    "separable": L.SeparableConv2D(3, 2), "local": L.LocallyConnected2D(3, 2), "average": L.AveragePooling2D(),
    "max": L.MaxPooling2D(), "global_average": L.GlobalAveragePooling2D(), "global_max": L.GlobalMaxPooling2D(),
    "cropping": L.Cropping2D(1), "padding": L.ZeroPadding2D(1), "up": L.UpSampling2D(2, interpolation="bilinear"),
    "spatial": L.SpatialDropout2D(0.5), "group_norm": L.GroupNormalization(2), "center_crop": L.CenterCrop(4, 4),
    "resizing": L.Resizing(5, 7), "brightness": L.RandomBrightness(0.1), "contrast": L.RandomContrast(0.1),
    "crop": L.RandomCrop(4, 4), "flip": L.RandomFlip(), "height": L.RandomHeight(0.1), "width": L.RandomWidth(0.1),
    "rotation": L.RandomRotation(0.1), "translation": L.RandomTranslation(0.1, 0.1), "zoom": L.RandomZoom(0.1),
    "lstm": L.ConvLSTM1D(2, 2),
}  # fmt: skip
VOLUME: Branches = {
    "conv": L.Conv3D(4, 2, groups=2), "conv_t": L.Conv3DTranspose(3, 2), "average": L.AveragePooling3D(),
    "max": L.MaxPooling3D(), "global_average": L.GlobalAveragePooling3D(), "global_max": L.GlobalMaxPooling3D(),
    "cropping": L.Cropping3D(1), "padding": L.ZeroPadding3D(1), "up": L.UpSampling3D(2),
    "spatial": L.SpatialDropout3D(0.5), "lstm": L.ConvLSTM2D(2, 2),
}  # fmt: skip
FILM: Branches = {"lstm": L.ConvLSTM3D(2, 2)}
NUMBERS: Branches = {
    "embedding": L.Embedding(9, 3), "category": L.CategoryEncoding(9, output_mode="multi_hot"),
    "integers": L.IntegerLookup(vocabulary=[1, 3, 5]), "hashing": L.Hashing(7),
    "crossing": lambda x: L.HashedCrossing(7, name="crossing")((x[:, :1], x[:, 1:2])),
}  # fmt: skip
TEXT: Branches = {
    "strings": L.StringLookup(vocabulary=["a", "b"]), "hashing": L.Hashing(7),
    "vectorization": L.TextVectorization(vocabulary=["a", "b"], output_sequence_length=3),
}  # fmt: skip

MODELS: dict[str, tuple[Branches, tuple[int, ...], str]] = {
    "vector": (VECTOR, (6,), "float32"), "sequence": (SEQUENCE, (4, 6), "float32"),
    "image": (IMAGE, (8, 8, 4), "float32"),
    "volume": (VOLUME, (4, 4, 4, 2), "float32"), "film": (FILM, (2, 3, 3, 3, 2), "float32"),
    "numbers": (NUMBERS, (2,), "int64"), "text": (TEXT, (1,), "string"),
}  # fmt: skip


def values(shape: tuple[int, ...], dtype: str) -> Any:
    random = np.random.default_rng(1)
    if dtype == "string":
        return np.array([["a"], ["b"], ["c"]][: shape[0]], object)
    return random.integers(0, 9, shape) if dtype == "int64" else random.normal(size=shape).astype(np.float32)


def main(folder: Path) -> None:
    used = set()
    for name, (branches, shape, dtype) in MODELS.items():
        x = tf_keras.Input(shape, dtype=dtype, name="x")
        outputs = {}
        for key, branch in branches.items():
            if isinstance(branch, L.Layer):
                branch._name = key
            outputs[key] = branch(x)
        model = tf_keras.Model(x, outputs)
        used |= {type(layer).__name__ for layer in model._flatten_layers()}
        given = values((2, *shape), dtype)
        outputs = model(tf_keras.backend.constant(given, dtype), training=False)
        expected = {key: np.asarray(output) for key, output in outputs.items()}
        np.savez(folder / f"{name}.npz", given=given, **{f"out_{key}": output for key, output in expected.items()})
        model.save(folder / f"{name}.h5")
        model.save(folder / f"{name}.keras")
    (folder / "used.txt").write_text("\n".join(sorted(used)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
