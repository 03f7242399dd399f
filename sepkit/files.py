"""Files: written completely or not at all; those that travel with the library."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sepkit.errors import SepkitError


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


@contextlib.contextmanager
def make_folders(places: Iterable[Path]) -> Iterator[None]:
    """Create missing folders and their parents; after an error, remove them again.

    A folder that cannot be made or written to raises a `SepkitError`.
    """
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


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the value of a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_json(value: Any, path: str | os.PathLike[str]) -> None:
    """Write a value as JSON, completely or not at all; a `SepkitError` says why not."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        with atomic_write(path) as beside:
            beside.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SepkitError(
            f"{path}: cannot be written ({error.strerror}); choose another place"
        ) from error


def packaged(name: str) -> Path:
    """Find a file or folder that travels with the library, such as "weights" or "tracks.csv".

    It lies below ``sepkit/data`` or, in a checkout, below its root.
    """
    package = Path(__file__).parent
    inside = package / "data" / name
    return inside if inside.exists() else package.parent / name
