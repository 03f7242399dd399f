"""Files: written completely or not at all; those that travel with the library."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sepkit.errors import SepkitError

_LEFTOVERS = {
    "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle",
    "__macosx", "lost+found", "system volume information",
}  # fmt: skip
"""Folders that systems and network drives keep for themselves, in lower case."""


def is_leftover(path: str | os.PathLike[str]) -> bool:
    """Return whether a file or folder is hidden, or was left by a system or a network drive."""
    name = Path(path).name
    return name.startswith(".") or name.lower() in _LEFTOVERS


@contextlib.contextmanager
def writing_to(
    path: str | os.PathLike[str], remedy: str = "choose another place"
) -> Iterator[None]:
    """Turn an `OSError` of writing into a `SepkitError` that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise SepkitError(f"{path}: cannot be written to ({reason}); {remedy}") from error


def check_writable(path: str | os.PathLike[str], remedy: str = "choose another place") -> None:
    """Raise a `SepkitError` if a file cannot be written at a path, found by trying."""
    path = Path(path)
    with writing_to(path, remedy):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "")
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(4096))  # an empty file fits on a full disk


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty file beside a path; on success rename it to the path, else remove it."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.touch()  # its error says why, which those of some libraries do not
        yield beside
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def remove_parts(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes have left of `atomic_write` beside a path that is ours alone."""
    path = Path(path)
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def make_folders(places: Iterable[Path]) -> Iterator[None]:
    """Create missing folders and their parents; after an error, remove them again.

    A folder that cannot be made raises a `SepkitError`.
    """
    made = []
    try:
        for place in places:
            with writing_to(place, "choose another folder"):
                for folder in reversed([place, *place.parents]):
                    if not folder.is_dir():
                        folder.mkdir(exist_ok=True)  # another process may have been faster
                        made.append(folder)
        yield
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the value of a JSON file; a `SepkitError` says why it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise SepkitError(f"{path}: cannot be read ({reason}); mend or replace it") from error


def write_json(
    value: Any, path: str | os.PathLike[str], remedy: str = "choose another place"
) -> None:
    """Write a value as JSON, completely or not at all; a `SepkitError` says why not."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    with writing_to(path, remedy), atomic_write(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def packaged(name: str) -> Path:
    """Find a file or folder that travels with the library, such as "weights" or "tracks.csv".

    It lies below ``sepkit/data`` or, in a checkout, below its root.
    """
    package = Path(__file__).parent
    inside = package / "data" / name
    return inside if inside.exists() else package.parent / name
