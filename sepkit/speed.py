"""The benchmarks that `make bench` has measured, read and laid out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from sepkit.errors import SepkitError


def results_file() -> Path:
    """Find the results that come with the library.

    Returns
    -------
    Path
        ``sepkit/benchmarks/results.json`` where the package is installed,
        ``benchmarks/results.json`` in a checkout.
    """
    name = Path("benchmarks", "results.json")
    installed = Path(__file__).parent / name
    return installed if installed.is_file() else Path(__file__).parents[1] / name


def read_results(path: str | os.PathLike | None = None) -> dict:
    """Read what was measured.

    Parameters
    ----------
    path : str or Path, optional
        A results file; `results_file` by default.

    Returns
    -------
    dict
        machine, versions, commit, date; rows, a dict each: group, name, ours and theirs in
        `unit`, ratio, goal, met, spread, limit and the fraction of it that is reached, note; and
        growth: seconds of sound, time [s] and peak memory [MiB].

    Raises
    ------
    SepkitError
        When there are no results.
    """
    path = Path(path or results_file())
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise SepkitError(f"{path}: no results there; `make bench` measures them") from None


def table(rows: Sequence[dict]) -> str:
    """Lay rows out as a table in Markdown.

    Parameters
    ----------
    rows : sequence of dict
        Of `read_results`.

    Returns
    -------
    str
        A line a row: what, against what, here, instead, how many times better, the goal for that,
        and the part of its limit that is reached.
    """
    lines = [
        "| what, against what | here | instead | ratio | goal | of its limit |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        unit = f" {row['unit']}" if row["unit"] else ""
        against = f", against {row['against']}" if row["against"] else ""
        instead = goal = limit = "–"
        if row["theirs"] is not None:
            instead = f"{_short(row['theirs'])}{unit}"
        if row["goal"] is not None:
            goal = f"{_short(row['goal'])}{'' if row['met'] else ', **missed**'}"
        if row["fraction"] is not None:
            limit = f"{100 * row['fraction']:.0f} %"
        cells = [row["name"] + against, f"{_short(row['ours'])}{unit}", instead]
        lines.append(f"| {' | '.join([*cells, _short(row['ratio']), goal, limit])} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    """Write a number with three digits that count, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
