"""What happens when one thing is changed: the arms, as data, and the command that runs them.

Each arm is an experiment that differs from another one in what its name says. All are trained on
the forty songs of DSD100's Dev that are for training and scored on the ten that are for
validation, so that the Test songs stay unseen until a choice is made.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sepkit import datasets, experiments, metrics, network, separation, spectral
from sepkit.datasets import Track
from sepkit.errors import ParameterError
from sepkit.experiments import EXPERIMENTS, Evaluation, Experiment, SongScores
from sepkit.metrics import METRICS
from sepkit.parameters import Sizes
from sepkit.sampling import Remix
from sepkit.spectral import CONTEXT, FRAME, REPORT_TRANSFORM, Transform

_REPORT = EXPERIMENTS["experiment1"]
_STEPS = 2730
"""Steps of the report's schedule on forty songs: 3 repetitions of 7 blocks of 10 epochs of 13."""

Songs = tuple[list[Track], list[Track]]
"""What to train on, what to score on."""


def _choosing() -> Songs:
    return datasets.dsd100("train"), datasets.dsd100("validation")


def _down_mixed() -> Songs:
    train, validation = ([t.down_mix() for t in songs] for songs in _choosing())
    return train, validation


def _half() -> Songs:
    train, validation = _choosing()
    return train[::2], validation


def _with_band() -> Songs:
    # Songs are drawn equally often: thirteen make a quarter of what is heard beside forty.
    train, validation = _choosing()
    return [*train, *(song.excerpt(8, 38) for song in datasets.band_songs(13))], validation


def _with_others() -> Songs:
    return datasets.dsd100("train+others"), datasets.dsd100("validation")


def _reporting() -> Songs:
    return datasets.dsd100("dev"), datasets.dsd100("test")


@dataclass(frozen=True)
class Arm:
    """One thing changed.

    Parameters
    ----------
    experiment : Experiment
        What is trained.
    base : str
        Name of the arm that it differs from in one thing; none for the first.
    group : str
        What the change belongs to.
    songs : callable
        Gives the songs to train on and those to score on.
    """

    experiment: Experiment
    base: str = ""
    group: str = ""
    songs: Callable[[], Songs] = _choosing


def _arms() -> dict[str, Arm]:
    arms: dict[str, Arm] = {}

    def arm(
        name: str,
        description: str,
        base: str = "baseline",
        songs: Callable[[], Songs] = _choosing,
        **changes,
    ) -> None:
        changed = replace(arms[base].experiment, name=name, description=description, **changes)
        arms[name] = Arm(changed, base, group, songs)

    group = "the report"
    first = "Experiment 1 as reported, on forty songs"
    arms["baseline"] = Arm(replace(_REPORT, name="baseline", description=first), group=group)

    group = "tried in the report"
    arm("epochs-20", "twice the epochs", epochs=20)
    arm("repetitions-6", "twice the repetitions", repetitions=6)
    arm("epochs-40", "four times the epochs", epochs=40)
    arm("shuffle-all", "no blocks: all songs at once, as many steps",
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
    arm("down-mix", "both channels' mean instead of the left one", songs=_down_mixed)
    arm("fifth-output", "a fifth decoder, for all that is not vocals",
        objective="waveform, accompaniment")  # fmt: skip

    group = "the published code"
    arm("pattern-15", "horizontal filters of 15 frames", sizes=Sizes(pattern=15))
    arm("input-scale", "magnitudes times 0.3 / 32", tie="input scale")
    arm("tied-decoders", "decoders with the encoder's kernels", tie="decoders")
    arm("shared-bass-other", 'one dense layer for bass and "other"', tie="bass and other")
    arm("blackman-harris", "a symmetric Blackman-Harris window",
        transform=Transform(window="blackman-harris"))  # fmt: skip
    # Nineteen epochs of ten, two of ten: as many steps, for there are fewer segments, and more.
    arm("hop-512", "and a hop of 512, as many steps", base="blackman-harris",
        transform=Transform(512, "blackman-harris"), epochs=19)  # fmt: skip
    arm("contexts-every-5", "a context every 5 frames, as many steps",
        segment_step=5, epochs=2)  # fmt: skip
    arm("contexts-30", "and contexts of 30 frames", base="contexts-every-5",
        sizes=Sizes(context=30))  # fmt: skip

    group = "optimiser"
    arm("adadelta-rate-1", "Adadelta at rate 1", learning_rate=1.0)
    arm("adadelta-original", "Adadelta as in the published code: rate 1, epsilon 1e-6",
        learning_rate=1.0, epsilon=1e-6)  # fmt: skip
    arm("adam", "Adam at rate 0.001", optimizer="adam", learning_rate=0.001, epsilon=1e-7)
    arm("adam-steps-x4", "four times the steps", base="adam", epochs=40)

    group = "loss"
    arm("faded", "targets that fade as the estimates do", objective="faded waveform")
    arm("spectrum", "complex spectra instead of waveforms", objective="spectrum")
    arm("magnitude", "magnitudes instead of waveforms", objective="magnitude")
    arm("complete", "other against its truth too", loss="complete")
    arm("no-dissimilarity", "nothing subtracted", alpha=0.0, beta=0.0, gamma=0.0)
    arm("complete-no-dissimilarity", "other too, nothing subtracted", base="no-dissimilarity",
        loss="complete")  # fmt: skip

    group = "data"
    arm("base3", "Adam, complex spectra, other too, nothing subtracted", base="adam",
        objective="spectrum", loss="complete", alpha=0.0, beta=0.0, gamma=0.0)  # fmt: skip
    # Twenty songs make three blocks; twenty-three epochs on each come close to as many steps.
    arm("half-of-dev", "every other song, as many steps", base="base3", songs=_half, epochs=23)
    remixed = {"average": 0.999, "remix": Remix(20, 3 * _STEPS // 20)}
    arm("remix", "songs mixed anew, three times the steps", base="base3", **remixed)
    arm("half-of-dev-remix", "every other song", base="remix", songs=_half)
    tilted = replace(remixed["remix"], tilt=3.0)
    arm("remix-tilt", "and through equalizers", base="remix", remix=tilted)
    fast = replace(tilted, speeds=experiments.SPEEDS)
    arm("remix-speeds", "and at other speeds", base="remix-tilt", remix=fast)
    wet = replace(fast, processed=1)
    arm("effects", "every other time through compressor, distortion, reverb", base="remix-speeds",
        remix=wet)  # fmt: skip
    arm("band", "a quarter of it band songs", base="remix-speeds", songs=_with_band)
    arm("others", "and the 44 songs of the sample that are not in DSD100", base="remix-speeds",
        songs=_with_others)  # fmt: skip

    group = "Experiment 3"
    arm("relative", "all segments equally loud", base="remix-speeds", loss="relative")
    arm("balanced", "all sources equally loud, nearly", base="relative", loss="balanced")
    arm("speeds-alone", "other speeds, but no equalizers", base="relative",
        remix=replace(fast, tilt=0.0))  # fmt: skip
    arm("experiment3-chosen", "3.7 times the steps: Experiment 3 on forty songs", base="relative",
        remix=EXPERIMENTS["experiment3"].remix)  # fmt: skip
    return arms


ARMS = _arms()
"""The arms by name; what each one shows stands in its description."""


def get_arm(name: str) -> Arm:
    """Find an arm by its name.

    Parameters
    ----------
    name : str
        A key of `ARMS`, or of sepkit.experiments' `EXPERIMENTS` for the spread over seeds: trained
        on Dev, scored on Test.

    Returns
    -------
    Arm
        What is trained.

    Raises
    ------
    ParameterError
        When there is none of that name.
    """
    if name in EXPERIMENTS:
        return Arm(EXPERIMENTS[name], group="seeds", songs=_reporting)
    if name not in ARMS:
        raise ParameterError(f"arm {name!r}: unknown; sepkit ablate --list names them")
    return ARMS[name]


def run(arms: Sequence[Arm], *, seed: int = 0, output: str | Path = "book/results") -> list[Path]:
    """Train and score arms, those whose results are not there already.

    Parameters
    ----------
    arms : sequence of Arm
        Of `get_arm`.
    seed : int
        Seed of the first values and of the shuffles.
    output : str or Path
        Folder of the results.

    Returns
    -------
    list of Path
        ``NAME-SEED.json`` for each: the experiment and its scores.
    """
    paths = [Path(output) / f"{arm.experiment.name}-{seed}.json" for arm in arms]
    # The same tracks for all arms that take them: their segments are then read once.
    songs: dict[Callable, Songs] = {}
    for arm, path in zip(arms, paths, strict=True):
        if not path.exists():
            if arm.songs not in songs:
                songs[arm.songs] = arm.songs()
            _run(arm.experiment, songs[arm.songs], seed, path)
    return paths


def _run(experiment: Experiment, songs: Songs, seed: int, path: Path) -> None:
    train, score = songs
    checkpoint = path.with_suffix(".checkpoint.h5")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = experiments.train(
            experiment, train, seed=seed, output=folder, checkpoint=checkpoint
        )
        card = json.loads(weights.with_name(f"{experiment.name}.json").read_text(encoding="utf-8"))
        for scored in _score(experiment, weights, score):
            card["scores"][scored.mode] = scored.as_dict()
    experiments.write_json(card, path)
    checkpoint.unlink(missing_ok=True)


def _score(experiment: Experiment, weights: Path, songs: Sequence[Track]) -> list[Evaluation]:
    if (experiment.transform, experiment.sizes.context) != (REPORT_TRANSFORM, CONTEXT):
        return score_as_trained(songs, weights, transform=experiment.transform)
    return [
        experiments.evaluate(weights, songs, mode=mode, measures=("report",))
        for mode in experiments.MODES
    ]


def differences(result: Mapping, base: Mapping, mode: str) -> np.ndarray:
    """Compare two results song by song.

    Parameters
    ----------
    result, base : dict
        Contents of two results' files, scored on the same songs.
    mode : {"report", "song"}
        How the songs were separated.

    Returns
    -------
    ndarray of shape (n_songs, 3, 4)
        What SDR, SIR, SAR of each source have gained [dB].

    Raises
    ------
    ParameterError
        When the songs are not the same.
    """
    scores, scores_of_base = (
        {
            song["name"]: np.array([song["report"][0][metric] for metric in METRICS])
            for song in told["scores"][mode]["songs"]
        }
        for told in (result, base)
    )
    if scores.keys() != scores_of_base.keys():
        raise ParameterError("results of different songs; score both on the same ones")
    return np.stack([scores[name] - scores_of_base[name] for name in scores])


def results_folder() -> Path:
    """Find the folder of the results that come with the library.

    Returns
    -------
    Path
        ``sepkit/results`` where the package is installed, ``book/results`` in a checkout.
    """
    installed = Path(__file__).parent / "results"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "book" / "results"


def read_results(folder: str | Path | None = None) -> dict[tuple[str, int], dict]:
    """Read the arms' results that are there.

    Parameters
    ----------
    folder : str or Path, optional
        Their folder; `results_folder` by default.

    Returns
    -------
    dict of (str, int) to dict
        Contents by arm and seed, in the order of `ARMS`.
    """
    found = {}
    for name in (*ARMS, *EXPERIMENTS):
        for path in sorted(Path(folder or results_folder()).glob(f"{name}-[0-9]*.json")):
            seed = path.stem.removeprefix(f"{name}-")
            if seed.isdigit():
                found[name, int(seed)] = json.loads(path.read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Effect:
    """What an arm's change has done to the scores of the validation songs.

    Parameters
    ----------
    arm, base : str
        Names in `ARMS`; the base is what the arm is compared with.
    seed : int
        Seed of both.
    gain : ndarray of shape (n_songs, 3, 4)
        What SDR, SIR, SAR of each source have gained [dB].
    """

    arm: str
    base: str
    seed: int
    gain: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Gain of SDR, SIR, SAR, mean over sources and songs: (3,) [dB]."""
        return self.gain.mean(axis=(0, 2))

    @property
    def error(self) -> np.ndarray:
        """Standard error of `mean` over songs: (3,) [dB]."""
        return self.gain.mean(axis=2).std(axis=0, ddof=1) / len(self.gain) ** 0.5


def effects(folder: str | Path | None = None, *, mode: str = "song") -> dict[str, Effect]:
    """Compare each arm that is there with its base, for the first seed.

    Parameters
    ----------
    folder : str or Path, optional
        Of the results; `results_folder` by default.
    mode : {"report", "song"}
        How the songs were separated.

    Returns
    -------
    dict of str to Effect
        By arm, in the order of `ARMS`.
    """
    results = read_results(folder)
    return {
        name: Effect(name, arm.base, 0, differences(results[name, 0], results[arm.base, 0], mode))
        for name, arm in ARMS.items()
        if (name, 0) in results and (arm.base, 0) in results
    }


def table(folder: str | Path | None = None, *, mode: str = "song") -> str:
    """Lay the arms' results out as a table in Markdown.

    Parameters
    ----------
    folder : str or Path, optional
        Their folder; `results_folder` by default.
    mode : {"report", "song"}
        How the songs were separated.

    Returns
    -------
    str
        A line an arm and seed: means over sources and songs [dB], and the differences from the
        arm's base, if it is there, with their standard errors over songs.
    """
    results = read_results(folder)
    lines = [
        "| group | arm | what is changed | seed | SDR | SIR | SAR | against | SDR | SIR | SAR |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for (name, seed), result in results.items():
        arm = get_arm(name)
        means = [np.mean(result["scores"][mode]["report"]["mean"][m]) for m in METRICS]
        cells = [arm.group, name, arm.experiment.description, str(seed)]
        cells += [f"{value:.2f}" for value in means]
        if (arm.base, seed) in results:
            gain = differences(result, results[arm.base, seed], mode)
            cells += [arm.base, *_told(Effect(name, arm.base, seed, gain))]
        else:
            cells += [""] * 4
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def effects_table(compared: Sequence[Effect]) -> str:
    """Lay effects out as a table in Markdown, with the commands that make them again.

    Parameters
    ----------
    compared : sequence of Effect
        Of `effects`.

    Returns
    -------
    str
        A line an effect: means over sources and songs [dB], with their standard errors.
    """
    lines = [
        "| what is changed | against | SDR | SIR | SAR | `sepkit ablate` |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for effect in compared:
        what = ARMS[effect.arm].experiment.description
        cells = [what, effect.base, *_told(effect), f"`{effect.arm}`"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _told(effect: Effect) -> list[str]:
    pairs = zip(effect.mean, effect.error, strict=True)
    return [f"{mean:+.2f} ± {error:.2f}".replace("-", "−") for mean, error in pairs]


def score_as_trained(
    tracks: Sequence[Track], weights: str | Path, *, transform: Transform
) -> list[Evaluation]:
    """Score a network that was trained with another STFT, or other contexts, in both modes.

    In mode "report" the samples count that count for the report's network, what fills whole
    batches of its 32 segments, however long this one's segments are.

    Parameters
    ----------
    tracks : sequence of Track
        The songs, of which the left channel is heard.
    weights : str or Path
        Weight file of a network of one channel.
    transform : sepkit.spectral.Transform
        The STFT that it was trained with.

    Returns
    -------
    list of Evaluation
        Modes "report" (`separate_segments`) and "song" (`separate_song`, a context every 5
        frames).
    """
    from sepkit import model

    trained = model.load_model(weights)
    pairs = network.matrices(model.get_parameters(trained))
    hop = separation.HOP_CONTEXTS
    scored = [Evaluation("report"), Evaluation("song", hop)]
    for track in tracks:
        stems = np.stack([stem[:, :1] for stem in track.excerpt().stems.values()])
        mixture = stems.sum(axis=0)
        batch = separation.REPORT_BATCH * spectral.SEGMENT
        kept = len(mixture) // batch * batch
        ways = (
            separate_segments(trained, mixture, transform=transform)[:, :kept],
            separate_song(pairs, mixture, transform=transform, hop=hop),
        )
        for evaluation, estimates in zip(scored, ways, strict=True):
            references = stems[:, : estimates.shape[1], 0]
            scores = metrics.report_scores(references, estimates[..., 0])
            evaluation.songs.append(SongScores(track.name, scores[np.newaxis]))
    return scored


def separate_segments(model, mixture: np.ndarray, *, transform: Transform) -> np.ndarray:
    """Separate segments end to end as in training, with another STFT: their edges fade.

    Parameters
    ----------
    model : keras.Model
        Of `sepkit.build_model`.
    mixture : ndarray of shape (n_samples, n_channels), float32
        A song of as many channels.
    transform : sepkit.spectral.Transform
        The STFT.

    Returns
    -------
    ndarray of shape (n_sources, n_samples, n_channels), float32
        Estimates.
    """
    from sepkit import training

    _, context, _, channels, n_sources = model.output_shape
    pieces = spectral.segments(mixture, length=transform.count_samples(context))
    estimates = training.separate_segments(model, pieces, transform=transform).numpy()
    return np.moveaxis(estimates.reshape(-1, channels, n_sources)[: len(mixture)], -1, 0)


def separate_song(
    pairs: dict, mixture: np.ndarray, *, transform: Transform, hop: int
) -> np.ndarray:
    """Separate a song as `sepkit.separate` does, with another STFT.

    Parameters
    ----------
    pairs : dict
        The network's `sepkit.network.matrices`.
    mixture : ndarray of shape (n_samples, n_channels), float32
        A song of as many channels.
    transform : sepkit.spectral.Transform
        The STFT.
    hop : int
        Frames between the starts of contexts.

    Returns
    -------
    ndarray of shape (n_sources, n_samples, n_channels), float32
        Estimates, which sum to the song.
    """
    import librosa

    options = {"hop_length": transform.hop, "window": transform.values(), "center": False}
    # As many frames as overlap cover every sample, the first and the last one too.
    before = FRAME - transform.hop
    padded = np.pad(mixture, [(before, FRAME), (0, 0)])
    spectrum = librosa.stft(padded.T, n_fft=FRAME, **options).T
    estimates = separation.mean_masks(pairs, np.abs(spectrum), hop) * spectrum
    sounds = librosa.istft(estimates.transpose(0, 3, 2, 1), **options)
    return sounds[..., before : before + len(mixture)].swapaxes(1, 2)
