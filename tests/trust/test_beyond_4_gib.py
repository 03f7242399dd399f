"""Sound of more than 4 GiB is not cut

A wav file counts its bytes in 32 bits.
"""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from sepkit import audio

GIB = 1 << 30

pytestmark = pytest.mark.xdist_group("beyond 4 GiB")


def count_by_ffmpeg(path):
    """Return the samples that ffmpeg finds in a file, packet by packet."""
    command = ["ffprobe", "-v", "error", "-show_entries", "packet=duration", "-of", "csv=p=0", path]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return sum(int(line.strip(",")) for line in run.stdout.split())


def test_a_wav_file_of_more_than_4_gib_is_whole(room, ffmpeg):
    path = room(6) / "long.wav"
    block = np.zeros((1 << 20, 8), np.float32)
    n_blocks = 4 * GIB // block.nbytes + 2
    with audio.writer(path, 192000, 8) as file:
        for i in range(n_blocks):
            block[:, 0] = i / n_blocks
            file.write(block)
    n_samples = n_blocks * len(block)
    assert path.stat().st_size > 4 * GIB
    assert soundfile.info(path).frames == n_samples
    assert count_by_ffmpeg(path) == n_samples
    last, _ = soundfile.read(path, start=n_samples - 10)
    assert np.abs(last[:, 0] - (n_blocks - 1) / n_blocks).max() <= 1e-6


def test_a_song_whose_stems_pass_4_gib_keeps_its_end(room):
    """Eight channels at the highest rate of flac: the smallest work that makes such stems."""
    place = room(15)
    rate, channels = 655350, 8
    n_blocks = 4 * GIB // (4 * channels << 20) + 2
    block = np.zeros((1 << 20, channels), np.int16)
    block[:, 0] = 3000 * np.sin(np.arange(len(block)) * 2 * np.pi * 440 / rate)
    with soundfile.SoundFile(place / "song.flac", "w", rate, channels, "PCM_16") as file:
        for _ in range(n_blocks):
            file.write(block)
    command = [sys.executable, "-m", "sepkit", "separate", "song.flac", "-o", "out"]
    command += ["--hop", "25", "--two-stems", "vocals", "--ext", "flac"]
    run = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    wanted = soundfile.info(place / "song.flac").frames
    stems = [place / "out" / f"{stem}.flac" for stem in ("vocals", "no_vocals")]
    assert [soundfile.info(path).frames for path in stems] == [wanted, wanted]
    parts = [soundfile.read(path, start=wanted - 1000)[0] for path in stems]
    assert np.abs(sum(parts)[:, 0] - block[-1000:, 0] / 32768).max() <= 1e-4
