"""Networks and their engine as files of a web page: what ``<sepkit-separator>`` is made of.

The engine, ``sepkit/engine/engine.c``, is compiled to WebAssembly by the C compiler of the package
ziglang. Whatever a page loads is a script, since a page from disk may load nothing else; bytes
stand in it as Base64.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from sepkit.engine import compiler
from sepkit.errors import ModelError, ParameterError, import_optional
from sepkit.files import atomic_write, make_folders, writing_to
from sepkit.notebook.player import empty_player
from sepkit.tracks import RATE
from sepkit.weights import Weights, check_finite, check_shapes, infer_sizes, shapes, source_names

STATIC = Path(str(resources.files("sepkit"))) / "notebook" / "static"
"""Folder of the scripts and styles."""

FUNCTIONS = (
    *("size", "create", "weights", "widen", "prepare", "samples", "stem", "separate", "resample"),
    # The steps of `separate`, and what is between them.
    *("analyse", "timbres", "patterns", "bottleneck", "draw", "average", "invert", "place"),
)
"""What a page calls of the engine: ``engine_size`` and so on."""

SCRIPTS = ("sound_files.js", "engine_host.js", "separator.js")
"""Sources of ``separator.js``, in their order."""

RATES = (22_050, 32_000, 48_000, 88_200, 96_000)
"""Sample rates of songs that a page resamples as sepkit does [Hz]."""

EXPLORERS: tuple[str, ...] = (
    "abx-test",
    "mushra-test",
    "loss-simplex",
    "build-frame",
    "network-microscope",
    "measures-by-ear",
    "paint-mask",
    "watch-training",
)
"""Elements that compute in the page, each with a script of its name."""

REACH = 112
"""Inputs on either side of an output that soxr's filter reaches, at the lower of two rates."""

N_FIRST = 16
"""First outputs of soxr that have rows of their own: those beyond the fifth follow its filter."""

_WASM = ["--target=wasm32-freestanding", "-O3", "-nostdlib", "-s", "-Wl,--no-entry"]


def compile_engine(*, simd: bool = True) -> bytes:
    """Compile the engine to WebAssembly.

    Parameters
    ----------
    simd : bool
        Use registers of four floats, as browsers since 2021 (Safari: 2023) have; without them the
        engine takes about three times as long.

    Returns
    -------
    bytes
        The module: of one source and one compiler always the same.

    Raises
    ------
    MissingPackageError
        When ziglang is not installed.
    SepkitError
        When the compiler fails.
    """
    exports = [f"-Wl,--export=engine_{name}" for name in FUNCTIONS]
    options = [*_WASM, *exports, *(["-msimd128"] if simd else [])]
    return compiler.compile_source("engine.wasm", *options)


def separator_script() -> str:
    """Return ``separator.js``: the element, and what it stands on."""
    return "".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)


def engine_part() -> dict[str, str]:
    """Return the engine as the page loads it: two WebAssembly modules in Base64, and its worker.

    Returns
    -------
    dict of str to str
        ``simd`` and ``scalar``, of which a page takes the first that its browser knows, and
        ``worker``, a script.
    """
    return {
        "simd": _base64(compile_engine()),
        "scalar": _base64(compile_engine(simd=False)),
        "worker": (STATIC / "separator_worker.js").read_text(encoding="utf-8"),
    }


def network_part(weights: Weights, *, half: bool = True) -> dict[str, Any]:
    """Return a network as the page loads it.

    Parameters
    ----------
    weights : dict of str to array
        A network of one or two channels.
    half : bool
        Store weights as 16-bit floats: half the bytes, and stems that differ by some 1e-5 of the
        song's peak.

    Returns
    -------
    dict
        ``sizes``, ``sources``, ``half``, the ``weights`` in Base64 and in the order of
        `sepkit.weights`, and the ``player`` of the stems in HTML.

    Raises
    ------
    ModelError
        When the arrays do not fit together, are not finite, have more than two channels, or are too
        large for 16 bits.
    """
    channels, n_sources = check_shapes(weights)
    check_finite(weights)
    if channels > 2:
        raise ModelError(f"a network of {channels} channels: a page takes one of one or two")
    sizes = infer_sizes(weights)
    order = shapes(channels=channels, n_sources=n_sources, sizes=sizes)
    flat = np.concatenate([np.ravel(np.asarray(weights[name], np.float32)) for name in order])
    if half and np.abs(flat).max() > np.finfo(np.float16).max:
        raise ModelError("weights above 65,504, which 16 bits cannot hold; give half=False")
    sources = source_names(n_sources)
    return {
        "sizes": {
            "channels": channels,
            "sources": n_sources,
            "timbres": sizes.n_timbres,
            "patterns": sizes.n_patterns,
            "pattern": sizes.pattern,
            "shared": sizes.n_shared,
            "context": sizes.context,
        },
        "sources": list(sources),
        "half": half,
        "weights": _base64(flat.astype("<f2" if half else "<f4").tobytes()),
        "player": empty_player({"": ["Mixture"], "Stems": list(sources)}, RATE),
    }


def rate_part(rate: int) -> dict[str, Any]:
    """Return the filters that resample a song for the network and its stems back, as the page does.

    They are those of soxr, with which sepkit resamples: between two rates soxr is a filter that
    depends only on where between two inputs an output lies, and its answers to single impulses are
    that filter.

    Parameters
    ----------
    rate : int
        Sample rate of songs [Hz].

    Returns
    -------
    dict
        ``there`` and ``back``, each with ``up``, ``down`` (output n lies at input n * down / up),
        ``taps`` and in Base64 the ``filter``: float32 of shape (up, taps), a row for each place
        between two inputs, of which the first tap belongs to the input ``taps // 2 - 1`` before
        the output. ``start`` has the rows of the first outputs, on the song's first inputs: soxr
        begins in the midst of its filter.
    """
    filters = {}
    for name, pair in (("there", (rate, RATE)), ("back", (RATE, rate))):
        rows = _resampling_filter(*pair)
        divisor = math.gcd(*pair)
        filters[name] = {
            "up": pair[1] // divisor,
            "down": pair[0] // divisor,
            "taps": rows.shape[1],
            "filter": _base64(rows.astype("<f4").tobytes()),
            "start": _base64(_first_rows(*pair, rows.shape[1] // 2).astype("<f4").tobytes()),
        }
    return filters


def _resampling_filter(rate: int, new_rate: int) -> np.ndarray:
    """Measure soxr's filter: of shape (new_rate / gcd, taps)."""
    divisor = math.gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    half = REACH * max(1, -(-down // up))
    # Impulses so far apart that their answers do not touch, each in another place between outputs.
    apart = 2 * half + 2
    apart += (1 - apart) % down
    impulses = apart * np.arange(1, down + 1)
    song = np.zeros(impulses[-1] + apart, np.float32)
    song[impulses] = 1
    answer = soxr.resample(song, rate, new_rate)
    rows = np.zeros((up, 2 * half), np.float32)
    for n, value in enumerate(answer):
        place, row = divmod(n * down, up)
        # The impulse that this output is nearest to, and which tap of the output's row it meets.
        impulse = apart * np.clip(round(n * down / up / apart), 1, down)
        tap = impulse - place + half - 1
        if 0 <= tap < 2 * half:
            rows[row, tap] = value
    return rows


def _first_rows(rate: int, new_rate: int, half: int) -> np.ndarray:
    """Measure soxr's answer in the first outputs: of shape (N_FIRST, inputs)."""
    n_inputs = half + N_FIRST * max(1, -(-rate // new_rate))
    impulses = np.eye(n_inputs, n_inputs + 2 * half, dtype=np.float32)
    return np.stack([soxr.resample(song, rate, new_rate)[:N_FIRST] for song in impulses], axis=1)


def sound_part(content: bytes, media_type: str, *, title: str, notice: str) -> dict[str, str]:
    """Return a song to try, as the page loads it.

    Parameters
    ----------
    content : bytes
        A sound file that browsers decode.
    media_type : str
        Such as ``"audio/flac"``.
    title, notice : str
        Its title, and a line with its artist and licence.

    Returns
    -------
    dict of str to str
        ``title``, ``type``, ``notice`` and the file in Base64 as ``sound``.
    """
    return {"title": title, "type": media_type, "notice": notice, "sound": _base64(content)}


def stems_part(stems: Mapping[str, bytes], rate: int, *, notice: str) -> dict[str, Any]:
    """Return the true stems of a song, for explorers.

    Parameters
    ----------
    stems : mapping of str to bytes
        By source a sound file of one channel that browsers decode.
    rate : int
        Their sample rate [Hz].
    notice : str
        A line with artist, title and licence.

    Returns
    -------
    dict
        ``rate``, ``notice`` and the files in Base64 as ``stems``.
    """
    coded = {name: _base64(content) for name, content in stems.items()}
    return {"rate": rate, "notice": notice, "stems": coded}


def colors_part() -> dict[str, str]:
    """Return the color scales of explorers: 256 times red, green and blue in Base64, by name."""
    colormaps = import_optional("matplotlib", "notebook").colormaps
    places = np.linspace(0, 1, 256)
    return {
        name: _base64(colormaps[scale](places, bytes=True)[:, :3].tobytes())
        for name, scale in (("magma", "magma"), ("inferno", "inferno"), ("diverging", "RdBu_r"))
    }


def write_part(folder: str | os.PathLike[str], name: str, part: Mapping[str, Any]) -> Path:
    """Write ``NAME.js``, which gives a part to the page that loads it.

    Parameters
    ----------
    folder : str or Path
        Folder of the parts: ``separator`` beside separator.js.
    name : str
        Name of the part: letters, digits, ``-`` and ``_``.
    part : dict
        The part.

    Returns
    -------
    Path
        The file.
    """
    return _write_script(folder, name, json.dumps(part, ensure_ascii=False))


def write_library(folder: str | os.PathLike[str], name: str, source: str) -> Path:
    """Write ``NAME.js``, which gives the page a library that is a CommonJS or UMD module.

    Parameters
    ----------
    folder, name : str or Path, str
        As for `write_part`.
    source : str
        The module's script. The one thing that it may require is a worker.

    Returns
    -------
    Path
        The file.
    """
    names = "module = { exports: {} }, { exports } = module, require = () => globalThis.Worker"
    module = f"(() => {{ const {names};\n{source}\n"
    return _write_script(folder, name, f"{module}return module.exports; }})()")


def write_page(folder: str | os.PathLike[str], weights: Weights, *, name: str) -> None:
    """Write a page with ``<sepkit-separator>`` and all that it needs, for any web server or none.

    Parameters
    ----------
    folder : str or Path
        Folder of the page, made if it is missing; its files of the same names are replaced.
    weights : dict of str to array
        A network of one or two channels.
    name : str
        Its name in the page: letters, digits, ``-`` and ``_``.

    Raises
    ------
    ModelError
        When the network does not fit (see `network_part`).
    MissingPackageError
        When ziglang is not installed.
    ParameterError
        When the name has other characters.
    SepkitError
        When a file cannot be written.
    """
    if not re.fullmatch(r"[\w-]+", name, flags=re.ASCII):
        raise ParameterError(f"{name!r}: a page's network is named by letters, digits, - and _")
    folder = Path(folder)
    parts = {"engine": engine_part(), name: network_part(weights)}
    parts |= {f"rate-{rate}": rate_part(rate) for rate in RATES}
    texts = {"separator.js": separator_script(), "index.html": _PAGE.format(model=name)}
    for shared in (
        *("separator.css", "stem_player.css"),
        *("stem_player.js", "stem_practice.js", "sound_files.js"),
    ):
        texts[shared] = (STATIC / shared).read_text(encoding="utf-8")
    with make_folders([folder / "separator"]):
        for part, value in parts.items():
            write_part(folder / "separator", part, value)
        for file, text in texts.items():
            with writing_to(folder / file), atomic_write(folder / file) as beside:
                beside.write_text(text, encoding="utf-8")


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Separate a song</title>
<link rel="stylesheet" href="stem_player.css">
<link rel="stylesheet" href="separator.css">
<script src="stem_player.js"></script>
<script src="separator.js"></script>
<body style="max-width: 60rem; margin: 0 auto; padding: 0 1rem; font-family: system-ui, sans-serif">
<h1>Separate a song</h1>
<p>The song is separated in this page. It does not leave your machine.</p>
<sepkit-separator model="{model}" hop="5"></sepkit-separator>
"""


def _write_script(folder: str | os.PathLike[str], name: str, value: str) -> Path:
    path = Path(folder) / f"{name}.js"
    with writing_to(path), atomic_write(path) as beside:
        beside.write_text(f"sepkitPart({json.dumps(name)}, {value});\n", encoding="utf-8")
    return path


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
