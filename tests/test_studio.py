import numpy as np
import pytest

from sepkit.study import studio

pytest.importorskip("pedalboard", reason="pedalboard is not installed")


def sound(n_channels=2):
    return np.random.default_rng(1).normal(0, 0.1, (22_050, n_channels)).astype(np.float32)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_effects_change_a_stem_but_not_its_shape_and_energy(n_channels):
    dry = sound(n_channels)
    changed = 0
    for seed in range(12):
        wet = studio.random_effects(dry, np.random.default_rng(seed))
        assert wet.shape == dry.shape and wet.dtype == np.float32 and np.isfinite(wet).all()
        np.testing.assert_allclose(np.sum(wet**2), np.sum(dry**2), rtol=1e-4)
        changed += not np.allclose(wet, dry, atol=1e-3)
    assert changed >= 8  # one chain in eight is empty


def test_effects_depend_on_the_generator_alone():
    first, again, other = (
        studio.random_effects(sound(), np.random.default_rng(seed)) for seed in (2, 2, 3)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_silence_stays_silent():
    silence = np.zeros((4410, 2), np.float32)
    for seed in range(4):
        assert not studio.random_effects(silence, np.random.default_rng(seed)).any()
