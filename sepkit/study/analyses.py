"""Trained networks scored again: by other resyntheses, other measures, on other songs.

Nothing is trained and nothing is chosen here; the scores show what each part contributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sepkit import datasets, masks, metrics, network, separation, stft, streaming, weights
from sepkit.errors import import_optional
from sepkit.files import check_writable, make_folders, write_json
from sepkit.metrics import METRICS
from sepkit.stft import CONTEXT
from sepkit.study import artifacts, cards, evaluation, floors, oracles
from sepkit.study.arms import reported_samples
from sepkit.study.evaluation import Evaluation
from sepkit.tracks import SOURCES, Track

# Other resyntheses.

_TRIANGLE = np.minimum(np.arange(1, CONTEXT + 1), np.arange(CONTEXT, 0, -1)).astype(np.float32)
"""Weights of a context's frames, with which overlapping contexts cross-fade."""

Resynthesis = Callable[[np.ndarray], np.ndarray]
"""From true sources (4, n_samples, n_channels) to estimates of the same shape."""


def _network_song(
    prepared: network.Prepared, hop: int, frame_weights: np.ndarray | None, stems: np.ndarray
) -> np.ndarray:
    estimate = partial(masks.mean_masks, prepared, hop=hop, frame_weights=frame_weights)
    return separation.separate_song(stems.sum(axis=0), estimate)


def _network_segments(values: weights.Weights, stems: np.ndarray) -> np.ndarray:
    return separation.separate_segments(stems.sum(axis=0), partial(network.masks, values))


def _true_segments(stems: np.ndarray) -> np.ndarray:
    def all_pass(magnitudes: np.ndarray) -> np.ndarray:
        return np.ones((1, *magnitudes.shape), np.float32)

    return np.concatenate([separation.separate_segments(stem, all_pass) for stem in stems])


def resyntheses(model: separation.Model = "experiment1") -> dict[str, Resynthesis]:
    """List what can be resynthesised, and how, with a network of one channel.

    By a name that says so, functions from true sources (4, n_samples, 1) to estimates.
    """
    values = streaming.resolve_weights(model)
    prepared = network.prepare(values)
    ratio, binary = oracles.ideal_ratio_masks, oracles.ideal_binary_masks
    ways: dict[str, Resynthesis] = {
        "true sources, segments": _true_segments,
        "ratio masks, segments": partial(oracles.apply_to_segments, ratio),
        "ratio masks, song": partial(oracles.apply_to_song, ratio),
        "binary masks, segments": partial(oracles.apply_to_segments, binary),
        "binary masks, song": partial(oracles.apply_to_song, binary),
        "network, segments": partial(_network_segments, values),
    }
    for hop in (25, 12, 5, 1):
        ways[f"network, song, hop {hop}"] = partial(_network_song, prepared, hop, None)
    for hop in (12, 5, 1):
        ways[f"network, song, hop {hop}, faded"] = partial(_network_song, prepared, hop, _TRIANGLE)
    return ways


def _as_reported(resynthesis: Resynthesis, references: np.ndarray, rate: int) -> np.ndarray:
    return resynthesis(references)[:, : reported_samples(references.shape[1])]


def score_resyntheses(
    tracks: Sequence[Track], *, model: separation.Model = "experiment1"
) -> dict[str, Evaluation]:
    """Score all `resyntheses` on the left channel of songs, by name.

    The scores cover what the report's procedure keeps of a song, whole batches of 32 segments.
    """
    separators = {name: partial(_as_reported, way) for name, way in resyntheses(model).items()}
    scored = evaluation.score_songs(tracks, separators, measures=("report",))
    return {name: Evaluation(name, songs=songs) for name, songs in scored.items()}


def run_resyntheses(*, output: str | Path = "book/results") -> Path:
    """Score Experiment 1 by all `resyntheses` on the Test songs, unless there is a result."""
    return _once(Path(output) / "resyntheses.json", "experiment1", _resyntheses_scores)


def _resyntheses_scores() -> dict[str, Any]:
    scored = score_resyntheses(datasets.dsd100("test"))
    return {name: e.as_dict() for name, e in scored.items()}


def _once(path: Path, model: str | None, score: Callable[[], Mapping[str, Any]]) -> Path:
    """Write what a function computes, scores of a model or of none, unless there is a result."""
    if not path.exists():
        with make_folders([path.parent]):
            check_writable(path)
            scores = score()
            write_json({"model": model, "commit": cards.describe_commit(), "scores": scores}, path)
    return path


# Other measures.

COMPARED = ("one tap", "BSS Eval 3 images", "museval")
"""The report's, over the whole song; the campaign's of 2016, with 512 taps; BSS Eval 4."""


def images_scores(references: np.ndarray, estimates: np.ndarray, rate: int) -> np.ndarray:
    """Compute BSS Eval 3's scores of images by museval, as the campaign of 2016 did: 512 taps.

    SDR, SIR, SAR (3, n_sources) [dB] of sources (n_sources, n_samples, n_channels): means over
    windows of 30 s, one every 15 s, each with its own filters; for a shorter song, over all of it.
    Vincent, Gribonval, Févotte (2006); Liutkus et al. (2017), The 2016 Signal Separation Evaluation
    Campaign.
    """
    museval = import_optional("museval", "evaluation")
    references = np.asarray(references, np.float64)[:, : estimates.shape[1]]
    sdr, _, sir, sar, _ = museval.metrics.bss_eval_images_framewise(
        references, np.asarray(estimates, np.float64), window=30 * rate, hop=15 * rate
    )
    return np.asarray(
        np.nanmean(np.stack([sdr, sir, sar]).reshape(3, len(references), -1), axis=-1)
    )


def measure_song(track: Track, model: separation.Model = "experiment1") -> np.ndarray:
    """Score the estimates of the left channel by all `COMPARED`: (3, 3, 4) [dB].

    The song is separated by the report's procedure.
    """
    references = track.read()[..., :1]
    stems = separation.separate(references.sum(axis=0), track.rate, model=model, mode="report")
    estimates = np.stack(list(stems.values()))
    return np.stack(
        [
            metrics.report_scores(references[..., 0], estimates[..., 0]),
            images_scores(references, estimates, track.rate),
            evaluation.museval_scores(references, estimates, track.rate),
        ]
    )


def run_comparison(
    tracks: Mapping[str, Sequence[Track]] | None = None, *, output: str | Path = "book/results"
) -> Path:
    """Score Experiment 1 by all `COMPARED`, unless there is a result.

    `tracks` holds songs by split, by default DSD100's Dev (the training songs) and Test.
    ``comparison.json`` has mean, deviation and the songs' scores by measure and split.
    """
    score = partial(_comparison_scores, tracks)
    return _once(Path(output) / "comparison.json", "experiment1", score)


def _comparison_scores(tracks: Mapping[str, Sequence[Track]] | None) -> dict[str, Any]:
    joblib = import_optional("joblib", "evaluation")
    tracks = tracks or {split: datasets.dsd100(split) for split in ("dev", "test")}
    scores: dict[str, dict[str, Any]] = {measure: {} for measure in COMPARED}
    for split, songs in tracks.items():
        values = np.stack(
            joblib.Parallel(n_jobs=-1)(joblib.delayed(measure_song)(song) for song in songs)
        )
        for i, measure in enumerate(COMPARED):
            summary = evaluation.summarize(values[:, i])
            scores[measure][split] = {
                "mean": evaluation.by_metric(summary.mean),
                "deviation": evaluation.by_metric(summary.deviation),
                "songs": [
                    {"name": song.name} | evaluation.by_metric(value)
                    for song, value in zip(songs, values[:, i], strict=True)
                ],
            }
    return scores


def run_known_songs(*, output: str | Path = "book/results") -> Path:
    """Score Experiment 3 on the validation songs, on which it was trained, unless done already.

    The arm ``experiment3-chosen`` was trained in the same way without these ten songs: the
    difference is the advantage of songs heard in training.
    """
    return _once(Path(output) / "known-songs.json", "experiment3", _known_songs_scores)


def _known_songs_scores() -> dict[str, Any]:
    songs = datasets.dsd100("validation")
    return {"song": evaluation.evaluate("experiment3", songs, measures=("report",)).as_dict()}


def run_artifacts(*, output: str | Path = "book/results") -> Path:
    """Score the steps of `sepkit.study.artifacts` on the Test songs, unless there is a result."""
    return _once(Path(output) / "artifacts.json", "experiments 1 and 3", _artifacts_scores)


def _artifacts_scores() -> dict[str, Any]:
    scored = artifacts.score_steps(datasets.dsd100("test"))
    return {name: e.as_dict() for name, e in scored.items()}


# Levels of the true sources.


def source_levels(references: np.ndarray) -> np.ndarray:
    """Compute levels (n_sources,) [dB] of true sources (n_sources, n_samples), by their mixture's.

    The mixture is their sum; a silent source has -inf.
    """
    references = np.asarray(references, np.float64)
    with np.errstate(divide="ignore"):
        powers = 10 * np.log10(np.mean(references**2, axis=1))
    return powers - 10 * np.log10(np.mean(references.sum(axis=0) ** 2))


def dominated(references: np.ndarray) -> dict[str, float]:
    """Measure how much of a mixture's energy lies where one source dominates.

    Bins of the STFT in which the ideal ratio mask of one of the true sources (n_sources, n_samples)
    exceeds 0.5, 0.7 and 0.9; their part of the energy.
    """
    spectra = np.stack([stft.stft(y[:, np.newaxis].astype(np.float32)) for y in references])
    magnitudes = np.abs(spectra)
    largest = magnitudes.max(axis=0) / np.maximum(magnitudes.sum(axis=0), 1e-9)
    energy = np.abs(spectra.sum(axis=0)) ** 2
    return {str(x): float(energy[largest > x].sum() / energy.sum()) for x in (0.5, 0.7, 0.9)}


def run_levels(
    tracks: Sequence[Track] | None = None, *, output: str | Path = "book/results"
) -> Path:
    """Measure levels and overlap of the sources of songs, unless there is a result.

    `source_levels` and what is `dominated`, by default of the Test songs: of the left channel,
    whole, to which the cards' first scores belong.
    """
    return _once(Path(output) / "levels.json", None, partial(_levels, tracks))


def _levels(tracks: Sequence[Track] | None) -> dict[str, Any]:
    found = []
    for track in datasets.dsd100("test") if tracks is None else tracks:
        references = track.read()[..., 0]
        levels = source_levels(references).round(3)
        found.append(
            {
                "name": track.name,
                "level": dict(zip(SOURCES, levels.tolist(), strict=True)),
                "dominated": {x: round(part, 4) for x, part in dominated(references).items()},
            }
        )
    return {"songs": found}


def run_equalizer(*, output: str | Path = "book/results") -> Path:
    """Compute the gains of the fixed equalizer from Dev, unless there is a result."""
    return _once(Path(output) / "equalizer.json", None, floors.equalizer_scores)


def run_floors_choices(*, output: str | Path = "book/results") -> Path:
    """Score options of classical methods on the validation songs, unless there is a result."""
    return _once(Path(output) / "floors-choices.json", None, floors.choices_scores)


def run_floors(*, output: str | Path = "book/results") -> Path:
    """Score separation without training on the Test songs, unless there is a result."""
    return _once(Path(output) / "floors.json", None, floors.scores_on_test)


def run_floors_whole_songs(*, output: str | Path = "book/results") -> Path:
    """Score it, and Experiment 3, on whole songs that may be heard, unless there is a result."""
    score = floors.whole_songs_scores
    return _once(Path(output) / "floors-whole-songs.json", "experiment3", score)


def column_distances(
    published: Mapping[str, Mapping[str, Any]],
) -> dict[tuple[str, str], np.ndarray]:
    """Compare the paper's table with the campaign's, for both splits and both orders of columns.

    Root mean square differences between the means [dB] of SDR, SIR, SAR and of all three, (4,), by
    columns ("as printed", "exchanged") and split ("dev", "test").
    """
    orders = {"as printed": [0, 1, 2, 3], "exchanged": [0, 1, 3, 2]}
    paper = np.array([published["paper"]["mean"][m] for m in METRICS])
    distances = {}
    for name, order in orders.items():
        for split in ("dev", "test"):
            campaign = np.array([published[f"campaign_{split}"]["mean"][m] for m in METRICS])
            squares = np.mean((paper[:, order] - campaign) ** 2, axis=1)
            distances[name, split] = np.sqrt(np.append(squares, squares.mean()))
    return distances


ANALYSES = {
    "resyntheses": ("Experiment 1 by other resyntheses", run_resyntheses),
    "comparison": ("Experiment 1 by other measures, on Dev and Test", run_comparison),
    "artifacts": ("Experiments 1 and 3: artifacts, step by step", run_artifacts),
    "levels": ("levels and overlap of the true sources of the Test songs", run_levels),
    "known-songs": ("Experiment 3 on songs it was trained on", run_known_songs),
    "equalizer": ("the gains of a fixed equalizer, from Dev", run_equalizer),
    "floors-choices": ("options of classical methods, on validation songs", run_floors_choices),
    "floors": ("separation without training, on Test", run_floors),
    "floors-whole-songs": ("the same and Experiment 3, on whole songs", run_floors_whole_songs),
}
"""Analyses, which train nothing: description and function by name."""
