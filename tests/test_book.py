"""The book: its sources in the repository, and the site that ``make book`` has built from them.

``SEPKIT_SITE`` names the built site; the default is where ``make book`` puts it.
"""

import importlib.util
import inspect
import os
import re
import shlex
import types
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest
import yaml
from PIL import Image

import sepkit
from sepkit import cli

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [
    TOC["root"],
    *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]),
]


# The sources.


def test_every_chapter_is_in_the_table_of_contents_and_exists():
    written = {path.stem for path in BOOK.iterdir() if path.suffix in (".ipynb", ".md")}
    assert sorted(CHAPTERS) == sorted(written)


def test_notebooks_are_valid_and_open_with_one_title():
    notebooks = sorted(BOOK.glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3", path.name
        prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
        assert notebook.cells[0].source.startswith("# "), path.name
        titles = re.findall(r"^# ", "\n".join(prose), flags=re.MULTILINE)
        assert len(titles) == 1, path.name


def test_no_cell_is_allowed_to_fail():
    execute = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["execute"]
    assert execute["execute_notebooks"] == "cache"
    assert (execute["allow_errors"], execute["raise_on_error"]) == (False, True)
    for path in BOOK.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            tags = cell.metadata.get("tags", [])
            assert not {"raises-exception", "skip-execution"} & {*tags}, (path.name, cell.source)


def test_every_command_that_a_page_or_the_readme_shows_is_one():
    pages = [path for path in BOOK.iterdir() if path.suffix in (".ipynb", ".md")]
    commands = []
    for path in (*pages, ROOT / "README.md"):
        if path.suffix == ".ipynb":
            text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        else:
            text = path.read_text(encoding="utf-8")
        joined = text.replace("\\\n", " ")  # a command that goes on in the next line
        commands += re.findall(
            r"^sepkit (?:separate|train|evaluate|ablate|export|models|study)\b.*$", joined, re.M
        )
    assert len(commands) > 5
    for command in commands:
        try:
            cli._parser().parse_args(shlex.split(command, comments=True)[1:])
        except (SystemExit, sepkit.SepkitError) as error:
            raise AssertionError(command) from error


@pytest.fixture(scope="module")
def publish():
    """Load the extension that the site is built with."""
    spec = importlib.util.spec_from_file_location("publish", BOOK / "_extensions" / "publish.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/owner/name.git", "https://github.com/owner/name"),
        ("https://github.com/owner/name/", "https://github.com/owner/name"),
        ("https://user:token@github.com/owner/name", "https://github.com/owner/name"),
        ("git@github.com:owner/name.git", "https://github.com/owner/name"),
        ("ssh://git@gitlab.com:2222/owner/name.git", "https://gitlab.com/owner/name"),
        ("/srv/git/name.git", None),
        ("../name", None),
        ("", None),
    ],
)
def test_launch_links_lead_to_the_remote_and_leak_no_token(remote, address, publish):
    assert publish.web_address(remote) == address


@pytest.mark.parametrize(
    ("repository", "url", "address"),
    [
        ("https://github.com/Owner/name", "", "https://owner.github.io/name/"),
        ("https://github.com/owner/name", "https://book.org", "https://book.org/"),
        ("https://gitlab.com/owner/name", "", None),
        ("", "https://book.org/de", "https://book.org/de/"),
    ],
)
def test_the_site_knows_its_address(repository, url, address, publish, monkeypatch):
    monkeypatch.setenv("BOOK_REPOSITORY", repository)
    monkeypatch.setenv("BOOK_URL", url)
    assert publish.site_address() == address


@pytest.mark.parametrize("address", ["https://github.com/owner/name", ""])
def test_the_command_for_colab_names_the_repository_where_it_is_known(address, publish):
    app = types.SimpleNamespace(
        config=types.SimpleNamespace(html_theme_options={"repository_url": address})
    )
    text = (BOOK / "index.ipynb").read_text(encoding="utf-8")
    command = 'pip install \\"sepkit[evaluation,notebook,band] @ git+REPOSITORY\\"'
    assert command in text
    context = {"body": command}
    publish.name_repository(app, "index", "page.html", context, None)
    assert context["body"] == command.replace("REPOSITORY", address or "REPOSITORY")


# Symbols.

# Letters of LaTeX that are no symbols: functions, relations, layout.
COMMANDS = re.compile(
    r"\\(?:begin|end)\{\w+\*?\}|\\(?:[dt]?frac|sqrt|sum|log|cos|sin|cot|max|min|infty|in|to|pm|"
    r"times|cdot|dots|approx|leftarrow|l?[bB]ig[lr]?|left|right|[lr][Vv]ert|[lr]angle|[gln]e|pi|"
    r"partial|q?quad|underbrace|overline|top|mathbb|mathbf|hat|bar|top|circ|colon|!|,|;)(?![A-Za-z])"
)
WORDS = re.compile(r"\\(?:text|mathrm|operatorname)\{[^}]*\}")


def formulas(text: str) -> list[str]:
    """Extract the formulas of Markdown."""
    code = re.compile(r"^```(?:bash|python|\n).*?^```|`[^`\n]+`", re.M | re.S)
    found = re.findall(r"\$\$(.+?)\$\$|(?<![\\$])\$(?![\s$])(.+?)\$", code.sub("", text), re.S)
    return [block or inline for block, inline in found]


def letters(formula: str) -> set[str]:
    """List the Latin and Greek letters of a formula that stand for something."""
    expected = re.sub(r"\\operatorname\{E\}", r" \\Expected ", formula)
    bare = COMMANDS.sub(" ", WORDS.sub(" ", expected))
    return set(re.findall(r"\\[A-Za-z]+|[A-Za-z]", bare))


@pytest.fixture(scope="module")
def symbols() -> dict[str, set[str]]:
    """Read the glossary's table: a symbol as it is written, and the pages that use it."""
    text = (BOOK / "glossary.md").read_text(encoding="utf-8").partition("## Symbols")[2]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| $")]
    table: dict[str, set[str]] = {}
    for written, *_, used in rows:
        pages = set(re.findall(r"`(\w+)`", used)) or {"everywhere"}
        for symbol in re.findall(r"\$([^$]+)\$", written):
            assert symbol not in table, f"{symbol} has two rows"
            table[symbol] = pages
    return table


def test_every_symbol_of_a_formula_is_in_the_glossary(symbols):
    known: dict[str, set[str]] = {}
    for symbol, pages in symbols.items():
        for letter in letters(symbol):
            known.setdefault(letter, set()).update(pages)
    lost = []
    for path in sorted(BOOK.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for formula in formulas(cell.source) if cell.cell_type == "markdown" else []:
                for letter in letters(formula):
                    if not {path.stem, "everywhere"} & known.get(letter, set()):
                        lost.append((path.stem, letter, formula.strip()[:50]))
    assert lost == []


def test_the_glossary_lists_no_symbol_that_its_pages_lack(symbols):
    used = {
        path.stem: {
            letter
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "markdown"
            for formula in formulas(cell.source)
            for letter in letters(formula)
        }
        for path in BOOK.glob("*.ipynb")
    }
    for symbol, pages in symbols.items():
        for page in pages - {"everywhere"}:
            found = letters(symbol)
            assert not found or found & used[page], (symbol, page)


# The site.


class Page(HTMLParser):
    """What a page of the site shows, loads and links to."""

    LOADS = {
        "audio": ["src"],
        "embed": ["src"],
        "iframe": ["src"],
        "img": ["src", "srcset"],
        "input": ["src"],
        "link": ["href"],
        "object": ["data"],
        "script": ["src"],
        "source": ["src", "srcset"],
        "track": ["src"],
        "video": ["src", "poster"],
    }
    # Pictures that a player's or a stepper's script shows.
    DRAWN = ("data-picture", "data-dark-picture", "data-spectrogram")
    # Links of the head that say something about the page and load nothing.
    SILENT = {"author", "canonical", "license", "next", "prev", "index", "search"}

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.ids, self.links, self.loads, self.sounds = path, set(), [], [], []
        self.pictures, self.text, self.code, self._inside = [], "", "", None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = {name: value or "" for name, value in attributes}
        if tag in ("script", "style"):
            self._inside = tag
        self.ids |= {attributes.get("id"), attributes.get("name")}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if "data-audio" in attributes:
            self.sounds.append(attributes["data-audio"])
        self.pictures += [attributes[name] for name in self.DRAWN if name in attributes]
        if tag == "link" and self.SILENT & {*attributes.get("rel", "").split()}:
            return
        self.loads += [attributes[name] for name in self.LOADS.get(tag, []) if attributes.get(name)]
        self.code += attributes.get("style", "")

    def handle_endtag(self, tag):
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.code += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def site() -> Path:
    folder = Path(os.environ.get("SEPKIT_SITE", ROOT / "_build" / "html"))
    if not (folder / "index.html").is_file():
        pytest.skip(f"{folder} holds no site; make book builds one and runs this")
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Page]:
    found = {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}
    return {name: page for name, page in found.items() if not name.startswith("_static/")}


def _file(page: Page, link: str) -> Path:
    return Path(os.path.normpath(page.path.parent / unquote(urlsplit(link).path)))


def test_every_chapter_has_its_page(pages):
    assert {f"{name}.html" for name in CHAPTERS} <= set(pages)


def test_landing_page_holds_the_player_with_nine_tracks(pages):
    landing = pages["index.html"]
    assert "How a network takes a song apart" in landing.text
    assert len(landing.sounds) >= 9


def test_no_page_holds_a_traceback(pages):
    trace = re.compile(r"Traceback \(most recent call last\)|^\w*Error: ", flags=re.MULTILINE)
    assert [name for name, page in pages.items() if trace.search(page.text)] == []
    raw = {name: page.path.read_text(encoding="utf-8") for name, page in pages.items()}
    assert [name for name, html in raw.items() if 'class="output traceback' in html] == []


def test_no_page_loads_anything_from_elsewhere(pages, site):
    elsewhere = re.compile(r"(?:[a-z]+:)?//")
    loads = [(name, load) for name, page in pages.items() for load in page.loads]
    assert [(name, load) for name, load in loads if elsewhere.match(load)] == []
    # In styles and scripts: url(//...), @import "//...", import("//..."), x.src = "//...".
    starts = r"""(?:url\(\s*["']?|(?:import|from|src\s*=)\s*\(?\s*["'])"""
    fetched = re.compile(starts + "(?:https?:)?//")
    assert [name for name, page in pages.items() if fetched.search(page.code)] == []
    styles = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.css")}
    assert [path.name for path, style in styles.items() if fetched.search(style)] == []


def test_everything_that_a_page_loads_is_in_the_site(pages):
    lost = [
        (name, load)
        for name, page in pages.items()
        for load in page.loads
        if not load.startswith("data:") and not _file(page, load).is_file()
    ]
    assert lost == []


def test_every_sound_and_picture_of_a_script_is_a_file_of_the_site(pages, site):
    lost = [
        (name, media[:60])
        for name, page in pages.items()
        for media in page.sounds + page.pictures
        if not (site / "_static" / "audio" / media).is_file()
    ]
    assert lost == []
    assert [n for n, p in pages.items() if "data:audio" in p.path.read_text("utf-8")] == []


def _first_view(page):
    """List the files that a page loads in the light theme, before anybody presses a button.

    No sound is: a player's script loads it when it plays, and other sounds say ``preload="none"``.
    """
    html = page.path.read_text(encoding="utf-8")
    dark = set(re.findall(r'<img class="only-dark"[^>]*src="([^"]+)"', html))
    files = {_file(page, load) for load in page.loads if load not in dark and ":" not in load}
    if 'class="katex"' in html:
        fonts = page.path.parent / "_static" / "fonts"
        names = [
            "Main-Regular",
            "Main-Bold",
            "Math-Italic",
            "AMS-Regular",
            "Size1-Regular",
            "Size2-Regular",
        ]
        files |= {fonts / f"KaTeX_{name}.woff2" for name in names}
    silent = {path for path in files if path.suffix != ".flac"}
    return {page.path, *silent}


def test_no_sound_is_loaded_before_it_is_played(pages):
    eager = {
        name: re.findall(r"<audio(?![^>]* preload=\"none\")[^>]*>", page.path.read_text("utf-8"))
        for name, page in pages.items()
    }
    assert {name: found for name, found in eager.items() if found} == {}


def test_no_page_exceeds_a_megabyte_and_a_half_without_its_sound(pages):
    sizes = {
        name: sum(path.stat().st_size for path in _first_view(page)) for name, page in pages.items()
    }
    assert {name: size for name, size in sizes.items() if size > 1.5e6} == {}


def test_every_figure_of_a_page_has_a_dark_copy_of_its_size(pages):
    figures = 0
    for name, page in pages.items():
        html = page.path.read_text(encoding="utf-8")
        light = re.findall(r'<img class="only-light"[^>]*src="([^"]+)"', html)
        dark = re.findall(r'<img class="only-dark"[^>]*src="([^"]+)"', html)
        drawn = re.findall(r'src="((?:\.\./)*_images/[0-9a-f]{64}\.webp)"', html)
        assert drawn == light and len(dark) == len(light), name
        for pair in zip(light, dark, strict=True):
            sizes = [Image.open(_file(page, picture)).size for picture in pair]
            # The margins of a drawing are rounded to a pixel.
            np.testing.assert_allclose(*sizes, atol=2, err_msg=f"{name}: {pair}")
        figures += len(dark)
    assert figures > 40


def test_no_link_within_the_site_is_dead(pages):
    by_path = {page.path: page for page in pages.values()}
    dead = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link in ("", "#"):
                continue
            target = _file(page, link) if parts.path else page.path
            named = unquote(parts.fragment)
            if not target.exists() or (named and named not in by_path[target].ids):
                dead.append((name, link))
    assert dead == []


def test_formulas_are_set_in_the_page_and_need_no_script(pages, site):
    html = {name: page.path.read_text(encoding="utf-8") for name, page in pages.items()}
    formulas = {name for name, text in html.items() if 'class="math' in text}
    assert len(formulas) > 10
    for name in formulas:
        assert html[name].count('class="katex"') == html[name].count("<math "), name
        assert any("katex.min.css" in load for load in pages[name].loads), name
    scripts = [load for page in pages.values() for load in page.loads if ".js" in load]
    assert not [load for load in scripts if "mathjax" in load or "tex-svg" in load]
    style = (site / "_static" / "katex.min.css").read_text(encoding="utf-8")
    fonts = set(re.findall(r"url\((fonts/[^)]+)\)", style))
    assert len(fonts) > 10
    assert [font for font in fonts if not (site / "_static" / font).is_file()] == []


def test_icons_are_drawn_in_the_page(pages):
    html = {name: page.path.read_text(encoding="utf-8") for name, page in pages.items()}
    assert [name for name, text in html.items() if re.search(r"<i class=\"[^\"]*\bfa-", text)] == []
    assert "fa-circle-half-stroke" in html["index.html"]


def test_every_public_name_is_in_the_reference(pages):
    documented = pages["reference.html"].ids
    for name in sepkit.__all__:
        public = getattr(sepkit, name)
        if hasattr(public, "__path__"):  # a room: all its modules
            assert {f"module-{public.__name__}.{name}" for name in public.__all__} <= documented
        elif inspect.ismodule(public):
            assert f"module-{public.__name__}" in documented
        elif callable(public):
            assert f"{public.__module__}.{public.__qualname__}" in documented
