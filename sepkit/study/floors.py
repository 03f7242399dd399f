"""Scores of separation without training: what a network has to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from sepkit import datasets, metrics, separation
from sepkit.errors import import_optional
from sepkit.files import packaged, read_json
from sepkit.separation import EstimateMasks
from sepkit.study import band, classical, evaluation, oracles
from sepkit.study.arms import reported_samples
from sepkit.study.evaluation import Evaluation, SongScores
from sepkit.tracks import SOURCES, Track

TRIED: dict[str, dict[str, tuple[Any, ...]]] = {
    "equalizer": {},
    "hpss": {
        "trust": (1.0, 0.5, 0.0),
        "power": (1.0, 2.0, 0.5),
        "kernels": (
            (31, 9),
            (17, 17),
            (31, 31),
            (9, 9),
            (9, 31),
            (61, 9),
            (31, 5),
            (61, 17),
            (121, 9),
            (61, 5),
        ),
    },
    "repet_sim": {
        "trust": (1.0, 0.5, 0.0),
        "power": (1.0, 2.0, 0.5),
        "margin": (1.0, 2.0, 0.5),
        "neighbours": (20, 10, 50),
        "apart": (172, 43),
    },
    "nmf": {
        "trust": (1.0, 0.5, 0.0),
        "sharpness": (1.0, 2.0, 0.5),
        "components": (16, 8, 32, 64),
        "divergence": ("frobenius", "kullback-leibler"),
    },
}
"""Options of the functions of `sepkit.study.classical` that are tried on the validation songs, in
this order; the first value of each is where the search begins."""


ALONE: dict[str, dict[str, Any]] = {
    "hpss": {"power": 2.0, "trust": 0.0},
    "repet_sim": {"margin": 2.0, "power": 2.0, "trust": 0.0},
    "nmf": {"sharpness": 1.0, "trust": 0.0},
}
"""Options that take the parts which a method finds as they are, as its authors and librosa do."""


def equalizer_scores() -> dict[str, Any]:
    """Compute the equalizer from the songs of Dev: its gains (4, 513)."""
    gains = classical.equalizer_gains(classical.mean_powers(datasets.dsd100("dev")))
    return {"gains": [[float(f"{gain:.5g}") for gain in row] for row in gains]}


def read_gains() -> np.ndarray:
    """Return the equalizer's gains that come with the library: float32 (4, 513)."""
    stored = read_json(packaged("book/results/equalizer.json"))["scores"]
    return np.asarray(stored["gains"], np.float32)


def choices_scores() -> dict[str, Any]:
    """Choose the options of each method in `TRIED` on the validation songs, one after the other.

    By method, a list of all that was tried, in that order: options and mean SDR, SIR and SAR by
    source [dB]. Each option takes the value of the best mean SDR while the others stay; this is
    repeated until none changes. The equalizer is that of the other forty songs of Dev.
    """
    gains = classical.equalizer_gains(classical.mean_powers(datasets.dsd100("train")))
    songs = datasets.dsd100("validation")

    def score(method: str, options: dict[str, Any]) -> np.ndarray:
        estimate = partial(getattr(classical, method), gains=gains, **options)
        way = {method: partial(_whole, estimate)}
        scored = evaluation.score_songs(songs, way, measures=("report",))[method]
        return np.mean([song.scores["report"][0] for song in scored], axis=0)

    return {
        method: [
            {"options": options, "mean": evaluation.by_metric(means)}
            for options, means in search(partial(score, method), values)
        ]
        for method, values in TRIED.items()
    }


def search(
    score: Callable[[dict[str, Any]], np.ndarray], values: Mapping[str, Sequence[Any]]
) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Change one option at a time for the best mean SDR, until no change brings more.

    `score` maps options to SDR, SIR, SAR by source (3, n_sources). Returns all that was tried.
    """
    tried: list[tuple[dict[str, Any], np.ndarray]] = []

    def gain(options: dict[str, Any]) -> float:
        known = [means for other, means in tried if other == options]
        if not known:
            known = [score(options)]
            tried.append((options, known[0]))
        return float(known[0][0].mean())

    best = {name: options[0] for name, options in values.items()}
    gain(best)
    while True:
        before = best
        for name, options in values.items():
            best = max(({**best, name: value} for value in options), key=gain)
        if best == before:
            return tried


def methods(gains: np.ndarray) -> dict[str, EstimateMasks]:
    """Return all ways of estimating masks without training, by name, for gains (4, 513).

    Each method with the options chosen on the validation songs, and with those in `ALONE`.
    """
    return {
        "silence": classical.silence,
        "a quarter of the mixture": classical.quarter,
        "the mixture": classical.mixture,
        "equalizer": partial(classical.equalizer, gains=gains),
        "HPSS": partial(classical.hpss, gains=gains),
        "REPET-SIM": partial(classical.repet_sim, gains=gains),
        "NMF": partial(classical.nmf, gains=gains),
        "HPSS alone": partial(classical.hpss, gains=gains, **ALONE["hpss"]),
        "REPET-SIM alone": partial(classical.repet_sim, gains=gains, **ALONE["repet_sim"]),
        "NMF alone": partial(classical.nmf, gains=gains, **ALONE["nmf"]),
    }


def separators(gains: np.ndarray) -> dict[str, evaluation.Separator]:
    """Return all `methods` on whole songs, the equalizer in the report's segments, ideal masks."""
    ways: dict[str, evaluation.Separator] = {
        name: partial(_whole, estimate) for name, estimate in methods(gains).items()
    }
    ways["equalizer, segments"] = partial(_segments, partial(classical.equalizer, gains=gains))
    ways["ideal ratio masks"] = _ideal
    return ways


def _whole(estimate: EstimateMasks, references: np.ndarray, rate: int) -> np.ndarray:
    return separation.separate_song(references.sum(axis=0), estimate)


def _segments(estimate: EstimateMasks, references: np.ndarray, rate: int) -> np.ndarray:
    stems = separation.separate_segments(references.sum(axis=0), estimate)
    return stems[:, : reported_samples(stems.shape[1])]


def _ideal(references: np.ndarray, rate: int) -> np.ndarray:
    return oracles.apply_to_song(oracles.ideal_ratio_masks, references)


def images_sdr(references: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """Compute the SDR of BSS Eval 3's images: the energy of a source over that of the error [dB].

    For sources (n_sources, n_samples, n_channels), over the whole of them, as by
    `sepkit.study.analyses.images_scores` for less than 30 s. A silent estimate has 0 dB: all of the
    source is missing.
    """
    references = references[:, : estimates.shape[1]].astype(np.float64)
    energies = np.sum(references**2, axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(energies / np.sum((references - estimates) ** 2, axis=(1, 2)))


def score_floors(
    tracks: Sequence[Track], ways: Mapping[str, evaluation.Separator], *, n_jobs: int = -1
) -> dict[str, Evaluation]:
    """Score separators on the left channel of songs, by name, several songs at once.

    By the report's metrics ("report") and by `images_sdr` ("images", without SIR and SAR). Silence
    has no score by the report's metrics: neither its target nor its error has any energy.
    """
    joblib = import_optional("joblib", "evaluation")
    jobs = (joblib.delayed(_score_song)(track, ways) for track in tracks)
    return _evaluations(joblib.Parallel(n_jobs=n_jobs)(jobs))


def _score_song(
    track: Track, ways: Mapping[str, evaluation.Separator], *, images: bool = True
) -> dict[str, SongScores]:
    references = track.read()[..., :1]
    scored = {}
    for name, way in ways.items():
        estimates = way(references, track.rate)
        rows = {"report": metrics.report_scores(references[..., 0], estimates[..., 0])}
        if images:
            rows["images"] = np.full((3, len(SOURCES)), np.nan)
            rows["images"][0] = images_sdr(references, estimates)
        scored[name] = SongScores(track.name, {m: row[np.newaxis] for m, row in rows.items()})
    return scored


def _evaluations(songs: Sequence[dict[str, SongScores]]) -> dict[str, Evaluation]:
    return {name: Evaluation(name, songs=[song[name] for song in songs]) for name in songs[0]}


def scores_on_test() -> dict[str, Any]:
    """Score all `separators` on the Test songs, as JSON values by name."""
    scored = score_floors(datasets.dsd100("test"), separators(read_gains()))
    return {name: e.as_dict() for name, e in scored.items()}


def whole_songs() -> list[Track]:
    """List whole songs that may be heard: three of the band, and of Music Delta what is at hand.

    Of Music Delta only songs with all four sources whose stems are those of a finished mix.
    """
    songs = band.band_songs(3)
    place = datasets.cache_folder() / "more-stems"
    if (place / "manifest.json").is_file():
        for entry in read_json(place / "manifest.json")["entries"]:
            mixed = entry.get("note", "").startswith("processed stereo stems")
            if mixed and set(entry["classes"]) == {*SOURCES}:
                (track,) = datasets.folder(place / entry["name"])
                songs.append(replace(track, licence=entry["license"]))
    return songs


def whole_songs_scores(songs: Iterable[Track] | None = None) -> dict[str, Any]:
    """Score all `methods` and Experiment 3 on `whole_songs`, left channel.

    songs: name, licence and length [s] of each; scores: JSON values by method, the report's
    metrics.
    """
    songs = whole_songs() if songs is None else list(songs)
    ways: dict[str, evaluation.Separator] = {
        name: partial(_whole, estimate) for name, estimate in methods(read_gains()).items()
    }
    ways["Experiment 3"] = _experiment3
    joblib = import_optional("joblib", "evaluation")
    jobs = (joblib.delayed(_score_song)(song, ways, images=False) for song in songs)
    scored = _evaluations(joblib.Parallel(n_jobs=-1)(jobs))
    return {
        "songs": [
            {
                "name": song.name,
                "licence": song.licence,
                "seconds": round(song.read().shape[1] / song.rate, 1),
            }
            for song in songs
        ],
        "scores": {name: e.as_dict() for name, e in scored.items()},
    }


def _experiment3(references: np.ndarray, rate: int) -> np.ndarray:
    stems = separation.separate(references.sum(axis=0), rate, model="experiment3")
    return np.stack(list(stems.values()))
