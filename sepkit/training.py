"""Training: batches read ahead, a step compiled once, exact resume."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from sepkit import network
from sepkit.datasets import SOURCES
from sepkit.errors import ModelError
from sepkit.files import written_whole
from sepkit.losses import report_loss
from sepkit.sampling import Batches
from sepkit.spectral import FRAME, REPORT_TRANSFORM, Transform


def separate_segments(
    model: keras.Model, mixtures: tf.Tensor, *, transform: Transform = REPORT_TRANSFORM
) -> tf.Tensor:
    """Separate segments the report's way, each alone, differentiably.

    Parameters
    ----------
    model : keras.Model
        From magnitudes to masks.
    mixtures : tensor of shape (batch, 7168, channels), float32
        Segments of the mixture.
    transform : sepkit.spectral.Transform
        The STFT; the report's by default.

    Returns
    -------
    tensor of shape (batch, 7168, channels, n_sources), float32
        Estimated segments, faded over 768 samples (1024 less the hop) at either end.
    """
    spectrum = _stft(tf.transpose(mixtures, (0, 2, 1)), transform)
    masks = model(tf.transpose(tf.abs(spectrum), (0, 2, 3, 1)), training=True)
    return _resynthesize(masks, spectrum, transform)


def _resynthesize(masks: tf.Tensor, spectrum: tf.Tensor, transform: Transform) -> tf.Tensor:
    """Invert masks (batch, 25, 513, channels, n) times a spectrum (batch, channels, 25, 513)."""
    masks = tf.transpose(masks, (0, 3, 4, 1, 2))
    estimates = tf.signal.inverse_stft(
        tf.complex(masks, tf.zeros_like(masks)) * spectrum[:, :, tf.newaxis],
        FRAME,
        transform.hop,
        FRAME,
        window_fn=tf.signal.inverse_stft_window_fn(transform.hop, _window(transform)),
    )
    return tf.transpose(estimates, (0, 3, 1, 2))


def _window(transform: Transform) -> Callable:
    # TensorFlow's own, where it has the window: it differs in the last bits.
    if transform.window == "hann":
        return tf.signal.hann_window
    return lambda length, dtype: tf.constant(transform.values(), dtype)


def _stft(sounds: tf.Tensor, transform: Transform) -> tf.Tensor:
    """Transform (..., n_samples) to complex (..., n_frames, 513)."""
    return tf.signal.stft(sounds, FRAME, transform.hop, FRAME, window_fn=_window(transform))


Objective = Callable[[keras.Model, tf.Tensor], tf.Tensor]
"""From a model and true sources (batch, 7168, channels, 4) to the scalar to be made small."""


def read_ahead(batches: Batches, epoch: int, first: int = 0) -> tf.data.Dataset:
    """Read the batches of an epoch, ahead of the step that takes them.

    Parameters
    ----------
    batches : Batches
        Where they come from.
    epoch : int
        Which epoch.
    first : int
        Step to begin with.

    Returns
    -------
    tf.data.Dataset
        Of tensors (batch_size, 7168, channels, n_sources), float32, in order.
    """

    def read(step):
        value = tf.numpy_function(lambda i: batches.read(epoch, int(i)), [step], tf.float32)
        return tf.ensure_shape(value, batches.shape)

    # One reader keeps the order; it runs while the step computes.
    return tf.data.Dataset.range(first, batches.count(epoch)).map(read).prefetch(4)


def waveform_objective(
    loss: Callable = report_loss, *, transform: Transform = REPORT_TRANSFORM
) -> Objective:
    """Compare segments as the report does: faded estimates with unfaded sources.

    Parameters
    ----------
    loss : callable
        From true and estimated sources, sources last, to a scalar.
    transform : sepkit.spectral.Transform
        The STFT; the report's by default.

    Returns
    -------
    callable
        An `Objective`.
    """

    def objective(model: keras.Model, targets: tf.Tensor) -> tf.Tensor:
        mixtures = tf.reduce_sum(targets, axis=-1)
        return loss(targets, separate_segments(model, mixtures, transform=transform))

    return objective


def faded_objective(
    loss: Callable = report_loss, *, transform: Transform = REPORT_TRANSFORM
) -> Objective:
    """Compare segments with sources that fade as the estimates do.

    Parameters
    ----------
    loss : callable
        From true and estimated sources, sources last, to a scalar.
    transform : sepkit.spectral.Transform
        The STFT; the report's by default.

    Returns
    -------
    callable
        An `Objective`.
    """

    def objective(model: keras.Model, targets: tf.Tensor) -> tf.Tensor:
        mixtures = tf.reduce_sum(targets, axis=-1)
        estimates = separate_segments(model, mixtures, transform=transform)
        fade = transform.fade(targets.shape[1])[:, np.newaxis, np.newaxis]
        return loss(targets * fade, estimates)

    return objective


def spectrum_objective(
    loss: Callable = report_loss, *, transform: Transform = REPORT_TRANSFORM
) -> Objective:
    """Compare complex spectra, scaled so that their energy is that of the waveform.

    Parameters
    ----------
    loss : callable
        From true and estimated sources, sources last, to a scalar.
    transform : sepkit.spectral.Transform
        The STFT; the report's by default.

    Returns
    -------
    callable
        An `Objective`.
    """

    def objective(model: keras.Model, targets: tf.Tensor) -> tf.Tensor:
        true, masks = _spectra(targets, transform), _masks(model, targets, transform)
        mixture = tf.reduce_sum(true, axis=-1, keepdims=True)

        def parts(spectrum):
            return tf.concat([tf.math.real(spectrum), tf.math.imag(spectrum)], axis=1)

        return loss(parts(true), parts(mixture) * tf.concat([masks, masks], axis=1))

    return objective


def magnitude_objective(
    loss: Callable = report_loss, *, transform: Transform = REPORT_TRANSFORM
) -> Objective:
    """Compare magnitudes, scaled so that their energy is that of the waveform.

    Parameters
    ----------
    loss : callable
        From true and estimated sources, sources last, to a scalar.
    transform : sepkit.spectral.Transform
        The STFT; the report's by default.

    Returns
    -------
    callable
        An `Objective`.
    """

    def objective(model: keras.Model, targets: tf.Tensor) -> tf.Tensor:
        true = _spectra(targets, transform)
        mixture = tf.abs(tf.reduce_sum(true, axis=-1, keepdims=True))
        return loss(tf.abs(true), mixture * _masks(model, targets, transform))

    return objective


def accompaniment_objective(
    loss: Callable = report_loss, *, transform: Transform = REPORT_TRANSFORM
) -> Objective:
    """Ask a fifth decoder for all that is not vocals, beside `waveform_objective`.

    The four sources keep their masks. The fifth is set against the vocals alone: its mask is
    ``y5 / (y5 + y_vocals)``. That is an inference: the paper names a fifth output and gives no
    formula. Nothing would be gained by an accompaniment made of the other three estimates, for
    the four add up to the mixture, and its error would be that of the vocals.

    Parameters
    ----------
    loss : callable
        From true and estimated sources, sources last, to a scalar.
    transform : sepkit.spectral.Transform
        The STFT; the report's by default.

    Returns
    -------
    callable
        An `Objective` for a model of five sources.
    """
    vocals = SOURCES.index("vocals")

    def objective(model: keras.Model, targets: tf.Tensor) -> tf.Tensor:
        mixtures = tf.transpose(tf.reduce_sum(targets, axis=-1), (0, 2, 1))
        spectrum = _stft(mixtures, transform)
        drawn = model(tf.transpose(tf.abs(spectrum), (0, 2, 3, 1)), training=True)
        drawn = tf.transpose(drawn, (4, 0, 1, 2, 3))
        four = network.normalize(drawn[:4])
        fifth = network.normalize(tf.stack([drawn[4], drawn[vocals]]))[:1]
        masks = tf.transpose(tf.concat([four, fifth], axis=0), (1, 2, 3, 4, 0))
        estimates = _resynthesize(masks, spectrum, transform)
        accompaniment = tf.reduce_sum(targets, axis=-1) - targets[..., vocals]
        error = tf.reduce_sum(tf.square(accompaniment - estimates[..., 4]))
        return loss(targets, estimates[..., :4]) + error / targets.shape[0]

    return objective


OBJECTIVES = {
    "waveform": waveform_objective,
    "faded waveform": faded_objective,
    "spectrum": spectrum_objective,
    "magnitude": magnitude_objective,
    "waveform, accompaniment": accompaniment_objective,
}
"""What estimates and truth are compared as, by name."""

EXTRA_SOURCES = {"waveform, accompaniment": ("accompaniment",)}
"""Sources beside the four that an objective needs decoders for."""


def _spectra(targets: tf.Tensor, transform: Transform) -> tf.Tensor:
    """Transform (batch, 7168, channels, n) to complex (batch, 25, 513, channels, n)."""
    spectrum = _stft(tf.transpose(targets, (0, 2, 3, 1)), transform)
    # What the windows' squares add up to (3/2 for the report's), and half of 1024 bins are kept.
    overlap = float(np.sum(transform.values().astype(np.float64) ** 2)) / transform.hop
    return tf.transpose(spectrum, (0, 3, 4, 1, 2)) / (overlap / 2 * FRAME) ** 0.5


def _masks(model: keras.Model, targets: tf.Tensor, transform: Transform) -> tf.Tensor:
    mixture = tf.transpose(tf.reduce_sum(targets, axis=-1), (0, 2, 1))
    spectrum = _stft(mixture, transform)
    return model(tf.transpose(tf.abs(spectrum), (0, 2, 3, 1)), training=True)


def fit(
    model: keras.Model,
    batches: Batches,
    *,
    optimizer: keras.Optimizer,
    objective: Objective | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_steps: int = 500,
    stop_after: int | None = None,
) -> list[dict]:
    """Train a model, or go on where a checkpoint stopped.

    Within the scope of a ``tf.distribute`` strategy, where model and optimiser have to be made
    too, every replica takes its share of each batch, and the gradients are added up: the steps
    are those of one device, up to rounding.

    Parameters
    ----------
    model : keras.Model
        Of `sepkit.build_model`; its arrays are changed.
    batches : Batches
        What to train on: `sepkit.sampling.BlockBatches` or `sepkit.sampling.RemixBatches`.
    optimizer : keras.Optimizer
        The optimiser, unused so far. Where it averages the arrays (``use_ema``), the model has
        the averages at the end.
    objective : callable, optional
        What to make small; `waveform_objective` by default.
    checkpoint : str or Path, optional
        A file that holds the state: read when it exists, written now and then, and at the end.
    checkpoint_steps : int
        Steps between writings.
    stop_after : int, optional
        Stop once this many steps are done in all, to go on another time.

    Returns
    -------
    list of dict
        The history: the epoch's label, steps, mean loss and seconds of each epoch that was
        finished, those before the checkpoint included.

    Raises
    ------
    ModelError
        When the checkpoint is of another run, or the replicas cannot share a batch evenly.
    """
    objective = objective or waveform_objective()
    optimizer.build(model.trainable_variables)
    step = _compile_step(model, optimizer, objective, batches.shape)
    variables = model.trainable_variables

    state = _State(model, optimizer, batches.fingerprint())
    if checkpoint is not None and Path(checkpoint).exists():
        state.load(checkpoint)

    n_epochs = len(batches.labels)
    total = sum(batches.count(epoch) for epoch in range(n_epochs))
    limit = total if stop_after is None else min(total, stop_after)
    with tqdm(total=total, initial=state.steps, desc="training", unit="step") as progress:
        for epoch in range(len(state.history), n_epochs):
            for targets in read_ahead(batches, epoch, len(state.losses)):
                if state.steps >= limit:
                    break
                state.losses.append(float(step(targets)))
                state.steps += 1
                progress.update()
                if checkpoint is not None and state.steps % checkpoint_steps == 0:
                    state.save(checkpoint)
            if len(state.losses) < batches.count(epoch):
                break
            state.finish(batches.labels[epoch])
            progress.set_postfix(loss=f"{state.history[-1]['loss']:.4g}")
    if checkpoint is not None:
        state.save(checkpoint)
    if optimizer.use_ema:
        optimizer.finalize_variable_values(variables)
    return state.history


def _compile_step(
    model: keras.Model, optimizer: keras.Optimizer, objective: Objective, shape: tuple[int, ...]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Compile a step: from a batch of sources to its loss, with the model changed on the way."""
    variables = model.trainable_variables
    strategy = tf.distribute.get_strategy()
    n_replicas = strategy.num_replicas_in_sync
    if shape[0] % n_replicas:
        raise ModelError(
            f"batches of {shape[0]} segments do not divide by {n_replicas} replicas; change either"
        )

    @tf.function(jit_compile=True)
    def gradients(targets: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            # A loss is a mean over segments: that of the batch is the mean of its shares'.
            value = objective(model, targets) / n_replicas
        return value, tape.gradient(value, variables)

    def update(targets: tf.Tensor) -> tf.Tensor:
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        shares = tf.reshape(targets, (n_replicas, shape[0] // n_replicas, *shape[1:]))
        value, slopes = gradients(shares[index])
        optimizer.apply(slopes, variables)  # adds them up over the replicas
        return value

    # XLA compiles a step whole on one device, and not what replicas exchange.
    @tf.function(jit_compile=not tf.distribute.has_strategy())
    def step(targets: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(update, (targets,)), axis=None)

    return step


class _State:
    """Where a training stands: arrays, the optimiser's slots, and the losses so far."""

    def __init__(self, model: keras.Model, optimizer: keras.Optimizer, batches: str):
        self.variables = [*model.trainable_variables, *optimizer.variables]
        config = {k: v for k, v in optimizer.get_config().items() if k != "name"}
        self.fingerprint = f"{batches} {json.dumps(config, sort_keys=True)}"
        self.steps = 0
        self.losses: list[float] = []
        self.history: list[dict] = []
        self._clock = time.perf_counter()

    def finish(self, label: dict) -> None:
        now = time.perf_counter()
        self.history.append(
            {
                **label,
                "steps": len(self.losses),
                "loss": float(np.mean(self.losses)),
                "seconds": round(now - self._clock, 3),
            }
        )
        self.losses, self._clock = [], now

    def save(self, path: str | os.PathLike) -> None:
        with written_whole(path) as beside, h5py.File(beside, "w") as file:
            for i, variable in enumerate(self.variables):
                file[f"variables/{i:03d}"] = keras.ops.convert_to_numpy(variable)
            file["losses"] = np.asarray(self.losses, np.float64)
            file["history"] = json.dumps(self.history)
            file.attrs["steps"] = self.steps
            file.attrs["fingerprint"] = self.fingerprint

    def load(self, path: str | os.PathLike) -> None:
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("fingerprint") != self.fingerprint:
                    raise ModelError(
                        f"{path}: checkpoint of another run (songs, schedule, seed or optimiser "
                        "differ); delete it or name another file"
                    )
                for i, variable in enumerate(self.variables):
                    variable.assign(file[f"variables/{i:03d}"][()])
                self.losses = file["losses"][()].tolist()
                self.history = json.loads(file["history"][()])
                self.steps = int(file.attrs["steps"])
        except (OSError, KeyError) as error:
            raise ModelError(f"{path}: not a checkpoint; delete it or name another file") from error
