"""Loaders of data sets: each returns a list of `sepkit.tracks.Track`, in a fixed order.

Files that have to be fetched are kept in the folder that the environment variable ``SEPKIT_DATA``
names, or else in the user's cache.
"""

from __future__ import annotations

import csv
import hashlib
import os
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sepkit import audio
from sepkit.errors import AudioError, DatasetError, ParameterError, import_optional
from sepkit.files import is_leftover, make_folders, packaged, read_json
from sepkit.io.decoding import AudioFile
from sepkit.io.encoding import FORMATS
from sepkit.tracks import RATE, SOURCES, Stems, Track, cut_stems


def cache_folder() -> Path:
    """Return the folder of the data: ``SEPKIT_DATA`` if set, else the user's cache for sepkit."""
    named = os.environ.get("SEPKIT_DATA")
    if named:
        if not Path(named).is_absolute():
            raise DatasetError(f"SEPKIT_DATA={named}: not an absolute path; give one")
        return Path(named)
    import pooch

    return Path(pooch.os_cache("sepkit"))


def example() -> Track:
    """Return the song that comes with a package: The Easton Ellises - Falcon 69, 5.9 s.

    Returns
    -------
    Track
        From the package stempeg, stereo at 44.1 kHz, CC BY-NC-SA 3.0, without the clicks that the
        codec leaves near both ends.
    """
    path = Path(import_optional("stempeg", "evaluation").example_stem_path())
    return Track(
        name="The Easton Ellises - Falcon 69",
        artist="The Easton Ellises",
        licence="CC BY-NC-SA 3.0",
        rate=RATE,
        reader=partial(cut_stems, partial(_read_stem_file, path), 4096, 262144),
        files=(path,),
    )


def _read_stem_file(path: Path) -> Stems:
    stempeg = import_optional("stempeg", "evaluation")
    try:
        # 16 bits, as the package musdb decodes them, so that scores are comparable.
        streams, _ = stempeg.read_stems(
            str(path), dtype=np.float32, ffmpeg_format="s16le", always_3d=True
        )
    except Exception as error:  # stempeg and ffmpeg raise errors of many kinds and lines
        reason = (str(error).splitlines() or [type(error).__name__])[-1]
        raise DatasetError(f"{path}: cannot be read ({reason}); fetch it again") from error
    if len(streams) != 5:
        raise DatasetError(f"{path}: {len(streams)} streams instead of five; give a .stem.mp4 file")
    # In the format's order; its mixture differs from the sum of the stems by coding noise.
    _, drums, bass, other, vocals = streams
    return dict(zip(SOURCES, (bass, drums, other, vocals), strict=True))


# MUSDB18 and DSD100.


def musdb_table() -> list[dict[str, str]]:
    """Read the packaged table of the songs in MUSDB18's 7 s sample.

    Returns
    -------
    list of dict
        One per song: musdb_split, track, source, dsd100_id, dsd100_split, genre, licence and
        sha256 of the sample's file.
    """
    text = packaged("tracks.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def musdb18(split: str, root: str | os.PathLike[str] | None = None) -> list[Track]:
    """List songs of MUSDB18.

    Parameters
    ----------
    split : {"train", "validation", "test"}
        MUSDB18's own split. "validation" is the part of its training songs that the package musdb
        sets aside; "train" leaves it out.
    root : str or Path, optional
        Folder of the whole set, as .stem.mp4 or wav. By default, its 7 s sample in
        ``SEPKIT_DATA/musdb18-7``, which the package musdb fetches if it is missing.

    Returns
    -------
    list of Track
        By name. For academic use, see each track's licence.

    Raises
    ------
    DatasetError
        When it is missing and cannot be fetched, or is not whole.
    """
    if split not in ("train", "validation", "test"):
        raise ParameterError(f"split {split!r}: unknown; use train, validation or test")
    if root is None:
        rows = [row for row in musdb_table() if row["musdb_split"] == split]
        return sorted(_sample(rows), key=lambda song: song.name)
    place = Path(root)
    if not (place / "train").is_dir() and not (place / "test").is_dir():
        raise DatasetError(f"{place}: no folder train or test; give the root of MUSDB18")
    tracks = _musdb_tracks(place, "test" if split == "test" else "train")
    if split != "test":
        aside = {row["track"] for row in musdb_table() if row["musdb_split"] == "validation"}
        tracks = [song for song in tracks if (song.name in aside) == (split == "validation")]
    if not tracks:
        raise DatasetError(f"{place}: holds no songs for {split}; give the root of MUSDB18")
    return tracks


def dsd100(split: str, root: str | os.PathLike[str] | None = None) -> list[Track]:
    """List songs of DSD100, the report's data set.

    Parameters
    ----------
    split : {"dev", "test", "train", "validation", "dev+others", "train+others"}
        Dev, songs 51 to 100, is for training; Test, songs 1 to 50, for scores. For choices, every
        fifth song of Dev (55, 60, ... 100) is for "validation", and the other forty are for
        "train". "+others" adds the songs of MUSDB18's sample that are not in DSD100.
    root : str or Path, optional
        Folder of the whole set, with ``Sources/Dev/051 - .../bass.wav``. By default, excerpts of
        the same 100 songs from MUSDB18's 7 s sample (see `musdb18`): 6.8 s of each.

    Returns
    -------
    list of Track
        The songs, in order of their number.

    Raises
    ------
    DatasetError
        When a song is missing.
    """
    split, plus, more = split.lower().partition("+")
    if split not in ("dev", "test", "train", "validation"):
        raise ParameterError(f"split {split!r}: unknown; use dev, test, train or validation")
    if plus and (more != "others" or split not in ("dev", "train")):
        raise ParameterError(f"split {split}+{more}: unknown; use dev+others or train+others")
    others = _sample([row for row in musdb_table() if not row["dsd100_split"]]) if plus else []
    part = "Test" if split == "test" else "Dev"
    rows = [row for row in musdb_table() if row["dsd100_split"] == part]
    rows.sort(key=lambda row: int(row["dsd100_id"]))
    tracks = _sample(rows) if root is None else _whole_dsd100(Path(root), part, rows)
    if split in ("train", "validation"):
        tracks = [song for i, song in enumerate(tracks) if (i % 5 == 4) == (split == "validation")]
    return tracks + others


def _sample(rows: list[dict[str, str]]) -> list[Track]:
    place = cache_folder() / "musdb18-7"
    if not (place / "train").is_dir():
        _fetch_sample(place)
    sample = {song.name: song for part in ("train", "test") for song in _musdb_tracks(place, part)}
    absent = [row["track"] for row in rows if row["track"] not in sample]
    if absent:
        raise DatasetError(
            f"{place}: {len(absent)} of {len(rows)} songs are missing, first {absent[0]!r}; "
            "delete the folder to have it fetched again"
        )
    return [sample[row["track"]] for row in rows]


def _whole_dsd100(root: Path, part: str, rows: list[dict[str, str]]) -> list[Track]:
    place = root / "Sources" / part
    if not place.is_dir():
        raise DatasetError(f"{place}: no such folder; give the folder that holds DSD100's Sources")
    genres = {int(row["dsd100_id"]): row["genre"] for row in rows}
    tracks = []
    for song in filter(Path.is_dir, _entries(place)):
        number, _, name = song.name.partition(" - ")
        genre = genres.get(int(number), "") if number.isdigit() else ""
        licence = "restricted: academic use"
        tracks.append(_folder_track(song, name=name or song.name, licence=licence, genre=genre))
    if not tracks:
        raise DatasetError(f"{place}: holds no songs; give the folder that holds DSD100's Sources")
    return tracks


def _fetch_sample(place: Path) -> None:
    """Fetch MUSDB18's sample beside its place and move it there: all of it or nothing."""
    musdb = import_optional("musdb", "evaluation")
    try:
        with (
            make_folders([place.parent]),
            tempfile.TemporaryDirectory(prefix=".musdb18-7-", dir=place.parent) as beside,
        ):
            # Without subsets it does not open every song, which takes long.
            musdb.DB(root=f"{beside}/whole", subsets=[], download=True)
            os.replace(f"{beside}/whole", place)
    except Exception as error:  # urllib, zipfile and musdb raise errors of many kinds
        if (place / "train").is_dir():  # another process was faster
            return
        raise DatasetError(
            f"{place}: MUSDB18's 7 s sample is not there and cannot be fetched ({error}); "
            "set SEPKIT_DATA to a folder that holds musdb18-7"
        ) from error


def _musdb_tracks(place: Path, part: str) -> list[Track]:
    known = {row["track"]: row for row in musdb_table()}
    tracks = []
    for path in _entries(place / part) if (place / part).is_dir() else ():
        name = path.name.removesuffix(".stem.mp4")
        row = known.get(name, {})
        licence = row.get("licence", "restricted: academic use")
        genre = row.get("genre", "")
        if path.is_dir():
            tracks.append(_folder_track(path, licence=licence, genre=genre))
        elif name != path.name:
            artist, reader = name.partition(" - ")[0], partial(_read_stem_file, path)
            tracks.append(Track(name, artist, licence, RATE, reader, (path,), genre))
    return sorted(tracks, key=lambda song: song.name)


# Folders of stems.


def folder(root: str | os.PathLike[str]) -> list[Track]:
    """List songs from a folder of stems.

    Parameters
    ----------
    root : str or Path
        A folder with a folder for each song, or of one song, with bass, drums, other and vocals as
        audio files of any format, all of one length, rate and number of channels.

    Returns
    -------
    list of Track
        By name.

    Raises
    ------
    DatasetError
        When a folder or stem is missing; on reading, when the stems of a song differ.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give one with a folder for each song")
    places = list(filter(Path.is_dir, _entries(root)))
    if not places or _stem_files(root):
        places = [root]
    return use_songs(_folder_track, places)


def _entries(place: Path) -> list[Path]:
    """Return what a folder holds, by name, without what systems and network drives leave there."""
    try:
        return sorted(path for path in place.iterdir() if not is_leftover(path))
    except OSError as error:
        raise DatasetError(
            f"{place}: cannot be read ({error.strerror}); make it readable"
        ) from error


def use_songs(use: Callable[[Any], Track], songs: Iterable[Any]) -> list[Track]:
    """Apply a function to songs; a `DatasetError` names the first bad one and counts all."""
    tracks, errors = [], []
    for song in songs:
        try:
            tracks.append(use(song))
        except (AudioError, DatasetError) as error:
            errors.append(error)
    if errors:
        more = f" (one of {len(errors)} songs that cannot be used)" if errors[1:] else ""
        raise DatasetError(f"{errors[0]}{more}") from errors[0]
    return tracks


def _stem_files(place: Path) -> dict[str, Path]:
    found = [path for path in _entries(place) if path.is_file() and path.stem in SOURCES]
    # If there are several, bass.wav takes precedence over bass.m4a, bass.mid or bass.txt.
    found.sort(key=lambda path: (path.suffix.lower() in FORMATS, path.name))
    return {path.stem: path for path in found}


def _folder_track(
    place: Path, *, name: str | None = None, licence: str = "not stated", genre: str = ""
) -> Track:
    found = _stem_files(place)
    absent = [source for source in SOURCES if source not in found]
    if absent:
        raise DatasetError(
            f"{place}: no {', '.join(absent)}; a song needs {', '.join(SOURCES)} as sound files"
        )
    name = name or place.resolve().name
    files = tuple(found[source] for source in SOURCES)
    rate, reader = AudioFile(files[0]).rate, partial(_read_files, files)
    return Track(name, name.partition(" - ")[0], licence, rate, reader, files, genre)


def _read_files(files: tuple[Path, ...]) -> Stems:
    stems: Stems = {}
    forms = []
    for path in files:
        try:
            stems[path.stem], rate = audio.read(path)
        except AudioError as error:
            raise DatasetError(str(error)) from error
        forms.append((*stems[path.stem].shape, rate))
        check_alike(files, forms)
    return stems


def check_alike(files: Sequence[Path], forms: Sequence[tuple[int, ...]]) -> None:
    """Raise an error if stems differ in samples (0: not known), channels or rate."""

    def describe(form: tuple[int, ...]) -> str:
        samples = f"{form[0]} samples of " if form[0] else ""
        return f"{samples}{form[1]} channels at {form[2]} Hz"

    first = forms[0]
    for path, form in zip(files, forms, strict=False):
        if form[1:] != first[1:] or (form[0] and first[0] and form[0] != first[0]):
            raise DatasetError(
                f"{path}: {describe(form)}, where {files[0]} has {describe(first)}; "
                "make the stems alike"
            )


# Songs under free licences.


def open_stems() -> list[Track]:
    """List songs under free licences, for listening.

    Returns
    -------
    list of Track
        In the order of the packaged manifest: first a whole song of four minutes, then the short
        ones of Music Delta. Each has its credit line. A source that a song lacks is silence: three
        songs have no vocals. `Track.files` names the stems of a song that lie below
        ``SEPKIT_DATA``. Of the others, pooch fetches the artists' files on first reading, from the
        commit that the manifest names.

    Notes
    -----
    Stems below ``SEPKIT_DATA`` are checked by hash. The commit in their address pins the artists'
    files; pooch also checks those whose SHA-256 the manifest records as ``upstream_sha256``. It
    records none yet.

    Where the artists left only raw mono tracks, levels and pans are ours: the tracks of a source
    sound at equal power, each in its place (``pans``, -1 is left and 1 right), and the stem at its
    RMS level (``level_db``, re full scale).
    """
    tracks = []
    for song in read_json(packaged("open_stems.json"))["songs"]:
        name, place = f"{song['artist']} - {song['title']}", cache_folder() / song["folder"]
        files = tuple(place / f"{source}.ogg" for source in SOURCES if song["sources"][source])
        local = all(path.is_file() for path in files)
        reader = partial(_read_open, song, files) if local else partial(_fetch_open, song)
        here = files if local else ()
        artist, licence, credit = song["artist"], song["license"], song["credit"]
        tracks.append(Track(name, artist, licence, RATE, reader, here, credit=credit))
    return tracks


def _read_open(song: dict[str, Any], files: tuple[Path, ...]) -> Stems:
    for path in files:
        if hashlib.sha256(path.read_bytes()).hexdigest() != song["sha256"][path.stem]:
            raise DatasetError(f"{path}: not the file of the manifest; delete its folder")
    return _with_silence(_read_files(files))


def _with_silence(stems: Stems) -> Stems:
    silence = np.zeros_like(next(iter(stems.values())))
    return {source: stems.get(source, silence) for source in SOURCES}


def _fetch_open(song: dict[str, Any]) -> Stems:
    parts = {s: [_fetch_part(song, path) for path in song["sources"][s]] for s in SOURCES}
    n_samples = max(len(part) for stems in parts.values() for part in stems)
    mixed = {s: _mix(song, s, parts[s], n_samples) for s in SOURCES if parts[s]}
    return _with_silence(mixed)


def _mix(song: dict[str, Any], source: str, parts: list[np.ndarray], n_samples: int) -> np.ndarray:
    stem = np.zeros((n_samples, 2), np.float32)
    for i, part in enumerate(parts):
        if "pans" in song:
            pan = song["pans"][source][i]
            part = part / _rms(part) * np.sqrt([1 - pan, 1 + pan], dtype=np.float32)
        stem[: len(part)] += part
    gain = song["gain"] if "gain" in song else 10 ** (song["level_db"][source] / 20) / _rms(stem)
    return np.float32(gain) * stem


def _rms(stem: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(stem, dtype=np.float64))))


def _fetch_part(song: dict[str, Any], path: str) -> np.ndarray:
    import pooch

    repository = song["source_repository"].removeprefix("github ")
    base = f"https://raw.githubusercontent.com/{repository}/{song['commit']}/"
    remedy = f"set SEPKIT_DATA to a folder that holds {song['folder']}"
    try:
        file = pooch.retrieve(
            base + urllib.parse.quote(path),
            known_hash=song.get("upstream_sha256", {}).get(path),
            path=cache_folder() / "open-stems-upstream" / song["commit"],
            fname=Path(path).name,
        )
    except ValueError as error:  # pooch's, of a hash that differs
        raise DatasetError(f"{path}: not the file of the manifest; {remedy}") from error
    except Exception as error:  # requests raises errors of many kinds
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DatasetError(
            f"{path}: cannot be fetched ({reason}); go online, or {remedy}"
        ) from error
    return audio.read(file, rate=RATE)[0]
