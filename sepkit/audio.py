"""Audio files to float32 arrays and back.

Audio is float32 of shape ``(n_samples, n_channels)``, with full scale at 1.0, at any sample rate.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from sepkit.errors import AudioError, ParameterError
from sepkit.files import atomic_write

BLOCK = 1 << 18
"""Samples read or written at a time: 6 s at 44.1 kHz."""

FORMATS = {
    ".wav": ("WAV", "FLOAT"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
"""Container and encoding of the files that `write` makes, by suffix."""

CLIP_POLICIES = ("none", "rescale", "clip")


class AudioFile:
    """An audio file that soundfile or ffmpeg can decode.

    Parameters
    ----------
    path : str or Path
        The file.

    Attributes
    ----------
    rate, n_channels : int
        Sample rate [Hz] and number of channels.

    Raises
    ------
    AudioError
        When the file is missing, not audio, or needs ffmpeg and that is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not self.path.is_file():
            raise AudioError(f"{self.path}: no such file; check the path")
        if self.path.stat().st_size == 0:
            raise AudioError(f"{self.path}: the file is empty; give a sound file")
        try:
            info = soundfile.info(str(self.path))
            self._by_soundfile = True
            self.rate, self.n_channels = info.samplerate, info.channels
        except (soundfile.LibsndfileError, TypeError):  # TypeError: a name that ends in .raw
            self._by_soundfile = False
            self.rate, self.n_channels = self._probe()

    def _probe(self) -> tuple[int, int]:
        if not (shutil.which("ffprobe") and shutil.which("ffmpeg")):
            raise AudioError(
                f"{self.path}: not a format that libsndfile reads; install ffmpeg to read others"
            )
        found = subprocess.run(
            ["ffprobe", "-v", "error", "-select_streams", "a:0", "-show_entries",
             "stream=sample_rate,channels", "-of", "json", os.fspath(self.path.absolute())],
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        streams = json.loads(found.stdout or b"{}").get("streams") if not found.returncode else None
        if not streams or not int(streams[0].get("sample_rate", 0)):
            raise AudioError(f"{self.path}: not audio; give a wav, flac, ogg, mp3 or m4a file")
        return int(streams[0]["sample_rate"]), int(streams[0]["channels"])

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the audio block by block.

        Yields
        ------
        ndarray of shape (n_samples, n_channels), float32
            At most `BLOCK` samples each.

        Raises
        ------
        AudioError
            When the file breaks off, is empty, or holds NaN or infinite samples.
        """
        empty = True
        for block in self._soundfile_blocks() if self._by_soundfile else self._ffmpeg_blocks():
            if not np.isfinite(block).all():
                raise AudioError(f"{self.path}: holds NaN or infinite samples; export it again")
            empty = False
            yield block
        if empty:
            raise AudioError(f"{self.path}: holds no samples; give a sound of some length")

    def _soundfile_blocks(self) -> Iterator[np.ndarray]:
        try:
            with soundfile.SoundFile(str(self.path)) as file:
                while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                    yield block
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{self.path}: cannot be decoded ({error}); convert it") from error

    def _ffmpeg_blocks(self) -> Iterator[np.ndarray]:
        command = ["ffmpeg", "-v", "error", "-xerror", "-nostdin",
                   "-i", os.fspath(self.path.absolute()),
                   "-map", "0:a:0", "-f", "f32le", "-"]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        ) as process:
            try:
                assert process.stdout is not None  # a pipe
                while data := process.stdout.read(4 * self.n_channels * BLOCK):
                    yield np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, self.n_channels)
            except GeneratorExit:
                process.kill()
                raise
        if process.returncode:
            raise AudioError(f"{self.path}: ffmpeg cannot decode it; convert it to wav")


def read(path: str | os.PathLike[str], *, rate: int | None = None) -> tuple[np.ndarray, int]:
    """Read an audio file.

    Parameters
    ----------
    path : str or Path
        A file that soundfile or ffmpeg can decode.
    rate : int, optional
        Resample to this rate [Hz]; the file's own by default.

    Returns
    -------
    audio : ndarray of shape (n_samples, n_channels), float32
        The audio.
    rate : int
        Its sample rate [Hz].

    Raises
    ------
    AudioError
        When the file is missing, not audio, empty, or holds NaN.
    """
    file = AudioFile(path)
    audio = np.concatenate(list(file.blocks()))
    if rate is None:
        return audio, file.rate
    return resample(audio, file.rate, rate), rate


def resample(audio: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Resample audio.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels), float32
        Audio at `rate_in`.
    rate_in, rate_out : int
        Sample rates [Hz].

    Returns
    -------
    ndarray of shape (ceil(n_samples * rate_out / rate_in), n_channels), float32
        Audio at `rate_out`; the same array if the rates are equal.
    """
    if not (rate_in > 0 and rate_out > 0):
        raise ParameterError(f"from {rate_in} to {rate_out} Hz: give rates above 0")
    if rate_in == rate_out:
        return audio
    n_samples = -(-len(audio) * rate_out // rate_in)
    return fix_length(soxr.resample(audio, rate_in, rate_out), n_samples)


def fix_length(audio: np.ndarray, n_samples: int) -> np.ndarray:
    """Trim an array (n, ...), or pad it with zeros, to `n_samples`."""
    missing = n_samples - len(audio)
    if missing <= 0:
        return audio[:n_samples]
    return np.pad(audio, [(0, missing)] + [(0, 0)] * (audio.ndim - 1))


def apply_clip_policy(audio: np.ndarray, clip: str) -> np.ndarray:
    """Limit samples to the range of formats that clip.

    Parameters
    ----------
    audio : ndarray
        Samples; several stems in one array share one gain.
    clip : {"none", "rescale", "clip"}
        "none" leaves them; "rescale" divides by the peak if it exceeds 1, which keeps the
        waveform; "clip" clips at 1, which keeps the level.

    Returns
    -------
    ndarray
        Samples of the same shape.
    """
    if clip == "none":
        return audio
    if clip == "rescale":
        return audio / max(1.0, float(np.abs(audio).max(initial=0.0)))
    if clip == "clip":
        return np.asarray(np.clip(audio, -1.0, 1.0))
    raise ParameterError(f"clip={clip!r}: unknown policy; use one of {', '.join(CLIP_POLICIES)}")


def write(
    path: str | os.PathLike[str], audio: np.ndarray, rate: int, *, clip: str | None = None
) -> None:
    """Write an audio file: float wav, 16-bit flac, ogg (Vorbis) or mp3, by its suffix.

    Parameters
    ----------
    path : str or Path
        The file, in an existing folder; written completely or not at all.
    audio : ndarray of shape (n_samples, n_channels) or (n_samples,), float32
        The audio.
    rate : int
        Its sample rate [Hz].
    clip : {"none", "rescale", "clip"}, optional
        What to do with samples beyond full scale (see `apply_clip_policy`). By default "none"
        for wav, whose float samples hold any level, and "rescale" for the others.

    Raises
    ------
    AudioError
        When the file cannot be written.
    ParameterError
        When the suffix or the policy is unknown, or is "none" for a format that clips.
    """
    path = Path(path)
    check_format(path.suffix, clip)
    if clip is None:
        clip = "none" if path.suffix.lower() == ".wav" else "rescale"
    audio = apply_clip_policy(np.asarray(audio, np.float32), clip)
    with writer(path, rate, 1 if audio.ndim == 1 else audio.shape[1]) as file:
        for start in range(0, len(audio), BLOCK):
            file.write(audio[start : start + BLOCK])


def check_format(suffix: str, clip: str | None) -> None:
    """Raise a `ParameterError` if the format of a suffix cannot follow a clip policy."""
    if suffix.lower() not in FORMATS:
        raise ParameterError(f"{suffix!r}: unknown format; use one of {', '.join(FORMATS)}")
    if clip not in (None, *CLIP_POLICIES):
        raise ParameterError(
            f"clip={clip!r}: unknown policy; use one of {', '.join(CLIP_POLICIES)}"
        )
    if clip == "none" and suffix.lower() != ".wav":
        raise ParameterError(
            f"clip='none': {suffix} cannot hold samples beyond full scale; use wav, "
            "or clip='rescale' or 'clip'"
        )


def check_encoding(path: str | os.PathLike[str], rate: int, n_channels: int) -> None:
    """Raise an `AudioError` if the format of a path cannot hold a rate or number of channels."""
    suffix = Path(path).suffix
    check_format(suffix, None)
    with contextlib.suppress(soundfile.LibsndfileError):
        # libsndfile crashes on numbers that Vorbis cannot represent.
        if rate >= 1 and 1 <= n_channels <= 255:
            _create(io.BytesIO(), suffix, rate, n_channels).close()
            return
    raise AudioError(
        f"{path}: {suffix} cannot hold {n_channels} channels at {rate} Hz; choose another format"
    )


def _create(file: Path | io.BytesIO, suffix: str, rate: int, channels: int) -> soundfile.SoundFile:
    container, encoding = FORMATS[suffix.lower()]
    return soundfile.SoundFile(file, "w", rate, channels, encoding, format=container)


@contextlib.contextmanager
def writer(
    path: str | os.PathLike[str], rate: int, n_channels: int
) -> Iterator[soundfile.SoundFile]:
    """Open an audio file for writing block by block.

    Parameters
    ----------
    path : str or Path
        The file; its suffix determines the format. Written completely or not at all.
    rate, n_channels : int
        Sample rate [Hz] and number of channels.

    Yields
    ------
    soundfile.SoundFile
        Its `write` takes float32 blocks.

    Raises
    ------
    AudioError
        When the file cannot be written.
    """
    path = Path(path)
    check_encoding(path, rate, n_channels)
    try:
        with atomic_write(path) as beside, _create(beside, path.suffix, rate, n_channels) as file:
            yield file
    except (OSError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", str(error))
        raise AudioError(
            f"{path}: cannot be written ({reason}); choose another folder, format or rate"
        ) from error
