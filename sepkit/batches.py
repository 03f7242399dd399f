"""Training batches: songs in a memory-mapped store, the report's blocks of songs.

A batch holds true sources, float32 ``(batch, 4, 7168, channels)``; the mixture is their sum. The
batch of a step depends only on the seed and on the step's position, so that an interrupted run can
be resumed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from sepkit.errors import DatasetError, ParameterError
from sepkit.files import writing_to
from sepkit.stft import SEGMENT_LENGTH
from sepkit.tracks import RATE, SOURCES, Track

BATCH_SIZE = 32
"""Segments per step, as in the report."""


class Batches(Protocol):
    """The source of batches that `sepkit.training.fit` takes."""

    labels: Sequence[dict[str, Any]]
    """Entries of the training history, one per epoch."""

    shape: tuple[int, ...]
    """Shape of every batch: (batch, 4, 7168, channels)."""

    def count(self, epoch: int) -> int:
        """Return the number of steps of an epoch, which counts from 0."""

    def read(self, epoch: int, step: int) -> np.ndarray:
        """Return the batch of a step of an epoch: float32 of shape `shape`."""

    def identity(self) -> dict[str, Any]:
        """Return all that decides the batches, as JSON values: equal where the batches are."""


@dataclass(frozen=True)
class Epoch:
    """One pass over some songs.

    Parameters
    ----------
    repetition, block, epoch : int
        Position in the schedule, from 0.
    first, last : int
        The songs: indices from `first` up to, not including, `last`.
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
        Number of songs.
    size : int
        Songs per block.
    step : int
        Songs between the starts of consecutive blocks.
    epochs : int
        Epochs on a block before the next one.
    repetitions : int
        Passes over all blocks.

    Returns
    -------
    tuple of Epoch
        270 for the report: 3 repetitions of 9 blocks, songs (0, 10), (5, 15) to (40, 50), with 10
        epochs each. Fewer songs than a block holds make one block.
    """
    if min(n_songs, size, step, epochs, repetitions) < 1:
        raise ParameterError("schedule: all of its numbers must be at least 1")
    blocks = [(start, start + size) for start in range(0, n_songs - size + 1, step)]
    blocks = blocks or [(0, n_songs)]
    return tuple(
        Epoch(repetition, block, epoch, first, last)
        for repetition in range(repetitions)
        for block, (first, last) in enumerate(blocks)
        for epoch in range(epochs)
    )


Variants = Callable[[np.ndarray, str], Iterable[np.ndarray]]
"""Maps the sources (4, n_samples, channels) and the name of a song to the versions to train on."""


class SongStore:
    """The songs' sources in a temporary file, mapped into memory.

    It lies in the folder that the environment variable ``TMPDIR`` names, or else in the system's. A
    `SepkitError` says if that is missing or full.

    Parameters
    ----------
    tracks : sequence of Track
        The songs, at 44,100 Hz.
    channels : int
        Channels to keep. With one, the left channel stays and the right one is dropped, as in the
        report.
    length : int
        Samples per segment; every song is padded with zeros to whole segments.
    variants : callable, optional
        Yields the versions of a song to store; the song as it is by default.

    Attributes
    ----------
    songs : list of ndarray of shape (4, n_padded, channels), float32
        The stored versions, song by song.
    n_samples : list of int
        Their lengths without the padding.
    sha256 : dict of str to str
        By song, the hash of the samples read.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        *,
        channels: int = 1,
        length: int = SEGMENT_LENGTH,
        variants: Variants | None = None,
    ):
        if not tracks:
            raise DatasetError("no songs to train on; give at least one")
        self.channels, self.length = channels, length
        # Left alone, tempfile takes another folder where TMPDIR is missing or full.
        named = os.environ.get("TMPDIR") or None
        remedy = "set TMPDIR to a folder with room for the songs"
        with writing_to(named or "the temporary folder", remedy):
            self._folder = tempfile.TemporaryDirectory(prefix="sepkit-", dir=named)
        path = Path(self._folder.name) / "songs.f32"
        self.sha256: dict[str, str] = {}
        self.n_samples: list[int] = []
        sizes = []
        for track in tqdm(tracks, desc="reading songs", unit="song", leave=False, disable=None):
            sources = _read_sources(track, channels)
            self.sha256[track.name] = hashlib.sha256(sources.tobytes()).hexdigest()
            for sound in variants(sources, track.name) if variants else [sources]:
                missing = -sound.shape[1] % length
                padded = np.pad(sound, [(0, 0), (0, missing), (0, 0)])
                with writing_to(path.parents[1], remedy), open(path, "ab") as file:
                    file.write(np.ascontiguousarray(padded, np.float32).tobytes())
                self.n_samples.append(sound.shape[1])
                sizes.append(padded.size)
        parts = np.split(np.memmap(path, np.float32, "r"), np.cumsum(sizes)[:-1])
        self.songs = [part.reshape(len(SOURCES), -1, channels) for part in parts]


def _read_sources(track: Track, channels: int) -> np.ndarray:
    """Return the first channels of a song's sources: (4, n_samples, channels)."""
    sources = track.read()
    if track.rate != RATE:
        raise DatasetError(
            f"{track.name}: rate {track.rate} Hz; training needs songs at {RATE} Hz, resample it"
        )
    if sources.shape[2] < channels:
        raise DatasetError(
            f"{track.name}: {sources.shape[2]} channel, the model takes {channels}; leave it out"
        )
    return sources[..., :channels]


class BlockBatches:
    """The report's batches: an epoch's songs, cut into segments and shuffled.

    Segments that do not fill the last batch of an epoch are dropped before the shuffle, always the
    same ones, as in the report.

    Parameters
    ----------
    store : SongStore
        The songs, in the order of the schedule's indices.
    schedule : sequence of Epoch
        The epochs.
    batch_size : int
        Segments per step.
    seed : int
        Seed of the shuffles.
    step : int, optional
        Samples between the starts of a song's segments; end to end by default, as in the report.
    """

    def __init__(
        self,
        store: SongStore,
        schedule: Sequence[Epoch],
        *,
        batch_size: int = BATCH_SIZE,
        seed: int = 0,
        step: int | None = None,
    ):
        self.store, self.schedule, self.batch_size, self.seed = store, schedule, batch_size, seed
        self.labels = [
            {"repetition": e.repetition, "block": e.block, "epoch": e.epoch} for e in schedule
        ]
        self.shape = (batch_size, len(SOURCES), store.length, store.channels)
        self._step = step or store.length
        # As many segments as cover each song; (song, first sample) of all of them.
        counts = [max(0, -(-(n - store.length) // self._step)) + 1 for n in store.n_samples]
        self._segments = [(i, k * self._step) for i, n in enumerate(counts) for k in range(n)]
        self._before = np.concatenate([[0], np.cumsum(counts)])
        if not all(self.count(i) for i in range(len(schedule))):
            raise DatasetError(
                f"songs too short: a block fills no batch of {batch_size} segments; give more"
            )

    def count(self, epoch: int) -> int:
        """Return the number of steps of an epoch, which counts from 0."""
        first, last = self._limits(epoch)
        return (last - first) // self.batch_size

    def order(self, epoch: int) -> np.ndarray:
        """Return the shuffled segments of an epoch.

        Parameters
        ----------
        epoch : int
            Position in the schedule.

        Returns
        -------
        ndarray of shape (n_batches, batch_size), int64
            Indices of segments, counted over all songs.
        """
        n_batches = self.count(epoch)
        rng = np.random.default_rng((self.seed, epoch))
        shuffled = rng.permutation(n_batches * self.batch_size)
        return (self._limits(epoch)[0] + shuffled).reshape(n_batches, self.batch_size)

    def read(self, epoch: int, step: int) -> np.ndarray:
        """Return the batch of a step of an epoch: float32 of shape `shape`."""
        batch = np.zeros(self.shape, np.float32)
        for segment, i in zip(batch, self.order(epoch)[step], strict=True):
            song, start = self._segments[i]
            sound = self.store.songs[song][:, start : start + self.store.length]
            segment[:, : sound.shape[1]] = sound
        return batch

    def identity(self) -> dict[str, Any]:
        """Return all that decides the batches, as JSON values."""
        return {
            "schedule": [list(asdict(epoch).values()) for epoch in self.schedule],
            "shape": list(self.shape),
            "segment step": self._step,
            "seed": self.seed,
            "songs": self.store.sha256,
        }

    def _limits(self, epoch: int) -> tuple[int, int]:
        now = self.schedule[epoch]
        return int(self._before[now.first]), int(self._before[now.last])
