"""Results of arms, analyses and benchmarks: the files they are kept in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sepkit import weights
from sepkit.errors import SepkitError
from sepkit.files import packaged, read_json
from sepkit.study.arms import ARMS
from sepkit.study.experiments import EXPERIMENTS


def read_results(folder: str | Path | None = None) -> dict[tuple[str, int], dict[str, Any]]:
    """Read the results of arms in a folder, by default those that come with the library.

    Cards by arm and seed, in the order of `sepkit.study.arms.ARMS`, then the experiments. The cards
    of the library's weights are the experiments' seed 0.
    """
    found = {}
    for name in (*ARMS, *EXPERIMENTS):
        if folder is None and name in EXPERIMENTS:
            found[name, 0] = weights.read_card(name)
        place = Path(folder or packaged("book/results"))
        for path in sorted(place.glob(f"{name}-[0-9]*.json")):
            seed = path.stem.removeprefix(f"{name}-")
            if seed.isdigit():
                found[name, int(seed)] = read_json(path)
    return found


def read_analysis(name: str) -> dict[str, Any]:
    """Return the scores of one of `sepkit.study.analyses.ANALYSES`, as its function wrote them."""
    return dict(read_json(packaged(f"book/results/{name}.json"))["scores"])


def read_benchmarks(path: str | Path | None = None) -> dict[str, Any]:
    """Return what ``make bench`` has measured, by default the results that come with the library.

    machine, versions, commit, date; rows, each with group, name, ours and theirs in `unit`, ratio,
    goal, met, spread, limit, the fraction of it that is reached, and a note; growth: seconds of
    sound, time [s], peak memory [MiB].
    """
    path = Path(path or packaged("benchmarks/results.json"))
    if not path.is_file():
        raise SepkitError(f"{path}: no results there; `make bench` measures them")
    return dict(read_json(path))
