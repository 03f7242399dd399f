"""Audio as float32 arrays: read, written, resampled.

Audio is float32 of shape ``(n_samples, n_channels)``, with full scale at 1.0, at any sample rate.
"""

from __future__ import annotations

import os
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from sepkit.errors import ParameterError
from sepkit.io.decoding import BLOCK, HIGHEST_RATE, LOWEST_RATE, AudioFile
from sepkit.io.encoding import CLIP_POLICIES, check_format, writer


def read(
    path: str | os.PathLike[str],
    *,
    rate: int | None = None,
    start: float = 0.0,
    duration: float | None = None,
) -> tuple[np.ndarray, int]:
    """Read an audio file.

    Parameters
    ----------
    path : str or Path
        A file that soundfile or ffmpeg can decode.
    rate : int, optional
        Resample to this rate [Hz]; the file's own by default.
    start : float
        Where to begin [s].
    duration : float, optional
        How much to read [s]; by default, to the end.

    Returns
    -------
    audio : ndarray of shape (n_samples, n_channels), float32
        The audio.
    rate : int
        Its sample rate [Hz].

    Raises
    ------
    AudioError
        When the file is missing, not audio, empty, breaks off, or holds NaN.
    """
    file = AudioFile(path)
    audio = np.concatenate(list(file.blocks(start, duration)))
    if rate is None:
        return audio, file.rate
    return resample(audio, file.rate, rate), rate


def check_rate(rate: object) -> None:
    """Raise a `ParameterError` if something is no sample rate, a finite number from 1000 Hz on."""
    number: Any = rate if isinstance(rate, Real) else 0
    if not LOWEST_RATE <= number <= HIGHEST_RATE:
        raise ParameterError(
            f"rate {rate!r}: give a finite rate of {LOWEST_RATE} Hz or more, at most {HIGHEST_RATE}"
        )


def to_float(audio: np.ndarray) -> np.ndarray:
    """Convert samples of any common type to float32 with full scale at 1.0.

    Parameters
    ----------
    audio : ndarray
        Floating-point samples, or integers of 8, 16 or 32 bits, which are scaled by the range of
        their type, as sound files hold them; silence is in the middle of unsigned ones.

    Returns
    -------
    ndarray of the same shape, float32
        The samples.

    Raises
    ------
    ParameterError
        When the type is another.
    """
    try:
        samples = np.asarray(audio)
    except ValueError as error:  # lists of different lengths
        raise ParameterError("audio: give an array of float (n_samples, n_channels)") from error
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            return samples.astype(np.float32, copy=False)
    if samples.dtype.kind in "iu" and samples.itemsize <= 4:
        full_scale = 2.0 ** (8 * samples.itemsize - 1)
        middle = full_scale if samples.dtype.kind == "u" else 0.0
        return ((samples.astype(np.float64) - middle) / full_scale).astype(np.float32)
    raise ParameterError(
        f"audio of type {samples.dtype}: give an array of float, or of 8, 16 or 32-bit integers"
    )


def resample(audio: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Resample audio.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels), float32
        Audio at `rate_in`.
    rate_in, rate_out : int
        Sample rates [Hz].

    Returns
    -------
    ndarray of shape (ceil(n_samples * rate_out / rate_in), n_channels), float32
        Audio at `rate_out`; the same array if the rates are equal.
    """
    check_rate(rate_in)
    check_rate(rate_out)
    if rate_in == rate_out:
        return audio
    n_samples = int(-(-len(audio) * rate_out // rate_in))
    return fix_length(soxr.resample(audio, rate_in, rate_out), n_samples)


def fix_length(audio: np.ndarray, n_samples: int) -> np.ndarray:
    """Trim an array (n, ...), or pad it with zeros, to `n_samples`."""
    missing = n_samples - len(audio)
    if missing <= 0:
        return audio[:n_samples]
    return np.pad(audio, [(0, missing)] + [(0, 0)] * (audio.ndim - 1))


def apply_clip_policy(audio: np.ndarray, clip: str) -> np.ndarray:
    """Limit samples to the range of formats that clip.

    Parameters
    ----------
    audio : ndarray
        Samples; several stems in one array share one gain.
    clip : {"none", "rescale", "clip"}
        "none" leaves them; "rescale" divides by the peak if it exceeds 1, which keeps the
        waveform; "clip" clips at 1, which keeps the level.

    Returns
    -------
    ndarray
        Samples of the same shape.
    """
    if clip == "none":
        return audio
    if clip == "rescale":
        return audio / max(1.0, float(np.abs(audio).max(initial=0.0)))
    if clip == "clip":
        return np.asarray(np.clip(audio, -1.0, 1.0))
    raise ParameterError(f"clip={clip!r}: unknown policy; use one of {', '.join(CLIP_POLICIES)}")


def write(
    path: str | os.PathLike[str],
    audio: np.ndarray,
    rate: int,
    *,
    clip: str | None = None,
    bit_depth: str | None = None,
    bitrate: int | None = None,
) -> None:
    """Write an audio file: wav, flac, ogg (Vorbis) or mp3, by its suffix.

    Parameters
    ----------
    path : str or Path
        The file, in an existing folder; written completely or not at all.
    audio : ndarray of shape (n_samples, n_channels) or (n_samples,)
        The audio, float or integer (see `to_float`).
    rate : int
        Its sample rate [Hz].
    clip : {"none", "rescale", "clip"}, optional
        What to do with samples beyond full scale (see `apply_clip_policy`). By default "none"
        for float wav, whose samples hold any level, and "rescale" for all others.
    bit_depth : {"16", "24", "32f"}, optional
        Sample format of wav (by default "32f", float) and flac ("16").
    bitrate : int, optional
        Bitrate of mp3 [kbit/s].

    Raises
    ------
    AudioError
        When the file cannot be written.
    ParameterError
        When the suffix or an option is unknown, or does not fit the format.
    """
    path = Path(path)
    check_rate(rate)
    clip = check_format(path.suffix, clip=clip, bit_depth=bit_depth)
    audio = apply_clip_policy(to_float(audio), clip)
    if audio.ndim not in (1, 2):
        raise ParameterError(f"audio of shape {audio.shape}: give (n_samples, n_channels)")
    n_channels = 1 if audio.ndim == 1 else audio.shape[1]
    with writer(path, round(rate), n_channels, bit_depth=bit_depth, bitrate=bitrate) as file:
        for start in range(0, len(audio), BLOCK):
            file.write(audio[start : start + BLOCK])
