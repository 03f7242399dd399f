"""Tables in Markdown, for the book, the README and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepkit.errors import import_optional
from sepkit.metrics import METRICS
from sepkit.study.arms import ARMS, get_arm
from sepkit.study.results import read_results
from sepkit.study.statistics import (
    Effect,
    Estimate,
    Reproduction,
    effects,
    mean_scores,
    verdicts,
)
from sepkit.tracks import SOURCES


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], *, align: str) -> str:
    """Format a table in Markdown; `align` has a letter per column, "l" left or "r" right."""
    tabulate = import_optional("tabulate", "evaluation")
    sides = ["right" if letter == "r" else "left" for letter in align]
    table = tabulate.tabulate(
        rows, headers=headings, tablefmt="pipe", colalign=sides, disable_numparse=True
    )
    return str(table)


def signed(value: float, digits: int = 2) -> str:
    """Format a number with its sign, with a typographic minus that does not break off."""
    rounded = round(value, digits) + 0.0  # no negative zero
    return f"{rounded:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def with_deviation(mean: float | None, deviation: float | None, digits: int = 1) -> str:
    """Format a mean and its deviation: "−0.3 ± 1.2"; "–" for what is not defined, "∞" if endless.

    Ratios above 100 dB are those of rounding errors.
    """
    if mean is None or deviation is None:
        return "–"
    if mean > 100:
        return "∞"
    text = f"{round(mean, digits) + 0.0:.{digits}f} ± {deviation:.{digits}f}"  # no negative zero
    return text.replace("-", "\N{MINUS SIGN}")


def scores_table(
    rows: Mapping[str, Mapping[str, Any]], *, metrics_shown: Sequence[str] = METRICS
) -> str:
    """Format the scores of several systems: a line per metric and label, mean ± deviation [dB].

    `rows` maps labels to ``{"mean": {"SDR": [...], ...}, "deviation": {...}}`` in the order of
    `sepkit.SOURCES`: ``card["scores"][mode]["report"]``, or an entry of
    `sepkit.study.cards.published_scores`.
    """
    lines = []
    for metric in metrics_shown:
        for i, (label, scored) in enumerate(rows.items()):
            pairs = zip(scored["mean"][metric], scored["deviation"][metric], strict=True)
            lines.append(["" if i else metric, label, *(with_deviation(*pair) for pair in pairs)])
    return markdown(["dB", "", *SOURCES], lines, align="ll" + "r" * len(SOURCES))


def with_interval(estimate: Estimate, index: int | tuple[int, ...], verdict: str = "open") -> str:
    """Format one mean of an estimate, its 95 % interval and, but for "open", a verdict on it."""
    low, high = (end[index] for end in estimate.interval())
    text = f"{signed(estimate.mean[index])} [{signed(low)},\N{NO-BREAK SPACE}{signed(high)}]"
    return text if verdict == "open" else f"{text} {verdict}"


def effects_table(compared: Sequence[Effect], judged: Mapping[str, Sequence[str]]) -> str:
    """Format effects: means over sources and songs [dB], 95 % intervals, verdicts, seeds.

    `judged` holds the verdicts on SDR, SIR and SAR by arm
    (`sepkit.study.statistics.verdicts` of the family that they belong to).
    """
    headings = ["what is changed", "against", *METRICS, "seeds", "`sepkit ablate`"]
    rows = [
        [ARMS[e.arm].experiment.description, e.base, *_gains(e, judged[e.arm]),
         " and ".join(map(str, e.seeds)), f"`{e.arm}`"]
        for e in compared
    ]  # fmt: skip
    return markdown(headings, rows, align="llrrrll")


def _gains(effect: Effect, verdicts: Sequence[str]) -> list[str]:
    return [with_interval(effect.total, i, verdict) for i, verdict in enumerate(verdicts)]


def by_source_table(effect: Effect) -> str:
    """Format the gains of an effect by source, and their mean, with 95 % intervals [dB]."""
    rows = []
    for i, metric in enumerate(METRICS):
        cells = [with_interval(effect.by_source, (i, j)) for j in range(len(SOURCES))]
        rows.append([metric, *cells, with_interval(effect.total, i)])
    return markdown(["gain [dB]", *SOURCES, "mean"], rows, align="lrrrrr")


def reproduction_table(reproduced: Mapping[str, Reproduction]) -> str:
    """Format how experiments compare with the report: ours minus its figures [dB], z, a word."""
    rows = []
    for name, made in reproduced.items():
        for i, metric in enumerate(METRICS):
            cells = [
                f"{signed(made.difference[i, j], 1)} ({signed(made.z[i, j], 1)}) {word}"
                for j, word in enumerate(made.words[i])
            ]
            rows.append(["" if i else name.replace("experiment", "Experiment "), metric, *cells])
    headings = ["ours minus the report's [dB] (z)", "", *SOURCES]
    return markdown(headings, rows, align="llrrrr")


def arms_table(folder: str | Path | None = None, *, mode: str = "song") -> str:
    """Format the results of arms: scores, and gains over the base with verdicts [dB].

    Scores are means over seeds, sources and songs; gains have 95 % intervals over songs and seeds.
    Without a folder, the results that come with the library are shown; they also serve as bases for
    the arms of another folder. Verdicts are corrected for all arms that the table shows.
    """
    results = read_results(folder)
    compared = effects(folder, mode=mode)
    judged = verdicts(compared)
    rows = []
    for name in dict.fromkeys(name for name, _ in results):
        arm = get_arm(name)
        cards = [card for (other, _), card in results.items() if other == name]
        means = np.mean(list(mean_scores(cards, mode).values()), axis=(0, 2))
        row = [arm.group, name, arm.experiment.description, str(len(cards))]
        row += [f"{value:.2f}" for value in means]
        if name in compared:
            row += [arm.base, *_gains(compared[name], judged[name])]
        else:
            row += [""] * 4
        rows.append(row)
    headings = ["group", "arm", "what is changed", "seeds", *METRICS, "against", *METRICS]
    return markdown(headings, rows, align="lllrrrrlrrr")


def benchmarks_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format measurements of speed: here, instead, ratio, goal, fraction of the limit."""
    lines = []
    for row in rows:
        unit = f" {row['unit']}" if row["unit"] else ""
        against = f", against {row['against']}" if row["against"] else ""
        instead = goal = limit = "–"
        if row["theirs"] is not None:
            instead = f"{_three_digits(row['theirs'])}{unit}"
        if row["goal"] is not None:
            goal = f"{_three_digits(row['goal'])}{'' if row['met'] else ', **missed**'}"
        if row["fraction"] is not None:
            limit = f"{100 * row['fraction']:.0f} %"
        here, ratio = f"{_three_digits(row['ours'])}{unit}", _three_digits(row["ratio"])
        lines.append([row["name"] + against, here, instead, ratio, goal, limit])
    headings = ["benchmark", "sepkit", "baseline", "ratio", "goal", "share of the limit"]
    return markdown(headings, lines, align="lrrrrr")


def _three_digits(value: float) -> str:
    """Format a number with three significant digits and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
