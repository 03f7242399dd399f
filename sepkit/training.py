"""Training: segments on disk, the schedule as data, a step compiled once, exact resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from sepkit import spectral
from sepkit.datasets import RATE, Track
from sepkit.errors import DatasetError, ModelError, ParameterError
from sepkit.losses import report_loss
from sepkit.spectral import FRAME, HOP, SEGMENT

BATCH_SIZE = 32
"""Segments a step, as in the report."""


@dataclass(frozen=True)
class Epoch:
    """One pass over some songs.

    Parameters
    ----------
    repetition, block, epoch : int
        Its place in the schedule, from 0.
    first, last : int
        The songs it takes, by their index: `first` up to, without, `last`.
    """

    repetition: int
    block: int
    epoch: int
    first: int
    last: int


def report_schedule(
    n_songs: int = 50, *, size: int = 10, step: int = 5, epochs: int = 10, repetitions: int = 3
) -> tuple[Epoch, ...]:
    """List the epochs of the report's schedule.

    Parameters
    ----------
    n_songs : int
        Songs in all.
    size : int
        Songs a block.
    step : int
        Songs between the starts of blocks.
    epochs : int
        Epochs on a block before the next one.
    repetitions : int
        Times that all blocks are gone through.

    Returns
    -------
    tuple of Epoch
        270 for the report: 3 repetitions of 9 blocks, songs (0, 10), (5, 15) to (40, 50), of 10
        epochs each. Fewer songs than a block make one block.
    """
    if min(n_songs, size, step, epochs, repetitions) < 1:
        raise ParameterError("schedule: every number of it must be at least 1")
    blocks = [(start, start + size) for start in range(0, n_songs - size + 1, step)]
    blocks = blocks or [(0, n_songs)]
    return tuple(
        Epoch(repetition, block, epoch, first, last)
        for repetition in range(repetitions)
        for block, (first, last) in enumerate(blocks)
        for epoch in range(epochs)
    )


class SegmentStore:
    """The songs' segments in a file that is mapped into memory, not read into it.

    Parameters
    ----------
    tracks : sequence of Track
        The songs.
    channels : int
        Channels to keep: the first ones. One keeps the left channel and drops the right, as the
        report's decoder does.

    Attributes
    ----------
    segments : ndarray of shape (n_segments, 7168, channels, 4), float32
        True sources of all songs, one after the other.
    starts : ndarray of shape (n_songs + 1,), int
        Where each song's segments start, and where the last one's end.
    """

    def __init__(self, tracks: Sequence[Track], *, channels: int = 1):
        if not tracks:
            raise DatasetError("no songs to train on; give at least one")
        self._folder = tempfile.TemporaryDirectory(prefix="sepkit-")
        path = Path(self._folder.name) / "segments.f32"
        counts = []
        with open(path, "wb") as file:
            for track in tqdm(tracks, desc="reading songs", unit="song", leave=False):
                pieces = _song_segments(track, channels)
                file.write(pieces.tobytes())
                counts.append(len(pieces))
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        shape = (int(self.starts[-1]), SEGMENT, channels, 4)
        self.segments = np.memmap(path, np.float32, "r", shape=shape)

    def order(self, epoch: Epoch, batch_size: int, seed: Sequence[int]) -> np.ndarray:
        """Shuffle the segments of an epoch's songs.

        Parameters
        ----------
        epoch : Epoch
            Which songs.
        batch_size : int
            Segments a batch; what does not fill the last one is dropped before the shuffle,
            always the same segments, as in the report.
        seed : sequence of int
            Seed of the shuffle.

        Returns
        -------
        ndarray of shape (n_batches, batch_size), int64
            Indices into `segments`.
        """
        first, last = self.starts[epoch.first], self.starts[epoch.last]
        n_batches = int(last - first) // batch_size
        shuffled = np.random.default_rng(seed).permutation(n_batches * batch_size)
        return (first + shuffled).reshape(n_batches, batch_size)


def _song_segments(track: Track, channels: int) -> np.ndarray:
    # A copy that forgets the song when this returns: whole songs would fill the memory.
    stems = list(track.excerpt().stems.values())
    if track.rate != RATE:
        raise DatasetError(
            f"{track.name}: rate {track.rate} Hz; training takes songs at {RATE} Hz, resample it"
        )
    if stems[0].shape[1] < channels:
        raise DatasetError(
            f"{track.name}: {stems[0].shape[1]} channel, the model takes {channels}; leave it out"
        )
    return spectral.segments(np.stack([stem[:, :channels] for stem in stems], axis=-1))


def separate_segments(model: keras.Model, mixtures: tf.Tensor) -> tf.Tensor:
    """Separate segments the report's way, each alone, differentiably.

    Parameters
    ----------
    model : keras.Model
        From magnitudes to masks.
    mixtures : tensor of shape (batch, 7168, channels), float32
        Segments of the mixture.

    Returns
    -------
    tensor of shape (batch, 7168, channels, n_sources), float32
        Estimated segments, faded over 768 samples at either end.
    """
    spectrum = tf.signal.stft(tf.transpose(mixtures, (0, 2, 1)), FRAME, HOP, FRAME)
    masks = model(tf.transpose(tf.abs(spectrum), (0, 2, 3, 1)), training=True)
    masks = tf.transpose(masks, (0, 3, 4, 1, 2))
    estimates = tf.signal.inverse_stft(
        tf.cast(masks, tf.complex64) * spectrum[:, :, tf.newaxis],
        FRAME,
        HOP,
        FRAME,
        window_fn=tf.signal.inverse_stft_window_fn(HOP),
    )
    return tf.transpose(estimates, (0, 3, 1, 2))


def batches(store: SegmentStore, order: np.ndarray) -> tf.data.Dataset:
    """Read batches of true sources, ahead of the step that takes them.

    Parameters
    ----------
    store : SegmentStore
        The segments.
    order : ndarray of shape (n_batches, batch_size), int64
        Which segments.

    Returns
    -------
    tf.data.Dataset
        Of tensors (batch_size, 7168, channels, n_sources), float32, in the order given.
    """
    shape = (order.shape[1], *store.segments.shape[1:])

    def gather(indices):
        read = tf.numpy_function(lambda i: store.segments[i], [indices], tf.float32)
        return tf.ensure_shape(read, shape)

    # One reader keeps the order; it runs while the step computes.
    return tf.data.Dataset.from_tensor_slices(order).map(gather).prefetch(4)


def fit(
    model: keras.Model,
    tracks: Sequence[Track],
    *,
    schedule: Sequence[Epoch],
    optimizer: keras.Optimizer,
    loss: Callable = report_loss,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_steps: int = 500,
    stop_after: int | None = None,
) -> list[dict]:
    """Train a model, or go on where a checkpoint stopped.

    Parameters
    ----------
    model : keras.Model
        Of `sepkit.build_model`; its arrays are changed.
    tracks : sequence of Track
        The songs, in the order that the schedule counts them.
    schedule : sequence of Epoch
        What to go through.
    optimizer : keras.Optimizer
        The optimiser, unused so far.
    loss : callable
        From true and estimated segments, ``(batch, 7168, channels, 4)``, to a scalar.
    batch_size : int
        Segments a step.
    seed : int
        Seed of the shuffles.
    checkpoint : str or Path, optional
        A file that holds the state: read when it exists, written now and then, and at the end.
    checkpoint_steps : int
        Steps between writings.
    stop_after : int, optional
        Stop once this many steps are done in all, to go on another time.

    Returns
    -------
    list of dict
        The history: repetition, block, epoch, steps and mean loss of each epoch that was
        finished, those before the checkpoint included.

    Raises
    ------
    DatasetError
        When songs do not fit the model or the network's rate.
    ModelError
        When the checkpoint is of another run.
    """
    channels = int(model.inputs[0].shape[3])
    store = SegmentStore(tracks, channels=channels)
    variables = model.trainable_variables
    optimizer.build(variables)

    @tf.function(jit_compile=True)
    def step(targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(targets, separate_segments(model, tf.reduce_sum(targets, axis=-1)))
        optimizer.apply(tape.gradient(value, variables), variables)
        return value

    state = _State(model, optimizer, _fingerprint(tracks, schedule, batch_size, seed, optimizer))
    if checkpoint is not None and Path(checkpoint).exists():
        state.load(checkpoint)

    orders = [store.order(epoch, batch_size, (seed, i)) for i, epoch in enumerate(schedule)]
    if not all(len(order) for order in orders):
        raise DatasetError(
            f"songs too short: a block fills no batch of {batch_size} segments; give more"
        )
    total = sum(len(order) for order in orders)
    limit = total if stop_after is None else min(total, stop_after)
    with tqdm(total=total, initial=state.steps, desc="training", unit="step") as progress:
        for i in range(len(state.history), len(schedule)):
            for targets in batches(store, orders[i][len(state.losses) :]):
                if state.steps >= limit:
                    break
                state.losses.append(float(step(targets)))
                state.steps += 1
                progress.update()
                if checkpoint is not None and state.steps % checkpoint_steps == 0:
                    state.save(checkpoint)
            if len(state.losses) < len(orders[i]):
                break
            state.finish(schedule[i])
            progress.set_postfix(loss=f"{state.history[-1]['loss']:.4g}")
    if checkpoint is not None:
        state.save(checkpoint)
    return state.history


def _fingerprint(tracks, schedule, batch_size, seed, optimizer) -> str:
    config = {k: v for k, v in optimizer.get_config().items() if k != "name"}
    told = [[track.name for track in tracks], list(map(str, schedule)), batch_size, seed, config]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class _State:
    """Where a training stands: arrays, the optimiser's slots, and the losses so far."""

    def __init__(self, model: keras.Model, optimizer: keras.Optimizer, fingerprint: str):
        self.variables = [*model.trainable_variables, *optimizer.variables]
        self.fingerprint = fingerprint
        self.steps = 0
        self.losses: list[float] = []
        self.history: list[dict] = []
        self._clock = time.perf_counter()

    def finish(self, epoch: Epoch) -> None:
        now = time.perf_counter()
        self.history.append(
            {
                "repetition": epoch.repetition,
                "block": epoch.block,
                "epoch": epoch.epoch,
                "steps": len(self.losses),
                "loss": float(np.mean(self.losses)),
                "seconds": round(now - self._clock, 3),
            }
        )
        self.losses, self._clock = [], now

    def save(self, path: str | os.PathLike) -> None:
        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with h5py.File(beside, "w") as file:
                for i, variable in enumerate(self.variables):
                    file[f"variables/{i:03d}"] = keras.ops.convert_to_numpy(variable)
                file["losses"] = np.asarray(self.losses, np.float64)
                file["history"] = json.dumps(self.history)
                file.attrs["steps"] = self.steps
                file.attrs["fingerprint"] = self.fingerprint
            os.replace(beside, path)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)

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


def epoch_losses(history: Sequence[dict]) -> Iterator[tuple[int, float]]:
    """Go through a history as steps and losses.

    Parameters
    ----------
    history : sequence of dict
        Of `fit`.

    Yields
    ------
    steps : int
        Steps done by the end of an epoch.
    loss : float
        Its mean loss.
    """
    steps = 0
    for row in history:
        steps += row["steps"]
        yield steps, row["loss"]
