"""The report's own form of the network: its graph, its layers, its weight files."""

import h5py
import numpy as np
import pytest
import reference

from sepkit import network, stft, weights
from sepkit.errors import ModelError
from sepkit.tracks import SOURCES

pytest.importorskip("keras")
pytest.importorskip("tensorflow")
from sepkit.model import build_model  # noqa: E402
from sepkit.study import report_network  # noqa: E402

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


@pytest.mark.parametrize(("pattern", "shape", "n_parameters"), FACTS)
def test_it_has_the_reports_layer_table(pattern, shape, n_parameters):
    model = report_network.report_network()
    for name in {pattern.format(source) for source in SOURCES}:
        layer = model.get_layer(name)
        assert tuple(layer.output.shape[1:]) == shape
        assert layer.count_params() == n_parameters


def test_both_forms_have_489142_parameters():
    assert report_network.report_network().count_params() == 489_142
    assert build_model().count_params() == 489_142


@pytest.mark.parametrize(("channels", "context"), [(1, 25), (2, 25), (1, 30)])
def test_dense_form_equals_convolutional_form_from_spectrum_to_waveform(channels, context):
    layers = reference.random_layers(channels=channels, context=context)
    values = report_network.from_report(layers)
    n_samples = 256 * (context + 3)
    sound = np.random.default_rng(1).standard_normal((3, n_samples, channels)).astype(np.float32)
    x = stft.transform_frames(sound)
    report = report_network.report_network(channels=channels, batch_size=3, context=context)
    report_network.set_report_weights(report, values)
    theirs = report.predict(np.stack([np.abs(x), np.angle(x)], axis=-1), batch_size=3, verbose=0)
    masks = network.masks(values, np.abs(x))
    ours = np.moveaxis(stft.invert_frames(masks * x), 0, -1)
    assert theirs.shape == ours.shape == (3, n_samples, channels, 4)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(sound).max()


def test_weights_are_set_and_read_back_unchanged():
    values = weights.initialize(channels=2, n_sources=2, seed=9)
    model = report_network.report_network(sources=("vocals", "rest"), channels=2)
    report_network.set_report_weights(model, values)
    back = report_network.get_report_weights(model)
    assert all(np.array_equal(back[name], values[name]) for name in values)


def write_report_file(path, layers):
    """Write what Keras' older `save_weights(NAME.h5)` writes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in ["stft", *layers]]
        file.attrs["backend"] = b"tensorflow"
        file.create_group("stft").attrs["weight_names"] = []
        for name, (kernel, bias) in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            group[f"{name}/kernel:0"] = kernel
            group[f"{name}/bias:0"] = bias


def test_the_reports_file_is_read_layer_by_layer(tmp_path):
    layers = reference.random_layers(seed=5)
    write_report_file(tmp_path / "report.h5", layers)
    values = report_network.read_report_file(tmp_path / "report.h5")
    magnitudes = np.random.default_rng(6).random((2, 25, 513, 1), dtype=np.float32)
    ours = network.masks(values, magnitudes)
    for i in range(2):
        theirs = reference.masks(layers, SOURCES, magnitudes[i])
        assert reference.close(ours[:, i], theirs, magnitudes[i])
    swapped = dict(layers)
    swapped["single_dense_bass"] = layers["single_dense_drums"]
    wrong = reference.masks(swapped, SOURCES, magnitudes[0])
    assert not reference.close(ours[:, 0], wrong, magnitudes[0])


def test_both_forms_hold_the_same_numbers():
    layers = reference.random_layers(channels=2, seed=7)
    back = report_network.to_report(report_network.from_report(layers))
    assert back.keys() == layers.keys()
    for name, pair in layers.items():
        assert all(np.array_equal(a, b) for a, b in zip(back[name], pair, strict=True))


def test_a_missing_layer_is_named(tmp_path):
    layers = reference.random_layers()
    del layers["single_dense_other"]
    write_report_file(tmp_path / "report.h5", layers)
    with pytest.raises(ModelError, match="single_dense_other"):
        report_network.read_report_file(tmp_path / "report.h5")


def test_an_array_of_another_shape_is_named(tmp_path):
    layers = reference.random_layers()
    layers["global_dense"] = (np.zeros((10, 128), np.float32), np.zeros(128, np.float32))
    write_report_file(tmp_path / "report.h5", layers)
    with pytest.raises(ModelError, match="report.h5.*global_dense/kernel"):
        report_network.read_report_file(tmp_path / "report.h5")
