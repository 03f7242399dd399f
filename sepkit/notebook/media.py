"""Sound and pictures as a page has them: files of a site, or inside of a notebook's output."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import struct
from html import escape
from pathlib import Path

import numpy as np
import soundfile

from sepkit.errors import AudioError, ParameterError
from sepkit.files import atomic_write

SITE_DIRECTORY = "SEPKIT_PLAYER_DIRECTORY"
"""Environment variable: the folder that a site serves as ``_static/audio``, while it is built."""


def site_directory() -> Path | None:
    """Tell the folder of the site that is being built, if one is.

    Returns
    -------
    Path or None
        What the environment names in ``SEPKIT_PLAYER_DIRECTORY``.
    """
    named = os.environ.get(SITE_DIRECTORY)
    return Path(named) if named else None


def check_sound(name: str, audio: np.ndarray, rate: int) -> None:
    """Refuse what no browser plays.

    Parameters
    ----------
    name : str
        What the error calls it.
    audio : ndarray of shape (n_samples, n_channels), float
        The sound.
    rate : int
        Its rate [Hz].

    Raises
    ------
    AudioError
        When samples are NaN or infinite.
    ParameterError
        When shape, type or rate do not fit.
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
        raise AudioError(f"{name}: holds NaN or infinite samples; look where they arose")


class _FrameLog(io.BytesIO):
    """A file in memory that notes where FLAC frames start: the encoder writes each in one go."""

    def __init__(self):
        super().__init__()
        self.starts: list[int] = []

    def write(self, content: bytes) -> int:
        if content[:2] == b"\xff\xf8":
            self.starts.append(self.tell())
        return super().write(content)


def flac(audio: np.ndarray, rate: int) -> bytes:
    """Encode as 16-bit FLAC with a seek table (RFC 9639, section 8.5).

    libsndfile writes no such table, and without one Chromium's media elements, which play a page
    that was opened from disk, now and then fail to seek.

    Parameters
    ----------
    audio : ndarray of shape (n_samples, n_channels), float
        The sound; what exceeds full scale is clipped.
    rate : int
        Its rate [Hz].

    Returns
    -------
    bytes
        The file.
    """
    samples = np.clip(np.round(audio * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)
    file = _FrameLog()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    content = file.getvalue()
    # "fLaC", then the stream's properties: 4 bytes of header and 34, a frame's length first.
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
    """Turn a file into an address that holds it.

    Parameters
    ----------
    content : bytes
        The file.
    media_type : str
        Its type, ``audio/flac`` say.

    Returns
    -------
    str
        A ``data:`` address.
    """
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def saved(content: bytes, media_type: str, directory: Path) -> str:
    """Write a file of a site, named by its content.

    Parameters
    ----------
    content : bytes
        The file.
    media_type : str
        Its type, ``audio/flac`` say; the second part is its suffix.
    directory : Path
        Where to; made when missing.

    Returns
    -------
    str
        The file's name.

    Raises
    ------
    AudioError
        When it cannot be written.
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
    """Refuse sound of which a page would not say whose it is.

    Parameters
    ----------
    title : str
        What the error calls it.
    licence : str or None
        Line shown with the sound; needed in a page of a site.
    link : str or None
        Where the licence can be read.

    Raises
    ------
    ParameterError
        When the line is missing, or the link is not http or https.
    """
    if link and not link.startswith(("https://", "http://")):
        raise ParameterError(f"licence_link={link!r}: not a web address; give https://...")
    if site_directory() and not licence:
        raise ParameterError(
            f"{title}: a page that is published must name whose sound it plays; give licence=..."
        )


def foot(licence: str | None, link: str | None, gain: float) -> str:
    """Say whose sound it is, and by how much its level was lowered.

    Parameters
    ----------
    licence : str or None
        Artist, title, licence.
    link : str or None
        Where the licence can be read.
    gain : float
        By what all sounds were multiplied.

    Returns
    -------
    str
        HTML; empty when there is nothing to say.
    """
    lines = ""
    if licence:
        text = escape(licence)
        if link:
            text = f'<a href="{escape(link)}" rel="license">{text}</a>'
        lines += f'<p class="stem-licence">{text}</p>'
    if gain < 1:
        lines += (
            f'<p class="stem-note">All sounds are lowered by {-20 * np.log10(gain):.1f} dB, '
            "so that none clips.</p>"
        )
    return f'<div class="stem-foot">{lines}</div>' if lines else ""
