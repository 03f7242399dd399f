"""A song of any length as a stream: blocks in, blocks of stems out.

The magnitudes of the song pass through the network in contexts of 25 frames, one every `hop`
frames. Where contexts overlap, their masks are averaged; then the song's own STFT is masked and
inverted once. The song is processed in stretches, so that memory does not grow with its length;
each stretch depends only on the samples around it.
"""

from __future__ import annotations

import operator
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import soxr
import threadpoolctl

from sepkit import audio as audio_files
from sepkit import masks, network, stft, weights
from sepkit.errors import ModelError, ParameterError
from sepkit.network import Prepared
from sepkit.stft import EDGE_LENGTH, HOP_LENGTH
from sepkit.tracks import RATE
from sepkit.weights import Weights

Model = str | os.PathLike[str] | Weights | Any
"""A name of `sepkit.list_models`, a weight file, a network's weights, or a Keras model."""

DEFAULT_HOP = 5
"""Frames between the starts of contexts: each frame lies in five of them."""

ENGINES = ("numpy", "compiled")
"""What computes: NumPy, or `sepkit.engine`, with equal stems up to 1e-6 of the song's peak."""

_STRETCH = 512 * HOP_LENGTH
"""Samples separated at a time, in one thread: 3 s."""
_KEPT = 31 << 20
"""Bytes, just below the 32 MiB up to which glibc adapts to what is freed."""


class _SingleThreadedBlas:
    """Limits BLAS to one thread while any separation runs.

    The limit holds for the process, so that separations in several threads share it: the first
    sets it, the last takes it back. Both happen in a thread of their own, since threadpoolctl lets
    OpenBLAS be controlled by one thread at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._n_threads = 1

    def __enter__(self) -> int:
        """Return the number of threads that BLAS has without the limit."""
        with self._lock:
            if not self._n_inside:
                self._keeper = ThreadPoolExecutor(1)
                self._keeper.submit(self._limit).result()
            self._n_inside += 1
            return self._n_threads

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside:
                self._keeper.submit(self._limiter.__exit__, None, None, None).result()
                self._keeper.shutdown()

    def _limit(self) -> None:
        blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
        self._n_threads = max((lib["num_threads"] for lib in blas.info()), default=1)
        self._limiter = blas.limit(limits=1)
        self._limiter.__enter__()


_single_threaded_blas = _SingleThreadedBlas()


def resolve_weights(model: Model) -> Weights:
    """Return the weights of a model.

    Parameters
    ----------
    model : str, Path, dict or keras.Model
        A name of `sepkit.list_models`, a weight file, a network's weights, or a Keras model of this
        library.

    Returns
    -------
    dict of str to ndarray, float32
        The network.

    Raises
    ------
    ModelError
        When the model is unknown, or no network of this library, or not finite.
    """
    if isinstance(model, str | os.PathLike):
        return weights.load(weights.find_weights(model))
    if not isinstance(model, Mapping):
        if not hasattr(model, "get_weights"):
            raise ModelError(
                f"model of type {type(model).__name__}: give a name, a weight file, a network's "
                "weights or a Keras model"
            )
        from sepkit.model import get_weights

        model = get_weights(model)
    weights.check_shapes(model)
    weights.check_finite(model)
    return dict(model)


def separate_stream(
    blocks: Iterable[np.ndarray],
    rate: int,
    n_channels: int,
    *,
    model: Model = "experiment3",
    hop: int = DEFAULT_HOP,
    engine: str = "numpy",
) -> Iterator[np.ndarray]:
    """Separate a song block by block, as a stream.

    Parameters
    ----------
    blocks : iterable of ndarray of shape (n, n_channels), float32
        The song, in blocks of any length.
    rate, n_channels : int
        Its sample rate [Hz] and number of channels.
    model, hop, engine : model, int, str
        As for `separate`.

    Yields
    ------
    ndarray of shape (4, m, n_channels), float32
        The stems. In total they have the song's length, and they sum to it.
    """
    values = resolve_weights(model)
    channels, n_sources = weights.check_shapes(values)
    hop = check_hop(hop, weights.infer_sizes(values).context)
    check_channels(channels, n_channels)
    audio_files.check_rate(rate)
    if engine not in ENGINES:
        raise ParameterError(f"engine {engine!r}: unknown; use {' or '.join(ENGINES)}")
    if rate == RATE:
        yield from _separate_blocks(blocks, n_channels, values, hop, engine)
        return

    # What resampling loses on the way goes to "other", so that the stems still sum to the song.
    songs: list[np.ndarray] = []

    def resampled() -> Iterator[np.ndarray]:
        stream = soxr.ResampleStream(rate, RATE, n_channels, dtype="float32")
        for block in blocks:
            songs.append(block)
            yield stream.resample_chunk(np.ascontiguousarray(block, np.float32))
        empty = np.zeros((0, n_channels), np.float32)
        yield stream.resample_chunk(empty, last=True)

    back = soxr.ResampleStream(RATE, rate, n_sources * n_channels, dtype="float32")
    other = weights.source_names(n_sources).index("other") if n_sources == 4 else -1

    def complete(flat: np.ndarray, song: np.ndarray) -> np.ndarray:
        flat = audio_files.fix_length(flat, len(song))
        stems = flat.reshape(len(flat), n_sources, n_channels).transpose(1, 0, 2).copy()
        stems[other] += song - stems.sum(axis=0)
        return stems

    for stems in _separate_blocks(resampled(), n_channels, values, hop, engine):
        flat = stems.transpose(1, 0, 2).reshape(stems.shape[1], -1)
        flat = back.resample_chunk(np.ascontiguousarray(flat))
        song = np.concatenate(songs)
        songs[:] = [song[len(flat) :]]
        yield complete(flat, song[: len(flat)])
    flat = back.resample_chunk(np.zeros((0, n_sources * n_channels), np.float32), last=True)
    rest = np.concatenate(songs)
    if len(rest):
        yield complete(flat, rest)


def check_hop(hop: object, context: int) -> int:
    """Return the hop of contexts; raise a `ParameterError` if it is not 1 to `context` frames."""
    try:
        value = operator.index(hop)  # type: ignore[arg-type]
    except TypeError:
        value = 0
    if not 1 <= value <= context:
        raise ParameterError(f"hop {hop!r}: give a whole number of frames, 1 to {context}")
    return value


def check_channels(channels: int, n_channels: int) -> None:
    """Raise a `ParameterError` if a song does not fit a model's number of channels."""
    if channels > 1 and n_channels not in (1, channels):
        raise ParameterError(
            f"a song of {n_channels} channels does not fit a model of {channels}; mix it down, "
            "or use a model of one channel"
        )


def _separate_blocks(
    blocks: Iterable[np.ndarray], n_channels: int, values: Weights, hop: int, engine: str
) -> Iterator[np.ndarray]:
    """Separate a song at the network's rate, in stretches, a few at a time in threads."""
    channels, n_sources = weights.check_shapes(values)
    context = weights.infer_sizes(values).context
    if engine == "compiled":
        from sepkit.engine import native

        n_frames = _STRETCH // HOP_LENGTH + 3 + 2 * context + hop  # of a stretch at most
        separate_group = native.separator(values, hop, n_frames)
    else:
        separate_group = partial(_separate_group, network.prepare(values), channels, hop)

    def separate_stretch(window: np.ndarray, frames: slice, length: int) -> np.ndarray:
        stems = np.empty((n_sources, length, n_channels), np.float32)
        for group in channel_groups(channels, n_channels):
            separate_group(window[:, group], frames, stems[..., group])
        return stems

    waiting: deque[Future[np.ndarray]] = deque()
    # A stretch allocates and frees arrays of some megabytes, which glibc would map anew each time,
    # a quarter of the run time. Once a larger one has been freed, it keeps them.
    np.empty(_KEPT, np.uint8)
    # As many threads as BLAS would use: joblib, or whatever else shares the cores, limits BLAS.
    with _single_threaded_blas as n_threads, ThreadPoolExecutor(n_threads) as pool:
        for stretch in _stretches(blocks, n_channels, context, hop):
            waiting.append(pool.submit(separate_stretch, *stretch))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _stretches(
    blocks: Iterable[np.ndarray], n_channels: int, context: int, hop: int
) -> Iterator[tuple[np.ndarray, slice, int]]:
    """Split a song into stretches, each with the samples around it that its masks depend on.

    Yields the samples of whole contexts, those of their frames that cover the stretch, and the
    length of the stretch. Frame n of the song starts at its sample ``256 n - 768``.
    """
    # The most samples needed on either side.
    reach = HOP_LENGTH * 2 * context + EDGE_LENGTH
    held = np.zeros((0, n_channels), np.float32)
    held_from = start = 0
    for block in chain(blocks, [None]):
        last = block is None
        if not last:
            held = np.concatenate([held, np.asarray(block, np.float32)])
        end = held_from + len(held)
        while start < end and (last or start + _STRETCH + reach <= end):
            stop = min(start + _STRETCH, end)
            first, behind = start // HOP_LENGTH, -(-stop // HOP_LENGTH) + 3
            first_context = max(0, -(-(first - context + 1) // hop)) * hop
            last_context = (behind - 1) // hop * hop
            if last:
                n_after_first = -(-(stft.count_frames(end) - context) // hop)
                last_context = min(last_context, max(0, n_after_first) * hop)

            begin = HOP_LENGTH * first_context - EDGE_LENGTH - held_from
            finish = HOP_LENGTH * (last_context + context + 3) - EDGE_LENGTH - held_from
            window = held[max(0, begin) : max(0, finish)]
            if begin < 0 or finish > len(held):
                window = np.pad(window, [(max(0, -begin), max(0, finish - len(held))), (0, 0)])
            yield window, slice(first - first_context, behind - first_context), stop - start
            start = stop
            keep_from = max(held_from, start - reach)
            held, held_from = held[keep_from - held_from :], keep_from


def _separate_group(
    prepared: Prepared, channels: int, hop: int,
    samples: np.ndarray, frames: slice, stems: np.ndarray,
) -> None:  # fmt: skip
    """Separate channels that go together; write their stems (n_sources, n_samples, n_channels)."""
    spectrum = stft.transform_frames(samples)
    estimated = group_masks(prepared, np.abs(spectrum), channels, hop)
    start, length = HOP_LENGTH * frames.start + EDGE_LENGTH, stems.shape[1]
    # Masks sum to 1: the last stem is the rest, and needs no inverse of its own.
    rest = samples[start : start + length].copy()
    for mask, stem in zip(estimated[:-1], stems, strict=False):
        estimate = stft.invert_frames(spectrum[frames], masks=mask[frames])
        stem[:] = estimate[EDGE_LENGTH : EDGE_LENGTH + length]
        rest -= stem
    stems[-1] = rest


def channel_groups(channels: int, n_channels: int) -> list[slice]:
    """Return the channels that a model of `channels` processes together."""
    size = 1 if channels == 1 else n_channels
    return [slice(i, i + size) for i in range(0, n_channels, size)]


def group_masks(prepared: Prepared, magnitudes: np.ndarray, channels: int, hop: int) -> np.ndarray:
    """Compute the masks of a group of channels."""
    if magnitudes.shape[2] == channels:
        return masks.mean_masks(prepared, magnitudes, hop)
    # Mono for a model of several channels: the same in all of them.
    same = np.repeat(magnitudes, channels, axis=2)
    return masks.mean_masks(prepared, same, hop).mean(axis=-1, keepdims=True)
