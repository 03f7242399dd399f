"""The command that writes a model in a format of other programs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from sepkit import export, weights
from sepkit.cli.output import say
from sepkit.errors import ParameterError, SepkitError
from sepkit.files import check_writable, read_json

_DESCRIPTION = """Write a model in a format that other programs run. The ONNX file takes the
magnitudes of a song's STFT, in contexts of frames, and gives the masks of its sources; its metadata
hold the sources, the sample rate, the STFT and the license of the weights. The format web is a
folder with a page that separates songs in the browser, by itself. Both need packages:
pip install 'sepkit[export,notebook]'. What is there already is not replaced without --overwrite."""


def add_to(commands: Any) -> None:
    """Add the command to what `argparse.ArgumentParser.add_subparsers` returns."""
    command = commands.add_parser(
        "export", help="write a model for other programs", description=_DESCRIPTION
    )
    command.add_argument(
        "model", metavar="MODEL", help="a model of `sepkit models`, or a .h5 weight file"
    )
    command.add_argument(
        "--format", default="onnx", choices=["onnx", "web"], help="format (default: onnx)"
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="PLACE",
        help="the file or folder to write (default: MODEL.onnx or MODEL-web, here)",
    )  # fmt: skip
    command.add_argument("--overwrite", action="store_true", help="replace what is there already")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the model that the options name."""
    source = weights.find_weights(options.model)
    name = source.name.removesuffix(source.suffix).removesuffix(".weights")
    values = weights.load(source)
    if options.format == "web":
        # It takes a second, which no other command should wait for.
        from sepkit.notebook import web

        output = options.output or Path(f"{name}-web")
        _check_folder(output, overwrite=options.overwrite)
        web.write_page(output, values, name=name)
        say(f"{name}: open {output / 'index.html'}")
        return
    output = options.output or Path(f"{name}.onnx")
    _check_output(output, source, overwrite=options.overwrite)
    export.onnx_file.write(
        values, output, name=name, card=_read_card(source.with_name(f"{name}.json"))
    )
    say(f"{name}: {output.stat().st_size:,} bytes in {output}")


def _check_folder(output: Path, *, overwrite: bool) -> None:
    """Refuse a place that is a file, and a folder that holds something that is to be kept."""
    if output.is_file():
        raise ParameterError(f"{output}: is a file; give the --output of format web a folder")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise ParameterError(
            f"{output}: is not empty; give another --output, or --overwrite to write into it"
        )


def _check_output(output: Path, source: Path, *, overwrite: bool) -> None:
    """Refuse a place that cannot be written, and a file that is to be kept."""
    if output.exists() and os.path.samefile(output, source):
        raise ParameterError(f"{output}: is the weight file itself; give another --output")
    if output.is_file() and not overwrite:
        raise ParameterError(
            f"{output}: exists already; give another --output, or --overwrite to replace it"
        )
    check_writable(output)


def _read_card(path: Path) -> dict[str, Any] | None:
    """Return the card beside a weight file, or None where there is none."""
    if not path.is_file():
        return None
    card = read_json(path)
    if not isinstance(card, dict) or not isinstance(card.get("experiment"), dict):
        raise SepkitError(f"{path}: not a card, though it lies beside the weights; move it away")
    return card
