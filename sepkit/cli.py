"""The command line: sepkit separate | train | evaluate | ablate | models."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import sepkit
from sepkit import ablations, audio, diagnosis, experiments, parameters, separation
from sepkit.errors import ParameterError, SepkitError
from sepkit.spectral import CONTEXT

EXIT_BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the program's name; by default that of this process.

    Returns
    -------
    int
        0, or 2 after one line on what is wrong with the input, or 130 when interrupted.
    """
    # TensorFlow greets on standard error unless told not to.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
    except SepkitError as error:
        print(f"sepkit: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("sepkit: interrupted", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        # One line, as for any other bad input; argparse would print its usage before it.
        raise ParameterError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sepkit",
        description="Take songs apart into bass, drums, other and vocals.",
        epilog="Each command has its own help: sepkit separate --help",
    )
    parser.add_argument("--version", action="version", version=f"sepkit {sepkit.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_separate(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_ablate(commands)
    models = commands.add_parser("models", help="list the trained models")
    models.set_defaults(run=_models)
    return parser


def _add_separate(commands) -> None:
    command = commands.add_parser(
        "separate",
        help="write the stems of songs",
        description="Write the stems of songs: bass, drums, other and vocals, of the song's "
        "length, rate and channel count; they sum to the song.",
    )
    command.add_argument("tracks", nargs="+", type=Path, metavar="SONG", help="a sound file")
    command.add_argument(
        "-o", "--output", "--out", "--outdir", type=Path, default=Path("separated"), metavar="DIR",
        help="folder for the stems, made where missing (default: separated)",
    )  # fmt: skip
    command.add_argument(
        "-n", "--model", "--name", default="experiment3", metavar="NAME",
        help="a model of `sepkit models`, or a .h5 weight file (default: experiment3)",
    )  # fmt: skip
    command.add_argument(
        "--two-stems", metavar="STEM",
        help="write two files: this stem, and the rest as no_STEM",
    )  # fmt: skip
    command.add_argument(
        "--ext", default="wav", choices=["wav", "flac", "ogg", "mp3"],
        help="file format (default: wav, 32-bit float)",
    )  # fmt: skip
    command.add_argument(
        "--clip-mode", choices=["none", "rescale", "clip"],
        help="samples beyond full scale: kept (none; wav only, its default), all stems made "
        "softer alike (rescale; default of the other formats), or cut (clip)",
    )  # fmt: skip
    command.add_argument(
        "--filename", metavar="PATTERN",
        help="name below DIR, of {track}, {stem} and {ext} (default: {stem}.{ext}, or "
        "{track}/{stem}.{ext} where there are several songs)",
    )  # fmt: skip
    command.add_argument(
        "--hop", type=int, default=5, choices=range(1, CONTEXT + 1), metavar="FRAMES",
        help="frames between contexts, 1 to 25: fewer is smoother and slower (default: 5)",
    )  # fmt: skip
    command.set_defaults(run=_separate)


def _add_train(commands) -> None:
    command = commands.add_parser(
        "train",
        help="train an experiment",
        description="Train an experiment; write NAME.weights.h5 and its card NAME.json.",
    )
    command.add_argument("--experiment", required=True, metavar="NAME", help="see `sepkit models`")
    command.add_argument(
        "--dataset", default="dsd100", metavar="NAME",
        help="dsd100, musdb18, or a folder of stems (default: dsd100)",
    )  # fmt: skip
    command.add_argument(
        "--split", default="dev",
        help="which songs; dev+others adds MUSDB18's that are not in DSD100 (default: dev)",
    )  # fmt: skip
    command.add_argument("--root", type=Path, metavar="DIR", help="folder of the whole data set")
    command.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    command.add_argument(
        "-o", "--output", type=Path, default=Path("."), metavar="DIR",
        help="folder for weights and card (default: this one)",
    )  # fmt: skip
    command.add_argument(
        "--checkpoint", type=Path, metavar="FILE",
        help="keep the state here, and go on from it when it is there",
    )  # fmt: skip
    command.set_defaults(run=_train)


def _add_evaluate(commands) -> None:
    command = commands.add_parser(
        "evaluate",
        help="score a model",
        description="Separate the songs of a data set and print SDR, SIR and SAR by source.",
    )
    command.add_argument(
        "--dataset", default="example", metavar="NAME",
        help="example, dsd100, musdb18, open-stems, or a folder of stems (default: example)",
    )  # fmt: skip
    command.add_argument("--split", default="test", help="which songs (default: test)")
    command.add_argument("--root", type=Path, metavar="DIR", help="folder of the whole data set")
    command.add_argument(
        "-n", "--model", default="experiment3", metavar="NAME",
        help="a model of `sepkit models`, or a .h5 weight file (default: experiment3)",
    )  # fmt: skip
    command.add_argument(
        "--mode", default="both", choices=["report", "song", "both"],
        help="the report's segments, the whole song, or one after the other (default)",
    )  # fmt: skip
    command.add_argument(
        "--hop", type=int, default=5, choices=range(1, CONTEXT + 1), metavar="FRAMES",
        help="frames between contexts in mode song (default: 5)",
    )  # fmt: skip
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE",
        help="scores by song as JSON (default: scores-MODEL-DATASET.json)",
    )  # fmt: skip
    command.add_argument("--card", type=Path, metavar="FILE", help="put the scores into this card")
    command.add_argument(
        "-j", "--jobs", type=int, default=-1, metavar="N",
        help="processes (default: one a core)",
    )  # fmt: skip
    command.set_defaults(run=_evaluate)


def _add_ablate(commands) -> None:
    command = commands.add_parser(
        "ablate",
        help="train and score the arms of the diagnosis",
        description="Train arms that differ in one thing on forty songs of DSD100's Dev, score "
        "them on the other ten, and write ARM-SEED.json. What is there already is left alone, and "
        "a run that was interrupted goes on.",
    )
    command.add_argument("arms", nargs="*", metavar="ARM", help="which (default: all of them)")
    command.add_argument("--list", action="store_true", help="say what each arm is, and do nothing")
    command.add_argument(
        "--table", action="store_true", help="lay out the results that are there, and do nothing"
    )
    command.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    command.add_argument(
        "-o", "--output", type=Path, default=Path("book/results"), metavar="DIR",
        help="folder for the results (default: book/results)",
    )  # fmt: skip
    command.set_defaults(run=_ablate)


# separate


def _separate(options: argparse.Namespace) -> None:
    suffix = f".{options.ext}"
    audio.check_format(suffix, options.clip_mode)
    values = separation.load_parameters(options.model)
    _, n_sources = parameters.dimensions(values)
    names = parameters.source_names(n_sources)
    if options.two_stems and options.two_stems not in names:
        raise ParameterError(
            f"--two-stems {options.two_stems}: unknown stem; use one of {', '.join(names)}"
        )
    several = "{track}/{stem}.{ext}" if len(options.tracks) > 1 else "{stem}.{ext}"
    pattern = options.filename or several
    stems = [options.two_stems, f"no_{options.two_stems}"] if options.two_stems else names
    plans = [_plan(track, options.output, pattern, stems, options.ext) for track in options.tracks]
    _refuse_clashes(options.tracks, plans)
    # Every song is opened before the first is separated: a typing error shows at once.
    files = [audio.AudioFile(track) for track in options.tracks]
    for file, paths in zip(files, plans, strict=True):
        audio.check_encoding(paths[0], file.rate, file.n_channels)
    index = names.index(options.two_stems) if options.two_stems else None
    for file, paths in zip(files, plans, strict=True):
        _separate_song(file, paths, values, options.hop, index, options.clip_mode)


def _plan(track: Path, folder: Path, pattern: str, stems: Sequence[str], ext: str) -> list[Path]:
    try:
        names = [pattern.format(track=track.stem, stem=stem, ext=ext) for stem in stems]
    except (AttributeError, LookupError, TypeError, ValueError):
        names = []
    if not all(name.endswith(f".{ext}") for name in names) or not names:
        raise ParameterError(
            f"--filename {pattern}: use only {{track}}, {{stem}} and {{ext}} in braces, "
            f"and end in .{{ext}}"
        )
    return [folder / name for name in names]


def _refuse_clashes(tracks: list[Path], plans: list[list[Path]]) -> None:
    songs = {track.resolve() for track in tracks}
    for path, times in Counter(path for plan in plans for path in plan).items():
        if times > 1:
            raise ParameterError(
                f"{path}: several stems would be written here; give --filename with {{track}}/"
                "{stem}.{ext}"
            )
        if path.resolve() in songs or path.is_dir():
            what = "a folder" if path.is_dir() else "the song itself"
            raise ParameterError(f"{path}: is {what}; give another --output or --filename")


def _separate_song(
    file: audio.AudioFile,
    paths: list[Path],
    values: parameters.Parameters,
    hop: int,
    index: int | None,
    clip: str | None,
) -> None:
    separated = separation.separate_blocks(
        _with_progress(file), file.rate, file.n_channels, model=values, hop=hop
    )
    if index is not None:
        separated = (np.stack([s[index], s.sum(axis=0) - s[index]]) for s in separated)
    # Stems grow in a folder of their own, as float wav, and are moved when all are whole.
    with (
        _folders(path.parent for path in paths),
        tempfile.TemporaryDirectory(dir=paths[0].parent, prefix=".sepkit-") as place,
    ):
        parts = [Path(place) / f"{i}.wav" for i in range(len(paths))]
        peak = _write_stems(parts, separated, file)
        if paths[0].suffix != ".wav" or clip not in (None, "none"):
            # One gain for all stems, so that their balance stays.
            gain = 1.0 if clip == "clip" else 1 / max(1.0, peak)
            parts = [_convert(p, path.suffix, gain) for p, path in zip(parts, paths, strict=True)]
        for part, path in zip(parts, paths, strict=True):
            shutil.move(part, path)
    for path in paths:
        print(path)


def _with_progress(file: audio.AudioFile) -> Iterator[np.ndarray]:
    form = "{desc}: {n:.0f} s of sound in {elapsed}"
    # Without a terminal there is no bar: standard error holds what went wrong, if anything.
    with tqdm(
        desc=file.path.name, unit_scale=1 / file.rate, bar_format=form, disable=None
    ) as progress:
        for block in file.blocks():
            yield block
            progress.update(len(block))


@contextlib.contextmanager
def _folders(places: Iterable[Path]) -> Iterator[None]:
    """Make folders that are missing; after an error, take them away again."""
    made = []
    try:
        for place in places:
            for folder in reversed([place, *place.parents]):
                if not folder.is_dir():
                    folder.mkdir()
                    made.append(folder)
        yield
    except BaseException as error:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise SepkitError(
                f"{place}: cannot be written to ({error.strerror}); choose another folder"
            ) from error
        raise


def _write_stems(parts: list[Path], separated: Iterator, file: audio.AudioFile) -> float:
    """Write blocks of stems, each to its file; give the highest peak."""
    peak = 0.0
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(audio.writer(p, file.rate, file.n_channels)) for p in parts]
        for stems in separated:
            peak = max(peak, float(np.abs(stems).max(initial=0.0)))
            for writer, stem in zip(writers, stems, strict=True):
                writer.write(stem)
    return peak


def _convert(part: Path, suffix: str, gain: float) -> Path:
    """Bring a float wav into another format, or into full scale, beside it."""
    file = audio.AudioFile(part)
    converted = part.with_name(f"converted-{part.stem}{suffix}")
    with audio.writer(converted, file.rate, file.n_channels) as writer:
        for block in file.blocks():
            writer.write(audio.apply_clip_policy(block * np.float32(gain), "clip"))
    return converted


# train, ablate, evaluate, models


def _ablate(options: argparse.Namespace) -> None:
    if options.list:
        for name, arm in ablations.ARMS.items():
            print(f"{name}: {arm.experiment.description} ({arm.group})")
        for name, (description, _) in diagnosis.LOOKS.items():
            print(f"{name}: {description} (nothing is trained)")
        return
    if options.table:
        for mode in experiments.MODES:
            print(f"mode {mode}\n\n{ablations.table(options.output, mode=mode)}\n")
        return
    names = options.arms or [*diagnosis.LOOKS, *ablations.ARMS]
    arms = [ablations.get_arm(name) for name in names if name not in diagnosis.LOOKS]
    for name, (_, look) in diagnosis.LOOKS.items():
        if name in names:
            print(look(output=options.output))
    for path in ablations.run(arms, seed=options.seed, output=options.output):
        print(path)


def _train(options: argparse.Namespace) -> None:
    experiment = experiments.get_experiment(options.experiment)
    tracks = experiments.load_tracks(options.dataset, split=options.split, root=options.root)
    with _folders([options.output]):
        path = experiments.train(
            experiment,
            tracks,
            seed=options.seed,
            output=options.output,
            checkpoint=options.checkpoint,
        )
    print(path)


def _evaluate(options: argparse.Namespace) -> None:
    tracks = experiments.load_tracks(options.dataset, split=options.split, root=options.root)
    values = separation.load_parameters(options.model)
    name = Path(options.model).name.removesuffix(".weights.h5")
    output = options.output or Path(f"scores-{name}-{Path(options.dataset).resolve().name}.json")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK) or output.is_dir():
        raise SepkitError(f"{output}: cannot be written there; give --output FILE elsewhere")
    if options.jobs == 0:
        raise ParameterError("--jobs 0: give one process or more, or -1 for one a core")
    if options.card is not None and not options.card.is_file():
        raise SepkitError(f"{options.card}: no such card; sepkit train writes it")
    modes = experiments.MODES if options.mode == "both" else (options.mode,)
    evaluations = []
    for mode in modes:
        evaluation = experiments.evaluate(
            values, tracks, mode=mode, hop=options.hop, n_jobs=options.jobs
        )
        evaluations.append(evaluation)
        how = f"whole song, hop {options.hop}" if mode == "song" else "the report's segments"
        for measure in experiments.MEASURES:
            whose = "report's metrics" if measure == "report" else "museval, medians over windows"
            print(f"\n{name} on {options.dataset}, {len(tracks)} songs, {how}: {whose} [dB]")
            print(experiments.format_table(evaluation, measure))
        # Cards hold scores of excerpts, which whole songs of the same names do not repeat.
        if options.model in parameters.list_models() and options.root is None:
            card = parameters.read_card(options.model)
            n_songs, apart = experiments.compare_with_card(evaluation, card)
            if n_songs:
                print(f"\n{n_songs} of these songs are in the card, at most {apart:.4f} dB apart")
    experiments.write_json(
        {
            "model": name,
            "dataset": options.dataset,
            "split": options.split,
            "scores": {evaluation.mode: evaluation.as_dict() for evaluation in evaluations},
        },
        output,
    )
    print(f"\n{output}")
    if options.card is not None:
        experiments.add_scores(options.card, evaluations)
        print(options.card)


def _models(options: argparse.Namespace) -> None:
    for name in parameters.list_models():
        print(f"{name}: {parameters.read_card(name)['experiment']['description']}")
    waiting = [n for n in experiments.EXPERIMENTS if n not in parameters.list_models()]
    if waiting:
        print(f"not trained yet: {', '.join(waiting)} (sepkit train --experiment NAME)")
