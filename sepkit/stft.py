"""The STFT pair, contexts of frames, and their overlap-add.

A frame is 1024 samples under a periodic Hann window, a new one every 256 samples: four frames
overlap everywhere, and the squares of four Hann windows a quarter apart add up to 3/2. So the
same window, divided by 3/2, brings the signal back when it is used again after the inverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from sepkit.errors import ParameterError

FRAME_LENGTH = 1024
"""Samples a frame."""
HOP_LENGTH = 256
"""Samples between the starts of frames."""
N_BINS = FRAME_LENGTH // 2 + 1
"""Frequency bins a frame, 43 Hz apart at 44.1 kHz."""
CONTEXT = 25
"""Frames that the network sees at once: 162.5 ms of new sound."""
SEGMENT_LENGTH = HOP_LENGTH * (CONTEXT + 3)
"""Samples that make exactly one context without padding (7168)."""
EDGE_LENGTH = FRAME_LENGTH - HOP_LENGTH
"""Samples at an end of a segment that fewer than four frames cover (768)."""

_OVERLAP_GAIN = 1.5

_BLOCK = 128
"""Frames inverted at once: what fits a cache."""


def window() -> np.ndarray:
    """Give the periodic Hann window.

    Returns
    -------
    ndarray of shape (1024,), float32
        ``0.5 - 0.5 cos(2 pi n / 1024)``.
    """
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME_LENGTH) / FRAME_LENGTH)).astype(np.float32)


@dataclass(frozen=True)
class Transform:
    """An STFT to train with, other than this module's own, so that the two can be compared.

    Parameters
    ----------
    hop : int
        Samples between the starts of frames, a divisor of 1024 from 1 to 512.
    window : {"hann", "blackman-harris"}
        The periodic Hann window of `window`, or the symmetric Blackman-Harris window.

    Raises
    ------
    ParameterError
        When the hop or the window is out of range.

    References
    ----------
    Harris (1978), On the use of windows for harmonic analysis with the discrete Fourier transform.
    """

    hop: int = HOP_LENGTH
    window: str = "hann"

    def __post_init__(self):
        if self.hop not in range(1, FRAME_LENGTH // 2 + 1) or FRAME_LENGTH % self.hop:
            raise ParameterError(f"hop {self.hop}: give a divisor of {FRAME_LENGTH}, at most half of it")
        if self.window not in ("hann", "blackman-harris"):
            raise ParameterError(f"window {self.window!r}: unknown; use hann or blackman-harris")

    def values(self) -> np.ndarray:
        """Give the window.

        Returns
        -------
        ndarray of shape (1024,), float32
            Its values.
        """
        if self.window == "hann":
            return window()
        # It takes a third of a second to import, and separating does not need it.
        from scipy.signal.windows import blackmanharris

        return blackmanharris(FRAME_LENGTH, sym=True).astype(np.float32)

    def count_samples(self, n_frames: int) -> int:
        """Count the samples that make some frames without padding.

        Parameters
        ----------
        n_frames : int
            Frames.

        Returns
        -------
        int
            Samples.
        """
        return self.hop * (n_frames - 1) + FRAME_LENGTH

    def fade(self, n_samples: int) -> np.ndarray:
        """Tell what is left of each sample of a segment that is transformed and inverted alone.

        Parameters
        ----------
        n_samples : int
            The segment's length, as `count_samples` counts.

        Returns
        -------
        ndarray of shape (n_samples,), float32
            1 where as many frames as overlap cover a sample; towards both ends, less.
        """
        squares = self.values() ** 2
        n_frames = (n_samples - FRAME_LENGTH) // self.hop + 1
        covered = overlap_add(np.tile(squares, (n_frames, 1)), self.hop)
        return covered / np.resize(squares.reshape(-1, self.hop).sum(axis=0), n_samples)


REPORT_TRANSFORM = Transform()


def count_frames(n_samples: int) -> int:
    """Count the frames that `stft` makes of a sound.

    Parameters
    ----------
    n_samples : int
        Samples.

    Returns
    -------
    int
        Frames: enough that four of them cover every sample.
    """
    return -(-(n_samples + EDGE_LENGTH) // HOP_LENGTH)


def transform_frames(samples: np.ndarray) -> np.ndarray:
    """Transform every frame that fits into some samples, without padding.

    Parameters
    ----------
    samples : ndarray of shape (..., n_samples, n_channels), float32
        At least 1024 samples.

    Returns
    -------
    ndarray of shape (..., (n_samples - 1024) // 256 + 1, 513, n_channels), complex64
        The spectra; of one segment (7168 samples), the 25 frames of one context.
    """
    # Each channel in one piece: FFTs are twice as fast where samples are neighbours.
    channels = np.ascontiguousarray(np.swapaxes(samples, -1, -2))
    frames = np.lib.stride_tricks.sliding_window_view(channels, FRAME_LENGTH, axis=-1)[..., ::HOP_LENGTH, :]
    return np.moveaxis(scipy.fft.rfft(frames * window(), axis=-1), -3, -1)


def invert_frames(spectra: np.ndarray) -> np.ndarray:
    """Invert spectra and add up the overlapping frames, without cutting anything off.

    The first and last 768 samples are covered by fewer than four frames and come out faded: by
    the time the first sample is reached, to nothing.

    Parameters
    ----------
    spectra : ndarray of shape (..., n_frames, 513, n_channels), complex64
        Spectra.

    Returns
    -------
    ndarray of shape (..., 256 * (n_frames + 3), n_channels), float32
        The sound.
    """
    spectra = np.moveaxis(spectra, -1, -3)
    *batch, n_frames, _ = spectra.shape
    gain = window() / _OVERLAP_GAIN
    sound = np.zeros((*batch, n_frames + 3, HOP_LENGTH), np.float32)
    for start in range(0, n_frames, _BLOCK):
        frames = scipy.fft.irfft(spectra[..., start : start + _BLOCK, :], FRAME_LENGTH, axis=-1)
        frames *= gain
        quarters = frames.reshape(*frames.shape[:-1], FRAME_LENGTH // HOP_LENGTH, HOP_LENGTH)
        for quarter in range(FRAME_LENGTH // HOP_LENGTH):
            first = start + quarter
            sound[..., first : first + frames.shape[-2], :] += quarters[..., quarter, :]
    return np.swapaxes(sound.reshape(*batch, HOP_LENGTH * (n_frames + 3)), -1, -2)


def stft(audio: np.ndarray) -> np.ndarray:
    """Transform a sound, its edges included.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels), float32
        The sound.

    Returns
    -------
    ndarray of shape (n_frames, 513, n_channels), complex64
        Frame n starts at sample ``256 n - 768``: the sound is padded with zeros so that four
        frames cover every sample (see `count_frames`).
    """
    after = HOP_LENGTH * (count_frames(len(audio)) - 1) + FRAME_LENGTH - EDGE_LENGTH - len(audio)
    return transform_frames(np.pad(np.asarray(audio, np.float32), [(EDGE_LENGTH, after), (0, 0)]))


def istft(spectrum: np.ndarray, n_samples: int) -> np.ndarray:
    """Bring a sound back from its `stft`.

    Parameters
    ----------
    spectrum : ndarray of shape (n_frames, 513, n_channels), complex64
        A spectrum, changed or not.
    n_samples : int
        The sound's length.

    Returns
    -------
    ndarray of shape (n_samples, n_channels), float32
        The sound: of an unchanged spectrum, the one that went in, to 1e-6 of its peak.
    """
    return invert_frames(spectrum)[EDGE_LENGTH : EDGE_LENGTH + n_samples]


def segments(audio: np.ndarray, *, length: int = SEGMENT_LENGTH, step: int | None = None) -> np.ndarray:
    """Cut a sound into segments: end to end, as the report does, or overlapping.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, ...), float32
        The sound, not empty.
    length : int
        Samples a segment.
    step : int, optional
        Samples between the starts of segments, 1 to `length`; `length` by default.

    Returns
    -------
    ndarray of shape (n_segments, length, ...), float32
        The segments, as many as hold all of the sound, the last one padded with zeros; a view
        where possible.
    """
    return contexts(audio, step or length, length=length)


def contexts(frames: np.ndarray, hop: int, *, length: int = CONTEXT) -> np.ndarray:
    """Group frames into contexts, a new one every `hop` frames.

    Parameters
    ----------
    frames : ndarray of shape (n_frames, ...)
        Magnitudes, or anything else that comes a frame at a time.
    hop : int
        Frames between the starts of contexts, 1 to `length`.
    length : int
        Frames a context.

    Returns
    -------
    ndarray of shape (n_contexts, length, ...)
        A view where possible: the frames are padded with zeros so that the last one is in a
        whole context.
    """
    n_contexts = max(0, -(-(len(frames) - length) // hop)) + 1
    missing = (n_contexts - 1) * hop + length - len(frames)
    if missing:
        frames = np.pad(frames, [(0, missing)] + [(0, 0)] * (frames.ndim - 1))
    views = np.lib.stride_tricks.sliding_window_view(frames, length, axis=0)[::hop]
    return np.moveaxis(views, -1, 1)


def overlap_add(values: np.ndarray, hop: int) -> np.ndarray:
    """Add up what contexts say of the frames they share; the transpose of `contexts`.

    Parameters
    ----------
    values : ndarray of shape (n_contexts, length, ...)
        Contexts.
    hop : int
        Frames between their starts.

    Returns
    -------
    ndarray of shape ((n_contexts - 1) * hop + length, ...)
        The sum over contexts, a frame at a time.
    """
    n_contexts, length = values.shape[:2]
    n_blocks = n_contexts - 1 + -(-length // hop)
    total = np.zeros((n_blocks, hop, *values.shape[2:]), values.dtype)
    # All contexts' k-th stretch of `hop` frames falls on blocks k, k+1, ...: one addition each.
    for k, start in enumerate(range(0, length, hop)):
        part = values[:, start : start + hop]
        total[k : k + n_contexts, : part.shape[1]] += part
    return total.reshape(n_blocks * hop, *values.shape[2:])[: (n_contexts - 1) * hop + length]
