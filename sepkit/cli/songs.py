"""Which songs the command line separates, and where their stems go."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepkit.errors import AudioError, ParameterError
from sepkit.files import is_leftover

STANDARD_INPUT = "-"

LISTS = {".txt", ".m3u", ".m3u8"}
"""Suffixes of files that name one song per line."""

_SOUNDS = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".aif",
           ".aiff", ".aifc", ".ape", ".m4b", ".mkv", ".mov", ".mp2", ".spx", ".tta", ".wv",
           ".alac", ".wma", ".webm", ".mka", ".w64", ".rf64", ".caf", ".au", ".ac3"}  # fmt: skip
"""Suffixes of the files that a folder is searched for."""


@dataclass(frozen=True)
class Song:
    """A song to separate.

    Parameters
    ----------
    path : Path
        Its file.
    name : str
        What {track} stands for: the file's name without suffix, below a folder that was given.
    """

    path: Path
    name: str


def is_collection(text: str) -> bool:
    """Return whether an argument names several songs: a folder, or a list of files."""
    path = Path(text)
    return os.path.isdir(path) or _is_list(path)


def find(inputs: Sequence[str], *, output: Path) -> list[Song]:
    """List the songs that arguments name: files, folders, lists of files; each song once.

    Folders are searched below, but not in `output`, where stems are.
    """
    songs = []
    for text in inputs:
        path = Path(text)
        if os.path.isdir(path):
            if os.path.realpath(path) == os.path.realpath(output):
                raise ParameterError(
                    f"{output}: stems would lie among the songs; give another --output"
                )
            found = [Song(song, _name(song.relative_to(path))) for song in _walk(path, output)]
            if not found:
                raise AudioError(f"{path}: holds no sound files; give a folder with songs")
            songs += found
        elif _is_list(path):
            songs += [Song(song, _name(Path(song.name))) for song in _read_list(path)]
        else:
            songs.append(Song(path, _name(Path(path.name))))
    return list({os.path.realpath(song.path): song for song in reversed(songs)}.values())[::-1]


def _is_list(path: Path) -> bool:
    # Methods of Path raise an error for a name that is too long.
    return path.suffix.lower() in LISTS and os.path.isfile(path)


def _name(path: Path) -> str:
    suffix = ".stem.mp4" if path.name.endswith(".stem.mp4") else path.suffix
    return path.as_posix().removesuffix(suffix) or path.name


def _walk(folder: Path, output: Path) -> Iterator[Path]:
    seen = {os.path.realpath(output)}
    for place, folders, files in os.walk(folder, followlinks=True):
        below = Path(place)
        seen.add(os.path.realpath(below))
        folders[:] = sorted(
            name
            for name in folders
            if not is_leftover(below / name) and os.path.realpath(below / name) not in seen
        )
        for name in sorted(files):
            path = below / name
            if path.suffix.lower() in _SOUNDS and not is_leftover(path):
                yield path


def _read_list(path: Path) -> list[Path]:
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        lines = content.decode("utf-16", "replace").splitlines()
    else:
        lines = content.decode("utf-8-sig", "surrogateescape").splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    songs = [path.parent / name for name in names if "\0" not in name]
    if not any(os.path.exists(song) for song in songs):
        raise AudioError(
            f"{path}: not audio, and names no song that is there; give the path of one in each line"
        )
    return songs


def read_standard_input(folder: str) -> Song:
    """Copy standard input to a file in a folder."""
    if sys.stdin is None:
        raise ParameterError("-: standard input is closed; give a sound file")
    path = Path(folder) / "stdin"
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return Song(path, "stdin")


def targets(song: Song, output: Path, pattern: str, stems: Sequence[str], ext: str) -> list[Path]:
    """Return the files of a song's stems."""
    words = {
        "track": song.name,
        "file": song.path.name,
        "folder": song.path.absolute().parent.name,
        "ext": ext,
    }
    try:
        names = [pattern.format(stem=stem, **words) for stem in stems]
    except (AttributeError, LookupError, TypeError, ValueError):
        names = []
    if not names or not all(name.endswith(f".{ext}") for name in names):
        raise ParameterError(
            f"--filename {pattern}: use only {{track}}, {{file}}, {{folder}}, {{stem}} and "
            f"{{ext}} in braces, and end in .{{ext}}"
        )
    return [output / name for name in names]


def check_targets(songs: Sequence[Song], paths: Sequence[Sequence[Path]]) -> None:
    """Raise an error if two stems would have one place, or one that of a song or a folder."""
    inputs = {os.path.realpath(song.path) for song in songs}
    taken: dict[str, Song] = {}
    for song, places in zip(songs, paths, strict=True):
        for path in places:
            real = os.path.realpath(path)
            if real in taken and taken[real] is song:
                raise ParameterError(
                    f"{path}: several stems would be written here; give --filename, such as "
                    '"{track}/{stem}.{ext}"'
                )
            if real in taken:
                raise ParameterError(
                    f"{path}: several stems would be written here, of {taken[real].path} and "
                    f'{song.path}; give --filename, such as "{{folder}}/{{file}}/{{stem}}.{{ext}}"'
                )
            taken[real] = song
            if os.path.isdir(path):
                raise ParameterError(f"{path}: is a folder; give another --output or --filename")
            if real in inputs:
                raise ParameterError(
                    f"{path}: is the song itself; give another --output or --filename"
                )
