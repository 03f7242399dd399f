"""BSS Eval 4, equal to museval and faster.

Filters of 512 taps, fitted by least squares, project an estimate on the true sources; the normal
equations hold correlations of the sources. museval solves them again for each estimate and filters
every window in the time domain. Here the correlations are summed over blocks in the frequency
domain, one Cholesky factor serves all estimates, and only energies are needed in each window, which
by Parseval's theorem take no inverse transform.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft
import scipy.linalg

from sepkit.errors import ParameterError

N_TAPS = 512
"""Taps per filter."""

_FFT = 16384
"""Samples per block, for the correlations."""
_TOGETHER = 8
"""Blocks, or windows, computed at a time."""


def scores(
    references: np.ndarray,
    estimates: np.ndarray,
    *,
    window: int,
    hop: int | None = None,
    n_taps: int = N_TAPS,
) -> np.ndarray:
    """Compute SDR, ISR, SIR and SAR of each window, with one set of filters for the whole song.

    Parameters
    ----------
    references, estimates : ndarray of shape (n_sources, n_samples, n_channels)
        True and estimated sources in the same order.
    window, hop : int
        Samples per window, and between their starts; end to end by default.
    n_taps : int
        Taps per filter.

    Returns
    -------
    ndarray of shape (4, n_sources, n_windows), float64
        SDR, ISR, SIR, SAR [dB]; NaN in windows in which a source, true or estimated, is silent.
        A source that is silent in the whole song is NaN alone: if the true one is, the other
        sources are scored without it; if the estimate is, the true one still interferes.

    Raises
    ------
    ParameterError
        When the shapes differ.

    References
    ----------
    Vincent, Gribonval, Févotte (2006); Stöter, Liutkus, Ito (2018).
    """
    references, estimates = _check(references, estimates)
    sounding = ~silent(references)
    scored = sounding & ~silent(estimates)
    if not sounding.all():
        references, estimates = references[sounding], estimates[sounding]
    estimated = scored[sounding]
    n_sources, n_samples, _ = references.shape
    pairs = list(_windows(references, estimates, window, hop))
    result = np.full((4, len(scored), len(pairs)), np.nan)
    complete = [
        i for i, (t, e) in enumerate(pairs) if not (silent(t).any() or silent(e)[estimated].any())
    ]
    if not complete or not scored.any():
        return result

    filters = _filters(references, estimates, n_taps)
    length = min(window, n_samples) + n_taps - 1
    n_fft = scipy.fft.next_fast_len(length, real=True)
    # Frequency first: (n_bins, channels of all sources, twice those of all estimates).
    filters = np.moveaxis(scipy.fft.rfft(filters, n_fft, axis=1, workers=-1), 1, 0)
    filters = np.ascontiguousarray(filters)
    # Of a real signal, all bins but the first and perhaps the last stand for two.
    weights = np.full(len(filters), 2.0)
    weights[0] = 1.0
    if n_fft % 2 == 0:
        weights[-1] = 1.0

    def energy(spectra: np.ndarray) -> np.ndarray:
        # From (n_bins, n_windows, channels) to (n_sources, n_windows).
        parts = spectra.view(np.float64)
        sums = np.einsum("fkc,fkc,f->kc", parts, parts, weights)
        return sums.reshape(len(sums), n_sources, -1).sum(axis=-1).T

    for first in range(0, len(complete), _TOGETHER):
        group = complete[first : first + _TOGETHER]
        sounds = np.stack([np.concatenate([*map(_channels, pairs[i])]) for i in group])
        sounds = sounds.astype(np.float64, copy=False)
        spectra = scipy.fft.rfft(sounds, n_fft, axis=-1, workers=-1)
        spectra = np.ascontiguousarray(np.moveaxis(spectra, -1, 0))
        true, estimate = np.split(spectra, 2, axis=-1)
        true, estimate = np.ascontiguousarray(true), np.ascontiguousarray(estimate)
        explained, own = np.split(true @ filters, 2, axis=-1)
        explained, own = np.ascontiguousarray(explained), np.ascontiguousarray(own)
        ratios = [
            _decibel(energy(true), energy(true - estimate)),
            _decibel(energy(true), energy(own - true)),
            _decibel(energy(own), energy(explained - own)),
            _decibel(energy(explained), energy(estimate - explained)),
        ]
        result[np.ix_(range(4), scored, group)] = np.stack(ratios)[:, estimated]
    return result


def silent(sources: np.ndarray) -> np.ndarray:
    """Return for each source (n_samples, n_channels) whether it is silent: (n_sources,), bool.

    As museval has it: its channels sum to zero throughout.
    """
    return np.array([not source.sum(axis=1).any() for source in sources], bool)


def _check(references: np.ndarray, estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Not as float64, which only what is computed at a time needs: songs are long.
    references, estimates = np.asarray(references), np.asarray(estimates)
    if references.ndim != 3 or references.shape != estimates.shape or not references.size:
        raise ParameterError(
            f"scores of shapes {references.shape} and {estimates.shape}: "
            "give (n_sources, n_samples, n_channels), both alike"
        )
    return references, estimates


def _windows(
    references: np.ndarray, estimates: np.ndarray, window: int, hop: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Iterate over whole windows, or over a song that is shorter than one."""
    hop = hop or window
    last = max(0, references.shape[1] - window)
    for start in range(0, last + 1, hop):
        part = slice(start, start + window)
        yield references[:, part], estimates[:, part]


def _channels(sounds: np.ndarray) -> np.ndarray:
    """Reshape (n_sources, n_samples, n_channels) to (n_sources * n_channels, n_samples)."""
    return np.moveaxis(sounds, 2, 1).reshape(-1, sounds.shape[1])


def _decibel(part: np.ndarray, rest: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.where(rest == 0, np.inf, 10 * np.log10(part / np.where(rest == 0, 1, rest)))


def _filters(references: np.ndarray, estimates: np.ndarray, n_taps: int) -> np.ndarray:
    """Fit filters from true to estimated sources, both (n_sources, n_samples, n_channels).

    Returns an array (n, n_taps, 2 * n), where n counts the channels of all sources: from each true
    channel to each estimate, first with all sources, then with the estimate's own source alone.
    """
    n_sources, _, n_channels = references.shape
    n = n_sources * n_channels
    correlations = _correlations(references, estimates, n_taps)
    products = np.moveaxis(correlations[:, n:], 1, 2).reshape(n * n_taps, n)
    gram = _gram(correlations[:, :n])
    both = np.zeros((n * n_taps, 2 * n))
    for first in range(0, n, n_channels):
        rows = slice(first * n_taps, (first + n_channels) * n_taps)
        columns = slice(first, first + n_channels)
        own = _solve(gram[rows, rows].copy(), products[rows, columns])
        both[rows, n + first : n + first + n_channels] = own
    both[:, :n] = _solve(gram, products)
    return both.reshape(n, n_taps, 2 * n)


def _correlations(references: np.ndarray, estimates: np.ndarray, n_taps: int) -> np.ndarray:
    """Sum ``references[i, t - lag] * sounds[j, t]`` over t: array (i, j, lag).

    i counts the channels of all references, j those and then the channels of all estimates.
    """
    n_samples = references.shape[1]
    n = len(references) * references.shape[2]
    reach = n_taps - 1
    step = _FFT - reach
    n_blocks = -(-n_samples // step)
    total = np.zeros((_FFT // 2 + 1, n, 2 * n), np.complex128)
    for first in range(0, n_blocks, _TOGETHER):
        blocks = range(first, min(first + _TOGETHER, n_blocks))

        def spectra(sounds: list[np.ndarray], begin: int, blocks: range = blocks) -> np.ndarray:
            parts = np.zeros((len(blocks), len(sounds) * n, _FFT))
            for part, block in zip(parts, blocks, strict=True):
                origin = block * step - reach  # of the block, in samples of the song
                start, stop = max(0, origin + begin), min(origin + _FFT, n_samples)
                inside = [_channels(sound[:, start:stop]) for sound in sounds]
                part[:, start - origin : stop - origin] = np.concatenate(inside)
            return scipy.fft.rfft(parts, axis=-1, workers=-1, overwrite_x=True)

        # References start earlier, so that every lag of a sample lies within its block.
        left = np.ascontiguousarray(np.transpose(spectra([references], 0), (2, 1, 0)))
        right = spectra([references, estimates], reach)
        right = np.ascontiguousarray(np.transpose(right, (2, 0, 1)))
        total += np.conj(left) @ right
    return np.moveaxis(scipy.fft.irfft(total, _FFT, axis=0)[:n_taps], 0, 2)


def _gram(correlations: np.ndarray) -> np.ndarray:
    """Arrange correlations (i, j, lag) as the normal matrix, a Toeplitz matrix per block."""
    n, _, n_taps = correlations.shape
    gram = np.empty((n, n_taps, n, n_taps))
    for i in range(n):
        for j in range(n):
            # Element [l, m] is the correlation at lag l - m.
            gram[i, :, j, :] = scipy.linalg.toeplitz(correlations[i, j], correlations[j, i])
    return gram.reshape(n * n_taps, n * n_taps)


def _solve(gram: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Solve the normal equations, overwriting the matrix."""
    diagonal = np.diagonal(gram).copy()
    ridge = np.finfo(float).eps  # museval's
    while True:
        np.fill_diagonal(gram, diagonal + ridge)
        try:
            # The transpose of a symmetric matrix equals it and has LAPACK's memory order.
            factor = scipy.linalg.cholesky(gram.T, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            # Channels depend on each other, such as those of mono audio in stereo.
            ridge = max(10 * ridge, 1e-15 * diagonal.max())
        else:
            return scipy.linalg.cho_solve((factor, True), products, check_finite=False)
