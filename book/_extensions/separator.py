"""What ``<sepkit-separator>`` loads in the site: engine, networks, filters, a song to try."""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

import sepkit
from sepkit import weights
from sepkit.notebook import media, web

NPM = Path(__file__).parent / "node_modules"


def write_separator(app: Sphinx, config: Config) -> None:
    """Write ``separator.js`` and the folder of what it loads when a reader asks for it."""
    static = Path(app.srcdir) / "_static"
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
    library = (NPM / "fflate" / "umd" / "index.js").read_text(encoding="utf-8")
    web.write_library(folder, "fflate", library)


def load_separator(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Bring the element's script and style to the pages that have one."""
    if "<sepkit-separator" in context.get("body", ""):
        app.add_js_file("separator.js")
        app.add_css_file("separator.css")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", write_separator)
    app.connect("html-page-context", load_separator)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
