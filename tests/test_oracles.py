"""Ideal masks."""

import numpy as np
import pytest

from sepkit import metrics, separation, stft
from sepkit.study import oracles


@pytest.fixture(scope="module")
def stems():
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, 3 * 7168 + 99, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def spectra(stems):
    return np.stack([stft.stft(stem) for stem in stems])


def test_ratio_masks_are_shares_of_the_magnitudes(spectra):
    masks = oracles.ideal_ratio_masks(spectra)
    np.testing.assert_allclose(masks.sum(axis=0), 1, atol=1e-5)
    bin_ = np.abs(spectra[:, 5, 100, 1])
    np.testing.assert_allclose(masks[:, 5, 100, 1], bin_ / bin_.sum(), rtol=1e-5)
    np.testing.assert_array_equal(oracles.ideal_ratio_masks(0 * spectra), 0.25)


def test_binary_masks_give_every_bin_to_its_loudest_source(spectra):
    masks = oracles.ideal_binary_masks(spectra)
    assert set(np.unique(masks)) == {0, 1}
    np.testing.assert_array_equal(masks.sum(axis=0), 1)
    np.testing.assert_array_equal(masks.argmax(axis=0), np.abs(spectra).argmax(axis=0))


def test_masks_that_fit_perfectly_give_the_sources_back():
    """Sources in bands of their own: nothing overlaps, so nothing is lost but at the borders."""
    n = 20_000
    time = np.arange(n) / 44100
    tones = [np.sin(2 * np.pi * hertz * time) for hertz in (200, 1500, 4000, 9000)]
    stems = np.stack(tones).astype(np.float32)[:, :, np.newaxis]
    for make in (oracles.ideal_ratio_masks, oracles.ideal_binary_masks):
        estimates = oracles.apply_to_song(make, stems)
        assert estimates.shape == stems.shape
        assert metrics.report_scores(stems[..., 0], estimates[..., 0])[0].min() > 30


def test_segments_fade_at_their_edges_and_whole_songs_do_not(stems):
    whole = oracles.apply_to_song(oracles.ideal_ratio_masks, stems)
    cut = oracles.apply_to_segments(oracles.ideal_ratio_masks, stems)
    assert cut.shape == whole.shape == stems.shape
    np.testing.assert_allclose(whole.sum(axis=0), stems.sum(axis=0), atol=1e-4)
    np.testing.assert_allclose(cut[:, [7168, 2 * 7168]], 0, atol=1e-6)
    assert np.abs(whole[:, [7168, 2 * 7168]]).max() > 0.1


def test_the_true_sources_keep_about_ten_decibels_through_the_report_s_resynthesis(stems):
    def all_pass(magnitudes):
        return np.ones((1, *magnitudes.shape), np.float32)

    back = np.concatenate([separation.separate_segments(stem, all_pass) for stem in stems])
    sar = metrics.report_scores(stems[:, : 3 * 7168, 0], back[:, : 3 * 7168, 0])[2]
    assert (sar > 9).all() and (sar < 12).all()
