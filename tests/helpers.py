"""Small things that several tests need."""

import numpy as np


def noise(n_samples, channels=2, *, seed=0):
    """Quiet noise, another for each seed: float32 (n_samples, channels)."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.2, 0.2, (n_samples, channels)).astype(np.float32)


def one_line(error, *needed):
    """Check that an error is one line and names what it must."""
    text = str(getattr(error, "value", error))
    assert len(text.splitlines()) == 1, text
    for word in needed:
        assert str(word) in text
