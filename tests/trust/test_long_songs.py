"""An hour of stereo needs no more memory than five minutes"""

import os
import subprocess
import sys
from pathlib import Path

import corpus
import numpy as np
import pytest
import soundfile

MEGABYTES = 500

pytestmark = pytest.mark.xdist_group("long songs")


def write_song(path, minutes):
    """Write a song of some minutes: ten seconds over and over, each time at another level."""
    part = corpus.song(10)
    with soundfile.SoundFile(path, "w", corpus.RATE, 2, "PCM_16") as file:
        for i in range(6 * minutes):
            file.write(part * (0.5 + 0.5 * np.sin(i) ** 2))


# What getrusage tells of a child counts the memory of whoever started it.
CODE = """
import sys
from sepkit.cli import main
code = main(sys.argv[1:])
lines = open("/proc/self/status").read().splitlines()
print(*(line.split()[1] for line in lines if line.startswith("VmHWM")))
sys.exit(code)
"""


def separate(place, name, out):
    """Separate a song in a process of its own; return its highest memory [MB]."""
    command = [sys.executable, "-c", CODE, "separate", name, "-o", out]
    command += ["--hop", "25", "--two-stems", "vocals"]
    # As many threads on every machine: each holds a stretch of its own.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    run = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=True
    )
    return int(run.stdout.splitlines()[-1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_an_hour_is_separated_in_the_memory_of_five_minutes(room, record_property):
    place = room(5)
    memory = {}
    for minutes in (5, 60):
        write_song(place / "song.wav", minutes)
        memory[minutes] = separate(place, "song.wav", str(minutes))
    told = ", ".join(f"{minutes} minutes in {size:.0f} MB" for minutes, size in memory.items())
    record_property("measured", told)
    assert memory[60] <= MEGABYTES
    assert memory[60] <= 1.1 * memory[5]

    stems = [place / "60" / "vocals.wav", place / "60" / "no_vocals.wav"]
    n_samples = 3600 * corpus.RATE
    assert {soundfile.info(path).frames for path in stems} == {n_samples}
    starts = np.random.default_rng(0).integers(0, n_samples - 44100, 50)
    for start in [0, *starts, n_samples - 44100]:
        options = {"start": start, "frames": 44100, "dtype": "float32"}
        song, *parts = [soundfile.read(path, **options)[0] for path in (place / "song.wav", *stems)]
        assert np.abs(song - sum(parts)).max() <= 1e-5
        assert np.abs(parts[0]).max() > 1e-4, "silence"
