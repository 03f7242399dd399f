"""A stem player: all tracks of a song on one clock, in a notebook or in a built page.

The HTML is a custom element, ``<stem-player>``: waveforms and controls are written here, and
``static/stem_player.js`` makes them work. A notebook's output embeds script, style and sound; a
page of a site links to files.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from sepkit.errors import AudioError, ParameterError, import_optional
from sepkit.notebook import loudness, media
from sepkit.tracks import SOURCES

LARGEST_OUTPUT = 48 * 2**20
"""Bytes of sound that a notebook's output may hold: a minute of nine stereo tracks."""

WAVEFORM_COLUMNS = 120
"""Bars per waveform."""

FULL_SCALE = 1 - 2**-13
"""Peak of sound that was lowered: rounding to 16 bits must not make a sum of tracks clip."""

_COLOURS = ["#8a63d2", "#5b7f95", "#a6761d", "#6a8f1f"]
"""Colours of labels that name no source, in order of appearance."""

SPECTROGRAM_SHAPE = (96, 480)
"""Height and width of a spectrogram [pixels]."""


@dataclass(frozen=True, repr=False)
class StemPlayer:
    """The result of `stem_player`, which a notebook displays.

    Attributes
    ----------
    title : str
        Name of the song.
    html : str
        The player.
    """

    title: str
    html: str

    def __repr__(self) -> str:
        """Return the title."""
        return f"StemPlayer({self.title!r})"

    def _repr_html_(self) -> str:
        return self.html


@dataclass(frozen=True)
class _Row:
    group: str  # "" outside of any
    label: str
    audio: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.label} ({self.group})" if self.group else self.label


def stem_player(
    tracks: Mapping[str, np.ndarray | Mapping[str, np.ndarray]],
    rate: int,
    *,
    title: str = "Stems",
    licence: str | None = None,
    licence_link: str | None = None,
    spectrogram: bool = False,
    reference: str = "True stems",
) -> StemPlayer:
    """Make a player of tracks in sync to the sample.

    It starts with the first group: a plain dict of stems plays as their mix, and of ``{"Mixture":
    ..., "Estimates": {...}, "True stems": {...}}`` only the mixture is heard until the listener
    chooses a stem. A click on a label switches to that track alone without a break, a click on a
    heading to its group. Equal labels have equal colours, those that end in a source's name
    ("True vocals") the source's.

    A track whose label stands in several groups plays at one loudness in all of them, since the
    louder of two sounds seems the better one. The gain, at most 12 dB up or down, is written beside
    it; the button "True levels" takes all gains away, and back.

    "More" holds a loop from A to B, the tempo, spectrograms, and files of the mix that is heard and
    of each track. In a page opened from disk, it has neither the mix nor new spectrograms.

    Parameters
    ----------
    tracks : mapping of str to array or to mapping of str to array
        Label to audio, float of shape (n_samples, n_channels) with full scale at 1.0; or heading
        to a group of such labels (``Track.stems``, or the result of `sepkit.separate`). All have
        one length; one to eight channels.
    rate : int
        Sample rate of all tracks [Hz].
    title : str
        Name of the song, also for screen readers.
    licence : str, optional
        Line below the player: artist, title, licence. Required in a page of a site.
    licence_link : str, optional
        Address of the licence (http or https).
    spectrogram : bool
        Show spectrograms (40 Hz to 16 kHz on a logarithmic axis, 80 dB below the loudest bin of
        all tracks) at the start; else a button behind "More" computes them when asked.
    reference : str
        Group that sets the loudness of the tracks of others; where it has no track of a label, the
        first group that has one does.

    Returns
    -------
    StemPlayer
        The last expression of a cell shows it.

    Raises
    ------
    AudioError
        When samples are NaN or infinite, the sound is too long for a notebook's output, or files
        cannot be written.
    ParameterError
        When there is no track, a shape or rate is unsuitable, or a site's page has no licence.

    Notes
    -----
    Sound is 16-bit FLAC: lossless, without a codec's delay, decoded by all current browsers. It is
    stored at its true levels. If a track or the sum of a group exceeds full scale, with matched
    loudness or without, one gain lowers all tracks, and the player says so. 10 ms at both ends fade
    as it plays.

    Loudness is the integrated one of ITU-R BS.1770-4 (`sepkit.notebook.loudness`). What is silent
    or shorter than 0.4 s gets no gain.

    If the environment variable ``SEPKIT_PLAYER_DIRECTORY`` names a folder, sound is written there
    as files named by their content, and the HTML links to them.

    Examples
    --------
    >>> import numpy as np
    >>> hum = np.sin(np.arange(44100) / 20).astype(np.float32)[:, None]
    >>> stem_player({"loud": hum, "soft": hum / 2}, 44100, title="Hums")
    StemPlayer('Hums')
    """
    rows = list(_rows(tracks))
    _check(rows, rate)
    media.check_licence(title, licence, licence_link)
    directory = media.site_directory()
    named = [(row.group, row.label, row.audio) for row in rows]
    matching = loudness.matching_gains(named, rate, reference=reference)
    gain = _unclipped(_peak(rows))
    lowest = _unclipped(*_peaks_heard(rows, matching))
    sounds = [media.flac(row.audio * gain, rate) for row in rows]
    n_bytes = sum(map(len, sounds))
    if not directory and n_bytes > LARGEST_OUTPUT:
        raise AudioError(
            f"{title}: {n_bytes >> 20} MB of sound is too much for a notebook's output; "
            "give an excerpt"
        )
    place = functools.partial(media.saved, directory=directory) if directory else media.embedded
    pictures = _spectrograms(rows, rate) if spectrogram else []
    html = _page(
        rows,
        sources=[place(sound, "audio/flac") for sound in sounds],
        pictures=[place(picture, "image/png") for picture in pictures],
        matching=matching,
        headroom=lowest / gain,
        rate=rate,
        title=title,
        foot=media.foot(licence, licence_link, lowest),
    )
    if not directory:
        html += media.script_and_style("stem_player", "sound_files", "stem_practice")
    return StemPlayer(title, html)


def empty_player(groups: Mapping[str, Sequence[str]], rate: int) -> str:
    """Write the HTML of a player whose sound, length and title a script gives it.

    Parameters
    ----------
    groups : mapping of str to sequence of str
        Heading, "" for none, to the labels of its tracks.
    rate : int
        Sample rate of the tracks [Hz].

    Returns
    -------
    str
        The player. The script gives its property ``sound`` before it is put into a page.
    """
    silence = np.zeros((WAVEFORM_COLUMNS, 1), np.float32)
    rows = [_Row(heading, label, silence) for heading, labels in groups.items() for label in labels]
    matching: list[float | None] = [None] * len(rows)
    return _page(
        rows,
        sources=[""] * len(rows),
        pictures=[],
        matching=matching,
        headroom=1.0,
        rate=rate,
        title="Stems",
        foot="",
    )


def _rows(tracks: Mapping[str, np.ndarray | Mapping[str, np.ndarray]]) -> Iterator[_Row]:
    for heading, content in tracks.items():
        if isinstance(content, Mapping):
            for label, audio in content.items():
                yield _Row(str(heading), str(label), np.asarray(audio))
        else:
            yield _Row("", str(heading), np.asarray(content))


def _check(rows: list[_Row], rate: int) -> None:
    if not rows:
        raise ParameterError("tracks: there is none to play; give a dict of label -> audio")
    for row in rows:
        if not row.label.strip():
            raise ParameterError("tracks: one has no label; give each a name")
        media.check_sound(row.name, row.audio, rate)
        if len(row.audio) != len(rows[0].audio):
            raise ParameterError(
                f"{row.name}: {len(row.audio)} samples, but {rows[0].name} has "
                f"{len(rows[0].audio)}; cut them to one length"
            )


def _peak(rows: list[_Row]) -> float:
    return max(float(np.abs(row.audio).max()) for row in rows)


def _unclipped(*peaks: float) -> float:
    """Return the gain, at most 1, that keeps these peaks below full scale."""
    highest = max(peaks)
    return FULL_SCALE / highest if highest > 1 else 1.0


def _peaks_heard(rows: list[_Row], matching: list[float | None]) -> Iterator[float]:
    """Compute the peaks of tracks and groups, at true levels and at matched ones."""
    for gains in ([1.0] * len(rows), [10 ** ((decibels or 0) / 20) for decibels in matching]):
        groups: dict[str, np.ndarray] = {}
        for row, gain in zip(rows, gains, strict=True):
            yield gain * float(np.abs(row.audio).max())
            groups[row.group] = groups.get(row.group, 0) + gain * row.audio
        for total in groups.values():
            yield float(np.abs(total).max())


def _spectrograms(rows: list[_Row], rate: int) -> Iterator[bytes]:
    """Draw each row's spectrogram as PNG, all on one scale of decibels."""
    colormaps = import_optional("matplotlib", "notebook").colormaps
    image = import_optional("matplotlib.image", "notebook")
    levels = [_log_spectrogram(row.audio.mean(1), rate) for row in rows]
    loudest = max(float(level.max()) for level in levels)
    for level in levels:
        file = io.BytesIO()
        shade = np.clip(1 + (level - loudest) / 80, 0, 1)
        image.imsave(file, colormaps["magma"](shade, bytes=True)[::-1], format="png")
        yield file.getvalue()


def _log_spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return levels [dB] on a logarithmic frequency axis, lowest first."""
    height, width = SPECTROGRAM_SHAPE
    # Longer than the network's frames, whose bins are further apart than notes below 100 Hz.
    frame = 4096
    padded = np.pad(samples, frame // 2)
    starts = np.linspace(0, len(padded) - frame, width).astype(int)
    frames = padded[starts[:, None] + np.arange(frame)] * np.hanning(frame)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.geomspace(40, min(16_000, rate / 2), height + 1) * frame / rate
    # A row of the picture covers less than a bin at the bottom and many at the top; the integral
    # of power up to each edge serves for both.
    integral = np.pad(np.cumsum(power, axis=1), [(0, 0), (1, 0)])
    below = np.floor(edges + 0.5).astype(int).clip(0, power.shape[1] - 1)
    part = edges + 0.5 - below
    upto = integral[:, below] + part * power[:, below]
    return 10 * np.log10(np.maximum(np.diff(upto) / np.diff(edges), 1e-12)).T


def _waveform(audio: np.ndarray, scale: float) -> str:
    """Draw one bar per column, from its lowest to its highest sample."""
    starts = np.linspace(0, len(audio), min(WAVEFORM_COLUMNS, len(audio)), endpoint=False)
    starts = starts.astype(int)
    top = np.maximum.reduceat(audio.max(1), starts) * scale
    bottom = np.minimum.reduceat(audio.min(1), starts) * scale
    # One unit more on both sides, so that silence shows as a line.
    bars = "".join(
        f"M{column} {49 - 49 * high:.0f}V{51 - 49 * low:.0f}"
        for column, (high, low) in enumerate(zip(top, bottom, strict=True))
    )
    return (
        f'<svg viewBox="-.5 0 {len(starts)} 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{bars}"/></svg>'
    )


def _clock(time: float) -> str:
    tenths = int(time * 10 + 1e-6)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _page(
    rows: list[_Row],
    *,
    sources: list[str],
    pictures: list[str],
    matching: list[float | None],
    headroom: float,
    rate: int,
    title: str,
    foot: str,
) -> str:
    duration = len(rows[0].audio) / rate
    peak = _peak(rows)
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.group, []).append(index)
    opening = groups[rows[0].group]
    # What is named after a source has its colour, and nothing else has. Other names of a group of
    # one, such as the mixture, keep the colour of text; those under a heading have the same
    # colours whatever comes before them.
    headed_first = sorted(rows, key=lambda row: not row.group)
    labels = dict.fromkeys(
        row.label
        for row in headed_first
        if len(groups[row.group]) > 1 or _last_word(row.label) in SOURCES
    )
    others = itertools.cycle(_COLOURS)
    colours = {name: media.COLOURS.get(_last_word(name)) or next(others) for name in labels}
    content = ""
    for heading, indices in groups.items():
        content += _group_start(heading, pressed=indices == opening)
        for index in indices:
            content += _track(
                rows[index],
                source=sources[index],
                picture=pictures[index] if pictures else "",
                colour=colours.get(rows[index].label, "currentColor"),
                gain=matching[index] if any(matching) else None,
                scale=1 / (peak or 1.0),
                heard=index in opening,
                alone=opening == [index],
            )
        content += "</div>"
    equally = " Equal names play equally loud." if any(matching) else ""
    option = '<button type="button" data-action="{}" aria-pressed="{}">{}</button>'
    return (
        f'<stem-player role="group" aria-label="Stem player: {escape(title)}" '
        # Else JupyterLab takes M for its own shortcut and turns the cell into text.
        'data-lm-suppress-shortcuts="true" '
        f'data-rate="{rate}" data-duration="{duration:.6f}" data-headroom="{headroom:.6f}">'
        f'<div class="stem-head"><p class="stem-title">{escape(title)}</p>'
        '<p class="stem-status" role="status">This player needs JavaScript.</p>'
        f'<p class="stem-hint">Click a name to hear it alone.{equally}</p>'
        '<p class="stem-hint stem-keys">Keys: ↑ ↓ track, ← → control, S alone, M mute</p></div>'
        '<div class="stem-toolbar">'
        '<button type="button" class="stem-play" data-action="play" aria-label="Play">'
        '<svg viewBox="0 0 16 16" aria-hidden="true">'
        '<path class="stem-icon-play" d="M4 1.5v13L15 8z"/>'
        '<path class="stem-icon-pause" d="M2.5 2H6v12H2.5zM10 2h3.5v12H10z"/></svg></button>'
        '<span class="stem-bar">'
        '<input type="range" class="stem-seek" aria-label="Position" autocomplete="off" min="0" '
        f'max="{duration:.3f}" step="{0.1 if duration < 60 else 1}" value="0" '
        'aria-valuetext="0 s"></span>'
        f'<span class="stem-time"><span class="stem-now">{_clock(0)}</span>'
        f'<span class="stem-total"> / {_clock(duration)}</span></span>'
        + option.format("loop", "false", "Loop")
        + (option.format("levels", "false", "True levels") if any(matching) else "")
        + '<button type="button" data-action="more" aria-expanded="false">More</button>'
        + f"</div>{content}{foot}</stem-player>"
    )


def _group_start(heading: str, *, pressed: bool) -> str:
    if not heading:
        return '<div class="stem-group">'
    name = escape(heading)
    return (
        f'<div class="stem-group" role="group" aria-label="{name}">'
        '<button type="button" class="stem-together" data-action="together" '
        f'aria-pressed="{_truth(pressed)}" aria-label="{name}: hear all together" '
        f'title="Hear these together">{name}</button>'
    )


def _track(
    row: _Row,
    *,
    source: str,
    picture: str,
    colour: str,
    gain: float | None,
    scale: float,
    heard: bool,
    alone: bool,
) -> str:
    name = escape(row.name)
    spectrogram = f' data-spectrogram="{picture}"' if picture else ""
    matching = shown = ""
    if gain is not None:
        matching = f' data-gain="{gain}"'
        shown = (
            '<span class="stem-gain" title="Gain that matches its loudness">'
            f"{_decibels(gain)}</span>"
        )
    return (
        f'<div class="stem-track{"" if heard else " stem-silent"}" role="group" '
        f'aria-label="{name}" style="--stem-colour: {colour}" data-audio="{source}"{spectrogram}'
        f"{matching}>"
        '<button type="button" class="stem-solo" data-action="solo" '
        f'aria-pressed="{_truth(alone)}" aria-label="{name}: solo" title="Hear it alone (S)">'
        f"<span>{escape(row.label)}</span>"
        '<span class="stem-key" aria-hidden="true">S</span></button>'
        '<button type="button" class="stem-mute" data-action="mute" '
        f'aria-pressed="{_truth(not heard)}" aria-label="{name}: mute" title="Mute (M)">M</button>'
        '<input type="range" class="stem-volume" autocomplete="off" min="0" max="1" step="0.05" '
        f'value="1" aria-label="{name}: volume" aria-valuetext="100 %" title="Volume">'
        f'{shown}<div class="stem-picture">{_waveform(row.audio, scale)}'
        '<div class="stem-playhead"></div></div></div>'
    )


def _last_word(label: str) -> str:
    return label.lower().split()[-1]


def _decibels(gain: float) -> str:
    return f"{gain:+.1f} dB".replace("-", "−") if gain else "0.0 dB"


def _truth(value: bool) -> str:
    return "true" if value else "false"
