"""Experiments as data: what is trained, how it is scored, and the card that says so."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from importlib import metadata, resources
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sepkit import datasets, losses, metrics, parameters, sampling, separation
from sepkit.datasets import SOURCES, Track
from sepkit.errors import AudioError, DatasetError, ParameterError, SepkitError
from sepkit.files import written_whole
from sepkit.losses import ALPHA, BETA, GAMMA
from sepkit.metrics import METRICS
from sepkit.parameters import REPORT_SIZES, Sizes
from sepkit.sampling import Remix
from sepkit.spectral import REPORT_TRANSFORM, Transform

MODES = ("report", "song")
"""The report's own procedure, segment by segment; whole song with overlapping contexts."""

MEASURES = ("report", "museval")
"""The report's one-tap scores over the whole song; BSS Eval 4 of museval."""

SPEEDS = (0.84, 0.92, 1.0, 1.09, 1.19)
"""Three semitones down to three up."""


@dataclass(frozen=True)
class Experiment:
    """One training, as data.

    Parameters
    ----------
    name : str
        Its name; that of its weight file too.
    description : str
        What it shows.
    channels : int
        Channels of the network; one takes the left channel.
    sizes : sepkit.parameters.Sizes
        How large its layers are.
    tie : str
        How its arrays hang together in training, a key of `sepkit.model.TIES`.
    transform : sepkit.spectral.Transform
        The STFT that it is trained with; the library separates with the report's alone.
    block_size, block_step, epochs, repetitions : int
        The schedule (`sepkit.sampling.report_schedule`).
    segment_step : int, optional
        Frames between the starts of the schedule's segments; end to end by default.
    remix : sepkit.sampling.Remix, optional
        Mix songs anew instead; the schedule's numbers are then unused.
    batch_size : int
        Segments a step.
    optimizer : {"adadelta", "adam"}
        What follows the gradients; Adam knows no `rho`.
    learning_rate, rho, epsilon : float
        Of the optimiser.
    average : float
        Where above 0, the weights are the mean of those along the way, which forgets at this
        rate: 0.999 looks back some thousand steps.
    objective : str
        What estimates and truth are compared as, a key of `sepkit.training.OBJECTIVES`.
    loss : {"report", "complete", "relative", "balanced"}
        `sepkit.losses.report_loss`; `sepkit.losses.complete_loss`, which asks "other" to be right
        too; `sepkit.losses.relative_loss`, which also hears all segments equally loud; or
        `sepkit.losses.balanced_loss`, which hears all sources equally loud, nearly.
    alpha, beta, gamma : float
        Weights of the terms that the loss subtracts; the last two subtract nothing.
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
    batch_size: int = 32
    optimizer: str = "adadelta"
    learning_rate: float = 0.01
    rho: float = 0.95
    epsilon: float = 1.0
    average: float = 0.0
    objective: str = "waveform"
    loss: str = "report"
    alpha: float = ALPHA
    beta: float = BETA
    gamma: float = GAMMA


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("experiment1", "The report's main network: one channel, the left one."),
        Experiment("experiment2", "The report's second network: both channels.", channels=2),
        Experiment(
            "experiment3",
            "The same network, repaired: songs mixed anew, all sources compared as spectra.",
            remix=Remix(epochs=20, steps=1500, tilt=3.0, speeds=SPEEDS),
            optimizer="adam",
            learning_rate=0.001,
            epsilon=1e-7,
            average=0.999,
            objective="spectrum",
            loss="relative",
            alpha=0.0,
            beta=0.0,
            gamma=0.0,
        ),
    )
}


def get_experiment(name: str) -> Experiment:
    """Find an experiment by its name.

    Parameters
    ----------
    name : str
        A key of `EXPERIMENTS`.

    Returns
    -------
    Experiment
        The experiment.

    Raises
    ------
    ParameterError
        When there is none of that name.
    """
    if name not in EXPERIMENTS:
        raise ParameterError(f"experiment {name!r}: unknown; use one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def load_tracks(
    dataset: str, *, split: str = "test", root: str | os.PathLike | None = None
) -> list[Track]:
    """List the songs of a data set by its name.

    Parameters
    ----------
    dataset : str
        example, dsd100, musdb18, open-stems, or the path of a folder with stems.
    split : str
        test, or dev (DSD100), train or validation (MUSDB18); the others have no splits.
    root : str or Path, optional
        Folder of the whole DSD100 or MUSDB18.

    Returns
    -------
    list of Track
        The songs.

    Raises
    ------
    DatasetError
        When the data set is unknown or not there.
    """
    if dataset == "example":
        return [datasets.example()]
    if dataset == "dsd100":
        return datasets.dsd100(split, root)
    if dataset == "musdb18":
        return datasets.musdb18(split, root)
    if dataset == "open-stems":
        return datasets.open_stems()
    if Path(dataset).is_dir():
        return datasets.folder(dataset)
    raise DatasetError(
        f"data set {dataset!r}: unknown; use example, dsd100, musdb18, open-stems, or the path of "
        "a folder with a folder of stems for each song"
    )


def train(
    experiment: Experiment,
    tracks: Sequence[Track],
    *,
    seed: int = 0,
    output: str | os.PathLike = ".",
    checkpoint: str | os.PathLike | None = None,
) -> Path:
    """Train an experiment; write its weights and its card.

    Parameters
    ----------
    experiment : Experiment
        What to train.
    tracks : sequence of Track
        The songs, in the order in which blocks take them.
    seed : int
        Seed of the first values and of the shuffles.
    output : str or Path
        Folder for ``NAME.weights.h5`` and ``NAME.json``.
    checkpoint : str or Path, optional
        File that holds the state, to go on from after an interruption.

    Returns
    -------
    Path
        The weight file.

    Raises
    ------
    SepkitError
        When the folder cannot be written or the songs do not do.
    """
    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SepkitError(
            f"{output}: cannot be made ({error.strerror}); choose another folder"
        ) from error
    if not os.access(output, os.W_OK):
        raise SepkitError(f"{output}: cannot be written to; choose another folder")
    from sepkit import model, training

    network = model.build_model(
        sources=[*SOURCES, *training.EXTRA_SOURCES.get(experiment.objective, ())],
        channels=experiment.channels,
        sizes=experiment.sizes,
        seed=seed,
        tie=experiment.tie,
    )
    objective = training.OBJECTIVES[experiment.objective]
    started = time.perf_counter()
    history = training.fit(
        network,
        _batches(experiment, tracks, seed),
        optimizer=_optimizer(experiment),
        objective=objective(_loss(experiment), transform=experiment.transform),
        checkpoint=checkpoint,
    )
    # Decoders that only helped in training are dropped.
    values = parameters.first_sources(model.get_parameters(network), len(SOURCES))
    path = output / f"{experiment.name}.weights.h5"
    parameters.save(values, path)
    card = {
        "name": experiment.name,
        "experiment": asdict(experiment),
        "parameters": parameters.count(values),
        "seed": seed,
        "steps": sum(row["steps"] for row in history),
        "wall_time_seconds": round(time.perf_counter() - started, 1),
        "date": date.today().isoformat(),
        "commit": describe_commit(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: _version(name) for name in ("tensorflow", "keras", "numpy", "sepkit")},
        "weights_licence": "Trained on songs that are licensed for academic use; "
        "use the weights accordingly.",
        "data": _describe(tracks),
        "history": history,
        "scores": {},
    }
    write_json(card, path.with_name(f"{experiment.name}.json"))
    return path


def _batches(experiment: Experiment, tracks: Sequence[Track], seed: int) -> sampling.Batches:
    options = {
        "channels": experiment.channels,
        "batch_size": experiment.batch_size,
        "seed": seed,
        "length": experiment.transform.count_samples(experiment.sizes.context),
    }
    if experiment.remix is not None:
        return sampling.RemixBatches(tracks, experiment.remix, **options)
    schedule = sampling.report_schedule(
        len(tracks),
        size=experiment.block_size,
        step=experiment.block_step,
        epochs=experiment.epochs,
        repetitions=experiment.repetitions,
    )
    step = experiment.segment_step and experiment.segment_step * experiment.transform.hop
    return sampling.BlockBatches(tracks, schedule, step=step, **options)


def _optimizer(experiment: Experiment):
    import keras

    options = {"learning_rate": experiment.learning_rate, "epsilon": experiment.epsilon}
    if experiment.average:
        options |= {"use_ema": True, "ema_momentum": experiment.average}
    if experiment.optimizer == "adam":
        return keras.optimizers.Adam(**options)
    return keras.optimizers.Adadelta(rho=experiment.rho, **options)


def _loss(experiment: Experiment):
    weightless = {"relative": losses.relative_loss, "balanced": losses.balanced_loss}
    if experiment.loss in weightless:
        return weightless[experiment.loss]
    weights = {"alpha": experiment.alpha, "beta": experiment.beta, "gamma": experiment.gamma}
    function = {"report": losses.report_loss, "complete": losses.complete_loss}[experiment.loss]
    return partial(function, **weights)


def epoch_losses(history: Sequence[dict]) -> Iterator[tuple[int, float]]:
    """Go through a history as steps and losses.

    Parameters
    ----------
    history : sequence of dict
        Of a card.

    Yields
    ------
    steps : int
        Steps done by the end of an epoch.
    loss : float
        Its mean loss.
    """
    steps = 0
    for row in history:
        steps += row["steps"]
        yield steps, row["loss"]


def _describe(tracks: Sequence[Track]) -> dict:
    licences = sorted({track.licence for track in tracks})
    return {
        "licences": licences,
        "songs": [
            {"name": track.name, "licence": track.licence, "sha256": track.sha256()}
            for track in tracks
        ],
    }


def describe_commit() -> str:
    """Name the commit of the checkout that this runs from.

    Returns
    -------
    str
        Its hash, with "+" behind where files differ from it.
    """
    folder = Path(__file__).parents[1]
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def write_json(value: dict, path: str | os.PathLike) -> None:
    """Write a value as JSON; the file appears whole or not at all.

    Parameters
    ----------
    value : dict
        What to write.
    path : str or Path
        Where to.

    Raises
    ------
    SepkitError
        When it cannot be written.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        with written_whole(path) as beside:
            beside.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SepkitError(
            f"{path}: cannot be written ({error.strerror}); choose another place"
        ) from error


# Scores.


@dataclass(frozen=True)
class SongScores:
    """The scores of one song.

    Parameters
    ----------
    name : str
        The song.
    report : ndarray of shape (n_channels, 3, 4)
        SDR, SIR, SAR by source by the report's metrics, for each channel [dB].
    museval : ndarray of shape (1, 3, 4), optional
        The same by museval, over all channels [dB].
    """

    name: str
    report: np.ndarray
    museval: np.ndarray | None = None


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on some songs, in one mode.

    Parameters
    ----------
    mode : str
        How the songs were separated: "report", "song", or another way that is said.
    hop : int
        Frames between contexts, in mode "song".
    songs : list of SongScores
        By song.
    """

    mode: str
    hop: int = 0
    songs: list[SongScores] = field(default_factory=list)

    @property
    def measures(self) -> tuple[str, ...]:
        """Whose scores the songs have."""
        return tuple(m for m in MEASURES if all(getattr(s, m) is not None for s in self.songs))

    def summary(self, measure: str) -> metrics.Summary:
        """Put the scores together over songs, and over channels as the report does.

        Parameters
        ----------
        measure : {"report", "museval"}
            Whose scores.

        Returns
        -------
        Summary
            Arrays of shape (3, 4): SDR, SIR, SAR by source.
        """
        scores = [getattr(song, measure) for song in self.songs]
        return metrics.summarize(np.concatenate(scores))

    def as_dict(self) -> dict:
        """Give the scores in the form of the cards.

        Returns
        -------
        dict
            Mode, hop, summaries and the scores by song, rounded to 0.0001 dB; None for NaN.
        """
        result: dict = {"mode": self.mode, "hop": self.hop, "sources": list(SOURCES)}
        for measure in self.measures:
            summary = self.summary(measure)
            result[measure] = {
                part: _by_metric(getattr(summary, part))
                for part in ("mean", "deviation", "median", "n", "dropped")
            }
        result["songs"] = [
            {"name": song.name}
            | {m: [_by_metric(channel) for channel in getattr(song, m)] for m in self.measures}
            for song in self.songs
        ]
        return result


def _by_metric(values: np.ndarray) -> dict[str, list]:
    def plain(value) -> float | int | None:
        if not np.isfinite(value):
            return None
        return int(value) if isinstance(value, np.integer) else round(float(value), 4)

    return {name: [plain(v) for v in row] for name, row in zip(METRICS, values, strict=True)}


def score_song(
    track: Track,
    model: separation.Model,
    *,
    mode: str = "song",
    hop: int = separation.HOP_CONTEXTS,
    measures: Sequence[str] = MEASURES,
) -> SongScores:
    """Separate one song and score it.

    Parameters
    ----------
    track : Track
        The song.
    model : str, Path, dict or keras.Model
        As for `sepkit.separate`. A model of one channel is scored on the left channel.
    mode : {"song", "report"}
        How to separate.
    hop : int
        Frames between contexts, in mode "song".
    measures : sequence of {"report", "museval"}
        Whose scores; the report's are always there, museval's take a hundred times longer.

    Returns
    -------
    SongScores
        Its scores.
    """
    # A copy that forgets the song when this returns: a data set would fill the memory.
    track = track.excerpt()
    values = separation.load_parameters(model)
    channels, _ = parameters.dimensions(values)
    references = np.stack(list(track.stems.values()))[:, :, :channels]
    mixture = references.sum(axis=0)
    try:
        stems = separation.separate(mixture, track.rate, model=values, hop=hop, mode=mode)
    except AudioError as error:
        raise DatasetError(f"{track.name}: {error}, or leave it out (or --mode song)") from error
    estimates = np.stack(list(stems.values()))
    report = np.stack(
        [
            metrics.report_scores(references[:, :, c], estimates[:, :, c])
            for c in range(references.shape[2])
        ]
    )
    if "museval" not in measures:
        return SongScores(track.name, report)
    museval = metrics.museval_scores(references, estimates, track.rate)
    return SongScores(track.name, report, museval[np.newaxis])


def evaluate(
    model: separation.Model,
    tracks: Iterable[Track],
    *,
    mode: str = "song",
    hop: int = separation.HOP_CONTEXTS,
    measures: Sequence[str] = MEASURES,
    n_jobs: int = -1,
) -> Evaluation:
    """Separate songs and score them, several at once through joblib.

    Parameters
    ----------
    model : str, Path, dict or keras.Model
        As for `sepkit.separate`.
    tracks : iterable of Track
        The songs.
    mode : {"song", "report"}
        How to separate.
    hop : int
        Frames between contexts, in mode "song".
    measures : sequence of {"report", "museval"}
        Whose scores.
    n_jobs : int
        Processes, as joblib counts them; -1 for one a core.

    Returns
    -------
    Evaluation
        Scores by song, in the order of `tracks`.
    """
    from joblib import Parallel, delayed

    tracks = list(tracks)
    values = separation.load_parameters(model)
    run = Parallel(n_jobs=min(n_jobs, len(tracks)), return_as="generator")
    options = {"mode": mode, "hop": hop, "measures": measures}
    jobs = (delayed(score_song)(track, values, **options) for track in tracks)
    progress = tqdm(run(jobs), total=len(tracks), desc=f"scoring, mode {mode}", unit="song")
    return Evaluation(mode=mode, hop=hop, songs=list(progress))


def format_table(evaluation: Evaluation, measure: str) -> str:
    """Lay scores out as text: mean and deviation by source.

    Parameters
    ----------
    evaluation : Evaluation
        The scores.
    measure : {"report", "museval"}
        Whose scores.

    Returns
    -------
    str
        A line for each of SDR, SIR and SAR; a line on what was left out, if anything.
    """
    summary = evaluation.summary(measure)
    lines = ["".join([" " * 5, *(f"{source:>14}" for source in SOURCES)])]
    for i, metric in enumerate(METRICS):
        cells = (
            f"{mean:6.2f} ± {deviation:5.2f}"
            for mean, deviation in zip(summary.mean[i], summary.deviation[i], strict=True)
        )
        lines.append("".join([f"{metric:<5}", *(f"{cell:>14}" for cell in cells)]))
    if summary.dropped.any():
        lines.append(f"left out, NaN or infinite: {int(summary.dropped.sum())} scores")
    return "\n".join(lines)


def markdown_table(rows: Mapping[str, Mapping], *, metrics_shown: Sequence[str] = METRICS) -> str:
    """Lay scores of several systems out as a table in Markdown.

    Parameters
    ----------
    rows : dict of str to dict
        Label to ``{"mean": {"SDR": [...], ...}, "deviation": {...}}`` in the order of `SOURCES`:
        ``card["scores"][mode]["report"]``, or an entry of `published_scores`.
    metrics_shown : sequence of str
        Which of SDR, SIR, SAR.

    Returns
    -------
    str
        A line a metric and label, mean ± deviation over songs [dB].
    """
    lines = [f"| dB | | {' | '.join(SOURCES)} |", f"| --- | --- |{' ---: |' * len(SOURCES)}"]
    for metric in metrics_shown:
        for i, (label, scored) in enumerate(rows.items()):
            # Typographic minus, so that it does not break away from its number.
            cells = [
                f"{mean:.1f} ± {deviation:.1f}".replace("-", "\N{MINUS SIGN}")
                for mean, deviation in zip(
                    scored["mean"][metric], scored["deviation"][metric], strict=True
                )
            ]
            lines.append(f"| {'' if i else metric} | {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def published_scores() -> dict[str, dict]:
    """Read the figures that others have published, to set beside ours.

    Returns
    -------
    dict of str to dict
        paper, report_experiment1, report_experiment2: label, source, mean and deviation by
        metric, in the order of `SOURCES` [dB].
    """
    text = (resources.files("sepkit") / "data" / "published.json").read_text(encoding="utf-8")
    return json.loads(text)


def compare_with_card(evaluation: Evaluation, card: dict) -> tuple[int, float]:
    """Tell how far scores are from those that a card holds of the same songs.

    Parameters
    ----------
    evaluation : Evaluation
        The scores.
    card : dict
        The card of the model (`sepkit.parameters.read_card`).

    Returns
    -------
    n_songs : int
        Songs that both have, in the same mode and, as whole songs, with the same hop.
    apart : float
        The largest difference of a score of theirs [dB]: infinite where one has a score and the
        other none; 0 where there are no songs.
    """
    kept = card["scores"].get(evaluation.mode, {})
    scores = evaluation.as_dict()
    if evaluation.mode == "song" and kept.get("hop") != evaluation.hop:
        return 0, 0.0
    by_name = {song["name"]: song for song in kept.get("songs", [])}
    pairs = [(song, by_name[song["name"]]) for song in scores["songs"] if song["name"] in by_name]
    apart = 0.0
    for ours, theirs in pairs:
        for measure in evaluation.measures:
            a, b = (
                np.array([[row[m] for m in METRICS] for row in song[measure]], np.float64)
                for song in (ours, theirs)
            )
            both_missing = np.isnan(a) & np.isnan(b)
            differences = np.where(both_missing, 0.0, np.abs(a - b))
            apart = max(apart, float(np.nan_to_num(differences, nan=np.inf).max()))
    return len(pairs), apart


def add_scores(card_path: str | os.PathLike, evaluations: Sequence[Evaluation]) -> None:
    """Put scores into a card, by mode.

    Parameters
    ----------
    card_path : str or Path
        The card.
    evaluations : sequence of Evaluation
        One a mode.

    Raises
    ------
    SepkitError
        When there is no such card.
    """
    path = Path(card_path)
    if not path.is_file():
        raise SepkitError(f"{path}: no such card; sepkit train writes it beside the weights")
    card = json.loads(path.read_text(encoding="utf-8"))
    for evaluation in evaluations:
        card["scores"][evaluation.mode] = evaluation.as_dict()
    write_json(card, path)
