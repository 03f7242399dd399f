"""No damaged file passes without a word or brings the program down

For each file of the corpus, ``sepkit separate`` writes stems as long as what ffmpeg decodes and
that sum to it, or says in one line what is wrong and leaves nothing.
"""

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import corpus
import numpy as np
import pytest
import runner
import soundfile

from sepkit.tracks import SOURCES

SECONDS = 20
MEGABYTES = 600
FRAME = 1152
"""Samples of an mp3 frame: decoders differ on the one in which a file ends."""

CUTS = ("cut early", "cut midway", "cut late", "middle dropped")
# libopus and ffmpeg's own decoder of Opus differ by that much of the peak.
TOLERANCES = {"opus": 0.05}

pytestmark = pytest.mark.usefixtures("ffmpeg")


@functools.cache
def whole(name: str) -> tuple[bytes, np.ndarray]:
    """Return a file of a format, and what ffmpeg decodes from it."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, f"whole{corpus.FORMATS[name][0]}")
        corpus.encode(name, corpus.song(), path)
        sound, complaint = corpus.decode(path)
        assert not complaint
        return path.read_bytes(), sound.reshape(-1, 2)


def total(folder: Path) -> np.ndarray | None:
    """Return the sum of the stems in a folder, or None if they are not four of one shape."""
    if sorted(path.name for path in folder.iterdir()) != [f"{source}.wav" for source in SOURCES]:
        return None
    stems = [soundfile.read(folder / f"{source}.wav", always_2d=True)[0] for source in SOURCES]
    if len({stem.shape for stem in stems}) > 1:
        return None
    return np.sum(stems, axis=0)


def equal(one: np.ndarray, other: np.ndarray, tolerance: float, slack: int = 0) -> bool:
    """Compare sounds whose lengths differ by `slack` samples at most, at either end."""
    if one.shape[1] != other.shape[1] or abs(len(one) - len(other)) > slack:
        return False
    if not len(other):
        return True
    n = min(len(one), len(other))
    bound = tolerance * np.abs(other).max()
    pairs = [(one[:n], other[:n]), (one[len(one) - n :], other[len(other) - n :])]
    return any(np.abs(a - b).max() <= bound for a, b in pairs)


def judge(run: runner.Run, path: Path, name: str, damage: str) -> tuple[str, str]:
    """Return the cell of the table for a run, and what is wrong with it."""
    lines = run.err.splitlines()
    line = len(lines) == 1 and lines[0].startswith("sepkit: ") and path.name in lines[0]
    out = path.parent / "out"
    others = [other.name for other in path.parent.iterdir() if other not in (path, out)]
    if run.code is None or run.seconds > SECONDS or run.megabytes > MEGABYTES:
        return "T", f"{run.seconds:.0f} s, {run.megabytes:.0f} MB"
    if run.code not in (0, 2) or "Traceback" in run.err:
        return "C", f"code {run.code}: {run.err[-300:]}"
    if run.code == 2 and (not line or run.out):
        return "M", run.err
    if others or "left in TMPDIR" in run.err or (run.code == 2 and out.exists()):
        return "L", f"left behind: {others or [*out.rglob('*')]}"
    if run.code == 2:
        return "r", ""
    stems = total(out)
    if stems is None or not np.isfinite(stems).all():
        return "N", "not four finite stems of one length"
    if line:
        return "w", ""
    # What a library in C mutters names neither the file nor what is missing: it is no word on it.
    cell, wrong = judge_silent(stems, path, name, damage)
    return (cell, wrong) if wrong or not lines else ("M", run.err)


def judge_silent(stems: np.ndarray, path: Path, name: str, damage: str) -> tuple[str, str]:
    """Judge the sum of the stems of a song that was separated without a word."""
    _, intact = whole(name)
    decoded, complaint = corpus.decode(path)
    decoded = decoded[: decoded.size // stems.shape[1] * stems.shape[1]]
    decoded = decoded.reshape(-1, stems.shape[1])
    lengths = f"{len(stems)} samples, ffmpeg {len(decoded)}, before the damage {len(intact)}"
    tolerance = TOLERANCES.get(name, 1e-3)
    mp3 = FRAME if name.startswith("mp3") else 0
    if damage in CUTS and name not in corpus.UNTOLD:
        return "S", f"cut, yet silent: {lengths}"
    if not complaint:
        right = equal(stems, decoded, tolerance, mp3) or equal(stems, intact, tolerance)
        return ("=", "") if right else ("N", lengths)
    # ffmpeg complains: then nothing may be missing.
    wanted = decoded if damage == "joined" else intact
    if damage in CUTS:
        wanted = decoded
    if stems.shape[1] != wanted.shape[1] or len(stems) < len(wanted) - FRAME:
        return "S", f"{lengths}; ffmpeg: {complaint[:200]}"
    # What lies before the damage is as it was.
    start = slice(0, len(intact) // 8)
    right = equal(stems[start], intact[start], tolerance, mp3)
    return ("=", "") if right else ("N", f"{lengths}; ffmpeg: {complaint[:200]}")


@pytest.mark.parametrize("name", corpus.FORMATS)
def test_a_song_without_damage_is_separated_whole(name, tmp_path, record_property):
    path = tmp_path / f"song{corpus.FORMATS[name][0]}"
    path.write_bytes(whole(name)[0])
    run = runner.run("separate", path.name, "--hop", 25, "-o", "out", folder=tmp_path)
    cell, wrong = judge(run, path, name, "none")
    record_property("cell", (name, "(none)", cell))
    assert cell == "=", wrong


@pytest.mark.parametrize(
    ("name", "damage"), corpus.CASES, ids=[f"{name}, {damage}" for name, damage in corpus.CASES]
)
def test_a_damaged_song_is_whole_warned_of_or_refused(name, damage, tmp_path, record_property):
    path = tmp_path / f"song{corpus.FORMATS[name][0]}"
    data = corpus.damaged(name, damage, whole(name)[0])
    assert data != whole(name)[0], "the corpus did no damage"
    path.write_bytes(data)
    run = runner.run(
        "separate", path.name, "--hop", 25, "-o", "out", folder=tmp_path, timeout=SECONDS
    )
    cell, wrong = judge(run, path, name, damage)
    record_property("cell", (name, damage, cell))
    assert not wrong, f"{wrong}\n{run}"


@pytest.mark.parametrize("name", corpus.FORMATS)
def test_in_a_batch_each_damaged_song_has_its_line_and_the_good_one_its_stems(name, tmp_path):
    suffix = corpus.FORMATS[name][0]
    songs = {}
    for there, damage in corpus.CASES:
        # Numbers in front: no name is the beginning of another.
        if there == name:
            songs[f"{len(songs):02d} {damage}{suffix}"] = corpus.damaged(
                name, damage, whole(name)[0]
            )
    songs[f"good{suffix}"] = whole(name)[0]
    for song, data in songs.items():
        (tmp_path / song).write_bytes(data)
    command = [sys.executable, "-m", "sepkit", "separate", *songs, "--hop", "25", "-o", "out"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    lines = run.stderr.splitlines()
    assert "Traceback" not in run.stderr
    assert run.returncode == 1, f"{run.returncode}: {run.stderr[-500:]}"
    assert total(tmp_path / "out" / "good") is not None
    for song in songs:
        place = tmp_path / "out" / song.removesuffix(suffix)
        about = [line for line in lines if song in line]
        assert len(about) <= 1, about
        assert place.exists() or about, f"{song}: no stems and no word"
        assert not place.exists() or total(place) is not None
    assert all(line.startswith("sepkit: ") for line in lines)
