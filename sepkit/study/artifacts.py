"""Where the artifacts come from: from the report's procedure to true sources, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from sepkit import masks, metrics, network, separation, stft, streaming, weights
from sepkit.metrics import METRICS
from sepkit.study.arms import reported_samples
from sepkit.study.cards import score_arrays
from sepkit.study.evaluation import Evaluation, SongScores, score_songs
from sepkit.study.results import read_analysis
from sepkit.tracks import Track

_SAR = METRICS.index("SAR")


def true_magnitudes(stems: np.ndarray) -> np.ndarray:
    """Put the true sources' magnitudes and the mixture's phase back into sound.

    Stems and result (n_sources, n_samples, n_channels).
    """
    mixture = stft.stft(stems.sum(axis=0))
    phase = np.exp(1j * np.angle(mixture))
    spectra = (np.abs(stft.stft(stem)) * phase for stem in stems)
    return np.stack([stft.istft(spectrum, stems.shape[1]) for spectrum in spectra])


def fade(n_samples: int) -> np.ndarray:
    """Return what the report's segments multiply a sound by: float32 (n_samples,), 0 to 1."""
    ones = np.ones((n_samples, 1), np.float32)
    return separation.separate_segments(ones, _all_pass)[0, :, 0]


def _all_pass(magnitudes: np.ndarray) -> np.ndarray:
    return np.ones((1, *magnitudes.shape), np.float32)


def _against_faded(track: Track, values: weights.Weights) -> SongScores:
    """Score the report's procedure against true sources that fade as its estimates do."""
    references = track.read()[..., :1]
    kept = reported_samples(references.shape[1])
    stems = separation.separate_segments(references.sum(axis=0), partial(network.masks, values))
    faded = references[..., 0] * fade(references.shape[1])
    scores = metrics.report_scores(faded[:, :kept], stems[:, :kept, 0])
    return SongScores(track.name, {"report": scores[np.newaxis]})


def _true_magnitudes(references: np.ndarray, rate: int) -> np.ndarray:
    return true_magnitudes(references)[:, : reported_samples(references.shape[1])]


def _end_to_end(values: weights.Weights, references: np.ndarray, rate: int) -> np.ndarray:
    estimate = partial(masks.mean_masks, network.prepare(values), hop=stft.CONTEXT)
    stems = separation.separate_song(references.sum(axis=0), estimate)
    return stems[:, : reported_samples(references.shape[1])]


def score_steps(tracks: Sequence[Track]) -> dict[str, Evaluation]:
    """Score what the other analyses leave out of the steps, on the left channel of songs.

    By name: Experiments 1 and 3 by segments against sources that fade alike; Experiment 3 with
    contexts end to end; the true magnitudes with the mixture's phase.
    """
    values = {name: streaming.resolve_weights(name) for name in ("experiment1", "experiment3")}
    scored = score_songs(
        tracks,
        {
            "experiment3, song, hop 25": partial(_end_to_end, values["experiment3"]),
            "true magnitudes, mixture's phase": _true_magnitudes,
        },
        measures=("report",),
    )
    for name, model in values.items():
        scored[f"{name}, segments, against faded sources"] = [
            _against_faded(track, model) for track in tracks
        ]
    return {name: Evaluation(name, songs=songs) for name, songs in scored.items()}


def steps() -> dict[str, np.ndarray]:
    """Return the SAR of each state on the way from the report's procedure to true sources.

    In order, by a name that says what the step before it has changed: (n_songs, 4) by song and
    source [dB], on the Test songs, left channel.
    """
    ways, ours = read_analysis("resyntheses"), read_analysis("artifacts")
    third = weights.read_card("experiment3")["scores"]["song"]
    states: Mapping[str, Mapping[str, Any]] = {
        "the report's procedure": ways["network, segments"],
        "no fade of segments": ours["experiment1, segments, against faded sources"],
        "no cut into segments": ways["network, song, hop 25"],
        "masks averaged, hop 5": ways["network, song, hop 5"],
        "training and data of Experiment 3": third,
        "ideal ratio masks": ways["ratio masks, song"],
        "true magnitudes": ours["true magnitudes, mixture's phase"],
    }
    songs = [song["name"] for song in states["the report's procedure"]["songs"]]
    scores = {name: score_arrays(state) for name, state in states.items()}
    return {
        name: np.array([by_song[song][0, _SAR] for song in songs])
        for name, by_song in scores.items()
    }


def artifact_energy(sar: np.ndarray) -> np.ndarray:
    """Convert SAR [dB] to the energy of artifacts over that of the estimate's projection."""
    return np.asarray(10 ** (-sar / 10))
