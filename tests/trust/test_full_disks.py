"""A disk that fills up never passes for one that holds the stems"""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import corpus
import numpy as np
import pytest
import runner
import soundfile

from sepkit import audio, files, weights
from sepkit.errors import SepkitError
from sepkit.tracks import SOURCES

PAGE = 4096
FORMATS = ("wav", "flac", "ogg", "mp3")
REASONS = ("No space left", "File too large", "disk is full")

pytestmark = pytest.mark.xdist_group("full disks")


@contextlib.contextmanager
def small_disk(place, n_pages):
    """Mount a disk of some pages at a folder."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={n_pages * PAGE}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounts no tmpfs; run as root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a short song, its stems in each format, and an empty folder for disks."""
    if os.name != "posix" or not shutil.which("mount"):
        pytest.skip("needs mount")
    place = tmp_path_factory.mktemp("full")
    soundfile.write(place / "song.wav", corpus.song(0.3), corpus.RATE, subtype="PCM_16")
    for ext in FORMATS:
        run = runner.run("separate", "song.wav", "--ext", ext, "-o", f"whole {ext}", folder=place)
        assert run.code == 0, run.err
    (place / "disk").mkdir()
    return place


def check(run, place, out, ext):
    """Check a run whose stems may not have fitted; return whether they did."""
    whole = place / f"whole {ext}"
    if run.code == 0:
        for source in SOURCES:
            name = f"{source}.{ext}"
            assert same(out / name, whole / name), f"{name} is broken, and no error"
        return True
    assert run.code == 2, run
    assert len(run.err.splitlines()) == 1 and run.err.startswith("sepkit: "), run.err
    assert ".sepkit-" not in run.err, f"names a file that is not the user's: {run.err}"
    assert "song" in run.err or str(out.relative_to(place)) in run.err, run.err
    assert any(reason in run.err for reason in REASONS), f"no reason: {run.err}"
    assert not out.exists(), f"left behind: {[*out.rglob('*')]}"
    return False


def same(made, whole):
    """Compare sound files by their samples: their first bytes may hold the time or a number."""
    if made.stat().st_size != whole.stat().st_size:
        return False
    return np.array_equal(soundfile.read(made)[0], soundfile.read(whole)[0])


def collect(attempts):
    """Run checks that each may fail; fail once, with all that they found."""
    wrong = {}
    for name, attempt in attempts:
        try:
            attempt()
        except AssertionError as error:
            text = re.sub(r"\.sepkit-\w+|0x\w+", "*", str(error).splitlines()[0])
            wrong.setdefault(text[:160], []).append(name)
    assert not wrong, "\n".join(f"{text}: at {names}" for text, names in wrong.items())


@pytest.mark.parametrize("ext", FORMATS)
def test_stems_on_a_disk_of_any_size_are_whole_or_refused(place, ext):
    floats = 4 * (round(0.3 * corpus.RATE) * 8 // PAGE + 1)
    done = []

    def attempt(n_pages):
        with small_disk(place / "disk", n_pages):
            run = runner.run("separate", "song.wav", "--ext", ext, "-o", "disk/out", folder=place)
            done.append(check(run, place, place / "disk" / "out", ext))

    # Every page counts from where the float stems fit; below that, the reason is the same.
    sizes = [*range(4, floats - 8, 12), *range(floats - 8, floats + 48)]
    collect((n_pages, lambda n=n_pages: attempt(n)) for n_pages in sizes)
    assert done[0] is False and done[-1] is True, "the sizes tell nothing"


@pytest.mark.parametrize("ext", FORMATS)
def test_stems_under_a_limit_of_file_size_are_whole_or_refused(place, ext):
    largest = max(path.stat().st_size for path in (place / "whole wav").iterdir())
    done = []

    def attempt(size):
        run = runner.run(
            "separate", "song.wav", "--ext", ext, "-o", "limited", folder=place, file_size=size
        )
        try:
            done.append(check(run, place, place / "limited", ext))
        finally:
            shutil.rmtree(place / "limited", ignore_errors=True)

    whole = max(path.stat().st_size for path in (place / f"whole {ext}").iterdir())
    # An error of a thousand bytes fits into a file, too.
    sizes = sorted({1000, whole // 2, whole - 1, whole, largest - 1, largest, 2 * largest})
    collect((size, lambda n=size: attempt(n)) for size in sizes)
    assert done[0] is False and done[-1] is True, "the sizes tell nothing"


def write_sound(name):
    audio.write(name, corpus.song(2), corpus.RATE)


def write_weights(name):
    weights.save(weights.initialize(sizes=weights.Sizes(4, 4, 4, 4, 8)), name)


def write_scores(name):
    files.write_json({"scores": [*range(3000)]}, name)


def write(function, name):
    """Write a file; report an error as the command line does."""
    try:
        function(name)
    except SepkitError as error:
        print(f"sepkit: {error}", file=sys.stderr)
        return 2


WRITTEN = {f"a.{ext}": write_sound for ext in FORMATS}
WRITTEN |= {"a.weights.h5": write_weights, "a.json": write_scores}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_of_the_library_is_whole_or_an_error(place, name):
    WRITTEN[name](place / name)
    whole = (place / name).read_bytes()
    n_pages = -(-len(whole) // PAGE)
    disk = place / "disk"

    def attempt(missing):
        with small_disk(disk, n_pages - missing):
            run = runner.call(write, WRITTEN[name], name, folder=disk)
            if run.code == 0:
                made = (disk / name).read_bytes()
                assert len(made) == len(whole), f"{len(made)} bytes of {len(whole)}, no error"
                # The first bytes of some formats hold the time.
                assert made[-64:] == whole[-64:]
                return
            assert run.code == 2, f"code {run.code}: {run.err.strip().splitlines()[-1:]}"
            assert len(run.err.splitlines()) == 1 and name in run.err, run.err
            assert any(reason in run.err for reason in REASONS), f"no reason: {run.err}"
            assert [*disk.iterdir()] == []

    collect((missing, lambda n=missing: attempt(n)) for missing in range(min(8, n_pages - 1)))
