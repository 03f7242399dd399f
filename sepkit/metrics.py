"""Metrics of separation: the report's SDR, SIR and SAR, and those of BSS Eval 4."""

from __future__ import annotations

import numpy as np

from sepkit import bsseval
from sepkit.errors import ParameterError

METRICS = ("SDR", "SIR", "SAR")
"""Source to distortion, interference and artifacts ratio [dB]."""

_BLOCK = 1 << 14
"""Samples compared at a time: as many as fit the cache."""


def report_scores(references: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """Compute the report's metrics for one channel: one tap, over the whole song.

    Each estimate e is the sum of three parts: its projection on the true source s, ``target =
    <e, s> s / <s, s>``; the rest of its projection P on the span of all true sources,
    ``interference = P - target``; and ``artifacts = e - P``, outside that span.

    Parameters
    ----------
    references, estimates : ndarray of shape (n_sources, n_samples)
        True and estimated sources in the same order. References are cut to the length of shorter
        estimates, as in the report.

    Returns
    -------
    ndarray of shape (3, n_sources), float64
        SDR, SIR, SAR [dB]. A silent true source has NaN for SDR and SIR, but not for the SAR,
        which depends on all sources together. Infinite where a part is zero.

    Raises
    ------
    ParameterError
        When the shapes differ.

    References
    ----------
    Report, section "The metrics" and its code; Vincent, Gribonval, Févotte (2006).
    """
    # The samples of one channel of several are not contiguous, which takes five times as long.
    estimates = np.ascontiguousarray(estimates, np.float64)
    references = np.ascontiguousarray(references, np.float64)
    if estimates.ndim != 2 or references.ndim != 2 or len(references) != len(estimates):
        raise ParameterError(
            f"scores of shapes {references.shape} and {estimates.shape}: "
            "give (n_sources, n_samples) for one channel, both alike"
        )
    if references.shape[1] < estimates.shape[1]:
        raise ParameterError(
            f"references of {references.shape[1]} samples are shorter than the estimates "
            f"of {estimates.shape[1]}; cut the estimates"
        )
    references = references[:, : estimates.shape[1]]

    gram = references @ references.T
    products = references @ estimates.T
    # The pseudo-inverse: a silent source must not affect the scores of the others. Of sources with
    # unit energy, so that it does not take one for silent that is only quiet.
    norms = np.sqrt(np.diag(gram))[:, np.newaxis]
    unit = 1 / np.where(norms > 0, norms, 1)
    weights = unit * (np.linalg.pinv(unit * gram * unit.T, hermitian=True) @ (unit * products))
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.diag(np.diag(products) / np.diag(gram))

        def energy(weights: np.ndarray) -> np.ndarray:
            """Compute the energy of weighted sums of the true sources."""
            return np.einsum("ij,ik,kj->j", weights, gram, weights)

        distortion, artifacts = np.zeros((2, len(estimates)))
        for start in range(0, references.shape[1], _BLOCK):
            block = slice(start, start + _BLOCK)
            for total, part in ((distortion, own), (artifacts, weights)):
                rest = estimates[:, block] - part.T @ references[:, block]
                total += np.einsum("ij,ij->i", rest, rest)
        # A silent source makes only its own part NaN, and so its own SDR and SIR.
        ratios = [
            energy(own) / distortion,
            energy(own) / energy(weights - own),
            energy(weights) / artifacts,
        ]
        return 10 * np.log10(np.stack(ratios))


def bss_eval_scores(references: np.ndarray, estimates: np.ndarray, rate: int) -> np.ndarray:
    """Compute BSS Eval 4's scores, medians over windows of one second, by `sepkit.bsseval`.

    Parameters
    ----------
    references, estimates : ndarray of shape (n_sources, n_samples, n_channels)
        True and estimated sources in the same order; the references are cut to the estimates.
    rate : int
        Sample rate [Hz].

    Returns
    -------
    ndarray of shape (3, n_sources), float64
        SDR, SIR, SAR [dB]: the median over windows that have a score; NaN where none has, as for a
        source, true or estimated, that is silent in the whole song (see `sepkit.bsseval.scores`).

    References
    ----------
    Stöter, Liutkus, Ito (2018), The 2018 Signal Separation Evaluation Campaign.
    """
    references = references[:, : estimates.shape[1]]
    sdr, _, sir, sar = bsseval.scores(references, estimates, window=rate)
    return medians_of_windows(np.stack([sdr, sir, sar]))


def medians_of_windows(windows: np.ndarray) -> np.ndarray:
    """Return the medians over the last axis, without NaN; NaN where nothing else is left."""
    scored = ~np.isnan(windows).all(axis=-1)
    medians = np.full(windows.shape[:2], np.nan)
    medians[scored] = np.nanmedian(windows[scored], axis=-1)
    return medians
