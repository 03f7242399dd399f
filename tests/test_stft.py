"""The STFT pair, segments, contexts."""

import numpy as np
import pytest
import scipy.signal

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
