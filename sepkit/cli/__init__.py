"""The command line: sepkit separate | models | export | train | evaluate | ablate | study."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import sepkit
from sepkit import streaming, weights
from sepkit.cli import export, separate
from sepkit.cli.output import say
from sepkit.errors import ParameterError, SepkitError
from sepkit.study import commands as study_commands

EXIT_BAD_INPUT = 2


class Terminated(KeyboardInterrupt):
    """The process was asked to end; its argument is the signal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments; by default those of this process.

    Returns
    -------
    int
        0; 1 when some of several songs failed, after one line each; 2 after one line about bad
        input; 130 when interrupted, 128 plus the signal when asked to end.
    """
    # TensorFlow logs to standard error unless told otherwise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _ending_cleanly(), _warnings_as_lines():
            options = _parser().parse_args(arguments)
            return options.run(options) or 0
    except SepkitError as error:
        say(f"sepkit: {error}", error=True)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        say(f"sepkit: {place}{error.strerror or error}", error=True)
    except MemoryError:
        say("sepkit: not enough memory; close other programs, or give a shorter song", error=True)
    except Terminated as error:
        say("sepkit: terminated", error=True)
        return 128 + int(error.args[0])
    except KeyboardInterrupt:
        say("sepkit: interrupted", error=True)
        return 130
    return EXIT_BAD_INPUT


@contextlib.contextmanager
def _ending_cleanly() -> Iterator[None]:
    """Clean up as after Ctrl-C when the process is asked to end."""

    def end(number: int, _: object) -> NoReturn:
        raise Terminated(number)

    # Elsewhere than in its main thread, a process cannot handle signals.
    wanted = (
        [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        if threading.current_thread() is threading.main_thread()
        else []
    )
    before = {
        number: signal.signal(number, end)
        for number in wanted
        if signal.getsignal(number) == signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print warnings of this library as errors are printed, in one line."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, sepkit.errors.AudioWarning):
                say(f"sepkit: warning: {message}", error=True)
            else:
                shown(message, category, *place, **options)

        warnings.showwarning = show
        warnings.simplefilter("always", sepkit.errors.AudioWarning)
        yield


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
    separate.add_to(commands)
    models = commands.add_parser("models", help="list the trained models")
    models.add_argument("--json", action="store_true", help="print a JSON object per model")
    models.set_defaults(run=_models)
    export.add_to(commands)
    study_commands.add_to(commands)
    return parser


def _models(options: argparse.Namespace) -> None:
    for name in weights.list_models():
        card = weights.read_card(name)
        values = streaming.resolve_weights(name)
        channels, _ = weights.check_shapes(values)
        model = {
            "name": name,
            "description": card["experiment"]["description"],
            "channels": channels,
            "parameters": weights.count_parameters(values),
            "bytes": weights.find_weights(name).stat().st_size,
            "licence": card["weights_licence"],
        }
        if options.json:
            say(json.dumps(model))
            continue
        sound = "stereo" if channels == 2 else "each channel by itself"
        say(
            f"{name}: {model['description']} {sound}, {model['parameters']:,} parameters, "
            f"{model['bytes'] / 1e6:.1f} MB, {model['licence']}"
        )
