"""Training: the report's objective, a compiled step, checkpoints."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from sepkit import stft
from sepkit.batches import Batches
from sepkit.errors import ModelError, ParameterError
from sepkit.files import atomic_write, check_writable, remove_parts, writing_to
from sepkit.losses import report_loss
from sepkit.stft import FRAME_LENGTH, REPORT_TRANSFORM, Transform

Objective = Callable[[keras.Model, tf.Tensor], tf.Tensor]
"""From a model and true sources (batch, 4, 7168, channels) to the scalar to minimise."""


def separate_batch(
    model: keras.Model, mixtures: tf.Tensor, *, transform: Transform = REPORT_TRANSFORM
) -> tf.Tensor:
    """Separate segments as the report does, each alone, differentiably.

    Parameters
    ----------
    model : keras.Model
        From magnitudes to masks whose sum is 1.
    mixtures : tensor of shape (batch, 7168, channels), float32
        Segments of the mixture.
    transform : sepkit.stft.Transform
        The STFT; the report's by default.

    Returns
    -------
    tensor of shape (batch, n_sources, 7168, channels), float32
        Estimated segments, faded over 768 samples (1024 less the hop length) at either end.
    """
    spectrum = stft_segments(tf.transpose(mixtures, (0, 2, 1)), transform)
    masks = model(tf.transpose(tf.abs(spectrum), (0, 2, 3, 1)), training=True)
    estimates = resynthesize(masks[:, :-1], spectrum, transform)
    # Masks sum to 1: the last estimate is the rest of the mixture, faded as the others are.
    ones = np.ones((mixtures.shape[1], 1), np.float32)
    spectra_of_ones = stft.transform_frames(ones, transform=transform)
    faded = mixtures * stft.invert_frames(spectra_of_ones, transform=transform)
    rest = faded - tf.reduce_sum(estimates, axis=1)
    return tf.concat([estimates, rest[:, tf.newaxis]], axis=1)


def stft_segments(sounds: tf.Tensor, transform: Transform) -> tf.Tensor:
    """Compute spectra (..., n_frames, 513) of segments (..., n_samples), without padding."""
    window = _window(transform)
    return tf.signal.stft(
        sounds, FRAME_LENGTH, transform.hop_length, FRAME_LENGTH, window_fn=window
    )


def resynthesize(masks: tf.Tensor, spectrum: tf.Tensor, transform: Transform) -> tf.Tensor:
    """Invert masked spectra, each segment alone.

    From masks (batch, n_sources, 25, 513, channels) and spectra of the mixtures (batch, channels,
    25, 513) to estimates (batch, n_sources, 7168, channels).
    """
    masks = tf.transpose(masks, (0, 4, 1, 2, 3))
    estimates = tf.signal.inverse_stft(
        tf.complex(masks, tf.zeros_like(masks)) * spectrum[:, :, tf.newaxis],
        FRAME_LENGTH,
        transform.hop_length,
        FRAME_LENGTH,
        window_fn=tf.signal.inverse_stft_window_fn(transform.hop_length, _window(transform)),
    )
    return tf.transpose(estimates, (0, 2, 3, 1))


def _window(transform: Transform) -> Callable[..., tf.Tensor]:
    # TensorFlow's own where it has the window: ours differs in the last bits.
    if transform.window == "hann":
        return tf.signal.hann_window
    return lambda length, dtype: tf.constant(transform.window_values(), dtype)


def waveform_objective(
    loss: Callable[..., Any] = report_loss, *, transform: Transform = REPORT_TRANSFORM
) -> Objective:
    """Return the report's objective: faded estimates against unfaded sources.

    Parameters
    ----------
    loss : callable
        From true and estimated sources, and ``axis``, the axis of the sources, to a scalar.
    transform : sepkit.stft.Transform
        The STFT; the report's by default.

    Returns
    -------
    callable
        An `Objective`.
    """

    def objective(model: keras.Model, targets: tf.Tensor) -> tf.Tensor:
        mixtures = tf.reduce_sum(targets, axis=1)
        return loss(targets, separate_batch(model, mixtures, transform=transform), axis=1)

    return objective


def _prefetch(batches: Batches, epoch: int) -> tf.data.Dataset:
    """Read the batches of an epoch, in order, ahead of the training step."""

    def read(step: tf.Tensor) -> tf.Tensor:
        value = tf.numpy_function(lambda i: batches.read(epoch, int(i)), [step], tf.float32)
        return tf.ensure_shape(value, batches.shape)

    # There is nothing to tune, and the tuner's thread, which sleeps for up to a minute, would hold
    # up the end of every epoch until it wakes.
    options = tf.data.Options()
    options.autotune.enabled = False
    # A single reader keeps the order and runs while the step computes.
    steps = tf.data.Dataset.range(batches.count(epoch))
    return steps.map(read).prefetch(4).with_options(options)


def fit(
    model: keras.Model,
    batches: Batches,
    *,
    optimizer: keras.Optimizer,
    objective: Objective | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    recipe: Mapping[str, Any] | None = None,
    checkpoint_seconds: float = 10.0,
) -> list[dict[str, Any]]:
    """Train a model, or resume from a checkpoint.

    Within the scope of a ``tf.distribute`` strategy, in which model and optimiser must have been
    made too, each replica takes its share of every batch and gradients are summed: up to rounding,
    the steps are those of one device.

    Parameters
    ----------
    model : keras.Model
        Of `sepkit.build_model`; trained in place.
    batches : Batches
        `sepkit.batches.BlockBatches` or `sepkit.study.remix.RemixBatches`.
    optimizer : keras.Optimizer
        An optimiser that has not been used. If it averages the weights (``use_ema``), the model
        holds the averages at the end.
    objective : callable, optional
        What to minimise; `waveform_objective` by default.
    checkpoint : str or Path, optional
        File for the state at the end of an epoch; read if it exists. A run that was stopped and
        resumed ends with the weights of one that was not.
    recipe : dict, optional
        JSON values that describe the objective; needed with a checkpoint. The checkpoint also
        holds the model's initial weights, the batches with the content of the songs, and the
        optimiser, and belongs to runs alone that equal it in all of them.
    checkpoint_seconds : float
        Least time between two writings of the checkpoint [s].

    Returns
    -------
    list of dict
        The history: for each epoch its label, number of steps, mean loss and seconds, those before
        the checkpoint included.

    Raises
    ------
    ModelError
        When the checkpoint belongs to another run, replicas cannot share a batch evenly, or the
        loss becomes NaN or infinite.
    ParameterError
        When there is a checkpoint and no recipe.
    SepkitError
        When the checkpoint cannot be written; the one written before stays.
    """
    if checkpoint is not None and recipe is None:
        raise ParameterError("checkpoint without a recipe: give recipe={...} that tells runs apart")
    if checkpoint is not None:
        check_writable(checkpoint)
        remove_parts(checkpoint)
    objective = objective or waveform_objective()
    optimizer.build(model.trainable_variables)
    step = _compile_step(model, optimizer, objective, batches.shape)

    state = _State(model, optimizer, batches, recipe or {})
    if checkpoint is not None and Path(checkpoint).exists():
        state.load(checkpoint)
    counts = [batches.count(epoch) for epoch in range(len(batches.labels))]
    done = sum(counts[: len(state.history)])
    saved = clock = time.perf_counter()
    with tqdm(
        total=sum(counts), initial=done, desc="training", unit="step", disable=None
    ) as progress:
        for epoch in range(len(state.history), len(counts)):
            losses = []
            for targets in _prefetch(batches, epoch):
                losses.append(float(step(targets)))
                progress.update()
            if not np.isfinite(losses).all():
                raise ModelError(
                    f"{batches.labels[epoch]}: the loss is no longer finite; train at a lower rate"
                )
            now = time.perf_counter()
            state.history.append(
                {
                    **batches.labels[epoch],
                    "steps": len(losses),
                    "loss": float(np.mean(losses)),
                    "seconds": round(now - clock, 3),
                }
            )
            clock = now
            progress.set_postfix(loss=f"{state.history[-1]['loss']:.4g}")
            last = epoch == len(counts) - 1
            if checkpoint is not None and (last or now - saved >= checkpoint_seconds):
                state.save(checkpoint)
                saved = now
    if optimizer.use_ema:
        optimizer.finalize_variable_values(model.trainable_variables)
    return state.history


def _compile_step(
    model: keras.Model, optimizer: keras.Optimizer, objective: Objective, shape: tuple[int, ...]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Compile a training step, from a batch of true sources of a shape to its loss."""
    variables = model.trainable_variables
    strategy = tf.distribute.get_strategy()
    n_replicas = strategy.num_replicas_in_sync
    if shape[0] % n_replicas:
        raise ModelError(
            f"batches of {shape[0]} segments do not divide by {n_replicas} replicas; change either"
        )

    # Nothing here is for AutoGraph to rewrite; without it, an error names the line it comes from.
    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def gradients(targets: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            # A loss is a mean over segments: the batch's is the mean of the replicas'.
            value = objective(model, targets) / n_replicas
        return value, tape.gradient(value, variables)

    def update(targets: tf.Tensor) -> tf.Tensor:
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        shares = tf.reshape(targets, (n_replicas, shape[0] // n_replicas, *shape[1:]))
        value, slopes = gradients(shares[index])
        optimizer.apply(slopes, variables)  # sums them over the replicas
        return value

    # XLA compiles a whole step on one device, but not the exchange between replicas.
    one_device = not tf.distribute.has_strategy()

    @tf.function(jit_compile=one_device, autograph=False)  # type: ignore[untyped-decorator]
    def step(targets: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(update, (targets,)), axis=None)

    return step


class _State:
    """Training state at the end of an epoch: weights, the optimiser's variables, the history."""

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.Optimizer,
        batches: Batches,
        recipe: Mapping[str, Any],
    ):
        self.variables = [*model.trainable_variables, *optimizer.variables]
        self.history: list[dict[str, Any]] = []
        digest = hashlib.sha256()
        for variable in model.trainable_variables:
            digest.update(keras.ops.convert_to_numpy(variable).tobytes())
        identity = {
            "recipe": dict(recipe),
            "batches": batches.identity(),
            "optimiser": {k: v for k, v in optimizer.get_config().items() if k != "name"},
            "initial weights": digest.hexdigest(),
        }
        # As JSON gives it back, so that it can be compared with what a file holds.
        self.identity = json.loads(json.dumps(identity))

    def save(self, path: str | os.PathLike[str]) -> None:
        # In memory first: on a full disk HDF5 closes its files with errors of its own.
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            for i, variable in enumerate(self.variables):
                file[f"variables/{i:03d}"] = keras.ops.convert_to_numpy(variable)
            file["history"] = json.dumps(self.history)
            file["identity"] = json.dumps(self.identity)
        remedy = "make room and train again; any state written before is kept"
        with writing_to(path, remedy), atomic_write(path) as beside:
            beside.write_bytes(content.getbuffer())

    def load(self, path: str | os.PathLike[str]) -> None:
        try:
            with h5py.File(path, "r") as file:
                identity = json.loads(file["identity"][()])
                if differing := _difference(identity, self.identity):
                    raise ModelError(
                        f"{path}: checkpoint of another run, {differing}; delete it or name "
                        "another file"
                    )
                for i, variable in enumerate(self.variables):
                    variable.assign(file[f"variables/{i:03d}"][()])
                self.history = json.loads(file["history"][()])
        except (OSError, KeyError, ValueError) as error:
            text = "not a checkpoint; delete it or name another file"
            if number := getattr(error, "errno", None):  # of a file that may be good
                text = f"cannot be read ({os.strerror(number)}); make it readable"
            raise ModelError(f"{path}: {text}") from error


def _difference(there: Any, here: Any, name: str = "") -> str:
    """Describe the first difference between two JSON values: "name is A there and B here"."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*here, *(key for key in there if key not in here)]:
            inner = f"{name} {key}".strip()
            if text := _difference(there.get(key), here.get(key), inner):
                return text
        return "" if list(there) == list(here) else f"{name} in another order"
    return "" if there == here else f"{name} is {_short(there)} there and {_short(here)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
