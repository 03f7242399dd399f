"""What happens when one thing is changed: the arms, as data, and the command that runs them.

Each arm is an experiment that differs from another one in what its name says. All are trained on
the forty songs of DSD100's Dev that are for training and scored on the ten that are for
validation, so that the Test songs stay unseen until a choice is made.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from sepkit import datasets, experiments, metrics, network, oracles, separation, spectral
from sepkit.datasets import Track
from sepkit.errors import ParameterError
from sepkit.experiments import EXPERIMENTS, Evaluation, Experiment, SongScores
from sepkit.parameters import Sizes
from sepkit.sampling import Remix
from sepkit.spectral import CONTEXT

_REPORT = EXPERIMENTS["experiment1"]
_STEPS = 2730
"""Steps of the report's schedule on forty songs: 3 repetitions of 7 blocks of 10 epochs of 13."""


def _arms() -> dict[str, Experiment]:
    arms: dict[str, Experiment] = {}

    def arm(name: str, description: str, base: str = "experiment1", **changes) -> None:
        start = arms[base] if base in arms else EXPERIMENTS[base]
        arms[name] = replace(start, name=name, description=description, **changes)

    arm("baseline", "Experiment 1 as reported, on forty songs")
    # What the report tried without visible effect.
    arm("epochs-20", "twice the epochs", epochs=20)
    arm("repetitions-6", "twice the repetitions", repetitions=6)
    arm("shuffle-all", "no blocks: all songs at once, as many steps",
        block_size=40, block_step=40, epochs=52, repetitions=1)  # fmt: skip
    for name in ("alpha", "beta", "gamma"):
        arm(f"{name}-0", f"{name} = 0", **{name: 0.0})
        arm(f"{name}-double", f"{name} doubled", **{name: 2 * getattr(_REPORT, name)})
    arm("timbres-25", "25 vertical filters", sizes=Sizes(n_timbres=25))
    arm("timbres-100", "100 vertical filters", sizes=Sizes(n_timbres=100))
    arm("patterns-60", "60 horizontal filters", sizes=Sizes(n_patterns=60))
    arm("pattern-15", "horizontal filters of 15 frames", sizes=Sizes(pattern=15))
    arm("shared-64", "64 shared units", sizes=Sizes(n_shared=64))
    arm("shared-256", "256 shared units", sizes=Sizes(n_shared=256))
    # The optimiser.
    arm("adadelta-rate-1", "Adadelta at rate 1", learning_rate=1.0)
    arm("adadelta-original", "Adadelta as in the published code: rate 1, epsilon 1e-6",
        learning_rate=1.0, epsilon=1e-6)  # fmt: skip
    arm("adam", "Adam at rate 0.001", optimizer="adam", learning_rate=0.001, epsilon=1e-7)
    arm("adam-steps-x4", "Adam, four times the steps", base="adam", epochs=40)
    # What the loss compares, and what it asks for.
    arm("faded", "targets that fade as the estimates do", objective="faded waveform")
    arm("spectrum", "complex spectra instead of waveforms", objective="spectrum")
    arm("magnitude", "magnitudes instead of waveforms", objective="magnitude")
    arm("complete", "other against its truth too", loss="complete")
    arm("no-dissimilarity", "nothing subtracted", alpha=0.0, beta=0.0, gamma=0.0)
    arm("complete-no-dissimilarity", "other too, nothing subtracted", base="no-dissimilarity",
        loss="complete")  # fmt: skip
    # The data, with what the arms above suggest: Adam on complex spectra of all four sources.
    arm("base3", "Adam, complex spectra, other too, nothing subtracted", base="adam",
        objective="spectrum", loss="complete", alpha=0.0, beta=0.0, gamma=0.0)  # fmt: skip
    for name, description, options in (
        ("remix", "songs mixed anew", {}),
        ("remix-tilt", "and through equalizers", {"tilt": 3.0}),
        ("remix-speeds", "and at other speeds", {"tilt": 3.0, "speeds": experiments.SPEEDS}),
    ):  # fmt: skip
        arm(name, description, base="base3", remix=Remix(20, 3 * _STEPS // 20, **options),
            average=0.999)  # fmt: skip
    arm("relative", "and all segments equally loud", base="remix-speeds", loss="relative")
    # What the choice of Experiment 3 rests on.
    arm("experiment3-chosen", "Experiment 3 on forty songs", base="experiment3")
    return arms


ARMS = _arms()
"""The arms by name; what each one shows stands in its description."""


def get_arm(name: str) -> Experiment:
    """Find an arm by its name.

    Parameters
    ----------
    name : str
        A key of `ARMS`.

    Returns
    -------
    Experiment
        What is trained.

    Raises
    ------
    ParameterError
        When there is none of that name.
    """
    if name not in ARMS:
        raise ParameterError(f"arm {name!r}: unknown; sepkit ablate --list names them")
    return ARMS[name]


def run(arm: Experiment, *, seed: int = 0, output: str | Path = "book/results") -> Path:
    """Train and score an arm, unless its result is there already.

    Parameters
    ----------
    arm : Experiment
        One of `ARMS`.
    seed : int
        Seed of the first values and of the shuffles.
    output : str or Path
        Folder of the results.

    Returns
    -------
    Path
        ``NAME-SEED.json``: the experiment and the scores on the validation songs.
    """
    path = Path(output) / f"{arm.name}-{seed}.json"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = experiments.train(
            arm, datasets.dsd100("train"), seed=seed, output=folder,
            checkpoint=path.with_suffix(".checkpoint.h5"),
        )  # fmt: skip
        card = json.loads(weights.with_name(f"{arm.name}.json").read_text(encoding="utf-8"))
        songs = datasets.dsd100("validation")
        for mode in experiments.MODES:
            scored = experiments.evaluate(weights, songs, mode=mode, measures=("report",))
            card["scores"][mode] = scored.as_dict()
    experiments.write_json(card, path)
    path.with_suffix(".checkpoint.h5").unlink(missing_ok=True)
    return path


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
