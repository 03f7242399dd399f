"""What the book's site is given at build time: launch links, scripts, styles, MathJax."""

import os
import re
import subprocess
from importlib import resources, util
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config


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


def offer_launch(app: Sphinx, config: Config) -> None:
    """Show launch buttons that lead to this repository, or none."""
    options = config.html_theme_options
    address = repository()
    if address is None:
        options["launch_buttons"] = {}
        return
    options.update(repository_url=address, use_repository_button=True)
    if not address.startswith("https://github.com/"):
        del options["launch_buttons"]["colab_url"]  # Colab opens no other host's notebooks


def bring_scripts(app: Sphinx, config: Config) -> None:
    """Copy scripts, styles and MathJax into the site: it loads nothing from elsewhere."""
    player = Path(str(resources.files("sepkit") / "notebook" / "static"))
    config.html_static_path.append(str(player))
    for path in sorted(player.glob("*.css")):
        app.add_css_file(path.name)
    for path in sorted(player.glob("*.js")):
        app.add_js_file(path.name)
    here = Path(__file__).parent
    config.html_static_path += [str(here / "book.css"), str(here / "book.js")]
    app.add_css_file("book.css")
    app.add_js_file("book.js")
    package = Path(util.find_spec("sphinx-mathjax-offline").origin).parent
    config.html_static_path.append(str(package / "static" / "mathjax" / "tex-svg-full.js"))
    config.mathjax_path = "tex-svg-full.js"


def mend_roles(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Remove roles that docutils gives to lists of citations and ARIA does not allow there."""
    for role in (' role="list"', ' role="doc-biblioentry"'):
        context["body"] = context.get("body", "").replace(role, "")


def name_repository(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Complete the command that installs from this repository, where its address is known."""
    address = app.config.html_theme_options.get("repository_url")
    if address:
        context["body"] = context.get("body", "").replace("git+REPOSITORY", f"git+{address}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", offer_launch)
    app.connect("config-inited", bring_scripts)
    app.connect("html-page-context", mend_roles)
    app.connect("html-page-context", name_repository)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
