"""A song in, stems out.

The magnitudes of the whole song go through the network in contexts (25 frames) that start every
`hop` frames; where contexts overlap, their masks are averaged; the song's own STFT is masked and
inverted once. This happens stretch by stretch, so that memory does not grow with the song, and
each stretch is computed from the samples around it alone. `separate_report` is the report's own
procedure instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import soxr

from sepkit import audio as audio_files
from sepkit import network, parameters, spectral
from sepkit.datasets import RATE
from sepkit.errors import AudioError, ParameterError
from sepkit.spectral import EDGE, HOP

HOP_CONTEXTS = 5
"""Frames between contexts unless said otherwise: five contexts see each frame."""

REPORT_BATCH = 32
"""Segments that the report's network takes at once."""

_STRETCH = 1024 * HOP
"""Samples separated at once: 5.9 s."""
_CHUNK = 32
"""Contexts decoded at once: what fits a cache."""

Model = str | os.PathLike | parameters.Parameters


def separate(
    audio: np.ndarray,
    rate: int,
    *,
    model: Model = "experiment3",
    hop: int = HOP_CONTEXTS,
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
    names = parameters.source_names(len(stems))
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


def load_parameters(model: Model) -> parameters.Parameters:
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
        return parameters.load(parameters.find(model))
    if not isinstance(model, dict):
        from sepkit.model import get_parameters

        model = get_parameters(model)
    parameters.dimensions(model)
    return model


def separate_blocks(
    blocks: Iterable[np.ndarray],
    rate: int,
    n_channels: int,
    *,
    model: Model = "experiment3",
    hop: int = HOP_CONTEXTS,
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
    values = load_parameters(model)
    channels, _ = parameters.dimensions(values)
    context = parameters.layer_sizes(values).context
    if hop not in range(1, context + 1):
        raise ParameterError(f"hop {hop}: give 1 to {context} frames")
    _check_channels(channels, n_channels)
    pairs = network.matrices(values)
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
    other = parameters.source_names(n_sources).index("other") if n_sources == 4 else -1

    def complete(flat: np.ndarray, song: np.ndarray) -> np.ndarray:
        flat = audio_files.fit_length(flat, len(song))
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
    """Separate a song at the network's rate, stretch by stretch."""
    # Samples around a stretch that its masks depend on, at most.
    reach = HOP * 2 * network.context_length(pairs) + EDGE
    held = np.zeros((0, n_channels), np.float32)
    held_from = done = 0
    for block in chain(blocks, [None]):
        last = block is None
        if not last:
            held = np.concatenate([held, np.asarray(block, np.float32)])
        end = held_from + len(held)
        while done < end and (last or done + _STRETCH + reach <= end):
            stop = min(done + _STRETCH, end)
            yield _separate_stretch(
                held, held_from, done, stop, end if last else None, pairs, channels, hop
            )
            done = stop
            keep_from = max(held_from, done - reach)
            held, held_from = held[keep_from - held_from :], keep_from


def _separate_stretch(
    held: np.ndarray,
    held_from: int,
    start: int,
    stop: int,
    end: int | None,
    pairs: dict,
    channels: int,
    hop: int,
) -> np.ndarray:
    """Separate samples `start` to `stop` of a song of which the samples around are held.

    `start` is a multiple of 256, `end` the length of the song once known. Frame n of the song
    starts at its sample ``256 n - 768``.
    """
    context = network.context_length(pairs)
    first, last = start // HOP, -(-stop // HOP) + 3
    first_context = max(0, -(-(first - context + 1) // hop)) * hop
    last_context = (last - 1) // hop * hop
    if end is not None:
        n_after_first = -(-(spectral.count_frames(end) - context) // hop)
        last_context = min(last_context, max(0, n_after_first) * hop)

    begin = HOP * first_context - EDGE - held_from
    finish = HOP * (last_context + context + 3) - EDGE - held_from
    window = held[max(0, begin) : max(0, finish)]
    window = np.pad(window, [(max(0, -begin), max(0, finish - len(held))), (0, 0)])
    spectrum = spectral.frames_transform(window)

    frames = slice(first - first_context, last - first_context)
    masks = _song_masks(pairs, np.abs(spectrum), channels, hop)[:, frames]
    estimates = spectral.frames_inverse(masks * spectrum[frames])
    return estimates[:, EDGE : EDGE + stop - start]


def _song_masks(pairs: dict, magnitudes: np.ndarray, channels: int, hop: int) -> np.ndarray:
    """Mask every channel of the song with a model of `channels`."""
    n_channels = magnitudes.shape[2]
    if channels == n_channels:
        return mean_masks(pairs, magnitudes, hop)
    if channels == 1:
        each = [mean_masks(pairs, magnitudes[:, :, [i]], hop) for i in range(n_channels)]
        return np.concatenate(each, axis=-1)
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
        The network's `sepkit.network.matrices`.
    magnitudes : ndarray of shape (n_frames, 513, n_channels), float32
        Magnitudes of the mixture.
    hop : int
        Frames between the starts of contexts.
    weights : ndarray of shape (25,), float32, optional
        How much each frame of a context counts; all alike by default.

    Returns
    -------
    ndarray of shape (4, n_frames, 513, n_channels), float32
        Masks: non-negative, sum 1 in every bin.
    """
    context = network.context_length(pairs)
    if weights is None:
        weights = np.ones(context, np.float32)
    n_frames = len(magnitudes)
    # Silence after the end is silence for the network too, hence before its first layer.
    n_contexts = max(0, -(-(n_frames - context) // hop)) + 1
    missing = (n_contexts - 1) * hop + context - n_frames
    timbres = network.timbre(pairs, np.pad(magnitudes, [(0, missing), (0, 0), (0, 0)]))
    shared = network.bottleneck(pairs, spectral.contexts(timbres, hop, length=context))

    n_sources = pairs["draw"][0].shape[0]
    total = np.zeros((n_sources, n_frames + missing, *magnitudes.shape[1:]), np.float32)
    for start in range(0, n_contexts, _CHUNK):
        masks = network.normalize(network.decode(pairs, shared[start : start + _CHUNK]))
        for source in range(n_sources):
            part = spectral.overlap_add(masks[source] * weights[:, np.newaxis, np.newaxis], hop)
            total[source, start * hop : start * hop + len(part)] += part
    count = spectral.overlap_add(np.tile(weights, (n_contexts, 1)), hop)
    total /= count[:, np.newaxis, np.newaxis]
    return total[:, :n_frames]


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
    values = load_parameters(model)
    channels, n_sources = parameters.dimensions(values)
    _check_channels(channels, song.shape[1])
    pairs = network.matrices(values)
    context = network.context_length(pairs)
    length = HOP * (context + 3)
    pieces = spectral.segments(audio_files.resample(song, rate, RATE), length=length)
    n_kept = len(pieces) if pad else len(pieces) - len(pieces) % REPORT_BATCH
    if not n_kept:
        raise AudioError(
            f"the song fills {len(pieces)} segments, the report's procedure needs {REPORT_BATCH} "
            f"({REPORT_BATCH * length / RATE:.1f} s); give a longer one, or pad=True"
        )
    estimates = []
    for piece in pieces[:n_kept]:
        spectrum = spectral.frames_transform(piece)
        # One context a segment: a hop of a whole context.
        masks = _song_masks(pairs, np.abs(spectrum), channels, context)
        estimates.append(spectral.frames_inverse(masks * spectrum))
    stems = np.concatenate(estimates, axis=1)
    if rate != RATE:
        stems = np.stack([audio_files.resample(stem, RATE, rate) for stem in stems])
    return stems[:, : len(song)]
