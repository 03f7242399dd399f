"""The network as a Keras model."""

import numpy as np
import pytest
import reference

from sepkit import network, stft, weights
from sepkit.errors import ModelError
from sepkit.weights import Sizes

keras = pytest.importorskip("keras")
from sepkit import model as models  # noqa: E402
from sepkit.study import report_network  # noqa: E402


@pytest.fixture(scope="module")
def spectrum():
    sound = np.random.default_rng(0).standard_normal((3, 7168, 1)).astype(np.float32)
    return stft.transform_frames(sound)


def test_it_has_489142_parameters():
    assert models.build_model().count_params() == 489_142


def test_keras_model_equals_numpy(spectrum):
    values = report_network.from_report(reference.random_layers())
    model = models.build_model()
    models.set_weights(model, values)
    theirs = np.moveaxis(model.predict(np.abs(spectrum), verbose=0), 1, 0)
    ours = network.masks(values, np.abs(spectrum))
    assert reference.close(ours, theirs, np.abs(spectrum))


def test_weights_are_set_and_read_back_unchanged():
    values = weights.initialize(channels=2, seed=9)
    model = models.build_model(channels=2)
    models.set_weights(model, values)
    back = models.get_weights(model)
    assert all(np.array_equal(back[name], values[name]) for name in values)


def test_any_number_of_sources_and_channels():
    model = models.build_model(sources=("vocals", "rest"), channels=2, seed=1)
    assert model.output_shape == (None, 2, 25, 513, 2)
    assert weights.check_shapes(models.get_weights(model)) == (2, 2)


def test_a_model_of_another_library_is_refused():
    stranger = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ModelError, match=r"sepkit\.build_model"):
        models.get_weights(stranger)


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="does not fit"):
        models.set_weights(models.build_model(), weights.initialize(channels=2))
    with pytest.raises(ModelError, match="at least one"):
        models.build_model(channels=0)


def test_load_model_gives_the_committed_weights():
    model = models.load_model("experiment1")
    values = weights.load(weights.find_weights("experiment1"))
    loaded = models.get_weights(model)
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


def test_a_model_saved_before_contexts_had_a_length_has_25_frames():
    config = models.MaskNetwork().get_config()
    del config["sizes"]["context"]
    assert models.MaskNetwork.from_config(config).sizes == Sizes()


def test_load_model_finds_out_how_long_a_context_is(tmp_path):
    values = weights.initialize(sizes=Sizes(context=30), seed=2)
    weights.save(values, tmp_path / "long.weights.h5")
    model = models.load_model(tmp_path / "long.weights.h5")
    assert model.output_shape == (None, 4, 30, 513, 1)
    loaded = models.get_weights(model)
    assert all(np.array_equal(loaded[name], values[name]) for name in values)
