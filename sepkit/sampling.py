"""What training sees, step by step: the report's blocks, or songs mixed anew.

Batches are true sources, float32 ``(batch, 7168, channels, 4)``; the mixture is their sum. Which
batch a step takes depends on the seed and the step's place alone, so that a run can go on where it
stopped.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.fft
import soxr
from tqdm import tqdm

from sepkit import effects, spectral
from sepkit.datasets import RATE, SOURCES, Track
from sepkit.errors import DatasetError, ParameterError
from sepkit.spectral import SEGMENT

BATCH_SIZE = 32
"""Segments a step, as in the report."""


class Batches(Protocol):
    """What `sepkit.training.fit` takes its batches from."""

    labels: Sequence[dict]
    """What to write into the history for each epoch."""

    shape: tuple[int, ...]
    """Shape of every batch: (batch, 7168, channels, 4)."""

    def count(self, epoch: int) -> int:
        """Count the steps of an epoch.

        Parameters
        ----------
        epoch : int
            Its place, from 0.

        Returns
        -------
        int
            Steps.
        """

    def read(self, epoch: int, step: int) -> np.ndarray:
        """Give the batch of a step.

        Parameters
        ----------
        epoch : int
            The epoch's place, from 0.
        step : int
            The step's place in it, from 0.

        Returns
        -------
        ndarray of shape `shape`, float32
            True sources.
        """

    def fingerprint(self) -> str:
        """Tell one sequence of batches from another.

        Returns
        -------
        str
            Equal where the batches are.
        """


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
    speeds : sequence of float
        Each song is kept at each of these speeds, pitch and tempo together.
    processed : int
        How many times more it is kept at each speed, its stems through random effects.
    length : int
        Samples a segment.
    step : int, optional
        Samples between the starts of a song's segments; end to end by default.

    Attributes
    ----------
    segments : ndarray of shape (n_segments, 7168, channels, 4), float32
        True sources of all songs, one after the other.
    starts : ndarray of shape (n_songs * n_speeds * (1 + processed) + 1,), int
        Where each song's segments start, and where the last one's end.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        *,
        channels: int = 1,
        speeds: Sequence[float] = (1.0,),
        processed: int = 0,
        length: int = SEGMENT,
        step: int | None = None,
    ):
        if not tracks:
            raise DatasetError("no songs to train on; give at least one")
        self._folder = tempfile.TemporaryDirectory(prefix="sepkit-")
        path = Path(self._folder.name) / "segments.f32"
        counts = []
        with open(path, "wb") as file:
            for track in tqdm(tracks, desc="reading songs", unit="song", leave=False):
                sources = _song_sources(track, channels)
                rng = np.random.default_rng(zlib.crc32(track.name.encode()))
                for speed in speeds:
                    dry = _at_speed(sources, speed)
                    wet = (_through_effects(dry, rng) for _ in range(processed))
                    for sound in chain([dry], wet):
                        pieces = spectral.segments(sound, length=length, step=step)
                        file.write(pieces.tobytes())
                        counts.append(len(pieces))
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        shape = (int(self.starts[-1]), length, channels, len(SOURCES))
        self.segments = np.memmap(path, np.float32, "r", shape=shape)


@lru_cache(maxsize=1)
def _store(tracks: tuple[Track, ...], **options) -> SegmentStore:
    """Read songs once where one training follows another on the same ones."""
    return SegmentStore(tracks, **options)


def _song_sources(track: Track, channels: int) -> np.ndarray:
    """Stack a song's stems: (n_samples, channels, 4)."""
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
    return np.stack([stem[:, :channels] for stem in stems], axis=-1)


def _at_speed(sources: np.ndarray, speed: float) -> np.ndarray:
    if speed == 1.0:
        return sources
    flat = soxr.resample(sources.reshape(len(sources), -1), RATE * speed, RATE)
    return flat.reshape(len(flat), *sources.shape[1:])


def _through_effects(sources: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    stems = np.moveaxis(sources, -1, 0)
    return np.stack([effects.random_effects(stem, rng) for stem in stems], axis=-1)


class BlockBatches:
    """The report's batches: an epoch's songs, cut into segments, shuffled.

    What does not fill the last batch of an epoch is dropped before the shuffle, always the same
    segments, as in the report.

    Parameters
    ----------
    tracks : sequence of Track
        The songs, in the order that the schedule counts them.
    schedule : sequence of Epoch
        What to go through.
    channels : int
        Channels of the model.
    batch_size : int
        Segments a step.
    seed : int
        Seed of the shuffles.
    length : int
        Samples a segment.
    step : int, optional
        Samples between the starts of a song's segments; end to end by default, as in the report.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        schedule: Sequence[Epoch],
        *,
        channels: int = 1,
        batch_size: int = BATCH_SIZE,
        seed: int = 0,
        length: int = SEGMENT,
        step: int | None = None,
    ):
        self.store = _store(tuple(tracks), channels=channels, length=length, step=step)
        self.schedule, self.batch_size, self.seed = schedule, batch_size, seed
        self.labels = [
            {"repetition": e.repetition, "block": e.block, "epoch": e.epoch} for e in schedule
        ]
        self.shape = (batch_size, *self.store.segments.shape[1:])
        self._told = [[track.name for track in tracks], list(map(str, schedule))]
        if step is not None:
            self._told.append(step)
        if not all(self.count(i) for i in range(len(schedule))):
            raise DatasetError(
                f"songs too short: a block fills no batch of {batch_size} segments; give more"
            )

    def count(self, epoch: int) -> int:
        """Count the steps of an epoch.

        Parameters
        ----------
        epoch : int
            Its place, from 0.

        Returns
        -------
        int
            Steps.
        """
        first, last = self._limits(epoch)
        return (last - first) // self.batch_size

    def order(self, epoch: int) -> np.ndarray:
        """Shuffle the segments of an epoch's songs.

        Parameters
        ----------
        epoch : int
            Its place in the schedule.

        Returns
        -------
        ndarray of shape (n_batches, batch_size), int64
            Indices into the store's segments.
        """
        n_batches = self.count(epoch)
        rng = np.random.default_rng((self.seed, epoch))
        shuffled = rng.permutation(n_batches * self.batch_size)
        return (self._limits(epoch)[0] + shuffled).reshape(n_batches, self.batch_size)

    def read(self, epoch: int, step: int) -> np.ndarray:
        """Give the batch of a step.

        Parameters
        ----------
        epoch : int
            The epoch's place, from 0.
        step : int
            The step's place in it, from 0.

        Returns
        -------
        ndarray of shape `shape`, float32
            True sources.
        """
        return self.store.segments[self.order(epoch)[step]]

    def fingerprint(self) -> str:
        """Tell one sequence of batches from another.

        Returns
        -------
        str
            Equal where the batches are.
        """
        told = [*self._told, self.shape, self.seed]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def _limits(self, epoch: int) -> tuple[int, int]:
        now = self.schedule[epoch]
        return int(self.store.starts[now.first]), int(self.store.starts[now.last])


@dataclass(frozen=True)
class Remix:
    """How songs are mixed anew.

    Parameters
    ----------
    epochs, steps : int
        How many epochs of how many steps; an epoch is only a line of the history here.
    together : float
        Share of segments whose four sources come from one place of one song, as they were played.
    gain : float
        Each source is made louder or softer by up to this [dB].
    tilt : float
        Each source goes through an equalizer whose curve wanders by about this [dB].
    speeds : tuple of float
        Speeds at which songs are heard.
    processed : int
        For each time that a song is heard as it is, how many times its stems come through random
        effects (`sepkit.effects`).
    """

    epochs: int
    steps: int
    together: float = 0.5
    gain: float = 6.0
    tilt: float = 0.0
    speeds: tuple[float, ...] = (1.0,)
    processed: int = 0


class RemixBatches:
    """Batches that no song has: places, songs, channels, levels and timbres drawn at random.

    Parameters
    ----------
    tracks : sequence of Track
        The songs, in stereo.
    remix : Remix
        How to mix.
    channels : int
        Channels of the model. For one, a segment's sources are heard on the left, on the right,
        or in the middle; for two, as they are or with left and right exchanged.
    batch_size : int
        Segments a step.
    seed : int
        Seed of all draws.
    length : int
        Samples a segment.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        remix: Remix,
        *,
        channels: int = 1,
        batch_size: int = BATCH_SIZE,
        seed: int = 0,
        length: int = SEGMENT,
    ):
        if not 0 <= remix.together <= 1 or min(remix.epochs, remix.steps) < 1:
            raise ParameterError("remix: give 0 <= together <= 1, and at least one epoch and step")
        store = _store(
            tuple(tracks),
            channels=2,
            speeds=remix.speeds,
            processed=remix.processed,
            length=length,
        )
        self._store = store
        self._songs = [
            store.segments[a:b].reshape(-1, 2, len(SOURCES))
            for a, b in zip(store.starts[:-1], store.starts[1:], strict=True)
        ]
        self._lengths = np.array([len(song) - length for song in self._songs])
        self._told = [[track.name for track in tracks], asdict(remix)]
        self.remix, self.seed = remix, seed
        self.labels = [{"epoch": i} for i in range(remix.epochs)]
        self.shape = (batch_size, length, channels, len(SOURCES))

    def count(self, epoch: int) -> int:
        """Count the steps of an epoch.

        Parameters
        ----------
        epoch : int
            Its place, from 0.

        Returns
        -------
        int
            Steps.
        """
        return self.remix.steps

    def read(self, epoch: int, step: int) -> np.ndarray:
        """Give the batch of a step.

        Parameters
        ----------
        epoch : int
            The epoch's place, from 0.
        step : int
            The step's place in it, from 0.

        Returns
        -------
        ndarray of shape `shape`, float32
            True sources.
        """
        rng = np.random.default_rng((self.seed, epoch, step))
        batch = np.empty(self.shape, np.float32)
        for segment in batch:
            together = rng.random() < self.remix.together
            song, start, side = self._draw(rng)
            for i in range(len(SOURCES)):
                if not together and i:
                    song, start, side = self._draw(rng)
                sound = self._songs[song][start : start + len(segment), :, i]
                segment[..., i] = sound @ side
        shape = (self.shape[0], 1, 1, len(SOURCES))
        batch *= 10 ** (rng.uniform(-self.remix.gain, self.remix.gain, shape) / 20)
        if self.remix.tilt:
            batch = _equalize(batch, rng, self.remix.tilt)
        return batch.astype(np.float32)

    def _draw(self, rng: np.random.Generator) -> tuple[int, int, np.ndarray]:
        song = int(rng.integers(len(self._songs)))
        start = int(rng.integers(self._lengths[song] + 1))
        if self.shape[2] == 1:
            sides = ([[1.0], [0.0]], [[0.0], [1.0]], [[0.5], [0.5]])
        else:
            sides = ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]])
        return song, start, np.array(sides[rng.integers(len(sides))], np.float32)

    def fingerprint(self) -> str:
        """Tell one sequence of batches from another.

        Returns
        -------
        str
            Equal where the batches are.
        """
        told = [*self._told, self.shape, self.seed]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _equalize(batch: np.ndarray, rng: np.random.Generator, tilt: float) -> np.ndarray:
    """Pass each source of each segment through its own equalizer: six knots, 60 Hz to 15 kHz."""
    n_batch, n_samples, _, n_sources = batch.shape
    n_padded = scipy.fft.next_fast_len(n_samples + 1024, real=True)
    hertz = np.maximum(scipy.fft.rfftfreq(n_padded, 1 / RATE), 1.0)
    knots = np.geomspace(60, 15_000, 6)
    curves = np.empty((n_batch, len(hertz), 1, n_sources), np.float32)
    for i, j in np.ndindex(n_batch, n_sources):
        level = np.interp(np.log(hertz), np.log(knots), rng.normal(0, tilt, len(knots)))
        curves[i, :, 0, j] = 10 ** (level / 20)
    spectrum = scipy.fft.rfft(batch, n_padded, axis=1)
    return scipy.fft.irfft(spectrum * curves, n_padded, axis=1)[:, :n_samples]
