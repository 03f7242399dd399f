"""Random studio effects for training: compressor, distortion and reverb.

They are those of the package ``pedalboard`` (GPL-3, not distributed here): the extra ``effects``.
"""

from __future__ import annotations

import numpy as np

from sepkit.errors import import_optional
from sepkit.tracks import RATE


def random_effects(stem: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply a random chain of effects to a stem.

    Parameters
    ----------
    stem : ndarray of shape (n_samples, n_channels), float32
        Audio in mono or stereo at 44,100 Hz.
    rng : numpy.random.Generator
        Source of the settings and of which effects apply: a compressor with probability 2/3,
        distortion with 1/4, reverb with 1/2.

    Returns
    -------
    ndarray of shape (n_samples, n_channels), float32
        The processed stem, scaled to the energy of the input.

    Raises
    ------
    MissingPackageError
        When pedalboard is not installed.
    """
    pedalboard = import_optional("pedalboard", "effects")
    chain = []
    if rng.random() < 2 / 3:
        compressor = pedalboard.Compressor(
            threshold_db=rng.uniform(-40, -15),
            ratio=rng.uniform(2, 8),
            attack_ms=rng.uniform(1, 30),
            release_ms=rng.uniform(50, 300),
        )
        chain.append(compressor)
    if rng.random() < 1 / 4:
        chain.append(pedalboard.Distortion(drive_db=rng.uniform(3, 15)))
    if rng.random() < 1 / 2:
        wet = rng.uniform(0.05, 0.4)
        size, damping = rng.uniform(0.1, 0.8), rng.uniform(0.2, 0.8)
        reverb = pedalboard.Reverb(size, damping, wet_level=wet, dry_level=1 - wet)
        chain.append(reverb)
    effects = pedalboard.Pedalboard(chain)
    processed = effects(np.ascontiguousarray(stem.T, np.float32), RATE).T
    before, after = (np.sum(np.square(x, dtype=np.float64)) for x in (stem, processed))
    return np.asarray(processed * np.float32(np.sqrt(before / after) if after else 1.0))
