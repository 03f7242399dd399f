"""The page's engine, compiled for this machine: what a second path in C would gain.

sepkit itself separates by NumPy. This module compiles `sepkit/notebook/static/engine.c` with wide
registers for the processor at hand, and lets it separate the stretches of `sepkit.streaming`.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from unittest import mock

import numpy as np

from benchmarks import measure
from sepkit import stft, streaming, weights
from sepkit.notebook.web import STATIC
from sepkit.tracks import RATE

REGISTERS = ("-DLANES=8", "-DTILE=6")
"""The fastest of the sizes that were tried on a processor with AVX-512."""


def compile_engine(folder: Path) -> ctypes.CDLL:
    """Compile the engine to a library of this machine."""
    path = folder / "engine.so"
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", "-O3", "-march=native", "-fno-math-errno",
         *REGISTERS, "-shared", "-fPIC", "-o", str(path), str(STATIC / "engine.c")],
        check=True, capture_output=True,
    )  # fmt: skip
    library = ctypes.CDLL(str(path))
    library.engine_size.restype = ctypes.c_long
    for name in ("create", "weights", "samples", "stem"):
        getattr(library, f"engine_{name}").restype = ctypes.c_void_p
    return library


class Engine:
    """One engine with its memory, for one thread."""

    def __init__(self, library: ctypes.CDLL, values: weights.Weights, hop: int):
        sizes = weights.infer_sizes(values)
        self.library, self.context, self.hop = library, sizes.context, hop
        self.channels, self.n_sources = weights.check_shapes(values)
        n_contexts = -(-(streaming._STRETCH // stft.HOP_LENGTH + 3 + 2 * sizes.context) // hop) + 2
        numbers = (self.channels, self.n_sources, sizes.n_timbres, sizes.n_patterns, sizes.pattern,
                   sizes.n_shared, sizes.context, hop, n_contexts)  # fmt: skip
        self.memory = np.zeros(library.engine_size(*numbers) + 64, np.uint8)
        start = -(-self.memory.ctypes.data // 64) * 64
        self.engine = ctypes.c_void_p(library.engine_create(ctypes.c_void_p(start), *numbers))
        names = weights.shapes(channels=self.channels, n_sources=self.n_sources, sizes=sizes)
        flat = np.concatenate([np.ravel(values[name]) for name in names])
        self._array(library.engine_weights(self.engine), len(flat))[:] = flat
        library.engine_prepare(self.engine)

    @staticmethod
    def _array(place: int, length: int) -> np.ndarray:
        pointer = ctypes.cast(place, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (length,))

    def separate(self, window: np.ndarray, frames: slice, length: int) -> np.ndarray:
        """Separate a stretch of `sepkit.streaming`: (n_sources, length, n_channels)."""
        stems = np.empty((self.n_sources, length, window.shape[1]), np.float32)
        n_frames = (len(window) - stft.FRAME_LENGTH) // stft.HOP_LENGTH + 1
        n_contexts = (n_frames - self.context) // self.hop + 1
        for group in streaming.channel_groups(self.channels, window.shape[1]):
            part = window[:, group]
            for c in range(part.shape[1]):
                place = self.library.engine_samples(self.engine, c)
                self._array(place, len(part))[:] = part[:, c]
            self.library.engine_separate(
                self.engine, part.shape[1], n_contexts, frames.start, frames.stop
            )
            for source, stem in enumerate(stems):
                for c in range(part.shape[1]):
                    place = self.library.engine_stem(self.engine, source, c)
                    stem[:, group][:, c] = self._array(place, length)
        return stems


def separators(song: np.ndarray, hop: int, folder: Path) -> dict[str, Callable]:
    """Return functions that separate a song from samples to stems, by NumPy and by the engine.

    Raises an `AssertionError` if they differ by more than 1e-6 of the song's peak.
    """
    values = streaming.resolve_weights("experiment3")
    library = compile_engine(folder)
    engines: SimpleQueue[Engine] = SimpleQueue()
    for _ in range(measure.blas_threads()):
        engines.put(Engine(library, values, hop))

    def separate_stretch(window: np.ndarray, frames: slice, length: int, *_: object) -> np.ndarray:
        engine = engines.get()
        try:
            return engine.separate(window, frames, length)
        finally:
            engines.put(engine)

    def by_numpy(song: np.ndarray) -> Iterator[np.ndarray]:
        return streaming.separate_stream([song], RATE, song.shape[1], model=values, hop=hop)

    def by_engine(song: np.ndarray) -> Iterator[np.ndarray]:
        with mock.patch.object(streaming, "_separate_stretch", separate_stretch):
            yield from by_numpy(song)

    part = song[: 10 * RATE]
    ours, theirs = (np.concatenate(list(run(part)), axis=1) for run in (by_numpy, by_engine))
    assert np.abs(ours - theirs).max() < 1e-6 * np.abs(part).max()

    def exhausted(run: Callable) -> Callable:
        return lambda: deque(run(song), maxlen=0)

    return {"numpy": exhausted(by_numpy), "engine": exhausted(by_engine)}
