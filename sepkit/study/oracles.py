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
    """Compute each source's share of the magnitudes of spectra (n_sources, ..., 513, n_channels).

    Float32 masks of the same shape: non-negative, sum 1 over sources; equal shares in silence.
    """
    magnitudes = np.abs(spectra)
    total = magnitudes.sum(axis=0)
    shares = magnitudes / np.where(total == 0, 1, total)
    return np.where(total == 0, np.float32(1 / len(spectra)), shares)


def ideal_binary_masks(spectra: np.ndarray) -> np.ndarray:
    """Assign each bin of spectra (n_sources, ..., 513, n_channels) to its loudest source.

    Float32 masks of the same shape: 1 for the loudest source (the first of equals), else 0.
    """
    loudest = np.abs(spectra).argmax(axis=0)
    return (np.arange(len(spectra)).reshape(-1, *[1] * loudest.ndim) == loudest).astype(np.float32)


def apply_to_song(make_masks: MakeMasks, stems: np.ndarray) -> np.ndarray:
    """Separate the sum of true stems (n_sources, n_samples, n_channels) by masks made from them.

    The song is transformed as a whole; `make_masks` maps spectra of the stems to masks.
    """
    masks = make_masks(np.stack([stft.stft(stem) for stem in stems]))
    return separation.separate_song(stems.sum(axis=0), lambda magnitudes: masks)


def apply_to_segments(make_masks: MakeMasks, stems: np.ndarray) -> np.ndarray:
    """Separate the sum of true stems (n_sources, n_samples, n_channels) in the report's segments.

    The estimates are faded at both ends of each segment; `make_masks` maps spectra to masks.
    """
    spectra = [stft.transform_frames(stft.split_segments(stem)) for stem in stems]
    masks = make_masks(np.stack(spectra))
    return separation.separate_segments(stems.sum(axis=0), lambda magnitudes: masks)
