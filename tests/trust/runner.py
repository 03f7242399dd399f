"""Run the command line in a process of its own, but without the second that its imports take."""

import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
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


def _child(arguments: list[str], folder: str, log: str, file_size: int | None) -> None:
    os.chdir(folder)
    for name, number in (("out", 1), ("err", 2)):
        # Below Python, so that it holds what libraries in C say, too.
        os.dup2(os.open(f"{log}/{name}", os.O_WRONLY | os.O_CREAT), number)
    os.environ["TMPDIR"] = f"{log}/tmp"
    tempfile.tempdir = None
    resource.setrlimit(resource.RLIMIT_AS, (8 * GIGABYTE, 8 * GIGABYTE))
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    code = cli.main(arguments)
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # As the name of a folder: a full disk or a limit has no say in it.
    os.mkdir(f"{log}/{usage}.kilobytes")
    sys.exit(code)


def run(*arguments: object, folder: Path, timeout: float = 60, file_size: int | None = None) -> Run:
    """Run ``sepkit ARGUMENTS`` in a folder, with files of at most a size if that is given."""
    with tempfile.TemporaryDirectory() as log:
        Path(log, "tmp").mkdir()
        texts = [str(argument) for argument in arguments]
        started = time.perf_counter()
        process = _CONTEXT.Process(target=_child, args=(texts, str(folder), log, file_size))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            code = None
        else:
            code = process.exitcode
        seconds = time.perf_counter() - started
        out, err = (Path(log, name).read_text(errors="replace") for name in ("out", "err"))
        (kilobytes,) = [*Path(log).glob("*.kilobytes")] or [Path("0")]
        left = [*Path(log, "tmp").iterdir()]
        if left:
            err += f"left in TMPDIR: {left}\n"
        shutil.rmtree(Path(log, "tmp"))
    return Run(code, out, err, seconds, int(kilobytes.stem) / 1024)
