"""Scoring: songs are separated, compared with their true stems, and summarised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from sepkit import bsseval, metrics, separation, streaming, weights
from sepkit.errors import AudioError, DatasetError, SepkitError, import_optional
from sepkit.metrics import METRICS
from sepkit.tracks import SOURCES, Track

MODES = ("report", "song")
"""The report's procedure, segment by segment; the whole song with overlapping contexts."""

MEASURES = ("report", "bsseval")
"""The report's one-tap metrics by channel; BSS Eval 4, medians over windows of one second."""

Separator = Callable[[np.ndarray, int], np.ndarray]
"""From true sources (4, n_samples, n_channels) and their rate to estimates, maybe shorter."""


@dataclass(frozen=True)
class Summary:
    """Scores summarised over songs.

    Parameters
    ----------
    mean, deviation, median : ndarray
        Over the finite scores; the deviation is that of the population.
    n : ndarray of int
        Number of finite scores.
    dropped : ndarray of int
        Number of scores left out, NaN or infinite.
    """

    mean: np.ndarray
    deviation: np.ndarray
    median: np.ndarray
    n: np.ndarray
    dropped: np.ndarray


def summarize(scores: np.ndarray) -> Summary:
    """Summarise scores (n_songs, ...) over songs, leaving out NaN and infinite ones."""
    scores = np.asarray(scores, np.float64)
    finite = np.isfinite(scores)
    n = finite.sum(axis=0)
    kept = np.ma.masked_array(scores, ~finite)

    def filled(values: Any) -> np.ndarray:
        return np.asarray(np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan))

    return Summary(
        mean=filled(kept.mean(axis=0)),
        deviation=filled(kept.std(axis=0)),
        median=filled(np.ma.median(kept, axis=0)),
        n=n,
        dropped=len(scores) - n,
    )


@dataclass(frozen=True)
class SongScores:
    """Scores of one song.

    Parameters
    ----------
    name : str
        The song.
    scores : dict of str to ndarray of shape (n_rows, 3, 4)
        By measure: SDR, SIR, SAR by source [dB]. The report's metrics have a row per channel,
        the others one for all channels.
    """

    name: str
    scores: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Evaluation:
    """Scores of a system on some songs.

    Parameters
    ----------
    mode : str
        How the songs were separated: one of `MODES`, or a description.
    hop : int
        Frames between contexts, in mode "song".
    songs : list of SongScores
        By song.
    """

    mode: str
    hop: int = 0
    songs: Sequence[SongScores] = field(default_factory=list)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that all songs have."""
        first = self.songs[0].scores if self.songs else {}
        return tuple(m for m in first if all(m in song.scores for song in self.songs))

    def summary(self, measure: str) -> Summary:
        """Summarise a measure's scores over songs and, as the report does, channels: (3, 4)."""
        return summarize(np.concatenate([song.scores[measure] for song in self.songs]))

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as JSON values in the form of the cards: 0.0001 dB, None for NaN."""
        result: dict[str, Any] = {"mode": self.mode, "hop": self.hop, "sources": list(SOURCES)}
        for measure in self.measures:
            summary = self.summary(measure)
            result[measure] = {
                part: by_metric(getattr(summary, part))
                for part in ("mean", "deviation", "median", "n", "dropped")
            }
        result["songs"] = [
            {"name": song.name}
            | {m: [by_metric(row) for row in song.scores[m]] for m in self.measures}
            for song in self.songs
        ]
        return result


def by_metric(values: np.ndarray) -> dict[str, list[float | int | None]]:
    """Convert scores (3, n_sources) to JSON values by metric, None for what is not finite."""

    def plain(value: Any) -> float | int | None:
        if not np.isfinite(value):
            return None
        return int(value) if isinstance(value, np.integer) else round(float(value), 4)

    return {name: [plain(v) for v in row] for name, row in zip(METRICS, values, strict=True)}


def museval_scores(references: np.ndarray, estimates: np.ndarray, rate: int) -> np.ndarray:
    """Compute `sepkit.metrics.bss_eval_scores` by the reference package museval."""
    museval = import_optional("museval", "evaluation")
    references = np.asarray(references, np.float64)[:, : estimates.shape[1]]
    estimates = np.array(estimates, np.float64)
    sounding, unestimated = ~bsseval.silent(references), bsseval.silent(estimates)
    scores = np.full((len(METRICS), len(references)), np.nan)
    if sounding.any():
        # museval refuses silence; an estimate does not affect the scores of others.
        estimates[unestimated] = 1.0
        sdr, _, sir, sar = museval.evaluate(
            references[sounding], estimates[sounding], win=rate, hop=rate
        )
        scores[:, sounding] = metrics.medians_of_windows(np.stack([sdr, sir, sar]))
        scores[:, unestimated] = np.nan
    return scores


def measure_song(
    references: np.ndarray, estimates: np.ndarray, rate: int, measure: str
) -> np.ndarray:
    """Compare estimates (4, n, n_channels) with true sources, cut to their length, by one measure.

    Returns SDR, SIR, SAR by source (n_rows, 3, 4) [dB]: a row per channel for "report", one row for
    "bsseval" and "museval" (the same by the reference package).
    """
    if measure == "report":
        channels = range(references.shape[2])
        scores = [metrics.report_scores(references[..., c], estimates[..., c]) for c in channels]
        return np.stack(scores)
    functions = {"bsseval": metrics.bss_eval_scores, "museval": museval_scores}
    return functions[measure](references, estimates, rate)[np.newaxis]


def score_song(
    track: Track,
    separators: Mapping[str, Separator],
    *,
    channels: int = 1,
    measures: Sequence[str] = MEASURES,
) -> dict[str, SongScores]:
    """Score the first channels of one song by one or more separators, by name.

    A separator maps true sources and their rate to estimates (see `Separator`).
    """
    references = track.read()[..., :channels]
    scored = {}
    for name, separator in separators.items():
        try:
            estimates = separator(references, track.rate)
        except AudioError as error:
            raise DatasetError(
                f"{track.name}: {error}, or leave it out (or --mode song)"
            ) from error
        rows = {m: measure_song(references, estimates, track.rate, m) for m in measures}
        scored[name] = SongScores(track.name, rows)
    return scored


def _try_song(track: Track, *arguments: Any, **options: Any) -> dict[str, SongScores] | SepkitError:
    """Return what `score_song` does, or its error if the song is at fault."""
    try:
        return score_song(track, *arguments, **options)
    except (AudioError, DatasetError) as error:
        return error


def score_each(
    tracks: Iterable[Track],
    separators: Mapping[str, Separator],
    *,
    channels: int = 1,
    measures: Sequence[str] = MEASURES,
    n_jobs: int = -1,
) -> Iterator[dict[str, SongScores] | SepkitError]:
    """Score songs by one or more separators, several songs at once through joblib.

    Yields, in the order of the songs and as soon as they are there, a song's scores by separator,
    or the error of a song that cannot be scored. -1 jobs are one per core.
    """
    joblib = import_optional("joblib", "evaluation")
    tracks = list(tracks)
    options = {"channels": channels, "measures": measures}
    jobs = (joblib.delayed(_try_song)(track, separators, **options) for track in tracks)
    run = joblib.Parallel(n_jobs=min(n_jobs, len(tracks)), return_as="generator")
    yield from tqdm(run(jobs), total=len(tracks), desc="scoring", unit="song", disable=None)


def score_songs(
    tracks: Iterable[Track], separators: Mapping[str, Separator], **options: Any
) -> dict[str, list[SongScores]]:
    """Score songs as `score_each` does, with its options: by separator, in the order of the songs.

    The first song that cannot be scored raises its error.
    """
    songs = list(_raising(score_each(tracks, separators, **options)))
    return {name: [song[name] for song in songs] for name in separators}


def _raising(results: Iterable[Any]) -> Iterator[Any]:
    for result in results:
        if isinstance(result, SepkitError):
            raise result
        yield result


def evaluate(
    model: separation.Model,
    tracks: Iterable[Track],
    *,
    mode: str = "song",
    hop: int = separation.DEFAULT_HOP,
    measures: Sequence[str] = MEASURES,
    n_jobs: int = -1,
) -> Evaluation:
    """Separate songs with a model and score them.

    Parameters
    ----------
    model : str, Path, dict or keras.Model
        As for `sepkit.separate`. A model of one channel is scored on the left channel.
    tracks : iterable of Track
        The songs.
    mode : {"song", "report"}
        How to separate.
    hop : int
        Frames between contexts, in mode "song".
    measures : sequence of {"report", "bsseval", "museval"}
        The measures.
    n_jobs : int
        Processes, as joblib counts them; -1 for one per core.

    Returns
    -------
    Evaluation
        Scores by song, in the order of the songs.
    """
    options = {"mode": mode, "hop": hop, "measures": measures, "n_jobs": n_jobs}
    return Evaluation(mode, hop, list(_raising(evaluate_each(model, tracks, **options))))


def evaluate_each(
    model: separation.Model,
    tracks: Iterable[Track],
    *,
    mode: str = "song",
    hop: int = separation.DEFAULT_HOP,
    measures: Sequence[str] = MEASURES,
    n_jobs: int = -1,
) -> Iterator[SongScores | SepkitError]:
    """Yield song by song what `evaluate` returns, or the error of a song that cannot be scored."""
    values = streaming.resolve_weights(model)
    channels, _ = weights.check_shapes(values)
    separators = {mode: partial(_separate, values, mode, hop)}
    options = {"channels": channels, "measures": measures, "n_jobs": n_jobs}
    for scored in score_each(tracks, separators, **options):
        yield scored if isinstance(scored, SepkitError) else scored[mode]


def _separate(
    values: weights.Weights, mode: str, hop: int, references: np.ndarray, rate: int
) -> np.ndarray:
    mixture = references.sum(axis=0)
    stems = separation.separate(mixture, rate, model=values, hop=hop, mode=mode)
    return np.stack(list(stems.values()))


def format_table(evaluation: Evaluation, measure: str) -> str:
    """Format scores as text: mean and deviation by source, and how many scores were left out."""
    summary = evaluation.summary(measure)
    lines = [" " * 5 + "".join(f"{source:>15}" for source in SOURCES)]
    for metric, means, deviations in zip(METRICS, summary.mean, summary.deviation, strict=True):
        pairs = zip(means, deviations, strict=True)
        cells = (f"{f'{mean:6.2f} ± {deviation:5.2f}':>15}" for mean, deviation in pairs)
        lines.append(f"{metric:<5}" + "".join(cells))
    if summary.dropped.any():
        lines.append(f"left out, NaN or infinite: {int(summary.dropped.sum())} scores")
    return "\n".join(lines)
