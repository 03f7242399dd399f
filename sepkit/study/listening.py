"""Ratings of listeners, as the book's rating test saves them: joined, screened, set against scores.

The rules are those of ITU-R BS.1534-3 where it has any. Intervals come from a bootstrap: listeners,
and for correlations sounds too, are drawn again with replacement.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from sepkit.errors import SepkitError
from sepkit.files import read_json
from sepkit.metrics import METRICS

KINDS = ("reference", "anchor", "system")
"""What a rated sound may be."""

LEAST_REFERENCE = 90
"""Ratings of the hidden reference below this count against a listener."""

MOST_MISSED = 0.15
"""Share of trials in which a listener may do so."""

ENOUGH = 20
"""Number of listeners that BS.1534 finds often enough, after screening."""

N_DRAWS = 4000
"""Draws of the bootstrap."""


@dataclass(frozen=True)
class Rating:
    """One rating.

    Attributes
    ----------
    trial : str
        The source and its song.
    system, kind : str
        What was rated, and which of `KINDS` it is.
    rating : float
        From 0 to 100.
    scores : tuple of float or None
        SDR, SIR, SAR of the sound [dB]; None where a ratio is not finite.
    """

    trial: str
    system: str
    kind: str
    rating: float
    scores: tuple[float | None, ...]


@dataclass(frozen=True)
class Session:
    """What one listener rated in one go.

    Attributes
    ----------
    path : str
        The file.
    test, listener, date : str
        Name of the test, which tells other sounds apart; random name of the listener; when.
    ratings : tuple of Rating
        All ratings.
    """

    path: str
    test: str
    listener: str
    date: str
    ratings: tuple[Rating, ...]

    @property
    def missed(self) -> tuple[int, int]:
        """Trials in which the hidden reference was rated below 90, and all trials."""
        references = [rating.rating for rating in self.ratings if rating.kind == "reference"]
        return sum(rating < LEAST_REFERENCE for rating in references), len(references)


@dataclass(frozen=True)
class Mean:
    """A value with the ends of its 95 % interval, NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Joined:
    """Ratings of several listeners.

    Attributes
    ----------
    trials : tuple of str
        What was rated.
    kept : tuple of str
        Listeners whose ratings count.
    excluded : mapping of str to (int, int)
        Those left out: trials in which they rated the hidden reference below 90, and all.
    means : mapping of str to Mean
        By system, hidden reference and anchors too, the mean rating.
    kinds : mapping of str to str
        By system one of `KINDS`.
    n_sounds : int
        Sounds that the correlations rest on: those of the systems, in all trials.
    correlations : mapping of str to Mean
        By metric, Spearman's correlation of mean ratings with scores over these sounds.
    """

    trials: tuple[str, ...]
    kept: tuple[str, ...]
    excluded: Mapping[str, tuple[int, int]]
    means: Mapping[str, Mean]
    kinds: Mapping[str, str]
    n_sounds: int
    correlations: Mapping[str, Mean]


def read_session(path: str | os.PathLike[str]) -> Session:
    """Read a file that the rating test has saved.

    Raises
    ------
    SepkitError
        When it cannot be read, is another kind of file, or is damaged.
    """
    try:
        content = read_json(path)
    except RecursionError as error:
        raise SepkitError(f"{path}: cannot be read (not JSON of a test); replace it") from error
    if not isinstance(content, dict) or content.get("kind") != "sepkit-listening":
        what = "an ABX test's" if _is_abx(content) else "no rating test's"
        raise SepkitError(f'{path}: {what} file; give those that "Save the ratings" has saved')
    if content.get("version") != 1:
        raise SepkitError(f"{path}: of another version of the rating test; update sepkit")
    try:
        named = [_text(content[name]) for name in ("test", "listener", "date")]
        ratings = tuple(
            _rating(f"{_text(trial['source'])}, {_text(trial['song'])}", stimulus)
            for trial in content["ratings"]
            for stimulus in trial["stimuli"]
        )
        places = {(rating.trial, rating.system) for rating in ratings}
        trials = dict.fromkeys(rating.trial for rating in ratings)
        references = [rating.trial for rating in ratings if rating.kind == "reference"]
        if not ratings or len(places) < len(ratings) or sorted(references) != sorted(trials):
            raise ValueError("not one rating for each sound, or not one hidden reference a trial")
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise SepkitError(f"{path}: damaged ({reason}); save the ratings again") from error
    return Session(str(path), *named, ratings)


def _is_abx(content: Any) -> bool:
    return isinstance(content, dict) and content.get("kind") == "sepkit-abx"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{value!r} is no name")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _rating(trial: str, stimulus: Mapping[str, Any]) -> Rating:
    rating = _number(stimulus["rating"])
    if not 0 <= rating <= 100:
        raise ValueError(f"a rating of {rating:g}, not 0 to 100")
    if stimulus["kind"] not in KINDS:
        raise ValueError(f"{stimulus['kind']!r} is none of {', '.join(KINDS)}")
    scores = tuple(
        None if stimulus["scores"][metric] is None else _number(stimulus["scores"][metric])
        for metric in METRICS
    )
    return Rating(trial, _text(stimulus["system"]), stimulus["kind"], rating, scores)


def join(sessions: Sequence[Session], *, seed: int = 0) -> Joined:
    """Join sessions, without listeners who do not recognize the hidden reference.

    Listeners who rate the hidden reference below 90 in more than 15 % of trials are excluded.
    Several sessions of one listener count as one, by their means.

    Parameters
    ----------
    sessions : sequence of Session
        Of one test.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Joined
        The means have intervals over listeners, from two of them on; the correlations over
        listeners and sounds.

    Raises
    ------
    SepkitError
        When two sessions are of different tests or the same, or no listener is left.
    """
    if not sessions:
        raise SepkitError("no ratings: give the files of one or more listeners")
    first = sessions[0]
    seen: dict[tuple[str, str], str] = {}
    for session in sessions:
        if session.test != first.test or _sounds(session) != _sounds(first):
            raise SepkitError(
                f"{session.path}: rates other sounds than {first.path}; join those of one page"
            )
        key = (session.listener, session.date)
        if key in seen:
            raise SepkitError(f"{session.path}: the same session as {seen[key]}; give it once")
        seen[key] = session.path
    by_listener: dict[str, list[Session]] = {}
    for session in sessions:
        by_listener.setdefault(session.listener, []).append(session)
    missed = {
        name: tuple(int(n) for n in np.sum([session.missed for session in own], axis=0))
        for name, own in by_listener.items()
    }
    excluded = {name: (n, of) for name, (n, of) in missed.items() if n > MOST_MISSED * of}
    kept = tuple(name for name in by_listener if name not in excluded)
    if not kept:
        raise SepkitError(
            f"nobody is left: each of {len(by_listener)} listeners rated the hidden reference "
            f"below {LEAST_REFERENCE} in more than {100 * MOST_MISSED:.0f} % of trials"
        )
    sounds = sorted(_sounds(first), key=lambda sound: (KINDS.index(sound[2]), *sound))
    # (n_listeners, n_sounds), each listener's mean over sessions.
    ratings = np.array(
        [np.mean([_row(own, sounds) for own in by_listener[n]], axis=0) for n in kept]
    )
    draws = np.random.default_rng(seed).integers(len(kept), size=(N_DRAWS, len(kept)))
    kinds = {system: kind for _, system, kind, _ in sounds}
    means = {}
    for system in kinds:
        values = ratings[:, [sound[1] == system for sound in sounds]].mean(axis=1)
        means[system] = _with_interval(values.mean(), values[draws].mean(axis=1), len(kept) > 1)
    of_systems = [i for i, sound in enumerate(sounds) if sound[2] == "system"]
    scores = np.array([sounds[i][3] for i in of_systems], float).reshape(-1, len(METRICS))
    return Joined(
        trials=tuple(dict.fromkeys(rating.trial for rating in first.ratings)),
        kept=kept,
        excluded=excluded,
        means=means,
        kinds=kinds,
        n_sounds=len(of_systems),
        correlations=_correlate(ratings[:, of_systems], scores, draws, seed),
    )


def _sounds(session: Session) -> set[tuple[str, str, str, tuple[float | None, ...]]]:
    return {(r.trial, r.system, r.kind, r.scores) for r in session.ratings}


def _row(session: Session, sounds: Sequence[tuple]) -> list[float]:
    found = {(rating.trial, rating.system): rating.rating for rating in session.ratings}
    return [found[trial, system] for trial, system, *_ in sounds]


def _with_interval(value: float, drawn: np.ndarray, known: bool) -> Mean:
    drawn = drawn[~np.isnan(drawn)]
    ends = np.percentile(drawn, [2.5, 97.5]) if known and len(drawn) else (np.nan, np.nan)
    return Mean(float(value), float(ends[0]), float(ends[1]))


def _correlate(
    ratings: np.ndarray, scores: np.ndarray, draws: np.ndarray, seed: int
) -> dict[str, Mean]:
    """Correlate mean ratings with each metric; NaN with fewer than three sounds."""
    found = {}
    for metric, values in zip(METRICS, scores.T, strict=True):
        scored = ~np.isnan(values)
        n = int(scored.sum())
        if n < 3:
            found[metric] = Mean(np.nan, np.nan, np.nan)
            continue
        rated, values = ratings[:, scored], values[scored]
        sounds = np.random.default_rng([seed, 1]).integers(n, size=(len(draws), n))
        again = np.take_along_axis(rated[draws].mean(axis=1), sounds, axis=1)
        drawn = _spearman(again, values[sounds])
        whole = _spearman(rated.mean(axis=0)[np.newaxis], values[np.newaxis])[0]
        found[metric] = _with_interval(whole, drawn, known=True)
    return found


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row; NaN where a row has one value only."""
    x, y = (scipy.stats.rankdata(values, axis=1) for values in (x, y))
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (x, y))
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.where(scale > 0, (x * y).sum(axis=1) / np.where(scale > 0, scale, 1), np.nan)


def describe(joined: Joined) -> str:
    """Write what ratings show, in lines for the command line."""
    n, everyone = len(joined.kept), len(joined.kept) + len(joined.excluded)
    lines = [
        f"{_count(everyone, 'listener')}, {_count(len(joined.trials), 'trial')}: "
        + "; ".join(joined.trials),
        f"left out by the rule of ITU-R BS.1534 (hidden reference below {LEAST_REFERENCE} in more "
        f"than {100 * MOST_MISSED:.0f} % of trials): {_count(len(joined.excluded), 'listener')}",
    ]
    for name, (missed, trials) in joined.excluded.items():
        lines.append(f"  {name}: below {LEAST_REFERENCE} in {missed} of {trials}")
    lines += ["", f"mean rating of {_count(n, 'listener')}, 0 to 100, and 95 % interval"]
    width = max(map(len, joined.means))
    order = sorted(joined.means, key=lambda system: -joined.means[system].value)
    for system in order:
        lines.append(f"  {system:{width}}  {_told(joined.means[system], 1)}")
    lines += [
        "",
        f"Spearman's correlation of ratings with scores over {joined.n_sounds} sounds of the "
        "systems, and 95 % interval",
        *(f"  {metric}  {_told(mean, 2)}" for metric, mean in joined.correlations.items()),
        "",
        *_caveats(n, joined),
    ]
    return "\n".join(lines)


def _caveats(n: int, joined: Joined) -> list[str]:
    lines = []
    if n == 1:
        lines.append("One listener: the ratings are one opinion, and have no interval.")
    elif n < ENOUGH:
        lines.append(
            f"{n} listeners: the intervals of the means say how much these differ from each other. "
            f"From so few they come out too narrow for listeners at large; BS.1534 finds about "
            f"{ENOUGH} often enough."
        )
    else:
        lines.append(f"{n} listeners: as many as BS.1534 finds often enough.")
    lines.append(
        f"The means hold for {_count(len(joined.trials), 'trial')}, not for music at large. "
        f"The correlations rest on {joined.n_sounds} sounds that share songs, so their intervals "
        "are too narrow as well. Hidden reference and anchors are left out of them."
    )
    return lines


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _told(mean: Mean, digits: int) -> str:
    if np.isnan(mean.value):
        return "–"
    value, low, high = (
        f"{round(x, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")
        for x in (mean.value, mean.low, mean.high)
    )
    return f"{value:>6}" if np.isnan(mean.low) else f"{value:>6}  [{low}, {high}]"
