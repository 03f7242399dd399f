"""Blind listening tests of a page: ABX, and ratings with a hidden reference and anchors (MUSHRA).

All sounds of a test are equally loud by ITU-R BS.1770. A page loads them as scripts, one for each
pair or trial, and switches between them in memory: a page from disk may load nothing else, and
media elements do not loop without a gap.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import scipy.signal
import scipy.stats
from IPython.display import HTML
from matplotlib.figure import Figure

import sepkit
from sepkit.errors import AudioError, ParameterError
from sepkit.metrics import METRICS, report_scores
from sepkit.notebook import media
from sepkit.notebook.explorer import Step
from sepkit.notebook.live import live
from sepkit.notebook.loudness import integrated_loudness

LOUDNESS = -23.0
"""Loudness of all sounds [LUFS], unless one of them would exceed full scale; EBU R 128."""

N_TRIALS = 10
"""Trials of an ABX test, where the listener chooses no other number."""

ANCHOR = 3500.0
"""Cutoff of the low-pass anchor of ITU-R BS.1534-3 [Hz]."""

REFERENCE, LOW_PASS, LEAKAGE = "hidden reference", "low-pass anchor", "leakage anchor"
"""What `mushra_test` adds to the systems of a trial."""

_FADE = 0.01
"""Fade at both ends of a loop [s]."""


@dataclass(frozen=True)
class Trial:
    """Estimates of one source of a song, to be rated.

    Attributes
    ----------
    song, source : str
        Title of the song, and which of its sources is estimated.
    truths : mapping of str to ndarray of shape (n_samples, n_channels)
        The true stems by source.
    systems : mapping of str to ndarray of shape (n_samples, n_channels)
        By name of a system, its estimate of the source.
    """

    song: str
    source: str
    truths: Mapping[str, np.ndarray]
    systems: Mapping[str, np.ndarray]


def abx_test(
    pairs: Mapping[str, Mapping[str, np.ndarray]],
    rate: int,
    *,
    title: str,
    licence: str | None = None,
    licence_link: str | None = None,
) -> HTML:
    """Show an ABX test: X is A or B, and the reader says which.

    Parameters
    ----------
    pairs : mapping of str to mapping of str to ndarray of shape (n_samples, n_channels)
        By name of a pair, its two sounds by their names, A and B, of one shape.
    rate : int
        Sample rate [Hz].
    title : str
        Heading of the picture that stands there where scripts are off.
    licence, licence_link : str, optional
        Line below, and address of the licence, as for `sepkit.notebook.explorer.explore`.

    Returns
    -------
    IPython.display.HTML
        The last expression of a cell shows it. In a notebook, the chances of guessing and the first
        pair's sounds, A before B.

    Raises
    ------
    ParameterError
        When a pair has other than two sounds, or two of different shapes; a page has no licence.
    AudioError
        When a sound is too short, too quiet or not finite, so that it has no loudness.
    """
    described, first = [], None
    for name, sounds in pairs.items():
        if len(sounds) != 2:
            raise ParameterError(f"{name}: {len(sounds)} sounds; an ABX test compares two")
        matched = match_loudness(sounds, rate)
        if first is None:
            pause = np.zeros((rate // 2, matched[0].shape[1]), np.float32)
            first = np.concatenate([matched[0], pause, matched[1]])
        described.append({"name": name, "sounds": list(sounds), **_save(matched, rate)})
    if first is None:
        raise ParameterError(f"{title}: no pair of sounds; give one or more")
    step = Step(
        _draw_guessing(),
        alt=f"Bars of the number of correct answers that guessing gives in {N_TRIALS} trials: "
        "5 in a quarter of tests, 9 or 10 in about one of a hundred.",
        sound=first,
        rate=rate,
    )
    return live(
        "abx-test",
        step,
        title=title,
        licence=licence,
        licence_link=licence_link,
        attributes={"test": _describe(described)},
    )


def mushra_test(
    trials: Sequence[Trial],
    rate: int,
    *,
    title: str,
    licence: str | None = None,
    licence_link: str | None = None,
) -> HTML:
    """Show a rating test with a hidden reference and anchors, after ITU-R BS.1534 (MUSHRA).

    Each trial has the true stem as the open and the hidden reference, two anchors, and the systems.
    The anchors are the reference without what lies above 3.5 kHz, the recommendation's low anchor
    (its other one, at 7 kHz, is left out), and the reference with the rest of the song at the same
    loudness, since separation has leakage. Each sound carries its scores by the report's metrics,
    means over channels, for the command that joins the ratings.

    Parameters
    ----------
    trials : sequence of Trial
        What is rated, all with the same systems.
    rate : int
        Sample rate [Hz].
    title, licence, licence_link : str
        As for `abx_test`.

    Returns
    -------
    IPython.display.HTML
        The last expression of a cell shows it. In a notebook, the scale and the first reference.

    Raises
    ------
    ParameterError
        When there is no trial, the systems of trials differ, or shapes do; as `abx_test` too.
    AudioError
        As for `abx_test`.
    """
    if not trials:
        raise ParameterError(f"{title}: no trial; give one or more")
    described, first = [], None
    for trial in trials:
        if list(trial.systems) != list(trials[0].systems):
            raise ParameterError(f"{trial.song}: other systems than {trials[0].song}")
        sounds = stimuli(trial, rate)
        matched = match_loudness(sounds, rate)
        first = matched[0] if first is None else first
        told = [
            {"system": name, "kind": _kind(name), "scores": score(trial, sound)}
            for name, sound in sounds.items()
        ]
        named = {"song": trial.song, "source": trial.source, "stimuli": told}
        described.append(named | _save(matched, rate))
    step = Step(
        _draw_scale(),
        alt="A scale from 0 to 100 in five equal parts: bad, poor, fair, good, excellent.",
        sound=first,
        rate=rate,
    )
    return live(
        "mushra-test",
        step,
        title=title,
        licence=licence,
        licence_link=licence_link,
        attributes={"test": _describe(described)},
    )


def stimuli(trial: Trial, rate: int) -> dict[str, np.ndarray]:
    """Return the sounds of a trial: hidden reference, two anchors, systems."""
    if trial.source not in trial.truths:
        raise ParameterError(f"{trial.song}: no true stem {trial.source!r}")
    reference = trial.truths[trial.source]
    rest = sum(stem for name, stem in trial.truths.items() if name != trial.source)
    levels = [integrated_loudness(sound, rate) for sound in (reference, np.asarray(rest))]
    if not np.isfinite(levels).all():
        raise AudioError(f"{trial.song}, {trial.source}: too quiet or too short to be rated")
    leaked = reference + rest * 10 ** ((levels[0] - levels[1]) / 20)
    return {
        REFERENCE: reference,
        LOW_PASS: low_pass(reference, rate),
        LEAKAGE: leaked,
        **trial.systems,
    }


def low_pass(sound: np.ndarray, rate: int) -> np.ndarray:
    """Remove what lies above 3.5 kHz from a sound (n_samples, n_channels), without delay.

    The filter is that of ITU-R BS.1534-3: within 0.1 dB up to 3.5 kHz, at least 25 dB down at
    4 kHz and 50 dB at 4.5 kHz.
    """
    width = 500.0  # from the last frequency that passes to the first that does not [Hz]
    n_taps, beta = scipy.signal.kaiserord(60, width / (rate / 2))
    taps = scipy.signal.firwin(n_taps | 1, ANCHOR + width / 2, window=("kaiser", beta), fs=rate)
    filtered = scipy.signal.fftconvolve(sound, taps[:, np.newaxis], mode="same", axes=0)
    return filtered.astype(np.float32)


def match_loudness(sounds: Mapping[str, np.ndarray], rate: int) -> list[np.ndarray]:
    """Make sounds (n_samples, n_channels) equally loud, for a loop whose ends fade.

    Returns
    -------
    list of ndarray
        Float32 sounds of -23 LUFS or, if one would exceed full scale, all softer by one gain.

    Raises
    ------
    ParameterError
        When the shapes differ, or are none of audio.
    AudioError
        When a sound is too short or too quiet to have a loudness, or holds NaN.
    """
    matched = []
    for name, sound in sounds.items():
        media.check_sound(name, sound, rate)
        if sound.shape != next(iter(sounds.values())).shape:
            raise ParameterError(f"{name}: {sound.shape} samples; give all sounds one shape")
        edge = np.linspace(0, 1, round(_FADE * rate))[:, np.newaxis]
        faded = sound.astype(np.float64)
        faded[: len(edge)] *= edge[: len(faded)]
        faded[-len(edge) :] *= edge[::-1][-len(faded) :]
        loudness = integrated_loudness(faded, rate)
        if not np.isfinite(loudness):
            raise AudioError(
                f"{name}: has no loudness; give half a second or more that is not silent"
            )
        matched.append(faded * 10 ** ((LOUDNESS - loudness) / 20))
    peak = max(float(np.abs(sound).max()) for sound in matched)
    return [(sound / max(1.0, peak)).astype(np.float32) for sound in matched]


def _kind(name: str) -> str:
    if name == REFERENCE:
        return "reference"
    return "anchor" if name in (LOW_PASS, LEAKAGE) else "system"


def score(trial: Trial, sound: np.ndarray) -> dict[str, float | None]:
    """Score one sound against the true stems; None where a ratio is not finite."""
    index = list(trial.truths).index(trial.source)
    truths = np.stack(list(trial.truths.values()))
    by_channel = []
    for channel in range(sound.shape[1]):
        references = truths[..., channel]
        estimates = references.copy()
        estimates[index] = sound[:, channel]
        by_channel.append(report_scores(references, estimates)[:, index])
    means = np.mean(by_channel, axis=0)
    # Beyond 100 dB a ratio is one of rounding errors.
    return {
        metric: round(float(value), 3) if np.abs(value) < 100 else None
        for metric, value in zip(METRICS, means, strict=True)
    }


def _save(sounds: Sequence[np.ndarray], rate: int) -> dict[str, Any]:
    """Write sounds as a script of the site; say its name, file and size, nothing in a notebook."""
    directory = media.site_directory()
    if directory is None:
        return {}
    coded = [base64.b64encode(media.flac(sound, rate)).decode() for sound in sounds]
    content = json.dumps({"rate": rate, "sounds": coded})
    name = hashlib.sha256(content.encode()).hexdigest()[:20]
    script = f"sepkitPart({json.dumps(name)}, {content});\n".encode()
    # Not .js: Jupyter Book would have every page load it.
    file = media.saved(script, "text/mjs", directory)
    return {"part": name, "file": f"_static/audio/{file}", "bytes": len(script)}


def _describe(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Describe a test for its element; its name tells tests with other sounds apart."""
    content = json.dumps(trials, sort_keys=True).encode()
    name = hashlib.sha256(content).hexdigest()[:12]
    return {"name": name, "page": f"sepkit {sepkit.__version__}", "trials": list(trials)}


def _draw_guessing() -> Figure:
    figure, ax = plt.subplots(figsize=(4.4, 2.2), layout="constrained")
    right = np.arange(N_TRIALS + 1)
    chances = scipy.stats.binom.pmf(right, N_TRIALS, 0.5)
    rare = scipy.stats.binom.sf(right - 1, N_TRIALS, 0.5) <= 0.05
    ax.bar(right, 100 * chances, color=np.where(rare, "#d55e00", "#0072b2"))
    ax.set_xticks(right)
    ax.set(xlabel=f"correct answers of {N_TRIALS} by guessing", ylabel="% of tests")
    return figure


def _draw_scale() -> Figure:
    figure, ax = plt.subplots(figsize=(4.4, 0.9), layout="constrained")
    for i, word in enumerate(("bad", "poor", "fair", "good", "excellent")):
        ax.barh(0, 20, left=20 * i, color="#0072b2", alpha=0.2 + 0.15 * i, height=1)
        ax.text(20 * i + 10, 0, word, ha="center", va="center", fontsize=8)
    ax.set(xlim=(0, 100), yticks=[], xlabel="rating")
    ax.set_xticks(range(0, 101, 20))
    return figure
