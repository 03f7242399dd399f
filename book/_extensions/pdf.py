"""Print each page of the built site to a PDF, and all of them to one: ``make pdf``."""

import argparse
import shutil
import sys
from pathlib import Path

import yaml
from playwright.sync_api import sync_playwright
from pypdf import PdfWriter

ROOT = Path(__file__).parents[2]
PAPER = {
    "format": "A4",
    "scale": 0.85,
    "margin": dict.fromkeys(("top", "bottom", "left", "right"), "18mm"),
}


def chapters(table: Path = ROOT / "_toc.yml") -> list[tuple[str, list[str]]]:
    """List the parts of the book with the pages of each, in reading order."""
    toc = yaml.safe_load(table.read_text(encoding="utf-8"))
    parts = [
        (part["caption"], [page["file"] for page in part["chapters"]]) for part in toc["parts"]
    ]
    return [("", [toc["root"]]), *parts]


def print_pages(site: Path, names: list[str], output: Path, executable: str) -> dict[str, str]:
    """Write ``NAME.pdf`` for each page, with its answers unfolded, and return their titles."""
    titles = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="light")
        for name in names:
            page.goto((site / f"{name}.html").as_uri())
            # Printed is what is open, and what has been in sight.
            page.evaluate(
                """async () => {
                  document.documentElement.dataset.theme = "light";
                  for (const details of document.querySelectorAll("details")) details.open = true;
                  for (const hidden of document.querySelectorAll(".toggle-hidden"))
                    hidden.classList.remove("toggle-hidden");
                  const pictures = [...document.querySelectorAll("img:not(.only-dark)")];
                  for (const picture of pictures) picture.loading = "eager";
                  await Promise.all(pictures.map((picture) => picture.decode().catch(() => {})));
                  await document.fonts.ready;
                }"""
            )
            titles[name] = page.locator("h1").first.evaluate("h1 => h1.firstChild.textContent")
            page.pdf(path=output / f"{name}.pdf", print_background=True, tagged=True, **PAPER)
        browser.close()
    return titles


def join(parts: list[tuple[str, list[str]]], titles: dict[str, str], output: Path) -> None:
    """Join the pages to one book with an outline."""
    book = PdfWriter()
    for caption, names in parts:
        part = None
        for name in names:
            first = len(book.pages)
            book.append(output / f"{name}.pdf", import_outline=False)
            if caption and part is None:
                part = book.add_outline_item(title=caption, page_number=first)
            book.add_outline_item(title=titles[name], page_number=first, parent=part)
    book.add_metadata({"/Title": titles["index"], "/Author": "The sepkit contributors"})
    book.write(output / "book.pdf")


def main() -> int:
    """Print the site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    if not (options.site / "index.html").is_file():
        print(f"make: {options.site} holds no site to print; make book builds it")
        return 1
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if not executable:
        print("make: no Chromium to print with; on Debian, Ubuntu: apt-get install chromium")
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    parts = chapters()
    pages = [name for _, names in parts for name in names]
    titles = print_pages(options.site.resolve(), pages, options.output, executable)
    join(parts, titles, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
