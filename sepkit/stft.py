"""The STFT and its inverse, segments of samples, contexts of frames.

A frame is 1024 samples under a periodic Hann window, one every 256 samples. Four frames overlap
everywhere, and the squares of four Hann windows a quarter of their length apart sum to 3/2: the
same window, divided by 3/2, after the inverse transform recovers the signal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sepkit.errors import ParameterError

FRAME_LENGTH = 1024
"""Samples per frame."""
HOP_LENGTH = 256
"""Samples between the starts of consecutive frames."""
N_BINS = FRAME_LENGTH // 2 + 1
"""Frequency bins per frame, 43 Hz apart at 44.1 kHz."""
CONTEXT = 25
"""Frames per context, the input of the network: 162.5 ms."""
SEGMENT_LENGTH = HOP_LENGTH * (CONTEXT + 3)
"""Samples that make exactly one context without padding (7168)."""
EDGE_LENGTH = FRAME_LENGTH - HOP_LENGTH
"""Samples at either end of a segment that fewer than four frames cover (768)."""

_BLOCK = 128
"""Frames transformed at a time: as many as fit the cache."""


@dataclass(frozen=True)
class Transform:
    """Window and hop length of an STFT with frames of 1024 samples.

    Parameters
    ----------
    hop_length : int
        Samples between the starts of frames: a divisor of 1024, from 1 to 512.
    window : {"hann", "blackman-harris"}
        The periodic Hann window, or the symmetric Blackman-Harris window.

    Raises
    ------
    ParameterError
        When hop length or window is out of range.

    References
    ----------
    Harris (1978), On the use of windows for harmonic analysis with the discrete Fourier transform.
    """

    hop_length: int = HOP_LENGTH
    window: str = "hann"

    def __post_init__(self) -> None:
        if self.hop_length not in range(1, FRAME_LENGTH // 2 + 1) or FRAME_LENGTH % self.hop_length:
            raise ParameterError(
                f"hop_length {self.hop_length}: give a divisor of {FRAME_LENGTH}, at most half "
                "of it"
            )
        if self.window not in ("hann", "blackman-harris"):
            raise ParameterError(f"window {self.window!r}: unknown; use hann or blackman-harris")

    @property
    def edge_length(self) -> int:
        """Samples at either end of a segment that fewer frames cover than the others."""
        return FRAME_LENGTH - self.hop_length

    def window_values(self) -> np.ndarray:
        """Return the analysis window: float32 of shape (1024,)."""
        return self._window().astype(np.float32)

    def synthesis_window(self) -> np.ndarray:
        """Return the window that makes the inverse exact: float32 of shape (1024,)."""
        # The sum of the squared windows that cover each of `hop_length` samples.
        overlap = np.sum(self._window().reshape(-1, self.hop_length) ** 2, axis=0)
        return self.window_values() / np.resize(overlap, FRAME_LENGTH).astype(np.float32)

    def _window(self) -> np.ndarray:
        if self.window == "hann":
            phase = 2 * np.pi * np.arange(FRAME_LENGTH) / FRAME_LENGTH
            return np.asarray(0.5 - 0.5 * np.cos(phase))
        # Imported here: it takes a third of a second, and separating does not need it.
        from scipy.signal.windows import blackmanharris

        return np.asarray(blackmanharris(FRAME_LENGTH, sym=True))

    def count_samples(self, n_frames: int) -> int:
        """Return the number of samples that make `n_frames` frames without padding."""
        return self.hop_length * (n_frames - 1) + FRAME_LENGTH


REPORT_TRANSFORM = Transform()


def count_frames(n_samples: int, *, transform: Transform = REPORT_TRANSFORM) -> int:
    """Return the number of frames of `stft`, with the padding at both ends."""
    return -(-(n_samples + transform.edge_length) // transform.hop_length)


def transform_frames(samples: np.ndarray, *, transform: Transform = REPORT_TRANSFORM) -> np.ndarray:
    """Transform every whole frame of a signal, without padding.

    Parameters
    ----------
    samples : ndarray of shape (..., n_samples, n_channels), float32
        At least 1024 samples.
    transform : Transform
        The STFT; the report's by default.

    Returns
    -------
    ndarray of shape (..., n_frames, 513, n_channels), complex64
        The spectra of ``(n_samples - 1024) // hop_length + 1`` frames: the 25 frames of one
        context for a segment of 7168 samples.
    """
    # Each channel contiguous: the FFT is then twice as fast.
    channels = np.ascontiguousarray(np.swapaxes(samples, -1, -2))
    windows = np.lib.stride_tricks.sliding_window_view(channels, FRAME_LENGTH, axis=-1)
    frames, window = windows[..., :: transform.hop_length, :], transform.window_values()
    spectra = np.empty((*frames.shape[:-1], N_BINS), np.complex64)
    for start in range(0, frames.shape[-2], _BLOCK):
        block = frames[..., start : start + _BLOCK, :]
        np.fft.rfft(block * window, out=spectra[..., start : start + _BLOCK, :])
    return np.moveaxis(spectra, -3, -1)


def invert_frames(
    spectra: np.ndarray,
    *,
    masks: np.ndarray | None = None,
    transform: Transform = REPORT_TRANSFORM,
) -> np.ndarray:
    """Invert frames and overlap-add them, without trimming.

    Fewer frames cover the first and last 768 samples (1024 less the hop length): these come out
    faded, to zero at either end.

    Parameters
    ----------
    spectra : ndarray of shape (..., n_frames, 513, n_channels), complex64
        Spectra.
    masks : ndarray of the same shape, float32, optional
        What the spectra are multiplied by, a few frames at a time: their product is still in the
        cache when it is inverted.
    transform : Transform
        The STFT; the report's by default.

    Returns
    -------
    ndarray of shape (..., hop_length * (n_frames - 1) + 1024, n_channels), float32
        The signal.
    """
    spectra = np.moveaxis(spectra, -1, -3)
    if masks is not None:
        masks = np.moveaxis(masks, -1, -3)
    *batch, n_frames, _ = spectra.shape
    hop_length, window = transform.hop_length, transform.synthesis_window()
    n_parts = FRAME_LENGTH // hop_length
    signal = np.zeros((*batch, n_frames + n_parts - 1, hop_length), np.float32)
    for start in range(0, n_frames, _BLOCK):
        block = spectra[..., start : start + _BLOCK, :]
        if masks is not None:
            block = block * masks[..., start : start + _BLOCK, :]
        frames = np.fft.irfft(block, FRAME_LENGTH)
        frames *= window
        parts = frames.reshape(*frames.shape[:-1], n_parts, hop_length)
        for part in range(n_parts):
            first = start + part
            signal[..., first : first + frames.shape[-2], :] += parts[..., part, :]
    return np.swapaxes(signal.reshape(*batch, -1), -1, -2)


def stft(audio: np.ndarray, *, transform: Transform = REPORT_TRANSFORM) -> np.ndarray:
    """Compute the STFT of a signal, edges included.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels), float32
        The signal.
    transform : Transform
        The STFT; the report's by default.

    Returns
    -------
    ndarray of shape (n_frames, 513, n_channels), complex64
        Frame n starts at sample ``256 n - 768`` (for other transforms, `hop_length` and
        `edge_length`): the signal is padded with zeros so that equally many frames cover every
        sample.
    """
    edge = transform.edge_length
    n_frames = count_frames(len(audio), transform=transform)
    after = transform.count_samples(n_frames) - edge - len(audio)
    padded = np.pad(np.asarray(audio, np.float32), [(edge, after), (0, 0)])
    return transform_frames(padded, transform=transform)


def istft(
    spectrum: np.ndarray, n_samples: int, *, transform: Transform = REPORT_TRANSFORM
) -> np.ndarray:
    """Invert `stft`.

    Parameters
    ----------
    spectrum : ndarray of shape (n_frames, 513, n_channels), complex64
        A spectrum, modified or not; leading axes are kept.
    n_samples : int
        Samples of the signal.
    transform : Transform
        The STFT; the report's by default.

    Returns
    -------
    ndarray of shape (n_samples, n_channels), float32
        The signal. That of an unmodified spectrum is the original within 1e-6 of its peak.
    """
    edge = transform.edge_length
    return invert_frames(spectrum, transform=transform)[..., edge : edge + n_samples, :]


def split_segments(
    audio: np.ndarray, *, length: int = SEGMENT_LENGTH, step: int | None = None
) -> np.ndarray:
    """Split a signal into segments: end to end, as in the report, or overlapping.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, ...), float32
        The signal, not empty.
    length : int
        Samples per segment.
    step : int, optional
        Samples between the starts of segments, 1 to `length`; `length` by default.

    Returns
    -------
    ndarray of shape (n_segments, length, ...), float32
        Enough segments to hold the whole signal, the last one padded with zeros; a view if
        possible.
    """
    return split_contexts(audio, step or length, length=length)


def split_contexts(frames: np.ndarray, hop: int, *, length: int = CONTEXT) -> np.ndarray:
    """Group frames into contexts, one every `hop` frames.

    Parameters
    ----------
    frames : ndarray of shape (n_frames, ...)
        Magnitudes, or any other values per frame.
    hop : int
        Frames between the starts of contexts, 1 to `length`.
    length : int
        Frames per context.

    Returns
    -------
    ndarray of shape (n_contexts, length, ...)
        A view if possible: the frames are padded with zeros so that a whole context holds the
        last one.
    """
    n_contexts = max(0, -(-(len(frames) - length) // hop)) + 1
    missing = (n_contexts - 1) * hop + length - len(frames)
    if missing:
        frames = np.pad(frames, [(0, missing)] + [(0, 0)] * (frames.ndim - 1))
    views = np.lib.stride_tricks.sliding_window_view(frames, length, axis=0)[::hop]
    return np.moveaxis(views, -1, 1)
