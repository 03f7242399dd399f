"""The study's commands: sepkit train | evaluate | ablate | study."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sepkit
from sepkit import streaming, study, weights
from sepkit.errors import DatasetError, ParameterError, SepkitError
from sepkit.files import check_writable, packaged, write_json, writing_to
from sepkit.io.decoding import AudioFile
from sepkit.stft import CONTEXT
from sepkit.tracks import SOURCES, Track

if TYPE_CHECKING:
    # The study's modules import much, and the command that separates imports this one. So they are
    # imported on first use, as attributes of `sepkit.study`.
    from sepkit.study.evaluation import Evaluation, SongScores

_TITLES = {
    "report": "the report's metrics",
    "bsseval": "BSS Eval 4, medians over windows",
    "museval": "BSS Eval 4 by museval, medians over windows",
}


def add_to(commands: Any) -> None:
    """Add the commands to what `argparse.ArgumentParser.add_subparsers` returns."""
    _add_train(commands)
    _add_evaluate(commands)
    _add_ablate(commands)
    _add_study(commands)


def load_tracks(
    dataset: str, *, split: str = "test", root: str | os.PathLike[str] | None = None
) -> list[Track]:
    """List the songs of example, dsd100, musdb18, open-stems, or of a folder of stems.

    `split` is one of `sepkit.datasets.dsd100` or `sepkit.datasets.musdb18`, `root` the folder of
    the whole data set. A `DatasetError` names the first song whose stems' headers do not fit, and
    counts them all: better now than after hours with the others.
    """
    return sepkit.datasets.use_songs(_check_headers, _list_tracks(dataset, split, root))


def _list_tracks(dataset: str, split: str, root: str | os.PathLike[str] | None) -> list[Track]:
    if dataset == "example":
        return [sepkit.datasets.example()]
    if dataset == "dsd100":
        return sepkit.datasets.dsd100(split, root)
    if dataset == "musdb18":
        return sepkit.datasets.musdb18(split, root)
    if dataset == "open-stems":
        return sepkit.datasets.open_stems()
    if Path(dataset).is_dir():
        return sepkit.datasets.folder(dataset)
    raise DatasetError(
        f"data set {dataset!r}: unknown; use example, dsd100, musdb18, open-stems, or the path of "
        "a folder with a folder of stems for each song"
    )


def _check_headers(track: Track) -> Track:
    if len(track.files) == len(SOURCES):
        sepkit.datasets.check_alike(track.files, [_read_header(path) for path in track.files])
    return track


def _read_header(path: Path) -> tuple[int, int, int]:
    """Return a file's samples, 0 where its header does not say exactly, channels and rate."""
    file = AudioFile(path)
    return file.n_samples if file.exact else 0, file.n_channels, file.rate


def _add_train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train an experiment",
        description="Train an experiment; write NAME.weights.h5 and its card NAME.json.",
    )
    command.add_argument(
        "--experiment", required=True, metavar="NAME", help="a name of `sepkit models`"
    )
    command.add_argument(
        "--dataset", default="dsd100", metavar="NAME",
        help="dsd100, musdb18, or a folder of stems (default: dsd100)",
    )  # fmt: skip
    command.add_argument(
        "--split", default="dev",
        help="the songs; dev+others adds MUSDB18's that are not in DSD100 (default: dev)",
    )  # fmt: skip
    command.add_argument("--root", type=Path, metavar="DIR", help="folder of the whole data set")
    command.add_argument(
        "--epochs", type=int, metavar="N",
        help="epochs on each block of songs, or of random remixes (default: the experiment's)",
    )  # fmt: skip
    command.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    command.add_argument(
        "-o", "--output", type=Path, default=Path("."), metavar="DIR",
        help="folder for weights and card (default: this one)",
    )  # fmt: skip
    command.add_argument(
        "--checkpoint", type=Path, metavar="FILE",
        help="keep the training state here, and resume from it if it exists",
    )  # fmt: skip
    command.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    experiment = study.experiments.get_experiment(options.experiment)
    if options.epochs is not None:
        experiment = study.experiments.with_epochs(experiment, options.epochs)
    tracks = load_tracks(options.dataset, split=options.split, root=options.root)
    path = study.experiments.train(
        experiment,
        tracks,
        seed=options.seed,
        output=options.output,
        checkpoint=options.checkpoint,
    )
    print(path)


def _add_evaluate(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        help="score a model",
        description="Separate the songs of a data set and print SDR, SIR and SAR by source.",
    )
    command.add_argument(
        "--dataset", default="example", metavar="NAME",
        help="example, dsd100, musdb18, open-stems, or a folder of stems (default: example)",
    )  # fmt: skip
    command.add_argument("--split", default="test", help="the songs (default: test)")
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
        "--hop", type=int, default=streaming.DEFAULT_HOP, choices=range(1, CONTEXT + 1),
        metavar="FRAMES", help="frames between contexts in mode song (default: 5)",
    )  # fmt: skip
    command.add_argument(
        "--measure", action="append", choices=[*_TITLES], metavar="NAME",
        help="report: the report's metrics; bsseval: BSS Eval 4; museval: the same by the "
        "reference package, slower. Repeat for several (default: report and bsseval)",
    )  # fmt: skip
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE",
        help="scores by song as JSON (default: scores-MODEL-DATASET.json)",
    )  # fmt: skip
    command.add_argument("--card", type=Path, metavar="FILE", help="add the scores to this card")
    command.add_argument(
        "-j", "--jobs", type=int, default=-1, metavar="N",
        help="processes (default: one per core)",
    )  # fmt: skip
    command.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    tracks = load_tracks(options.dataset, split=options.split, root=options.root)
    values = streaming.resolve_weights(options.model)
    name = Path(options.model).name.removesuffix(".weights.h5")
    output = options.output or Path(f"scores-{name}-{Path(options.dataset).resolve().name}.json")
    check_writable(output, "give --output FILE elsewhere")
    if options.jobs == 0:
        raise ParameterError("--jobs 0: give one process or more, or -1 for one per core")
    if options.card is not None:
        study.cards.read_card(options.card)
        check_writable(options.card, "copy the card to another folder")
    # Cards hold scores of excerpts: whole songs of the same names have others.
    card = None
    if options.model in weights.list_models() and options.root is None:
        card = weights.read_card(options.model)
    modes = study.evaluation.MODES if options.mode == "both" else (options.mode,)
    measures = tuple(dict.fromkeys(options.measure or study.evaluation.MEASURES))
    evaluations: list[Evaluation] = []
    errors: list[str] = []
    result = {
        "model": name,
        "dataset": options.dataset,
        "split": options.split,
        "n_songs": len(tracks),
        "errors": errors,
    }
    # Written after every song, so that nothing that stops the scoring loses those before; an
    # earlier file stays until all are scored.
    kept = output.with_name(f"{output.stem}.partial.json") if output.exists() else output
    try:
        for mode in modes:
            songs: list[SongScores] = []
            scored = study.evaluation.Evaluation(mode, options.hop, songs)
            evaluations.append(scored)
            for song in study.evaluation.evaluate_each(
                values, tracks, mode=mode, hop=options.hop, measures=measures, n_jobs=options.jobs
            ):
                if not isinstance(song, SepkitError):
                    songs.append(song)
                elif str(song) not in errors:
                    errors.append(str(song))
                scores = {e.mode: e.as_dict() for e in evaluations if e.songs}
                if scores:
                    write_json({**result, "scores": scores}, kept, "make room there")
            if songs:
                _print_scores(scored, name, options.dataset, len(tracks), card)
    except BaseException:
        if any(e.songs for e in evaluations):
            print(f"sepkit: {kept} holds the songs scored so far", file=sys.stderr)
        raise
    if not any(e.songs for e in evaluations):
        raise DatasetError(errors[0] + f" (one of {len(errors)} errors)" * (len(errors) > 1))
    with writing_to(output):
        kept.replace(output)
    print(f"\n{output}")
    for error in errors:
        print(f"sepkit: {error}", file=sys.stderr)
    if options.card is not None and errors:
        print(f"sepkit: {options.card}: not changed, for songs are missing", file=sys.stderr)
    elif options.card is not None:
        study.cards.add_scores(options.card, evaluations)
        print(options.card)
    return 1 if errors else 0


def _print_scores(
    scored: Evaluation,
    name: str,
    dataset: str,
    n_songs: int,
    card: Mapping[str, Any] | None,
) -> None:
    how = f"whole song, hop {scored.hop}" if scored.mode == "song" else "the report's segments"
    of_all = "" if len(scored.songs) == n_songs else f" of {n_songs}"
    for measure in scored.measures:
        print(f"\n{name} on {dataset}, {len(scored.songs)}{of_all} songs, {how}: "
              f"{_TITLES[measure]} [dB]")  # fmt: skip
        print(study.evaluation.format_table(scored, measure))
    if card is not None:
        n_common, difference = study.cards.compare_with_card(scored, card)
        if n_common:
            print(f"\n{n_common} of these songs are in the card, at most "
                  f"{difference:.4f} dB apart")  # fmt: skip


def _add_ablate(commands: Any) -> None:
    command = commands.add_parser(
        "ablate",
        help="train and score one-factor ablations",
        description="Train arms that each change one thing, on forty songs of DSD100's Dev, score "
        "them on the other ten, and write ARM-SEED.json. Without arguments, the whole study: all "
        "analyses, and all arms from as many seeds as its conclusions need. Existing results are "
        "kept, and an interrupted run resumes.",
    )
    command.add_argument("arms", nargs="*", metavar="ARM", help="the arms (default: all of them)")
    command.add_argument("--list", action="store_true", help="describe the arms and exit")
    command.add_argument(
        "--table", action="store_true",
        help="print the results in DIR (default: those that come with sepkit) and exit",
    )  # fmt: skip
    command.add_argument(
        "--seed", type=int, metavar="N",
        help="seed (default: 0; for the whole study, all those that it takes)",
    )  # fmt: skip
    command.add_argument(
        "-j", "--jobs", type=int, default=1, metavar="N",
        help="trainings at once, which share the cores (default: 1)",
    )  # fmt: skip
    command.add_argument(
        "-o", "--output", type=Path, metavar="DIR",
        help="folder for the results (default: book/results)",
    )  # fmt: skip
    command.set_defaults(run=_ablate)


def _ablate(options: argparse.Namespace) -> None:
    if options.list:
        for name, arm in study.arms.ARMS.items():
            seeds = f", {arm.seeds} seeds" if arm.seeds > 1 else ""
            print(f"{name}: {arm.experiment.description} ({arm.group}{seeds})")
        for name, (description, _) in study.analyses.ANALYSES.items():
            print(f"{name}: {description} (nothing is trained)")
        return
    if options.table:
        _print_tables(options.output)
        return
    output = options.output or Path("book/results")
    whole = not options.arms and options.seed is None
    repeated = study.experiments.EXPERIMENTS if whole else ()
    names = options.arms or [*study.analyses.ANALYSES, *study.arms.ARMS, *repeated]
    chosen = [study.arms.get_arm(name) for name in names if name not in study.analyses.ANALYSES]
    trainings = [
        (arm, seed)
        for arm in chosen
        for seed in (study.arms.seeds(arm) if whole else [options.seed or 0])
    ]
    for name, (_, analyse) in study.analyses.ANALYSES.items():
        if name in names:
            print(analyse(output=output))
    for path in study.arms.run(trainings, output=output, n_jobs=options.jobs):
        print(path)
    if output.resolve() != packaged("book/results").resolve():
        print(f"to compare: sepkit ablate --table --output {output}")


def _print_tables(folder: Path | None) -> None:
    if folder is not None and not study.results.read_results(folder):
        raise SepkitError(f"{folder}: holds no results; sepkit ablate --output {folder} makes them")
    print(
        'Gains have 95 % intervals over songs and seeds. "effect" is significant after Holm\'s '
        'correction for all gains of a table,\n"likely" after Benjamini and Hochberg\'s; "none" '
        "lies within 0.3 dB of 0; the rest is open.\n"
    )
    for mode in study.evaluation.MODES:
        print(f"mode {mode}\n\n{study.tables.arms_table(folder, mode=mode)}\n")


def _add_study(commands: Any) -> None:
    command = commands.add_parser(
        "study", help="join what listeners of the book have saved", description="Studies of ears."
    )
    studies = command.add_subparsers(title="studies", metavar="STUDY", required=True)
    command = studies.add_parser(
        "listening",
        help="join ratings of the rating test",
        description="Join files that the book's rating test has saved, of one or more listeners; "
        "print mean ratings by system, and their correlation with SDR, SIR and SAR.",
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="saved ratings")
    command.add_argument("--seed", type=int, default=0, help="seed of the intervals (default: 0)")
    command.set_defaults(run=_listen)


def _listen(options: argparse.Namespace) -> None:
    if options.seed < 0:
        raise ParameterError(f"--seed {options.seed}: give 0 or more")
    sessions = [study.listening.read_session(path) for path in options.files]
    print(study.listening.describe(study.listening.join(sessions, seed=options.seed)))
