"""Results of arms and analyses: files, differences between arms, their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sepkit.errors import ParameterError, SepkitError
from sepkit.files import packaged, read_json
from sepkit.study.arms import ARMS
from sepkit.study.cards import score_arrays
from sepkit.study.experiments import EXPERIMENTS


def read_results(folder: str | Path | None = None) -> dict[tuple[str, int], dict[str, Any]]:
    """Read the results of arms in a folder, by default those that come with the library.

    Cards by arm and seed, in the order of `sepkit.study.arms.ARMS`.
    """
    found = {}
    for name in (*ARMS, *EXPERIMENTS):
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


def differences(result: Mapping[str, Any], base: Mapping[str, Any], mode: str) -> np.ndarray:
    """Compute the gains of a card over another one, song by song, in mode "report" or "song".

    Array (n_songs, 3, 4) of SDR, SIR, SAR by source [dB]. A `ParameterError` if the songs differ.
    """
    scores, scores_of_base = (score_arrays(card["scores"][mode]) for card in (result, base))
    if scores.keys() != scores_of_base.keys():
        raise ParameterError("results of different songs; score both on the same ones")
    return np.stack([scores[name][0] - scores_of_base[name][0] for name in scores])


def interval(gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and half width of the 95 % interval (Student's t) over songs, the first axis."""
    from scipy.stats import t  # it takes a second, and only this needs it

    error = gains.std(axis=0, ddof=1) / len(gains) ** 0.5
    return gains.mean(axis=0), t.ppf(0.975, len(gains) - 1) * error


@dataclass(frozen=True)
class Effect:
    """The effect of an arm's change on the scores of the validation songs.

    Parameters
    ----------
    arm, base : str
        Names in `sepkit.study.arms.ARMS`; the arm is compared with the base.
    seed : int
        Seed of both.
    gain : ndarray of shape (n_songs, 3, 4)
        Gains in SDR, SIR, SAR by source [dB].
    """

    arm: str
    base: str
    seed: int
    gain: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Gain in SDR, SIR, SAR, mean over sources and songs: (3,) [dB]."""
        return np.asarray(self.gain.mean(axis=(0, 2)))

    @property
    def error(self) -> np.ndarray:
        """Standard error of `mean` over songs: (3,) [dB]."""
        return np.asarray(self.gain.mean(axis=2).std(axis=0, ddof=1) / len(self.gain) ** 0.5)


def effects(folder: str | Path | None = None, *, mode: str = "song") -> dict[str, Effect]:
    """Compare each arm that has a result with its base, for the first seed.

    By arm, in the order of `sepkit.study.arms.ARMS`; `folder` is as for `read_results`.
    """
    results = read_results(folder)
    return {
        name: Effect(name, arm.base, 0, differences(results[name, 0], results[arm.base, 0], mode))
        for name, arm in ARMS.items()
        if (name, 0) in results and (arm.base, 0) in results
    }
