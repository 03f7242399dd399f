"""Figures of the book: waveforms, spectrograms, masks, filters, scores.

Functions with an argument `ax` draw on it, or on new axes, and return them; the others return the
figure. All are as wide as a page of the book, whose style
``plt.style.use("sepkit.notebook.book")`` sets.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sepkit.errors import MissingPackageError
from sepkit.metrics import METRICS
from sepkit.notebook.media import COLOURS as COLOURS
from sepkit.stft import EDGE_LENGTH, FRAME_LENGTH, HOP_LENGTH
from sepkit.tracks import RATE, SOURCES

try:
    import matplotlib.pyplot as plt
    from ipywidgets import Widget
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingPackageError(
        "figures need matplotlib and ipywidgets; install them with: pip install 'sepkit[notebook]'"
    ) from error

WIDTH = 4.4
"""Width of a figure [inches]."""

_WIDGET = "application/vnd.jupyter.widget-view+json"


def waveform(
    audio: np.ndarray, rate: int = RATE, *, ax: Axes | None = None, colour: str = "#0072b2"
) -> Axes:
    """Plot a waveform (n_samples, n_channels), channels averaged, over time in seconds."""
    ax = ax or plt.subplots(figsize=(WIDTH, 1.5), layout="constrained")[1]
    time = np.arange(len(audio)) / rate
    ax.plot(time, audio.mean(axis=1), color=colour, linewidth=0.6)
    ax.set(xlabel="time [s]", ylabel="amplitude", xlim=(0, len(audio) / rate))
    return ax


def spectrogram(
    spectrum: np.ndarray,
    *,
    ax: Axes | None = None,
    highest: float = 16000.0,
    reference: float | None = None,
    dynamic: float = 80.0,
) -> Axes:
    """Plot a magnitude spectrogram in decibels on a mel frequency axis, channels averaged.

    `spectrum` is complex or magnitudes, (n_frames, 513, n_channels); `highest` is the highest
    frequency [Hz], `reference` the magnitude at 0 dB (the peak by default), `dynamic` the range of
    levels [dB].
    """
    ax = ax or plt.subplots(figsize=(WIDTH, 2.2), layout="constrained")[1]
    magnitudes = np.abs(spectrum).mean(axis=2).T
    peak = float(magnitudes.max(initial=0.0)) or 1.0
    # No lower than 100 dB below full scale, as the logarithm of silence.
    levels = 20 * np.log10(np.maximum(magnitudes, 1e-5) / max(reference or peak, 1e-5))
    image = _image(ax, levels, highest, vmin=-dynamic, vmax=0.0, cmap="magma")
    ax.figure.colorbar(image, ax=ax, label="level [dB]", pad=0.01)
    return ax


def mask(
    values: np.ndarray, *, ax: Axes | None = None, highest: float = 16000.0, title: str = ""
) -> Axes:
    """Plot the mask of one source (n_frames, 513, n_channels), channels averaged.

    Black is 0, yellow is 1; `highest` is the highest frequency [Hz].
    """
    ax = ax or plt.subplots(figsize=(WIDTH, 2.2), layout="constrained")[1]
    image = _image(ax, values.mean(axis=2).T, highest, vmin=0.0, vmax=1.0, cmap="inferno")
    ax.figure.colorbar(image, ax=ax, label="mask", pad=0.01)
    ax.set_title(title)
    return ax


def timbre_filters(kernel: np.ndarray, *, ax: Axes | None = None, highest: float = 16000.0) -> Axes:
    """Plot filters (513, n_channels, n_filters) of a vertical convolution, scaled to their peaks.

    Red is a positive weight, blue a negative one; `highest` is the highest frequency [Hz].
    """
    ax = ax or plt.subplots(figsize=(WIDTH, 2.2), layout="constrained")[1]
    weights = kernel.mean(axis=1)
    peaks = np.abs(weights).max(axis=0)
    weights = weights / np.where(peaks > 0, peaks, 1)
    columns = np.arange(weights.shape[1] + 1) - 0.5
    image = ax.pcolormesh(
        columns, _bin_edges(len(weights)), weights, cmap="RdBu_r", vmin=-1, vmax=1, rasterized=True
    )
    ax.figure.colorbar(image, ax=ax, label="weight / peak", pad=0.01)
    _mel_frequency(ax, highest)
    ax.set_xlabel("filter")
    return ax


def _image(ax: Axes, picture: np.ndarray, highest: float, **options):
    # Frame n spans half a hop on either side of its centre; it starts at sample 256 n - 768.
    times = (
        (np.arange(picture.shape[1] + 1) - 0.5) * HOP_LENGTH + FRAME_LENGTH // 2 - EDGE_LENGTH
    ) / RATE
    image = ax.pcolormesh(times, _bin_edges(len(picture)), picture, rasterized=True, **options)
    _mel_frequency(ax, highest)
    ax.set_xlabel("time [s]")
    ax.set_xlim(0, times[-1])
    return image


def _bin_edges(n_bins: int) -> np.ndarray:
    # Bin k spans half a bin on either side of its centre, k * 43 Hz; bin 0 has one side only.
    return np.maximum((np.arange(n_bins + 1) - 0.5) * RATE / FRAME_LENGTH, 0)


def _mel_frequency(ax: Axes, highest: float) -> None:
    # Nearly linear below 1 kHz, where a logarithmic axis gives a third of itself to four bins, and
    # nearly logarithmic above (O'Shaughnessy, Speech Communication, 1987).
    ax.set_yscale("function", functions=(_hertz_to_mel, _mel_to_hertz))
    ticks = [hertz for hertz in (0, 200, 500, 1000, 2000, 5000, 10000) if hertz < highest]
    ax.set_yticks(ticks, [f"{hertz // 1000} k" if hertz >= 1000 else str(hertz) for hertz in ticks])
    ax.minorticks_off()
    ax.set(ylabel="frequency [Hz]", ylim=(0, highest))


def _hertz_to_mel(hertz: np.ndarray) -> np.ndarray:
    # Axes may ask for a little less than 0 Hz.
    return 2595 * np.log10(1 + np.maximum(hertz, -650) / 700)


def _mel_to_hertz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


def source_masks(masks: np.ndarray, *, highest: float = 16000.0) -> Figure:
    """Plot the masks (4, n_frames, 513, n_channels) of a song, one below the other."""
    figure, axes = plt.subplots(
        4, 1, figsize=(WIDTH, 6.4), sharex=True, sharey=True, layout="constrained"
    )
    for source, values, ax in zip(SOURCES, masks, axes, strict=True):
        mask(values, ax=ax, highest=highest, title=source)
        ax.label_outer()
    return figure


def scores(evaluations: Mapping[str, Mapping], *, measure: str = "report") -> Figure:
    """Plot the scores of songs as boxes, one panel each for SDR, SIR and SAR.

    `evaluations` maps labels to scores in the form of the cards (``card["scores"][mode]``). A box
    per source and label: quartiles, whiskers of at most 1.5 times their distance, a dot for each
    song beyond, the mean as a diamond.
    """
    figure, axes = plt.subplots(3, 1, figsize=(WIDTH, 6), sharex=True, layout="constrained")
    width = 0.8 / len(evaluations)
    for metric, ax in zip(METRICS, axes, strict=True):
        for j, scored in enumerate(evaluations.values()):
            for i, source in enumerate(SOURCES):
                ax.boxplot(
                    song_scores(scored, metric, source, measure=measure),
                    positions=[i + (j + 0.5) * width - 0.4],
                    widths=0.85 * width,
                    patch_artist=True,
                    showmeans=True,
                    boxprops={"facecolor": COLOURS[source], "alpha": 0.35 + 0.5 * (j % 2)},
                    medianprops={"color": "black"},
                    meanprops={"marker": "D", "markerfacecolor": "white",
                               "markeredgecolor": "black", "markersize": 4},
                    flierprops={"markersize": 2},
                )  # fmt: skip
        ax.axhline(0, color="#999999", linewidth=0.6, zorder=0)
        ax.set_xticks(range(len(SOURCES)), SOURCES)
        ax.set_ylabel(f"{metric} [dB]")
    if len(evaluations) > 1:
        # Left to right within a source.
        figure.suptitle("  |  ".join(evaluations), fontsize="medium")
    return figure


def song_scores(
    scored: Mapping, metric: str, source: str, *, measure: str = "report"
) -> Sequence[float]:
    """Return one metric of one source from a card's scores, ``card["scores"][mode]``.

    A value per song and channel [dB], without missing ones.
    """
    index = SOURCES.index(source)
    values = [channel[metric][index] for song in scored["songs"] for channel in song[measure]]
    return [value for value in values if value is not None]


def forest(changes: Mapping[str, Any], judged: Mapping[str, Sequence[str]] | None = None) -> Figure:
    """Plot the gains in SDR, SIR and SAR of changes, a line per change.

    `changes` maps labels to effects (`sepkit.study.statistics.Effect`): a pale dot per song, its
    mean over sources; a mark for the mean of the songs, with its 95 % interval. `judged` holds
    verdicts on the three metrics by arm (`sepkit.study.statistics.verdicts`), which the marks show:
    a filled circle is an effect, a half-filled one likely, a square none, an empty circle open.
    """
    figure, axes = plt.subplots(
        1, 3, figsize=(WIDTH, 0.7 + 0.42 * len(changes)), sharex=True, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for i, (metric, ax) in enumerate(zip(METRICS, axes, strict=True)):
        for row, effect in enumerate(changes.values()):
            ax.plot([0, 0], [row - 0.25, row + 0.25], color="#777777", linewidth=0.8)
            songs = effect.gain[:, i].mean(axis=1)
            ax.plot(songs, np.full(len(songs), row), ".", color="#7f7f7f", alpha=0.4, markersize=4)
            mean, (low, high) = effect.total.mean[i], effect.total.interval()[:, i]
            ax.plot([low, high], [row, row], color="#0072b2", linewidth=1.5)
            verdict = judged[effect.arm][i] if judged else "open"
            ax.plot(mean, row, color="#0072b2", markerfacecoloralt="white", **_MARKS[verdict])
        ax.set(title=metric, xlabel="gain [dB]", ylim=(len(changes) - 0.5, -0.9))
        ax.spines.left.set_visible(False)
        ax.patch.set_visible(False)
    axes[0].set_yticks([])
    for row, label in enumerate(changes):  # above its marks, across the three panels
        axes[0].text(
            0, row - 0.3, label, transform=axes[0].get_yaxis_transform(), fontsize="small",
            in_layout=False,
        )  # fmt: skip
    return figure


_MARKS: dict[str, dict[str, Any]] = {
    "effect": {"marker": "o"},
    "likely": {"marker": "o", "fillstyle": "left"},
    "none": {"marker": "s", "markersize": 5},
    "open": {"marker": "o", "markerfacecolor": "white"},
}


def ladder(rows: Mapping[str, Mapping[str, Any]], *, metric: str = "SDR") -> Figure:
    """Plot one metric of several systems, a line per system, the highest mean over sources on top.

    `rows` maps labels to ``{"mean": {"SDR": [...], ...}}`` in the order of `sepkit.SOURCES` [dB]:
    ``card["scores"][mode]["report"]``, as for `sepkit.study.tables.scores_table`. A mark per source
    and a bar for their mean; a system without scores comes last, and says so.
    """
    means = {label: np.array(scored["mean"][metric], np.float64) for label, scored in rows.items()}
    order = sorted(means, key=lambda label: np.nan_to_num(-means[label].mean(), nan=np.inf))
    figure, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.27 * len(rows)), layout="constrained")
    for row, label in enumerate(order):
        values = means[label]
        if np.isnan(values).any():
            ax.text(0, row, "no score", ha="center", va="center", fontsize="small")
            continue
        ax.plot([values.min(), values.max()], [row, row], color="#cccccc", zorder=0)
        ax.plot(values.mean(), row, "|", color="black", markersize=13, markeredgewidth=2)
        for source, value, marker in zip(SOURCES, values, "os^D", strict=True):
            ax.plot(value, row, marker, color=COLOURS[source], markersize=5)
    handles = [
        ax.plot([], [], marker, color=COLOURS[source], label=source)[0]
        for source, marker in zip(SOURCES, "os^D", strict=True)
    ]
    handles += ax.plot([], [], "|", color="black", markersize=11, markeredgewidth=2, label="mean")
    figure.legend(handles=handles, loc="outside upper center", ncols=5, fontsize="small")
    ax.axvline(0, color="#777777", linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(order)), [textwrap.fill(label, 30) for label in order])
    ax.tick_params(axis="y", labelsize="small")
    ax.set(xlabel=f"{metric} [dB]", ylim=(len(order) - 0.5, -0.5))
    return figure


class _WithFallback:
    """A widget where a kernel runs, HTML in a static page."""

    def __init__(self, widget: Widget, html: str):
        self.widget, self.html = widget, html

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        # ipywidgets 7 shows itself by a method of another name.
        bundle = getattr(self.widget, "_repr_mimebundle_", None)
        shown = bundle() if bundle else {_WIDGET: {"model_id": self.widget.model_id}}
        return {_WIDGET: shown[_WIDGET], "text/html": self.html}


def with_fallback(widget: Widget, *, html: str) -> _WithFallback:
    """Show a widget in a running notebook, and HTML that needs no kernel in a page."""
    return _WithFallback(widget, html)
