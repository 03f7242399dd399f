"""What the tests of several modules share."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import noise, random_network
from hypothesis import Phase, settings

from sepkit import audio, datasets, weights
from sepkit.tracks import SOURCES

ROOT = Path(__file__).parents[1]

# Properties are tried on the same examples every time, so that a failure comes again, and for as
# long as it takes on a slow machine.
settings.register_profile("tests", deadline=None, derandomize=True, max_examples=30)
# A mutant is killed by the first example that fails; nobody reads the simplest one.
settings.register_profile(
    "mutants", settings.get_profile("tests"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def ffmpeg():
    """Run ffmpeg with some arguments."""
    if not shutil.which("ffmpeg"):
        pytest.skip("no ffmpeg on this machine; install it with its package manager")

    def run(*arguments):
        command = ["ffmpeg", "-v", "error", "-y", "-nostdin", *map(str, arguments)]
        subprocess.run(command, check=True)

    return run


@pytest.fixture(scope="session")
def falcon(ffmpeg):
    """The real song that comes with a package."""
    pytest.importorskip("stempeg")
    return datasets.example()


@pytest.fixture(scope="session")
def sample():
    """The folder of DSD100's songs in MUSDB18's 7 s sample, where SEPKIT_DATA holds it."""
    place = Path(os.environ.get("SEPKIT_DATA") or "/nowhere") / "musdb18-7"
    if not (place / "train").is_dir():
        pytest.skip("SEPKIT_DATA names no folder that holds musdb18-7")
    pytest.importorskip("musdb")
    return place


@pytest.fixture(scope="session")
def untrained():
    """An untrained mono network of the report's sizes."""
    return random_network(weights.REPORT_SIZES)


@pytest.fixture(scope="session")
def untrained_30():
    """An untrained mono network with contexts of 30 frames."""
    return random_network(weights.Sizes(context=30))


@pytest.fixture
def stems_folder(tmp_path):
    """Make a folder of one song: four stems of noise."""

    def make(name, *, n_samples=4000, rate=44100, channels=2, suffix=".wav", seed=0):
        place = tmp_path / name
        place.mkdir(parents=True)
        for i, source in enumerate(SOURCES):
            stem = noise(n_samples, channels, seed=10 * seed + i)
            audio.write(place / f"{source}{suffix}", stem, rate)
        return place

    return make


@pytest.fixture
def python(tmp_path):
    """Run Python on this library in an empty folder, apart from this process."""
    place = tmp_path / "elsewhere"
    place.mkdir()

    def run(*arguments, check=True, **variables):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
            capture_output=True,
            text=True,
            check=check,
        )

    return run


@pytest.fixture(scope="session")
def live_site(tmp_path_factory, falcon):
    """A folder with what explorers stand on: kit, engine, Experiment 3, the stems of Falcon 69."""
    from sepkit.notebook import media, web

    folder = tmp_path_factory.mktemp("live")
    parts = folder / "separator"
    parts.mkdir()
    values = weights.load(weights.find_weights("experiment3"))
    web.write_part(parts, "engine", web.engine_part())
    web.write_part(parts, "experiment3", web.network_part(values))
    web.write_part(parts, "experiment3-float32", web.network_part(values, half=False))
    web.write_part(parts, "colors", web.colors_part())
    stems = {name: media.flac(stem[:, :1], falcon.rate) for name, stem in falcon.stems.items()}
    web.write_part(parts, "falcon-69-stems", web.stems_part(stems, falcon.rate, notice="Falcon 69"))
    for path in web.STATIC.iterdir():
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def live_page(live_site, chromium_of_session):
    """Open a page that holds some HTML and the scripts of some explorers, from disk or by HTTP.

    Yields a function from body and names of scripts to Playwright's page. A script's error fails
    the test.
    """
    opened, errors = [], []

    def open_page(body, *scripts, width=1280, served=True, **options):
        head = "".join(
            f'<link rel="stylesheet" href="{name}.css">' for name in ("kit", "stem_player")
        ) + "".join(
            f'<script src="{name}.js"></script>'
            for name in ("sound_files", "engine_host", "kit", "stem_player", *scripts)
        )
        name = f"page{len(list(live_site.glob('page*.html')))}.html"
        (live_site / name).write_text(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">{head}</head>'
            f"<body><main><h1>A page</h1>{body}</main></body></html>",
            encoding="utf-8",
        )
        context = chromium_of_session.new_context(
            viewport={"width": width, "height": 900}, **options
        )
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        if served:
            handler = functools.partial(Quiet, directory=str(live_site))
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            opened.append(server)
            page.goto(f"http://127.0.0.1:{server.server_port}/{name}")
        else:
            page.goto((live_site / name).as_uri())
        return page

    yield open_page
    for thing in opened:
        if isinstance(thing, http.server.HTTPServer):
            thing.shutdown()
            thing.server_close()
        else:
            thing.close()
    assert errors == []


@pytest.fixture(scope="session")
def driver():
    """Playwright: a thread can start it once at a time, so that all tests share it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def chromium_of_session(driver):
    """Chromium, for all tests of explorers."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if not executable:
        pytest.skip("no Chromium on this machine: install Debian's package chromium")
    browser = driver.chromium.launch(
        executable_path=executable,
        args=["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"],
    )
    yield browser
    browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that logs nothing."""

    def log_message(self, *_):
        pass
