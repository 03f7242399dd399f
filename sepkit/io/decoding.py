"""Sound files, decoded to their end or refused.

libsndfile decodes what states its length; ffmpeg decodes all else, such as MP3, whose length
libsndfile guesses, or joined Ogg streams, of which libsndfile reads the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from sepkit.errors import AudioError, AudioWarning, ParameterError

BLOCK = 1 << 18
"""Samples read or written at a time: 6 s at 44.1 kHz."""

LOUDEST = 1e9
"""No sample may be larger; full scale is 1."""

LOWEST_RATE = 1000
"""No sample rate may be lower [Hz]."""

HIGHEST_RATE = 10_000_000
"""No sample rate may be higher [Hz]."""

_LONGEST = 1e9
"""No song is longer [s]."""

_EXACT = {b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"caff", b".snd", b"fLaC", b"OggS"}
"""First bytes of what libsndfile reads to the sample; the length of MP3 it guesses."""

_LONG_BITS = {"PCM_24", "PCM_32", "FLOAT", "DOUBLE"}
"""Encodings of libsndfile that hold more than 16 bits."""

_SIGNATURES = {
    b"RIFF": slice(8, 16),
    b"RF64": slice(8, 16),
    b"FORM": slice(8, 16),
    b"riff": slice(0, 16),
    b"fLaC": slice(0, 10),
    b"caff": slice(0, 12),
    b".snd": slice(12, 24),
    b"0&\xb2u": slice(0, 16),
}
"""By first bytes, containers of one sound, and where they hold bytes that begin no other place."""

_BOOKKEEPING = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration",
                "creation_time", "handler_name", "vendor_id", "language"}  # fmt: skip
"""Tags that containers write for themselves."""


_SAFE = [
    "-protocol_whitelist", "file",
    "-format_whitelist",
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,matroska,webm,mov,mp3,mpeg,mpegts,"
    "ogg,tak,truehd,tta,w64,wav,wv",
]  # fmt: skip
"""Options of ffmpeg for files from strangers: no playlist, which names other files or addresses."""


class AudioFile:
    """A sound file that libsndfile or ffmpeg can decode.

    Parameters
    ----------
    path : str or Path
        The file.

    Attributes
    ----------
    rate, n_channels : int
        Sample rate [Hz] and number of channels.
    n_samples : int or None
        Samples that the file declares; None where it declares none, or only an estimate.
    exact : bool
        Whether the file states its length to the sample; a codec counts what it pads with.
    long_bits : bool
        Whether its samples hold more than 16 bits.
    tagged : bool
        Whether it holds a title, an artist, a cover, or the like.
    covers : list of str
        Its streams that hold pictures, as ffmpeg names them.

    Raises
    ------
    AudioError
        When the file is missing, not audio, several files joined together, or needs ffmpeg and
        that is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.rate = self.n_channels = 0
        self._may_be_exact = False
        try:
            with open(self.path, "rb") as file:
                self._check_bytes(file)
        except FileNotFoundError as error:
            raise AudioError(f"{self.path}: no such file; check the path") from error
        except IsADirectoryError as error:
            raise AudioError(f"{self.path}: no such file, but a folder; give a file") from error
        except OSError as error:
            raise AudioError(f"{self.path}: cannot be read ({error.strerror})") from error
        except ValueError as error:  # a null character in the name
            raise AudioError(f"{str(self.path)!r}: cannot be read ({error})") from error
        try:
            self.exact = self._may_be_exact and self._ask_soundfile()
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a name ends in .raw
            self.exact = False
            # ffmpeg may read it without a word, such as a CAF file that breaks off.
            self._doubt = "libsndfile: malformed file" if "malformed" in str(error) else ""
        if not self.exact:
            self._ask_ffprobe()
        if not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
            raise AudioError(
                f"{self.path}: declares a rate of {self.rate} Hz, no sound's; get another copy"
            )

    def _check_bytes(self, file: BinaryIO) -> None:
        """Refuse an empty file, and one that holds another file behind its end."""
        if not os.fstat(file.fileno()).st_size:
            raise AudioError(f"{self.path}: the file is empty; give a sound file")
        head = file.read(24)
        if head[4:8] == b"ftyp":  # MPEG-4
            signature = head[4:12]
        else:
            signature = head[_SIGNATURES.get(head[:4], slice(0))]
        self._doubt = ""
        self._n_ogg_streams = 0
        self._may_be_exact = head[:4] in _EXACT
        if not signature and head[:4] != b"OggS":
            return
        if not signature:
            pages = _find(file, b"OggS", length=6)
            self._n_ogg_streams = sum(bool(page[5] & 2) for _, page in pages)
            return
        for place, _ in _find(file, signature, length=len(signature)):
            if place > 32:
                raise AudioError(
                    f"{self.path}: a second file is joined to it at byte {place}; split the two"
                )

    def _ask_soundfile(self) -> bool:
        """Read what libsndfile knows of the file; return whether that is certain."""
        with soundfile.SoundFile(_name(self.path)) as file:
            unknown = file.frames in (0, np.iinfo(np.int64).max)
            if unknown or file.subtype.startswith("MPEG") or self._n_ogg_streams > 1:
                return False
            self.rate, self.n_channels = file.samplerate, file.channels
            self.n_samples: int | None = _declared_frames(file)
            self.long_bits = file.subtype in _LONG_BITS
            # Which program wrote the file is no tag of the song.
            self.tagged = bool(file.copy_metadata().keys() - {"software"})
            self.covers = ["v?"]
        return True

    def _ask_ffprobe(self) -> None:
        if not (shutil.which("ffprobe") and shutil.which("ffmpeg")):
            raise AudioError(f"{self.path}: libsndfile cannot read it; install ffmpeg, which may")
        found = subprocess.run(
            ["ffprobe", "-v", "warning", *_SAFE, "-show_entries",
             "stream=index,codec_type,codec_name,sample_rate,channels,duration,start_time,bits_per_raw_sample:"
             "stream_tags:stream_disposition=attached_pic:format=duration:format_tags",
             "-of", "json", os.fspath(self.path.absolute())],
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            answer = json.loads(found.stdout) if not found.returncode else {}
            streams = answer.get("streams", [])
            (stream, *_) = [s for s in streams if s["codec_type"] == "audio"]
            self.rate, self.n_channels = int(stream["sample_rate"]), int(stream["channels"])
        except (KeyError, ValueError):
            self.rate = 0
        if not self.rate:
            raise AudioError(f"{self.path}: not audio; give a wav, flac, ogg, mp3 or m4a file")
        is_float = stream.get("codec_name", "").startswith("pcm_f")
        self.long_bits = is_float or int(stream.get("bits_per_raw_sample", 0)) > 16
        tags = {**stream.get("tags", {}), **answer.get("format", {}).get("tags", {})}
        pictures = [s for s in streams if s.get("disposition", {}).get("attached_pic")]
        self.covers = [str(picture["index"]) for picture in pictures]
        self.tagged = bool(self.covers) or bool({tag.lower() for tag in tags} - _BOOKKEEPING)
        self.n_samples = None
        if b"Estimating duration from bitrate" not in found.stderr:
            seconds = stream.get("duration") or _seconds(stream.get("tags", {}).get("DURATION"))
            if seconds is None and len(streams) == 1:
                seconds = answer.get("format", {}).get("duration")
            start = max(0.0, float(stream.get("start_time", 0))) if stream.get("duration") else 0.0
            if seconds is not None:
                self.n_samples = round((float(seconds) - start) * self.rate)

    @property
    def _slack(self) -> int:
        """Samples by which a whole file may fall short of what it declares.

        Nothing is missing from what libsndfile reads; a codec counts what it pads with: at most a
        tenth of a second, or four frames of 1152 samples.
        """
        return 0 if self.exact else max(self.rate // 10, 4608)

    def blocks(
        self, start: float = 0.0, duration: float | None = None
    ) -> Generator[np.ndarray, None, None]:
        """Yield the audio block by block.

        Parameters
        ----------
        start : float
            Where to begin [s].
        duration : float, optional
            How much to read [s]; by default, to the end.

        Yields
        ------
        ndarray of shape (n_samples, n_channels), float32
            At most `BLOCK` samples each.

        Raises
        ------
        AudioError
            When the file breaks off, is empty, or holds NaN or infinite samples.
        """
        check_part(start, duration)
        first = round(start * self.rate)
        last = None if duration is None else first + max(1, round(duration * self.rate))
        n_read, empty = 0, True
        self._complaint = self._doubt
        decoded = self._soundfile_blocks() if self.exact else self._ffmpeg_blocks()
        with contextlib.closing(decoded):
            for block in decoded:
                part = block[max(0, first - n_read) : None if last is None else last - n_read]
                n_read += len(block)
                # Of a sample that is far too large, the network would make infinite ones.
                if not (-LOUDEST < part.min(initial=0.0) <= part.max(initial=0.0) < LOUDEST):
                    raise AudioError(
                        f"{self.path}: holds NaN, infinite or immense samples; export it again"
                    )
                if len(part):
                    empty = False
                    yield part
                if last is not None and n_read >= last:
                    break
            else:
                self._check_end(n_read)
        if empty and n_read:
            raise AudioError(f"{self.path}: ends after {n_read / self.rate:.2f} s; start earlier")
        if empty:
            raise AudioError(f"{self.path}: holds no samples; give a sound of some length")
        if self._complaint:
            warnings.warn(
                f"{self.path}: was read with errors ({self._complaint}); listen for gaps, or get "
                "another copy",
                AudioWarning,
                stacklevel=2,
            )

    def _check_end(self, n_read: int) -> None:
        """Raise an error when the decoder ended before the file does."""
        declared = self.n_samples or 0
        if n_read < declared - self._slack:
            there = f"{n_read / self.rate:.2f} of {declared / self.rate:.2f} s are there"
            raise self._broken(n_read, f"{there}; {self._complaint}" if self._complaint else there)
        if self._n_ogg_streams and _lacks_end_of_ogg(self.path):
            raise self._broken(n_read, "the Ogg stream has no end")

    def _broken(self, n_read: int, reason: str) -> AudioError:
        remedy = "get another copy"
        if seconds := n_read * 100 // self.rate / 100:
            remedy += f", or take what can be decoded with --duration {seconds:.2f}"
        return AudioError(f"{self.path}: is damaged or breaks off ({reason}); {remedy}")

    def _soundfile_blocks(self) -> Generator[np.ndarray, None, None]:
        n_read = 0
        try:
            with soundfile.SoundFile(_name(self.path)) as file:
                while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                    n_read += len(block)
                    yield block
        except soundfile.LibsndfileError as error:
            reason = error.error_string.removeprefix("Error : ").rstrip(".")
            raise self._broken(n_read, reason) from error

    def _ffmpeg_blocks(self) -> Generator[np.ndarray, None, None]:
        # A stream may change its rate or channels on the way; what comes out does not.
        command = ["ffmpeg", "-v", "error", "-nostdin", *_SAFE,
                   "-i", os.fspath(self.path.absolute()), "-map", "0:a:0",
                   "-ar", str(self.rate), "-ac", str(self.n_channels),
                   "-f", "f32le", "-"]  # fmt: skip
        n_read = 0
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=said, stdin=subprocess.DEVNULL
            )
            with process:
                try:
                    assert process.stdout is not None  # a pipe
                    while data := process.stdout.read(4 * self.n_channels * BLOCK):
                        block = np.frombuffer(data, "<f4").astype(np.float32)
                        n_read += len(block) // self.n_channels
                        yield block.reshape(-1, self.n_channels)
                except BaseException:
                    process.kill()
                    raise
                finally:
                    said.seek(0)
                    self._complaint = _first_error(said.read()) or self._doubt
            if self._complaint and not n_read:
                raise AudioError(
                    f"{self.path}: ffmpeg cannot decode it ({self._complaint}); convert it"
                )
            if process.returncode and not self._complaint:
                self._complaint = f"ffmpeg ended with exit code {process.returncode}"


def check_part(start: float, duration: float | None) -> None:
    """Raise a `ParameterError` if start and duration [s] are no part of a song."""
    if not (0 <= start < _LONGEST and (duration is None or 0 < duration < _LONGEST)):
        raise ParameterError(
            f"from {start} s for {duration} s: give a start of 0 or more, a duration above 0"
        )


def _name(path: Path) -> str | bytes:
    """Return a name that libsndfile opens, of whatever bytes it is made."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def _declared_frames(file: soundfile.SoundFile) -> int:
    """Return the samples that a file declares, of which some may be missing at its end.

    libsndfile counts those that are there, and logs "data : DECLARED (should be THERE)".
    """
    declared = int(file.frames)
    for there_should_be, there in re.findall(r": (\d+) \(should be (\d+)\)", file.extra_info):
        stated, bytes_there = int(there_should_be), int(there)
        # What recorders write that do not know the length: about 2 or 4 GiB.
        unknown = 0x7FFF0000 <= stated <= 0x80000000 or 0xFFFF0000 <= stated <= 0xFFFFFFFF
        # A header may count itself.
        if stated > bytes_there + 64 and not unknown and bytes_there:
            declared = max(declared, round(file.frames * stated / bytes_there))
    return declared


def _seconds(clock: str | None) -> float | None:
    """Convert Matroska's "00:03:12.500000000" to seconds."""
    if clock is None or not re.fullmatch(r"\d+:\d+:[\d.]+", clock):
        return None
    hours, minutes, seconds = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def _find(file: BinaryIO, pattern: bytes, *, length: int) -> Iterator[tuple[int, bytes]]:
    """Yield each place of a pattern in a file, and the bytes from there on.

    It reads a part at a time: a file mapped to memory would count as memory.
    """
    file.seek(0)
    offset, data = 0, b""
    while chunk := file.read(1 << 20):
        data += chunk
        place = data.find(pattern)
        while 0 <= place <= len(data) - length:
            yield offset + place, data[place : place + length]
            place = data.find(pattern, place + 1)
        kept = data[-(length - 1) :]
        offset, data = offset + len(data) - len(kept), kept


def _lacks_end_of_ogg(path: Path) -> bool:
    """Return whether the last page of an Ogg file is not marked as the last of its stream."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 17)))  # two pages at least
        tail = file.read()
    place = tail.rfind(b"OggS")
    if place < 0 or len(tail) < place + 27:
        return True
    n_segments = tail[place + 26]
    size = 27 + n_segments + sum(tail[place + 27 : place + 27 + n_segments])
    return not tail[place + 5] & 4 or len(tail) < place + size


def _first_error(said: bytes) -> str:
    """Return the first of ffmpeg's messages, without addresses in its memory."""
    lines = said.decode(errors="replace").splitlines()
    return re.sub(r"^\[(\S+) @ 0x[0-9a-f]+\] ", r"\1: ", lines[0].strip()) if lines else ""
