"""Sounds and pictures of a page: files of a site, or embedded in a notebook's output."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import struct
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np
import soundfile

from sepkit.errors import AudioError, ParameterError
from sepkit.files import atomic_write

SITE_DIRECTORY = "SEPKIT_PLAYER_DIRECTORY"
"""Environment variable that names a site's folder ``_static/audio`` while the site is built."""

COLOURS = {
    "bass": "#0072b2",
    "drums": "#d55e00",
    "other": "#009e73",
    "vocals": "#cc79a7",
    "mixture": "#7f7f7f",
}
"""One colour per source, distinct for colour-blind readers too (palette of Okabe and Ito)."""


def site_directory() -> Path | None:
    """Return the site's folder for sounds and pictures while a site is built, else None."""
    named = os.environ.get(SITE_DIRECTORY)
    return Path(named) if named else None


def check_sound(name: str, audio: np.ndarray, rate: int) -> None:
    """Raise an error if a browser cannot play `audio` (n_samples, n_channels) at `rate` [Hz].

    The error, a `ParameterError` or an `AudioError`, calls the sound by `name`.
    """
    if not 3000 <= rate <= 192_000:
        raise ParameterError(f"rate={rate}: browsers play 3000 to 192000 Hz; resample the sound")
    if audio.ndim != 2 or not np.issubdtype(audio.dtype, np.floating):
        raise ParameterError(
            f"{name}: {audio.dtype} of shape {audio.shape} is not audio; "
            "give float of shape (n_samples, n_channels)"
        )
    if not 1 <= audio.shape[1] <= 8:
        raise ParameterError(
            f"{name}: {audio.shape[1]} channels; give 1 to 8, as (n_samples, n_channels)"
        )
    if len(audio) == 0:
        raise ParameterError(f"{name}: holds no samples; give a sound of some length")
    if not np.isfinite(audio).all():
        raise AudioError(f"{name}: holds NaN or infinite samples; check where they come from")


class _FrameLog(io.BytesIO):
    """A file in memory that records where FLAC frames start: the encoder writes each at once."""

    def __init__(self):
        super().__init__()
        self.starts: list[int] = []

    def write(self, content: bytes) -> int:
        if content[:2] == b"\xff\xf8":
            self.starts.append(self.tell())
        return super().write(content)


def flac(audio: np.ndarray, rate: int) -> bytes:
    """Encode audio (n_samples, n_channels) as 16-bit FLAC with a seek table (RFC 9639, 8.5).

    Samples beyond full scale are clipped. libsndfile writes no seek table; without one, Chromium's
    media elements sometimes fail to seek in a page opened from disk.
    """
    samples = np.clip(np.round(audio * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)
    file = _FrameLog()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    content = file.getvalue()
    # "fLaC", then the stream's properties: a header of 4 bytes and 34 bytes, frame length first.
    properties, rest = bytearray(content[:42]), content[42:]
    (length,) = struct.unpack(">H", properties[8:10])
    points = b"".join(
        struct.pack(">QQH", first, start - file.starts[0], min(length, len(audio) - first))
        for first, start in zip(range(0, len(audio), length), file.starts, strict=True)
    )
    last_block = properties[4] & 0x80
    properties[4] &= 0x7F
    table = struct.pack(">I", (last_block | 3) << 24 | len(points)) + points
    return bytes(properties) + table + rest


def embedded(content: bytes, media_type: str) -> str:
    """Return a ``data:`` address that holds a file of a media type such as ``audio/flac``."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def saved(content: bytes, media_type: str, directory: Path) -> str:
    """Write a file of a site, named by its content, and return its name.

    The second part of the media type, ``audio/flac`` say, is its suffix. The folder is made if
    missing; an `AudioError` says why the file cannot be written.
    """
    suffix = media_type.rpartition("/")[2]
    path = directory / f"{hashlib.sha256(content).hexdigest()[:20]}.{suffix}"
    if not path.exists():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as beside:
                beside.write_bytes(content)
        except OSError as error:
            raise AudioError(
                f"{path}: cannot be written ({error.strerror}); set {SITE_DIRECTORY} to a "
                "folder that can"
            ) from error
    return path.name


def check_licence(title: str, licence: str | None, link: str | None) -> None:
    """Raise a `ParameterError` if a site's page would play sound without naming its licence.

    The licence is a line of text, the link to it an http or https address or empty.
    """
    if link and not link.startswith(("https://", "http://")):
        raise ParameterError(f"licence_link={link!r}: not a web address; give https://...")
    if site_directory() and not licence:
        raise ParameterError(
            f"{title}: a page that is published must name whose sound it plays; give licence=..."
        )


def foot(licence: str | None, link: str | None, gain: float) -> str:
    """Return HTML that names the licence and says by how much `gain` lowers all sounds."""
    lines = ""
    if licence:
        text = escape(licence)
        if link:
            text = f'<a href="{escape(link)}" rel="license">{text}</a>'
        lines += f'<p class="stem-licence">{text}</p>'
    lowered = f"{-20 * np.log10(gain):.1f}"
    if gain < 1 and lowered != "0.0":
        lines += (
            f'<p class="stem-note">All sounds are lowered by {lowered} dB, so that none clips.</p>'
        )
    return f'<div class="stem-foot">{lines}</div>' if lines else ""


def script_and_style(name: str, *others: str) -> str:
    """Return the script and style of a custom element, for a notebook's output.

    A site links to them instead: they are files of the package, ``static/NAME.js`` and ``.css``.
    `others` are scripts that it loads in a site when they are needed.
    """
    static = resources.files("sepkit.notebook") / "static"
    style = (static / f"{name}.css").read_text(encoding="utf-8")
    scripts = [(static / f"{each}.js").read_text(encoding="utf-8") for each in (name, *others)]
    return f"<style>{style}</style><script>{''.join(scripts)}</script>"
