"""Random remixes: training batches that no song contains.

Each segment's sources are drawn from random places of random songs at random speeds, and their
channels, levels and timbres are varied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.fft
import soxr

from sepkit.batches import BATCH_SIZE, SongStore
from sepkit.errors import ParameterError
from sepkit.tracks import RATE, SOURCES


def change_speed(sources: np.ndarray, speed: float) -> np.ndarray:
    """Resample sources (4, n_samples, channels) to a speed; above 1 is faster and higher."""
    if speed == 1.0:
        return sources
    n_sources, n_samples, channels = sources.shape
    flat = np.moveaxis(sources, 0, -1).reshape(n_samples, -1)
    changed = soxr.resample(flat, RATE * speed, RATE).reshape(-1, channels, n_sources)
    return np.moveaxis(changed, -1, 0)


@dataclass(frozen=True)
class Remix:
    """Settings of random remixes.

    Parameters
    ----------
    epochs, steps : int
        Number of epochs and steps per epoch; an epoch is only an entry of the history here.
    p_coherent : float
        Share of segments whose four sources come from the same place of the same song.
    sides : bool
        Draw the channel of each source, too: see `RemixBatches`; else it is as stored, the left one
        for a model of one channel.
    gain : float
        Each source's level changes by up to this many decibels, up or down.
    equalizer : float
        Standard deviation of the random equaliser of each source [dB]; none at 0.
    speeds : tuple of float
        Playback speeds at which songs are stored.
    """

    epochs: int
    steps: int
    p_coherent: float = 0.5
    sides: bool = True
    gain: float = 6.0
    equalizer: float = 0.0
    speeds: tuple[float, ...] = (1.0,)

    def variants(self, sources: np.ndarray, name: str) -> Iterable[np.ndarray]:
        """Yield a song's sources at each of the speeds: the `Variants` of a `SongStore`."""
        return (change_speed(sources, speed) for speed in self.speeds)


class RemixBatches:
    """Random remixes: songs, places, channels, levels and timbres are drawn anew for each segment.

    Parameters
    ----------
    store : SongStore
        Songs in stereo.
    remix : Remix
        The settings.
    channels : int
        Channels of the model. For one, a source is the left channel, the right one or their mean;
        for two, left and right may be exchanged.
    batch_size : int
        Segments per step.
    seed : int
        Seed of all draws.
    """

    def __init__(
        self,
        store: SongStore,
        remix: Remix,
        *,
        channels: int = 1,
        batch_size: int = BATCH_SIZE,
        seed: int = 0,
    ):
        if not 0 <= remix.p_coherent <= 1 or min(remix.epochs, remix.steps) < 1:
            raise ParameterError("remix: give 0 <= p_coherent <= 1, at least one epoch and step")
        if store.channels != 2:
            raise ParameterError("remixes draw from both channels; store the songs in stereo")
        self.store, self.remix, self.seed = store, remix, seed
        self.labels = [{"epoch": i} for i in range(remix.epochs)]
        self.shape = (batch_size, len(SOURCES), store.length, channels)

    def count(self, epoch: int) -> int:
        """Return the number of steps of an epoch."""
        return self.remix.steps

    def read(self, epoch: int, step: int) -> np.ndarray:
        """Return the batch of a step of an epoch: float32 of shape `shape`."""
        rng = np.random.default_rng((self.seed, epoch, step))
        batch = np.empty(self.shape, np.float32)
        for segment in batch:
            coherent = rng.random() < self.remix.p_coherent
            song, start, side = self._draw(rng)
            for i in range(len(SOURCES)):
                if not coherent and i:
                    song, start, side = self._draw(rng)
                segment[i] = self.store.songs[song][i, start : start + self.store.length] @ side
        shape = (*self.shape[:2], 1, 1)
        batch *= 10 ** (rng.uniform(-self.remix.gain, self.remix.gain, shape) / 20)
        if self.remix.equalizer:
            batch = _equalize(batch, rng, self.remix.equalizer)
        return batch.astype(np.float32, copy=False)

    def identity(self) -> dict[str, Any]:
        """Return all that decides the batches, as JSON values."""
        return {
            "remix": asdict(self.remix) | {"speeds": list(self.remix.speeds)},
            "shape": list(self.shape),
            "seed": self.seed,
            "songs": self.store.sha256,
        }

    def _draw(self, rng: np.random.Generator) -> tuple[int, int, np.ndarray]:
        """Draw a song, a first sample and a matrix (2, channels) that mixes its channels."""
        song = int(rng.integers(len(self.store.songs)))
        last = self.store.songs[song].shape[1] - self.store.length
        start = int(rng.integers(last + 1))
        if self.shape[3] == 1:
            sides = ([[1.0], [0.0]], [[0.0], [1.0]], [[0.5], [0.5]])
        else:
            sides = ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]])
        side = rng.integers(len(sides)) if self.remix.sides else 0
        return song, start, np.array(sides[side], np.float32)


def _equalize(batch: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Filter each source of each segment by random gains at six knots from 60 Hz to 15 kHz."""
    n_batch, n_sources, n_samples, _ = batch.shape
    n_padded = scipy.fft.next_fast_len(n_samples + 1024, real=True)
    hertz = np.maximum(scipy.fft.rfftfreq(n_padded, 1 / RATE), 1.0)
    knots = np.geomspace(60, 15_000, 6)
    curves = np.empty((n_batch, n_sources, len(hertz), 1), np.float32)
    for i, j in np.ndindex(n_batch, n_sources):
        level = np.interp(np.log(hertz), np.log(knots), rng.normal(0, deviation, len(knots)))
        curves[i, j, :, 0] = 10 ** (level / 20)
    spectrum = scipy.fft.rfft(batch, n_padded, axis=2)
    return np.asarray(scipy.fft.irfft(spectrum * curves, n_padded, axis=2)[:, :, :n_samples])
