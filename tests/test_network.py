"""The forward pass."""

import numpy as np
import pytest
import reference

from sepkit import network, stft, weights
from sepkit.datasets import SOURCES


def magnitudes(n, channels=1, seed=0, context=25):
    return np.random.default_rng(seed).random((n, context, 513, channels), dtype=np.float32)


@pytest.mark.parametrize(("channels", "n_sources"), [(1, 4), (2, 4), (2, 5), (1, 2)])
def test_masks_are_non_negative_and_sum_to_one(channels, n_sources):
    values = weights.initialize(channels=channels, n_sources=n_sources)
    masks = network.masks(values, magnitudes(3, channels))
    assert masks.shape == (n_sources, 3, 25, 513, channels)
    assert masks.dtype == np.float32
    assert masks.min() >= 0
    np.testing.assert_allclose(masks.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(("channels", "context"), [(1, 25), (2, 25), (1, 30), (2, 12)])
def test_matrix_products_equal_the_convolutions(channels, context):
    layers = reference.random_layers(channels=channels, context=context)
    x = magnitudes(2, channels, context=context)
    values = weights.from_report(layers)
    assert network.context_length(network.prepare(values)) == context
    ours = network.masks(values, x)
    for i in range(2):
        assert reference.close(ours[:, i], reference.masks(layers, SOURCES, x[i]), x[i])


def test_silence_through_an_untrained_network_gives_uniform_masks_not_nan():
    masks = network.masks(weights.initialize(), np.zeros((1, 25, 513, 1), np.float32))
    np.testing.assert_array_equal(masks, 0.25)


def test_normalize_divides_by_the_sum_and_shares_equally_where_it_is_zero():
    drawn = np.zeros((4, 2), np.float32)
    drawn[:, 0] = [1, 2, 3, 4]
    shared = network.normalize(drawn)
    np.testing.assert_allclose(shared[:, 0], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(shared[:, 1], 0.25)


def test_band_matrix_holds_the_kernel_at_every_position_and_nothing_else():
    kernel = np.random.default_rng(0).standard_normal((12, 3, 2)).astype(np.float32)
    band = network.convolution_matrix(kernel).reshape(14, 2, 25, 3)
    for position in range(14):
        for frame in range(25):
            tap = frame - position
            wanted = kernel[tap].T if 0 <= tap < 12 else np.zeros((2, 3))
            np.testing.assert_array_equal(band[position, :, frame], wanted)


def test_contexts_do_not_depend_on_their_neighbours():
    values = weights.initialize()
    x = magnitudes(4)
    together = network.masks(values, x)
    alone = network.masks(values, x[2:3])
    np.testing.assert_allclose(together[:, 2:3], alone, atol=1e-5)


@pytest.mark.parametrize(("hop", "context"), [(1, 25), (5, 25), (7, 25), (25, 25), (30, 30)])
def test_the_bottleneck_of_a_song_is_that_of_its_contexts(hop, context):
    values = weights.from_report(reference.random_layers(context=context))
    pairs = network.prepare(values)
    timbres = network.vertical_convolution(pairs, magnitudes(1, context=context + 4 * hop)[0])
    each = network.encode(pairs, stft.split_contexts(timbres, hop, length=context))
    whole = network.encode_song(pairs, timbres, hop)
    np.testing.assert_allclose(whole, each, atol=1e-5 * np.abs(each).max())


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (5, 10), (20, 25), (24, 25), (0, 25)])
def test_some_frames_of_a_context_unfold_as_all_of_them(start, stop):
    pairs = network.prepare(weights.from_report(reference.random_layers()))
    patterns = network.decoder_dense(pairs, np.random.default_rng(0).random((3, 128), np.float32))
    every = network.horizontal_deconvolution(pairs, patterns, 0, 25).reshape(4, 3, 25, 50)
    some = network.horizontal_deconvolution(pairs, patterns, start, stop).reshape(4, 3, -1, 50)
    np.testing.assert_allclose(some, every[:, :, start:stop], atol=1e-5 * np.abs(every).max())


def test_bins_are_shared_out_in_place_as_tensors_are_normalized():
    import keras

    drawn = magnitudes(4)
    drawn[:, 3:5] = 0
    drawn[:, 6] *= np.float32(1e-20)
    wanted = keras.ops.convert_to_numpy(network.normalize(keras.ops.convert_to_tensor(drawn)))
    np.testing.assert_allclose(network.normalize(drawn), wanted, rtol=1e-6)
    assert network.normalize_in_place(drawn) is drawn
    np.testing.assert_allclose(drawn, wanted, rtol=1e-6)
