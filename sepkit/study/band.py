"""Four-part songs composed from a seed: bass, drums, other, and a wordless melody as vocals.

`compose` writes the score of a song and `render` plays it. The melody is played by General MIDI
choirs, winds or a violin: it has a singer's range, breaths and vibrato, but no words. The songs
are meant for tests, exercises and live training, not for published scores.

The songs are under the library's licence (MIT). They are played by the synthesizer
``midirenderer`` (MIT) with the soundfont TimGM6mb by Tim Brechbill (GPL-2), which is read from the
installed package ``pretty_midi`` and not distributed here. Both are in the extra ``band``.
"""

from __future__ import annotations

import io
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from itertools import pairwise
from typing import TypeVar

import numpy as np
import scipy.signal
import soundfile
from numpy.random import Generator

from sepkit.audio import resample
from sepkit.errors import ParameterError, import_optional
from sepkit.files import packaged
from sepkit.tracks import RATE, SOURCES, Stems, Track

__all__ = ["Chord", "Note", "Part", "Section", "Song", "band_songs", "compose", "render"]

T = TypeVar("T")
Span = TypeVar("Span", "Chord", "Section")
Groove = dict[str, str]  # kick, snare, hat, bass, comp: the pattern of one bar
Event = tuple[str, float, float]  # symbol of a pattern, start and stop [beats]


@dataclass(frozen=True)
class Style:
    """Properties that songs of one style share; ``sepkit/data/band.toml`` explains them."""

    name: str
    tempos: list[float]
    modes: list[str]
    kits: list[int]
    basses: list[int]
    comps: list[int]
    pads: list[int]
    grooves: list[Groove]
    beats: int = 4
    steps: int = 4
    swing: float = 0.5
    sevenths: bool = False
    snare: int = 38
    velocity: int = 0


TABLES = tomllib.loads(packaged("band.toml").read_text(encoding="utf-8"))
STYLES = {name: Style(name, **style) for name, style in TABLES["styles"].items()}
NUMERALS = {"I": 0, "II": 2, "III": 4, "IV": 5, "V": 7, "VI": 9, "VII": 11}

# Rhythmic cells of the melody, one beat each, by steps per beat and pace: x a note, . a hold.
CELLS = {
    (4, "slow"): ("x.x.", "x.x.", "x..x", "..x.", "x.xx", "xx..", "x..."),
    (4, "fast"): ("x...", "x...", "x.x.", "x.x.", "....", "..x.", "x..x"),
    (3, "slow"): ("x.x", "x.x", "xxx", "..x", "x.."),
    (3, "fast"): ("x..", "x..", "x.x", "x.x", "...", "..x"),
}

KICK, SNARE, CLOSED_HAT, OPEN_HAT, RIDE, CRASHES = 36, 38, 42, 46, 51, (49, 57)
FILL_CELLS = {4: ("xxxx", "xxxx", "x.xx", "x.x.", "xx.x"), 3: ("xxx", "xxx", "x.x", ".xx")}
FILL_PATHS = ((38, 50, 47, 43), (38, 48, 45), (50, 48, 45, 41), (38,), (38, 47, 38, 43))
VELOCITIES = {"X": 112, "x": 98, "o": 70, "g": 36, ".": 0}  # g is a ghost note
HAT_VELOCITIES = {4: (108, 84, 96, 84), 3: (108, 86, 96)}  # by step of the beat

INTROS = (("other",), ("drums", "other"), ("bass", "drums"), SOURCES[:3])
SECTION_VELOCITY = {"intro": -6, "verse": 0, "chorus": 8, "ending": 4}
BASS_RANGE = (28, 55)  # E1, the lowest string, to G3
CHORD_RANGE = (52, 76)  # above the bass and around the melody
CHOIRS = (52, 53)
GUITARS = range(24, 30)
STRUM = 0.012  # from string to string [s]
DRAWBAR_ORGANS = (16, 17)  # also sound the octave below, so they are written an octave higher

LEVELS = {"bass": 0.0, "drums": 0.0, "other": -2.0, "vocals": 0.0}  # relative RMS of stems [dB]
SLOW_BAR = 2.4  # longest bar of a four-bar phrase [s]; slower songs have phrases of two bars
PEAK = 0.9  # of the mixture or the loudest stem, whichever is higher
RING = 2.0  # decay of the last chord [s]
FADE = 0.8  # fade-out at its end [s]


@dataclass(frozen=True)
class Note:
    """One note: start and stop in beats from the beginning of the song, MIDI pitch and velocity."""

    start: float
    stop: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Part:
    """The notes of one instrument, in order of time."""

    source: str
    program: int
    notes: tuple[Note, ...]
    volume: int = 127
    pan: int = 64  # centre
    sung: bool = False  # with slides into phrases and vibrato on long notes


@dataclass(frozen=True)
class Chord:
    """A chord in pitch classes (0 is C), the root first, with its scale; times in beats."""

    start: float
    stop: float
    tones: tuple[int, ...]
    scale: frozenset[int]


@dataclass(frozen=True)
class Section:
    """An intro, verse, chorus or ending, with the sources that play; times in beats."""

    name: str
    start: float
    stop: float
    groove: Groove
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Song:
    """A score: sections and chords are contiguous, and each source has one or more parts."""

    style: Style
    tonic: int  # pitch class, 0 for C
    mode: str
    tempo: float  # beats per minute
    sections: tuple[Section, ...]
    chords: tuple[Chord, ...]
    levels: dict[str, float]  # RMS of each source's stem relative to the other stems [dB]
    parts: tuple[Part, ...] = ()

    @property
    def duration(self) -> float:
        """Duration including the decay of the last chord [s]."""
        return self.sections[-1].stop * 60 / self.tempo + RING


def band_songs(n: int, seed: int = 0) -> list[Track]:
    """Compose four-part songs, which need no files and no network.

    Parameters
    ----------
    n : int
        Number of songs, at least 1.
    seed : int
        Non-negative seed. Song i depends on the seed and i alone.

    Returns
    -------
    list of Track
        Stereo songs of about 25 s at 44,100 Hz, rendered on first use. They differ in key, tempo,
        instruments, drum pattern and fills.

    Raises
    ------
    ParameterError
        When `n` or `seed` is out of range.
    """
    if n < 1 or seed < 0:
        raise ParameterError(f"{n} band songs of seed {seed}: give n >= 1 and seed >= 0")
    return [
        Track(
            name=f"sepkit band - Song {seed}.{i}",
            artist="sepkit band",
            licence="MIT",
            rate=RATE,
            reader=partial(_render_song, seed, i),
        )
        for i in range(n)
    ]


def _render_song(seed: int, index: int) -> Stems:
    return render(compose(seed, index))


def compose(seed: int, index: int = 0, *, duration: float = 25.0) -> Song:
    """Compose one song of an endless sequence.

    Songs 0 to 8 are in nine different styles, as are 9 to 17 and so on. Consecutive songs and
    seeds are in different keys.

    Parameters
    ----------
    seed : int
        Non-negative seed of the sequence.
    index : int
        Non-negative index of the song.
    duration : float
        Approximate duration [s]. Songs consist of whole phrases of about eight seconds.

    Returns
    -------
    Song
        The score, which depends on the arguments alone.

    Raises
    ------
    ParameterError
        When the seed or the index is negative.
    """
    if seed < 0 or index < 0:
        raise ParameterError(f"band song {index} of seed {seed}: give numbers from 0 up")
    rng = np.random.default_rng([seed, index])
    names = sorted(STYLES)
    order = np.random.default_rng([seed, index // len(names), 0]).permutation(len(names))
    style = STYLES[names[order[index % len(names)]]]
    slowest, fastest = style.tempos
    tempo = round(rng.uniform(slowest, fastest), 1)
    mode = _pick(rng, style.modes)
    tonic = (seed + 7 * index) % 12  # around the circle of fifths
    sections = _form(rng, style, tempo, duration)
    chords = tuple(_harmony(rng, style, tonic, mode, sections))
    levels = {source: level + rng.uniform(-2.5, 2.5) for source, level in LEVELS.items()}
    song = Song(style, tonic, mode, tempo, sections, chords, levels)
    bass, kit = _pick(rng, style.basses), _pick(rng, style.kits)
    comp, pad = _pick(rng, style.comps), _pick(rng, style.pads)
    left, right = rng.permutation([36, 92]).tolist()
    voice, low, high = _pick(rng, TABLES["voices"])
    melody = tuple(_melody(rng, song, low, high))
    parts = (
        Part("bass", bass, tuple(_bass(song))),
        Part("drums", kit, tuple(_drums(rng, song))),
        Part("other", comp, tuple(_comp(song, comp)), volume=120, pan=left),
        Part("other", pad, tuple(_pad(song, pad)), volume=88, pan=right),
        Part("vocals", voice, melody, sung=True),
        Part("vocals", _pick(rng, CHOIRS), tuple(_backing(song, melody)), volume=84, pan=76),
    )
    return replace(song, parts=tuple(_perform(rng, song, part) for part in parts))


def _pick(rng: Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def _at(spans: Sequence[Span], beat: float) -> Span:
    """Return the chord or section at a beat, or the last one after the end."""
    return next((span for span in spans if beat < span.stop), spans[-1])


def _pitches(classes: Iterable[int], low: int, high: int) -> list[int]:
    """Return the pitches from `low` to `high` that belong to pitch classes."""
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in classes]


def _form(rng: Generator, style: Style, tempo: float, duration: float) -> tuple[Section, ...]:
    """Return half a phrase of intro, alternating verses and choruses, and one bar of ending."""
    bar = style.beats * 60 / tempo
    phrase = 2 if bar > SLOW_BAR else 4
    n_phrases = max(1, round(((duration - RING) / bar - phrase // 2 - 1) / phrase))
    phrases = ["chorus" if (n_phrases - i) % 2 else "verse" for i in range(n_phrases)]
    names = ["intro", *phrases, "ending"]
    bounds = np.cumsum([0, phrase // 2, *[phrase] * n_phrases, 1]) * float(style.beats)
    verse, chorus = (_vary(rng, style.grooves[i], style) for i in rng.permutation(2))
    held = "." * (style.beats * style.steps - 1)
    ending = {"bass": "1" + held, "comp": "x" + held}  # and a crash, in `_drums`
    grooves = {"intro": verse, "verse": verse, "chorus": chorus, "ending": ending}
    sources = {"intro": _pick(rng, INTROS)}
    return tuple(
        Section(name, start, stop, grooves[name], sources.get(name, SOURCES))
        for name, (start, stop) in zip(names, pairwise(bounds.tolist()), strict=True)
    )


def _vary(rng: Generator, groove: Groove, style: Style) -> Groove:
    """Add a kick with a bass note, ghost notes and perhaps an open hi-hat to a groove."""
    lines = {name: list(pattern) for name, pattern in groove.items()}
    kick, snare, bass = lines["kick"], lines["snare"], lines["bass"]
    weak = [i for i in range(len(kick)) if i % style.steps]
    end = [*bass, "a"].index("a")  # the approach note stays the last one
    step = _pick(rng, [i for i in weak if i < end and kick[i] == bass[i] == "."])
    kick[step], bass[step] = "o", _pick(rng, "158")
    free = [i for i in weak if snare[i] == "."]
    for i in rng.choice(free, size=rng.integers(1, 4), replace=False):
        snare[i] = "g"
    if rng.random() < 0.5:
        lines["hat"][groove["hat"].rindex("x")] = "o"
    return {name: "".join(line) for name, line in lines.items()}


def _harmony(
    rng: Generator, style: Style, tonic: int, mode: str, sections: Sequence[Section]
) -> Iterator[Chord]:
    """Spread one progression evenly over each verse and another over each chorus."""
    table = TABLES["modes"][mode]
    verse, chorus = _pick(rng, table["verses"]).split(), _pick(rng, table["choruses"]).split()
    home = table["verses"][0].split()[:1]
    progressions = {"intro": verse[:2], "verse": verse, "chorus": chorus, "ending": home}
    for section in sections:
        numerals = progressions[section.name]
        bounds = np.linspace(section.start, section.stop, len(numerals) + 1).tolist()
        for numeral, (start, stop) in zip(numerals, pairwise(bounds), strict=True):
            tones, scale = _spell(numeral, tonic, table["scale"], style.sevenths)
            yield Chord(start, stop, tones, scale)


def _spell(
    numeral: str, tonic: int, intervals: Sequence[int], sevenths: bool
) -> tuple[tuple[int, ...], frozenset[int]]:
    """Return the tones of a Roman numeral and the scale they are played with."""
    scale = {(tonic + interval) % 12 for interval in intervals}
    degree = numeral.strip("b7")
    root = tonic + NUMERALS[degree.upper()] - numeral.startswith("b")
    tones = [root, root + (4 if degree.isupper() else 3), root + 7]
    if numeral.endswith("7"):
        tones.append(root + 10)
    elif sevenths:
        tones.append(root + (10 if (root + 10) % 12 in scale else 11))
    tones = [tone % 12 for tone in tones]
    # A tone outside the scale (the leading note in minor) displaces its neighbours.
    displaced = {(tone + side) % 12 for tone in set(tones) - scale for side in (-1, 1)}
    return tuple(tones), frozenset(scale - displaced | set(tones))


def _bars(song: Song, source: str) -> Iterator[tuple[Section, float]]:
    """Yield the section and first beat of each bar in which a source plays."""
    for section in song.sections:
        if source in section.sources:
            for start in np.arange(section.start, section.stop, song.style.beats).tolist():
                yield section, start


def _events(song: Song, pattern: str, start: float, restrike: str) -> Iterator[Event]:
    """Yield the notes of a pattern; where the chord changes during a hold, play `restrike`."""
    changes = {chord.start for chord in song.chords}
    beats = [start + i / song.style.steps for i in range(len(pattern) + 1)]
    symbols = [
        restrike if symbol == "." and beat in changes else symbol
        for symbol, beat in zip(pattern, beats, strict=False)
    ]
    onsets = [i for i, symbol in enumerate(symbols) if symbol != "."]
    for i, end in pairwise([*onsets, len(pattern)]):
        if symbols[i] != "_":
            yield symbols[i], beats[i], beats[end]


def _drums(rng: Generator, song: Song) -> Iterator[Note]:
    """Play the grooves, with a crash at the start of each section and a fill at its end."""
    style, intro = song.style, song.sections[0]
    verse_cymbal, chorus_cymbal = rng.permutation([CLOSED_HAT, RIDE]).tolist()
    cymbals = {"intro": CLOSED_HAT, "verse": verse_cymbal, "chorus": chorus_cymbal}
    if "drums" not in intro.sources:
        yield from _fill(rng, song, intro.stop - 1, 1)
    for section, start in _bars(song, "drums"):
        louder = style.velocity + SECTION_VELOCITY[section.name]
        if start == section.start and section != intro:
            yield Note(start, start + 2, _pick(rng, CRASHES), 100 + louder)
        if section.name == "ending":
            yield Note(start, start + 1, KICK, 105 + louder)
            continue
        fill = 0
        if start + style.beats == section.stop:
            fill = _pick(rng, (1, 1, 2, style.beats if start > section.start else 1))
        for i in range((style.beats - fill) * style.steps):
            kick, snare, hat = (section.groove[drum][i] for drum in ("kick", "snare", "hat"))
            hat_velocity = HAT_VELOCITIES[style.steps][i % style.steps] if hat != "." else 0
            strokes = (
                (KICK, VELOCITIES[kick]),
                (SNARE if snare == "g" else style.snare, VELOCITIES[snare]),
                (OPEN_HAT if hat == "o" else cymbals[section.name], hat_velocity),
            )
            beat = start + i / style.steps
            for drum, velocity in strokes:
                if velocity:
                    yield Note(beat, beat + 1 / style.steps, drum, velocity + louder)
        yield from _fill(rng, song, start + style.beats - fill, fill)


def _fill(rng: Generator, song: Song, start: float, beats: int) -> Iterator[Note]:
    """Play a crescendo down the toms, with the kick on each beat."""
    steps, louder = song.style.steps, song.style.velocity
    rhythm = "".join(_pick(rng, FILL_CELLS[steps]) for _ in range(beats))
    path = _pick(rng, FILL_PATHS)
    for i in range(beats):
        yield Note(start + i, start + i + 1, KICK, 84 + louder)
    for i, symbol in enumerate(rhythm):
        if symbol == "x":
            beat, progress = start + i / steps, i / len(rhythm)
            drum, velocity = path[int(progress * len(path))], 78 + round(30 * progress) + louder
            yield Note(beat, beat + 1 / steps, drum, velocity)


def _bass(song: Song) -> Iterator[Note]:
    """Play the bass line on the chords' roots."""
    low, high = BASS_RANGE
    root = low + 6

    def nearest_root(chord: Chord) -> int:
        # Below the top octave, so that the octave of each root is in range.
        return min(_pitches(chord.tones[:1], low, high - 12), key=lambda p: abs(p - root))

    for section, start in _bars(song, "bass"):
        for symbol, beat, stop in _events(song, section.groove["bass"], start, restrike="1"):
            chord = _at(song.chords, beat)
            root = nearest_root(chord)
            if symbol == "a":
                goal = nearest_root(_at(song.chords, chord.stop))
                steps = [goal + step for step in (-2, -1, 1, 2) if low <= goal + step != root]
                pitch = min(steps, key=lambda p: (p % 12 not in chord.scale, abs(p - root)))
            elif symbol == "8":
                pitch = root + 12
            elif symbol == "6":
                pitch = root + (9 if (root + 9) % 12 in chord.scale else 8)
            else:
                pitch = root + (chord.tones["1357".index(symbol)] - root) % 12
            velocity = (100 if beat == start else 90) + SECTION_VELOCITY[section.name]
            yield Note(beat, stop - 0.05, pitch, velocity)


def _voicings(song: Song, program: int) -> dict[Chord, list[int]]:
    """Voice the chords in close position, each in the inversion nearest to the last chord."""
    low, high = (pitch + 12 * (program in DRAWBAR_ORGANS) for pitch in CHORD_RANGE)
    middle = centre = (low + high) / 2
    voicings = {}
    for chord in song.chords:
        inversions = [
            sorted(bottom + (tone - bottom) % 12 for tone in chord.tones)
            for bottom in _pitches(chord.tones, low, high - 11)
        ]
        voicings[chord] = min(inversions, key=lambda pitches: abs(np.mean(pitches) - centre))
        # The pull to the middle keeps a descending progression from sinking to the limit.
        centre = (float(np.mean(voicings[chord])) + middle) / 2
    return voicings


def _comp(song: Song, program: int) -> Iterator[Note]:
    """Accompany with chords in the groove's rhythm."""
    voicings = _voicings(song, program)
    strum = STRUM * song.tempo / 60 if program in GUITARS else 0.0
    for section, start in _bars(song, "other"):
        pattern = section.groove["comp"]
        restrike = "x" if "x" in pattern else "0"
        for symbol, beat, stop in _events(song, pattern, start, restrike):
            voicing = voicings[_at(song.chords, beat)]
            velocity = (76 if symbol == "o" else 92) + SECTION_VELOCITY[section.name]
            if symbol.isdigit():
                yield Note(beat, stop + 0.5, voicing[int(symbol) % len(voicing)], velocity)
            else:
                for i, pitch in enumerate(voicing):
                    yield Note(beat + i * strum, stop - 0.03, pitch, velocity - 3 * i)


def _pad(song: Song, program: int) -> Iterator[Note]:
    """Sustain the chords in choruses, the ending, and an intro without bass."""
    for chord, voicing in _voicings(song, program).items():
        section = _at(song.sections, chord.start)
        if section.name in ("chorus", "ending") or "bass" not in section.sources:
            for pitch in voicing:
                velocity = 78 + SECTION_VELOCITY[section.name]
                yield Note(chord.start, chord.stop - 0.03, pitch, velocity)


def _motif(rng: Generator, song: Song, beats: int) -> tuple[str, str]:
    """Return the rhythms of an antecedent and its consequent, which both end in a breath."""
    n = song.style.steps
    pace = "slow" if beats == song.style.beats else "fast"
    rhythm = "x" + "".join(_pick(rng, CELLS[n, pace]) for _ in range(beats))[1:]
    held, breath = "x" + "." * (n - 1), "_" + "." * (n - 1)
    cadence = rhythm[: -2 * n] + held + breath
    if pace == "slow":
        return rhythm[:-n] + held[:-1] + "_", cadence
    return cadence, rhythm[: -3 * n] + held + "." * n + breath


def _contour(rng: Generator, length: int) -> list[int]:
    """Return steps along the scale, mostly single ones, that tend back to the start."""
    moves: list[int] = []
    for _ in range(length):
        up = rng.random() < 1 / (1 + np.exp(0.5 * sum(moves)))
        size = int(rng.choice([0, 1, 2, 3], p=[0.12, 0.7, 0.14, 0.04]))
        moves.append(size if up else -size)
    return moves


def _melody(rng: Generator, song: Song, low: int, high: int) -> Iterator[Note]:
    """Fit one motif for the verses and a higher one for the choruses to the chords."""
    style = song.style
    beats = style.beats * (1 if style.beats * 60 / song.tempo > SLOW_BAR else 2)
    motifs = {name: _motif(rng, song, beats) for name in ("verse", "chorus")}
    contours = {name: _contour(rng, beats * style.steps) for name in motifs}
    for section in song.sections[1:-1]:
        antecedent, consequent = motifs[section.name]
        for start in np.arange(section.start, section.stop, beats).tolist():
            rhythm = consequent if start + beats == section.stop else antecedent
            events = _events(song, rhythm, start, restrike=".")
            pitch = low + (10 if section.name == "chorus" else 6)
            for move, (_, beat, stop) in zip([0, *contours[section.name]], events, strict=False):
                # A note just ahead of a chord anticipates it.
                chord = _at(song.chords, min(beat + 0.5, stop - 0.01))
                strong = beat % (2 if style.beats == 4 else 3) == 0 or stop - beat > 1
                pitch = _next_pitch(chord, pitch, move, strong, low, high)
                if pitch % 12 not in _at(song.chords, stop - 0.01).tones:
                    stop = min(stop, max(chord.stop, beat + 0.5))
                velocity = 86 + 6 * strong + SECTION_VELOCITY[section.name]
                yield Note(beat, stop - 0.04, pitch, velocity)
    last = song.chords[-1]
    triad = replace(last, tones=last.tones[:3])
    yield Note(last.start, last.stop, _next_pitch(triad, pitch, 0, True, low, high), 92)


def _next_pitch(chord: Chord, pitch: int, move: int, strong: bool, low: int, high: int) -> int:
    """Move along the chord's scale, turning at its limits; on strong beats to a chord tone."""
    ladder = _pitches(chord.scale, low, high)
    rung = min(range(len(ladder)), key=lambda i: abs(ladder[i] - pitch))
    if not 0 <= rung + move < len(ladder):
        move = -move
    goal = ladder[rung + move]
    if not strong:
        return goal
    tones = _pitches(chord.tones, low, high)
    return min(tones, key=lambda p: abs(p - goal) + 2 * (p == pitch and move != 0))


def _backing(song: Song, melody: Sequence[Note]) -> Iterator[Note]:
    """Harmonize the choruses on the next chord tone at least a third below the melody."""
    for note in melody:
        if _at(song.sections, note.start).name == "chorus":
            tones = _at(song.chords, (note.start + note.stop) / 2).tones
            below = _pitches(tones, note.pitch - 12, note.pitch - 3)[-1]
            yield replace(note, pitch=below, velocity=note.velocity - 8)


def _perform(rng: Generator, song: Song, part: Part) -> Part:
    """Swing the notes and vary timing and velocity; end a note where its pitch is repeated."""
    second = song.tempo / 60  # in beats
    sixteenths = [0, song.style.swing / 2, 0.5]

    def swung(beat: float) -> float:
        return float(np.interp(beat % 0.5, [0, 0.25, 0.5], sixteenths)) + beat // 0.5 / 2

    played = []
    for note in part.notes:
        start = max(0.0, swung(note.start) + rng.normal(0, 0.004) * second)
        velocity = int(np.clip(note.velocity + rng.normal(0, 4), 12, 127))
        played.append(Note(start, swung(note.stop), note.pitch, velocity))
    played.sort(key=lambda note: (note.pitch, note.start))
    for i, (note, after) in enumerate(pairwise(played)):
        if note.pitch == after.pitch:
            played[i] = replace(note, stop=min(note.stop, after.start - 0.002 * second))
    return replace(part, notes=tuple(sorted(played, key=lambda note: note.start)))


def render(song: Song) -> Stems:
    """Play a song to stems.

    Parameters
    ----------
    song : Song
        A score by `compose`.

    Returns
    -------
    dict of str to ndarray, float32, (n_samples, 2)
        Stereo stems at 44,100 Hz in the order of `SOURCES`. They and their sum peak below 1.

    Raises
    ------
    MissingPackageError
        When a package of the extra ``band`` is not installed.
    """
    synthesizer = import_optional("midirenderer", "band")
    soundfont = (files(import_optional("pretty_midi", "band")) / "TimGM6mb.sf2").read_bytes()
    n_samples, n_fade = int(song.duration * RATE), int(FADE * RATE)
    fade = np.ones((n_samples, 1))
    fade[-n_fade:, 0] = 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, n_fade))
    # The soundfont's samples have DC offsets, its basses are bright and its cymbals faint.
    no_dc = scipy.signal.butter(2, 20, "highpass", fs=RATE, output="sos")
    dark = scipy.signal.butter(1, 300, fs=RATE, output="sos")
    treble, poles = scipy.signal.butter(1, 2000, "highpass", fs=RATE)
    bright = scipy.signal.tf2sos(poles + 2 * treble, poles)
    filters = {"bass": np.vstack([no_dc, dark]), "drums": np.vstack([no_dc, bright])}
    stems = {}
    for source in SOURCES:
        wave = synthesizer.render_wave_from(soundfont, _midi_file(song, source))
        audio, rate = soundfile.read(io.BytesIO(wave), dtype="float32", always_2d=True)
        audio = resample(audio, rate, RATE)[:n_samples]
        audio = scipy.signal.sosfilt(filters.get(source, no_dc), audio, axis=0) * fade
        stems[source] = audio * 10 ** (song.levels[source] / 20) / np.sqrt(np.mean(audio**2))
    peak = max(np.abs(audio).max() for audio in (*stems.values(), sum(stems.values())))
    return {source: (audio * PEAK / peak).astype(np.float32) for source, audio in stems.items()}


def _midi_file(song: Song, source: str) -> bytes:
    """Write the parts of one stem as a MIDI file of the song's duration."""
    midi = import_optional("pretty_midi", "band")
    score = midi.PrettyMIDI(initial_tempo=song.tempo, resolution=960)
    beat = 60 / song.tempo
    for part in (part for part in song.parts if part.source == source):
        instrument = midi.Instrument(part.program, is_drum=source == "drums")
        instrument.notes = [
            midi.Note(note.velocity, note.pitch, note.start * beat, note.stop * beat)
            for note in part.notes
        ]
        instrument.control_changes = [
            midi.ControlChange(7, part.volume, 0.0),
            midi.ControlChange(10, part.pan, 0.0),
            # The synthesizer stops at the last event.
            midi.ControlChange(10, part.pan, song.duration + 0.1),
        ]
        if part.sung:
            instrument.pitch_bends = [
                midi.PitchBend(round(cents * 8192 / 200), time)
                for time, cents in _pitch_bends(part.notes, beat)
            ]
        score.instruments.append(instrument)
    file = io.BytesIO()
    score.write(file)
    return file.getvalue()


def _pitch_bends(notes: Sequence[Note], beat: float) -> Iterator[tuple[float, float]]:
    """Yield times [s] and cents: slides into phrases and delayed vibrato on long notes."""
    last_stop = -1.0
    for note in notes:
        start, stop = note.start * beat, note.stop * beat
        slides = start - last_stop > 0.2
        last_stop = stop
        for time in np.arange(start, stop, 0.02).tolist():
            slide = -70 * max(0.0, 1 - (time - start) / 0.1) if slides else 0.0
            depth = 20 * np.clip((time - start - 0.3) / 0.4, 0, 1)
            yield time, slide + depth * np.sin(2 * np.pi * 5.5 * (time - start))
