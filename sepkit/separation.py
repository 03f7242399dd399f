"""A song in, stems out.

The magnitudes of the whole song go through the network in contexts (25 frames) that start every
`hop` frames; where contexts overlap, their masks are averaged; the song's own STFT is masked and
inverted once. This happens stretch by stretch, so that memory does not grow with the song, and
each stretch is computed from the samples around it alone. `separate_report` is the report's own
procedure instead.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import numpy as np
import soxr
import threadpoolctl

from sepkit import audio as audio_files
from sepkit import network, stft, weights
from sepkit.datasets import RATE
from sepkit.errors import AudioError, ParameterError
from sepkit.stft import EDGE_LENGTH, HOP_LENGTH

DEFAULT_HOP = 5
"""Frames between contexts unless said otherwise: five contexts see each frame."""

REPORT_BATCH = 32
"""Segments that the report's network takes at once."""

_STRETCH = 512 * HOP_LENGTH
"""Samples separated at once, in one thread: 3 s."""
_ROWS = 100
"""Frames drawn at once: what fits a cache."""
_FRAMES = 5
"""Frames unfolded at once: of more, the band matrix holds mostly zeros."""
_KEPT = 31 << 20
"""Bytes, just below the 32 MiB up to which glibc learns from what is freed."""

Model = str | os.PathLike | weights.Parameters


def separate(
    audio: np.ndarray,
    rate: int,
    *,
    model: Model = "experiment3",
    hop: int = DEFAULT_HOP,
    mode: str = "song",
    pad: bool = False,
) -> dict[str, np.ndarray]:
    """Take a song apart.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels) or (n_samples,), float32
        The song, of any length and rate.
    rate : int
        Its rate [Hz].
    model : str, Path, dict or keras.Model
        A name of `sepkit.list_models`, a weight file, a network's parameters, or a Keras model of
        this library. A model of one channel runs on each channel by itself.
    hop : int
        Frames (5.8 ms) between the starts of contexts, 1 to 25 (one context); fewer is smoother
        and slower.
    mode : {"song", "report"}
        "report" is the report's own procedure (`separate_report`), which knows no hop.
    pad : bool
        In report mode: fill the last batch with silence instead of dropping what is in it.

    Returns
    -------
    dict of str to ndarray, float32
        The stems in the order of `SOURCES`, each of the song's shape. In song mode they sum to
        the song within 1e-5 of its peak.

    Raises
    ------
    ParameterError
        When the shape, the rate, the hop or the mode is out of range.
    AudioError
        When the song is empty or not finite, or too short for the report's procedure.
    ModelError
        When the model is unknown.

    Examples
    --------
    >>> import sepkit
    >>> song = sepkit.example()
    >>> stems = sepkit.separate(song.mixture, song.rate)
    >>> list(stems)
    ['bass', 'drums', 'other', 'vocals']
    """
    song = _check_audio(audio, rate)
    if mode == "song":
        blocks = separate_blocks([song], rate, song.shape[1], model=model, hop=hop)
        stems = np.concatenate(list(blocks), axis=1)
    elif mode == "report":
        stems = separate_report(song, rate, model=model, pad=pad)
    else:
        raise ParameterError(f"mode {mode!r}: unknown; use song or report")
    names = weights.source_names(len(stems))
    shape = (-1,) if np.ndim(audio) == 1 else (-1, song.shape[1])
    return {name: stem.reshape(shape) for name, stem in zip(names, stems, strict=True)}


def _check_audio(audio: np.ndarray, rate: int) -> np.ndarray:
    song = np.asarray(audio, np.float32)
    if song.ndim == 1:
        song = song[:, np.newaxis]
    if song.ndim != 2 or not 1 <= song.shape[1] <= 64:
        raise ParameterError(
            f"audio of shape {np.shape(audio)}: give (n_samples, n_channels); transpose it?"
        )
    if not rate > 0:
        raise ParameterError(f"rate {rate}: give a rate in Hz above 0")
    if not len(song):
        raise AudioError("the song holds no samples; give a sound of some length")
    if not np.isfinite(song).all():
        raise AudioError("the song holds NaN or infinite samples; mend it first")
    return song


def resolve_weights(model: Model) -> weights.Parameters:
    """Get the arrays of a model however it is named.

    Parameters
    ----------
    model : str, Path, dict or keras.Model
        As for `separate`.

    Returns
    -------
    dict of str to ndarray, float32
        The network.

    Raises
    ------
    ModelError
        When the model is unknown or does not fit.
    """
    if isinstance(model, str | os.PathLike):
        return weights.load(weights.find_weights(model))
    if not isinstance(model, dict):
        from sepkit.model import get_parameters

        model = get_parameters(model)
    weights.check_shapes(model)
    return model


def separate_blocks(
    blocks: Iterable[np.ndarray],
    rate: int,
    n_channels: int,
    *,
    model: Model = "experiment3",
    hop: int = DEFAULT_HOP,
) -> Iterator[np.ndarray]:
    """Take a song apart that comes, and goes, block by block.

    Parameters
    ----------
    blocks : iterable of ndarray of shape (n, n_channels), float32
        The song, in blocks of any length.
    rate : int
        Its rate [Hz].
    n_channels : int
        Its channels.
    model : str, Path, dict or keras.Model
        As for `separate`.
    hop : int
        As for `separate`.

    Yields
    ------
    ndarray of shape (4, m, n_channels), float32
        The stems; in all, as many samples as the song has, and with its sum.
    """
    values = resolve_weights(model)
    channels, _ = weights.check_shapes(values)
    context = weights.infer_sizes(values).context
    if hop not in range(1, context + 1):
        raise ParameterError(f"hop {hop}: give 1 to {context} frames")
    _check_channels(channels, n_channels)
    pairs = network.prepare(values)
    if rate == RATE:
        yield from _separate_stream(blocks, n_channels, pairs, channels, hop)
        return

    # What resampling there and back loses goes to "other", so that the sum still holds.
    songs: list[np.ndarray] = []

    def resampled() -> Iterator[np.ndarray]:
        stream = soxr.ResampleStream(rate, RATE, n_channels, dtype="float32")
        for block in blocks:
            songs.append(block)
            yield stream.resample_chunk(np.ascontiguousarray(block, np.float32))
        empty = np.zeros((0, n_channels), np.float32)
        yield stream.resample_chunk(empty, last=True)

    n_sources = pairs["draw"][0].shape[0]
    back = soxr.ResampleStream(RATE, rate, n_sources * n_channels, dtype="float32")
    other = weights.source_names(n_sources).index("other") if n_sources == 4 else -1

    def complete(flat: np.ndarray, song: np.ndarray) -> np.ndarray:
        flat = audio_files.fix_length(flat, len(song))
        stems = flat.reshape(len(flat), n_sources, n_channels).transpose(1, 0, 2).copy()
        stems[other] += song - stems.sum(axis=0)
        return stems

    for stems in _separate_stream(resampled(), n_channels, pairs, channels, hop):
        flat = stems.transpose(1, 0, 2).reshape(stems.shape[1], -1)
        flat = back.resample_chunk(np.ascontiguousarray(flat))
        song = np.concatenate(songs)
        songs[:] = [song[len(flat) :]]
        yield complete(flat, song[: len(flat)])
    flat = back.resample_chunk(np.zeros((0, n_sources * n_channels), np.float32), last=True)
    rest = np.concatenate(songs)
    if len(rest):
        yield complete(flat, rest)


def _check_channels(channels: int, n_channels: int) -> None:
    if channels > 1 and n_channels not in (1, channels):
        raise ParameterError(
            f"a song of {n_channels} channels does not fit a model of {channels}; mix it down, "
            "or use a model of one channel"
        )


def _separate_stream(
    blocks: Iterable[np.ndarray], n_channels: int, pairs: dict, channels: int, hop: int
) -> Iterator[np.ndarray]:
    """Separate a song at the network's rate, stretch by stretch, a few at a time in threads."""
    # As many threads as BLAS would take, which is then told to take one: joblib, or whoever else
    # shares out the cores, limits BLAS.
    blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
    n_threads = max((lib["num_threads"] for lib in blas.info()), default=1)
    waiting: deque[Future] = deque()
    # A stretch takes and frees arrays of some megabytes, which glibc would fetch from the system,
    # page by page, each time: a quarter of the time. Once a larger one was freed it keeps them.
    np.empty(_KEPT, np.uint8)
    with ThreadPoolExecutor(n_threads) as pool, blas.limit(limits=1):
        for window, frames, length in _stretches(blocks, n_channels, pairs, hop):
            waiting.append(
                pool.submit(_separate_stretch, window, frames, length, pairs, channels, hop)
            )
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _stretches(
    blocks: Iterable[np.ndarray], n_channels: int, pairs: dict, hop: int
) -> Iterator[tuple[np.ndarray, slice, int]]:
    """Cut a song into stretches, each with the samples around it that its masks depend on.

    Yields the samples of whole contexts, the frames of theirs that cover the stretch, and the
    length of the stretch. Frame n of the song starts at its sample ``256 n - 768``.
    """
    context = network.context_length(pairs)
    # How far the samples around go, at most.
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
            window = np.pad(window, [(max(0, -begin), max(0, finish - len(held))), (0, 0)])
            yield window, slice(first - first_context, behind - first_context), stop - start
            start = stop
            keep_from = max(held_from, start - reach)
            held, held_from = held[keep_from - held_from :], keep_from


def _separate_stretch(
    window: np.ndarray, frames: slice, length: int, pairs: dict, channels: int, hop: int
) -> np.ndarray:
    """Separate one of `_stretches`."""
    spectrum = stft.transform_frames(window)
    n_sources, n_channels = len(pairs["draw"][0]), window.shape[1]
    stems = np.empty((n_sources, length, n_channels), np.float32)
    for group in _groups(channels, n_channels):
        part = spectrum[..., group]
        masks = _group_masks(pairs, np.abs(part), channels, hop)
        for mask, stem in zip(masks[:-1], stems, strict=False):
            estimate = stft.invert_frames(mask[frames] * part[frames])
            stem[:, group] = estimate[EDGE_LENGTH : EDGE_LENGTH + length]
    # Masks sum to 1: the last stem is what the others leave, without an inverse of its own.
    start = HOP_LENGTH * frames.start + EDGE_LENGTH
    np.subtract(window[start : start + length], stems[:-1].sum(axis=0), out=stems[-1])
    return stems


def _groups(channels: int, n_channels: int) -> list[slice]:
    """Tell which channels of the song a model of `channels` hears together."""
    size = 1 if channels == 1 else n_channels
    return [slice(i, i + size) for i in range(0, n_channels, size)]


def _group_masks(pairs: dict, magnitudes: np.ndarray, channels: int, hop: int) -> np.ndarray:
    """Mask a group of channels."""
    if magnitudes.shape[2] == channels:
        return mean_masks(pairs, magnitudes, hop)
    # One channel for a model of several: it hears the same in all of them.
    same = np.repeat(magnitudes, channels, axis=2)
    return mean_masks(pairs, same, hop).mean(axis=-1, keepdims=True)


def mean_masks(
    pairs: dict, magnitudes: np.ndarray, hop: int, *, weights: np.ndarray | None = None
) -> np.ndarray:
    """Average the masks of overlapping contexts.

    Parameters
    ----------
    pairs : dict
        The network's `sepkit.network.prepare`.
    magnitudes : ndarray of shape (n_frames, 513, n_channels), float32
        Magnitudes of the mixture.
    hop : int
        Frames between the starts of contexts.
    weights : ndarray of shape (25,), float32, optional
        How much each frame of a context counts, above 0; all alike by default.

    Returns
    -------
    ndarray of shape (4, n_frames, 513, n_channels), float32
        Masks: non-negative, sum 1 in every bin.
    """
    context = network.context_length(pairs)
    if weights is None:
        weights = np.ones(context, np.float32)
    n_frames = len(magnitudes)
    missing = -(n_frames - context) % hop if n_frames > context else context - n_frames
    if missing:
        # Silence after the end is silence for the network too, hence before its first layer.
        magnitudes = np.pad(magnitudes, [(0, missing), (0, 0), (0, 0)])
    shared = network.encode_song(pairs, network.vertical_convolution(pairs, magnitudes), hop)
    patterns = network.decoder_dense(pairs, shared)

    n_sources, n_contexts, _ = patterns.shape
    n_blocks = n_contexts - 1 + -(-context // hop)
    # The contexts' k-th stretches of `hop` frames lie end to end, from the song's k-th block on.
    strides = [slice(start, min(start + hop, context)) for start in range(0, context, hop)]
    count = np.zeros((n_blocks, hop, 1), np.float32)
    for k, stride in enumerate(strides):
        count[k : k + n_contexts, : stride.stop - stride.start] += weights[stride, np.newaxis]
    timbres = [_unfold(pairs, patterns, stride) for stride in strides]
    total = np.zeros((n_sources, n_blocks, hop, math.prod(magnitudes.shape[1:])), np.float32)
    step = max(1, _ROWS // hop)
    for first in range(0, n_contexts, step):
        for k, (stride, timbre) in enumerate(zip(strides, timbres, strict=True)):
            part = timbre[:, first : first + step]  # (n_sources, contexts, frames, 50)
            blocks = slice(k + first, k + first + part.shape[1])
            frames = slice(part.shape[2])
            drawn = network.vertical_deconvolution(pairs, part.reshape(n_sources, -1, part.shape[-1]))
            share = weights[stride, np.newaxis] / count[blocks, frames]
            shares = network.normalize_in_place(drawn, share.reshape(-1, 1))
            total[:, blocks, frames] += shares.reshape(*part.shape[:3], -1)
    shape = (n_sources, n_blocks * hop, *magnitudes.shape[1:])
    return total.reshape(shape)[:, :n_frames]


def _unfold(pairs: dict, patterns: np.ndarray, stride: slice) -> np.ndarray:
    """Unfold some frames into (n_sources, n_contexts, frames, 50)."""
    shape = (*patterns.shape[:2], -1, pairs["timbre"][0].shape[1])
    starts = range(stride.start, stride.stop, _FRAMES)
    stops = (min(start + _FRAMES, stride.stop) for start in starts)
    pieces = [
        network.horizontal_deconvolution(pairs, patterns, start, stop).reshape(shape)
        for start, stop in zip(starts, stops, strict=True)
    ]
    return np.concatenate(pieces, axis=2)


def separate_report(
    audio: np.ndarray, rate: int, *, model: Model = "experiment3", pad: bool = False
) -> np.ndarray:
    """Take a song apart as the report does, faded edges and lost tail included.

    The song is cut end to end into segments of 7168 samples; each is transformed, masked and
    inverted alone, and the results are put one after the other. The first and last 768 samples
    of every segment come out faded. What does not fill a batch of 32 segments is lost.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels), float32
        The song.
    rate : int
        Its rate [Hz].
    model : str, Path, dict or keras.Model
        As for `separate`.
    pad : bool
        Fill the last batch with silence, so that nothing is lost.

    Returns
    -------
    ndarray of shape (4, n, n_channels), float32
        The stems: n is the largest multiple of 32 segments that the song fills, or with `pad`
        the song's length.

    Raises
    ------
    AudioError
        When the song is shorter than 32 segments (5.2 s) and `pad` is not set.
    """
    song = _check_audio(audio, rate)
    values = resolve_weights(model)
    channels, n_sources = weights.check_shapes(values)
    _check_channels(channels, song.shape[1])
    pairs = network.prepare(values)
    context = network.context_length(pairs)
    length = HOP_LENGTH * (context + 3)
    pieces = stft.split_segments(audio_files.resample(song, rate, RATE), length=length)
    n_kept = len(pieces) if pad else len(pieces) - len(pieces) % REPORT_BATCH
    if not n_kept:
        raise AudioError(
            f"the song fills {len(pieces)} segments, the report's procedure needs {REPORT_BATCH} "
            f"({REPORT_BATCH * length / RATE:.1f} s); give a longer one, or pad=True"
        )
    shape = (n_sources, n_kept, length, song.shape[1])
    stems = np.empty(shape, np.float32)
    for start in range(0, n_kept, REPORT_BATCH):
        batch = slice(start, min(start + REPORT_BATCH, n_kept))
        spectra = stft.transform_frames(pieces[batch])
        for group in _groups(channels, song.shape[1]):
            part = spectra[..., group]
            # One context a segment: a hop of a whole context.
            flat = np.abs(part).reshape(-1, *part.shape[2:])
            masks = _group_masks(pairs, flat, channels, context).reshape(n_sources, *part.shape)
            for mask, stem in zip(masks, stems, strict=True):
                stem[batch, :, group] = stft.invert_frames(mask * part)
    stems = stems.reshape(n_sources, -1, song.shape[1])
    if rate != RATE:
        stems = np.stack([audio_files.resample(stem, RATE, rate) for stem in stems])
    return stems[:, : len(song)]
