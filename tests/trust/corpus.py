"""A corpus of damaged sound files: a song in twenty formats, damaged in every way seen in the wild.

All is seeded and made on the spot: no audio lies in the repository.
"""

import struct
import subprocess
import zlib
from collections.abc import Callable

import numpy as np

RATE = 44100
SECONDS = 4

# Suffix, and how ffmpeg encodes it. m4a tells its length at the front, mp4 at the end.
FORMATS = {
    "wav 16": (".wav", "-c:a pcm_s16le"),
    "wav 24": (".wav", "-c:a pcm_s24le"),
    "wav 32f": (".wav", "-c:a pcm_f32le"),
    "rf64": (".wav", "-c:a pcm_s16le -rf64 always"),
    "w64": (".w64", "-c:a pcm_s16le"),
    "aiff": (".aiff", "-c:a pcm_s16be"),
    "au": (".au", "-c:a pcm_s16be"),
    "caf": (".caf", "-c:a pcm_f32le"),
    "flac": (".flac", "-c:a flac"),
    "mp3 cbr": (".mp3", "-c:a libmp3lame -b:a 128k"),
    "mp3 vbr": (".mp3", "-c:a libmp3lame -q:a 4"),
    "mp3 cbr bare": (".mp3", "-c:a libmp3lame -b:a 128k -write_xing 0"),
    "mp3 vbr bare": (".mp3", "-c:a libmp3lame -q:a 9 -write_xing 0"),
    "ogg": (".ogg", "-c:a libvorbis"),
    "opus": (".opus", "-c:a libopus"),
    "webm": (".webm", "-c:a libopus"),
    "m4a aac": (".m4a", "-c:a aac -movflags +faststart"),
    "m4a alac": (".m4a", "-c:a alac -movflags +faststart"),
    "mp4": (".mp4", "-c:a aac -c:v mpeg4 -shortest"),
    "stem.mp4": (".stem.mp4", "-c:a aac"),
}

UNTOLD = ("mp3 cbr bare", "mp3 vbr bare")
"""Formats that hold no length: what was cut off cannot be known, unless it ends within a frame."""


def song(seconds: float = SECONDS, seed: int = 0) -> np.ndarray:
    """Synthesise a bass line, drum hits and a lead over quiet noise: (n_samples, 2), float32."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    beat = np.exp(-12 * (time % 0.5))
    notes = 55 * 2 ** (rng.integers(0, 12, int(4 * seconds) + 1) / 12)
    pitch = np.repeat(notes, RATE // 4)[: len(time)]
    pitch = np.pad(pitch, (0, len(time) - len(pitch)), mode="edge")
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    noise = rng.standard_normal((len(time), 2))
    left = 0.2 * np.sin(phase) + 0.1 * np.sin(4 * phase + np.sin(6 * time))
    right = 0.2 * np.sin(phase) + 0.1 * np.sin(5 * phase)
    sound = np.stack([left, right], axis=1) + (0.15 * beat[:, np.newaxis] + 0.01) * noise
    return np.clip(sound, -0.95, 0.95).astype(np.float32)


def encode(name: str, sound: np.ndarray, path: str) -> None:
    """Write a song in one of the `FORMATS`."""
    command = ["ffmpeg", "-v", "error", "-y", "-f", "f32le", "-ar", RATE, "-ac", 2, "-i", "-"]
    if name == "mp4":
        command += ["-f", "lavfi", "-i", f"testsrc=size=64x64:duration={SECONDS}"]
    if name == "stem.mp4":
        command += ["-map", "0:a"] * 5
    options = FORMATS[name][1].split()
    command += [*options, "-fflags", "+bitexact", "-flags", "+bitexact", path]
    subprocess.run([*map(str, command)], input=sound.tobytes(), check=True)


# Damages: from the bytes of a file to those of a worse one.

Damage = Callable[[bytes, np.random.Generator], bytes]


def _cut(low: float, high: float) -> Damage:
    return lambda data, rng: data[: int(len(data) * rng.uniform(low, high))]


def _flip(start: int, stop: int, n_bytes: int, data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(start, stop, n_bytes):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def _flip_header(data: bytes, rng: np.random.Generator) -> bytes:
    return _flip(0, 64, 8, data, rng)


def _flip_middle(data: bytes, rng: np.random.Generator) -> bytes:
    return _flip(len(data) // 3, 2 * len(data) // 3, 32, data, rng)


def _zero_middle(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = len(data) // 2, len(data) // 20
    return data[:start] + bytes(length) + data[start + length :]


def _drop_middle(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = len(data) // 2, len(data) // 20 + 1
    return data[:start] + data[start + length :]


def _magic(data: bytes, rng: np.random.Generator) -> bytes:
    others = [mark for mark in (b"RIFF", b"fLaC", b"OggS", b"FORM", b"caff") if mark != data[:4]]
    return others[rng.integers(len(others))] + data[4:]


DAMAGES: dict[str, Damage] = {
    "cut early": _cut(0.2, 0.45),
    "cut midway": _cut(0.45, 0.7),
    "cut late": _cut(0.7, 0.95),
    "header flipped": _flip_header,
    "middle flipped": _flip_middle,
    "middle zeroed": _zero_middle,
    "middle dropped": _drop_middle,
    "garbage behind": lambda data, rng: data + rng.bytes(5000),
    "garbage before": lambda data, rng: rng.bytes(5000) + data,
    "joined": lambda data, rng: data + data,
    "another magic": _magic,
    "empty": lambda data, rng: b"",
    "text": lambda data, rng: b"words, no sound\n" * 100,
}

# Header fields: the mark before them, the distance from its start, and how they are packed.
_FIELDS = {
    "wav 16": [("channels", b"fmt ", 10, "<H"), ("rate", b"fmt ", 12, "<I"),
               ("block", b"fmt ", 20, "<H"), ("size", b"data", 4, "<I")],
    "wav 32f": [("rate", b"fmt ", 12, "<I"), ("size", b"data", 4, "<I")],
    "rf64": [("size", b"ds64", 16, "<Q"), ("channels", b"fmt ", 10, "<H")],
    "w64": [("channels", b"fmt ", 26, "<H"), ("rate", b"fmt ", 28, "<I"),
            ("size", b"data", 16, "<Q")],
    "aiff": [("channels", b"COMM", 8, ">H"), ("length", b"COMM", 10, ">I"),
             ("rate", b"COMM", 16, ">Q"), ("size", b"SSND", 4, ">I")],
    "au": [("size", b".snd", 8, ">I"), ("rate", b".snd", 16, ">I"),
           ("channels", b".snd", 20, ">I")],
    "caf": [("rate", b"desc", 12, ">d"), ("channels", b"desc", 36, ">I"),
            ("size", b"data", 4, ">Q")],
    "flac": [("rate", b"fLaC", 18, ">H"), ("length", b"fLaC", 22, ">I")],
    "ogg": [("channels", b"\x01vorbis", 11, "<B"), ("rate", b"\x01vorbis", 12, "<I")],
    "opus": [("channels", b"OpusHead", 9, "<B")],
    "webm": [("rate", b"\xb5\x88", 2, ">d"), ("duration", b"\x44\x89\x88", 3, ">d")],
    "m4a aac": [("timescale", b"mdhd", 16, ">I"), ("channels", b"mp4a", 20, ">H"),
                ("samples", b"stsz", 12, ">I")],
    "m4a alac": [("rate", b"mdhd", 16, ">I")],
}  # fmt: skip


def _values(code: str) -> dict[str, bytes]:
    if code[1] == "d":
        numbers = {"0": 0.0, "-1": -1.0, "nan": np.nan, "huge": 1e300}
    else:
        bits = 8 * struct.calcsize(code)
        numbers = {"0": 0, "-1": 2**bits - 1, "huge": 2 ** (bits - 1) - 1}
    return {name: struct.pack(code, number) for name, number in numbers.items()}


def _set(mark: bytes, distance: int, value: bytes) -> Damage:
    def change(data: bytes, rng: np.random.Generator) -> bytes:
        place = data.index(mark) + distance
        return data[:place] + value + data[place + len(value) :]

    return change


def _samples(value: float) -> Damage:
    def change(data: bytes, rng: np.random.Generator) -> bytes:
        place = data.index(b"data") + 16 + 8 * (len(data) // 16)
        return data[:place] + struct.pack("<f", value) + data[place + 4 :]

    return change


CASES: dict[tuple[str, str], Damage] = {
    (name, damage): change for name in FORMATS for damage, change in DAMAGES.items()
}
for _name, _fields in _FIELDS.items():
    for _field, _mark, _distance, _code in _fields:
        for _value, _packed in _values(_code).items():
            CASES[_name, f"{_field} {_value}"] = _set(_mark, _distance, _packed)
# A second of sound for each sample: days for a song.
CASES["wav 16", "rate 1"] = _set(b"fmt ", 12, struct.pack("<I", 1))
CASES["wav 32f", "sample nan"] = _samples(np.nan)
CASES["wav 32f", "sample inf"] = _samples(-np.inf)
CASES["wav 32f", "sample 1e38"] = _samples(1e38)
"""What the corpus holds: by format and damage, the function that does it."""


def damaged(name: str, damage: str, whole: bytes) -> bytes:
    """Return the bytes of a file of the corpus."""
    rng = np.random.default_rng(zlib.crc32(f"{name}, {damage}".encode()))
    return CASES[name, damage](whole, rng)


def decode(path: str) -> tuple[np.ndarray, str]:
    """Decode the first stream as ffmpeg does: samples (n_samples, 2), and what it complains of."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:a:0", "-f", "f32le", "-"]
    run = subprocess.run([*map(str, command)], capture_output=True, timeout=60)
    complaint = run.stderr.decode(errors="replace").strip()
    if run.returncode and not complaint:
        complaint = f"exit code {run.returncode}"
    return np.frombuffer(run.stdout[: len(run.stdout) // 4 * 4], "<f4"), complaint
