"""Losses, objectives and tied weights of Experiment 3 and of the arms.

A loss compares true and estimated sources. An objective maps a model and true sources
``(batch, 4, 7168, channels)`` to a scalar; functions of a loss and an STFT make it (`OBJECTIVES`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from sepkit import network
from sepkit.losses import ALPHA, BETA, GAMMA, mean_over_batch, report_loss
from sepkit.model import MaskNetwork
from sepkit.stft import FRAME_LENGTH, REPORT_TRANSFORM, Transform
from sepkit.tracks import SOURCES
from sepkit.training import (
    Objective,
    resynthesize,
    separate_batch,
    stft_segments,
    waveform_objective,
)

Loss = Callable[..., Any]
"""From true and estimated sources, and ``axis``, the axis of the sources, to a scalar."""

_LOUD = 71.68
"""Energy of 7168 samples with an RMS of 0.1."""
_FLOOR = 1.0
"""Energy added to keep near-silence from dominating."""


def complete_loss(
    y_true: Any,
    y_pred: Any,
    *,
    axis: int = -1,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float = GAMMA,
) -> Any:
    """Compute the report's loss with the missing term: "other" against its truth.

    Arguments are those of `sepkit.losses.report_loss`.
    """
    xp = network.array_namespace(y_pred)
    other = SOURCES.index("other")
    true, estimate = (xp.moveaxis(y, axis, 0)[other] for y in (y_true, y_pred))
    missing = xp.sum(xp.square(true - estimate))
    rest = report_loss(y_true, y_pred, axis=axis, alpha=alpha, beta=beta, gamma=gamma)
    return rest + mean_over_batch(missing, y_pred)


def relative_loss(y_true: Any, y_pred: Any, *, axis: int = -1) -> Any:
    """Compute the squared error of all sources, each segment scaled to one loudness.

    The errors of a segment are multiplied by 71.68 / (E + 1), E being the energy of its mixture,
    summed, and divided by the batch size. 71.68 is the energy of 7168 samples with an RMS of 0.1;
    the 1 keeps near-silence from dominating.
    """
    xp = network.array_namespace(y_pred)
    error = xp.sum(xp.square(y_true - y_pred), axis=(1, 2, 3))
    energy = xp.sum(xp.square(xp.sum(y_true, axis=axis)), axis=(1, 2))
    return mean_over_batch(xp.sum(error * (_LOUD / (energy + _FLOOR))), y_pred)


def balanced_loss(y_true: Any, y_pred: Any, *, axis: int = -1) -> Any:
    """Compute the squared error of all sources, each relative to its own energy.

    That of each source of each segment is divided by E_s + E / 10 + 1, E_s being the energy of
    the source and E that of the mixture, and multiplied by 71.68 / 4, the scale of `relative_loss`.
    Without a tenth of the mixture, a silent source would weigh without bound.
    """
    xp = network.array_namespace(y_pred)
    true, estimate = (xp.moveaxis(y, axis, 1) for y in (y_true, y_pred))
    error = xp.sum(xp.square(true - estimate), axis=(2, 3))
    own = xp.sum(xp.square(true), axis=(2, 3))
    whole = xp.sum(xp.square(xp.sum(true, axis=1)), axis=(1, 2))[:, None]
    weight = _LOUD / 4 / (own + whole / 10 + _FLOOR)
    return mean_over_batch(xp.sum(error * weight), y_pred)


def spectrum_objective(
    loss: Loss = report_loss, *, transform: Transform = REPORT_TRANSFORM
) -> Objective:
    """Return the objective that compares complex spectra, scaled to the energy of the waveforms."""

    def objective(model: keras.Model, targets: tf.Tensor) -> tf.Tensor:
        true = _scaled_spectra(targets, transform)
        masks = _mixture_masks(model, targets, transform)
        mixture = tf.reduce_sum(true, axis=1, keepdims=True)

        def parts(spectrum: tf.Tensor) -> tf.Tensor:
            return tf.concat([tf.math.real(spectrum), tf.math.imag(spectrum)], axis=2)

        return loss(parts(true), parts(mixture) * tf.concat([masks, masks], axis=2), axis=1)

    return objective


def magnitude_objective(
    loss: Loss = report_loss, *, transform: Transform = REPORT_TRANSFORM
) -> Objective:
    """Return the objective that compares magnitudes, scaled to the energy of the waveforms."""

    def objective(model: keras.Model, targets: tf.Tensor) -> tf.Tensor:
        true = _scaled_spectra(targets, transform)
        mixture = tf.abs(tf.reduce_sum(true, axis=1, keepdims=True))
        return loss(tf.abs(true), mixture * _mixture_masks(model, targets, transform), axis=1)

    return objective


def faded_objective(
    loss: Loss = report_loss, *, transform: Transform = REPORT_TRANSFORM
) -> Objective:
    """Return the objective that compares faded estimates with sources faded in the same way."""

    def objective(model: keras.Model, targets: tf.Tensor) -> tf.Tensor:
        mixtures = tf.reduce_sum(targets, axis=1)
        estimates = separate_batch(model, mixtures, transform=transform)
        fade = fading(targets.shape[2], transform)[:, np.newaxis]
        return loss(targets * fade, estimates, axis=1)

    return objective


def accompaniment_objective(
    loss: Loss = report_loss, *, transform: Transform = REPORT_TRANSFORM
) -> Objective:
    """Return the report's objective with a fifth decoder, for everything but the vocals.

    The four sources keep their masks. The fifth is set against the vocals alone: its mask is
    ``y5 / (y5 + y_vocals)``. That is an inference: the paper names a fifth output and gives no
    formula. An accompaniment summed from the other three estimates would add nothing: the four
    sum to the mixture, so its error would be that of the vocals.
    """
    vocals = SOURCES.index("vocals")

    def objective(model: keras.Model, targets: tf.Tensor) -> tf.Tensor:
        mixtures = tf.transpose(tf.reduce_sum(targets, axis=1), (0, 2, 1))
        spectrum = stft_segments(mixtures, transform)
        decoded = model(tf.transpose(tf.abs(spectrum), (0, 2, 3, 1)), training=True)
        decoded = tf.transpose(decoded, (1, 0, 2, 3, 4))
        four = network.normalize(decoded[:4])
        fifth = network.normalize(tf.stack([decoded[4], decoded[vocals]]))[:1]
        masks = tf.transpose(tf.concat([four, fifth], axis=0), (1, 0, 2, 3, 4))
        estimates = resynthesize(masks, spectrum, transform)
        accompaniment = tf.reduce_sum(targets, axis=1) - targets[:, vocals]
        error = tf.reduce_sum(tf.square(accompaniment - estimates[:, 4]))
        return loss(targets, estimates[:, :4], axis=1) + error / targets.shape[0]

    return objective


LOSSES = {
    "report": report_loss,
    "complete": complete_loss,
    "relative": relative_loss,
    "balanced": balanced_loss,
}
"""Losses by name; the last two have no weights alpha, beta, gamma."""


def fading(n_samples: int, transform: Transform) -> np.ndarray:
    """Compute the gain of `n_samples` samples that are transformed and inverted as one segment.

    1 where all overlapping frames cover a sample, less towards both ends: float32 (n_samples,).
    """
    squares = transform.window_values() ** 2
    n_frames = (n_samples - FRAME_LENGTH) // transform.hop_length + 1
    covered = np.zeros(n_samples, np.float32)
    for start in range(0, n_frames * transform.hop_length, transform.hop_length):
        covered[start : start + FRAME_LENGTH] += squares
    whole = squares.reshape(-1, transform.hop_length).sum(axis=0)
    return np.asarray(covered / np.resize(whole, n_samples))


OBJECTIVES = {
    "waveform": waveform_objective,
    "faded waveform": faded_objective,
    "spectrum": spectrum_objective,
    "magnitude": magnitude_objective,
    "waveform, accompaniment": accompaniment_objective,
}
"""What is compared, by name."""

EXTRA_SOURCES = {"waveform, accompaniment": ("accompaniment",)}
"""Decoders that an objective needs besides those of the four sources."""


def _scaled_spectra(targets: tf.Tensor, transform: Transform) -> tf.Tensor:
    """Return the spectra (batch, 4, 25, 513, channels), scaled to the energy of the waveforms."""
    spectrum = stft_segments(tf.transpose(targets, (0, 1, 3, 2)), transform)
    # The sum of squared windows (3/2 for the report's); only half of the 1024 bins are kept.
    squares = transform.window_values().astype(np.float64) ** 2
    overlap = float(np.sum(squares)) / transform.hop_length
    return tf.transpose(spectrum, (0, 1, 3, 4, 2)) / (overlap / 2 * FRAME_LENGTH) ** 0.5


def _mixture_masks(model: keras.Model, targets: tf.Tensor, transform: Transform) -> tf.Tensor:
    """Return the model's masks for the sum of the true sources."""
    mixture = tf.transpose(tf.reduce_sum(targets, axis=1), (0, 2, 1))
    spectrum = stft_segments(mixture, transform)
    return model(tf.transpose(tf.abs(spectrum), (0, 2, 3, 1)), training=True)


class TiedDecoders(MaskNetwork):
    """Deconvolutions that share the encoder's kernels, as in the published code."""

    untrained = ("vertical_deconvolution/kernel", "horizontal_deconvolution/kernel")

    def values(self) -> dict[str, Any]:
        """Return the weights, with the encoder's kernels in the decoders."""
        values = super().values()
        n_sources = values["single_dense/bias"].shape[0]
        return values | {
            f"{side}_deconvolution/kernel": ops.stack(
                [values[f"{side}_convolution/kernel"]] * n_sources
            )
            for side in ("vertical", "horizontal")
        }


class SharedBassOther(MaskNetwork):
    """One dense layer for bass and "other", as in the published code."""

    def values(self) -> dict[str, Any]:
        """Return the weights, with the dense layer of bass used twice."""
        values = super().values()
        bass, other = SOURCES.index("bass"), SOURCES.index("other")
        order = [bass if i == other else i for i in range(len(SOURCES))]
        # Not ops.take: XLA compiles its gradient to a loop over single numbers.
        return values | {
            name: ops.stack([value[i] for i in order])
            for name, value in values.items()
            if name.startswith("single_dense")
        }


class ScaledInput(MaskNetwork):
    """Magnitudes times 0.3 / 32, as in the published code."""

    def values(self) -> dict[str, Any]:
        """Return the weights, with the scale in the first kernel."""
        values = super().values()
        name = "vertical_convolution/kernel"
        return values | {name: values[name] * (0.3 / FRAME_LENGTH**0.5)}


TIES = {
    "none": MaskNetwork,
    "decoders": TiedDecoders,
    "bass and other": SharedBassOther,
    "input scale": ScaledInput,
}
"""Layers whose weights are tied in training, by name; the saved network is an ordinary one."""
