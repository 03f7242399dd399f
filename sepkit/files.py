"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Give a place beside a file to write to; rename it when all went well, else remove it.

    Parameters
    ----------
    path : str or Path
        Where the file is to be; its folder must exist. One that is there is replaced.

    Yields
    ------
    Path
        An empty file in the same folder.

    Raises
    ------
    OSError
        When the folder cannot be written to.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.touch()  # says why it fails, which some libraries do not
        yield beside
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
