"""The report's loss, as its twelve terms and their weighted sum.

It compares waveforms: squared distances are summed over samples, channels and the batch, and
divided by the batch size alone, so that the values are large and grow with the level.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

from sepkit.errors import ParameterError
from sepkit.network import array_namespace
from sepkit.tracks import SOURCES

ALPHA = 0.001
"""Weight of the dissimilarity of the estimates (report, section "The loss"; paper, section 2.3)."""
BETA = 0.01
"""Weight of the distance of bass and drums from the true other."""
GAMMA = 0.03
"""Weight of the distance of vocals from the true other."""


def report_loss_terms(y_true: Any, y_pred: Any, *, axis: int = -1) -> dict[str, Any]:
    """Compute the twelve squared distances of the report's loss, by name.

    Parameters
    ----------
    y_true, y_pred : array of shape (batch, n_samples, n_channels, 4), float32
        True and estimated segments.
    axis : int
        Axis of the sources, in the order of `sepkit.SOURCES`: the last one by default, as in the
        report's targets; 1 in this library's batches, ``(batch, 4, n_samples, n_channels)``.

    Returns
    -------
    dict of str to scalar
        ``reconstruction_S`` for bass, drums, vocals: estimate and truth; ``dissimilarity_S_T`` for
        the six pairs of estimates; ``other_S`` for bass, drums, vocals: estimate and true "other".
        True and estimated "other" are never compared.

    Raises
    ------
    ParameterError
        When the shapes differ or there are not four sources.
    """
    same = tuple(y_true.shape[1:]) == tuple(y_pred.shape[1:])
    if not same or y_pred.shape[axis] != len(SOURCES):
        raise ParameterError(
            f"loss of shapes {tuple(y_true.shape)} and {tuple(y_pred.shape)}: give two equal ones "
            f"with 4 sources on axis {axis}, such as (batch, n_samples, n_channels, 4)"
        )
    xp = array_namespace(y_pred)

    def by_source(y: Any) -> dict[str, Any]:
        before = (slice(None),) * (axis % len(y.shape))
        return {source: y[(*before, i)] for i, source in enumerate(SOURCES)}

    truth, estimate = by_source(y_true), by_source(y_pred)

    def distance(a: Any, b: Any) -> Any:
        return xp.sum(xp.square(a - b))

    named = ("bass", "drums", "vocals")
    terms = {f"reconstruction_{s}": distance(truth[s], estimate[s]) for s in named}
    for a, b in combinations(SOURCES, 2):
        terms[f"dissimilarity_{a}_{b}"] = distance(estimate[a], estimate[b])
    for s in named:
        terms[f"other_{s}"] = distance(estimate[s], truth["other"])
    return terms


def report_loss(
    y_true: Any,
    y_pred: Any,
    *,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float = GAMMA,
    axis: int = -1,
) -> Any:
    """Compute the report's loss, L_m + L_o.

    Parameters
    ----------
    y_true, y_pred : array of shape (batch, n_samples, n_channels, 4), float32
        True and estimated segments. The report's have 7168 samples.
    alpha, beta, gamma : float
        Weights of the terms that are subtracted.
    axis : int
        Axis of the sources, as for `report_loss_terms`.

    Returns
    -------
    scalar
        Reconstruction of bass, drums and vocals, minus `alpha` times the distances between
        estimates, minus `beta` times those of bass and drums from the true other, minus `gamma`
        times that of vocals from it; all divided by the batch size.

    References
    ----------
    Report, section "The loss" and its code; Chandna et al. (2017), equations 6 to 8.
    """
    total = 0.0
    for name, term in report_loss_terms(y_true, y_pred, axis=axis).items():
        part, source = name.split("_", 1)
        if part == "reconstruction":
            weight = 1.0
        elif part == "dissimilarity":
            weight = -alpha
        else:
            weight = -gamma if source == "vocals" else -beta
        # A compiler may not drop a product with zero, which could be zero times infinity.
        if weight:
            total = total + weight * term
    return mean_over_batch(total, y_pred)


def mean_over_batch(total: Any, y_pred: Any) -> Any:
    """Divide a sum by the batch size, the first axis of `y_pred`.

    A graph may know it only when it runs.
    """
    if isinstance(y_pred.shape[0], int):
        return total / y_pred.shape[0]
    xp = array_namespace(y_pred)
    return total / xp.cast(xp.shape(y_pred)[0], total.dtype)
