"""Masks that know the truth: what to hold a network's masks to.

Both are computed from the magnitudes of the true sources. Neither is the best of all masks, which
the phases of the sources would have to tell (chapter "Masks" of the book derives it).
"""

from __future__ import annotations

import numpy as np

from sepkit import spectral


def ideal_ratio_masks(spectra: np.ndarray) -> np.ndarray:
    """Give each source its share of the magnitudes.

    Parameters
    ----------
    spectra : ndarray of shape (n_sources, ..., 513, n_channels), complex64
        Spectra of the true sources.

    Returns
    -------
    ndarray of the same shape, float32
        Non-negative, sum 1 over the sources; equal shares where all are silent.
    """
    magnitudes = np.abs(spectra)
    total = magnitudes.sum(axis=0)
    shares = magnitudes / np.where(total == 0, 1, total)
    return np.where(total == 0, np.float32(1 / len(spectra)), shares)


def ideal_binary_masks(spectra: np.ndarray) -> np.ndarray:
    """Give each bin to the source that is loudest in it.

    Parameters
    ----------
    spectra : ndarray of shape (n_sources, ..., 513, n_channels), complex64
        Spectra of the true sources.

    Returns
    -------
    ndarray of the same shape, float32
        One for the loudest source, the first one of equals, zero for the others.
    """
    loudest = np.abs(spectra).argmax(axis=0)
    return (np.arange(len(spectra)).reshape(-1, *[1] * loudest.ndim) == loudest).astype(np.float32)


def apply_to_song(make_masks, stems: np.ndarray) -> np.ndarray:
    """Separate a song with masks that know it, transformed whole.

    Parameters
    ----------
    make_masks : callable
        `ideal_ratio_masks` or `ideal_binary_masks`.
    stems : ndarray of shape (n_sources, n_samples, n_channels), float32
        The true sources.

    Returns
    -------
    ndarray of the same shape, float32
        Estimates.
    """
    spectra = np.stack([spectral.stft(stem) for stem in stems])
    masked = make_masks(spectra) * spectra.sum(axis=0)
    return np.stack([spectral.istft(estimate, stems.shape[1]) for estimate in masked])


def apply_to_segments(make_masks, stems: np.ndarray) -> np.ndarray:
    """Separate a song with masks that know it, by the report's segments.

    Parameters
    ----------
    make_masks : callable
        `ideal_ratio_masks`, `ideal_binary_masks`, or any other from spectra to masks.
    stems : ndarray of shape (n_sources, n_samples, n_channels), float32
        The true sources.

    Returns
    -------
    ndarray of the same shape, float32
        Estimates, each segment faded at both ends.
    """
    spectra = np.stack([spectral.frames_transform(spectral.segments(stem)) for stem in stems])
    return resynthesize_segments(make_masks(spectra) * spectra.sum(axis=0), stems.shape[1])


def resynthesize_segments(spectra: np.ndarray, n_samples: int) -> np.ndarray:
    """Invert segments one by one and join them end to end, as the report does.

    Parameters
    ----------
    spectra : ndarray of shape (n_sources, n_segments, 25, 513, n_channels), complex64
        Spectra of segments.
    n_samples : int
        The song's length.

    Returns
    -------
    ndarray of shape (n_sources, n_samples, n_channels), float32
        The sound.
    """
    pieces = spectral.frames_inverse(spectra)
    return pieces.reshape(len(spectra), -1, pieces.shape[-1])[:, :n_samples]
