"""Containers by ffmpeg: tags copied from a song, stems in one file."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sepkit.errors import AudioError

STEM_ORDER = ("drums", "bass", "other", "vocals")
"""Order of the sources in a .stem.mp4 file, behind the mixture."""

_AAC_BITRATE = 256
"""Of each stem in a .stem.mp4 file [kbit/s], as in MUSDB18."""

AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200,
             96000)  # fmt: skip
"""Sample rates that AAC knows [Hz]."""

_WITH_COVER = {".flac", ".mp3"}
"""Formats to which ffmpeg copies a picture."""


def has_ffmpeg() -> bool:
    """Return whether ffmpeg is installed."""
    return shutil.which("ffmpeg") is not None


def copy_tags(song: Path, path: Path, covers: Sequence[str] = ("v?",)) -> None:
    """Copy title, artist and other tags of a song to a sound file, and its cover to flac and mp3.

    The audio of the file is copied as it is. `covers` are the song's streams that hold pictures,
    as ffmpeg names them: a film is no cover.
    """
    tagged = path.with_name(f"tagged-{path.name}")
    arguments: list[str | Path] = ["-i", path, "-i", song, "-map", "0:a"]
    if path.suffix in _WITH_COVER:
        for cover in covers:
            arguments += ["-map", f"1:{cover}"]
        arguments += ["-disposition:v", "attached_pic"] if covers else []
    if path.suffix == ".wav":
        arguments += ["-rf64", "auto"]
    # Chapters are those of the whole song.
    arguments += ["-map_metadata", "1", "-map_metadata:s:a", "1:s:a", "-map_chapters", "-1"]
    arguments += ["-c", "copy"]
    _ffmpeg(arguments, tagged, path.suffix[1:])
    os.replace(tagged, path)


def write_stem_file(
    path: Path, parts: Sequence[Path], song: Path | None, *, bitrate: int | None = None
) -> None:
    """Write a .stem.mp4 file, which stempeg and musdb read, with a song's tags.

    Parameters
    ----------
    path : Path
        The file.
    parts : sequence of Path
        Sound files: the mixture, then the sources in `STEM_ORDER`.
    song : Path, optional
        Where the tags come from.
    bitrate : int, optional
        Of each stream [kbit/s]; 256 by default.
    """
    arguments: list[str | Path] = []
    for part in parts:
        arguments += ["-i", part]
    if song is not None:
        arguments += ["-i", song, "-map_metadata", str(len(parts))]
    for i, title in enumerate(("mix", *STEM_ORDER)):
        arguments += ["-map", f"{i}:a", f"-metadata:s:a:{i}", f"handler_name={title}"]
        arguments += [f"-disposition:a:{i}", "0" if i else "default"]
    arguments += ["-map_chapters", "-1", "-c:a", "aac", "-b:a", f"{bitrate or _AAC_BITRATE}k"]
    _ffmpeg(arguments, path, "mp4")


def _ffmpeg(arguments: Sequence[str | Path], path: Path, container: str) -> None:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y",
               *(os.fspath(a.absolute()) if isinstance(a, Path) else a for a in arguments),
               "-f", container, os.fspath(path.absolute())]  # fmt: skip
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines() or ["it gave no reason"]
        raise AudioError(f"{path}: ffmpeg cannot write it ({said[-1].strip()})")
