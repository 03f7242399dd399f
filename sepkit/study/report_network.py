"""The report's own form of the network: its convolutional graph, its layers, its weight files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers, ops

from sepkit.errors import ModelError
from sepkit.stft import CONTEXT, FRAME_LENGTH, HOP_LENGTH, N_BINS
from sepkit.tracks import SOURCES
from sepkit.weights import DECODER, ENCODER, Weights, check_shapes


def report_network(
    *,
    sources: Sequence[str] = SOURCES,
    channels: int = 1,
    batch_size: int | None = None,
    sizes: tuple[int, int, int, int, int, int, int] = (1, 513, 50, 12, 1, 30, 128),
    context: int = CONTEXT,
) -> keras.Model:
    """Build the report's literal graph: two-dimensional convolutions, from spectrum to waveform.

    It is meant to be read, compared and timed; `build_model` is the same network in the form that
    trains faster. As in the report, masks are divided by the plain sum of the decoders' outputs,
    so that a bin in which all of them are 0 becomes 0/0 (NaN).

    Parameters
    ----------
    sources : sequence of str
        Names of the sources.
    channels : int
        Channels of the input.
    batch_size : int, optional
        32 in the report; any by default.
    sizes : tuple of int
        ``(t1, f1, N1, t2, f2, N2, N)``: taps in time and frequency and number of the vertical
        and horizontal filters, and units of the shared dense layer.
    context : int
        Frames per segment.

    Returns
    -------
    keras.Model
        From magnitude and phase of segments, ``(batch, 25, 513, channels, 2)``, to waveforms
        ``(batch, 7168, channels, n_sources)``, with the report's layer names.
    """
    t1, f1, n1, t2, f2, n2, n = sizes
    stft = keras.Input((context, N_BINS, channels, 2), batch_size=batch_size, name="stft")
    magnitude = layers.Lambda(lambda x: x[..., 0], name="magnitude")(stft)
    phase = layers.Lambda(lambda x: x[..., 1], name="phase")(stft)

    x = layers.Conv2D(n1, (t1, f1), name="vertical_convolution")(magnitude)
    x = layers.Conv2D(n2, (t2, f2), name="horizontal_convolution")(x)
    grid = tuple(x.shape[1:])
    x = layers.Flatten(name="flattening")(x)
    shared = layers.Dense(n, activation="relu", name="global_dense")(x)

    decoded = []
    for source in sources:
        units = grid[0] * grid[1] * grid[2]
        x = layers.Dense(units, activation="relu", name=f"single_dense_{source}")(shared)
        x = layers.Reshape(grid, name=f"reshape_{source}")(x)
        x = layers.Conv2DTranspose(n1, (t2, f2), name=f"horizontal_deconvolution_{source}")(x)
        x = layers.Conv2DTranspose(channels, (t1, f1), name=f"vertical_deconvolution_{source}")(x)
        decoded.append(layers.Lambda(ops.abs, name=f"module_{source}")(x))
    total = layers.Add(name="sum")(decoded)

    estimates = []
    for source, x in zip(sources, decoded, strict=True):
        x = layers.Lambda(lambda pair: pair[0] / pair[1], name=f"division_{source}")([x, total])
        x = layers.Multiply(name=f"y_{source}")([magnitude, x])
        x = layers.Lambda(_with_phase, name=f"complex_{source}")([x, phase])
        estimates.append(layers.Lambda(_segment_waveform, name=f"istft_{source}")(x))
    stacked = layers.Lambda(lambda x: ops.stack(x, axis=-1), name="output_stacking")(estimates)
    return keras.Model(stft, stacked, name="report_network")


def _with_phase(pair: Any) -> Any:
    magnitude, phase = pair
    return ops.stack([magnitude * ops.cos(phase), magnitude * ops.sin(phase)], axis=-1)


def _segment_waveform(spectrum: Any) -> Any:
    """Invert ``(batch, 25, 513, channels, 2)`` to ``(batch, 7168, channels)`` with faded edges."""
    import tensorflow as tf

    spectrum = tf.transpose(spectrum, (0, 3, 1, 2, 4))
    waveform = tf.signal.inverse_stft(
        tf.complex(spectrum[..., 0], spectrum[..., 1]),
        FRAME_LENGTH,
        HOP_LENGTH,
        FRAME_LENGTH,
        window_fn=tf.signal.inverse_stft_window_fn(HOP_LENGTH),
    )
    n_samples = HOP_LENGTH * (spectrum.shape[2] - 1) + FRAME_LENGTH
    return tf.transpose(tf.ensure_shape(waveform, (*waveform.shape[:-1], n_samples)), (0, 2, 1))


def get_report_weights(model: keras.Model) -> dict[str, Any]:
    """Return the weights of a `report_network`, in the form of `sepkit.weights`."""
    sources = _sources(model)
    names = [*ENCODER, *(f"{n}_{s}" for s in sources for n in DECODER)]
    pairs = {name: tuple(model.get_layer(name).get_weights()) for name in names}
    return from_report(pairs, sources=sources)


def set_report_weights(model: keras.Model, values: Weights) -> None:
    """Set the weights of a `report_network`, given in the form of `sepkit.weights`."""
    for name, pair in to_report(values, sources=_sources(model)).items():
        model.get_layer(name).set_weights(pair)


def _sources(model: keras.Model) -> tuple[str, ...]:
    prefix = "single_dense_"
    names = [layer.name for layer in model.layers if layer.name.startswith(prefix)]
    return tuple(name.removeprefix(prefix) for name in names)


Layers = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""A kernel and a bias for each of the report's layers, by name."""


def to_report(
    weights: Weights, *, sources: Sequence[str] = SOURCES
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Convert a network to the report's layers: kernel and bias by name, in Keras' shapes."""
    layers = {}
    for layer in ENCODER:
        kernel, bias = weights[f"{layer}/kernel"], weights[f"{layer}/bias"]
        layers[layer] = (_to_conv2d(layer, kernel), bias)
    for i, source in enumerate(sources):
        for layer in DECODER:
            kernel, bias = weights[f"{layer}/kernel"][i], weights[f"{layer}/bias"][i]
            layers[f"{layer}_{source}"] = (_to_conv2d(layer, kernel), bias)
    return layers


def from_report(layers: Layers, *, sources: Sequence[str] = SOURCES) -> dict[str, np.ndarray]:
    """Convert the report's layers, kernel and bias by name in Keras' shapes, to a network.

    A layer that is missing or of the wrong shape raises a `ModelError`.
    """
    values = {}
    try:
        for layer in ENCODER:
            kernel, bias = layers[layer]
            values[f"{layer}/kernel"] = _from_conv2d(layer, kernel)
            values[f"{layer}/bias"] = np.asarray(bias, np.float32)
        for layer in DECODER:
            pairs = [layers[f"{layer}_{source}"] for source in sources]
            values[f"{layer}/kernel"] = np.stack([_from_conv2d(layer, k) for k, _ in pairs])
            values[f"{layer}/bias"] = np.stack([np.asarray(b, np.float32) for _, b in pairs])
    except KeyError as error:
        raise ModelError(
            f"weights: layer {error} is missing; give a file of the report's network"
        ) from None
    check_shapes(values)
    return values


def _to_conv2d(layer: str, kernel: np.ndarray) -> np.ndarray:
    if layer.startswith("vertical"):
        return kernel[np.newaxis]
    if layer.startswith("horizontal"):
        return kernel[:, np.newaxis]
    return kernel


def _from_conv2d(layer: str, kernel: np.ndarray) -> np.ndarray:
    kernel = np.asarray(kernel, np.float32)
    if layer.startswith("vertical"):
        return np.asarray(kernel[0])
    if layer.startswith("horizontal"):
        return kernel[:, 0]
    return kernel


def read_report_file(
    path: str | os.PathLike[str], *, sources: Sequence[str] = SOURCES
) -> dict[str, np.ndarray]:
    """Read weights that the report's code saved (Keras' older HDF5 layout).

    The file has a group per layer that holds datasets ``kernel`` and ``bias``. The network has the
    form of `sepkit.weights`, to separate with or to save. A `ModelError` says what is wrong.
    """
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such weight file; check the path")
    layers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    try:
        with h5py.File(path, "r") as file:
            for layer, group in file.get("model_weights", file).items():
                found: dict[str, np.ndarray] = {}

                def collect(name: str, item: Any, found: dict[str, np.ndarray] = found) -> None:
                    if isinstance(item, h5py.Dataset):
                        # Keras writes "LAYER/kernel:0" below the layer's own group.
                        found[name.rsplit("/", 1)[-1].split(":")[0]] = item[()]

                if isinstance(group, h5py.Group):
                    group.visititems(collect)
                if {"kernel", "bias"} <= found.keys():
                    layers[layer] = (found["kernel"], found["bias"])
    except OSError as error:
        raise ModelError(f"{path}: not an HDF5 weight file; give NAME.h5") from error
    try:
        return from_report(layers, sources=sources)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
