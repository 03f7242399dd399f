"""Separation: a song in, its stems out.

The magnitudes of the whole song pass through the network in contexts of 25 frames, one every
`hop` frames. Where contexts overlap, their masks are averaged; then the song's own STFT is masked
and inverted once. The song is processed in stretches, so that memory does not grow with its
length; each stretch depends only on the samples around it. `separate_report` is the report's own
procedure.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import soxr
import threadpoolctl

from sepkit import audio as audio_files
from sepkit import masks, network, stft, weights
from sepkit.errors import AudioError, ParameterError
from sepkit.network import Prepared
from sepkit.stft import CONTEXT, EDGE_LENGTH, HOP_LENGTH, REPORT_TRANSFORM, Transform
from sepkit.tracks import RATE
from sepkit.weights import Weights

DEFAULT_HOP = 5
"""Frames between the starts of contexts: each frame lies in five of them."""

REPORT_BATCH = 32
"""Segments per batch in the report."""

_STRETCH = 512 * HOP_LENGTH
"""Samples separated at a time, in one thread: 3 s."""
_KEPT = 31 << 20
"""Bytes, just below the 32 MiB up to which glibc adapts to what is freed."""

Model = str | os.PathLike[str] | Weights | Any
"""A name of `sepkit.list_models`, a weight file, a network's weights, or a Keras model."""

EstimateMasks = Callable[[np.ndarray], np.ndarray]
"""From magnitudes of a mixture to masks, with the axis of the sources in front."""


def separate(
    audio: np.ndarray,
    rate: int,
    *,
    model: Model = "experiment3",
    hop: int = DEFAULT_HOP,
    mode: str = "song",
    pad: bool = False,
) -> dict[str, np.ndarray]:
    """Separate a song into stems.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels) or (n_samples,), float32
        The song, of any length and rate.
    rate : int
        Its sample rate [Hz].
    model : str, Path, dict or keras.Model
        A name of `sepkit.list_models`, a weight file, a network's weights, or a Keras model of
        this library. A model of one channel processes each channel by itself.
    hop : int
        Frames (5.8 ms each) between the starts of contexts, 1 to 25 (one context); fewer is
        smoother and slower.
    mode : {"song", "report"}
        "report" is the report's own procedure (`separate_report`), to which hop does not apply.
    pad : bool
        In report mode: pad the last batch with silence instead of dropping what is in it.

    Returns
    -------
    dict of str to ndarray, float32
        The stems in the order of `sepkit.SOURCES`, each of the song's shape. In song mode they sum
        to the song within 1e-5 of its peak.

    Raises
    ------
    ParameterError
        When shape, rate, hop or mode is out of range.
    AudioError
        When the song is empty, not finite, or too short for the report's procedure.
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
        blocks = separate_stream([song], rate, song.shape[1], model=model, hop=hop)
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


def resolve_weights(model: Model) -> Weights:
    """Return the weights of a model.

    Parameters
    ----------
    model : str, Path, dict or keras.Model
        As for `separate`.

    Returns
    -------
    dict of str to ndarray, float32
        The network.
    """
    if isinstance(model, str | os.PathLike):
        return weights.load(weights.find_weights(model))
    if not isinstance(model, dict):
        from sepkit.model import get_weights

        model = get_weights(model)
    weights.check_shapes(model)
    return dict(model)


def separate_song(
    mixture: np.ndarray, estimate_masks: EstimateMasks, *, transform: Transform = REPORT_TRANSFORM
) -> np.ndarray:
    """Separate a song with any masks.

    Parameters
    ----------
    mixture : ndarray of shape (n_samples, n_channels), float32
        The song.
    estimate_masks : callable
        From magnitudes ``(n_frames, 513, n_channels)`` to masks ``(n_sources, n_frames, 513,
        n_channels)``.
    transform : sepkit.stft.Transform
        The STFT; the report's by default.

    Returns
    -------
    ndarray of shape (n_sources, n_samples, n_channels), float32
        The estimates.
    """
    spectrum = stft.stft(mixture, transform=transform)
    estimated = estimate_masks(np.abs(spectrum))
    length = len(mixture)
    return np.stack([stft.istft(m * spectrum, length, transform=transform) for m in estimated])


def separate_segments(
    mixture: np.ndarray,
    estimate_masks: EstimateMasks,
    *,
    context: int = CONTEXT,
    transform: Transform = REPORT_TRANSFORM,
) -> np.ndarray:
    """Separate a song with any masks in the report's way: in segments, each inverted alone.

    Segments of one context lie end to end. The first and last 768 samples (1024 less the hop
    length) of each come out faded.

    Parameters
    ----------
    mixture : ndarray of shape (n_samples, n_channels), float32
        The song.
    estimate_masks : callable
        From magnitudes ``(n_segments, context, 513, n_channels)`` to masks with an axis of sources
        in front.
    context : int
        Frames per segment.
    transform : sepkit.stft.Transform
        The STFT; the report's by default.

    Returns
    -------
    ndarray of shape (n_sources, n_samples, n_channels), float32
        The estimates.
    """
    segments = stft.split_segments(mixture, length=transform.count_samples(context))
    spectra = stft.transform_frames(segments, transform=transform)
    estimated = estimate_masks(np.abs(spectra))
    stems = np.empty((len(estimated), *segments.shape), np.float32)
    for mask, stem in zip(estimated, stems, strict=True):
        stem[:] = stft.invert_frames(mask * spectra, transform=transform)
    return stems.reshape(len(stems), -1, mixture.shape[1])[:, : len(mixture)]


def separate_report(
    audio: np.ndarray, rate: int, *, model: Model = "experiment3", pad: bool = False
) -> np.ndarray:
    """Separate a song by the report's procedure: `separate_segments`, in batches of 32.

    What does not fill the last batch is lost.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels), float32
        The song.
    rate, model, pad : int, model, bool
        As for `separate`.

    Returns
    -------
    ndarray of shape (4, n, n_channels), float32
        The stems. n is the largest multiple of 32 segments in the song; with `pad`, its length.

    Raises
    ------
    AudioError
        When the song is shorter than 32 segments (5.2 s) and `pad` is not set.
    """
    song = _check_audio(audio, rate)
    values = resolve_weights(model)
    channels, n_sources = weights.check_shapes(values)
    _check_channels(channels, song.shape[1])
    prepared = network.prepare(values)
    context = network.context_length(prepared)
    length = REPORT_TRANSFORM.count_samples(context)
    resampled = audio_files.resample(song, rate, RATE)
    n_segments = -(-len(resampled) // length)
    n_kept = n_segments if pad else n_segments - n_segments % REPORT_BATCH
    if not n_kept:
        raise AudioError(
            f"the song fills {n_segments} segments, the report's procedure needs {REPORT_BATCH} "
            f"({REPORT_BATCH * length / RATE:.1f} s); give a longer one, or pad=True"
        )
    mixture = audio_files.fix_length(resampled, n_kept * length)
    # One context per segment: a hop of a whole context.
    estimate = partial(_segment_masks, prepared, channels, context)
    stems = np.empty((n_sources, *mixture.shape), np.float32)
    for start in range(0, len(mixture), REPORT_BATCH * length):
        batch = slice(start, start + REPORT_BATCH * length)
        for group in _groups(channels, song.shape[1]):
            part = mixture[batch, group]
            stems[:, batch, group] = separate_segments(part, estimate, context=context)
    if rate != RATE:
        stems = np.stack([audio_files.resample(stem, RATE, rate) for stem in stems])
    return stems[:, : len(song)]


def _segment_masks(
    prepared: Prepared, channels: int, context: int, magnitudes: np.ndarray
) -> np.ndarray:
    flat = magnitudes.reshape(-1, *magnitudes.shape[2:])
    estimated = _group_masks(prepared, flat, channels, context)
    return estimated.reshape(len(estimated), *magnitudes.shape)


# The same for a song of any length, as a stream.


def separate_stream(
    blocks: Iterable[np.ndarray],
    rate: int,
    n_channels: int,
    *,
    model: Model = "experiment3",
    hop: int = DEFAULT_HOP,
) -> Iterator[np.ndarray]:
    """Separate a song block by block, as a stream.

    Parameters
    ----------
    blocks : iterable of ndarray of shape (n, n_channels), float32
        The song, in blocks of any length.
    rate, n_channels : int
        Its sample rate [Hz] and number of channels.
    model, hop : model, int
        As for `separate`.

    Yields
    ------
    ndarray of shape (4, m, n_channels), float32
        The stems. In total they have the song's length, and they sum to it.
    """
    values = resolve_weights(model)
    channels, _ = weights.check_shapes(values)
    context = weights.infer_sizes(values).context
    if hop not in range(1, context + 1):
        raise ParameterError(f"hop {hop}: give 1 to {context} frames")
    _check_channels(channels, n_channels)
    prepared = network.prepare(values)
    if rate == RATE:
        yield from _separate_blocks(blocks, n_channels, prepared, channels, hop)
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

    n_sources = prepared["vertical_deconvolution"][0].shape[0]
    back = soxr.ResampleStream(RATE, rate, n_sources * n_channels, dtype="float32")
    other = weights.source_names(n_sources).index("other") if n_sources == 4 else -1

    def complete(flat: np.ndarray, song: np.ndarray) -> np.ndarray:
        flat = audio_files.fix_length(flat, len(song))
        stems = flat.reshape(len(flat), n_sources, n_channels).transpose(1, 0, 2).copy()
        stems[other] += song - stems.sum(axis=0)
        return stems

    for stems in _separate_blocks(resampled(), n_channels, prepared, channels, hop):
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


def _separate_blocks(
    blocks: Iterable[np.ndarray], n_channels: int, prepared: Prepared, channels: int, hop: int
) -> Iterator[np.ndarray]:
    """Separate a song at the network's rate, in stretches, a few at a time in threads."""
    # As many threads as BLAS would use, which is then limited to one: joblib, or whatever else
    # shares the cores, limits BLAS.
    blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
    n_threads = max((lib["num_threads"] for lib in blas.info()), default=1)
    waiting: deque[Future[np.ndarray]] = deque()
    # A stretch allocates and frees arrays of some megabytes, which glibc would map anew each time,
    # a quarter of the run time. Once a larger one has been freed, it keeps them.
    np.empty(_KEPT, np.uint8)
    with ThreadPoolExecutor(n_threads) as pool, blas.limit(limits=1):
        for window, frames, length in _stretches(blocks, n_channels, prepared, hop):
            waiting.append(
                pool.submit(_separate_stretch, window, frames, length, prepared, channels, hop)
            )
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _stretches(
    blocks: Iterable[np.ndarray], n_channels: int, prepared: Prepared, hop: int
) -> Iterator[tuple[np.ndarray, slice, int]]:
    """Split a song into stretches, each with the samples around it that its masks depend on.

    Yields the samples of whole contexts, those of their frames that cover the stretch, and the
    length of the stretch. Frame n of the song starts at its sample ``256 n - 768``.
    """
    context = network.context_length(prepared)
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
            window = np.pad(window, [(max(0, -begin), max(0, finish - len(held))), (0, 0)])
            yield window, slice(first - first_context, behind - first_context), stop - start
            start = stop
            keep_from = max(held_from, start - reach)
            held, held_from = held[keep_from - held_from :], keep_from


def _separate_stretch(
    window: np.ndarray, frames: slice, length: int, prepared: Prepared, channels: int, hop: int
) -> np.ndarray:
    """Separate one of `_stretches`: (n_sources, length, n_channels)."""
    spectrum = stft.transform_frames(window)
    n_sources, n_channels = len(prepared["vertical_deconvolution"][0]), window.shape[1]
    stems = np.empty((n_sources, length, n_channels), np.float32)
    for group in _groups(channels, n_channels):
        part = spectrum[..., group]
        estimated = _group_masks(prepared, np.abs(part), channels, hop)
        for mask, stem in zip(estimated[:-1], stems, strict=False):
            estimate = stft.invert_frames(mask[frames] * part[frames])
            stem[:, group] = estimate[EDGE_LENGTH : EDGE_LENGTH + length]
    # Masks sum to 1: the last stem is the rest, and needs no inverse of its own.
    start = HOP_LENGTH * frames.start + EDGE_LENGTH
    np.subtract(window[start : start + length], stems[:-1].sum(axis=0), out=stems[-1])
    return stems


def _groups(channels: int, n_channels: int) -> list[slice]:
    """Return the channels that a model of `channels` processes together."""
    size = 1 if channels == 1 else n_channels
    return [slice(i, i + size) for i in range(0, n_channels, size)]


def _group_masks(prepared: Prepared, magnitudes: np.ndarray, channels: int, hop: int) -> np.ndarray:
    """Compute the masks of a group of channels."""
    if magnitudes.shape[2] == channels:
        return masks.mean_masks(prepared, magnitudes, hop)
    # Mono for a model of several channels: the same in all of them.
    same = np.repeat(magnitudes, channels, axis=2)
    return masks.mean_masks(prepared, same, hop).mean(axis=-1, keepdims=True)
