"""Our BSS Eval 4 against museval's."""

import tracemalloc

import numpy as np
import pytest

from sepkit import bsseval
from sepkit.errors import ParameterError


def sounds(n_samples, n_channels, *, n_sources=4, seed=0):
    """Coloured sources that share something, and filtered, leaking, noisy estimates of them."""
    rng = np.random.default_rng(seed)
    references = rng.standard_normal((n_sources, n_samples, n_channels))
    references[1] += 0.5 * np.roll(references[0], 5, axis=0)
    references += 0.7 * np.roll(references, 1, axis=1)
    estimates = 0.8 * np.roll(references, 3, axis=1) + 0.3 * references[::-1]
    estimates += 0.4 * rng.standard_normal(references.shape)
    return references, estimates


@pytest.mark.parametrize(
    ("n_samples", "n_channels", "window", "hop", "n_taps"),
    # The last one's Fourier transforms have an odd length.
    [(20_000, 2, 5000, 5000, 64), (17_003, 1, 4001, 3000, 512), (3000, 2, 44_100, 44_100, 60),
     (2000, 2, 500, 500, 126)],
)  # fmt: skip
def test_scores_are_museval_s_in_every_window(n_samples, n_channels, window, hop, n_taps):
    museval = pytest.importorskip("museval")
    references, estimates = sounds(n_samples, n_channels)
    theirs = museval.metrics.bss_eval(
        references, estimates, window=window, hop=hop, filters_len=n_taps
    )[:4]
    ours = bsseval.scores(references, estimates, window=window, hop=hop, n_taps=n_taps)
    assert ours.shape == (4, 4, len(range(0, max(0, n_samples - window) + 1, hop)))
    np.testing.assert_allclose(ours, np.stack(theirs), atol=1e-6)


def test_a_window_in_which_a_source_is_silent_has_no_score():
    museval = pytest.importorskip("museval")
    references, estimates = sounds(6000, 1)
    references[2, 2000:4000] = 0
    estimates[0, 4000:] = 0
    options = {"window": 2000, "hop": 2000}
    theirs = museval.metrics.bss_eval(references, estimates, filters_len=50, **options)[:4]
    ours = bsseval.scores(references, estimates, n_taps=50, **options)
    assert np.isnan(ours).all(axis=(0, 1)).tolist() == [False, True, True]
    np.testing.assert_allclose(ours, np.stack(theirs), atol=1e-6)


def test_memory_does_not_grow_with_the_song():
    peaks = []
    rng = np.random.default_rng(0)
    for n_samples in (400_000, 1_600_000):
        sounds = rng.standard_normal((2, n_samples, 1), np.float32)
        tracemalloc.start()
        bsseval.scores(sounds, sounds[::-1], window=20_000, n_taps=16)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A copy of the longer song alone has 13 MB.
    # Both fill the eight windows that are computed at a time; float64 copies would have 51 MB.
    assert peaks[1] < peaks[0] + 8e6, peaks


OPTIONS = {"window": 2000, "hop": 2000}


def test_a_source_that_is_silent_throughout_is_left_out():
    museval = pytest.importorskip("museval")
    references, estimates = sounds(8000, 2)
    references[2] = 0
    references[3, 4000:6000] = 0  # in a window alone, it still takes the others with it
    rest = [0, 1, 3]
    theirs = museval.metrics.bss_eval(references[rest], estimates[rest], filters_len=50, **OPTIONS)[
        :4
    ]
    ours = bsseval.scores(references, estimates, n_taps=50, **OPTIONS)
    assert np.isnan(ours[:, 2]).all()
    assert np.isnan(ours[:, rest]).all(axis=(0, 1)).tolist() == [False, False, True, False]
    np.testing.assert_allclose(ours[:, rest], np.stack(theirs), atol=1e-6)
    # What was estimated for it, even nothing, does not matter.
    estimates[2] = 0
    np.testing.assert_array_equal(bsseval.scores(references, estimates, n_taps=50, **OPTIONS), ours)


def test_a_silent_estimate_has_no_score_and_its_source_still_interferes():
    museval = pytest.importorskip("museval")
    references, estimates = sounds(6000, 2)
    # museval takes no silent estimate; noise in its place does not affect the other scores.
    theirs = museval.metrics.bss_eval(references, estimates, filters_len=50, **OPTIONS)[:4]
    estimates[1] = 0
    ours = bsseval.scores(references, estimates, n_taps=50, **OPTIONS)
    assert np.isnan(ours[:, 1]).all()
    rest = [0, 2, 3]
    np.testing.assert_allclose(ours[:, rest], np.stack(theirs)[:, rest], atol=1e-6)


def test_a_song_without_any_sound_has_no_scores():
    references, estimates = sounds(4000, 2)
    for true, estimated in ((0 * references, estimates), (references, 0 * estimates)):
        scores = bsseval.scores(true, estimated, n_taps=50, **OPTIONS)
        assert scores.shape == (4, 4, 2) and np.isnan(scores).all()


def test_both_channels_alike_score_as_one_does():
    """Their filters are then not unique, but what they explain is."""
    references, estimates = sounds(20_000, 1)
    options = {"window": 5000, "n_taps": 40}
    one = bsseval.scores(references, estimates, **options)
    two = bsseval.scores(*(np.repeat(x, 2, axis=2) for x in (references, estimates)), **options)
    np.testing.assert_allclose(two, one, atol=1e-3)


def test_correlations_are_sums_over_all_samples():
    references, estimates = sounds(2 * bsseval._FFT + 77, 1, n_sources=2)
    got = bsseval._correlations(references, estimates, 7)
    references, estimates = references[..., 0], estimates[..., 0]
    both = np.concatenate([references, estimates])
    for lag in range(7):
        late = np.pad(references, [(0, 0), (lag, 0)])[:, : references.shape[1]]
        np.testing.assert_allclose(got[..., lag], late @ both.T, rtol=1e-9, atol=1e-6)


def test_a_perfect_estimate_is_perfect():
    references, _ = sounds(4000, 2)
    assert np.isinf(bsseval.scores(references, references, window=1000)[0]).all()
    scores = bsseval.scores(references, references, window=4000, n_taps=40)
    assert np.isinf(scores[0]).all() and (scores[1:] > 200).all()


def test_shapes_that_do_not_fit_are_refused():
    references, estimates = sounds(100, 1)
    with pytest.raises(ParameterError, match="scores of shapes"):
        bsseval.scores(references[:3], estimates, window=10)
    with pytest.raises(ParameterError, match="scores of shapes"):
        bsseval.scores(references[..., 0], estimates[..., 0], window=10)
