"""Masks of a whole song: those of its contexts, averaged where contexts overlap."""

from __future__ import annotations

import math

import numpy as np

from sepkit import network
from sepkit.network import Prepared

_ROWS = 200
"""Frames decoded at a time: fewer make slow products, more do not fit the cache."""
_FRAMES = 5
"""Frames of a context decoded at a time: for more, the matrix holds mostly zeros."""


def mean_masks(
    prepared: Prepared, magnitudes: np.ndarray, hop: int, *, frame_weights: np.ndarray | None = None
) -> np.ndarray:
    """Average the masks of overlapping contexts.

    Parameters
    ----------
    prepared : dict
        The network, of `sepkit.network.prepare`.
    magnitudes : ndarray of shape (n_frames, 513, n_channels), float32
        Magnitudes of the mixture.
    hop : int
        Frames between the starts of contexts.
    frame_weights : ndarray of shape (25,), float32, optional
        Positive weights of the frames of a context; uniform by default.

    Returns
    -------
    ndarray of shape (4, n_frames, 513, n_channels), float32
        Masks: non-negative, sum 1 in every bin.
    """
    context = network.context_length(prepared)
    if frame_weights is None:
        frame_weights = np.ones(context, np.float32)
    n_frames = len(magnitudes)
    missing = -(n_frames - context) % hop if n_frames > context else context - n_frames
    if missing:
        # Padded before the first layer: the network sees silence, too, after the end.
        magnitudes = np.pad(magnitudes, [(0, missing), (0, 0), (0, 0)])
    shared = network.encode_song(prepared, network.vertical_convolution(prepared, magnitudes), hop)
    patterns = network.decoder_dense(prepared, shared)

    n_sources, n_contexts, _ = patterns.shape
    n_blocks = n_contexts - 1 + -(-context // hop)
    # The k-th `hop` frames of all contexts lie end to end, from the song's k-th block on.
    strides = [slice(start, min(start + hop, context)) for start in range(0, context, hop)]
    count = np.zeros((n_blocks, hop, 1), np.float32)
    for k, stride in enumerate(strides):
        count[k : k + n_contexts, : stride.stop - stride.start] += frame_weights[stride, np.newaxis]
    timbres = [_deconvolve(prepared, patterns, stride) for stride in strides]
    # The bias as the row of a timbre that is always 1: no pass over the product to add it.
    matrix = np.concatenate(prepared["vertical_deconvolution"], axis=1)
    total = np.zeros((n_sources, n_blocks, hop, math.prod(magnitudes.shape[1:])), np.float32)
    step = max(1, _ROWS // hop)
    for first in range(0, n_contexts, step):
        for k, (stride, timbre) in enumerate(zip(strides, timbres, strict=True)):
            part = timbre[:, first : first + step]  # (n_sources, contexts, frames, 51)
            blocks = slice(k + first, k + first + part.shape[1])
            frames = slice(part.shape[2])
            decoded = np.matmul(part.reshape(n_sources, -1, part.shape[-1]), matrix)
            np.abs(decoded, out=decoded)
            share = frame_weights[stride, np.newaxis] / count[blocks, frames]
            shares = network.normalize_in_place(decoded, share.reshape(-1, 1))
            total[:, blocks, frames] += shares.reshape(*part.shape[:3], -1)
    shape = (n_sources, n_blocks * hop, *magnitudes.shape[1:])
    return total.reshape(shape)[:, :n_frames]


def _deconvolve(prepared: Prepared, patterns: np.ndarray, stride: slice) -> np.ndarray:
    """Compute the timbres of some frames, and a 1: (n_sources, n_contexts, frames, 50 + 1)."""
    n_timbres = prepared["vertical_convolution"][0].shape[1]
    n_frames = stride.stop - stride.start
    timbres = np.ones((*patterns.shape[:2], n_frames, n_timbres + 1), np.float32)
    for start in range(stride.start, stride.stop, _FRAMES):
        stop = min(start + _FRAMES, stride.stop)
        part = network.horizontal_deconvolution(prepared, patterns, start, stop)
        place = timbres[:, :, start - stride.start : stop - stride.start, :n_timbres]
        place[:] = part.reshape(place.shape)
    return timbres
