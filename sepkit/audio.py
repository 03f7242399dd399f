"""Files to float32 arrays and back.

Audio is float32 of shape ``(n_samples, n_channels)``, full scale at 1.0, at any rate.
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
"""Samples read or written at once: 6 s at 44.1 kHz."""

FORMATS = {
    ".wav": ("WAV", "FLOAT"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
"""Suffix -> container and encoding of the files that `write` makes."""

CLIP_POLICIES = ("none", "rescale", "clip")


class AudioFile:
    """A sound file that soundfile or, failing that, ffmpeg can read.

    Parameters
    ----------
    path : str or Path
        The file.

    Attributes
    ----------
    rate : int
        Samples a second.
    n_channels : int
        Channels.

    Raises
    ------
    AudioError
        When the file is missing, is no sound, or needs an ffmpeg that is not installed.
    """

    def __init__(self, path: str | os.PathLike):
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
        """Give the sound in order, in blocks that fit in memory.

        Yields
        ------
        ndarray of shape (n_samples, n_channels), float32
            At most `BLOCK` samples each.

        Raises
        ------
        AudioError
            When the file cannot be decoded to its end, holds no sample, or one that is NaN or
            infinite.
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
                while data := process.stdout.read(4 * self.n_channels * BLOCK):
                    yield np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, self.n_channels)
            except GeneratorExit:
                process.kill()
                raise
        if process.returncode:
            raise AudioError(f"{self.path}: ffmpeg cannot decode it; convert it to wav")


def read(path: str | os.PathLike, *, rate: int | None = None) -> tuple[np.ndarray, int]:
    """Read a sound file whole.

    Parameters
    ----------
    path : str or Path
        Any file that soundfile or ffmpeg reads.
    rate : int, optional
        Resample to this rate [Hz]; the file's own when not given.

    Returns
    -------
    audio : ndarray of shape (n_samples, n_channels), float32
        The sound.
    rate : int
        Its rate [Hz].

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
    """Change the rate of a sound.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels), float32
        The sound at `rate_in`.
    rate_in, rate_out : int
        Rates [Hz].

    Returns
    -------
    ndarray of shape (ceil(n_samples * rate_out / rate_in), n_channels), float32
        The sound at `rate_out`; the same array when the rates are equal.

    Raises
    ------
    ParameterError
        When a rate is not above 0.
    """
    if not (rate_in > 0 and rate_out > 0):
        raise ParameterError(f"from {rate_in} to {rate_out} Hz: give rates above 0")
    if rate_in == rate_out:
        return audio
    n_samples = -(-len(audio) * rate_out // rate_in)
    return fix_length(soxr.resample(audio, rate_in, rate_out), n_samples)


def fix_length(audio: np.ndarray, n_samples: int) -> np.ndarray:
    """Cut a sound, or pad it with zeros, to a length.

    Parameters
    ----------
    audio : ndarray of shape (n, ...)
        The sound.
    n_samples : int
        Samples wanted.

    Returns
    -------
    ndarray of shape (n_samples, ...)
        The sound's first `n_samples` samples.
    """
    missing = n_samples - len(audio)
    if missing <= 0:
        return audio[:n_samples]
    return np.pad(audio, [(0, missing)] + [(0, 0)] * (audio.ndim - 1))


def apply_clip_policy(audio: np.ndarray, clip: str) -> np.ndarray:
    """Bring samples into the range that integer and listening formats hold.

    Parameters
    ----------
    audio : ndarray
        Samples; several stems in one array share one gain.
    clip : {"none", "rescale", "clip"}
        "none" leaves them; "rescale" divides by the peak where it exceeds 1, which keeps the
        shape; "clip" cuts at 1, which keeps the level.

    Returns
    -------
    ndarray
        Samples of the same shape.

    Raises
    ------
    ParameterError
        When the policy is unknown.
    """
    if clip == "none":
        return audio
    if clip == "rescale":
        return audio / max(1.0, float(np.abs(audio).max(initial=0.0)))
    if clip == "clip":
        return np.clip(audio, -1.0, 1.0)
    raise ParameterError(f"clip={clip!r}: unknown policy; use one of {', '.join(CLIP_POLICIES)}")


def write(
    path: str | os.PathLike, audio: np.ndarray, rate: int, *, clip: str | None = None
) -> None:
    """Write a sound file: float wav, 16-bit flac, ogg (Vorbis) or mp3, by its suffix.

    Parameters
    ----------
    path : str or Path
        Where to; the folder must exist. The file appears whole or not at all.
    audio : ndarray of shape (n_samples, n_channels) or (n_samples,), float32
        The sound.
    rate : int
        Its rate [Hz].
    clip : {"none", "rescale", "clip"}, optional
        What happens to samples beyond full scale (see `apply_clip_policy`). By default "none"
        for wav, whose float samples hold any level, and "rescale" for the others, which do not.

    Raises
    ------
    AudioError
        When the file cannot be written.
    ParameterError
        When the suffix or the policy is unknown, or "none" is asked of a format that clips.
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
    """Refuse a file format that is unknown or cannot keep the clip policy.

    Parameters
    ----------
    suffix : str
        A file's suffix, with its dot.
    clip : {"none", "rescale", "clip"} or None
        The policy; None for the format's own.

    Raises
    ------
    ParameterError
        When they do not go together.
    """
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


def check_encoding(path: str | os.PathLike, rate: int, n_channels: int) -> None:
    """Refuse a sound that the format of a file cannot hold.

    Parameters
    ----------
    path : str or Path
        The file to be; its suffix names the format.
    rate : int
        Rate [Hz].
    n_channels : int
        Channels.

    Raises
    ------
    AudioError
        When the format knows no such rate or so many channels.
    ParameterError
        When the suffix is unknown.
    """
    suffix = Path(path).suffix
    check_format(suffix, None)
    container, encoding = FORMATS[suffix.lower()]
    with contextlib.suppress(soundfile.LibsndfileError):
        # libsndfile crashes on what Vorbis cannot count.
        if rate >= 1 and 1 <= n_channels <= 255:
            soundfile.SoundFile(
                io.BytesIO(), "w", rate, n_channels, encoding, format=container
            ).close()
            return
    raise AudioError(
        f"{path}: {suffix} cannot hold {n_channels} channels at {rate} Hz; choose another format"
    )


@contextlib.contextmanager
def writer(path: str | os.PathLike, rate: int, n_channels: int) -> Iterator[soundfile.SoundFile]:
    """Open a sound file to be written block by block.

    It is written beside its name and renamed at the end; after an error nothing stays.

    Parameters
    ----------
    path : str or Path
        Where to; the suffix names the format.
    rate : int
        Rate [Hz].
    n_channels : int
        Channels.

    Yields
    ------
    soundfile.SoundFile
        Takes float32 blocks by its `write`.

    Raises
    ------
    AudioError
        When the place or the format does not take the sound.
    """
    path = Path(path)
    check_encoding(path, rate, n_channels)
    container, encoding = FORMATS[path.suffix.lower()]
    try:
        with (
            atomic_write(path) as beside,
            soundfile.SoundFile(
                str(beside), "w", rate, n_channels, encoding, format=container
            ) as file,
        ):
            yield file
    except (OSError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", str(error))
        raise AudioError(
            f"{path}: cannot be written ({reason}); choose another folder, format or rate"
        ) from error
