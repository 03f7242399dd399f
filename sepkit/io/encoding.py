"""Sound files, written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from sepkit.errors import AudioError, ParameterError
from sepkit.files import atomic_write

FORMATS = {
    # RF64 becomes an ordinary WAV on closing where it has less than 4 GiB.
    ".wav": ("RF64", {"32f": "FLOAT", "24": "PCM_24", "16": "PCM_16"}),
    ".flac": ("FLAC", {"16": "PCM_16", "24": "PCM_24"}),
    ".ogg": ("OGG", {"": "VORBIS"}),
    ".mp3": ("MP3", {"": "MPEG_LAYER_III"}),
}
"""Container and encodings, by suffix and bit depth; the first of them is the default."""

CLIP_POLICIES = ("none", "rescale", "clip")

_MP3_BITRATES = ((32000, 32, 320), (16000, 8, 160), (0, 8, 64))
"""From each sample rate [Hz] on, the lowest and highest bitrate of an MP3 file [kbit/s]."""

_HIGHEST_RATE_OF_OGG = 200_000

_SFC_RF64_AUTO_DOWNGRADE = 0x1210


def check_format(suffix: str, *, clip: str | None = None, bit_depth: str | None = None) -> str:
    """Return the clip policy for the format of a suffix: `clip`, or the format's default.

    "none" for float samples, which hold any level, and "rescale" for all others. Raises a
    `ParameterError` for a format, bit depth or policy that is unknown or does not fit.
    """
    if suffix.lower() not in FORMATS:
        raise ParameterError(f"{suffix!r}: unknown format; use one of {', '.join(FORMATS)}")
    depths = FORMATS[suffix.lower()][1]
    if bit_depth is not None and bit_depth not in depths:
        known = ", ".join(depth for depth in depths if depth)
        raise ParameterError(
            f"bit depth {bit_depth}: not one of {suffix}'s; "
            + (f"use {known}" if known else "leave it out")
        )
    if clip not in (None, *CLIP_POLICIES):
        raise ParameterError(
            f"clip={clip!r}: unknown policy; use one of {', '.join(CLIP_POLICIES)}"
        )
    is_float = (bit_depth or next(iter(depths))) == "32f"
    if clip == "none" and not is_float:
        raise ParameterError(
            f"clip='none': {bit_depth + '-bit ' if bit_depth else ''}{suffix} cannot hold samples "
            "beyond full scale; use float wav, or clip='rescale' or 'clip'"
        )
    return clip or ("none" if is_float else "rescale")


def check_bitrate(suffix: str, bitrate: int | None, rate: int = 44100) -> None:
    """Raise a `ParameterError` if the format of a suffix takes no such bitrate at a sample rate."""
    if bitrate is None:
        return
    if suffix.lower() != ".mp3":
        raise ParameterError(f"bitrate {bitrate}: {suffix} takes none; use mp3, or leave it out")
    lowest, highest = _mp3_bitrates(rate)
    # libsndfile itself refuses the lowest one.
    if not lowest < bitrate <= highest:
        raise ParameterError(
            f"bitrate {bitrate}: give {lowest + 8} to {highest} kbit/s at a rate of {rate} Hz"
        )


def _mp3_bitrates(rate: int) -> tuple[int, int]:
    return next((low, high) for from_rate, low, high in _MP3_BITRATES if rate >= from_rate)


def check_encoding(path: str | os.PathLike[str], rate: int, n_channels: int) -> None:
    """Raise an error if the format of a path cannot hold a rate or number of channels."""
    suffix = Path(path).suffix
    check_format(suffix)
    with contextlib.suppress(soundfile.LibsndfileError):
        # libsndfile crashes on numbers that Vorbis or C cannot represent.
        highest = _HIGHEST_RATE_OF_OGG if suffix.lower() == ".ogg" else 1 << 30
        if 1 <= rate <= highest and 1 <= n_channels <= 255:
            _open(io.BytesIO(), suffix, rate, n_channels).close()
            return
    raise AudioError(
        f"{path}: {suffix} cannot hold {n_channels} channels at {rate} Hz; choose another format"
    )


def _open(
    file: BinaryIO | _Sink,
    suffix: str,
    rate: int,
    n_channels: int,
    *,
    bit_depth: str | None = None,
    bitrate: int | None = None,
) -> soundfile.SoundFile:
    container, depths = FORMATS[suffix.lower()]
    encoding = depths[bit_depth] if bit_depth else next(iter(depths.values()))
    options: dict[str, Any] = {}
    if bitrate is not None:
        lowest, highest = _mp3_bitrates(rate)
        options["compression_level"] = (highest - bitrate) / (highest - lowest)
        options["bitrate_mode"] = "CONSTANT"
    opened = soundfile.SoundFile(file, "w", rate, n_channels, encoding, format=container, **options)
    if container == "RF64":
        # soundfile has no name for this command of libsndfile.
        soundfile._snd.sf_command(opened._file, _SFC_RF64_AUTO_DOWNGRADE, soundfile._ffi.NULL, True)
    return opened


class _Sink:
    """A file for libsndfile to write to, which remembers the errors that libsndfile does not."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.error: OSError | None = None

    def _try(self, method: Any, *arguments: Any) -> int:
        try:
            return int(method(*arguments) or 0)
        except OSError as error:
            self.error = self.error or error
            return 0

    def write(self, data: bytes) -> int:
        return self._try(self._file.write, data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._try(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._try(self._file.tell)

    def close(self) -> None:
        self._try(self._file.close)


class Writer:
    """What `writer` yields: an open sound file.

    Blocks are encoded in a thread of its own, beside what computes the next one. An interruption
    strikes the main thread alone, and so never inside libsndfile.
    """

    def __init__(self, beside: Path, path: Path, rate: int, n_channels: int, **options: Any):
        self.path = path
        self._pool = ThreadPoolExecutor(1)
        self._opening = self._pool.submit(self._open, beside, rate, n_channels, **options)
        self._running: Future[None] | None = None
        self._n_given = 0

    def _open(self, beside: Path, *form: int, **options: Any) -> soundfile.SoundFile:
        # Closed in `abandon`, after libsndfile has let go of it. Not truncated: the file is empty,
        # and some file systems (ext4) write one that was truncated to the disk when it is closed.
        self._sink = _Sink(open(beside, "r+b"))  # noqa: SIM115
        return _open(self._sink, self.path.suffix, *form, **options)

    def open(self) -> None:
        """Wait until the file is open; raise the error if it could not be opened."""
        self._file = self._opening.result()

    def write(self, block: np.ndarray) -> None:
        """Write a block of samples ``(n_samples, n_channels)``, float32.

        It is encoded after the return and must not change until the next call, which raises the
        error of it, if there is one.
        """
        if self._file.subtype != "FLOAT" and not np.isfinite(block).all():
            raise AudioError(
                f"{self.path}: NaN or infinite samples, which only float wav can hold; mend them"
            )
        self._wait()
        self._n_given += len(block)
        self._running = self._pool.submit(self._encode, block)

    def _encode(self, block: np.ndarray) -> None:
        # libsndfile would round down, and scale by one less than what it divides by on reading.
        if self._file.subtype == "PCM_16":
            block = np.clip(np.rint(block * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)
        elif self._file.subtype == "PCM_24":
            block = np.clip(np.rint(block * 2.0**23), -(2**23), 2**23 - 1).astype(np.int32) << 8
        # soundfile asserts that all samples were written; the sink knows why they were not.
        with contextlib.suppress(AssertionError):
            self._file.write(block)

    def _wait(self) -> None:
        """Wait for the block that is being encoded."""
        if self._running is not None:
            self._running.result()
        self._check(self._sink.error)

    def _check(self, error: BaseException | None) -> None:
        if error is not None:
            raise _cannot_be_written(self.path, error)

    def close(self) -> None:
        """End the file; raise an `AudioError` if not all of it was written."""
        self._wait()
        n_written = self._file.frames
        self._check(self._pool.submit(self._file.close).exception())
        self._sink.close()
        self._check(self._sink.error)
        if n_written != self._n_given:
            raise AudioError(
                f"{self.path}: only {n_written} of {self._n_given} samples could be written; "
                "choose another folder or format"
            )

    def abandon(self) -> None:
        """Close the file, in whatever state it is."""
        if self._opening.exception() is None:
            self._pool.submit(self._opening.result().close).exception()
            self._sink.close()
        self._pool.shutdown()


def _cannot_be_written(path: Path, error: BaseException) -> AudioError:
    reason = getattr(error, "strerror", None) or getattr(error, "error_string", str(error))
    return AudioError(
        f"{path}: cannot be written ({reason}); choose another folder, format or rate"
    )


@contextlib.contextmanager
def writer(
    path: str | os.PathLike[str],
    rate: int,
    n_channels: int,
    *,
    bit_depth: str | None = None,
    bitrate: int | None = None,
) -> Iterator[Writer]:
    """Open a sound file for writing block by block.

    Parameters
    ----------
    path : str or Path
        The file; its suffix determines the format. Written completely or not at all. A wav of
        more than 4 GiB becomes an RF64 file of the same name.
    rate, n_channels : int
        Sample rate [Hz] and number of channels.
    bit_depth : {"16", "24", "32f"}, optional
        Sample format of wav (by default "32f", float) and flac ("16").
    bitrate : int, optional
        Bitrate of mp3 [kbit/s].

    Yields
    ------
    Writer
        Its `write` takes float32 blocks.

    Raises
    ------
    AudioError
        When the file cannot be written, or not all of it.
    """
    path = Path(path)
    check_format(path.suffix, bit_depth=bit_depth)
    check_bitrate(path.suffix, bitrate, rate)
    check_encoding(path, rate, n_channels)
    try:
        with atomic_write(path) as beside:
            options = {"bit_depth": bit_depth, "bitrate": bitrate}
            opened = Writer(beside, path, rate, n_channels, **options)
            try:
                opened.open()
                yield opened
                opened.close()
            finally:
                opened.abandon()
    except (OSError, soundfile.LibsndfileError) as error:
        raise _cannot_be_written(path, error) from error
