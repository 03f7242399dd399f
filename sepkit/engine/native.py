"""The engine as a library for this machine: the stems of `sepkit.streaming` in less time."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from sepkit import weights
from sepkit.engine import compiler
from sepkit.errors import ParameterError, SepkitError
from sepkit.files import atomic_write, writing_to
from sepkit.stft import FRAME_LENGTH, HOP_LENGTH
from sepkit.weights import Weights

REGISTERS = ("-DLANES=8", "-DTILE=6")
"""The fastest of the sizes that we tried, on processors with AVX-512."""

_LIBRARY = (
    "-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC",
    # It calls memset alone, which is in every process; without a C library this takes 1 s, not 7.
    *(("-nostdlib",) if sys.platform == "linux" else ()),
)  # fmt: skip


def library_path() -> Path:
    """Return where the compiled library is, or will be: beside Python's own compiled modules.

    The name depends on the source and on the processor, so that none is loaded that was made for
    another one.
    """
    said = f"{_processor()} {_LIBRARY} {REGISTERS}".encode()
    key = hashlib.sha256(compiler.SOURCE.read_bytes() + said).hexdigest()[:16]
    suffix = {"win32": "dll", "darwin": "dylib"}.get(sys.platform, "so")
    return Path(importlib.util.cache_from_source(str(compiler.SOURCE))).with_name(
        f"engine-{key}.{suffix}"
    )


def _processor() -> str:
    """Describe the instructions of the processor."""
    try:
        first, *_ = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")
        return "\n".join(line for line in first.splitlines() if line[:5] in ("flags", "Featu"))
    except OSError:
        import platform

        return f"{platform.machine()} {platform.processor()}"


@cache
def load() -> ctypes.CDLL:
    """Load the engine; compile it if this installation has not done so on this processor.

    Returns
    -------
    ctypes.CDLL
        The functions of ``engine.c``.

    Raises
    ------
    MissingPackageError
        When it has to be compiled and ziglang is not installed.
    SepkitError
        When the compiler fails, or the library cannot be written beside the package or loaded.
    """
    path = library_path()
    if not path.exists():
        content = compiler.compile_source(path.name, *_LIBRARY, *REGISTERS)
        with writing_to(path, "use it once as the user who has installed sepkit"):
            path.parent.mkdir(exist_ok=True)
            with atomic_write(path) as beside:
                beside.write_bytes(content)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise SepkitError(f"{path}: cannot be loaded ({error}); remove it") from error
    library.engine_size.restype = ctypes.c_long
    for name in ("create", "weights", "samples", "stem", "place"):
        getattr(library, f"engine_{name}").restype = ctypes.c_void_p
    return library


class Engine:
    """A network in C with its memory, for one thread.

    Parameters
    ----------
    values : dict of str to ndarray, float32
        The network (`sepkit.weights`).
    hop : int
        Frames between the starts of contexts.
    n_frames : int
        Frames that it separates at once, at most.
    """

    def __init__(self, values: Weights, hop: int, n_frames: int):
        channels, n_sources = weights.check_shapes(values)
        sizes = weights.infer_sizes(values)
        self._library, self._context, self._hop = load(), sizes.context, hop
        self._n_contexts = max(0, n_frames - sizes.context) // hop + 1
        numbers = (
            channels, n_sources, sizes.n_timbres, sizes.n_patterns, sizes.pattern, sizes.n_shared,
            sizes.context, hop, self._n_contexts,
        )  # fmt: skip
        self._memory = np.empty(self._library.engine_size(*numbers) + 64, np.uint8)
        aligned = -(-self._memory.ctypes.data // 64) * 64
        self._place = ctypes.c_void_p(
            self._library.engine_create(ctypes.c_void_p(aligned), *numbers)
        )
        names = weights.shapes(channels=channels, n_sources=n_sources, sizes=sizes)
        flat = np.concatenate([np.ravel(values[name]) for name in names])
        self._floats("weights", len(flat))[:] = flat
        self._library.engine_prepare(self._place)

    def _floats(self, name: str, n: int, *which: int) -> np.ndarray:
        address = getattr(self._library, f"engine_{name}")(self._place, *which)
        return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (n,))

    def separate(self, samples: np.ndarray, frames: slice, stems: np.ndarray) -> None:
        """Separate the samples of whole contexts.

        Parameters
        ----------
        samples : ndarray of shape (n_samples, n_channels), float32
            As many channels as the network has, or one.
        frames : slice
            The frames that cover the samples that are wanted.
        stems : ndarray of shape (n_sources, n_wanted, n_channels), float32
            Where the stems are written, from the first sample on that these frames cover fully.

        Raises
        ------
        ParameterError
            When there are more contexts than the engine has memory for.
        """
        n_frames = (len(samples) - FRAME_LENGTH) // HOP_LENGTH + 1
        n_contexts = (n_frames - self._context) // self._hop + 1
        if n_contexts > self._n_contexts:
            raise ParameterError(
                f"{len(samples)} samples: {n_contexts} contexts, of at most {self._n_contexts}; "
                "give n_frames when the engine is made"
            )
        n_sources, length, n_channels = stems.shape
        for channel in range(n_channels):
            self._floats("samples", len(samples), channel)[:] = samples[:, channel]
        self._library.engine_separate(
            self._place, n_channels, n_contexts, frames.start, frames.stop
        )
        for source in range(n_sources):
            for channel in range(n_channels):
                stems[source, :, channel] = self._floats("stem", length, source, channel)


def separator(
    values: Weights, hop: int, n_frames: int
) -> Callable[[np.ndarray, slice, np.ndarray], None]:
    """Return `Engine.separate` with an engine for each thread that calls it.

    Parameters
    ----------
    values, hop, n_frames : dict, int, int
        As for `Engine`.

    Returns
    -------
    callable
        It takes samples, frames and stems, as `Engine.separate` does.
    """
    load()  # its error is better raised here than in a thread
    threads = threading.local()

    def separate(samples: np.ndarray, frames: slice, stems: np.ndarray) -> None:
        if not hasattr(threads, "engine"):
            threads.engine = Engine(values, hop, n_frames)
        threads.engine.separate(samples, frames, stems)

    return separate
