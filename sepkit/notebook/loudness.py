"""Gains that make stems of one name equally loud, so that a listener compares them fairly.

Of two sounds that differ little, most listeners prefer the louder one. Loudness is that of ITU-R
BS.1770-4, which EBU R 128 prescribes: K-weighted power of blocks of 0.4 s, without silent ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sepkit.errors import import_optional

LARGEST_GAIN = 12.0
"""Limit of gains, up and down [dB]: what is 12 dB softer than the truth is not made as loud."""

BLOCK = 0.4
"""Length of the blocks that are measured [s]; BS.1770-4."""

LOWEST_RATE = 8000
"""The K-weighting's filters need more bandwidth than lower rates have [Hz]."""


def integrated_loudness(audio: np.ndarray, rate: int) -> float:
    """Compute the loudness [LUFS] of audio (n_samples, n_channels) as a player plays it.

    A single channel sounds from both loudspeakers and counts twice. What is silent (below -70
    LUFS), shorter than a block, below 8 kHz in rate or of more than five channels has -inf.
    """
    pyloudnorm = import_optional("pyloudnorm", "notebook")
    n_samples, n_channels = audio.shape
    if n_samples < BLOCK * rate or rate < LOWEST_RATE or n_channels > 5:
        return -np.inf
    if n_channels == 1:
        audio = np.repeat(audio, 2, axis=1)
    meter = pyloudnorm.Meter(rate, block_size=BLOCK)
    return float(meter.integrated_loudness(audio.astype(np.float64)))


def matching_gains(
    tracks: Sequence[tuple[str, str, np.ndarray]], rate: int, *, reference: str
) -> list[float | None]:
    """Compute the gain [dB] of each track that makes it as loud as its namesake.

    Parameters
    ----------
    tracks : sequence of (str, str, ndarray of shape (n_samples, n_channels))
        Group, name and audio of each track.
    rate : int
        Sample rate [Hz].
    reference : str
        Group whose tracks set the loudness of those that have their names; names that it lacks
        take the loudness of the first group that has them.

    Returns
    -------
    list of float or None
        Multiples of 0.1 dB from -12 to 12; None where no other group has the name, or where the
        track or the one that sets its loudness cannot be measured (`integrated_loudness`).
    """
    named: dict[str, dict[str, int]] = {}
    for index, (group, name, _) in enumerate(tracks):
        named.setdefault(name, {})[group] = index
    gains: list[float | None] = [None] * len(tracks)
    for groups in named.values():
        if len(groups) > 1:
            loudness = {i: integrated_loudness(tracks[i][2], rate) for i in groups.values()}
            target = loudness[groups.get(reference, next(iter(groups.values())))]
            for index, value in loudness.items():
                if np.isfinite([target, value]).all():
                    limited = np.clip(target - value, -LARGEST_GAIN, LARGEST_GAIN)
                    gains[index] = round(float(limited), 1) + 0.0  # never -0.0
    return gains
