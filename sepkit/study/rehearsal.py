"""Computed songs in the folders of DSD100, to try on them what is meant for the whole data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sepkit import audio
from sepkit.errors import DatasetError, ParameterError
from sepkit.files import make_folders
from sepkit.study import band
from sepkit.tracks import RATE

FIRST = {"Test": 1, "Dev": 51}
"""The number of the first song of each split, as in DSD100, which has fifty of both."""


def write_songs(
    root: str | os.PathLike[str],
    *,
    n_dev: int = 15,
    n_test: int = 4,
    seconds: tuple[float, float] = (60.0, 120.0),
    seed: int = 0,
) -> None:
    """Write songs of `sepkit.study.band` where DSD100 has its own, as 16-bit stereo at 44,100 Hz.

    ``Mixtures/Dev/051 - sepkit band - Song 51/mixture.wav``, ``Sources/Dev/051 - .../bass.wav`` and
    so on: `sepkit.datasets.dsd100` reads them.

    Parameters
    ----------
    root : str or Path
        Folder to make. One that exists is refused: it may hold the true data set.
    n_dev, n_test : int
        Number of songs in Dev and in Test, from 1 to 50.
    seconds : tuple of float
        Approximate durations of the first and the last song of each split [s]; those of the songs
        between them are evenly spaced.
    seed : int
        Non-negative seed of the songs.

    Raises
    ------
    DatasetError
        When the folder exists.
    ParameterError
        When a number is out of range.
    """
    counts = {"Test": n_test, "Dev": n_dev}
    if not all(1 <= n <= 50 for n in counts.values()):
        raise ParameterError(f"{n_dev} songs in Dev, {n_test} in Test: give 1 to 50 of each")
    if Path(root).exists():
        raise DatasetError(f"{root}: exists; name a folder that does not")
    for split, n in counts.items():
        for number, duration in enumerate(np.linspace(*seconds, n), start=FIRST[split]):
            stems = band.render(band.compose(seed, number, duration=float(duration)))
            mixture = np.sum(list(stems.values()), axis=0)
            for kind, sounds in (("Mixtures", {"mixture": mixture}), ("Sources", stems)):
                place = Path(root) / kind / split / f"{number:03d} - sepkit band - Song {number}"
                with make_folders([place]):
                    for name, sound in sounds.items():
                        audio.write(place / f"{name}.wav", sound, RATE, bit_depth="16")
