"""Trained networks looked at in other ways: by other ways back to sound, measures and songs.

Nothing is trained and nothing is chosen here; what is found says where a score comes from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sepkit import datasets, experiments, metrics, network, oracles, separation, spectral
from sepkit.ablations import results_folder
from sepkit.datasets import Track
from sepkit.experiments import Evaluation, SongScores
from sepkit.metrics import METRICS
from sepkit.spectral import CONTEXT

# The same weights, other ways back to sound.

_FADE = np.minimum(np.arange(1, CONTEXT + 1), np.arange(CONTEXT, 0, -1)).astype(np.float32)
"""A triangle over the frames of a context: contexts that overlap fade into each other."""

Estimator = Callable[[np.ndarray], np.ndarray]
"""From true sources (4, n_samples, n_channels) to estimates of the same shape."""


def _by_network(pairs: dict, hop: int, weights: np.ndarray, stems: np.ndarray) -> np.ndarray:
    spectrum = spectral.stft(stems.sum(axis=0))
    masks = separation.mean_masks(pairs, np.abs(spectrum), hop, weights=weights)
    return np.stack([spectral.istft(estimate, stems.shape[1]) for estimate in masks * spectrum])


def _by_network_in_segments(pairs: dict, stems: np.ndarray) -> np.ndarray:
    spectra = spectral.frames_transform(spectral.segments(stems.sum(axis=0)))
    shared = network.bottleneck(pairs, network.timbre(pairs, np.abs(spectra)))
    masks = network.normalize(network.decode(pairs, shared))
    return oracles.resynthesize_segments(masks * spectra, stems.shape[1])


def _true_sources_in_segments(stems: np.ndarray) -> np.ndarray:
    spectra = np.stack([spectral.frames_transform(spectral.segments(stem)) for stem in stems])
    return oracles.resynthesize_segments(spectra, stems.shape[1])


def resyntheses(model: separation.Model = "experiment1") -> dict[str, Estimator]:
    """List what can be put back into sound, and how.

    Parameters
    ----------
    model : str, Path, dict or keras.Model
        A network of one channel, as for `sepkit.separate`.

    Returns
    -------
    dict of str to callable
        From true sources (4, n_samples, 1) to estimates of the same shape, by a name that says
        what is resynthesised and how.
    """
    pairs = network.matrices(separation.load_parameters(model))
    uniform = np.ones(CONTEXT, np.float32)
    ratio, binary = oracles.ideal_ratio_masks, oracles.ideal_binary_masks
    ways: dict[str, Estimator] = {
        "true sources, segments": _true_sources_in_segments,
        "ratio masks, segments": partial(oracles.apply_to_segments, ratio),
        "ratio masks, song": partial(oracles.apply_to_song, ratio),
        "binary masks, segments": partial(oracles.apply_to_segments, binary),
        "binary masks, song": partial(oracles.apply_to_song, binary),
        "network, segments": partial(_by_network_in_segments, pairs),
    }
    for hop in (25, 12, 5, 1):
        ways[f"network, song, hop {hop}"] = partial(_by_network, pairs, hop, uniform)
    for hop in (12, 5, 1):
        ways[f"network, song, hop {hop}, faded"] = partial(_by_network, pairs, hop, _FADE)
    return ways


def score_resyntheses(
    tracks: Sequence[Track], *, model: separation.Model = "experiment1"
) -> dict[str, Evaluation]:
    """Score all `resyntheses` on the left channel of songs.

    Parameters
    ----------
    tracks : sequence of Track
        The songs.
    model : str, Path, dict or keras.Model
        A network of one channel.

    Returns
    -------
    dict of str to Evaluation
        By the names of `resyntheses`; of each song counts what the report's procedure keeps, whole
        batches of 32 segments.
    """
    ways = resyntheses(model)
    scored: dict[str, list[SongScores]] = {name: [] for name in ways}
    for track in tracks:
        stems = np.stack([stem[:, :1] for stem in track.excerpt().stems.values()])
        batch = separation.REPORT_BATCH * spectral.SEGMENT
        kept = stems.shape[1] // batch * batch
        for name, estimate in ways.items():
            scores = metrics.report_scores(stems[:, :kept, 0], estimate(stems)[:, :kept, 0])
            scored[name].append(SongScores(track.name, scores[np.newaxis]))
    return {name: Evaluation(name, songs=songs) for name, songs in scored.items()}


def run_resyntheses(*, output: str | Path = "book/results") -> Path:
    """Score Experiment 1 by all `resyntheses` on the Test songs, unless it is done already.

    Nothing is chosen by these scores: they say what the same weights lose on the way to sound.

    Parameters
    ----------
    output : str or Path
        Folder of the results.

    Returns
    -------
    Path
        ``resyntheses.json``.
    """
    path = Path(output) / "resyntheses.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scored = score_resyntheses(datasets.dsd100("test"))
        told = {name: evaluation.as_dict() for name, evaluation in scored.items()}
        commit = experiments.describe_commit()
        experiments.write_json({"model": "experiment1", "commit": commit, "scores": told}, path)
    return path


# The same estimates, other measures.

MEASURES = ("one tap", "BSS Eval 3 images", "museval")
"""The report's over the whole song; the campaign's of 2016, with 512 taps; BSS Eval 4."""


def measure_song(track: Track, model: separation.Model = "experiment1") -> np.ndarray:
    """Score the same estimates by all `MEASURES`.

    Parameters
    ----------
    track : Track
        The song; its left channel is separated by the report's procedure.
    model : str, Path, dict or keras.Model
        A network of one channel.

    Returns
    -------
    ndarray of shape (3, 3, 4)
        By measure: SDR, SIR, SAR by source [dB].
    """
    references = np.stack([stem[:, :1] for stem in track.excerpt().stems.values()])
    stems = separation.separate(references.sum(axis=0), track.rate, model=model, mode="report")
    estimates = np.stack(list(stems.values()))
    return np.stack(
        [
            metrics.report_scores(references[:, :, 0], estimates[:, :, 0]),
            metrics.images_scores(references, estimates, track.rate),
            metrics.museval_scores(references, estimates, track.rate),
        ]
    )


def run_comparison(
    tracks: Mapping[str, Sequence[Track]] | None = None, *, output: str | Path = "book/results"
) -> Path:
    """Score Experiment 1 by all `MEASURES`, unless it is done already.

    Parameters
    ----------
    tracks : dict of str to sequence of Track, optional
        Songs by the name of their split; without, DSD100's Dev, which the network was trained on,
        and Test.
    output : str or Path
        Folder of the results.

    Returns
    -------
    Path
        ``comparison.json``: mean and deviation over songs, and the songs' scores, by measure and
        split.
    """
    from joblib import Parallel, delayed

    path = Path(output) / "comparison.json"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    tracks = tracks or {split: datasets.dsd100(split) for split in ("dev", "test")}
    told: dict[str, dict] = {measure: {} for measure in MEASURES}
    for split, songs in tracks.items():
        scores = np.stack(Parallel(n_jobs=-1)(delayed(measure_song)(song) for song in songs))
        for i, measure in enumerate(MEASURES):
            summary = metrics.summarize(scores[:, i])
            told[measure][split] = {
                "mean": _by_metric(summary.mean),
                "deviation": _by_metric(summary.deviation),
                "songs": [
                    {"name": song.name} | _by_metric(values)
                    for song, values in zip(songs, scores[:, i], strict=True)
                ],
            }
    commit = experiments.describe_commit()
    experiments.write_json({"model": "experiment1", "commit": commit, "scores": told}, path)
    return path


def _by_metric(values: np.ndarray) -> dict[str, list[float]]:
    return {m: [round(float(v), 4) for v in row] for m, row in zip(METRICS, values, strict=True)}


def run_known_songs(*, output: str | Path = "book/results") -> Path:
    """Score Experiment 3 on the validation songs, which it was trained on, unless done already.

    The arm ``experiment3-chosen`` was trained in the same way without these ten songs: the
    difference is what it is worth to have heard a song before.

    Parameters
    ----------
    output : str or Path
        Folder of the results.

    Returns
    -------
    Path
        ``known-songs.json``.
    """
    path = Path(output) / "known-songs.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        songs = datasets.dsd100("validation")
        scored = experiments.evaluate("experiment3", songs, measures=("report",))
        commit = experiments.describe_commit()
        told = {"model": "experiment3", "commit": commit, "scores": {"song": scored.as_dict()}}
        experiments.write_json(told, path)
    return path


def column_distances(published: Mapping[str, Mapping]) -> dict[tuple[str, str], float]:
    """Ask which songs and which order of columns the paper's table has.

    Parameters
    ----------
    published : dict
        Of `sepkit.experiments.published_scores`: the paper's row, its last two columns headed as in
        the report, and those of the paper's system in the campaign of 2016.

    Returns
    -------
    dict of (str, str) to float
        By columns ("as printed", "exchanged") and split ("dev", "test"): the root mean square
        over metrics and sources of the difference between the means [dB].
    """
    orders = {"as printed": [0, 1, 2, 3], "exchanged": [0, 1, 3, 2]}
    paper = np.array([published["paper"]["mean"][m] for m in METRICS])
    distances = {}
    for name, order in orders.items():
        for split in ("dev", "test"):
            campaign = np.array([published[f"campaign_{split}"]["mean"][m] for m in METRICS])
            distances[name, split] = float(np.sqrt(np.mean((paper[:, order] - campaign) ** 2)))
    return distances


LOOKS = {
    "resyntheses": ("Experiment 1 by other ways back to sound", run_resyntheses),
    "comparison": ("Experiment 1 by other measures, on Dev and Test", run_comparison),
    "known-songs": ("Experiment 3 on songs that it was trained on", run_known_songs),
}
"""What trains nothing and looks at an experiment in another way: what it is, and what runs it."""


def read_scores(name: str) -> dict[str, dict]:
    """Read what one of `LOOKS` has found.

    Parameters
    ----------
    name : {"resyntheses", "comparison", "known-songs"}
        Which one.

    Returns
    -------
    dict of str to dict
        The scores that its function wrote.
    """
    path = results_folder() / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["scores"]
