"""Statistics of the study: gains with their errors over songs and seeds, and what they allow.

The rules are those of the book's chapter "How we judge".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from sepkit.errors import import_optional
from sepkit.metrics import METRICS
from sepkit.study.arms import ARMS
from sepkit.study.cards import score_arrays
from sepkit.study.experiments import EXPERIMENTS
from sepkit.study.results import read_results

SIGNIFICANT = 0.05
"""Level of significance, after correction."""
NEGLIGIBLE = 0.3
"""Differences within this are called none [dB]."""
REPRODUCED = 1.0
"""Largest difference from a figure of the report that is called agreement [dB]."""

Results = Mapping[tuple[str, int], Mapping[str, Any]]
"""Cards by arm and seed, as `sepkit.study.results.read_results` returns them."""


@dataclass(frozen=True)
class Estimate:
    """Means with their uncertainty.

    Parameters
    ----------
    mean, error : ndarray
        Means and their standard errors [dB].
    freedom : ndarray
        Degrees of freedom of the errors.
    """

    mean: np.ndarray
    error: np.ndarray
    freedom: np.ndarray

    @property
    def p(self) -> np.ndarray:
        """Two-sided probability of a mean as far from 0 or farther, by Student's t."""
        return np.asarray(2 * scipy.stats.t.sf(np.abs(self.mean) / self.error, self.freedom))

    def interval(self, level: float = 0.95) -> np.ndarray:
        """Return the ends of the confidence interval (2, ...) [dB]."""
        reach = scipy.stats.t.ppf(0.5 + level / 2, self.freedom) * self.error
        return np.stack([self.mean - reach, self.mean + reach])


@dataclass(frozen=True)
class SeedScatter:
    """The variance of a training's mean scores over seeds, pooled over arms.

    Parameters
    ----------
    variance : ndarray of shape (3, 5)
        For SDR, SIR, SAR by source and, last, of the mean over sources [dB^2].
    freedom : int
        Its degrees of freedom: trainings minus arms.
    """

    variance: np.ndarray
    freedom: int


@dataclass(frozen=True)
class Effect:
    """The gains of one arm over another on the same songs.

    Parameters
    ----------
    arm, base : str
        Their names; the arm is compared with the base.
    seeds : tuple of int
        Number of trainings of each.
    gain : ndarray of shape (n_songs, 3, 4)
        Gains in SDR, SIR, SAR by source, mean over seeds [dB].
    scatter : SeedScatter
        Of the arms that these two belong to.
    """

    arm: str
    base: str
    seeds: tuple[int, int]
    gain: np.ndarray
    scatter: SeedScatter

    @property
    def total(self) -> Estimate:
        """Gain in SDR, SIR, SAR, mean over sources: arrays (3,)."""
        return self._estimate(self.gain.mean(axis=2), self.scatter.variance[:, -1])

    @property
    def by_source(self) -> Estimate:
        """Gain in SDR, SIR, SAR by source: arrays (3, 4)."""
        return self._estimate(self.gain, self.scatter.variance[:, :-1])

    def _estimate(self, gain: np.ndarray, seed_variance: np.ndarray) -> Estimate:
        over_songs = gain.var(axis=0, ddof=1) / len(gain)
        over_seeds = seed_variance * sum(1 / n for n in self.seeds)
        total = over_songs + over_seeds
        # Satterthwaite (1946).
        freedom = total**2 / (
            over_songs**2 / (len(gain) - 1) + over_seeds**2 / max(self.scatter.freedom, 1)
        )
        return Estimate(gain.mean(axis=0), np.sqrt(total), freedom)


def over_songs(values: np.ndarray) -> Estimate:
    """Estimate the means of values by song (n_songs, ...)."""
    n_songs = len(values)
    error = values.std(axis=0, ddof=1) / np.sqrt(n_songs)
    return Estimate(values.mean(axis=0), error, np.full(error.shape, n_songs - 1))


def mean_scores(cards: Sequence[Mapping[str, Any]], mode: str) -> dict[str, np.ndarray]:
    """Average the scores of trainings over seeds and channels: by song, (3, 4) [dB]."""
    scores = [score_arrays(card["scores"][mode]) for card in cards]
    names = [name for name in scores[0] if all(name in other for other in scores)]
    return {name: np.mean([other[name].mean(axis=0) for other in scores], axis=0) for name in names}


def seed_scatter(results: Results, names: Iterable[str], *, mode: str = "song") -> SeedScatter:
    """Pool the variance over seeds of the mean scores of some arms.

    Parameters
    ----------
    results : mapping
        Of `sepkit.study.results.read_results`.
    names : iterable of str
        Arms; those with a single training contribute nothing.
    mode : str
        "report" or "song".

    Returns
    -------
    SeedScatter
        Zero, with no degree of freedom, if no arm has two trainings.
    """
    squares, freedom = np.zeros((len(METRICS), 5)), 0
    for name in names:
        means = []
        for card in _trainings(results, name):
            by_source = np.mean(list(mean_scores([card], mode).values()), axis=0)
            means.append(np.column_stack([by_source, by_source.mean(axis=1)]))
        if len(means) > 1:
            squares += np.var(means, axis=0) * len(means)
            freedom += len(means) - 1
    return SeedScatter(squares / max(freedom, 1), freedom)


def _trainings(results: Results, name: str) -> list[Mapping[str, Any]]:
    return [card for (arm, _), card in results.items() if arm == name]


def compare(
    results: Results, name: str, base: str, scatter: SeedScatter, *, mode: str = "song"
) -> Effect:
    """Compare all trainings of an arm with all of another, on the songs that all have in common."""
    cards, base_cards = _trainings(results, name), _trainings(results, base)
    scores, scores_of_base = mean_scores(cards, mode), mean_scores(base_cards, mode)
    gain = [scores[song] - scores_of_base[song] for song in scores if song in scores_of_base]
    return Effect(name, base, (len(cards), len(base_cards)), np.array(gain), scatter)


def effects(folder: str | Path | None = None, *, mode: str = "song") -> dict[str, Effect]:
    """Compare each arm that has a result with its base, on the validation songs.

    Parameters
    ----------
    folder : str or Path, optional
        Folder of results; by default those that come with the library. They also serve as bases
        for the arms of another folder.
    mode : str
        "report" or "song".

    Returns
    -------
    dict of str to Effect
        By arm, in the order of `sepkit.study.arms.ARMS`.
    """
    results = read_results(folder)
    known = {name for name, _ in results}
    everything = {**read_results(), **results}
    for name in known:  # an arm's trainings are those of the folder alone
        for key in [key for key in everything if key[0] == name and key not in results]:
            del everything[key]
    scatter = seed_scatter(everything, ARMS, mode=mode)
    bases = {name for name, _ in everything}
    return {
        name: compare(everything, name, arm.base, scatter, mode=mode)
        for name, arm in ARMS.items()
        if name in known and arm.base in bases
    }


def verdicts(compared: Mapping[str, Effect]) -> dict[str, tuple[str, ...]]:
    """Judge the gains in SDR, SIR and SAR of a family of effects.

    Parameters
    ----------
    compared : mapping of str to Effect
        All effects that are tested together: correction is for their number times three.

    Returns
    -------
    dict of str to tuple of str
        For each metric "effect" (p < 0.05 by Holm's method), "likely" (by Benjamini and
        Hochberg's), "none" (the 95 % interval lies within 0.3 dB of 0) or "open".
    """
    multitest = import_optional("statsmodels.stats.multitest", "evaluation")
    totals = [effect.total for effect in compared.values()]
    p = np.array([total.p for total in totals])
    holm, likely = (
        multitest.multipletests(p.ravel(), SIGNIFICANT, method)[0].reshape(p.shape)
        for method in ("holm", "fdr_bh")
    )
    none = np.array([np.abs(total.interval()).max(axis=0) <= NEGLIGIBLE for total in totals])
    words = np.select([holm, likely, none], ["effect", "likely", "none"], "open")
    return {name: tuple(map(str, row)) for name, row in zip(compared, words, strict=True)}


@dataclass(frozen=True)
class Reproduction:
    """Our scores of an experiment beside those that the report gives.

    Parameters
    ----------
    difference, z : ndarray of shape (3, 4)
        Ours minus the report's, in SDR, SIR, SAR by source [dB]; the same over its standard error.
    words : list of tuple of str
        By metric and source: "agrees", "differs" or "open".
    """

    difference: np.ndarray
    z: np.ndarray
    words: list[tuple[str, ...]]


def reproductions(results: Results, published: Mapping[str, Any]) -> dict[str, Reproduction]:
    """Judge whether Experiments 1 and 2 reproduce the report's figures.

    Parameters
    ----------
    results : mapping
        Of `sepkit.study.results.read_results`.
    published : mapping
        Of `sepkit.study.cards.published_scores`.

    Returns
    -------
    dict of str to Reproduction
        By experiment, those that have results. The report gives means and deviations over its fifty
        songs, and no scores by song: its songs and ours are taken for independent.
    """
    multitest = import_optional("statsmodels.stats.multitest", "evaluation")
    scatter = seed_scatter(results, EXPERIMENTS, mode="report")
    differences, z = {}, {}
    for name in ("experiment1", "experiment2"):
        cards, theirs = _trainings(results, name), published[f"report_{name}"]
        if not cards:
            continue
        ours = np.array(list(mean_scores(cards, "report").values()))
        mean, deviation = (
            np.array([theirs[part][metric] for metric in METRICS]) for part in ("mean", "deviation")
        )
        error = np.sqrt(
            ours.var(axis=0, ddof=1) / len(ours)
            + deviation**2 / 50
            + scatter.variance[:, :-1] / len(cards)
        )
        differences[name] = ours.mean(axis=0) - mean
        z[name] = differences[name] / error
    p = 2 * scipy.stats.norm.sf(np.abs(np.concatenate([*z.values()])))
    differ = multitest.multipletests(p.ravel(), SIGNIFICANT, "holm")[0].reshape(len(z), 3, 4)
    judged = {}
    for name, significant in zip(z, differ, strict=True):
        close = np.abs(differences[name]) <= REPRODUCED
        words = np.select([significant, close], ["differs", "agrees"], "open")
        rows = [tuple(map(str, row)) for row in words]
        judged[name] = Reproduction(differences[name], z[name], rows)
    return judged


def mixed_model_p(results: Results, metric: str, *, mode: str = "song") -> dict[str, float]:
    """Test the arms against their bases by one mixed model of all scores.

    A score, mean over sources, is a fixed part of its arm, one of its song, and random parts of
    arm and song, and of arm and seed, whose variances all arms share.

    Parameters
    ----------
    results : mapping
        Of `sepkit.study.results.read_results`.
    metric : str
        One of `sepkit.metrics.METRICS`.
    mode : str
        "report" or "song".

    Returns
    -------
    dict of str to float
        Two-sided p by arm, not corrected.
    """
    pandas = import_optional("pandas", "evaluation")
    formula = import_optional("statsmodels.formula.api", "evaluation")
    rows = [
        (name, seed, song, scores[METRICS.index(metric)].mean())
        for (name, seed), card in results.items()
        if name in ARMS
        for song, scores in mean_scores([card], mode).items()
    ]
    frame = pandas.DataFrame(rows, columns=["arm", "seed", "song", "score"])
    fit = formula.mixedlm(
        "score ~ 0 + C(arm) + C(song, Sum)",
        frame,
        groups="arm",
        re_formula="0",
        vc_formula={"song": "0 + C(song)", "seed": "0 + C(seed)"},
    ).fit(reml=True)
    index = {name: i for i, name in enumerate(sorted(frame["arm"].unique()))}
    covariance = np.asarray(fit.cov_params())
    p = {}
    for name, arm in ARMS.items():
        if name in index and arm.base in index:
            contrast = np.zeros(len(fit.fe_params))
            contrast[index[name]], contrast[index[arm.base]] = 1, -1
            size = len(contrast)
            error = np.sqrt(contrast @ covariance[:size, :size] @ contrast)
            gain = contrast @ np.asarray(fit.fe_params)
            p[name] = float(2 * scipy.stats.norm.sf(abs(gain) / error))
    return p
