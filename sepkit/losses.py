"""The report's loss in named parts, and three that repair it.

The loss compares waveforms: squared distances are summed over samples, channels and the batch,
and divided by the batch size alone, so that the numbers are large and grow with loudness.
"""

from __future__ import annotations

from itertools import combinations

from sepkit.datasets import SOURCES
from sepkit.errors import ParameterError
from sepkit.network import namespace

ALPHA = 0.001
"""Weight of the dissimilarity of the estimates (report, section "The loss"; paper, section 2.3)."""
BETA = 0.01
"""Weight of the distance of bass and drums from the true other."""
GAMMA = 0.03
"""Weight of the distance of vocals from the true other."""

_LOUD = 71.68
_FLOOR = 1.0


def report_loss_terms(y_true, y_pred) -> dict[str, object]:
    """Compute the twelve squared distances of the report's loss, by name.

    Parameters
    ----------
    y_true, y_pred : array of shape (batch, n_samples, n_channels, 4), float32
        True and estimated segments, sources last, in the order of `SOURCES`.

    Returns
    -------
    dict of str to scalar
        ``reconstruction_S`` for bass, drums, vocals: estimate against truth;
        ``dissimilarity_S_T`` for the six pairs of estimates; ``other_S`` for bass, drums, vocals:
        estimate against the true "other". True and estimated "other" are never compared.

    Raises
    ------
    ParameterError
        When the shapes differ or there are not four sources.
    """
    if tuple(y_true.shape[1:]) != tuple(y_pred.shape[1:]) or y_pred.shape[-1] != len(SOURCES):
        raise ParameterError(
            f"loss of shapes {tuple(y_true.shape)} and {tuple(y_pred.shape)}: give two equal ones, "
            "(batch, n_samples, n_channels, 4)"
        )
    xp = namespace(y_pred)
    truth = {source: y_true[..., i] for i, source in enumerate(SOURCES)}
    estimate = {source: y_pred[..., i] for i, source in enumerate(SOURCES)}

    def distance(a, b):
        return xp.sum(xp.square(a - b))

    named = ("bass", "drums", "vocals")
    terms = {f"reconstruction_{s}": distance(truth[s], estimate[s]) for s in named}
    for a, b in combinations(SOURCES, 2):
        terms[f"dissimilarity_{a}_{b}"] = distance(estimate[a], estimate[b])
    for s in named:
        terms[f"other_{s}"] = distance(estimate[s], truth["other"])
    return terms


def report_loss(y_true, y_pred, *, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA):
    """Compute the report's loss, L_m + L_o.

    Parameters
    ----------
    y_true, y_pred : array of shape (batch, n_samples, n_channels, 4), float32
        True and estimated segments, sources last, in the order of `SOURCES`. The report's have
        7168 samples.
    alpha, beta, gamma : float
        Weights of the terms that are subtracted.

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
    terms = report_loss_terms(y_true, y_pred)
    total = 0.0
    for name, term in terms.items():
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
    return _per_segment(total, y_pred)


def complete_loss(
    y_true, y_pred, *, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA
):
    """Compute the report's loss with the term that it leaves out: "other" against the truth.

    Parameters
    ----------
    y_true, y_pred : array of shape (batch, n_samples, n_channels, 4), float32
        True and estimated segments, as for `report_loss`.
    alpha, beta, gamma : float
        Weights of the terms that are subtracted.

    Returns
    -------
    scalar
        `report_loss` plus the squared distance of the estimated from the true other, divided by
        the batch size.
    """
    xp = namespace(y_pred)
    other = SOURCES.index("other")
    missing = xp.sum(xp.square(y_true[..., other] - y_pred[..., other]))
    rest = report_loss(y_true, y_pred, alpha=alpha, beta=beta, gamma=gamma)
    return rest + _per_segment(missing, y_pred)


def relative_loss(y_true, y_pred):
    """Compare all four sources, every segment counting as if its mixture were equally loud.

    Parameters
    ----------
    y_true, y_pred : array of shape (batch, n_samples, n_channels, 4), float32
        True and estimated segments, sources last.

    Returns
    -------
    scalar
        Squared distances of all sources, those of each segment multiplied by 71.68 / (E + 1) with
        E the energy of its mixture; divided by the batch size. 71.68 is the energy of 7168 samples
        of RMS 0.1; the 1 keeps near-silence from counting.
    """
    xp = namespace(y_pred)
    error = xp.sum(xp.square(y_true - y_pred), axis=(1, 2, 3))
    energy = xp.sum(xp.square(xp.sum(y_true, axis=-1)), axis=(1, 2))
    return _per_segment(xp.sum(error * (_LOUD / (energy + _FLOOR))), y_pred)


def balanced_loss(y_true, y_pred):
    """Compare all four sources, each relative to its own energy, so that soft ones count too.

    Parameters
    ----------
    y_true, y_pred : array of shape (batch, n_samples, n_channels, 4), float32
        True and estimated segments, sources last.

    Returns
    -------
    scalar
        Squared distances, that of each source of each segment divided by E_s + E / 10 + 1 with E_s
        the energy of the source and E that of the mixture, multiplied by 71.68 / 4 to be of the
        size of `relative_loss`; divided by the batch size. Without the tenth of the mixture a
        source that is silent would count without bound.
    """
    xp = namespace(y_pred)
    error = xp.sum(xp.square(y_true - y_pred), axis=(1, 2))
    own = xp.sum(xp.square(y_true), axis=(1, 2))
    whole = xp.sum(xp.square(xp.sum(y_true, axis=-1)), axis=(1, 2))[:, None]
    weight = _LOUD / 4 / (own + whole / 10 + _FLOOR)
    return _per_segment(xp.sum(error * weight), y_pred)


def _per_segment(total, y_pred):
    """Divide by the batch size, which a graph may learn only when it runs."""
    if isinstance(y_pred.shape[0], int):
        return total / y_pred.shape[0]
    xp = namespace(y_pred)
    return total / xp.cast(xp.shape(y_pred)[0], total.dtype)
