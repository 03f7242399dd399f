"""What the tests of several modules share."""

import os
import shutil
import subprocess
import sys
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
