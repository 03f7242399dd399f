"""The engine in C, for this machine and for a page: it computes what NumPy computes."""

import base64
import ctypes
import json
import math
import shutil
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import soxr
from helpers import noise, one_line, random_network

import sepkit
from sepkit import streaming, weights
from sepkit.engine import compiler, native
from sepkit.errors import MissingPackageError, ModelError, ParameterError, SepkitError
from sepkit.notebook import web
from sepkit.tracks import RATE

LIBRARY_PATH = native.library_path  # which `library` replaces
SMALL = weights.Sizes(n_timbres=6, n_patterns=5, pattern=4, n_shared=7, context=9)


@pytest.fixture(scope="module", params=[native.REGISTERS, ()], ids=["machine", "page"])
def library(request, tmp_path_factory):
    """The engine as a library of this machine, with its registers or with those of a page."""
    path = tmp_path_factory.mktemp("engine") / "engine"
    # What the engine does not write itself is no number here.
    never_written = {"empty": lambda n, dtype: np.full(n, 0xFF, dtype), "ctypeslib": np.ctypeslib}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "REGISTERS", request.param)
        patch.setattr(native, "library_path", lambda: path)
        patch.setattr(native, "np", SimpleNamespace(**{**vars(np), **never_written}))
        native.load.cache_clear()
        yield native.load()
    native.load.cache_clear()


def floats(address, n):
    """The n floats at an address."""
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (n,))


def assert_separates_as_numpy(values, song, hop):
    stems, expected = (
        np.stack(list(sepkit.separate(song, RATE, model=values, hop=hop, engine=name).values()))
        for name in ("compiled", "numpy")
    )
    assert stems.shape == expected.shape
    difference = np.abs(stems - expected).max()
    assert difference <= 1e-6 * np.abs(song).max()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("model", "hop", "n_channels"),
    [
        ("experiment1", 5, 2),
        ("experiment2", 5, 2),
        ("experiment2", 25, 1),
        ("experiment3", 1, 1),
        ("experiment3", 3, 1),
        ("experiment3", 5, 2),
        ("experiment3", 7, 1),
        ("experiment3", 25, 2),
    ],
)
def test_trained_networks_separate_as_by_numpy(falcon, model, hop, n_channels):
    song = falcon.mixture[: 4 * RATE, :n_channels]  # more than one stretch
    assert_separates_as_numpy(streaming.resolve_weights(model), song, hop)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("hop", [1, 4, 9])
@pytest.mark.parametrize("n_sources", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "sizes",
    [
        SMALL,
        weights.Sizes(n_timbres=9, n_patterns=8, pattern=9, n_shared=16, context=9),
        weights.Sizes(n_timbres=1, n_patterns=1, pattern=1, n_shared=1, context=30),
    ],
    ids=["odd", "one position", "single"],
)
def test_any_sizes_channels_and_sources_separate_alike(sizes, channels, n_sources, hop):
    values = random_network(sizes, channels, n_sources)
    assert_separates_as_numpy(values, noise(RATE // 2, 2), hop)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("n_samples", [1, 255, 256, 257, 3000, 512 * 256, 512 * 256 + 1])
def test_any_length_separates_alike(n_samples, channels):
    values = random_network(SMALL, channels)
    for n_channels in (1, 2):
        assert_separates_as_numpy(values, noise(n_samples, n_channels), 4)


@pytest.mark.usefixtures("library")
def test_silence_separates_into_silence():
    assert_separates_as_numpy(random_network(SMALL), np.zeros((3000, 2), np.float32), 4)


@pytest.mark.usefixtures("library")
def test_sources_of_which_the_network_draws_nothing_share_alike():
    values = random_network(SMALL)
    for name in ("kernel", "bias"):
        values[f"vertical_deconvolution/{name}"][...] = 0
    assert_separates_as_numpy(values, noise(3000), 4)


@pytest.mark.usefixtures("library")
def test_sound_after_silence_finds_nothing_of_an_earlier_song():
    compiled = native.Engine(random_network(SMALL, 2), 4, 65)
    song = np.concatenate([np.zeros((9000, 2), np.float32), noise(8408, 2)])
    first, second = np.empty((2, 4, 15872, 2), np.float32)
    compiled.separate(song, slice(0, 65), first)
    compiled.separate(noise(17408, 2, seed=1), slice(0, 65), second)
    assert np.abs(first - second).max() > 0.1
    compiled.separate(song, slice(0, 65), second)
    np.testing.assert_array_equal(second, first)


def test_widening_is_that_of_numpy_for_all_finite_halves(library):
    patterns = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = patterns[np.isfinite(patterns)]
    values = random_network(weights.Sizes(n_timbres=30))
    compiled = native.Engine(values, 25, 25)
    n = weights.count_parameters(values)
    assert n > len(halves)
    place = floats(library.engine_weights(compiled._place), n)
    place.view(np.float16)[:n] = np.resize(halves, n)
    library.engine_widen(compiled._place)
    widened = np.resize(halves, n).astype(np.float32)
    np.testing.assert_array_equal(place.view(np.uint32), widened.view(np.uint32))


@pytest.fixture(scope="module", params=web.RATES)
def filters(request):
    return request.param, web.rate_part(request.param)


def resampled(library, song, part, n_out, start=0):
    """A piece of a channel at its new rate, from output `start` on, as separator.js computes it."""
    taps, up, down = part["taps"], part["up"], part["down"]
    rows = np.frombuffer(base64.b64decode(part["filter"]), "<f4")
    first = start * down // up - taps // 2 + 1
    behind = (start + n_out) * down // up + taps // 2 + 1
    inputs = np.zeros(behind - first, np.float32)
    inside = song[max(0, first) : behind]
    inputs[max(0, -first) :][: len(inside)] = inside
    output = np.empty(n_out, np.float32)
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in (inputs, rows, output)]
    library.engine_resample(
        *addresses[:2], taps, up, down, start * down % up, addresses[2], len(output)
    )
    if start == 0:
        beginning = np.frombuffer(base64.b64decode(part["start"]), "<f4").reshape(web.N_FIRST, -1)
        inputs = np.zeros(beginning.shape[1], np.float32)
        inputs[: len(song)] = song[: beginning.shape[1]]
        output[: web.N_FIRST] = (beginning @ inputs)[:n_out]
    return output


@pytest.mark.parametrize("n_samples", [1, 50, 1000, 30011])
@pytest.mark.parametrize("way", ["there", "back"])
def test_resampling_is_that_of_soxr(library, filters, way, n_samples):
    rate, parts = filters
    pair = (rate, RATE) if way == "there" else (RATE, rate)
    song = noise(n_samples, 1, seed=3)[:, 0]
    expected = soxr.resample(song, *pair)
    output = resampled(library, song, parts[way], len(expected))
    np.testing.assert_allclose(output, expected, rtol=0, atol=2e-6)


def test_pieces_of_a_song_are_resampled_as_the_whole(library, filters):
    _, parts = filters
    song = noise(20000, 1)[:, 0]
    whole = resampled(library, song, parts["there"], 6000)
    piece = resampled(library, song, parts["there"], 2345, start=3655)
    np.testing.assert_array_equal(piece, whole[3655:])


def test_filters_come_in_their_lowest_terms(filters):
    rate, parts = filters
    divisor = math.gcd(rate, RATE)
    assert (parts["there"]["up"], parts["there"]["down"]) == (RATE // divisor, rate // divisor)
    assert (parts["back"]["up"], parts["back"]["down"]) == (rate // divisor, RATE // divisor)
    for part in parts.values():
        assert part["taps"] % 4 == 0  # a register holds four
        content = base64.b64decode(part["filter"])
        assert len(content) == 4 * part["up"] * part["taps"]


@pytest.fixture(scope="module")
def modules():
    return {"simd": web.compile_engine(), "scalar": web.compile_engine(simd=False)}


class Wasm:
    """A reader of WebAssembly, as far as it takes to tell instructions from what follows them."""

    def __init__(self, module):
        assert module[:8] == b"\0asm\1\0\0\0"
        self.module, self.at = module, 8

    def byte(self):
        self.at += 1
        return self.module[self.at - 1]

    def number(self):
        """Read a LEB128 number; its sign does not matter here."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def sections(self):
        while self.at < len(self.module):
            kind, size = self.number(), self.number()
            end = self.at + size
            yield kind
            self.at = end

    def instructions(self):
        """Count the module's instructions, by opcode or by (prefix, opcode)."""
        counts = Counter()
        for kind in self.sections():
            if kind != 10:
                continue
            for _ in range(self.number()):
                size = self.number()
                end = self.at + size
                for _ in range(self.number()):  # local variables
                    self.number()
                    self.number()
                while self.at < end:
                    counts[self.instruction()] += 1
                assert self.at == end  # else operands were mistaken for instructions
        return counts

    def instruction(self):
        opcode = self.byte()
        n_numbers = n_bytes = 0
        if opcode in (0xFC, 0xFD):
            opcode = (opcode, self.number())
            if opcode[0] == 0xFC:
                n_numbers = {8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2}.get(opcode[1], 0)
            elif opcode[1] <= 11 or 84 <= opcode[1] <= 93:  # memory
                n_numbers, n_bytes = 2, 84 <= opcode[1] <= 91
            else:
                n_bytes = 16 if opcode[1] in (12, 13) else 21 <= opcode[1] <= 34
        elif opcode == 0x0E:
            n_numbers = self.number() + 1
        elif opcode == 0x11 or 0x28 <= opcode <= 0x3E:
            n_numbers = 2
        elif opcode in (0x43, 0x44):
            n_bytes = 4 if opcode == 0x43 else 8
        elif opcode in (2, 3, 4, 0x0C, 0x0D, 0x10, *range(0x20, 0x25), 0x3F, 0x40, 0x41, 0x42):
            n_numbers = 1
        for _ in range(n_numbers):
            self.number()
        self.at += n_bytes
        return opcode


F32X4_MULTIPLY, F32_MULTIPLY = (0xFD, 0xE6), 0x94


def test_only_one_of_two_modules_needs_simd(modules):
    simd, scalar = (Wasm(modules[name]).instructions() for name in ("simd", "scalar"))
    assert simd[F32X4_MULTIPLY] > 20 and scalar[F32_MULTIPLY] > 20
    assert [code for code in scalar if isinstance(code, tuple) and code[0] == 0xFD] == []


@pytest.mark.parametrize("simd", [True, False])
def test_compiling_twice_gives_the_same_bytes(modules, simd):
    assert web.compile_engine(simd=simd) == modules["simd" if simd else "scalar"]


def test_modules_need_nothing_and_give_what_the_page_calls(modules):
    for module in modules.values():
        assert 2 not in list(Wasm(module).sections())  # imports
        for name in web.FUNCTIONS:
            assert f"engine_{name}".encode() in module


def test_the_engine_part_holds_both_modules_and_the_worker(modules):
    part = web.engine_part()
    for name, module in modules.items():
        assert base64.b64decode(part[name]) == module
    assert "engine_separate" in part["worker"]


def test_a_missing_compiler_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ziglang", None)
    with pytest.raises(MissingPackageError) as error:
        web.compile_engine()
    one_line(error, "ziglang", "pip install 'sepkit[engine]'")


def test_a_source_that_does_not_compile_is_one_line(monkeypatch, tmp_path):
    source = tmp_path / "engine.c"
    source.write_text("int engine_size(void) { return nothing; }\n")
    monkeypatch.setattr(compiler, "SOURCE", source)
    with pytest.raises(SepkitError) as error:
        web.compile_engine()
    one_line(error, "engine.c", "error")


@pytest.fixture
def installation(monkeypatch, tmp_path):
    """The engine as a user installs it: not compiled, in a folder of its own."""
    source = tmp_path / "engine.c"
    shutil.copy(compiler.SOURCE, source)
    monkeypatch.setattr(compiler, "SOURCE", source)
    monkeypatch.setattr(native, "library_path", LIBRARY_PATH)
    native.load.cache_clear()
    yield tmp_path
    native.load.cache_clear()


def test_the_library_is_compiled_once(installation, monkeypatch):
    native.load()
    path = native.library_path()
    assert [path] == list((installation / "__pycache__").iterdir())
    native.load.cache_clear()
    monkeypatch.setitem(sys.modules, "ziglang", None)
    native.load()  # by another process: it needs no compiler


def test_another_processor_or_source_gets_a_library_of_its_own(installation, monkeypatch):
    first = native.library_path()
    with monkeypatch.context() as patch:
        patch.setattr(native, "_processor", lambda: "another")
        second = native.library_path()
    compiler.SOURCE.write_text("/* another */")
    assert len({first, second, native.library_path()}) == 3


def test_a_processor_is_told_by_its_instructions():
    said = native._processor()
    assert said == native._processor() and len(said) > 5
    assert "MHz" not in said  # which changes from moment to moment


def test_separating_without_a_compiler_is_one_line(installation, monkeypatch):
    monkeypatch.setitem(sys.modules, "ziglang", None)
    with pytest.raises(MissingPackageError) as error:
        sepkit.separate(noise(3000), RATE, engine="compiled")
    one_line(error, "ziglang", "pip install 'sepkit[engine]'")


def test_a_library_that_cannot_be_written_is_one_line(installation):
    (installation / "__pycache__").write_text("a file where the folder would be")
    with pytest.raises(SepkitError) as error:
        sepkit.separate(noise(3000), RATE, engine="compiled")
    one_line(error, "engine-", "cannot be written to", "installed sepkit")


def test_a_library_that_is_damaged_is_one_line(installation):
    native.library_path().parent.mkdir()
    native.library_path().write_bytes(b"no library")
    with pytest.raises(SepkitError) as error:
        sepkit.separate(noise(3000), RATE, engine="compiled")
    one_line(error, "engine-", "cannot be loaded", "remove it")


@pytest.mark.usefixtures("library")
def test_more_than_an_engine_has_memory_for_is_refused():
    small = native.Engine(random_network(SMALL), 4, 9)
    with pytest.raises(ParameterError) as error:
        small.separate(noise(1024 + 13 * 256), slice(0, 13), np.empty((4, 2560, 2), np.float32))
    one_line(error, "2 contexts", "at most 1", "n_frames")


def test_an_unknown_engine_is_one_line():
    with pytest.raises(ParameterError) as error:
        sepkit.separate(noise(3000), RATE, engine="jax")
    one_line(error, "'jax'", "numpy or compiled")


@pytest.mark.parametrize(("channels", "n_sources"), [(1, 4), (2, 2)])
@pytest.mark.parametrize("half", [True, False])
def test_a_network_travels_in_its_order(channels, n_sources, half):
    values = random_network(SMALL, channels, n_sources)
    part = json.loads(json.dumps(web.network_part(values, half=half)))
    assert part["half"] is half
    assert part["sources"] == list(weights.source_names(n_sources))
    sizes = part["sizes"]
    assert (sizes["channels"], sizes["sources"]) == (channels, n_sources)
    assert (sizes["timbres"], sizes["patterns"], sizes["pattern"]) == (6, 5, 4)
    assert (sizes["shared"], sizes["context"]) == (7, 9)
    flat = np.frombuffer(base64.b64decode(part["weights"]), "<f2" if half else "<f4")
    at = 0
    for name, shape in weights.shapes(channels=channels, n_sources=n_sources, sizes=SMALL).items():
        n = math.prod(shape)
        expected = values[name].astype(flat.dtype)
        np.testing.assert_array_equal(flat[at : at + n].reshape(shape), expected, err_msg=name)
        at += n
    assert at == len(flat)
    for name in ("Mixture", *part["sources"]):
        assert f'aria-label="{name}' in part["player"]


def test_networks_that_no_page_can_take_are_refused():
    values = random_network(SMALL)
    next(iter(values.values()))[...] = 7e4
    with pytest.raises(ModelError) as error:
        web.network_part(values)
    one_line(error, "65,504", "half=False")
    assert web.network_part(values, half=False)["half"] is False
    with pytest.raises(ModelError) as error:
        web.network_part(random_network(SMALL, 3))
    one_line(error, "3 channels")
    next(iter(values.values()))[...] = np.nan
    with pytest.raises(ModelError) as error:
        web.network_part(values)
    one_line(error)


def test_a_part_is_a_script_that_gives_its_value(tmp_path):
    part = {"title": 'A "song" </script> \u2028', "sound": "AAAA"}
    path = web.write_part(tmp_path, "a-song", part)
    assert path == tmp_path / "a-song.js"
    script = path.read_text(encoding="utf-8")
    start = 'sepkitPart("a-song", '
    assert script.startswith(start) and script.endswith(");\n")
    assert json.loads(script.removeprefix(start).removesuffix(");\n")) == part


def test_a_part_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = web.write_part(tmp_path, "song", {"title": "first"})
    before = path.read_bytes()

    def fill_the_disk(beside, *_, **__):
        beside.write_bytes(b"sepkitPart(")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_text", fill_the_disk)
    with pytest.raises(SepkitError) as error:
        web.write_part(tmp_path, "song", {"title": "second"})
    one_line(error, "song.js")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_library_becomes_a_part(tmp_path):
    script = web.write_library(tmp_path, "library", "exports.one = 1;").read_text()
    assert script.startswith('sepkitPart("library", ') and "exports.one = 1;" in script


def test_a_song_to_try_is_its_file():
    part = web.sound_part(b"fLaC...", "audio/flac", title="Song.flac", notice="Nobody, CC0")
    assert base64.b64decode(part["sound"]) == b"fLaC..."
    assert (part["type"], part["title"], part["notice"]) == (
        "audio/flac",
        "Song.flac",
        "Nobody, CC0",
    )
