"""Effects of a studio at random: compressor, distortion and reverb, to vary songs in training.

The effects are those of the package ``pedalboard`` (GPL-3, not distributed here): the optional
extra ``effects``.
"""

from __future__ import annotations

import numpy as np

from sepkit.datasets import RATE
from sepkit.errors import MissingPackageError


def random_effects(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pass a stem through a chain of effects that is drawn at random.

    Parameters
    ----------
    sound : ndarray of shape (n_samples, n_channels), float32
        A stem at 44,100 Hz, of one channel or two.
    rng : numpy.random.Generator
        Draws which effects there are (a compressor in two of three stems, distortion in one of
        four, reverb in one of two) and their settings.

    Returns
    -------
    ndarray of shape (n_samples, n_channels), float32
        The stem as before in length and energy.

    Raises
    ------
    MissingPackageError
        When pedalboard is not installed.
    """
    try:
        import pedalboard
    except ImportError as error:
        raise MissingPackageError(
            "effects need pedalboard; install it with: pip install 'sepkit[effects]'"
        ) from error
    chain = []
    if rng.random() < 2 / 3:
        chain.append(
            pedalboard.Compressor(
                threshold_db=rng.uniform(-40, -15),
                ratio=rng.uniform(2, 8),
                attack_ms=rng.uniform(1, 30),
                release_ms=rng.uniform(50, 300),
            )
        )
    if rng.random() < 1 / 4:
        chain.append(pedalboard.Distortion(drive_db=rng.uniform(3, 15)))
    if rng.random() < 1 / 2:
        wet = rng.uniform(0.05, 0.4)
        chain.append(
            pedalboard.Reverb(
                room_size=rng.uniform(0.1, 0.8),
                damping=rng.uniform(0.2, 0.8),
                wet_level=wet,
                dry_level=1 - wet,
            )
        )
    changed = pedalboard.Pedalboard(chain)(np.ascontiguousarray(sound.T, np.float32), RATE).T
    # Levels are varied elsewhere: here only the colour changes.
    before, after = (np.sum(np.square(x, dtype=np.float64)) for x in (sound, changed))
    return changed * np.float32(np.sqrt(before / after) if after else 1.0)
