"""Makes one file of Keras 2 in each format with every layer that Keras 2 has, and what each of them computes."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

layers = tf_keras.layers

IMAGE = {
    "Conv2D": lambda: layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
    "Conv2DTranspose": lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
    "DepthwiseConv2D": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
    "SeparableConv2D": lambda: layers.SeparableConv2D(4, 3),
    "LocallyConnected2D": lambda: layers.LocallyConnected2D(4, 3, implementation=2),
    "MaxPooling2D": lambda: layers.MaxPooling2D(2, padding="same"),
    "AveragePooling2D": lambda: layers.AveragePooling2D(2),
    "GlobalMaxPooling2D": lambda: layers.GlobalMaxPooling2D(keepdims=True),
    "GlobalAveragePooling2D": lambda: layers.GlobalAveragePooling2D(),
    "UpSampling2D": lambda: layers.UpSampling2D(2, interpolation="bicubic"),
    "ZeroPadding2D": lambda: layers.ZeroPadding2D(((1, 2), (3, 0))),
    "Cropping2D": lambda: layers.Cropping2D(1),
    "SpatialDropout2D": lambda: layers.SpatialDropout2D(0.5),
    "BatchNormalization": lambda: layers.BatchNormalization(synchronized=True),
    "SyncBatchNormalization": lambda: layers.BatchNormalization(fused=True),
    "LayerNormalization": lambda: layers.LayerNormalization(axis=[1, 2]),
    "GroupNormalization": lambda: layers.GroupNormalization(groups=3),
    "SpectralNormalization": lambda: layers.SpectralNormalization(layers.Conv2D(4, 3)),
    "PReLU": lambda: layers.PReLU(shared_axes=[1, 2]),
    "Permute": lambda: layers.Permute((2, 1, 3)),
    "Reshape": lambda: layers.Reshape((-1, 3)),
    "Flatten": lambda: layers.Flatten(data_format="channels_first"),
    "Rescaling": lambda: layers.Rescaling(1 / 127.5, offset=-1),
    "Resizing": lambda: layers.Resizing(5, 6, interpolation="bicubic", crop_to_aspect_ratio=True),
    "CenterCrop": lambda: layers.CenterCrop(4, 5),
    "RandomFlip": lambda: layers.RandomFlip("horizontal"),
    "RandomRotation": lambda: layers.RandomRotation(0.2),
    "RandomZoom": lambda: layers.RandomZoom(0.2),
    "RandomTranslation": lambda: layers.RandomTranslation(0.1, 0.1),
    "RandomContrast": lambda: layers.RandomContrast(0.2),
    "RandomCrop": lambda: layers.RandomCrop(4, 4),
    "RandomHeight": lambda: layers.RandomHeight(0.2),
    "RandomWidth": lambda: layers.RandomWidth(0.2),
    "RandomBrightness": lambda: layers.RandomBrightness(0.2),
    "Normalization": lambda: layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0]),
}
SERIES = {
    "Conv1D": lambda: layers.Conv1D(6, 3, groups=2, padding="causal", dilation_rate=2),
    "Conv1DTranspose": lambda: layers.Conv1DTranspose(4, 3, strides=2, output_padding=1),
    "DepthwiseConv1D": lambda: layers.DepthwiseConv1D(3, depth_multiplier=2),
    "SeparableConv1D": lambda: layers.SeparableConv1D(4, 3),
    "LocallyConnected1D": lambda: layers.LocallyConnected1D(4, 3, implementation=1),
    "MaxPooling1D": lambda: layers.MaxPooling1D(2),
    "AveragePooling1D": lambda: layers.AveragePooling1D(3, 1, "same"),
    "GlobalMaxPooling1D": lambda: layers.GlobalMaxPooling1D(),
    "GlobalAveragePooling1D": lambda: layers.GlobalAveragePooling1D(),
    "UpSampling1D": lambda: layers.UpSampling1D(2),
    "ZeroPadding1D": lambda: layers.ZeroPadding1D(2),
    "Cropping1D": lambda: layers.Cropping1D(2),
    "SpatialDropout1D": lambda: layers.SpatialDropout1D(0.5),
    "Softmax": lambda: layers.Softmax(axis=1),
    "Masking": lambda: layers.Masking(0.0),
    "EinsumDense": lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 3), bias_axes="d"),
    "LSTM": lambda: layers.LSTM(3, return_sequences=True, go_backwards=True, time_major=False),
    "GRU": lambda: layers.GRU(3, reset_after=False, implementation=1),
    "SimpleRNN": lambda: layers.SimpleRNN(3, unroll=True),
    "LSTMCell": lambda: layers.RNN(layers.LSTMCell(3)),
    "GRUCell": lambda: layers.RNN(layers.GRUCell(3)),
    "StackedRNNCells": lambda: layers.RNN(layers.StackedRNNCells([layers.SimpleRNNCell(3), layers.LSTMCell(2)])),
    "Bidirectional": lambda: layers.Bidirectional(layers.LSTM(3), merge_mode="ave"),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(2)),
    "RNN": lambda: layers.LSTM(3, time_major=True, return_sequences=True),
}
VIDEO = {
    "Conv3D": lambda: layers.Conv3D(4, 2),
    "Conv3DTranspose": lambda: layers.Conv3DTranspose(4, 3, strides=2),
    "MaxPooling3D": lambda: layers.MaxPooling3D(2),
    "AveragePooling3D": lambda: layers.AveragePooling3D(2),
    "GlobalMaxPooling3D": lambda: layers.GlobalMaxPooling3D(),
    "GlobalAveragePooling3D": lambda: layers.GlobalAveragePooling3D(),
    "UpSampling3D": lambda: layers.UpSampling3D(2),
    "ZeroPadding3D": lambda: layers.ZeroPadding3D(1),
    "Cropping3D": lambda: layers.Cropping3D(1),
    "SpatialDropout3D": lambda: layers.SpatialDropout3D(0.5),
    "ConvLSTM2D": lambda: layers.ConvLSTM2D(2, 2, return_sequences=True),
    "ConvLSTM1D": lambda: tf_keras.Sequential([layers.Reshape((4, 16, 2)), layers.ConvLSTM1D(2, 2)]),
    "ConvLSTM3D": lambda: tf_keras.Sequential([layers.Reshape((4, 4, 2, 2, 2)), layers.ConvLSTM3D(2, 2)]),
}
VECTOR = {
    "Dense": lambda: layers.Dense(3, activation="gelu", kernel_regularizer="l2", kernel_constraint="max_norm"),
    "Activation": lambda: layers.Activation("swish"),
    "Dropout": lambda: layers.Dropout(0.5),
    "GaussianNoise": lambda: layers.GaussianNoise(0.5),
    "GaussianDropout": lambda: layers.GaussianDropout(0.5),
    "AlphaDropout": lambda: layers.AlphaDropout(0.5),
    "ActivityRegularization": lambda: layers.ActivityRegularization(0.1, 0.1),
    "RepeatVector": lambda: layers.RepeatVector(3),
    "UnitNormalization": lambda: layers.UnitNormalization(),
    "ReLU": lambda: layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2),
    "LeakyReLU": lambda: layers.LeakyReLU(alpha=0.2),
    "ELU": lambda: layers.ELU(alpha=0.7),
    "ThresholdedReLU": lambda: layers.ThresholdedReLU(theta=0.5),
    "Discretization": lambda: layers.Discretization([-0.5, 0, 0.5]),
}
NUMBERS = {
    "Embedding": lambda: layers.Embedding(10, 4, mask_zero=True),
    "CategoryEncoding": lambda: layers.CategoryEncoding(10, output_mode="multi_hot"),
    "IntegerLookup": lambda: layers.IntegerLookup(vocabulary=[3, 5, 7]),
}
TEXT = {
    "StringLookup": lambda: layers.StringLookup(vocabulary=["a", "b"]),
    "TextVectorization": lambda: layers.TextVectorization(vocabulary=["hello", "world"], output_sequence_length=4),
    "Hashing": lambda: layers.Hashing(7),
}
PAIRS = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
SEQUENCES = {
    "Dot": lambda: layers.Dot(2),
    "Attention": lambda: layers.Attention(use_scale=True),
    "AdditiveAttention": lambda: layers.AdditiveAttention(),
}
COVERED_OTHERWISE = {
    "AbstractRNNCell", "HashedCrossing", "InputLayer", "InputSpec", "Lambda", "Layer", "MultiHeadAttention",
    "SimpleRNNCell", "Wrapper", "StackedRNNCells",
}  # fmt: skip


def every_layer() -> tuple[tf_keras.Model, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    sizes = {"image": (8, 8, 3), "series": (7, 4), "video": (4, 4, 4, 2), "vector": (5,)}
    values = {name: random.normal(size=(2, *size)).astype(np.float32) for name, size in sizes.items()}
    values |= {"numbers": np.int64([[1, 2, 0], [3, 9, 0]]), "text": np.array([["a"], ["hello b World"]], object)}
    kinds = (IMAGE, SERIES, VIDEO, VECTOR, NUMBERS, TEXT)
    inputs = {
        name: tf_keras.Input(value.shape[1:], dtype="string" if value.dtype == object else value.dtype.name, name=name)
        for name, value in values.items()
    }
    outputs = {
        name: make()(given)
        for given, makers in zip(inputs.values(), kinds, strict=True)
        for name, make in makers.items()
    }
    vector, series = inputs["vector"], inputs["series"]
    outputs |= {name: getattr(layers, name)()([vector, layers.Dense(5)(vector)]) for name in PAIRS}
    outputs |= {name: make()([series, layers.Dense(4)(series)]) for name, make in SEQUENCES.items()}
    outputs["MultiHeadAttention"] = layers.MultiHeadAttention(2, 3)(series, series)
    outputs["HashedCrossing"] = layers.HashedCrossing(5)([inputs["text"], inputs["text"]])
    outputs["operators"] = tf.einsum("bij,bik->bjk", tf.nn.relu(series)[:, 1:], series[:, :-1] * 2.0 - 1.0)
    return tf_keras.Model(inputs, outputs), values


if __name__ == "__main__":
    target = Path(sys.argv[1])
    model, values = every_layer()
    known = {name for name, each in vars(layers).items() if inspect.isclass(each)} - COVERED_OTHERWISE
    aliases = {"".join(part for part in name.replace("Convolution", "Conv")) for name in known}
    print("not covered:", sorted(name for name in aliases if name not in model.output and "Pool" not in name))
    for weight in model.weights:
        if weight.dtype.is_floating and "variance" not in weight.name:
            weight.assign_add(tf.random.stateless_uniform(weight.shape, [1, 2], 0, 0.1))
    model.save(target / "every_layer.h5")
    model.save(target / "every_layer.keras")
    tensors = {name: tf.constant(value.tolist() if value.dtype == object else value) for name, value in values.items()}
    computed = model(tensors, training=False)
    dense = {name: each.to_tensor() if hasattr(each, "to_tensor") else each for name, each in computed.items()}
    np.savez(target / "every_layer.npz", **{f"out {name}": each for name, each in dense.items()})
    np.savez(target / "inputs.npz", **{name: value.astype(str) if value.dtype == object else value for name, value in values.items()})  # fmt: skip # noqa: E501
