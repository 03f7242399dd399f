"""A separation that is stopped leaves whole stems or none

Killed outright, it leaves no stem that is not whole; told to end (SIGTERM, SIGINT), it leaves
nothing and says so by its exit code.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import corpus
import numpy as np
import pytest
import soundfile

from sepkit.tracks import SOURCES

SCRIPT = Path(__file__).with_name("slow_disk.py")
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
OPTIONS = {"wav": [], "flac": ["--ext", "flac"], "mp3": ["--ext", "mp3"]}

pytestmark = pytest.mark.xdist_group("killed separation")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a song and the stems that it has when nothing happens."""
    place = tmp_path_factory.mktemp("killed")
    soundfile.write(place / "song.wav", corpus.song(20), corpus.RATE, subtype="PCM_16")
    for ext, options in OPTIONS.items():
        assert start(place, place / f"whole {ext}", options).wait() == 0
    return place


def start(place, out, options):
    command = [sys.executable, SCRIPT, "separate", "song.wav", "-o", out, "--hop", "10", *options]
    return subprocess.Popen(
        [*map(str, command)], cwd=place, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def stop(place, out, options, number, seed):
    """Start a separation and send it a signal at some moment after it began to write."""
    rng = np.random.default_rng(seed)
    process = start(place, out, options)
    while process.poll() is None and not (out.exists() and any(out.iterdir())):
        time.sleep(0.002)
    if seed % 2 == 0:  # while the finished stems go to their places
        while process.poll() is None and not visible(out):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.3))
    else:
        time.sleep(rng.uniform(0, 4))
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def visible(out):
    return sorted(path.name for path in out.glob("[!.]*")) if out.exists() else []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ext", OPTIONS)
def test_killed_outright_no_stem_is_half_written(place, tmp_path, ext, seed):
    out = tmp_path / "out"
    code, _ = stop(place, out, OPTIONS[ext], signal.SIGKILL, seed)
    assert code in (0, -signal.SIGKILL)
    for name in visible(out):
        made, whole = (soundfile.read(folder / name)[0] for folder in (out, place / f"whole {ext}"))
        np.testing.assert_array_equal(made, whole, err_msg=name)
    # What it left is in nobody's way.
    again = start(place, out, [*OPTIONS[ext], "--overwrite"])
    again.communicate()
    assert again.returncode == 0
    assert visible(out) == sorted(f"{source}.{ext}" for source in SOURCES)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ext", OPTIONS)
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_told_to_end_it_leaves_nothing(place, tmp_path, number, ext, seed):
    out = tmp_path / "new" / "out"
    code, err = stop(place, out, OPTIONS[ext], number, seed)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    if code == 0:  # the signal came after the end
        assert visible(out) == sorted(f"{source}.{ext}" for source in SOURCES)
        return
    assert code == CODES[number], err
    assert len(err.splitlines()) == 1 and err.startswith("sepkit: "), err
    assert left == []
