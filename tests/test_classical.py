"""Separation without training: each method finds what it is made to find, and is librosa's."""

from functools import partial

import numpy as np
import pytest
from helpers import noise, noise_track

from sepkit import separation, stft
from sepkit.study import classical
from sepkit.tracks import RATE, SOURCES

pytest.importorskip("librosa")

EVEN = np.full((4, 513), 0.25, np.float32)
BASS, DRUMS, OTHER, VOCALS = map(SOURCES.index, ("bass", "drums", "other", "vocals"))
METHODS = (classical.equalizer, classical.hpss, classical.repet_sim, classical.nmf)


def random_gains(seed=0):
    return classical.equalizer_gains(np.random.default_rng(seed).uniform(size=(4, 513)))


def magnitudes_of(sound):
    return np.abs(stft.stft(sound))


def tone(frequency, n_samples, level=0.1):
    time = np.arange(n_samples) / RATE
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)[:, np.newaxis]


def decibel(part, rest):
    return 10 * np.log10(np.sum(part**2) / np.sum(rest**2))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_samples", [1, 700, 3000, 30_000])
def test_masks_share_out_songs_of_any_length(method, n_samples):
    magnitudes = magnitudes_of(noise(n_samples))
    masks = method(magnitudes, random_gains())
    assert masks.shape == (4, *magnitudes.shape) and masks.dtype == np.float32
    assert masks.min() >= 0
    np.testing.assert_allclose(masks.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_silence_and_no_frames_are_masked_without_nan(method):
    masks = method(np.zeros((40, 513, 1), np.float32), random_gains())
    np.testing.assert_allclose(masks.sum(axis=0), 1, atol=1e-5)
    assert method(np.zeros((0, 513, 1), np.float32), random_gains()).shape == (4, 0, 513, 1)


def test_the_three_floors_give_nothing_a_quarter_and_all():
    sound = noise(3000)
    for method, share in (
        (classical.silence, 0),
        (classical.quarter, 0.25),
        (classical.mixture, 1),
    ):
        stems = separation.separate_song(sound, method)
        np.testing.assert_allclose(stems, np.stack([share * sound] * 4), atol=1e-5)


def test_powers_are_means_over_songs_of_the_left_channel_s():
    first, second = noise_track(0), noise_track(1)
    alone = [classical.mean_powers([track]) for track in (first, second)]
    np.testing.assert_allclose(classical.mean_powers([first, second]), np.mean(alone, axis=0))
    wanted = np.mean(magnitudes_of(first.stems["drums"][:, :1]) ** 2, axis=(0, 2))
    np.testing.assert_allclose(alone[0][DRUMS], wanted, rtol=1e-4)


def test_gains_are_shares_of_the_power_and_equal_without_any():
    powers = np.zeros((4, 513))
    powers[:, 7] = [1, 2, 5, 0]
    gains = classical.equalizer_gains(powers)
    np.testing.assert_allclose(gains[:, 7], [0.125, 0.25, 0.625, 0])
    np.testing.assert_array_equal(gains[:, 8], 0.25)


def test_the_equalizer_is_the_same_in_every_frame_and_segment():
    gains = random_gains()
    for shape in ((5, 513, 2), (3, 25, 513, 1)):
        masks = classical.equalizer(np.zeros(shape), gains)
        assert masks.shape == (4, *shape)
        for source in range(4):
            flat = masks[source].reshape(-1, 513, shape[-1])
            assert (flat == gains[source][:, np.newaxis]).all()


def test_hpss_hands_clicks_to_the_drums_and_a_tone_to_the_others():
    line = tone(1000, RATE)
    clicks = np.zeros_like(line)
    clicks[5000::9000] = 1
    stems = separation.separate_song(line + clicks, partial(classical.hpss, gains=EVEN))
    assert decibel(clicks, stems[DRUMS] - clicks) > 10
    rest = stems[[BASS, OTHER, VOCALS]].sum(axis=0)
    assert decibel(line, rest - line) > 10
    np.testing.assert_allclose(stems[BASS], stems[VOCALS], atol=1e-6)


def test_hpss_is_librosa_s():
    import librosa

    magnitudes = magnitudes_of(noise(20_000))
    masks = classical.hpss(magnitudes, EVEN, kernels=(17, 31), power=1.0, trust=0.0)
    for channel in range(2):
        _, wanted = librosa.decompose.hpss(
            magnitudes[..., channel].T, kernel_size=(17, 31), power=1.0, mask=True
        )
        np.testing.assert_allclose(masks[DRUMS, ..., channel], wanted.T, atol=1e-6)


def loop_with_an_event():
    """A loop of noise bursts, 132 hops long, four times; over it a tone sounds once."""
    rng = np.random.default_rng(0)
    level = np.repeat(rng.uniform(0.1, 1, 12), 2816)[:, np.newaxis]
    loop = np.tile((0.1 * level * rng.standard_normal(level.shape)).astype(np.float32), (4, 1))
    # librosa does not count frames that are exactly alike as neighbours.
    loop += 0.01 * noise(len(loop), channels=1)
    event = np.zeros_like(loop)
    event[70_000:80_000] = tone(2000, 10_000, level=0.3)
    return loop, event


def test_repet_sim_hands_what_does_not_repeat_to_the_vocals():
    loop, event = loop_with_an_event()
    estimate = partial(
        classical.repet_sim, gains=EVEN, apart=60, neighbours=3, margin=1.0, power=2.0, trust=0.0
    )
    stems = separation.separate_song(loop + event, estimate)
    assert decibel(event, stems[VOCALS] - event) > 20
    repeated = stems[[BASS, DRUMS, OTHER]].sum(axis=0)
    assert decibel(loop, repeated - loop) > 20


def test_repet_sim_is_librosa_s():
    import librosa

    magnitudes = magnitudes_of(noise(40_000, channels=1))
    masks = classical.repet_sim(
        magnitudes, EVEN, apart=10, neighbours=5, margin=3.0, power=2.0, trust=0.0
    )
    spectrogram = magnitudes[..., 0].T
    similar = librosa.segment.recurrence_matrix(
        spectrogram, metric="cosine", width=10, k=5, mode="distance", sparse=True
    )
    assert similar.getnnz(axis=0).max() == 5
    filtered = librosa.decompose.nn_filter(spectrogram, rec=similar, aggregate=np.median)
    filtered = np.minimum(spectrogram, filtered)
    wanted = librosa.util.softmask(spectrogram - filtered, 3 * filtered, power=2)
    np.testing.assert_allclose(masks[VOCALS, ..., 0], wanted.T, atol=1e-5)


def two_notes():
    low, high = tone(200, 40_000), tone(3000, 40_000)
    low[25_000:] = 0
    high[:15_000] = 0
    return low, high


def test_nmf_tells_two_notes_apart_and_shares_them_by_the_equalizer():
    low, high = two_notes()
    gains = np.zeros((4, 513), np.float32)
    gains[BASS, :20], gains[VOCALS, 20:] = 1, 1
    estimate = partial(classical.nmf, gains=gains, components=2)
    stems = separation.separate_song(low + high, estimate)
    assert decibel(low, stems[BASS] - low) > 15
    assert decibel(high, stems[VOCALS] - high) > 15
    assert np.abs(stems[[DRUMS, OTHER]]).max() < 1e-3


def test_nmf_is_librosa_s():
    import librosa

    magnitudes = magnitudes_of(sum(two_notes()) + 0.1 * noise(40_000, channels=1))
    gains = random_gains()
    masks = classical.nmf(magnitudes, gains, components=3, sharpness=1.0, trust=0.0)
    spectra, levels = librosa.decompose.decompose(
        magnitudes[..., 0].T, n_components=3, init="nndsvda", random_state=0
    )
    shares = gains @ spectra / spectra.sum(axis=0)
    wanted = (spectra * shares[DRUMS]) @ levels / np.maximum(spectra @ levels, 1e-20)
    sounding = spectra @ levels > 1e-6
    np.testing.assert_allclose(
        masks[DRUMS, ..., 0].T[sounding], wanted[sounding], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("divergence", ["frobenius", "kullback-leibler"])
def test_a_sharper_nmf_leaves_a_component_to_one_source(divergence):
    magnitudes = magnitudes_of(sum(two_notes()))
    gains = random_gains()
    largest = [
        classical.nmf(
            magnitudes, gains, components=2, sharpness=sharpness, divergence=divergence
        ).max(axis=0)
        for sharpness in (1.0, 4.0, 400.0)
    ]
    assert largest[0].mean() < largest[1].mean() < largest[2].mean()
    assert largest[2].mean() > 0.85


def test_a_part_is_taken_as_it_is_or_weighed_by_the_equalizer():
    gains = np.tile(np.float32([[0.1], [0.2], [0.3], [0.4]]), (1, 513))
    part = np.full((1, 513, 1), 0.5, np.float32)
    plain = classical.share(part, gains, "drums", trust=0.0)[:, 0, 0, 0]
    np.testing.assert_allclose(plain, [0.5 / 8, 0.5, 1.5 / 8, 2 / 8], rtol=1e-6)
    # Even odds from the part: the equalizer decides alone.
    weighed = classical.share(part, gains, "drums", trust=1.0)[:, 0, 0, 0]
    np.testing.assert_allclose(weighed, gains[:, 0], rtol=1e-6)
    certain = classical.share(np.ones_like(part), gains, "vocals", trust=1.0)[:, 0, 0, 0]
    np.testing.assert_allclose(certain, [0, 0, 0, 1])
