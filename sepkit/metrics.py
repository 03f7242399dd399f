"""How far an estimate is from the truth: the report's SDR, SIR, SAR, museval's, and averages."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from sepkit.errors import MissingPackageError, ParameterError

METRICS = ("SDR", "SIR", "SAR")
"""Source to distortion, interference and artifacts ratio [dB]."""

_BLOCK = 1 << 14
"""Samples compared at once: what fits a cache."""


def report_scores(references: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """Score one channel as the report does: one tap, over the whole song.

    Each estimate e is split in three: its part along the true source s, ``target = <e, s> s /
    <s, s>``; the rest of its projection P on the span of all true sources, ``interference = P -
    target``; and what no true source explains, ``artifacts = e - P``.

    Parameters
    ----------
    references, estimates : ndarray of shape (n_sources, n_samples)
        True and estimated sources in the same order. Where the estimates are shorter, the
        references are cut to their length, as in the report.

    Returns
    -------
    ndarray of shape (3, n_sources), float64
        SDR, SIR, SAR [dB]. For a source that is silent SDR and SIR are NaN, and the SAR, which
        asks for all sources together, is not; infinite where a part is nothing.

    Raises
    ------
    ParameterError
        When the shapes do not fit.

    References
    ----------
    Report, section "The metrics" and its code; Vincent, Gribonval, Févotte (2006).
    """
    # One channel of several has its samples apart, which costs five times the time.
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
    # The pseudo-inverse, for a silent source must not spoil the scores of the others.
    weights = np.linalg.pinv(gram, hermitian=True) @ products
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.diag(np.diag(products) / np.diag(gram))

        def energy(weights: np.ndarray) -> np.ndarray:
            """Sum up the squares of sums of the true sources."""
            return np.einsum("ij,ik,kj->j", weights, gram, weights)

        distortion, artifacts = np.zeros((2, len(estimates)))
        for start in range(0, references.shape[1], _BLOCK):
            block = slice(start, start + _BLOCK)
            for total, part in ((distortion, own), (artifacts, weights)):
                rest = estimates[:, block] - part.T @ references[:, block]
                total += np.einsum("ij,ij->i", rest, rest)
        # A silent source makes its own part NaN, and with it its own SDR and SIR alone.
        ratios = [
            energy(own) / distortion,
            energy(own) / energy(weights - own),
            energy(weights) / artifacts,
        ]
        return 10 * np.log10(np.stack(ratios))


def museval_scores(references: np.ndarray, estimates: np.ndarray, rate: int) -> np.ndarray:
    """Score as the package museval does: BSS Eval 4, medians over windows of one second.

    Parameters
    ----------
    references, estimates : ndarray of shape (n_sources, n_samples, n_channels)
        True and estimated sources in the same order; the references are cut to the estimates.
    rate : int
        Rate [Hz].

    Returns
    -------
    ndarray of shape (3, n_sources), float64
        SDR, SIR, SAR [dB]: the median over the windows that have a score; NaN where none has.

    References
    ----------
    Stöter, Liutkus, Ito (2018), The 2018 Signal Separation Evaluation Campaign.
    """
    museval = _museval()
    references = np.asarray(references, np.float64)[:, : estimates.shape[1]]
    estimates = np.asarray(estimates, np.float64)
    if not (np.any(references, axis=(1, 2)).all() and np.any(estimates, axis=(1, 2)).all()):
        # museval refuses a source that is silent throughout.
        return np.full((len(METRICS), len(references)), np.nan)
    sdr, _, sir, sar = museval.evaluate(references, estimates, win=rate, hop=rate)
    windows = np.stack([sdr, sir, sar])
    scored = ~np.isnan(windows).all(axis=-1)
    medians = np.full(windows.shape[:2], np.nan)
    medians[scored] = np.nanmedian(windows[scored], axis=-1)
    return medians


def images_scores(references: np.ndarray, estimates: np.ndarray, rate: int) -> np.ndarray:
    """Compute BSS Eval 3's scores of images, as the campaign of 2016 did: 512 taps, by museval.

    Parameters
    ----------
    references : ndarray of shape (n_sources, n_samples, n_channels)
        True sources.
    estimates : ndarray of shape (n_sources, n_estimated, n_channels)
        Estimates; the references are cut to their length.
    rate : int
        Rate [Hz].

    Returns
    -------
    ndarray of shape (3, n_sources), float64
        SDR, SIR, SAR [dB]: means over windows of 30 s, one every 15 s, each with filters of its
        own; of a shorter song, over the whole of it.

    References
    ----------
    Vincent, Gribonval, Févotte (2006), Performance measurement in blind audio source separation;
    Liutkus et al. (2017), The 2016 Signal Separation Evaluation Campaign.
    """
    museval = _museval()
    references = np.asarray(references, np.float64)[:, : estimates.shape[1]]
    sdr, _, sir, sar, _ = museval.metrics.bss_eval_images_framewise(
        references, np.asarray(estimates, np.float64), window=30 * rate, hop=15 * rate
    )
    return np.nanmean(np.stack([sdr, sir, sar]).reshape(3, len(references), -1), axis=-1)


def _museval() -> ModuleType:
    try:
        import museval
    except ImportError:
        raise MissingPackageError(
            "museval is not installed; install it with: pip install 'sepkit[evaluation]'"
        ) from None
    return museval


@dataclass(frozen=True)
class Summary:
    """Scores put together over songs, each an array with the songs' axis taken away.

    Parameters
    ----------
    mean, deviation, median : ndarray
        Over the scores that are finite; the deviation is that of the population.
    n : ndarray of int
        Scores that went in.
    dropped : ndarray of int
        Scores left out because they are NaN or infinite.
    """

    mean: np.ndarray
    deviation: np.ndarray
    median: np.ndarray
    n: np.ndarray
    dropped: np.ndarray


def summarize(scores: np.ndarray) -> Summary:
    """Put scores together over songs.

    Parameters
    ----------
    scores : ndarray of shape (n_songs, ...)
        Scores; NaN and infinite ones are left out and counted.

    Returns
    -------
    Summary
        Arrays of shape ``(...)``; NaN where no score is left.
    """
    scores = np.asarray(scores, np.float64)
    finite = np.isfinite(scores)
    n = finite.sum(axis=0)
    kept = np.ma.masked_array(scores, ~finite)

    def filled(values) -> np.ndarray:
        return np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)

    return Summary(
        mean=filled(kept.mean(axis=0)),
        deviation=filled(kept.std(axis=0)),
        median=filled(np.ma.median(kept, axis=0)),
        n=n,
        dropped=len(scores) - n,
    )
