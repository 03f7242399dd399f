"""The forward pass."""

import numpy as np
import pytest
import reference

from sepkit import network, stft, weights
from sepkit.study import report_network
from sepkit.tracks import SOURCES


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
    values = report_network.from_report(layers)
    assert network.context_length(network.prepare(values)) == context
    ours = network.masks(values, x)
    for i in range(2):
        assert reference.close(ours[:, i], reference.masks(layers, SOURCES, x[i]), x[i])


def test_silence_through_an_untrained_network_gives_uniform_masks_not_nan():
    masks = network.masks(weights.initialize(), np.zeros((1, 25, 513, 1), np.float32))
    np.testing.assert_array_equal(masks, 0.25)


def test_masks_are_equal_where_all_outputs_are_zero():
    decoded = np.zeros((4, 2), np.float32)
    decoded[:, 0] = [1, 2, 3, 4]
    shared = network.normalize(decoded)
    np.testing.assert_allclose(shared[:, 0], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(shared[:, 1], 0.25)


def test_the_convolution_matrix_holds_the_kernel_at_every_position_and_nothing_else():
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
    values = report_network.from_report(reference.random_layers(context=context))
    prepared = network.prepare(values)
    timbres = network.vertical_convolution(prepared, magnitudes(1, context=context + 4 * hop)[0])
    each = network.encode(prepared, stft.split_contexts(timbres, hop, length=context))
    whole = network.encode_song(prepared, timbres, hop)
    np.testing.assert_allclose(whole, each, atol=1e-5 * np.abs(each).max())


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (5, 10), (20, 25), (24, 25), (0, 25)])
def test_some_frames_of_a_context_are_decoded_as_all_of_them(start, stop):
    prepared = network.prepare(report_network.from_report(reference.random_layers()))
    patterns = network.decoder_dense(
        prepared, np.random.default_rng(0).random((3, 128), np.float32)
    )
    every = network.horizontal_deconvolution(prepared, patterns, 0, 25).reshape(4, 3, 25, 50)
    some = network.horizontal_deconvolution(prepared, patterns, start, stop).reshape(4, 3, -1, 50)
    np.testing.assert_allclose(some, every[:, :, start:stop], atol=1e-5 * np.abs(every).max())


def test_the_pass_on_tensors_of_any_number_of_contexts_equals_numpys():
    tf = pytest.importorskip("tensorflow")
    values = report_network.from_report(reference.random_layers())
    tensors = {name: tf.constant(value) for name, value in values.items()}
    anything = tf.TensorSpec((None, 25, 513, 1), tf.float32)
    compiled = tf.function(
        lambda x: network.masks(tensors, x), input_signature=[anything], autograph=False
    )
    for n in (1, 3):
        x = magnitudes(n)
        assert reference.close(network.masks(values, x), compiled(tf.constant(x)).numpy(), x)


def test_masks_of_no_frames_are_no_masks():
    assert network.normalize(np.empty((4, 0, 513, 1), np.float32)).shape == (4, 0, 513, 1)


def test_normalising_in_place_equals_that_of_tensors():
    import keras

    decoded = magnitudes(4)
    decoded[:, 3:5] = 0
    decoded[:, 6] *= np.float32(1e-20)
    wanted = keras.ops.convert_to_numpy(network.normalize(keras.ops.convert_to_tensor(decoded)))
    np.testing.assert_allclose(network.normalize(decoded), wanted, rtol=1e-6)
    assert network.normalize_in_place(decoded) is decoded
    np.testing.assert_allclose(decoded, wanted, rtol=1e-6)
