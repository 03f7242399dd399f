"""Experiments as data: what is trained, on what, to minimise what."""

from __future__ import annotations

import os
import tempfile
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sepkit import batches, weights
from sepkit.errors import ParameterError, SepkitError
from sepkit.files import check_writable, make_folders, writing_to
from sepkit.losses import ALPHA, BETA, GAMMA
from sepkit.stft import REPORT_TRANSFORM, Transform
from sepkit.study import cards
from sepkit.study.remix import Remix, RemixBatches
from sepkit.study.studio import random_effects
from sepkit.tracks import SOURCES, Track
from sepkit.weights import DECODER, REPORT_SIZES, Sizes

SPEEDS = (0.84, 0.92, 1.0, 1.09, 1.19)
"""Playback speeds, from three semitones down to three up."""


@dataclass(frozen=True)
class Experiment:
    """A training, as data.

    Parameters
    ----------
    name : str
        Its name, also that of its weight file.
    description : str
        What it shows.
    channels : int
        Channels of the network; one takes the left channel.
    sizes : sepkit.weights.Sizes
        Layer sizes.
    tie : str
        Weight tying in training, a key of `sepkit.study.objectives.TIES`.
    transform : sepkit.stft.Transform
        The STFT in training; the library itself separates with the report's.
    block_size, block_step, epochs, repetitions : int
        The schedule (`sepkit.batches.report_schedule`).
    segment_step : int, optional
        Frames between the starts of the schedule's segments; end to end by default.
    remix : sepkit.study.remix.Remix, optional
        Train on random remixes; the schedule is then unused.
    effects : bool
        With remixes: store every song a second time through random studio effects
        (`sepkit.study.studio`).
    batch_size : int
        Segments per step.
    optimizer : {"adadelta", "adam"}
        The optimiser; Adam has no `rho`.
    learning_rate, rho, epsilon : float
        Its settings.
    ema_momentum : float
        Momentum of the moving average of the weights, which is then the result; none at 0.
    objective : str
        What is compared, a key of `sepkit.study.objectives.OBJECTIVES`.
    loss : str
        How it is compared, a key of `sepkit.study.objectives.LOSSES`.
    alpha, beta, gamma : float
        Weights of the terms that the losses "report" and "complete" subtract.
    """

    name: str
    description: str
    channels: int = 1
    sizes: Sizes = REPORT_SIZES
    tie: str = "none"
    transform: Transform = REPORT_TRANSFORM
    block_size: int = 10
    block_step: int = 5
    epochs: int = 10
    repetitions: int = 3
    segment_step: int | None = None
    remix: Remix | None = None
    effects: bool = False
    batch_size: int = 32
    optimizer: str = "adadelta"
    learning_rate: float = 0.01
    rho: float = 0.95
    epsilon: float = 1.0
    ema_momentum: float = 0.0
    objective: str = "waveform"
    loss: str = "report"
    alpha: float = ALPHA
    beta: float = BETA
    gamma: float = GAMMA

    @property
    def segment_length(self) -> int:
        """Samples per training segment."""
        return self.transform.count_samples(self.sizes.context)


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("experiment1", "The report's main network: one channel, the left one."),
        Experiment("experiment2", "The report's second network: both channels.", channels=2),
        Experiment(
            "experiment3",
            "The same network, repaired: random remixes, all sources compared as spectra.",
            remix=Remix(epochs=20, steps=1500, equalizer=3.0, speeds=SPEEDS),
            optimizer="adam",
            learning_rate=0.001,
            epsilon=1e-7,
            ema_momentum=0.999,
            objective="spectrum",
            loss="relative",
            alpha=0.0,
            beta=0.0,
            gamma=0.0,
        ),
    )
}
"""The experiments by name."""


def get_experiment(name: str) -> Experiment:
    """Return an experiment by its name in `EXPERIMENTS`."""
    if name not in EXPERIMENTS:
        raise ParameterError(f"experiment {name!r}: unknown; use one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def with_epochs(experiment: Experiment, n_epochs: int) -> Experiment:
    """Return an experiment with another number of epochs, on each block or of remixes."""
    if n_epochs < 1:
        raise ParameterError(f"{n_epochs} epochs: give one or more")
    if experiment.remix is None:
        return replace(experiment, epochs=n_epochs)
    return replace(experiment, remix=replace(experiment.remix, epochs=n_epochs))


def train(
    experiment: Experiment,
    tracks: Sequence[Track],
    *,
    seed: int = 0,
    output: str | os.PathLike[str] = ".",
    checkpoint: str | os.PathLike[str] | None = None,
) -> Path:
    """Train an experiment and write its weights and its card.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    tracks : sequence of Track
        The songs, in the order in which blocks take them.
    seed : int
        Seed of the initial weights and of the batches.
    output : str or Path
        Folder for ``NAME.weights.h5`` and ``NAME.json``, made if missing.
    checkpoint : str or Path, optional
        File for the training state, resumed from if it exists.

    Returns
    -------
    Path
        The weight file.

    Raises
    ------
    SepkitError
        When the songs are unsuitable, or a file cannot be written: all are tried at the start. If
        the weights cannot be written at the end, it says where they, or their checkpoint, are.
    """
    path = Path(output) / f"{experiment.name}.weights.h5"
    with make_folders([path.parent]):
        for file in (path, path.with_name(f"{experiment.name}.json")):
            check_writable(file, "choose another folder")
        if checkpoint is not None:
            check_writable(checkpoint, "choose another place for the checkpoint")
        return _train(experiment, tracks, seed, path, checkpoint)


def _train(
    experiment: Experiment,
    tracks: Sequence[Track],
    seed: int,
    path: Path,
    checkpoint: str | os.PathLike[str] | None,
) -> Path:
    from sepkit import model, training
    from sepkit.study import objectives

    started = time.perf_counter()
    songs = cards.describe_songs(tracks)
    network = model.build_model(
        sources=[*SOURCES, *objectives.EXTRA_SOURCES.get(experiment.objective, ())],
        channels=experiment.channels,
        sizes=experiment.sizes,
        seed=seed,
        layer=objectives.TIES[experiment.tie],
    )
    history = training.fit(
        network,
        make_batches(experiment, open_store(experiment, tracks), seed=seed),
        optimizer=make_optimizer(experiment),
        objective=make_objective(experiment),
        checkpoint=checkpoint,
        recipe={"experiment": asdict(experiment), "seed": seed},
    )
    # Decoders that only helped in training are dropped.
    values = {
        name: value[: len(SOURCES)] if name.split("/")[0] in DECODER else value
        for name, value in model.get_weights(network).items()
    }
    try:
        with writing_to(path, "make room there"):
            weights.save(values, path)
        cards.write_card(
            path.with_name(f"{experiment.name}.json"),
            experiment=asdict(experiment),
            values=values,
            seed=seed,
            songs=songs,
            history=history,
            seconds=time.perf_counter() - started,
        )
    except SepkitError as error:
        raise SepkitError(f"{error}; {_keep(values, path.name, checkpoint)}") from error
    return path


def _keep(values: weights.Weights, name: str, checkpoint: str | os.PathLike[str] | None) -> str:
    """Report where the trained weights are if they cannot be written to their place."""
    if checkpoint is not None:
        return f"then run it again, which takes the training from {checkpoint}"
    with writing_to("the temporary folder", "train with a checkpoint"):
        place = Path(tempfile.mkdtemp(prefix="sepkit-")) / name
        weights.save(values, place)
    return f"the trained weights are in {place}"


def open_store(experiment: Experiment, tracks: Sequence[Track]) -> batches.SongStore:
    """Read the songs that an experiment trains on, in the channels and versions it needs."""
    remix, length = experiment.remix, experiment.segment_length
    if remix is None:
        return batches.SongStore(tracks, channels=experiment.channels, length=length)
    variants = remix.variants
    if experiment.effects:
        variants = partial(_with_effects, remix)
    return batches.SongStore(tracks, channels=2, length=length, variants=variants)


def _with_effects(remix: Remix, sources: np.ndarray, name: str) -> Iterable[np.ndarray]:
    """Yield each version of a song twice: as it is, and through effects drawn from its name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for sound in remix.variants(sources, name):
        yield sound
        yield np.stack([random_effects(stem, rng) for stem in sound])


def make_batches(
    experiment: Experiment, store: batches.SongStore, *, seed: int = 0
) -> batches.Batches:
    """Return the batches that an experiment trains on: blocks of songs, or random remixes."""
    options: dict[str, Any] = {"batch_size": experiment.batch_size, "seed": seed}
    if experiment.remix is not None:
        return RemixBatches(store, experiment.remix, channels=experiment.channels, **options)
    schedule = batches.report_schedule(
        len(store.songs),
        size=experiment.block_size,
        step=experiment.block_step,
        epochs=experiment.epochs,
        repetitions=experiment.repetitions,
    )
    step = experiment.segment_step and experiment.segment_step * experiment.transform.hop_length
    return batches.BlockBatches(store, schedule, step=step, **options)


def make_objective(experiment: Experiment) -> Any:
    """Return what an experiment minimises, a `sepkit.training.Objective`."""
    from sepkit.study import objectives

    loss = objectives.LOSSES[experiment.loss]
    if experiment.loss in ("report", "complete"):
        terms = {"alpha": experiment.alpha, "beta": experiment.beta, "gamma": experiment.gamma}
        loss = partial(loss, **terms)
    return objectives.OBJECTIVES[experiment.objective](loss, transform=experiment.transform)


def make_optimizer(experiment: Experiment) -> Any:
    """Return the Keras optimiser of an experiment."""
    import keras

    options: dict[str, Any] = {
        "learning_rate": experiment.learning_rate,
        "epsilon": experiment.epsilon,
    }
    if experiment.ema_momentum:
        options |= {"use_ema": True, "ema_momentum": experiment.ema_momentum}
    if experiment.optimizer == "adam":
        return keras.optimizers.Adam(**options)
    return keras.optimizers.Adadelta(rho=experiment.rho, **options)
