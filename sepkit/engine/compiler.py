"""The compiler of the engine: that of the package ziglang, in the extra ``engine``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sepkit.errors import SepkitError, import_optional

SOURCE = Path(__file__).with_name("engine.c")


def compile_source(name: str, *options: str) -> bytes:
    """Compile ``engine.c``.

    Parameters
    ----------
    name : str
        Name of the output, which some formats hold.
    *options : str
        Options of the compiler, ``zig cc``.

    Returns
    -------
    bytes
        The library or module: of one source and one compiler always the same.

    Raises
    ------
    MissingPackageError
        When ziglang is not installed.
    SepkitError
        When the compiler fails.
    """
    import_optional("ziglang", "engine")
    with tempfile.TemporaryDirectory() as folder:
        # In a folder of its own under a name of its own, since the compiler notes both.
        shutil.copy(SOURCE, folder)
        # The compiler's cache would otherwise lie in the home directory, which may be read-only.
        caches = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        ran = subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", *options, "-o", name, SOURCE.name],
            cwd=folder, env={**os.environ, **caches}, capture_output=True, text=True,
        )  # fmt: skip
        if ran.returncode:
            raise SepkitError(
                f"engine.c: cannot be compiled; {ran.stderr.strip().splitlines()[-1]}"
            )
        return (Path(folder) / name).read_bytes()
