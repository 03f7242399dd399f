"""Ideal masks, computed from the true sources: a reference for the network's masks.

Both kinds use magnitudes only. Neither is the best possible mask, which depends on the sources'
phases as well (derived in the book's chapter "Masks").
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sepkit import separation, stft

MakeMasks = Callable[[np.ndarray], np.ndarray]
"""From spectra of the true sources to masks of the same shape."""


def ideal_ratio_masks(spectra: np.ndarray) -> np.ndarray:
    """Compute each source's share of the summed magnitudes.

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
    """Assign each bin to its loudest source.

    Parameters
    ----------
    spectra : ndarray of shape (n_sources, ..., 513, n_channels), complex64
        Spectra of the true sources.

    Returns
    -------
    ndarray of the same shape, float32
        One for the loudest source, the first of equals; zero for the others.
    """
    loudest = np.abs(spectra).argmax(axis=0)
    return (np.arange(len(spectra)).reshape(-1, *[1] * loudest.ndim) == loudest).astype(np.float32)


def apply_to_song(make_masks: MakeMasks, stems: np.ndarray) -> np.ndarray:
    """Separate the sum of true sources with ideal masks, as a whole song.

    Parameters
    ----------
    make_masks : callable
        `ideal_ratio_masks`, `ideal_binary_masks`, or any other function from spectra to masks.
    stems : ndarray of shape (n_sources, n_samples, n_channels), float32
        True sources.

    Returns
    -------
    ndarray of the same shape, float32
        Estimates.
    """
    masks = make_masks(np.stack([stft.stft(stem) for stem in stems]))
    return separation.separate_song(stems.sum(axis=0), lambda magnitudes: masks)


def apply_to_segments(make_masks: MakeMasks, stems: np.ndarray) -> np.ndarray:
    """Separate the sum of true sources with ideal masks, in the report's segments.

    Parameters
    ----------
    make_masks : callable
        `ideal_ratio_masks`, `ideal_binary_masks`, or any other function from spectra to masks.
    stems : ndarray of shape (n_sources, n_samples, n_channels), float32
        True sources.

    Returns
    -------
    ndarray of the same shape, float32
        Estimates, faded at both ends of each segment.
    """
    spectra = [stft.transform_frames(stft.split_segments(stem)) for stem in stems]
    masks = make_masks(np.stack(spectra))
    return separation.separate_segments(stems.sum(axis=0), lambda magnitudes: masks)
