"""Tables in Markdown, for the book, the README and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepkit.errors import import_optional
from sepkit.metrics import METRICS
from sepkit.study.arms import ARMS, get_arm
from sepkit.study.results import Effect, differences, read_results
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
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def with_deviation(mean: float, deviation: float, digits: int = 1) -> str:
    """Format a mean and its deviation: "−0.3 ± 1.2"."""
    text = f"{mean:.{digits}f} ± {deviation:.{digits}f}"
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


def effects_table(compared: Sequence[Effect]) -> str:
    """Format effects, means over sources and songs [dB] ± standard error, and their commands."""
    headings = ["what is changed", "against", *METRICS, "`sepkit ablate`"]
    rows = [
        [ARMS[e.arm].experiment.description, e.base, *_gains(e), f"`{e.arm}`"] for e in compared
    ]
    return markdown(headings, rows, align="llrrrl")


def _gains(effect: Effect) -> list[str]:
    pairs = zip(effect.mean, effect.error, strict=True)
    return [f"{signed(mean)} ± {error:.2f}" for mean, error in pairs]


def arms_table(folder: str | Path | None = None, *, mode: str = "song") -> str:
    """Format the results of arms: means over sources and songs [dB], and differences from the base.

    Without a folder, the results that come with the library are shown; they also serve as bases
    for arms of another folder whose base is not in it. Differences have standard errors over songs.
    """
    results = read_results(folder)
    bases = read_results() | results
    rows = []
    for (name, seed), result in results.items():
        arm = get_arm(name)
        means = [np.mean(result["scores"][mode]["report"]["mean"][m]) for m in METRICS]
        row = [arm.group, name, arm.experiment.description, str(seed)]
        row += [f"{value:.2f}" for value in means]
        if (arm.base, seed) in bases:
            gain = differences(result, bases[arm.base, seed], mode)
            row += [arm.base, *_gains(Effect(name, arm.base, seed, gain))]
        else:
            row += [""] * 4
        rows.append(row)
    headings = ["group", "arm", "what is changed", "seed", *METRICS, "against", *METRICS]
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
    headings = ["what, against what", "here", "instead", "ratio", "goal", "of its limit"]
    return markdown(headings, lines, align="lrrrrr")


def _three_digits(value: float) -> str:
    """Format a number with three significant digits and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
