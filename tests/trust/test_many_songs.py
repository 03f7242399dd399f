"""A batch of a thousand songs outlives the bad ones among them"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import corpus
import numpy as np
import pytest
import soundfile

from sepkit.tracks import SOURCES

SONGS = 1000
BAD = {50: "text", 333: "empty", 500: "cut", 777: "nan", 998: "missing"}

pytestmark = pytest.mark.xdist_group("many songs")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a thousand songs of 0.1 to 0.5 s, five of them bad."""
    place = tmp_path_factory.mktemp("many")
    (place / "songs").mkdir()
    rng = np.random.default_rng(0)
    sound = corpus.song(1)
    for i in range(SONGS):
        song = sound[: int(rng.uniform(0.1, 0.5) * corpus.RATE)].copy()
        path = place / "songs" / f"{i:04d}.wav"
        if BAD.get(i) == "nan":
            song[100] = np.nan
        soundfile.write(path, song, corpus.RATE, subtype="FLOAT")
        if BAD.get(i) == "text":
            path.write_text("words, no sound\n")
        elif BAD.get(i) == "empty":
            path.write_bytes(b"")
        elif BAD.get(i) == "cut":
            path.write_bytes(path.read_bytes()[:9000])
        elif BAD.get(i) == "missing":
            path.unlink()
    return place


def separate(place):
    """Separate the batch; return exit code, errors, and open files and memory [MB] over time."""
    songs = [f"songs/{i:04d}.wav" for i in range(SONGS)]
    command = [sys.executable, "-m", "sepkit", "separate", *songs, "-o", "out", "--hop", "25"]
    with (place / "errors").open("w+") as errors:
        process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=errors)
        samples = []
        proc = Path(f"/proc/{process.pid}")
        while process.poll() is None:
            time.sleep(0.2)
            try:
                memory = re.search(r"VmRSS:\s+(\d+)", (proc / "status").read_text())
                samples.append((len(os.listdir(proc / "fd")), int(memory[1]) / 1024))
            except (OSError, TypeError):  # it has just ended
                break
        process.wait()
        errors.seek(0)
        return process.returncode, errors.read().splitlines(), np.array(samples)


def stems(place):
    return {
        path.relative_to(place).as_posix(): path.stat().st_mtime_ns
        for path in (place / "out").rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def batch(place):
    code, errors, samples = separate(place)
    return code, errors, samples, stems(place)


def test_the_good_ones_are_done_and_the_bad_ones_listed(batch):
    code, errors, _, made = batch
    assert code == 1, errors[-3:]
    wanted = {f"out/{i:04d}/{source}.wav" for i in range(SONGS) if i not in BAD
              for source in SOURCES}  # fmt: skip
    assert made.keys() == wanted
    *each, total = errors
    assert total == f"sepkit: {len(BAD)} of {SONGS} songs failed"
    # What shows on opening is told before the rest.
    each.sort(key=lambda line: line.partition("songs/")[2])
    for number, line in zip(sorted(BAD), each, strict=True):
        assert line.startswith("sepkit: ") and f"songs/{number:04d}.wav" in line


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_memory_and_open_files_do_not_grow(batch, record_property):
    *_, samples, made = batch
    assert len(made) > SONGS and len(samples) > 20, "too short to tell"
    # The first quarter warms up.
    early, late = np.array_split(samples[len(samples) // 4 :], 2)
    told = " and then ".join(
        f"{files.max():.0f} open files, {np.median(memory):.0f} MB"
        for files, memory in (early.T, late.T)
    )
    record_property("measured", f"{SONGS} songs: {told}")
    assert late[:, 0].max() <= early[:, 0].max(), "open files"
    assert np.median(late[:, 1]) <= np.median(early[:, 1]) + 10, "memory"


def test_a_second_run_does_only_what_is_missing(place, batch):
    *_, made = batch
    assert made, "the first run made nothing"
    again = [f"out/{number:04d}" for number in (0, 501, 999)]
    for folder in again:
        for path in (place / folder).iterdir():
            path.unlink()
        (place / folder).rmdir()
    code, errors, _ = separate(place)
    now = stems(place)
    # Each bad song, how many were kept, how many failed.
    assert code == 1 and len(errors) == len(BAD) + 2
    assert f"{SONGS - len(BAD) - len(again)} of {SONGS} songs had their stems" in errors[-2]
    assert now.keys() == made.keys()
    changed = {name.rpartition("/")[0] for name in made if now[name] != made[name]}
    assert changed == {*again}
