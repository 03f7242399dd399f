"""The command line: sepkit separate | models | train | evaluate | ablate."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

import sepkit
from sepkit import audio, separation, weights
from sepkit.errors import ParameterError, SepkitError
from sepkit.files import make_folders
from sepkit.stft import CONTEXT
from sepkit.study import commands as study_commands

EXIT_BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments; by default those of this process.

    Returns
    -------
    int
        0; 1 if `sepkit evaluate` could not score some of the songs; 2 after one line about bad
        input; 130 when interrupted.
    """
    # TensorFlow logs to standard error unless told otherwise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        options = _parser().parse_args(arguments)
        return options.run(options) or 0
    except SepkitError as error:
        print(f"sepkit: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("sepkit: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line, as for any other bad input; argparse would print its usage first.
        raise ParameterError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sepkit",
        description="Separate songs into bass, drums, other and vocals.",
        epilog="Each command has its own help: sepkit separate --help",
    )
    parser.add_argument("--version", action="version", version=f"sepkit {sepkit.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_separate(commands)
    models = commands.add_parser("models", help="list the trained models")
    models.set_defaults(run=_models)
    study_commands.add_to(commands)
    return parser


def _add_separate(commands: Any) -> None:
    command = commands.add_parser(
        "separate",
        help="separate songs into stems",
        description="Separate songs into bass, drums, other and vocals. The stems have the song's "
        "length, rate and channels, and sum to the song.",
    )
    command.add_argument("tracks", nargs="+", type=Path, metavar="SONG", help="a sound file")
    command.add_argument(
        "-o", "--output", "--out", "--outdir", type=Path, default=Path("separated"), metavar="DIR",
        help="folder for the stems, made if missing (default: separated)",
    )  # fmt: skip
    command.add_argument(
        "-n", "--model", "--name", default="experiment3", metavar="NAME",
        help="a model of `sepkit models`, or a .h5 weight file (default: experiment3)",
    )  # fmt: skip
    command.add_argument(
        "--two-stems", metavar="STEM",
        help="write two files: this stem, and all the others as no_STEM",
    )  # fmt: skip
    command.add_argument(
        "--ext", default="wav", choices=["wav", "flac", "ogg", "mp3"],
        help="file format (default: wav, 32-bit float)",
    )  # fmt: skip
    command.add_argument(
        "--clip-mode", choices=["none", "rescale", "clip"],
        help="samples beyond full scale: kept (none; wav only, its default), all stems scaled "
        "down together (rescale; default of the other formats), or clipped (clip)",
    )  # fmt: skip
    command.add_argument(
        "--filename", metavar="PATTERN",
        help="file name in DIR, made of {track}, {stem} and {ext} (default: {stem}.{ext}, or "
        "{track}/{stem}.{ext} for several songs)",
    )  # fmt: skip
    command.add_argument(
        "--hop", type=int, default=5, choices=range(1, CONTEXT + 1), metavar="FRAMES",
        help="frames between contexts, 1 to 25: fewer is smoother and slower (default: 5)",
    )  # fmt: skip
    command.add_argument(
        "--overwrite", action="store_true", help="replace stems that are in DIR already"
    )
    command.set_defaults(run=_separate)


def _separate(options: argparse.Namespace) -> None:
    suffix = f".{options.ext}"
    audio.check_format(suffix, options.clip_mode)
    values = separation.resolve_weights(options.model)
    _, n_sources = weights.check_shapes(values)
    names = weights.source_names(n_sources)
    if options.two_stems and options.two_stems not in names:
        raise ParameterError(
            f"--two-stems {options.two_stems}: unknown stem; use one of {', '.join(names)}"
        )
    several = "{track}/{stem}.{ext}" if len(options.tracks) > 1 else "{stem}.{ext}"
    pattern = options.filename or several
    stems = [options.two_stems, f"no_{options.two_stems}"] if options.two_stems else names
    targets = [_targets(track, options.output, pattern, stems, options.ext)
               for track in options.tracks]  # fmt: skip
    _check_targets(options.tracks, targets, overwrite=options.overwrite)
    # Every song is opened before the first one is separated: a mistyped name shows at once.
    files = [audio.AudioFile(track) for track in options.tracks]
    for file, paths in zip(files, targets, strict=True):
        audio.check_encoding(paths[0], file.rate, file.n_channels)
    index = names.index(options.two_stems) if options.two_stems else None
    for file, paths in zip(files, targets, strict=True):
        _separate_song(file, paths, values, options.hop, index, options.clip_mode)


def _targets(track: Path, folder: Path, pattern: str, stems: Sequence[str], ext: str) -> list[Path]:
    """Return the files of a song's stems."""
    try:
        names = [pattern.format(track=track.stem, stem=stem, ext=ext) for stem in stems]
    except (AttributeError, LookupError, TypeError, ValueError):
        names = []
    if not names or not all(name.endswith(f".{ext}") for name in names):
        raise ParameterError(
            f"--filename {pattern}: use only {{track}}, {{stem}} and {{ext}} in braces, "
            f"and end in .{{ext}}"
        )
    return [folder / name for name in names]


def _check_targets(tracks: list[Path], targets: list[list[Path]], *, overwrite: bool) -> None:
    """Raise an error if a stem would replace another file."""
    songs = {track.resolve() for track in tracks}
    for path, times in Counter(path for paths in targets for path in paths).items():
        if times > 1:
            raise ParameterError(
                f"{path}: several stems would be written here; give --filename with {{track}}/"
                "{stem}.{ext}"
            )
        if path.resolve() in songs or path.is_dir():
            what = "a folder" if path.is_dir() else "the song itself"
            raise ParameterError(f"{path}: is {what}; give another --output or --filename")
        if path.exists() and not overwrite:
            raise ParameterError(
                f"{path}: exists already; give another --output, or --overwrite to replace it"
            )


def _separate_song(
    file: audio.AudioFile,
    paths: list[Path],
    values: weights.Weights,
    hop: int,
    index: int | None,
    clip: str | None,
) -> None:
    separated = separation.separate_stream(
        _with_progress(file), file.rate, file.n_channels, model=values, hop=hop
    )
    if index is not None:
        separated = (np.stack([s[index], s.sum(axis=0) - s[index]]) for s in separated)
    # Stems are written to a folder of their own, as float wav, and moved when all are complete.
    with (
        make_folders(path.parent for path in paths),
        tempfile.TemporaryDirectory(dir=paths[0].parent, prefix=".sepkit-") as place,
    ):
        parts = [Path(place) / f"{i}.wav" for i in range(len(paths))]
        peak = _write_stems(parts, separated, file)
        if paths[0].suffix != ".wav" or clip not in (None, "none"):
            # One gain for all stems keeps their balance.
            gain = 1.0 if clip == "clip" else 1 / max(1.0, peak)
            parts = [_convert(p, path.suffix, gain) for p, path in zip(parts, paths, strict=True)]
        for part, path in zip(parts, paths, strict=True):
            shutil.move(part, path)
    for path in paths:
        print(path)


def _with_progress(file: audio.AudioFile) -> Iterator[np.ndarray]:
    form = "{desc}: {n:.0f} s of sound in {elapsed}"
    # Without a terminal there is no bar: standard error holds errors only.
    with tqdm(
        desc=file.path.name, unit_scale=1 / file.rate, bar_format=form, disable=None
    ) as progress:
        for block in file.blocks():
            yield block
            progress.update(len(block))


def _write_stems(
    parts: list[Path], separated: Iterator[np.ndarray], file: audio.AudioFile
) -> float:
    """Write blocks of stems, each to its file, and return the highest peak."""
    peak = 0.0
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(audio.writer(p, file.rate, file.n_channels)) for p in parts]
        for stems in separated:
            peak = max(peak, float(np.abs(stems).max(initial=0.0)))
            for writer, stem in zip(writers, stems, strict=True):
                writer.write(stem)
    return peak


def _convert(part: Path, suffix: str, gain: float) -> Path:
    """Convert a float wav to another format, or to full scale, beside it."""
    file = audio.AudioFile(part)
    converted = part.with_name(f"converted-{part.stem}{suffix}")
    with audio.writer(converted, file.rate, file.n_channels) as writer:
        for block in file.blocks():
            writer.write(audio.apply_clip_policy(block * np.float32(gain), "clip"))
    return converted


def _models(options: argparse.Namespace) -> None:
    for name in weights.list_models():
        print(f"{name}: {weights.read_card(name)['experiment']['description']}")
