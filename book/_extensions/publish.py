"""What the build gives the site: launch links, scripts, styles, icons, dark figures, an address."""

import io
import os
import re
import shutil
import subprocess
import tempfile
from html import escape
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import pydata_sphinx_theme
from PIL import Image
from sphinx.application import Sphinx
from sphinx.config import Config

HERE = Path(__file__).parent


def web_address(remote: str) -> str | None:
    """Turn a git remote into the address of its web page.

    Parameters
    ----------
    remote : str
        As ``git remote get-url`` prints it. A name or token in it is left out.

    Returns
    -------
    str or None
        ``https://HOST/OWNER/NAME``, or None for a folder of this machine.
    """
    found = re.fullmatch(
        r"(?:\w+://)?(?:[^@/]+@)?(?P<host>[\w-]+(?:\.[\w-]+)+)(?::\d+(?=/))?[:/]"
        r"(?P<path>[^/].*?)(?:\.git)?/?",
        remote,
    )
    return f"https://{found['host']}/{found['path']}" if found else None


def repository() -> str | None:
    """Return the address of this checkout on the web, if it has one."""
    remote = os.environ.get("BOOK_REPOSITORY")
    if remote is None:
        command = ["git", "-C", str(Path(__file__).parent), "remote", "get-url", "origin"]
        try:
            remote = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except FileNotFoundError:
            return None
    return web_address(remote)


def site_address() -> str | None:
    """Return where the site will be read: ``BOOK_URL``, or GitHub Pages of this repository."""
    address = os.environ.get("BOOK_URL")
    if not address and (
        github := re.fullmatch(r"https://github\.com/(.+)/(.+)", repository() or "")
    ):
        address = f"https://{github[1].lower()}.github.io/{github[2]}/"
    return f"{address.rstrip('/')}/" if address else None


def name_site(app: Sphinx, config: Config) -> None:
    """Set the site's address for the sitemap, the cards of social networks and the 404 page."""
    config.html_baseurl = config.ogp_site_url = address = site_address()
    config.ogp_site_name = str(config.html_title)
    config.sitemap_url_scheme = "{link}"
    config.notfound_urls_prefix = urlsplit(address).path


def offer_launch(app: Sphinx, config: Config) -> None:
    """Show launch buttons that lead to this repository, or none."""
    options = config.html_theme_options
    address = repository()
    if address is None:
        options["launch_buttons"] = {}
        return
    # The notebooks of that branch install sepkit from this address (.github/workflows/publish.yml).
    options.update(repository_url=address, repository_branch="launch", use_repository_button=True)
    if not address.startswith("https://github.com/"):
        del options["launch_buttons"]["colab_url"]  # Colab opens no other host's notebooks


def bring_scripts(app: Sphinx, config: Config) -> None:
    """Copy scripts and styles into the site: it loads nothing from elsewhere."""
    player = Path(str(resources.files("sepkit") / "notebook" / "static"))
    # Loaded by a page's own scripts, if at all.
    for name in ("separator.css", "sound_files.js", "stem_practice.js"):
        config.html_static_path.append(str(player / name))
    for name in ("song_table", "stem_player", "stepper"):
        config.html_static_path += [str(player / f"{name}.css"), str(player / f"{name}.js")]
        app.add_css_file(f"{name}.css")
        app.add_js_file(f"{name}.js")
    config.html_static_path += [str(HERE / "book.css"), str(HERE / "book.js")]
    app.add_css_file("book.css")
    app.add_js_file("book.js")
    config.templates_path.append(str(HERE / "templates"))


def mend_roles(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Remove roles that docutils gives to lists of citations and ARIA does not allow there."""
    for role in (' role="list"', ' role="doc-biblioentry"'):
        context["body"] = context.get("body", "").replace(role, "")


def name_repository(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Complete the command that installs from this repository, where its address is known."""
    address = app.config.html_theme_options.get("repository_url")
    if address:
        context["body"] = context.get("body", "").replace("git+REPOSITORY", f"git+{address}")


def show_dark_figures(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Put the dark copy that `dark_figures` has drawn beside each figure; the theme shows one."""
    dark = Path(app.srcdir) / "_static" / "dark"

    def both(figure: re.Match) -> str:
        before, name, after = figure.groups()
        if not (dark / name).is_file():
            return figure[0]
        up = "../" * page.count("/")
        # In an element of their own: the theme hides captions that follow such pictures.
        return (
            f'<span><img class="only-light" loading="lazy"{before}src="{up}_images/{name}"{after}>'
            f'<img class="only-dark" loading="lazy"{before}src="{up}_static/dark/{name}"{after}>'
            "</span>"
        )

    picture = r'<img([^>]*?)src="(?:\.\./)*_images/([0-9a-f]{64}\.png)"([^>]*)>'
    context["body"] = re.sub(picture, both, context.get("body", ""))


def compress_figures(app: Sphinx, error: Exception | None) -> None:
    """Turn the site's figures into WebP: spectrograms take a quarter of their size as PNG."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    figures = [*(out / "_images").glob("*.png"), *(out / "_static" / "dark").glob("*.png")]
    for figure in figures:
        picture = Image.open(figure).convert("RGB")
        small = min((_webp(picture, lossless=lossless) for lossless in (True, False)), key=len)
        figure.with_suffix(".webp").write_bytes(small)
        figure.unlink()
    for page in out.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        drawn = r'(src="(?:\.\./)*(?:_images|_static/dark)/[0-9a-f]{64})\.png"'
        page.write_text(re.sub(drawn, r'\1.webp"', html), encoding="utf-8")


def purge_styles(app: Sphinx, error: Exception | None) -> None:
    """Remove rules from the largest style sheets that no page or script of the site uses."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    styles = [out / "_static" / "styles" / "bootstrap.css", *(out / "_static").glob("mystnb*.css")]
    command = [str(HERE / "node_modules" / ".bin" / "purgecss"), "--css", *map(str, styles)]
    command += ["--content", f"{out}/**/*.html", f"{out}/_static/**/*.js", "--output"]
    with tempfile.TemporaryDirectory() as purged:
        subprocess.run([*command, purged], check=True)
        for style in styles:
            shutil.copy(Path(purged) / style.name, style)


def _webp(picture: Image.Image, *, lossless: bool) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WebP", lossless=lossless, quality=75)
    return file.getvalue()


def set_icons(app: Sphinx, error: Exception | None) -> None:
    """Draw the icons that pages use into them, in place of the theme's script and fonts of all."""
    if error or app.builder.format != "html":
        return
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme"
    (script,) = (theme / "static" / "vendor" / "fontawesome").glob("*/js/all.min.js")
    drawn = script.read_text(encoding="utf-8")

    def icon(element: re.Match) -> str:
        name = re.search(r"\bfa-(?!solid|regular|brands|lg\b)([a-z-]+)", element[1])[1]
        found = re.search(rf'[{{,]"?{name}"?:\[(\d+),(\d+),\[[^]]*\],"\w+","([^"]+)"\]', drawn)
        if not found:
            raise LookupError(f"Font Awesome has no icon {name}")
        width, height, path = found.groups()
        return (
            f'<svg class="svg-inline--fa {escape(element[1])}"{element[2]} aria-hidden="true" '
            f'viewBox="0 0 {width} {height}"><path fill="currentColor" d="{path}"/></svg>'
        )

    for page in Path(app.outdir).rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        html = re.sub(r'<i class="((?:[^"]* )?fa-[a-z][^"]*|fas fa-[^"]*)"([^>]*)></i>', icon, html)
        page.write_text(html, encoding="utf-8")
    shutil.rmtree(Path(app.outdir) / "_static" / "vendor" / "fontawesome", ignore_errors=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    if site_address():
        for extension in ("sphinx_sitemap", "sphinxext.opengraph", "notfound.extension"):
            app.setup_extension(extension)
        app.connect("config-inited", name_site, priority=100)
    app.connect("config-inited", offer_launch)
    app.connect("config-inited", bring_scripts)
    app.connect("html-page-context", mend_roles)
    app.connect("html-page-context", name_repository)
    app.connect("html-page-context", show_dark_figures)
    app.connect("build-finished", set_icons)
    app.connect("build-finished", compress_figures)
    app.connect("build-finished", purge_styles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
