"""The command that separates songs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepkit import streaming, weights
from sepkit.cli import songs
from sepkit.cli.output import say
from sepkit.cli.songs import STANDARD_INPUT, Song
from sepkit.cli.stems import STEM_FILE, Job, separate_song
from sepkit.errors import AudioError, ParameterError, SepkitError
from sepkit.io import decoding, encoding, remuxing
from sepkit.io.decoding import AudioFile
from sepkit.stft import CONTEXT
from sepkit.tracks import SOURCES

_DESCRIPTION = """Separate songs into bass, drums, other and vocals. The stems have the song's
length, rate and channels, and sum to the song. The stems of one song go to DIR, those of several,
or of a folder or list, to a folder for each. Nothing is replaced without --overwrite: a single song
is refused where its stems would replace others, and of several, only missing stems are made. Of
several, a song that fails is reported and left out. Tags are kept, and in flac and mp3 the cover,
where ffmpeg is installed. Exit code: 0, or 1 if some songs failed, 2 if nothing could be done."""


def add_to(commands: Any) -> None:
    """Add the command to what `argparse.ArgumentParser.add_subparsers` returns."""
    command = commands.add_parser(
        "separate", help="separate songs into stems", description=_DESCRIPTION
    )
    command.add_argument(
        "songs", nargs="+", metavar="SONG",
        help="a sound file, a folder with sound files, a .txt or .m3u file with a path in each "
        "line, or - for standard input",
    )  # fmt: skip
    command.add_argument(
        "-o", "--output", "--out", "--outdir", type=Path, default=Path("separated"), metavar="DIR",
        help="folder for the stems, made if missing (default: separated); - writes a single stem "
        "to standard output",
    )  # fmt: skip
    command.add_argument(
        "-n", "--model", "--name", default="experiment3", metavar="NAME",
        help="a model of `sepkit models`, or a .h5 weight file (default: experiment3)",
    )  # fmt: skip
    command.add_argument(
        "--stems", metavar="STEM,...", help="write these stems only, such as drums,vocals"
    )
    command.add_argument(
        "--two-stems", metavar="STEM",
        help="write two files: this stem, and all the others as no_STEM",
    )  # fmt: skip
    command.add_argument(
        "--start", type=float, default=0.0, metavar="SECONDS",
        help="leave out what comes before (default: 0)",
    )  # fmt: skip
    command.add_argument(
        "--duration", type=float, metavar="SECONDS", help="separate no more than this"
    )
    command.add_argument(
        "--ext", default="wav", choices=[*(s[1:] for s in encoding.FORMATS), STEM_FILE],
        help="file format (default: wav; one of more than 4 GiB becomes RF64); stem.mp4 is one "
        "file with the song and its four stems, as AAC, which pads their end",
    )  # fmt: skip
    command.add_argument(
        "--bit-depth", choices=["16", "24", "32f"],
        help="sample format: of wav 16, 24 or 32f (float, the default), of flac 16 or 24 (default: "
        "24 where the song has more than 16 bits)",
    )  # fmt: skip
    command.add_argument(
        "--bitrate", type=int, metavar="KBIT",
        help="constant bitrate of mp3, 40 to 320, or of each stream in stem.mp4 (default: 256)",
    )  # fmt: skip
    command.add_argument(
        "--clip-mode", choices=encoding.CLIP_POLICIES,
        help="samples beyond full scale: kept (none; float wav only, its default), all stems "
        "scaled down together (rescale; default of the other formats), or clipped (clip)",
    )  # fmt: skip
    command.add_argument(
        "--filename", metavar="PATTERN",
        help="file name in DIR, made of {track}, {file} (with suffix), {folder} (where it is), "
        "{stem} and {ext} (default: {stem}.{ext}, or {track}/{stem}.{ext} for several songs)",
    )  # fmt: skip
    command.add_argument(
        "--hop", type=int, default=5, choices=range(1, CONTEXT + 1), metavar="FRAMES",
        help="frames between contexts, 1 to 25: fewer is smoother and slower (default: 5)",
    )  # fmt: skip
    command.add_argument(
        "--engine", default="numpy", choices=streaming.ENGINES,
        help="what computes: numpy (default), or the same in C, compiled on first use, which takes "
        "less time and needs sepkit[engine]",
    )  # fmt: skip
    command.add_argument(
        "--overwrite", action="store_true", help="replace stems that are in DIR already"
    )
    command.add_argument(
        "--json", action="store_true",
        help="print a JSON object per song: its stems, or its error",
    )  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Separate the songs that the options name; return the exit code."""
    job = _make_job(options)
    with contextlib.ExitStack() as stack:
        place = ""
        if STANDARD_INPUT in (*options.songs, str(options.output)):
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="sepkit-"))
        if str(options.output) == STANDARD_INPUT:
            return _to_standard_output(options, job, place)
        inputs = songs.find(
            [name for name in options.songs if name != STANDARD_INPUT], output=options.output
        )
        several = len(options.songs) > 1 or songs.is_collection(options.songs[0])
        if STANDARD_INPUT in options.songs:
            inputs.append(songs.read_standard_input(place))
        pattern = options.filename or _default_pattern(options.ext, several=several)
        named = job.stems if options.ext != STEM_FILE else ["stems"]
        targets = [
            songs.targets(song, options.output, pattern, named, options.ext) for song in inputs
        ]
        songs.check_targets(inputs, targets)
        return _separate_all(inputs, targets, job, options, several=several)


def _default_pattern(ext: str, *, several: bool) -> str:
    if ext == STEM_FILE:
        return "{track}.{ext}"
    return "{track}/{stem}.{ext}" if several else "{stem}.{ext}"


def _make_job(options: argparse.Namespace) -> Job:
    """Check the options and return what follows from them."""
    suffix = f".{options.ext}"
    bit_depth = options.bit_depth
    if options.ext == STEM_FILE:
        if not remuxing.has_ffmpeg():
            raise ParameterError("--ext stem.mp4: needs ffmpeg, which is not installed")
        if any(o is not None for o in (options.stems, options.two_stems, bit_depth)):
            raise ParameterError(
                "--ext stem.mp4: holds all four stems, as AAC; leave out --stems, --two-stems and "
                "--bit-depth"
            )
        if options.bitrate is not None and not 16 <= options.bitrate <= 512:
            raise ParameterError(f"--bitrate {options.bitrate}: give 16 to 512 kbit/s")
        clip = encoding.check_format(".mp3", clip=options.clip_mode)
    else:
        clip = encoding.check_format(suffix, clip=options.clip_mode, bit_depth=bit_depth)
        encoding.check_bitrate(suffix, options.bitrate)
    decoding.check_part(options.start, options.duration)
    values = streaming.resolve_weights(options.model)
    _, n_sources = weights.check_shapes(values)
    names = weights.source_names(n_sources)
    stems, pick = _choose_stems(options, names)
    part = (options.start, options.duration)
    return Job(
        values, options.hop, options.engine, part, stems, pick, suffix, bit_depth,
        options.bitrate, clip,
    )  # fmt: skip


def _choose_stems(
    options: argparse.Namespace, names: Sequence[str]
) -> tuple[Sequence[str], Callable[[np.ndarray], np.ndarray]]:
    """Return the names of the stems that are written, and what takes them from all sources."""

    def find(stem: str, option: str) -> int:
        if stem not in names:
            raise ParameterError(f"{option} {stem}: unknown stem; use one of {', '.join(names)}")
        return list(names).index(stem)

    if options.ext == STEM_FILE:
        if tuple(names) != SOURCES:
            raise ParameterError("--ext stem.mp4: needs a model of four sources; use another")
        order = [SOURCES.index(source) for source in remuxing.STEM_ORDER]
        return ("mix", *remuxing.STEM_ORDER), lambda s: np.stack([s.sum(axis=0), *s[order]])
    if options.stems is not None and options.two_stems is not None:
        raise ParameterError("--stems and --two-stems: give one of them")
    if options.two_stems is not None:
        index = find(options.two_stems, "--two-stems")
        stems = [options.two_stems, f"no_{options.two_stems}"]
        return stems, lambda s: np.stack([s[index], s.sum(axis=0) - s[index]])
    if options.stems is not None:
        stems = list(dict.fromkeys(stem.strip() for stem in options.stems.split(",")))
        rows = [find(stem, "--stems") for stem in stems]
        return stems, lambda s: s[rows]
    return names, lambda s: s


def _to_standard_output(options: argparse.Namespace, job: Job, place: str) -> int:
    """Separate one song, and write one stem of it to standard output."""
    if len(options.songs) != 1 or (len(job.stems) != 1 and options.ext != STEM_FILE):
        raise ParameterError("-o -: holds one stem of one song; name it, such as --stems vocals")
    if sys.stdout is None:
        raise ParameterError("-o -: standard output is closed; give a folder")
    if options.json or options.filename:
        raise ParameterError("-o -: standard output holds the stem; leave out --json, --filename")
    if options.songs == [STANDARD_INPUT]:
        song = songs.read_standard_input(place)
    elif songs.is_collection(options.songs[0]):
        raise ParameterError(f"{options.songs[0]}: -o - takes one song; give a sound file")
    else:
        (song,) = songs.find(options.songs, output=Path(place))
    path = Path(place) / f"stem{job.suffix}"
    separate_song(AudioFile(song.path), [path], job)
    with open(path, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    return 0


def _separate_all(
    inputs: Sequence[Song],
    targets: Sequence[list[Path]],
    job: Job,
    options: argparse.Namespace,
    *,
    several: bool,
) -> int:
    """Separate songs, each to its files; return the exit code."""
    failed = set()
    n_kept = 0

    def fail(song: Song, error: SepkitError) -> None:
        if options.json:
            say(json.dumps({"song": str(song.path), "error": str(error)}))
        if not several:
            raise error
        failed.add(song.path)
        say(f"sepkit: {error}", error=True)

    # Every song is opened before the first one is separated: a mistyped name shows at once.
    files = {}
    for song, paths in zip(inputs, targets, strict=True):
        there = [] if options.overwrite else [path for path in paths if os.path.exists(path)]
        if several and len(there) == len(paths):
            n_kept += 1
            if options.json:
                stems = {path.stem: str(path) for path in paths}
                say(json.dumps({"song": str(song.path), "stems": stems, "kept": True}))
            continue
        try:
            files[song.path] = _open(song, paths[0], job)
        except (SepkitError, OSError, MemoryError) as error:
            fail(song, _as_error(song, error))
        if there and not several:
            raise ParameterError(
                f"{there[0]}: exists already; give another --output, or --filename "
                '"{track}/{stem}.{ext}", or --overwrite to replace it'
            )
    for song, paths in zip(inputs, targets, strict=True):
        if song.path not in files:
            continue
        missing = [None if os.path.exists(p) and not options.overwrite else p for p in paths]
        started = time.perf_counter()
        try:
            separate_song(files[song.path], missing, job)
        except (SepkitError, OSError, MemoryError) as error:
            fail(song, _as_error(song, error))
            continue
        if options.json:
            names = job.stems if options.ext != STEM_FILE else ["stems"]
            file = files[song.path]
            say(
                json.dumps(
                    {
                        "song": str(song.path),
                        "stems": {n: str(p) for n, p in zip(names, paths, strict=True)},
                        "rate": file.rate,
                        "channels": file.n_channels,
                        "model": options.model,
                        "seconds": round(time.perf_counter() - started, 3),
                    }
                )
            )
        else:
            for path in paths:
                say(str(path))
    if n_kept:
        say(
            f"sepkit: {n_kept} of {len(inputs)} songs had their stems already; --overwrite makes "
            "them anew",
            error=True,
        )
    if failed:
        say(f"sepkit: {len(failed)} of {len(inputs)} songs failed", error=True)
    return 1 if failed else 0


def _as_error(song: Song, error: SepkitError | OSError | MemoryError) -> SepkitError:
    if isinstance(error, SepkitError):
        return error
    if isinstance(error, MemoryError):
        return AudioError(f"{song.path}: needs more memory than there is; close other programs")
    place = error.filename or song.path
    return AudioError(f"{place}: {error.strerror or error}; choose another place")


def _open(song: Song, path: Path, job: Job) -> AudioFile:
    file = AudioFile(song.path)
    if job.suffix == f".{STEM_FILE}":
        if file.rate not in remuxing.AAC_RATES:
            raise AudioError(
                f"{song.path}: AAC has no rate of {file.rate} Hz; choose another --ext"
            )
    else:
        encoding.check_encoding(path, file.rate, file.n_channels)
        encoding.check_bitrate(job.suffix, job.bitrate, file.rate)
    return file
