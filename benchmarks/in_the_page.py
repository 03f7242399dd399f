"""The engine in a page: ``python -m benchmarks.in_the_page``, or ``make bench``."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import http.server
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from playwright.sync_api import Page, sync_playwright

import sepkit
from benchmarks import measure
from sepkit import files, streaming
from sepkit.notebook import web
from sepkit.tracks import RATE

LENGTHS = (5.9, 30, 180, 600)
"""Seconds of the songs."""

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>bench</title>
<script src="stem_player.js"></script><script src="separator.js"></script>
<sepkit-separator model="{model}" hop="5"></sepkit-separator></html>"""

SEPARATE = """async (input) => {
  const element = document.querySelector("sepkit-separator");
  const begun = performance.now();
  const since = () => (performance.now() - begun) / 1000;
  let first = null;
  element.addEventListener("sepkit-progress", () => (first ??= since()));
  await element.separate(input.files[0]);
  return { first, all: since() };
}"""

READY = """async ({ model, hop }) => {
  const begun = performance.now();
  const network = await sepkitEngine.part(model);
  for (const engine of await sepkitEngine.startEngines(network, hop, 30)) engine.end();
  return (performance.now() - begun) / 1000;
}"""


def site(folder: Path) -> dict[str, list[str]]:
    """Write three pages; return, by name, the scripts that each of them loads."""
    values = streaming.resolve_weights("experiment3")
    engine = web.engine_part()
    scalar = {**engine, "simd": base64.b64encode(b"no module").decode("ascii")}
    shared = ["stem_player.js", "separator.js"]
    shutil.copy(web.STATIC / "stem_player.js", folder)
    (folder / "separator.js").write_text(web.separator_script(), encoding="utf-8")
    loaded = {}
    for name, part, half in (
        ("SIMD, 16-bit weights", engine, True),
        ("SIMD, 32-bit weights", engine, False),
        ("no SIMD, 16-bit weights", scalar, True),
    ):
        model = "experiment3" if half else "experiment3-float32"
        place = folder / re.sub(r"\W+", "-", name)
        (place / "separator").mkdir(parents=True)
        for script in shared:
            shutil.copy(folder / script, place)
        parts = [
            web.write_part(place / "separator", "engine", part),
            web.write_part(place / "separator", model, web.network_part(values, half=half)),
        ]
        (place / "index.html").write_text(PAGE.format(model=model), encoding="utf-8")
        loaded[name] = [str(path) for path in (*(place / script for script in shared), *parts)]
    return loaded


def song(folder: Path, seconds: float) -> Path:
    """Write the example, repeated to a length."""
    path = folder / f"{seconds}.wav"
    mixture = sepkit.example().mixture
    n_samples = round(seconds * RATE)
    repeated = np.tile(mixture, (-(-n_samples // len(mixture)), 1))[:n_samples]
    soundfile.write(path, repeated, RATE, subtype="PCM_16")
    return path


def memory_of_renderers() -> int:
    """Return the memory [bytes] of Chromium's pages: private, and their part of what is shared."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"--type=renderer" in (process / "cmdline").read_bytes():
                rollup = (process / "smaps_rollup").read_text()
                total += 1024 * int(re.search(r"^Pss: +(\d+)", rollup, re.MULTILINE)[1])
        except OSError:
            continue
    return total


@contextlib.contextmanager
def watched() -> Iterator[list[int]]:
    """Note the memory of Chromium's pages [bytes] five times a second."""
    found = [memory_of_renderers()]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            found.append(memory_of_renderers())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def measure_page(page: Page, address: str, model: str, songs: dict[str, Path]) -> dict[str, Any]:
    """Measure one form of the engine."""
    page.goto(address)
    empty = memory_of_renderers()
    ready = page.evaluate(READY, {"model": model, "hop": 5})
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('input'), "
        "{ type: 'file', id: 'song' }))"
    )
    took, first = {}, None
    for length, path in songs.items():
        page.set_input_files("#song", path)
        with watched() as most:
            result = page.evaluate(SEPARATE, page.query_selector("#song"))
        took[length] = round(result["all"], 3)
        if length == "180":
            first = result["first"]
    return {
        "ready": round(ready, 3),
        "first": round(first, 3),
        "seconds": took,
        "memory": max(most) - empty,
    }


def measure_engines() -> dict[str, Any]:
    """Measure all forms of the engine in pages of their own."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    rows = []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        loaded = site(folder)
        songs = {f"{seconds:g}": song(folder, seconds) for seconds in LENGTHS}
        handler = functools.partial(Quiet, directory=name)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for form, scripts in loaded.items():
            browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(600_000)
            model = Path(scripts[-1]).stem
            address = f"http://127.0.0.1:{server.server_port}/{Path(scripts[0]).parent.name}/"
            contents = [Path(script).read_bytes() for script in scripts]
            rows.append(
                {
                    "name": form,
                    "bytes": sum(map(len, contents)),
                    "compressed": sum(len(gzip.compress(content)) for content in contents),
                    **measure_page(page, address, model, songs),
                }
            )
            version = browser.version
            browser.close()
        server.shutdown()
    return {
        "date": date.today().isoformat(),
        "machine": measure.machine(),
        "browser": f"Chromium {version}",
        "rows": rows,
    }


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that logs nothing."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def main() -> int:
    """Measure, print, and put the result beside the other benchmarks'."""
    measured = measure_engines()
    path = Path(__file__).parent / "results.json"
    files.write_json({**files.read_json(path), "page": measured}, path)
    for row in measured["rows"]:
        print(row)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
