"""Songs with their stems, wherever they come from.

Every data set gives a list of `Track`, in an order that does not depend on the file system.
Files that have to be fetched are kept in the folder that the environment variable
``SEPKIT_DATA`` names, or else in the user's cache.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType

import numpy as np

from sepkit import audio
from sepkit.errors import AudioError, DatasetError, MissingPackageError, ParameterError

SOURCES = ("bass", "drums", "other", "vocals")
"""The four sources, in this order everywhere."""

RATE = 44100
"""The network's rate [Hz]."""

Stems = dict[str, np.ndarray]


@dataclass(frozen=True)
class Track:
    """A song as its stems, read when first asked for.

    Parameters
    ----------
    name : str
        Artist and title.
    artist : str
        The artist.
    licence : str
        What may be done with the sound.
    rate : int
        Rate [Hz].
    reader : callable
        Gives the stems: a dict in the order of `SOURCES`, float32 ``(n_samples, n_channels)``.
    files : tuple of Path
        The files that hold it; none for a song that is computed.
    genre : str
        Genre, where the data set tells.
    """

    name: str
    artist: str
    licence: str
    rate: int
    reader: Callable[[], Stems]
    files: tuple[Path, ...] = ()
    genre: str = ""

    @cached_property
    def stems(self) -> Stems:
        """The stems: source to float32 array of shape (n_samples, n_channels)."""
        return self.reader()

    @cached_property
    def mixture(self) -> np.ndarray:
        """The sum of the stems, float32 of shape (n_samples, n_channels)."""
        return np.sum(list(self.stems.values()), axis=0)

    def excerpt(self, start: float = 0.0, stop: float | None = None) -> Track:
        """Give a part of the song.

        Parameters
        ----------
        start, stop : float
            Limits [s]; without `stop`, to the end.

        Returns
        -------
        Track
            A track of its own, which has read nothing yet.
        """
        first = round(start * self.rate)
        last = None if stop is None else round(stop * self.rate)
        if first < 0 or (last is not None and last <= first):
            raise ParameterError(f"excerpt from {start} to {stop} s: give 0 <= start < stop")
        return replace(self, reader=partial(_cut, self.reader, first, last))

    def to_mono(self) -> Track:
        """Mix the channels down to one.

        Returns
        -------
        Track
            A track of its own, each stem the mean of its channels.
        """
        return replace(self, reader=partial(_down_mix, self.reader))

    def sha256(self) -> str:
        """Hash the song's files, or the samples of a song that has none.

        Returns
        -------
        str
            Hexadecimal SHA-256 of the files' bytes one after the other.
        """
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(path.read_bytes())
        if not self.files:
            for stem in self.reader().values():
                digest.update(np.ascontiguousarray(stem))
        return digest.hexdigest()


def _down_mix(reader: Callable[[], Stems]) -> Stems:
    return {source: stem.mean(axis=1, keepdims=True) for source, stem in reader().items()}


def _cut(reader: Callable[[], Stems], first: int, last: int | None) -> Stems:
    stems = {source: stem[first:last] for source, stem in reader().items()}
    if not all(len(stem) for stem in stems.values()):
        raise ParameterError(f"excerpt from sample {first}: the song is shorter; start earlier")
    return stems


def cache() -> Path:
    """Name the folder where data is kept.

    Returns
    -------
    Path
        ``SEPKIT_DATA`` if set, else the user's cache folder for sepkit.

    Raises
    ------
    DatasetError
        When ``SEPKIT_DATA`` is not an absolute path.
    """
    named = os.environ.get("SEPKIT_DATA")
    if named:
        if not Path(named).is_absolute():
            raise DatasetError(f"SEPKIT_DATA={named}: not an absolute path; give one")
        return Path(named)
    import pooch

    return Path(pooch.os_cache("sepkit"))


# Real songs that come with a package.


def example() -> Track:
    """Give the song that is always at hand: The Easton Ellises - Falcon 69, 5.9 s.

    Returns
    -------
    Track
        Out of the package stempeg, stereo at 44.1 kHz, CC BY-NC-SA 3.0, without the clicks that
        the codec leaves near both ends.
    """
    path = Path(_package("stempeg").example_stem_path())
    return Track(
        name="The Easton Ellises - Falcon 69",
        artist="The Easton Ellises",
        licence="CC BY-NC-SA 3.0",
        rate=RATE,
        reader=partial(_cut, partial(_read_stem_file, path), 4096, 262144),
        files=(path,),
    )


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise MissingPackageError(
            f"{name} is not installed; install it with: pip install 'sepkit[evaluation]'"
        ) from None
    except RuntimeError:  # of stempeg, which musdb imports too
        raise MissingPackageError(
            f"{name} needs ffmpeg, which is not installed; install it with your system's packages"
        ) from None


def _read_stem_file(path: Path) -> Stems:
    try:
        # 16 bits, as the package musdb decodes them: scores compare with those of others.
        streams, _ = _package("stempeg").read_stems(
            str(path), dtype=np.float32, ffmpeg_format="s16le", always_3d=True
        )
    except Exception as error:  # stempeg and ffmpeg raise what they like, of many lines
        reason = (str(error).splitlines() or [type(error).__name__])[-1]
        raise DatasetError(f"{path}: cannot be read ({reason}); fetch it again") from error
    if len(streams) != 5:
        raise DatasetError(f"{path}: {len(streams)} streams instead of five; give a .stem.mp4 file")
    # The format's order; its mixture stream differs from the sum by the codec's noise.
    _, drums, bass, other, vocals = streams
    return dict(zip(SOURCES, (bass, drums, other, vocals), strict=True))


# MUSDB18 and DSD100.


def table() -> list[dict[str, str]]:
    """Read the packaged table of MUSDB18's songs that have a 7 s sample.

    Returns
    -------
    list of dict
        A row a song: musdb_split, track, source, dsd100_id, dsd100_split, genre, licence and
        sha256 of the sample's file.
    """
    text = (resources.files("sepkit") / "data" / "tracks.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def musdb18(split: str, root: str | os.PathLike | None = None) -> list[Track]:
    """List songs of MUSDB18.

    Parameters
    ----------
    split : {"train", "validation", "test"}
        Its own split; "validation" is the part of its training songs that the package musdb
        sets aside, which "train" leaves out.
    root : str or Path, optional
        Folder of the whole set, as .stem.mp4 or wav. Without one, its 7 s sample: in
        ``SEPKIT_DATA/musdb18-7``, fetched by the package musdb where it is missing.

    Returns
    -------
    list of Track
        By name. For academic use; the licence of each stands in it.

    Raises
    ------
    DatasetError
        When it is not there and cannot be fetched.
    """
    if split not in ("train", "validation", "test"):
        raise ParameterError(f"split {split!r}: unknown; use train, validation or test")
    place, set_aside = _musdb_root(root)
    tracks = _musdb_tracks(place, "test" if split == "test" else "train")
    if split != "test":
        tracks = [song for song in tracks if (song.name in set_aside) == (split == "validation")]
    if not tracks:
        raise DatasetError(f"{place}: holds no songs for {split}; give the root of MUSDB18")
    return tracks


def dsd100(split: str, root: str | os.PathLike | None = None) -> list[Track]:
    """List the songs of DSD100, the report's data, in order of their number.

    Parameters
    ----------
    split : {"dev", "test", "train", "validation", "dev+others", "train+others"}
        Dev, songs 51 to 100, is for training; Test, songs 1 to 50, for scores. Where something is
        to be chosen, every fifth song of Dev (55, 60, ... 100) is for "validation", and the other
        forty are for "train". With "+others", those of MUSDB18's sample follow that are not in
        DSD100.
    root : str or Path, optional
        Folder of the whole set, with ``Sources/Dev/051 - .../bass.wav``. Without one, the same
        100 songs out of MUSDB18's 7 s sample (see `musdb18`): 6.8 s of each.

    Returns
    -------
    list of Track
        The songs, in order of number.

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
    others = _sample([row for row in table() if not row["dsd100_split"]]) if plus else []
    folder_name = "Test" if split == "test" else "Dev"
    rows = [row for row in table() if row["dsd100_split"] == folder_name]
    rows.sort(key=lambda row: int(row["dsd100_id"]))
    tracks = _sample(rows) if root is None else _dsd100_whole(Path(root), folder_name, rows)
    if split in ("train", "validation"):
        tracks = [song for i, song in enumerate(tracks) if (i % 5 == 4) == (split == "validation")]
    return tracks + others


def _sample(rows: list[dict[str, str]]) -> list[Track]:
    place, _ = _musdb_root(None)
    sample = {song.name: song for part in ("train", "test") for song in _musdb_tracks(place, part)}
    absent = [row["track"] for row in rows if row["track"] not in sample]
    if absent:
        raise DatasetError(
            f"{place}: {len(absent)} of {len(rows)} songs are missing, first {absent[0]!r}; "
            "delete the folder to have it fetched again"
        )
    return [sample[row["track"]] for row in rows]


def _dsd100_whole(root: Path, split: str, rows: list[dict[str, str]]) -> list[Track]:
    place = root / "Sources" / split
    if not place.is_dir():
        raise DatasetError(f"{place}: no such folder; give the folder that holds DSD100's Sources")
    genres = {int(row["dsd100_id"]): row["genre"] for row in rows}
    tracks = []
    for song in sorted(path for path in place.iterdir() if path.is_dir()):
        number, _, name = song.name.partition(" - ")
        genre = genres.get(int(number), "") if number.isdigit() else ""
        licence = "restricted: academic use"
        tracks.append(_folder_track(song, name=name or song.name, licence=licence, genre=genre))
    if not tracks:
        raise DatasetError(f"{place}: holds no songs; give the folder that holds DSD100's Sources")
    return tracks


def _musdb_root(root: str | os.PathLike | None) -> tuple[Path, set[str]]:
    """Find MUSDB18 or fetch its sample; name the songs that it sets aside for validation."""
    musdb = _package("musdb")
    place = Path(root) if root is not None else cache() / "musdb18-7"
    if root is not None and not (place / "train").is_dir() and not (place / "test").is_dir():
        raise DatasetError(f"{place}: no folder train or test; give the root of MUSDB18")
    try:
        # Without subsets it does not open every song, which takes long.
        database = musdb.DB(root=str(place), subsets=[], download=root is None)
    except Exception as error:  # urllib, zipfile and musdb raise what they like
        with contextlib.suppress(OSError):
            place.rmdir()
        raise DatasetError(
            f"{place}: MUSDB18's 7 s sample is not there and cannot be fetched ({error}); "
            "set SEPKIT_DATA to a folder that holds musdb18-7"
        ) from error
    return place, set(database.setup["validation_tracks"])


def _musdb_tracks(place: Path, part: str) -> list[Track]:
    known = {row["track"]: row for row in table()}
    tracks = []
    for path in (place / part).glob("[!.]*"):
        name = path.name.removesuffix(".stem.mp4")
        row = known.get(name, {})
        about = {
            "licence": row.get("licence", "restricted: academic use"),
            "genre": row.get("genre", ""),
        }
        if path.is_dir():
            tracks.append(_folder_track(path, **about))
        elif name != path.name:
            artist, reader = name.partition(" - ")[0], partial(_read_stem_file, path)
            tracks.append(Track(name, artist, rate=RATE, reader=reader, files=(path,), **about))
    return sorted(tracks, key=lambda song: song.name)


# A user's own stems.


def folder(root: str | os.PathLike) -> list[Track]:
    """List songs of one's own.

    Parameters
    ----------
    root : str or Path
        A folder with a folder for each song, or of one song: with bass, drums, other and vocals
        as any sound files, all of one length, rate and channel count.

    Returns
    -------
    list of Track
        By name.

    Raises
    ------
    DatasetError
        When a folder or a stem is missing; on reading, when stems differ in length or rate.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give one with a folder for each song")
    places = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    if not places or _stem_files(root):
        places = [root]
    return [_folder_track(place) for place in places]


def _stem_files(place: Path) -> dict[str, Path]:
    found = [path for path in place.iterdir() if path.is_file() and path.stem in SOURCES]
    # Where there are several, bass.wav goes before bass.m4a, bass.mid or bass.txt.
    found.sort(key=lambda path: (path.suffix.lower() in audio.FORMATS, path.name))
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
    return Track(
        name=name,
        artist=name.partition(" - ")[0],
        licence=licence,
        rate=audio.AudioFile(files[0]).rate,
        reader=partial(_read_files, files),
        files=files,
        genre=genre,
    )


def _read_files(files: tuple[Path, ...]) -> Stems:
    stems, first = {}, None
    for source, path in zip(SOURCES, files, strict=True):
        try:
            sound, rate = audio.read(path)
        except AudioError as error:
            raise DatasetError(str(error)) from error
        form = (*sound.shape, rate)
        first = first or form
        if form != first:
            raise DatasetError(
                f"{path}: {form[0]} samples of {form[1]} channels at {rate} Hz, where {files[0]} "
                f"has {first[0]} of {first[1]} at {first[2]} Hz; make the stems alike"
            )
        stems[source] = sound
    return stems


# Songs under free licences.


def open_stems() -> list[Track]:
    """List whole songs under free licences, for listening.

    Returns
    -------
    list of Track
        From ``SEPKIT_DATA/open-stems`` where they lie there; else their upstream files are
        fetched by pooch on first reading, from the commit that the packaged manifest names.

    Notes
    -----
    Git's commit pins the upstream files; the stems made of them are checked by hash only where
    they lie in the cache as ogg files.
    """
    text = (resources.files("sepkit") / "data" / "open_stems.json").read_text(encoding="utf-8")
    tracks = []
    for song in json.loads(text)["songs"]:
        name = f"{song['artist']} - {song['title']}"
        files = tuple(cache() / "open-stems" / name / f"{source}.ogg" for source in SOURCES)
        local = all(path.is_file() for path in files)
        reader = partial(_read_open, song, files) if local else partial(_fetch_open, song)
        tracks.append(
            Track(
                name=name,
                artist=song["artist"],
                licence=song["license"],
                rate=RATE,
                reader=reader,
                files=files if local else (),
            )
        )
    return sorted(tracks, key=lambda track: track.name)


def _read_open(song: dict, files: tuple[Path, ...]) -> Stems:
    for source, path in zip(SOURCES, files, strict=True):
        if hashlib.sha256(path.read_bytes()).hexdigest() != song["sha256"][source]:
            raise DatasetError(f"{path}: not the file of the manifest; delete its folder")
    return _read_files(files)


def _fetch_open(song: dict) -> Stems:
    import pooch

    repository = song["source_repository"].removeprefix("github ")
    base = f"https://raw.githubusercontent.com/{repository}/{song['commit']}/"
    place = cache() / "open-stems-upstream"
    parts: dict[str, list[np.ndarray]] = {}
    for source in SOURCES:
        for path in song["sources"][source]:
            try:
                file = pooch.retrieve(
                    base + urllib.parse.quote(path),
                    known_hash=None,
                    path=place / song["commit"],
                    fname=Path(path).name,
                )
            except Exception as error:  # requests raises many kinds
                raise DatasetError(
                    f"{path}: cannot be fetched ({type(error).__name__}); go online, or set "
                    "SEPKIT_DATA to a folder that holds open-stems"
                ) from error
            parts.setdefault(source, []).append(audio.read(file, rate=RATE)[0])
    n_samples = max(len(part) for stems in parts.values() for part in stems)
    return {
        source: np.float32(song["gain"])
        * np.sum([audio.fix_length(part, n_samples) for part in parts[source]], axis=0)
        for source in SOURCES
    }


# Songs that are computed.


def band_songs(n: int, seed: int = 0) -> list[Track]:
    """Compose four-part songs, rendered from a General MIDI soundfont.

    They need no network and never run out, but sound like what they are: for tests, exercises
    and live training, not for headline figures.

    Parameters
    ----------
    n : int
        Songs.
    seed : int
        Seed; song i depends on the seed and i alone.

    Returns
    -------
    list of Track
        Stereo at 44.1 kHz; each differs in key, tempo, instruments, drum pattern and fills.
    """
    if n < 1 or seed < 0:
        raise ParameterError(
            f"{n} band songs of seed {seed}: give one or more, and no negative seed"
        )
    return [
        Track(
            name=f"sepkit band - Song {seed}.{i}",
            artist="sepkit band",
            licence="MIT",
            rate=RATE,
            reader=partial(_render_band, seed, i),
        )
        for i in range(n)
    ]


def _render_band(seed: int, i: int) -> Stems:
    from sepkit.study import band

    return band.render(band.compose(seed, i))
