"""What the site computes with: the engine, networks, filters, songs, scripts of explorers."""

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

import sepkit
from sepkit import weights
from sepkit.notebook import media, web

NPM = Path(__file__).parent / "node_modules"

LIBRARIES = {
    "fflate": "fflate/umd/index.js",
    # It asks for a worker of another package, which in a browser is the browser's.
    "mpg123": "mpg123-decoder/dist/mpg123-decoder.min.js",
}
"""Libraries from npm, which a page loads when it zips files or decodes mp3."""

KIT = ("sound_files.js", "engine_host.js", "kit.js")
"""Scripts on which those of all explorers stand."""


def write_separator(app: Sphinx, config: Config) -> None:
    """Write ``separator.js`` and the folder of what it loads when a reader asks for it."""
    # Not in the book's own _static, of which Jupyter Book loads every script on every page.
    static = Path(app.doctreedir).parent / "scripts"
    config.html_static_path.append(str(static))
    folder = static / "separator"
    folder.mkdir(parents=True, exist_ok=True)
    (static / "separator.js").write_text(web.separator_script(), encoding="utf-8")
    web.write_part(folder, "engine", web.engine_part())
    for name in weights.list_models():
        network = weights.load(weights.find_weights(name))
        web.write_part(folder, name, web.network_part(network))
        web.write_part(folder, f"{name}-float32", web.network_part(network, half=False))
    for rate in web.RATES:
        web.write_part(folder, f"rate-{rate}", web.rate_part(rate))
    song = sepkit.example()
    notice = f"{song.name}, {song.licence}"
    sound = media.flac(song.mixture, song.rate)
    part = web.sound_part(sound, "audio/flac", title="Falcon 69.flac", notice=notice)
    web.write_part(folder, "falcon-69", part)
    stems = {name: media.flac(stem[:, :1], song.rate) for name, stem in song.stems.items()}
    web.write_part(folder, "falcon-69-stems", web.stems_part(stems, song.rate, notice=notice))
    web.write_part(folder, "colors", web.colors_part())
    for name in ("kit.css", *KIT, *map(script_of, web.EXPLORERS)):
        shutil.copy(web.STATIC / name, static)
    for name, module in LIBRARIES.items():
        web.write_library(folder, name, (NPM / module).read_text(encoding="utf-8"))


def script_of(element: str) -> str:
    """Return the name of an explorer's script."""
    return f"{element.replace('-', '_')}.js"


def load_scripts(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Add scripts and styles to the pages whose elements need them."""
    elements = set(re.findall(r"<([a-z]+(?:-[a-z]+)+)[ >]", context.get("body", "")))
    if "sepkit-separator" in elements:
        app.add_js_file("separator.js")
        app.add_css_file("separator.css")
    explorers = sorted(elements.intersection(web.EXPLORERS))
    if explorers:
        app.add_css_file("kit.css")
        for name in (*KIT, *map(script_of, explorers)):
            app.add_js_file(name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", write_separator)
    app.connect("html-page-context", load_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
