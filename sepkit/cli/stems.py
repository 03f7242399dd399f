"""A song and its stems' files: separated, brought into their format, and moved to their places."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepkit import audio, weights
from sepkit.errors import AudioError
from sepkit.files import make_folders
from sepkit.io import encoding, remuxing
from sepkit.io.decoding import AudioFile
from sepkit.streaming import separate_stream

STEM_FILE = "stem.mp4"
"""Extension of a file that holds a song and its four stems."""


@dataclass(frozen=True)
class Job:
    """What is done with every song.

    Parameters
    ----------
    values : Weights
        The network.
    hop : int
        Frames between contexts.
    engine : str
        One of `sepkit.streaming.ENGINES`.
    part : tuple of (float, float or None)
        Start and duration [s].
    stems : sequence of str
        The stems that are written, by name.
    pick : callable
        From blocks of all sources ``(n_sources, n_samples, n_channels)`` to those stems.
    suffix : str
        Of the files: one of `sepkit.io.encoding.FORMATS`, or ".stem.mp4".
    bit_depth, bitrate : str or None, int or None
        As for `sepkit.io.encoding.writer`.
    clip : str
        One of `sepkit.io.encoding.CLIP_POLICIES`.
    """

    values: weights.Weights
    hop: int
    engine: str
    part: tuple[float, float | None]
    stems: Sequence[str]
    pick: Callable[[np.ndarray], np.ndarray]
    suffix: str
    bit_depth: str | None
    bitrate: int | None
    clip: str


def separate_song(file: AudioFile, paths: Sequence[Path | None], job: Job) -> None:
    """Separate a song and write its stems, but those whose path is None."""
    separated = separate_stream(
        _with_progress(file, job.part), file.rate, file.n_channels,
        model=job.values, hop=job.hop, engine=job.engine,
    )  # fmt: skip
    wanted = [path for path in paths if path is not None]
    rows = [i for i, path in enumerate(paths) if path is not None]
    if job.suffix == f".{STEM_FILE}":
        rows = list(range(len(job.stems)))
    # Stems are written to a folder of their own, as float wav, and moved when all are complete.
    with (
        make_folders(path.parent for path in wanted),
        tempfile.TemporaryDirectory(dir=wanted[0].parent, prefix=".sepkit-") as place,
    ):
        parts = [Path(place) / f"{i}.wav" for i in rows]
        try:
            peak = _write_stems(parts, rows, map(job.pick, separated), file)
            parts = _finish(parts, file, job, peak)
        except AudioError as error:
            raise AudioError(_with_names(str(error), Path(place), paths)) from error
        _move(parts, wanted)


def _move(parts: Sequence[Path], paths: Sequence[Path]) -> None:
    """Move all files to their places or, after an error or interruption, none to a new place."""
    new = {path for path in paths if not path.exists()}
    try:
        for part, path in zip(parts, paths, strict=True):
            shutil.move(part, path)
    except BaseException:
        for part, path in zip(parts, paths, strict=True):
            if path in new and not part.exists():
                path.unlink(missing_ok=True)
        raise


def _with_names(text: str, place: Path, paths: Sequence[Path | None]) -> str:
    """Replace names of parts, such as PLACE/converted-3.flac, by those of the stems."""

    def name(found: re.Match[str]) -> str:
        index = int(found[1]) if found[1] else 0
        return str(paths[index if index < len(paths) else 0])

    return re.sub(rf"{re.escape(str(place))}/[a-z-]*(\d*)[\w.]*\.\w+", name, text)


def _with_progress(file: AudioFile, part: tuple[float, float | None]) -> Iterator[np.ndarray]:
    start, duration = part
    total = None
    if file.n_samples is not None:
        total = max(0.0, file.n_samples / file.rate - start)
        total = total if duration is None else min(total, duration)
    # Without a terminal there is no bar: standard error holds errors only.
    if sys.stderr is None or not sys.stderr.isatty():
        yield from file.blocks(start, duration)
        return
    from tqdm import tqdm  # imported where it draws: it takes a tenth of the command's start

    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s, {remaining} left"
    with tqdm(
        desc=file.path.name,
        total=total,
        bar_format=form if total else "{desc}: {n:.0f} s of sound in {elapsed}",
    ) as progress:
        for block in file.blocks(start, duration):
            yield block
            progress.update(len(block) / file.rate)


def _write_stems(
    parts: list[Path], rows: list[int], separated: Iterator[np.ndarray], file: AudioFile
) -> float:
    """Write blocks of some stems, each to its float wav; return the highest peak of all stems."""
    peak = 0.0
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(encoding.writer(part, file.rate, file.n_channels)) for part in parts
        ]
        for stems in separated:
            peak = max(peak, float(stems.max(initial=0.0)), -float(stems.min(initial=0.0)))
            for writer, row in zip(writers, rows, strict=True):
                writer.write(stems[row])
    return peak


def _finish(parts: list[Path], file: AudioFile, job: Job, peak: float) -> list[Path]:
    """Convert float wavs to the format that was asked for, with the song's tags."""
    # One gain for all stems keeps their balance.
    gain = 1 / max(1.0, peak) if job.clip == "rescale" else 1.0
    if job.suffix == f".{STEM_FILE}":
        whole = parts[0].with_name(f"stems{job.suffix}")
        parts = [_convert(part, ".wav", gain, job.clip, "32f", None) for part in parts]
        song = file.path if file.tagged else None
        remuxing.write_stem_file(whole, parts, song, bitrate=job.bitrate)
        return [whole]
    depth = job.bit_depth
    if job.suffix == ".flac" and depth is None:
        depth = "24" if file.long_bits else "16"
    if (job.suffix, job.clip) != (".wav", "none"):
        parts = [_convert(p, job.suffix, gain, job.clip, depth, job.bitrate) for p in parts]
    if file.tagged and remuxing.has_ffmpeg():
        for part in parts:
            remuxing.copy_tags(file.path, part, file.covers)
    return parts


def _convert(
    part: Path, suffix: str, gain: float, clip: str, bit_depth: str | None, bitrate: int | None
) -> Path:
    """Convert a float wav to another format, or to full scale, beside it."""
    file = AudioFile(part)
    converted = part.with_name(f"converted-{part.stem}{suffix}")
    with encoding.writer(
        converted, file.rate, file.n_channels, bit_depth=bit_depth, bitrate=bitrate
    ) as writer:
        for block in file.blocks():
            writer.write(audio.apply_clip_policy(block * np.float32(gain), "clip"))
    part.unlink()
    return converted
