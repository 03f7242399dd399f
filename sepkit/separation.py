"""Separation: a song in, its stems out.

`separate` takes a whole song through `sepkit.streaming`; `separate_report` is the report's own
procedure; `separate_song` and `separate_segments` are both with any masks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from sepkit import audio as audio_files
from sepkit import network, stft, weights
from sepkit.errors import AudioError, ParameterError
from sepkit.io.decoding import LOUDEST
from sepkit.network import Prepared
from sepkit.stft import CONTEXT, REPORT_TRANSFORM, Transform
from sepkit.streaming import (
    DEFAULT_HOP,
    Model,
    channel_groups,
    check_channels,
    group_masks,
    resolve_weights,
    separate_stream,
)
from sepkit.tracks import RATE

REPORT_BATCH = 32
"""Segments per batch in the report."""

EstimateMasks = Callable[[np.ndarray], np.ndarray]
"""From magnitudes of a mixture to masks, with the axis of the sources in front."""

Progress = Callable[[float], object]
"""Called with the fraction that is done, up to 1.0. What it raises stops the separation."""


def separate(
    audio: np.ndarray,
    rate: int,
    *,
    model: Model = "experiment3",
    hop: int = DEFAULT_HOP,
    engine: str = "numpy",
    mode: str = "song",
    pad: bool = False,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Separate a song into stems.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels) or (n_samples,)
        The song, of any length and rate; float, or integers, which are scaled by the range of
        their type (see `sepkit.audio.to_float`).
    rate : int
        Its sample rate [Hz].
    model : str, Path, dict or keras.Model
        A name of `sepkit.list_models`, a weight file, a network's weights, or a Keras model of
        this library. A model of one channel processes each channel by itself.
    hop : int
        Frames (5.8 ms each) between the starts of contexts, 1 to 25 (one context); fewer is
        smoother and slower.
    engine : {"numpy", "compiled"}
        "compiled" takes less time: the network in C, compiled on first use (`sepkit.engine`). The
        stems are equal within 1e-6 of the song's peak.
    mode : {"song", "report"}
        "report" is the report's own procedure (`separate_report`), to which hop and engine do not
        apply.
    pad : bool
        In report mode: pad the last batch with silence instead of dropping what is in it.
    progress : callable, optional
        Called now and then with the fraction that is done, up to 1.0. What it raises stops the
        separation and reaches the caller.

    Returns
    -------
    dict of str to ndarray, float32
        The stems in the order of `sepkit.SOURCES`, each of the song's shape. In song mode they sum
        to the song within 1e-5 of its peak.

    Raises
    ------
    ParameterError
        When shape, type, rate, hop, engine or mode is out of range.
    MissingPackageError
        When the engine has to be compiled and ziglang is not installed.
    AudioError
        When the song is empty, not finite, or too short for the report's procedure.
    ModelError
        When the model is unknown, or its weights are not finite.

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
        blocks = []
        n_done = 0
        separated = separate_stream(
            [song], rate, song.shape[1], model=model, hop=hop, engine=engine
        )
        for block in separated:
            blocks.append(block)
            n_done += block.shape[1]
            if progress is not None:
                progress(n_done / len(song))
        stems = np.concatenate(blocks, axis=1)
    elif mode == "report":
        stems = separate_report(song, rate, model=model, pad=pad, progress=progress)
    else:
        raise ParameterError(f"mode {mode!r}: unknown; use song or report")
    names = weights.source_names(len(stems))
    shape = (-1,) if np.ndim(audio) == 1 else (-1, song.shape[1])
    return {name: stem.reshape(shape) for name, stem in zip(names, stems, strict=True)}


def _check_audio(audio: np.ndarray, rate: int) -> np.ndarray:
    audio_files.check_rate(rate)
    song = audio_files.to_float(audio)
    if song.ndim == 1:
        song = song[:, np.newaxis]
    if song.ndim != 2 or not 1 <= song.shape[1] <= 64:
        raise ParameterError(
            f"audio of shape {np.shape(audio)}: give (n_samples, n_channels); transpose it?"
        )
    if not len(song):
        raise AudioError("the song holds no samples; give a sound of some length")
    if not (np.abs(song) < LOUDEST).all():
        raise AudioError("the song holds NaN, infinite or immense samples; mend it first")
    return song


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
    audio: np.ndarray,
    rate: int,
    *,
    model: Model = "experiment3",
    pad: bool = False,
    progress: Progress | None = None,
) -> np.ndarray:
    """Separate a song by the report's procedure: `separate_segments`, in batches of 32.

    What does not fill the last batch is lost.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels), float32
        The song.
    rate, model, pad, progress : int, model, bool, callable
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
    check_channels(channels, song.shape[1])
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
        for group in channel_groups(channels, song.shape[1]):
            part = mixture[batch, group]
            stems[:, batch, group] = separate_segments(part, estimate, context=context)
        if progress is not None:
            progress(min(1.0, (start + REPORT_BATCH * length) / len(mixture)))
    if rate != RATE:
        stems = np.stack([audio_files.resample(stem, RATE, rate) for stem in stems])
    return stems[:, : len(song)]


def _segment_masks(
    prepared: Prepared, channels: int, context: int, magnitudes: np.ndarray
) -> np.ndarray:
    flat = magnitudes.reshape(-1, *magnitudes.shape[2:])
    estimated = group_masks(prepared, flat, channels, context)
    return estimated.reshape(len(estimated), *magnitudes.shape)
