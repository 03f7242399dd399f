"""The book on paper: a small site, printed by Chromium."""

import importlib.util
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pypdf import PdfReader

SCRIPT = Path(__file__).parents[2] / "book" / "_extensions" / "pdf.py"
PAGE = """<!doctype html><html lang="en" data-theme="dark"><head><title>t</title></head><body>
<h1>{title}<a href="#">#</a></h1><p>{text}</p>
<details><summary>Answer</summary><p>folded</p></details>
<div class="toggle-hidden"><p>toggled</p></div>
<style>.toggle-hidden {{ display: none }}</style></body></html>"""
PARTS = [("", ["index"]), ("First part", ["one", "two"])]


@pytest.fixture(scope="module")
def pdf():
    spec = importlib.util.spec_from_file_location("pdf", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def book(pdf, tmp_path_factory):
    """Print a site of three pages, of which the second takes several sheets."""
    folder = tmp_path_factory.mktemp("pdf")
    for name, length in (("index", 1), ("one", 2000), ("two", 1)):
        text = "long " * length
        (folder / f"{name}.html").write_text(PAGE.format(title=f"Page {name}", text=text))
    names = [name for _, part in PARTS for name in part]
    # It starts Playwright, which other tests have done in this thread.
    with ThreadPoolExecutor(1) as thread:
        titles = thread.submit(
            pdf.print_pages, folder, names, folder, shutil.which("chromium")
        ).result()
    pdf.join(PARTS, titles, folder)
    return folder


def test_answers_are_printed_unfolded(book):
    text = PdfReader(book / "one.pdf").pages[-1].extract_text()
    assert "folded" in text and "toggled" in text


def test_the_book_holds_all_pages_with_an_outline_by_parts(book):
    reader = PdfReader(book / "book.pdf")
    sheets = [len(PdfReader(book / f"{name}.pdf").pages) for name in ("index", "one", "two")]
    assert sheets[1] > 1 and len(reader.pages) == sum(sheets)
    first, part, pages = reader.outline
    assert (first.title, part.title) == ("Page index", "First part")
    assert [page.title for page in pages] == ["Page one", "Page two"]
    starts = [reader.get_destination_page_number(item) for item in (first, part, *pages)]
    assert starts == [0, sheets[0], sheets[0], sheets[0] + sheets[1]]


def test_the_parts_are_those_of_the_contents(pdf):
    parts = pdf.chapters()
    assert parts[0] == ("", ["index"])
    for _, names in parts:
        for name in names:
            assert [*SCRIPT.parents[1].glob(f"{name}.*")], name


def test_a_missing_site_is_told(pdf, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pdf.py", str(tmp_path / "none"), str(tmp_path / "out")])
    assert pdf.main() == 1
    assert "holds no site to print; make book builds it" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
