"""The network's arrays and their files."""

import h5py
import numpy as np
import pytest
from helpers import one_line

from sepkit import weights
from sepkit.errors import ModelError
from sepkit.weights import Sizes


def test_one_channel_and_four_sources_make_489142_parameters():
    assert weights.count_parameters(weights.initialize()) == 489_142


@pytest.mark.parametrize(
    ("layer", "n_parameters"),
    [
        ("vertical_convolution", 25_700),
        ("horizontal_convolution", 18_030),
        ("global_dense", 53_888),
        ("single_dense", 4 * 54_180),
        ("horizontal_deconvolution", 4 * 18_050),
        ("vertical_deconvolution", 4 * 25_651),
    ],
)
def test_each_layer_has_the_report_s_number_of_parameters(layer, n_parameters):
    values = weights.initialize()
    own = {name: value for name, value in values.items() if name.startswith(layer)}
    assert weights.count_parameters(own) == n_parameters


@pytest.mark.parametrize(("channels", "n_sources"), [(1, 4), (2, 4), (3, 2), (1, 5)])
def test_channels_and_sources_are_inferred_from_the_arrays(channels, n_sources):
    values = weights.initialize(channels=channels, n_sources=n_sources)
    assert weights.check_shapes(values) == (channels, n_sources)


def test_initial_weights_follow_glorot_and_the_seed():
    values = weights.initialize(seed=3)
    kernel = values["horizontal_deconvolution/kernel"]
    limit = np.sqrt(6 / (12 * 50 + 12 * 30))
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert not values["global_dense/bias"].any()
    again = weights.initialize(seed=3)
    other = weights.initialize(seed=4)
    assert all(np.array_equal(values[name], again[name]) for name in values)
    assert not np.array_equal(kernel, other["horizontal_deconvolution/kernel"])
    assert not np.array_equal(kernel[0], kernel[1])


def test_a_weight_file_is_read_back_equal(tmp_path):
    values = weights.initialize(channels=2, seed=1)
    weights.save(values, tmp_path / "x.weights.h5")
    back = weights.load(tmp_path / "x.weights.h5")
    assert list(back) == list(values)
    assert all(np.array_equal(back[name], values[name]) for name in values)
    assert [path.name for path in tmp_path.iterdir()] == ["x.weights.h5"]


def test_layer_sizes_are_inferred_from_the_arrays():
    for sizes in (
        Sizes(),
        Sizes(context=30),
        Sizes(25, 60, 15, 64, 20),
        Sizes(pattern=30, context=30),
    ):
        assert weights.infer_sizes(weights.initialize(sizes=sizes)) == sizes


def test_arrays_for_contexts_of_different_lengths_are_refused():
    values = weights.initialize()
    longer = weights.initialize(sizes=Sizes(context=30))
    for name in ("global_dense/kernel", "single_dense/kernel", "single_dense/bias"):
        with pytest.raises(ModelError, match=r"weights: \w+_dense/\w+ has shape"):
            weights.check_shapes(values | {name: longer[name]})


@pytest.mark.parametrize("content", [b"", b"not an HDF5 file"])
def test_a_file_that_is_no_weight_file_is_refused(tmp_path, content):
    (tmp_path / "bad.h5").write_bytes(content)
    with pytest.raises(ModelError, match="bad.h5"):
        weights.load(tmp_path / "bad.h5")


def _nan(group):
    group["single_dense_bias"][0, 0] = np.nan


def _text(group):
    del group["global_dense_bias"]
    group["global_dense_bias"] = ["a"] * 128


def _folder(group):
    del group["global_dense_bias"]
    group.create_group("global_dense_bias")


def _huge(group):
    # Declared, but never stored: 2 TB.
    del group["vertical_convolution_kernel"]
    group.create_dataset("vertical_convolution_kernel", (513, 1, 1 << 30), np.float32)


def _nowhere(group):
    del group["global_dense_bias"]
    group["global_dense_bias"] = h5py.SoftLink("/nowhere")


@pytest.mark.parametrize("damage", [_nan, _text, _folder, _huge, _nowhere])
def test_a_file_with_other_things_in_it_is_refused(tmp_path, damage):
    path = tmp_path / "a.weights.h5"
    weights.save(weights.initialize(), path)
    with h5py.File(path, "a") as file:
        damage(file["layers/mask_network/vars"])
    with pytest.raises(ModelError) as error:
        weights.load(path)
    one_line(error, path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_breaks_off_is_refused(tmp_path, share):
    path = tmp_path / "a.weights.h5"
    weights.save(weights.initialize(), path)
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    with pytest.raises(ModelError) as error:
        weights.load(path)
    one_line(error, path)


def test_a_missing_file_and_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(ModelError, match="gone.h5: no such weight file"):
        weights.load(tmp_path / "gone.h5")
    with pytest.raises(ModelError, match="'experiment99': unknown"):
        weights.find_weights("experiment99")


def test_experiment_1_comes_with_the_library_and_has_a_card():
    assert "experiment1" in weights.list_models()
    values = weights.load(weights.find_weights("experiment1"))
    assert weights.count_parameters(values) == 489_142
    assert weights.read_card("experiment1")["parameters"] == 489_142
