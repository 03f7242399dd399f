"""Networks for other engines: the same masks, in a file as small as the weights."""

import json
import re
import sys

import numpy as np
import pytest
from helpers import one_line

import sepkit
from sepkit import cli, network, stft, weights
from sepkit.errors import MissingPackageError, ModelError, SepkitError
from sepkit.export import onnx_file
from sepkit.weights import Sizes

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# Sizes at which axes cannot be taken for one another, and the edges: one position, one frame.
NETWORKS = {
    "stereo, 3 sources": (2, 3, Sizes(7, 5, 4, 11, 9)),
    "3 channels, 1 source": (3, 1, Sizes(6, 4, 3, 8, 10)),
    "mono, 5 sources, one position": (1, 5, Sizes(5, 6, 8, 9, 8)),
    "mono, 2 sources, patterns of one frame": (1, 2, Sizes(4, 3, 1, 5, 6)),
    "report's sizes, 30 frames": (1, 4, Sizes(context=30)),
}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder; give its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return start


@pytest.fixture
def cut(falcon):
    """Cut contexts from the magnitudes of a song: float32 (n_contexts, context, 513, channels)."""
    magnitudes = np.abs(stft.stft(falcon.mixture))

    def contexts(n_contexts, context, channels):
        channel = [i % magnitudes.shape[-1] for i in range(channels)]
        starts = range(100, 100 + 20 * n_contexts, 20)
        return np.stack([magnitudes[start : start + context, :, channel] for start in starts])

    return contexts


def random_weights(channels, n_sources, sizes, *, seed=0):
    """A network of random values, its biases too."""
    rng = np.random.default_rng(seed)
    values = weights.initialize(channels=channels, n_sources=n_sources, sizes=sizes, seed=seed)
    return {
        name: rng.uniform(-0.1, 0.1, value.shape).astype(np.float32) if "bias" in name else value
        for name, value in values.items()
    }


def session(content):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def infer(values, magnitudes):
    """Compute the masks in ONNX Runtime."""
    engine = session(onnx_file.build(values).SerializeToString())
    return engine.run(["masks"], {"magnitudes": magnitudes})[0]


def assert_same_masks(found, values, magnitudes):
    """Check masks: to 1e-5 of what they are the quotients of, and nearly all to 1e-5 themselves.

    In a few bins the terms of all decoders nearly cancel: there, rounding in single precision is
    larger beside the sum that the masks are divided by.
    """
    wanted = network.masks(values, magnitudes)
    assert found.dtype == np.float32 and found.shape == wanted.shape
    difference = np.abs(found - wanted)
    assert (difference > 1e-5).mean() <= 1e-3
    prepared = network.prepare(values)
    timbres = network.vertical_convolution(prepared, magnitudes)
    total = network.decode(prepared, network.encode(prepared, timbres)).sum(axis=0)
    assert (difference * total <= 1e-5 * total.max(axis=-2, keepdims=True)).all()
    # What is heard: the masked magnitudes, everywhere.
    assert (difference * magnitudes).max() <= 1e-5 * magnitudes.max()
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


# The graph.


@pytest.mark.parametrize("n_contexts", [1, 7])
@pytest.mark.parametrize("model", ["experiment1", "experiment2", "experiment3"])
def test_onnx_runtime_gives_the_masks_of_a_trained_network(cut, model, n_contexts):
    values = weights.load(weights.find_weights(model))
    channels, _ = weights.check_shapes(values)
    song = cut(n_contexts, stft.CONTEXT, channels)
    assert song.max() > 1
    found = infer(values, song)
    assert_same_masks(found, values, song)
    assert found.std(axis=0).mean() > 0.1  # the masks of a network that does something


@pytest.mark.parametrize("n_contexts", [1, 7])
@pytest.mark.parametrize("network_name", NETWORKS)
def test_onnx_runtime_gives_the_masks_of_any_network(cut, network_name, n_contexts):
    channels, n_sources, sizes = NETWORKS[network_name]
    values = random_weights(channels, n_sources, sizes)
    song = cut(n_contexts, sizes.context, channels)
    assert_same_masks(infer(values, song), values, song)


@pytest.mark.parametrize("network_name", [name for name in NETWORKS if "report" not in name])
def test_another_engine_gives_the_same_masks(cut, network_name):
    """ONNX's own, written in NumPy: not what one engine happens to make of the graph."""
    channels, n_sources, sizes = NETWORKS[network_name]
    values = random_weights(channels, n_sources, sizes)
    song = cut(2, sizes.context, channels)
    reference = pytest.importorskip("onnx.reference")
    engine = reference.ReferenceEvaluator(onnx_file.build(values))
    assert_same_masks(engine.run(["masks"], {"magnitudes": song})[0], values, song)


@pytest.mark.parametrize("model", ["experiment1", "experiment2"])
def test_silence_has_the_masks_of_the_biases(model):
    values = weights.load(weights.find_weights(model))
    channels, _ = weights.check_shapes(values)
    silence = np.zeros((2, stft.CONTEXT, stft.N_BINS, channels), np.float32)
    np.testing.assert_allclose(infer(values, silence), network.masks(values, silence), atol=1e-5)


@pytest.mark.parametrize("n_sources", [1, 3, 4])
def test_where_all_sources_are_zero_each_has_an_equal_share(cut, n_sources):
    """Without biases the decoders' outputs are as small as the magnitudes: zero, or nearly."""
    sizes = Sizes(7, 5, 4, 11, 9)
    values = weights.initialize(channels=2, n_sources=n_sources, sizes=sizes)
    song = cut(2, sizes.context, 2)
    for factor in (0, 1e-24):
        found = infer(values, song * np.float32(factor))
        np.testing.assert_array_equal(found, np.full_like(found, 1 / n_sources))
    # Above the smallest sum, masks do not depend on the level.
    faint = song * np.float32(1e-9)
    found = infer(values, faint)
    assert_same_masks(found, values, faint)
    assert n_sources == 1 or found.std() > 0.1


@pytest.mark.parametrize("network_name", NETWORKS)
def test_the_checker_of_onnx_passes(network_name):
    channels, n_sources, sizes = NETWORKS[network_name]
    model = onnx_file.build(random_weights(channels, n_sources, sizes))
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
    assert model.ir_version == 7  # what came with these operators; newer engines read older files
    engine = session(model.SerializeToString())
    (given,), (returned,) = engine.get_inputs(), engine.get_outputs()
    shape = ["n_contexts", sizes.context, 513, channels]
    assert (given.name, given.type, given.shape) == ("magnitudes", "tensor(float)", shape)
    assert (returned.name, returned.shape) == ("masks", [n_sources, *shape])


@pytest.mark.parametrize("model", ["experiment1", "experiment2"])
def test_the_file_is_as_large_as_the_weights(tmp_path, model):
    values = weights.load(weights.find_weights(model))
    onnx_file.write(values, tmp_path / "network.onnx", card=weights.read_card(model))
    arrays = 4 * weights.count_parameters(values)
    assert arrays < (tmp_path / "network.onnx").stat().st_size < arrays + 8192
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]


def test_metadata_tell_what_a_program_needs_and_the_licence():
    card = weights.read_card("experiment1")
    values = weights.load(weights.find_weights("experiment1"))
    model = onnx_file.build(values, name="experiment1", card=card)
    assert (model.producer_name, model.producer_version) == ("sepkit", sepkit.__version__)
    told = session(model.SerializeToString()).get_modelmeta()
    assert told.graph_name == "experiment1"
    assert told.custom_metadata_map == {
        "sources": ",".join(sepkit.SOURCES),
        "sample_rate": "44100",
        "frame_length": "1024",
        "hop_length": "256",
        "window": "hann",
        "context": "25",
        "description": card["experiment"]["description"],
        "model_license": card["weights_licence"],
    }
    for words in ("bass, drums, other, vocals", "25 frames", "44100 Hz", "periodic Hann",
                  card["experiment"]["description"]):  # fmt: skip
        assert words in told.description


def test_metadata_without_a_card_are_those_of_the_arrays():
    model = onnx_file.build(random_weights(1, 3, Sizes(7, 5, 4, 11, 9)))
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["sources"] == "source1,source2,source3" and properties["context"] == "9"
    assert not {"description", "model_license"} & properties.keys()


def test_metadata_have_the_stft_that_the_network_was_trained_with():
    transform = {"hop_length": 512, "window": "blackman-harris"}
    values = random_weights(1, 3, Sizes(7, 5, 4, 11, 9))
    model = onnx_file.build(values, card={"experiment": {"transform": transform}})
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert (properties["hop_length"], properties["window"]) == ("512", "blackman-harris")
    assert "every 512" in model.doc_string and "symmetric Blackman-Harris" in model.doc_string


# Bad input: one line, nothing left.


def test_arrays_that_do_not_fit_together_are_refused(tmp_path):
    values = random_weights(1, 3, Sizes(7, 5, 4, 11, 9))
    values["single_dense/bias"] = values["single_dense/bias"][:2]
    with pytest.raises(ModelError) as error:
        onnx_file.write(values, tmp_path / "network.onnx")
    one_line(error, "single_dense/bias")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    values = random_weights(1, 3, Sizes(7, 5, 4, 11, 9))
    (tmp_path / "folder.onnx").mkdir()
    for place in (tmp_path / "folder.onnx", tmp_path / "none" / "network.onnx"):
        with pytest.raises(SepkitError) as error:
            onnx_file.write(values, place)
        one_line(error, place, "choose another place")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.onnx"]


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError) as error:
        onnx_file.build(random_weights(1, 3, Sizes(7, 5, 4, 11, 9)))
    one_line(error, "onnx", "pip install 'sepkit[export]'")


# The command line.


def assert_refused(result, *needed):
    code, out, err = result
    assert code == 2 and out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("sepkit: ")
    for word in needed:
        assert str(word) in err


def test_export_writes_a_model_with_its_card(run, cut, tmp_path):
    code, out, err = run("export", "experiment1")
    path = tmp_path / "experiment1.onnx"
    assert (code, err) == (0, "")
    assert out == f"experiment1: {path.stat().st_size:,} bytes in experiment1.onnx\n"
    assert [file.name for file in tmp_path.iterdir()] == ["experiment1.onnx"]
    engine = session(path)
    song = cut(3, stft.CONTEXT, 1)
    values = weights.load(weights.find_weights("experiment1"))
    assert_same_masks(engine.run(None, {"magnitudes": song})[0], values, song)
    told = engine.get_modelmeta().custom_metadata_map
    assert told["model_license"] == weights.read_card("experiment1")["weights_licence"]


def test_export_takes_a_weight_file_and_the_card_beside_it(run, tmp_path):
    values = random_weights(2, 3, Sizes(7, 5, 4, 11, 9))
    weights.save(values, tmp_path / "mine.weights.h5")
    assert run("export", "mine.weights.h5", "--format", "onnx", "-o", "alone.onnx")[0] == 0
    assert "model_license" not in session("alone.onnx").get_modelmeta().custom_metadata_map
    card = {"experiment": {"description": "A network of mine."}, "weights_licence": "CC0-1.0"}
    (tmp_path / "mine.json").write_text(json.dumps(card), encoding="utf-8")
    code, out, _ = run("export", "mine.weights.h5")
    assert code == 0 and out.endswith(" in mine.onnx\n")
    told = session("mine.onnx").get_modelmeta().custom_metadata_map
    assert (told["description"], told["model_license"]) == ("A network of mine.", "CC0-1.0")


def test_export_takes_a_name_of_any_bytes(run, tmp_path):
    weights.save(random_weights(1, 2, Sizes(4, 3, 2, 5, 6)), tmp_path / "plain.weights.h5")
    try:
        (tmp_path / "plain.weights.h5").rename(tmp_path / "a\udcff.weights.h5")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes characters only")
    assert run("export", "a\udcff.weights.h5")[0] == 0
    onnx.checker.check_model(onnx.load(tmp_path / "a\udcff.onnx"))


def test_export_never_replaces_a_file_unless_told_to(run, tmp_path):
    path = tmp_path / "experiment1.onnx"
    path.write_bytes(b"mine")
    assert_refused(run("export", "experiment1"), "experiment1.onnx", "--overwrite")
    assert path.read_bytes() == b"mine"
    assert run("export", "experiment1", "--overwrite")[0] == 0
    onnx.checker.check_model(onnx.load(path))


def test_export_never_writes_over_the_weights_themselves(run, tmp_path):
    path = tmp_path / "mine.weights.h5"
    weights.save(random_weights(1, 2, Sizes(4, 3, 2, 5, 6)), path)
    before = path.read_bytes()
    assert_refused(run("export", path, "-o", path, "--overwrite"), path, "--output")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "needed"),
    [(["experiment9"], ["experiment9", "experiment1, experiment2"]),
     (["none.weights.h5"], ["none.weights.h5", "no such weight file"]),
     (["words.h5"], ["words.h5", "not an HDF5 weight file"]),
     (["experiment1", "-o", "none/a.onnx"], ["none/a.onnx", "choose another place"]),
     (["experiment1", "-o", "words.h5/a.onnx"], ["words.h5/a.onnx", "choose another place"]),
     (["experiment1", "-o", "."], ["Is a directory", "choose another place"]),
     (["experiment1", "--format", "onyx"], ["--format", "onyx", "sepkit export --help"]),
     ([], ["MODEL", "sepkit export --help"])],
)  # fmt: skip
def test_export_refuses_bad_input_in_one_line_and_leaves_nothing(run, tmp_path, options, needed):
    (tmp_path / "words.h5").write_text("words, no weights\n" * 100, encoding="utf-8")
    assert_refused(run("export", *options), *needed)
    assert [path.name for path in tmp_path.rglob("*")] == ["words.h5"]


@pytest.mark.parametrize(("card", "reason"), [("{", "not JSON"), ("[]", "not a card")])
def test_export_refuses_a_bad_card_as_it_would_lose_the_licence(run, tmp_path, card, reason):
    weights.save(random_weights(1, 2, Sizes(4, 3, 2, 5, 6)), tmp_path / "mine.weights.h5")
    (tmp_path / "mine.json").write_text(card, encoding="utf-8")
    assert_refused(run("export", "mine.weights.h5"), "mine.json", reason)
    assert not (tmp_path / "mine.onnx").exists()


def test_export_without_onnx_says_how_to_get_it_and_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert_refused(run("export", "experiment1"), "onnx", "pip install 'sepkit[export]'")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_while_writing_leaves_nothing(run, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sepkit.files.os.replace", stop)
    assert run("export", "experiment1") == (130, "", "sepkit: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_help_explains_every_option_of_export(capsys):
    with pytest.raises(SystemExit):
        cli.main(["export", "--help"])
    out, err = capsys.readouterr()
    assert err == "" and out.startswith("usage: sepkit export ")
    for option in ("MODEL", "--format", "-o", "--output", "--overwrite"):
        assert re.search(rf"^ +(-\w[^\n]*)?{option}\b.*\n? +\w+", out, flags=re.MULTILINE), option


def test_export_writes_a_page_with_its_engine_and_network(run, tmp_path):
    result = run("export", "experiment3", "--format", "web")
    assert result[0] == 0
    folder = tmp_path / "experiment3-web"
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert '<sepkit-separator model="experiment3" hop="5">' in page
    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert linked and all((folder / name).is_file() for name in linked)
    assert {"engine.js", "experiment3.js"} <= {path.name for path in folder.glob("separator/*")}
    before = (folder / "index.html").stat().st_mtime_ns
    assert_refused(run("export", "experiment3", "--format", "web"), "experiment3-web", "not empty")
    assert (folder / "index.html").stat().st_mtime_ns == before
    assert run("export", "experiment1", "--format", "web", "-o", str(folder), "--overwrite")[0] == 0
    assert (folder / "separator" / "experiment1.js").is_file()


def test_export_of_a_page_refuses_a_file_as_its_folder(run, tmp_path):
    (tmp_path / "place").write_text("mine")
    result = run("export", "experiment3", "--format", "web", "-o", "place")
    assert_refused(result, "place", "is a file", "folder")
    assert (tmp_path / "place").read_text() == "mine"


def test_export_of_a_page_without_a_compiler_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ziglang", None)
    assert_refused(run("export", "experiment3", "--format", "web"), "ziglang", "sepkit[engine]")
    assert list(tmp_path.iterdir()) == []
