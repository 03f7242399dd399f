"""The STFT pair, segments, contexts."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from sepkit import stft
from sepkit.errors import ParameterError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("n_samples", [1, 255, 256, 257, 768, 1024, 7168, 44100, 100_003])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_istft_inverts_stft_edges_included(n_samples, n_channels):
    sound = noise(n_samples, n_channels)
    back = stft.istft(stft.stft(sound), n_samples)
    assert back.shape == sound.shape
    assert back.dtype == np.float32
    assert np.abs(back - sound).max() <= 1e-6 * np.abs(sound).max()


def test_stft_has_the_contracts_shape_and_dtype():
    spectrum = stft.stft(noise(10_000, 2))
    assert spectrum.shape == (stft.count_frames(10_000), 513, 2)
    assert spectrum.dtype == np.complex64


def test_window_is_the_periodic_hann_and_its_squares_add_up():
    window = stft.REPORT_TRANSFORM.window_values()
    np.testing.assert_allclose(window, scipy.signal.get_window("hann", 1024), atol=1e-7)
    assert scipy.signal.check_NOLA("hann", 1024, 768)
    squares = sum(np.roll(window**2, 256 * k) for k in range(4))
    np.testing.assert_allclose(squares, 1.5, atol=1e-6)
    synthesis = stft.REPORT_TRANSFORM.synthesis_window()
    np.testing.assert_allclose(synthesis, window / 1.5, atol=1e-7)
    assert window.dtype == synthesis.dtype == np.float32


def test_the_blackman_harris_window_is_the_symmetric_one():
    phase = 2 * np.pi * np.arange(1024) / 1023
    terms = [0.35875, -0.48829, 0.14128, -0.01168]
    wanted = sum(a * np.cos(k * phase) for k, a in enumerate(terms))
    window = stft.Transform(window="blackman-harris").window_values()
    np.testing.assert_allclose(window, wanted, atol=1e-7)


def test_masks_are_multiplied_with_the_spectra():
    spectra = stft.transform_frames(noise(2, 40_000, 2))
    masks = np.abs(noise(*spectra.shape, seed=1))
    masked = stft.invert_frames(spectra, masks=masks)
    np.testing.assert_array_equal(masked, stft.invert_frames(masks * spectra))


def test_an_inverted_segment_is_faded_over_768_samples_at_either_end():
    segment = noise(stft.SEGMENT_LENGTH, 1)
    back = stft.invert_frames(stft.transform_frames(segment))
    middle = slice(stft.EDGE_LENGTH, -stft.EDGE_LENGTH)
    np.testing.assert_allclose(back[middle], segment[middle], atol=1e-5)
    assert back.shape == segment.shape
    # Near the ends the gain is the sum of fewer than four squared windows, over 3/2.
    squares = stft.REPORT_TRANSFORM.window_values() ** 2 / 1.5
    gain = np.zeros(stft.SEGMENT_LENGTH)
    for frame in range(stft.CONTEXT):
        gain[256 * frame : 256 * frame + 1024] += squares
    np.testing.assert_allclose(back[:, 0], gain * segment[:, 0], atol=1e-5)
    assert gain[0] == 0 and gain[128] < 0.02


def test_segments_are_end_to_end_and_the_last_is_padded_with_zeros():
    sound = noise(3 * 7168 + 5, 2)
    pieces = stft.split_segments(sound)
    assert pieces.shape == (4, 7168, 2)
    np.testing.assert_array_equal(pieces.reshape(-1, 2)[: len(sound)], sound)
    assert not pieces.reshape(-1, 2)[len(sound) :].any()
    assert stft.split_segments(sound[: 2 * 7168]).shape[0] == 2


def test_a_transform_out_of_range_is_refused():
    for options in (
        {"hop_length": 300},
        {"hop_length": 0},
        {"hop_length": 1024},
        {"window": "hamming"},
    ):
        (name,) = options
        with pytest.raises(ParameterError, match=name):
            stft.Transform(**options)


@pytest.mark.parametrize("window", ["hann", "blackman-harris"])
def test_every_divisor_up_to_half_a_frame_is_a_hop_length(window):
    for hop_length in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
        transform = stft.Transform(hop_length, window)
        assert transform.edge_length == 1024 - hop_length
        assert transform.count_samples(3) == 1024 + 2 * hop_length


TRANSFORMS = [
    stft.REPORT_TRANSFORM,
    stft.Transform(window="blackman-harris"),
    stft.Transform(512, "blackman-harris"),
    stft.Transform(128),
]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("n_samples", [1, 1024, 44100])
def test_every_transform_is_inverted_exactly(transform, n_samples):
    sound = noise(n_samples, 2)
    spectrum = stft.stft(sound, transform=transform)
    assert len(spectrum) == stft.count_frames(n_samples, transform=transform)
    back = stft.istft(spectrum, n_samples, transform=transform)
    assert np.abs(back - sound).max() <= 1e-6 * np.abs(sound).max()


ANY_TRANSFORM = st.builds(
    stft.Transform,
    st.sampled_from([64, 128, 256, 512]),
    st.sampled_from(["hann", "blackman-harris"]),
)


KINDS = ["float32", "float64", "int16", "click", "constant", "quiet"]


@st.composite
def signals(draw, kinds=("float32", "click", "constant", "quiet")):
    """Audio of any length and number of channels, of some of the kinds."""
    n_samples, n_channels = draw(st.integers(1, 5000)), draw(st.integers(1, 3))
    sound = noise(n_samples, n_channels, seed=draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(kinds))
    if kind == "int16":
        return (8000 * sound).clip(-32768, 32767).astype(np.int16)
    if kind == "click":
        at = draw(st.integers(0, n_samples - 1))
        return np.where(np.arange(n_samples)[:, np.newaxis] == at, sound, 0).astype(np.float32)
    if kind == "constant":
        return np.full_like(sound, 0.7)
    return 1e-6 * sound if kind == "quiet" else sound.astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data(), transform=ANY_TRANSFORM)
def test_any_signal_comes_back_within_a_millionth_of_its_peak(kind, data, transform):
    sound = data.draw(signals([kind]))
    spectrum = stft.stft(sound, transform=transform)
    back = stft.istft(spectrum, len(sound), transform=transform)
    assert back.shape == sound.shape
    assert back.dtype == np.float32 and spectrum.dtype == np.complex64
    assert np.abs(back - sound).max() <= 1e-6 * np.abs(sound).max()


@given(sounds=st.tuples(signals(), signals()), gain=st.floats(-2, 2))
def test_spectra_add_up_and_scale_as_signals_do(sounds, gain):
    one, other = (np.resize(x.astype(np.float32), (3000, 1)) for x in sounds)
    left = stft.stft(one + np.float32(gain) * other)
    right = stft.stft(one) + np.float32(gain) * stft.stft(other)
    np.testing.assert_allclose(left, right, atol=1e-5 * max(1e-9, np.abs(right).max()))


@given(sound=signals(), hop_length=st.sampled_from([64, 128, 256]))
def test_the_energy_of_a_spectrum_is_that_of_its_signal(sound, hop_length):
    """Parseval's theorem, frame by frame, and the windows' squares add up to 3/8 per overlap."""
    energies = np.abs(stft.stft(sound, transform=stft.Transform(hop_length))) ** 2.0
    total = energies[:, [0, -1]].sum() + 2 * energies[:, 1:-1].sum()
    wanted = 1024 * 3 / 8 * 1024 / hop_length * np.sum(sound.astype(float) ** 2)
    np.testing.assert_allclose(total, wanted, rtol=1e-5)


@given(sound=signals(), transform=ANY_TRANSFORM)
def test_a_frame_is_the_fourier_transform_of_its_windowed_samples(sound, transform):
    spectrum = stft.stft(sound, transform=transform)
    edge = 1024 - transform.hop_length
    padded = np.pad(sound.astype(float), [(edge, 1024), (0, 0)])
    for n in (0, len(spectrum) // 2, len(spectrum) - 1):
        frame = padded[n * transform.hop_length :][:1024] * transform.window_values()[:, np.newaxis]
        wanted = np.fft.rfft(frame, axis=0)
        np.testing.assert_allclose(spectrum[n], wanted, atol=1e-5 * np.abs(sound).sum(axis=0).max())
    # The next frame would hold no sample of the signal.
    assert len(spectrum) * transform.hop_length - edge >= len(sound)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_leading_axes_are_kept(transform):
    sounds = noise(2, 3, transform.count_samples(150), 2)
    spectra = stft.transform_frames(sounds, transform=transform)
    assert spectra.shape == (2, 3, 150, 513, 2)
    back = stft.invert_frames(spectra, transform=transform)
    alone = stft.istft(spectra[1, 2], 1000, transform=transform)
    assert back.shape == sounds.shape
    np.testing.assert_array_equal(stft.istft(spectra, 1000, transform=transform)[1, 2], alone)
    for i, j in np.ndindex(2, 3):
        each = stft.transform_frames(sounds[i, j], transform=transform)
        np.testing.assert_array_equal(spectra[i, j], each)
        np.testing.assert_array_equal(back[i, j], stft.invert_frames(each, transform=transform))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transform_equals_librosas(transform):
    librosa = pytest.importorskip("librosa")
    sound = noise(transform.count_samples(20), 1)
    options = {"hop_length": transform.hop_length, "window": transform.window_values()}
    theirs = librosa.stft(sound[:, 0], n_fft=1024, center=False, **options)
    ours = stft.transform_frames(sound, transform=transform)[:, :, 0]
    np.testing.assert_allclose(ours, theirs.T, atol=2e-4)


def test_one_context_is_one_segment():
    assert stft.REPORT_TRANSFORM.count_samples(stft.CONTEXT) == stft.SEGMENT_LENGTH


@pytest.mark.parametrize("n_samples", [1, 8448, 8449, 20000])
def test_overlapping_segments_hold_the_whole_signal(n_samples):
    sound = noise(n_samples, 2)
    pieces = stft.split_segments(sound, length=8448, step=1280)
    padded = np.pad(sound, [(0, 8448), (0, 0)])
    for i, piece in enumerate(pieces):
        np.testing.assert_array_equal(piece, padded[1280 * i : 1280 * i + 8448])
    end = 1280 * (len(pieces) - 1) + 8448
    assert n_samples <= end
    assert len(pieces) == 1 or end - 1280 < n_samples


@pytest.mark.parametrize("hop", [1, 5, 7, 12, 25])
@pytest.mark.parametrize("n_frames", [3, 25, 26, 130])
def test_contexts_start_every_hop_and_cover_every_frame(n_frames, hop):
    frames = noise(n_frames, 4)
    grouped = stft.split_contexts(frames, hop)
    for i, context in enumerate(grouped):
        part = frames[i * hop : i * hop + 25]
        np.testing.assert_array_equal(context[: len(part)], part)
        assert not context[len(part) :].any()
    assert (len(grouped) - 1) * hop + 25 >= n_frames
    assert len(grouped) == 1 or (len(grouped) - 2) * hop + 25 < n_frames
