"""The Keras models: the dense form, and the report's own."""

import numpy as np
import pytest
import reference

from sepkit import network, stft, weights
from sepkit.datasets import SOURCES
from sepkit.errors import ModelError
from sepkit.weights import Sizes

keras = pytest.importorskip("keras")
from sepkit import model as models  # noqa: E402

FACTS = [
    ("vertical_convolution", (25, 1, 50), 25_700),
    ("horizontal_convolution", (14, 1, 30), 18_030),
    ("flattening", (420,), 0),
    ("global_dense", (128,), 53_888),
    ("single_dense_{}", (420,), 54_180),
    ("reshape_{}", (14, 1, 30), 0),
    ("horizontal_deconvolution_{}", (25, 1, 50), 18_050),
    ("vertical_deconvolution_{}", (25, 513, 1), 25_651),
    ("module_{}", (25, 513, 1), 0),
    ("division_{}", (25, 513, 1), 0),
    ("y_{}", (25, 513, 1), 0),
    ("istft_{}", (7168, 1), 0),
    ("output_stacking", (7168, 1, 4), 0),
]


@pytest.fixture(scope="module")
def spectrum():
    sound = np.random.default_rng(0).standard_normal((3, 7168, 1)).astype(np.float32)
    return stft.transform_frames(sound)


@pytest.mark.parametrize(("pattern", "shape", "n_parameters"), FACTS)
def test_the_report_s_form_has_its_layer_table(pattern, shape, n_parameters):
    model = models.report_network()
    for name in {pattern.format(source) for source in SOURCES}:
        layer = model.get_layer(name)
        assert tuple(layer.output.shape[1:]) == shape
        assert layer.count_params() == n_parameters


def test_both_forms_have_489142_parameters():
    assert models.report_network().count_params() == 489_142
    assert models.build_model().count_params() == 489_142


@pytest.mark.parametrize(("channels", "context"), [(1, 25), (2, 25), (1, 30)])
def test_dense_form_equals_convolutional_form_from_spectrum_to_waveform(channels, context):
    layers = reference.random_layers(channels=channels, context=context)
    values = weights.from_report(layers)
    n_samples = 256 * (context + 3)
    sound = np.random.default_rng(1).standard_normal((3, n_samples, channels)).astype(np.float32)
    x = stft.transform_frames(sound)
    report = models.report_network(channels=channels, batch_size=3, context=context)
    models.set_parameters(report, values)
    theirs = report.predict(np.stack([np.abs(x), np.angle(x)], axis=-1), batch_size=3, verbose=0)
    masks = network.masks(values, np.abs(x))
    ours = np.moveaxis(stft.invert_frames(masks * x), 0, -1)
    assert theirs.shape == ours.shape == (3, n_samples, channels, 4)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(sound).max()


def test_keras_model_equals_numpy(spectrum):
    values = weights.from_report(reference.random_layers())
    model = models.build_model()
    models.set_parameters(model, values)
    theirs = np.moveaxis(model.predict(np.abs(spectrum), verbose=0), -1, 0)
    ours = network.masks(values, np.abs(spectrum))
    assert reference.close(ours, theirs, np.abs(spectrum))


@pytest.mark.parametrize("build", [models.build_model, models.report_network])
def test_arrays_go_into_both_forms_and_come_out_unchanged(build):
    values = weights.initialize(channels=2, seed=9)
    model = build(channels=2)
    models.set_parameters(model, values)
    back = models.get_parameters(model)
    assert all(np.array_equal(back[name], values[name]) for name in values)


def test_any_number_of_sources_and_channels(spectrum):
    sources = ("vocals", "rest")
    model = models.build_model(sources=sources, channels=2, seed=1)
    assert model.output_shape == (None, 25, 513, 2, 2)
    report = models.report_network(sources=sources, channels=2)
    values = models.get_parameters(model)
    models.set_parameters(report, values)
    assert weights.check_shapes(models.get_parameters(report)) == (2, 2)


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="does not fit"):
        models.set_parameters(models.build_model(), weights.initialize(channels=2))
    with pytest.raises(ModelError, match="at least one"):
        models.build_model(channels=0)


def test_load_model_gives_the_committed_weights():
    model = models.load_model("experiment1")
    values = weights.load(weights.find_weights("experiment1"))
    loaded = models.get_parameters(model)
    assert all(np.array_equal(loaded[name], values[name]) for name in values)


def test_keras_reads_our_files_and_we_read_keras_s(tmp_path):
    values = weights.initialize(seed=2)
    weights.save(values, tmp_path / "ours.weights.h5")
    model = models.build_model()
    model.load_weights(tmp_path / "ours.weights.h5")
    model.save_weights(tmp_path / "theirs.weights.h5")
    back = weights.load(tmp_path / "theirs.weights.h5")
    assert all(np.array_equal(back[name], values[name]) for name in values)


@pytest.mark.parametrize("context", [25, 20])
def test_a_whole_model_is_saved_and_loaded_by_keras(tmp_path, spectrum, context):
    model = models.build_model(seed=4, sizes=Sizes(context=context))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = np.abs(spectrum[:, :context])
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))


@pytest.mark.parametrize("tie", ["decoders", "bass and other", "input scale"])
def test_a_tied_network_is_saved_as_an_ordinary_one_that_computes_the_same(tie):
    tied = models.build_model(seed=4, tie=tie)
    values = models.get_parameters(tied)
    assert weights.check_shapes(values) == (1, 4)
    free = models.build_model(seed=5)
    models.set_parameters(free, values)
    magnitudes = np.random.default_rng(0).random((2, 25, 513, 1), np.float32)
    np.testing.assert_allclose(tied(magnitudes), free(magnitudes), atol=1e-6)
    before = models.get_parameters(models.build_model(seed=4))
    assert any(not np.array_equal(values[name], before[name]) for name in values)


def test_ties_hold():
    values = models.get_parameters(models.build_model(tie="decoders"))
    for side in ("vertical", "horizontal"):
        for kernel in values[f"{side}_deconvolution/kernel"]:
            np.testing.assert_array_equal(kernel, values[f"{side}_convolution/kernel"])
    dense = models.get_parameters(models.build_model(tie="bass and other"))["single_dense/kernel"]
    np.testing.assert_array_equal(dense[0], dense[2])
    assert not np.array_equal(dense[0], dense[1])


def test_a_model_saved_before_contexts_had_a_length_has_25_frames():
    config = models.MaskNetwork().get_config()
    del config["sizes"]["context"]
    assert models.MaskNetwork.from_config(config).sizes == Sizes()


def test_load_model_finds_out_how_long_a_context_is(tmp_path):
    values = weights.initialize(sizes=Sizes(context=30), seed=2)
    weights.save(values, tmp_path / "long.weights.h5")
    model = models.load_model(tmp_path / "long.weights.h5")
    assert model.output_shape == (None, 30, 513, 1, 4)
    loaded = models.get_parameters(model)
    assert all(np.array_equal(loaded[name], values[name]) for name in values)
