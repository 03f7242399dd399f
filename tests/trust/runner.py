"""Run sepkit in a process of its own, but without the second that its imports take."""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sepkit import cli

GIGABYTE = 1 << 30

# A server that has imported all this, has one thread, and forks itself for every run.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["sepkit.cli"])


@dataclass
class Run:
    """What came of a run; its code is negative after a signal, None when it took too long."""

    code: int | None
    out: str
    err: str
    seconds: float
    megabytes: float


def _child(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    folder: str,
    log: str,
    file_size: int | None,
) -> None:
    os.chdir(folder)
    for name, number in (("out", 1), ("err", 2)):
        # Below Python, so that it holds what libraries in C say, too.
        os.dup2(os.open(f"{log}/{name}", os.O_WRONLY | os.O_CREAT), number)
    os.environ["TMPDIR"] = f"{log}/tmp"
    tempfile.tempdir = None
    resource.setrlimit(resource.RLIMIT_AS, (8 * GIGABYTE, 8 * GIGABYTE))
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    code = function(*arguments)
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # As the name of a folder: a full disk or a limit has no say in it.
    os.mkdir(f"{log}/{usage}.kilobytes")
    sys.exit(code)


def call(
    function: Callable[..., object],
    *arguments: object,
    folder: Path,
    timeout: float = 60,
    file_size: int | None = None,
) -> Run:
    """Call a function in a folder; its result is the exit code. Files may have a limit of size."""
    with tempfile.TemporaryDirectory() as log:
        Path(log, "tmp").mkdir()
        started = time.perf_counter()
        everything = (function, arguments, str(folder), log, file_size)
        process = _CONTEXT.Process(target=_child, args=everything)
        process.start()
        process.join(timeout)
        late = process.is_alive()
        if late:
            process.kill()
            process.join()
        seconds = time.perf_counter() - started
        out, err = (Path(log, name).read_text(errors="replace") for name in ("out", "err"))
        sizes = [int(path.stem) / 1024 for path in Path(log).glob("*.kilobytes")]
        if left := [path.name for path in Path(log, "tmp").iterdir()]:
            err += f"left in TMPDIR: {left}\n"
    return Run(None if late else process.exitcode, out, err, seconds, sum(sizes))


def run(*arguments: object, folder: Path, **limits: float | None) -> Run:
    """Run ``sepkit ARGUMENTS`` in a folder, within the limits that `call` takes."""
    return call(cli.main, [str(argument) for argument in arguments], folder=folder, **limits)
