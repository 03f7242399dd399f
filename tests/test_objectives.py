"""Losses, objectives and tied weights of the arms."""

import numpy as np
import pytest

from sepkit import losses, network, stft, weights
from sepkit.tracks import SOURCES

pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
from sepkit import model as models  # noqa: E402
from sepkit.study import objectives  # noqa: E402

TRANSFORMS = [
    stft.REPORT_TRANSFORM,
    stft.Transform(window="blackman-harris"),
    stft.Transform(512, "blackman-harris"),
]


@pytest.mark.parametrize("objective", ["waveform", "faded waveform", "spectrum", "magnitude"])
def test_every_objective_takes_another_transform_and_longer_contexts(objective):
    """A perfect model of one source has nothing left to learn but what the edges fade."""
    transform = stft.Transform(512, "blackman-harris")
    model = models.build_model(sizes=weights.Sizes(context=30), seed=1)
    n_samples = transform.count_samples(30)
    quarter = np.random.default_rng(1).standard_normal((2, 1, n_samples, 1)).astype(np.float32)
    targets = tf.constant(np.repeat(quarter, 4, axis=1))

    def squares(true, estimate, axis):
        # Four equal sources: their estimates sum to what the objective compares four times.
        return tf.reduce_sum((tf.reduce_sum(true, axis) - tf.reduce_sum(estimate, axis)) ** 2)

    value = float(objectives.OBJECTIVES[objective](squares, transform=transform)(model, targets))
    energy = 16 * float(np.sum(quarter**2))
    if objective == "waveform":
        assert 0.01 * energy < value < 0.1 * energy
    else:
        assert value < 1e-8 * energy


def masks_by_hand(model, targets):
    spectrum = stft.transform_frames(targets.sum(axis=1))
    return spectrum, network.masks(models.get_weights(model), np.abs(spectrum))


def test_objectives_compare_what_their_names_say():
    model = models.build_model(channels=2, seed=5)
    targets = np.random.default_rng(3).standard_normal((4, 4, 7168, 2)).astype(np.float32)
    spectrum, masks = masks_by_hand(model, targets)
    waveform = np.moveaxis(stft.invert_frames(masks * spectrum), 0, 1)
    true = stft.transform_frames(targets)
    faded = stft.invert_frames(true)
    estimate = np.moveaxis(masks * spectrum, 0, 1)
    scale = 768**-0.5

    def parts(x):
        return scale * np.concatenate([x.real, x.imag], axis=2)

    wanted = {
        "waveform": losses.report_loss(targets, waveform, axis=1),
        "faded waveform": losses.report_loss(faded, waveform, axis=1),
        "spectrum": losses.report_loss(parts(true), parts(estimate), axis=1),
        "magnitude": losses.report_loss(scale * np.abs(true), scale * np.abs(estimate), axis=1),
    }
    assert {*wanted, "waveform, accompaniment"} == objectives.OBJECTIVES.keys()
    for name, value in wanted.items():
        ours = float(objectives.OBJECTIVES[name]()(model, tf.constant(targets)))
        np.testing.assert_allclose(ours, value, rtol=1e-4)


def test_a_fifth_decoder_is_set_against_the_vocals_and_the_four_keep_their_masks():
    name = "waveform, accompaniment"
    model = models.build_model(sources=[*SOURCES, *objectives.EXTRA_SOURCES[name]], seed=5)
    targets = np.random.default_rng(3).standard_normal((4, 4, 7168, 1)).astype(np.float32)
    spectrum, decoded = masks_by_hand(model, targets)
    four = decoded[:4] / decoded[:4].sum(axis=0)
    fifth = decoded[4] / (decoded[4] + decoded[SOURCES.index("vocals")])
    estimates = np.moveaxis(stft.invert_frames(four * spectrum), 0, 1)
    error = targets[:, :3].sum(axis=1) - stft.invert_frames(fifth * spectrum)
    wanted = losses.report_loss(targets, estimates, axis=1) + np.sum(error**2) / 4
    ours = float(objectives.OBJECTIVES[name]()(model, tf.constant(targets)))
    np.testing.assert_allclose(ours, wanted, rtol=1e-4)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_energy_of_a_scaled_spectrum_is_that_of_its_waveform(transform):
    n_samples = transform.count_samples(25)
    sound = np.random.default_rng(0).standard_normal((2, 4, n_samples, 1)).astype(np.float32)
    spectra = objectives._scaled_spectra(tf.constant(sound), transform).numpy()
    ratio = np.sum(np.abs(spectra) ** 2) / np.sum(sound[:, :, 768:-768] ** 2)
    assert 1.0 < ratio < 1.3  # the edges count too, in part


def segments(seed):
    return np.random.default_rng(seed).standard_normal((3, 4, 500, 2)).astype(np.float32)


def test_the_complete_loss_adds_other_to_the_reports():
    true, estimate = segments(0), segments(1)
    error = np.sum((true[:, 2] - estimate[:, 2]) ** 2) / 3
    wanted = losses.report_loss(true, estimate, axis=1) + error
    np.testing.assert_allclose(objectives.complete_loss(true, estimate, axis=1), wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", [objectives.complete_loss, objectives.relative_loss,
                                  objectives.balanced_loss])  # fmt: skip
def test_losses_do_not_depend_on_where_the_source_axis_is(loss):
    true, estimate = segments(0), segments(1)
    last = [np.moveaxis(y, 1, -1) for y in (true, estimate)]
    np.testing.assert_allclose(loss(true, estimate, axis=1), loss(*last), rtol=1e-5)
    tensors = float(loss(tf.constant(true), tf.constant(estimate), axis=1))
    np.testing.assert_allclose(tensors, loss(*last), rtol=1e-4)


def test_the_relative_loss_weighs_segments_by_the_energy_of_their_mixture():
    true, estimate = segments(0), segments(1)
    energy = np.sum(true.sum(axis=1) ** 2, axis=(1, 2))
    error = np.sum((true - estimate) ** 2, axis=(1, 2, 3))
    wanted = np.mean(error * 71.68 / (energy + 1))
    np.testing.assert_allclose(objectives.relative_loss(true, estimate, axis=1), wanted, rtol=1e-5)


def test_the_balanced_loss_weighs_each_source_by_its_own_energy():
    true, estimate = segments(0), segments(1)
    energy = np.sum(true.sum(axis=1) ** 2, axis=(1, 2))
    own = np.sum(true**2, axis=(2, 3))
    error = np.sum((true - estimate) ** 2, axis=(2, 3))
    wanted = np.sum(error * 71.68 / 4 / (own + energy[:, None] / 10 + 1)) / 3
    np.testing.assert_allclose(objectives.balanced_loss(true, estimate, axis=1), wanted, rtol=1e-5)


def test_tied_layers_compute_with_what_their_names_say():
    def values(name):
        model = models.build_model(seed=2, layer=objectives.TIES[name])
        return model.get_layer("mask_network").trainable_variables, models.get_weights(model)

    plain = weights.initialize(seed=2)
    trained, tied = values("decoders")
    assert len(trained) == len(plain) - 2
    for side in ("vertical", "horizontal"):
        for kernel in tied[f"{side}_deconvolution/kernel"]:
            np.testing.assert_array_equal(kernel, plain[f"{side}_convolution/kernel"])
    _, tied = values("bass and other")
    dense = tied["single_dense/kernel"]
    np.testing.assert_array_equal(dense[0], dense[2])
    np.testing.assert_array_equal(dense[0], plain["single_dense/kernel"][0])
    _, tied = values("input scale")
    name = "vertical_convolution/kernel"
    np.testing.assert_allclose(tied[name], plain[name] * 0.3 / 32, rtol=1e-6)
