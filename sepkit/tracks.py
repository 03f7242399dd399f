"""Songs as stems."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from sepkit.errors import ParameterError

SOURCES = ("bass", "drums", "other", "vocals")
"""The four sources, always in this order."""

RATE = 44100
"""Sample rate of the network [Hz]."""

Stems = dict[str, np.ndarray]
"""Audio by source, in the order of `SOURCES`: float32 ``(n_samples, n_channels)``."""

LICENCE_URLS = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC BY-NC-SA 3.0": "https://creativecommons.org/licenses/by-nc-sa/3.0/",
    "CC BY-NC-SA 4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "CC-BY-NC-SA-3.0": "https://creativecommons.org/licenses/by-nc-sa/3.0/",
    "CC-BY-NC-SA-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "MIT": "https://opensource.org/license/mit",
}
"""Web addresses of licences, by the names that data sets use."""


@dataclass(frozen=True)
class Track:
    """A song as its stems, read on first use.

    Parameters
    ----------
    name : str
        Artist and title.
    artist : str
        The artist.
    licence : str
        Licence of the audio.
    rate : int
        Sample rate [Hz].
    reader : callable
        Returns the stems: a dict in the order of `SOURCES`, float32 ``(n_samples, n_channels)``.
    files : tuple of Path
        The files that hold it; none for a song that is computed.
    genre : str
        Genre, if the data set has one.
    credit : str
        Whom and what to credit wherever it is heard, if more than name and licence.
    """

    name: str
    artist: str
    licence: str
    rate: int
    reader: Callable[[], Stems]
    files: tuple[Path, ...] = ()
    genre: str = ""
    credit: str = ""

    @cached_property
    def stems(self) -> Stems:
        """The stems: source to float32 array of shape (n_samples, n_channels)."""
        return self.reader()

    @cached_property
    def mixture(self) -> np.ndarray:
        """The sum of the stems, float32 of shape (n_samples, n_channels)."""
        return np.asarray(np.sum(list(self.stems.values()), axis=0))

    @property
    def licence_url(self) -> str:
        """Web address of the licence; empty for one without a known address."""
        return LICENCE_URLS.get(self.licence, "")

    def read(self) -> np.ndarray:
        """Read the stems anew, without keeping them in memory.

        Returns
        -------
        ndarray of shape (4, n_samples, n_channels), float32
            The stems, in the order of `SOURCES`.
        """
        return np.stack(list(self.reader().values()))

    def excerpt(self, start: float = 0.0, stop: float | None = None) -> Track:
        """Return a part of the song.

        Parameters
        ----------
        start, stop : float
            Limits [s]; to the end without `stop`.

        Returns
        -------
        Track
            A track of its own, which has read nothing yet.
        """
        first = round(start * self.rate)
        last = None if stop is None else round(stop * self.rate)
        if first < 0 or (last is not None and last <= first):
            raise ParameterError(f"excerpt from {start} to {stop} s: give 0 <= start < stop")
        return replace(self, reader=partial(cut_stems, self.reader, first, last))

    def sha256(self) -> str:
        """Compute the hash of the song's files, or of the samples of a song that has none.

        Returns
        -------
        str
            Hexadecimal SHA-256 of the files' bytes, one file after the other.
        """
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(path.read_bytes())
        if not self.files:
            for stem in self.reader().values():
                digest.update(stem.tobytes())
        return digest.hexdigest()


def cut_stems(reader: Callable[[], Stems], first: int, last: int | None) -> Stems:
    """Read stems and keep the samples from `first` up to, not including, `last` (None: the end)."""
    stems = {source: stem[first:last] for source, stem in reader().items()}
    if not all(len(stem) for stem in stems.values()):
        raise ParameterError(f"excerpt from sample {first}: the song is shorter; start earlier")
    return stems
