"""One-factor ablations: each arm changes one thing of an experiment.

All arms are trained on the forty songs of DSD100's Dev that are set aside for training and scored
on the ten that are set aside for validation; the Test songs stay out of every choice.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from sepkit import datasets, masks, network, separation, stft, streaming, weights
from sepkit.errors import ParameterError, import_optional
from sepkit.files import check_writable, make_folders, read_json, write_json
from sepkit.stft import CONTEXT, REPORT_TRANSFORM, Transform
from sepkit.study import band, evaluation, experiments
from sepkit.study.evaluation import Evaluation
from sepkit.study.experiments import EXPERIMENTS, Experiment
from sepkit.study.remix import Remix
from sepkit.tracks import Stems, Track
from sepkit.weights import Sizes

_REPORT = EXPERIMENTS["experiment1"]
_STEPS = 2730
"""Steps of the report's schedule on forty songs: 3 repetitions of 7 blocks of 10 epochs of 13."""

Songs = tuple[list[Track], list[Track]]
"""Songs to train on, songs to score."""


def _train_and_validation() -> Songs:
    return datasets.dsd100("train"), datasets.dsd100("validation")


def _in_mono() -> Songs:
    train, validation = ([_to_mono(t) for t in songs] for songs in _train_and_validation())
    return train, validation


def _to_mono(track: Track) -> Track:
    return replace(track, reader=partial(_mono_stems, track.reader))


def _mono_stems(reader: Callable[[], Stems]) -> Stems:
    return {source: stem.mean(axis=1, keepdims=True) for source, stem in reader().items()}


def _half() -> Songs:
    train, validation = _train_and_validation()
    return train[::2], validation


def _quarter() -> Songs:
    train, validation = _train_and_validation()
    return train[::4], validation


def _with_band() -> Songs:
    # Songs are drawn equally often: thirteen beside forty make a quarter.
    train, validation = _train_and_validation()
    return [*train, *(song.excerpt(8, 38) for song in band.band_songs(13))], validation


def _with_others() -> Songs:
    return datasets.dsd100("train+others"), datasets.dsd100("validation")


def _dev_and_test() -> Songs:
    return datasets.dsd100("dev"), datasets.dsd100("test")


@dataclass(frozen=True)
class Arm:
    """A training that changes one thing.

    Parameters
    ----------
    experiment : Experiment
        What is trained.
    base : str
        Name of the arm it is compared with; none for the first.
    group : str
        Kind of the change.
    songs : callable
        Returns the songs to train on and those to score.
    seeds : int
        How many times the study trains it, from seeds 0, 1, ...: three at least where something is
        concluded from it.
    """

    experiment: Experiment
    base: str = ""
    group: str = ""
    songs: Callable[[], Songs] = _train_and_validation
    seeds: int = 1


_CONCLUDED = (
    "shuffle-all", "hop-512", "blackman-harris", "adam", "weights-averaged", "shuffle-all-averaged",
    "magnitude", "no-dissimilarity", "base3", "averaging", "offsets", "remix-short", "songs-10",
    "songs-84", "width-64", "width-512", "context-100", "experiment2", "experiment3",
)  # fmt: skip
_SEEDS = dict.fromkeys(_CONCLUDED, 3) | {"baseline": 5, "remix": 5, "experiment1": 5}
"""Number of trainings where it is not 1."""


def _arms() -> dict[str, Arm]:
    arms: dict[str, Arm] = {}

    def arm(
        name: str,
        description: str,
        base: str = "baseline",
        songs: Callable[[], Songs] = _train_and_validation,
        **changes,
    ) -> None:
        changed = replace(arms[base].experiment, name=name, description=description, **changes)
        arms[name] = Arm(changed, base, group, songs, _SEEDS.get(name, 1))

    group = "the report"
    first = "Experiment 1 as reported, forty songs"
    baseline = replace(_REPORT, name="baseline", description=first)
    arms["baseline"] = Arm(baseline, group=group, seeds=_SEEDS["baseline"])

    group = "tried in the report"
    arm("epochs-20", "twice the epochs", epochs=20)
    arm("repetitions-6", "twice the repetitions", repetitions=6)
    arm("epochs-40", "four times the epochs", epochs=40)
    arm("shuffle-all", "no blocks, as many steps",
        block_size=40, block_step=40, epochs=52, repetitions=1)  # fmt: skip
    for name in ("alpha", "beta", "gamma"):
        arm(f"{name}-0", f"{name} = 0", **{name: 0.0})
        arm(f"{name}-double", f"{name} doubled", **{name: 2 * getattr(_REPORT, name)})
    arm("timbres-25", "25 vertical filters", sizes=Sizes(n_timbres=25))
    arm("timbres-100", "100 vertical filters", sizes=Sizes(n_timbres=100))
    arm("patterns-60", "60 horizontal filters", sizes=Sizes(n_patterns=60))
    arm("shared-64", "64 shared units", sizes=Sizes(n_shared=64))
    arm("shared-256", "256 shared units", sizes=Sizes(n_shared=256))

    group = "left out in the report"
    arm("down-mix", "mean of both channels, not the left one", songs=_in_mono)
    arm("fifth-output", "a fifth decoder for the accompaniment",
        objective="waveform, accompaniment")  # fmt: skip

    group = "the published code"
    arm("pattern-15", "horizontal filters of 15 frames", sizes=Sizes(pattern=15))
    arm("input-scale", "magnitudes times 0.3 / 32", tie="input scale")
    arm("tied-decoders", "decoders share the encoder's kernels", tie="decoders")
    arm("shared-bass-other", 'one dense layer for bass and "other"', tie="bass and other")
    arm("blackman-harris", "a symmetric Blackman-Harris window",
        transform=Transform(window="blackman-harris"))  # fmt: skip
    # Nineteen epochs of ten, two of ten: as many steps, for there are fewer segments, and more.
    arm("hop-512", "hop of 512, as many steps", base="blackman-harris",
        transform=Transform(512, "blackman-harris"), epochs=19)  # fmt: skip
    arm("contexts-every-5", "contexts every 5 frames, as many steps",
        segment_step=5, epochs=2)  # fmt: skip
    arm("contexts-30", "contexts of 30 frames", base="contexts-every-5",
        sizes=Sizes(context=30))  # fmt: skip

    group = "optimiser"
    arm("adadelta-rate-1", "Adadelta at rate 1", learning_rate=1.0)
    arm("adadelta-original", "Adadelta of the published code",
        learning_rate=1.0, epsilon=1e-6)  # fmt: skip
    arm("adam", "Adam at rate 0.001", optimizer="adam", learning_rate=0.001, epsilon=1e-7)
    arm("adam-steps-x4", "four times the steps", base="adam", epochs=40)

    arm("weights-averaged", "weight averaging", ema_momentum=0.999)
    arm(
        "shuffle-all-averaged",
        "no blocks, and weight averaging",
        base="shuffle-all",
        ema_momentum=0.999,
    )

    group = "loss"
    arm("faded", "targets that fade like the estimates", objective="faded waveform")
    arm("spectrum", "loss on complex spectra", objective="spectrum")
    arm("magnitude", "loss on magnitudes", objective="magnitude")
    arm("complete", '"other" compared with its true source', loss="complete")
    arm("no-dissimilarity", "no subtracted terms", alpha=0.0, beta=0.0, gamma=0.0)
    arm("complete-no-dissimilarity", '"other" too, no subtracted terms', base="no-dissimilarity",
        loss="complete")  # fmt: skip

    group = "data"
    arm("base3", 'Adam, complex spectra, "other" too', base="adam",
        objective="spectrum", loss="complete", alpha=0.0, beta=0.0, gamma=0.0)  # fmt: skip
    # Twenty songs make three blocks; twenty-three epochs on each come close to as many steps.
    arm("half-of-dev", "half the songs, as many steps", base="base3", songs=_half, epochs=23)
    remixed = {"ema_momentum": 0.999, "remix": Remix(20, 3 * _STEPS // 20)}
    arm("remix", "remixing, three times the steps", base="base3", **remixed)
    arm("half-of-dev-remix", "remixing, half the songs", base="remix", songs=_half)
    tilted = replace(remixed["remix"], equalizer=3.0)
    arm("remix-tilt", "random equalizers", base="remix", remix=tilted)
    fast = replace(tilted, speeds=experiments.SPEEDS)
    arm("remix-speeds", "random speeds", base="remix-tilt", remix=fast)
    arm("effects", "compressor, distortion, reverb", base="remix-speeds",
        effects=True)  # fmt: skip
    arm("band", "a quarter band songs", base="remix-speeds", songs=_with_band)

    group = "parts of mixing anew"
    # As many steps as the blocks of songs take: 21 epochs of 130.
    bare = Remix(21, _STEPS // 21, p_coherent=1.0, sides=False, gain=0.0)
    arm("averaging", "weight averaging", base="base3", ema_momentum=0.999)
    arm("offsets", "segments from anywhere, any order", base="averaging", remix=bare)
    arm("sides", "left, right or both channels", base="offsets",
        remix=replace(bare, sides=True))  # fmt: skip
    arm("gains", "random gains of up to 6 dB", base="offsets",
        remix=replace(bare, gain=6.0))  # fmt: skip
    arm("strangers", "half with sources of different songs", base="offsets",
        remix=replace(bare, p_coherent=0.5))  # fmt: skip
    short = Remix(21, _STEPS // 21)
    arm("remix-short", "all three: remixing", base="offsets", remix=short)

    group = "architecture or music"
    arm("songs-10", "ten songs", base="remix-short", songs=_quarter)
    arm("songs-20", "twenty songs", base="remix-short", songs=_half)
    arm("songs-84", "eighty-four songs", base="remix-short", songs=_with_others)
    for n_shared in (64, 256, 512):
        arm(f"width-{n_shared}", f"{n_shared} shared units", base="songs-84",
            songs=_with_others, sizes=Sizes(n_shared=n_shared))  # fmt: skip
    # Longer segments in smaller batches: a step hears as much music.
    arm("context-50", "contexts of 50 frames", base="songs-84", songs=_with_others,
        sizes=Sizes(context=50), batch_size=16)  # fmt: skip
    arm("context-100", "contexts of 100 frames", base="songs-84", songs=_with_others,
        sizes=Sizes(context=100), batch_size=8)  # fmt: skip

    group = "Experiment 3"
    arm("relative", "all segments weigh the same", base="remix-speeds", loss="relative")
    arm("balanced", "all sources weigh nearly the same", base="relative", loss="balanced")
    arm("speeds-alone", "random speeds, no equalizers", base="relative",
        remix=replace(fast, equalizer=0.0))  # fmt: skip
    arm("experiment3-chosen", "3.7 times the steps: Experiment 3", base="relative",
        remix=EXPERIMENTS["experiment3"].remix)  # fmt: skip
    return arms


ARMS = _arms()
"""The arms by name; each one's description says what it changes."""


def get_arm(name: str) -> Arm:
    """Return an arm by its name in `ARMS`.

    The names of `sepkit.study.experiments.EXPERIMENTS` stand for the spread over seeds: trained on
    Dev, scored on Test.
    """
    if name in EXPERIMENTS:
        return Arm(EXPERIMENTS[name], group="seeds", songs=_dev_and_test, seeds=_SEEDS[name])
    if name not in ARMS:
        raise ParameterError(f"arm {name!r}: unknown; sepkit ablate --list names them")
    return ARMS[name]


def seeds(arm: Arm) -> range:
    """Return the seeds from which the study trains an arm.

    Not seed 0 of an experiment, from which ``sepkit train`` makes the library's own weights.
    """
    return range(int(arm.experiment.name in EXPERIMENTS), arm.seeds)


def run(
    trainings: Sequence[tuple[Arm, int]],
    *,
    output: str | Path = "book/results",
    n_jobs: int = 1,
) -> list[Path]:
    """Train and score what has no result yet.

    Parameters
    ----------
    trainings : sequence of (Arm, int)
        Arms, of `get_arm`, and seeds of the initial weights and of the batches.
    output : str or Path
        Folder of the results.
    n_jobs : int
        Trainings at once, each with its share of the processor's cores.

    Returns
    -------
    list of Path
        ``NAME-SEED.json`` for each: a card with scores.
    """
    if n_jobs < 1:
        raise ParameterError(f"--jobs {n_jobs}: give one training or more at once")
    paths = [Path(output) / f"{arm.experiment.name}-{seed}.json" for arm, seed in trainings]
    missing = [(*t, path) for t, path in zip(trainings, paths, strict=True) if not path.exists()]
    with make_folders({path.parent for _, _, path in missing}):
        for _, _, path in missing:
            check_writable(path)
        if n_jobs == 1 or len(missing) < 2:
            for training in missing:
                _run(*training)
        else:
            joblib = import_optional("joblib", "evaluation")
            threads = max(1, (os.cpu_count() or 1) // n_jobs)
            with joblib.parallel_config("loky", inner_max_num_threads=threads):
                joblib.Parallel(n_jobs)(
                    joblib.delayed(_run_with_threads)(threads, *training) for training in missing
                )
    return paths


def _run_with_threads(threads: int, arm: Arm, seed: int, path: Path) -> None:
    # TensorFlow, which this process has yet to import, reads it then.
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    _run(arm, seed, path)


def _run(arm: Arm, seed: int, path: Path) -> None:
    experiment, (train, validation) = arm.experiment, arm.songs()
    checkpoint = path.with_suffix(".checkpoint.h5")
    with tempfile.TemporaryDirectory(prefix=".sepkit-", dir=path.parent) as folder:
        file = experiments.train(experiment, train, seed=seed, output=folder, checkpoint=checkpoint)
        card = read_json(file.with_name(f"{experiment.name}.json"))
        for scored in _score(experiment, file, validation):
            card["scores"][scored.mode] = scored.as_dict()
    remedy = f"make room there and run it again, which takes the training from {checkpoint}"
    write_json(card, path, remedy)
    checkpoint.unlink(missing_ok=True)


def _score(experiment: Experiment, file: Path, songs: Sequence[Track]) -> list[Evaluation]:
    if (experiment.transform, experiment.sizes.context) != (REPORT_TRANSFORM, CONTEXT):
        return score_as_trained(songs, file, transform=experiment.transform)
    return [
        evaluation.evaluate(file, songs, mode=mode, measures=("report",))
        for mode in evaluation.MODES
    ]


def score_as_trained(
    tracks: Sequence[Track], model: separation.Model, *, transform: Transform
) -> list[Evaluation]:
    """Score a network of one channel, trained with another STFT or other contexts, in both modes.

    Left channel only. In mode "report" the scores cover the samples that those of the report's
    network cover, however long this network's segments are; in mode "song" there is a context
    every 5 frames.
    """
    values = streaming.resolve_weights(model)
    separators = {
        "report": partial(_separate_segments, values, transform),
        "song": partial(_separate_song, values, transform),
    }
    songs = evaluation.score_songs(tracks, separators, measures=("report",))
    return [
        Evaluation("report", songs=songs["report"]),
        Evaluation("song", separation.DEFAULT_HOP, songs["song"]),
    ]


def _separate_segments(
    values: weights.Weights, transform: Transform, references: np.ndarray, rate: int
) -> np.ndarray:
    stems = separation.separate_segments(
        references.sum(axis=0),
        partial(network.masks, values),
        context=weights.infer_sizes(values).context,
        transform=transform,
    )
    return stems[:, : reported_samples(references.shape[1])]


def _separate_song(
    values: weights.Weights, transform: Transform, references: np.ndarray, rate: int
) -> np.ndarray:
    estimate = partial(masks.mean_masks, network.prepare(values), hop=separation.DEFAULT_HOP)
    return separation.separate_song(references.sum(axis=0), estimate, transform=transform)


def reported_samples(n_samples: int) -> int:
    """Return how many samples of a song the report's procedure keeps: whole batches of segments."""
    batch = separation.REPORT_BATCH * stft.SEGMENT_LENGTH
    return n_samples // batch * batch
