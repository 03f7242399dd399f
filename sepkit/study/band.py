"""Four-part songs by an arranger of our own: bass, drums, other and a tune in place of vocals.

``compose`` writes a song as notes, ``render`` plays it stem by stem. Both depend on the seed and
the song's number only, so a data set of any size needs no file. The tune is played by General
MIDI choirs, voices and winds: it has a singer's range, breaths and vibrato, but no words, and
nobody sings. Such songs serve tests, live training and exercises, not headline figures.

The songs are ours and under this library's licence (MIT). They are played with the soundfont
TimGM6mb by Tim Brechbill (GPL-2), read from the installed package ``pretty_midi`` and not
distributed here, and by the synthesiser ``midirenderer`` (MIT): the optional extra ``band``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.resources import files
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import scipy.signal
import soundfile
from numpy.random import Generator

from sepkit.audio import resample
from sepkit.datasets import RATE, SOURCES
from sepkit.errors import MissingPackageError, ParameterError

__all__ = ["Chord", "Note", "Part", "Section", "Song", "compose", "render"]

T = TypeVar("T")


# ---------------------------------------------------------------------------------------------
# What a musician knows, as tables


@dataclass(frozen=True)
class Groove:
    """One bar, a character a step; kick and bass lock, which is why they stand together."""

    kick: str  # X accent, x normal, o soft, . nothing
    snare: str  # the same, and g for a ghost note
    hat: str  # x closed hi-hat or ride, o open hi-hat
    bass: str  # 1 3 5 6 7 8 degree of the chord, a towards the next root, . hold, _ rest
    comp: str  # x or softer o the chord, 0 1 2 3 one of its notes from below, . hold, _ rest


@dataclass(frozen=True)
class Style:
    """What the songs of one style share; programs are General MIDI's, counted from 0."""

    tempos: tuple[float, float]  # slowest and fastest, beats a minute
    modes: tuple[str, ...]
    kits: tuple[int, ...]
    basses: tuple[int, ...]
    comps: tuple[int, ...]
    pads: tuple[int, ...]
    grooves: tuple[Groove, Groove]  # for verses and choruses, either way round
    beats: int = 4  # a bar
    steps: int = 4  # a beat; 3 where it is felt in triplets
    swing: float = 0.5  # where between two eighths the sixteenth falls
    sevenths: bool = False
    snare: int = 38  # or 37, a stick on its rim
    touch: int = 0  # added to the drums' velocities


@dataclass(frozen=True)
class Mode:
    """A scale, in semitones above the tonic, and chord progressions in Roman numerals.

    Verses mostly set out from the tonic; choruses mostly start away from it, and so pull forward.
    """

    scale: tuple[int, ...]
    verses: tuple[str, ...]
    choruses: tuple[str, ...]


# fmt: off
STYLES = {
    "rock": Style(
        tempos=(108, 140), modes=("major", "minor", "mixolydian"),
        kits=(0, 8, 16), basses=(33, 34), comps=(25, 27, 29), pads=(16, 18, 48), grooves=(
            Groove(kick="x.......x.x.....", snare="....X.......X...",
                   hat="x.x.x.x.x.x.x.x.", bass="1.1.1.1.1.1.1.a.", comp="x.......x.x....."),
            Groove(kick="x.....x.x.x.....", snare="....X.......X...",
                   hat="x...x...x...x...", bass="1.....1.1.1.5.a.", comp="x..x..x.x..x..x."))),
    "funk": Style(
        tempos=(92, 110), modes=("dorian", "mixolydian", "minor"), swing=0.55, sevenths=True,
        kits=(0, 8), basses=(33, 36, 37), comps=(4, 7, 27), pads=(16, 17, 61), grooves=(
            Groove(kick="x.x.......x..x..", snare="....X.......X...",
                   hat="x.xxx.x.x.xxx.xo", bass="1.1_..8...1..5a.", comp="_...x_.x_...o_x_"),
            Groove(kick="x..x..x...x.....", snare="....X.......X...",
                   hat="x.x.x.xox.x.x.x.", bass="1..1_.1...8.7.5.", comp="x_.x_...x_.x_.o_"))),
    "disco": Style(
        tempos=(112, 126), modes=("minor", "dorian", "major"), sevenths=True,
        kits=(0, 24, 25), basses=(33, 38, 39), comps=(4, 5, 27), pads=(48, 50, 51), grooves=(
            Groove(kick="x...x...x...x...", snare="....x.......x...",
                   hat="x.o.x.o.x.o.x.o.", bass="1.8.1.8.1.8.1.8.", comp="_.x__.x__.x__.x_"),
            Groove(kick="x...x...x...x...", snare="....x.......x...",
                   hat="xxo.xxo.xxo.xxo.", bass="1..11.8.1..15.a.", comp="x..x..x.x..x..x."))),
    "ballad": Style(
        tempos=(66, 82), modes=("major", "minor"), touch=-8,
        kits=(0, 8), basses=(32, 33, 35), comps=(0, 4, 24, 25), pads=(48, 49, 89), grooves=(
            Groove(kick="x......ox.......", snare="....x.......x...",
                   hat="x.x.x.x.x.x.x.x.", bass="1......51.....a.", comp="0.1.2.1.0.1.2.3."),
            Groove(kick="x.....x.x.....x.", snare="....X.......X...",
                   hat="x.x.x.x.x.x.x.x.", bass="1.....5.1.....a.", comp="x...o...x...o.o."))),
    "shuffle": Style(
        tempos=(104, 132), modes=("blues",), steps=3,
        kits=(0, 32), basses=(32, 33, 34), comps=(0, 3, 16, 26), pads=(17, 61), grooves=(
            Groove(kick="x.....x....o", snare="...X.....X..",
                   hat="x.xx.xx.xx.x", bass="1..3..5..6.a", comp="x....x_....."),
            Groove(kick="x....xx....o", snare="...X.....X..",
                   hat="x..x.xx..x.x", bass="1.15.56.65.5", comp="_.x_.x_.x_.x"))),
    "waltz": Style(
        tempos=(126, 156), modes=("major", "minor"), beats=3, touch=-12,
        kits=(32, 40), basses=(32, 35), comps=(0, 24, 26), pads=(11, 48, 49), grooves=(
            Groove(kick="x...........", snare="....o...o...",
                   hat="x...x...x.x.", bass="1.......5...", comp="_...x.._x.._"),
            Groove(kick="x.........o.", snare="....x...x...",
                   hat="x...x.x.x...", bass="1...3...5.a.", comp="0.1.2.3.2.1."))),
    "bossa": Style(
        tempos=(62, 74), modes=("major", "minor", "dorian"), sevenths=True, snare=37, touch=-8,
        kits=(0, 32), basses=(32, 35), comps=(4, 24), pads=(11, 49, 89), grooves=(
            Groove(kick="x..ox..ox..ox..o", snare="x..x..x...x..x..",
                   hat="xxxxxxxxxxxxxxxx", bass="1..55..51..55..a", comp="x..x..o...x..o.."),
            Groove(kick="x......ox......o", snare="..x.x...x..x..x.",
                   hat="x.xxx.xxx.xxx.xx", bass="1......51......a", comp="o.x..x.o..x.o..x"))),
    "reggae": Style(
        tempos=(68, 82), modes=("major", "minor", "mixolydian"), swing=0.56, snare=37,
        kits=(0, 8), basses=(33, 35, 39), comps=(0, 16, 27), pads=(17, 18), grooves=(
            Groove(kick="........X......o", snare="........x.......",
                   hat="x.xxx.x.x.xxx.x.", bass="1..3..5.1...5.3a", comp="_.x__.x__.x__.x_"),
            Groove(kick="x...x...x...x...", snare="....x..x....x...",
                   hat="x.x.x.xxx.x.x.xx", bass="1...5.1.1...5.a.", comp="_.xo_.x__.xo_.x_"))),
    "soul": Style(
        tempos=(60, 72), modes=("major", "dorian", "minor"), steps=3, sevenths=True, touch=-4,
        kits=(0, 8), basses=(32, 33), comps=(0, 4, 26), pads=(16, 48, 49), grooves=(
            Groove(kick="x....ox....o", snare="...X.....X..",
                   hat="xxxxxxxxxxxx", bass="1....51....a", comp="012321012321"),
            Groove(kick="x.....x....o", snare="...X.....X..",
                   hat="x.xx.xx.xx.x", bass="1..5..1..5.a", comp="xooxooxooxoo"))),
}
# fmt: on

MODES = {
    "major": Mode(
        (0, 2, 4, 5, 7, 9, 11),
        ("I V vi IV", "I vi IV V", "I iii IV V", "vi IV I V", "I vi ii V"),
        ("IV V I vi", "IV I V vi", "I V vi IV", "ii V I vi"),
    ),
    "minor": Mode(
        (0, 2, 3, 5, 7, 8, 10),
        ("i bVI bIII bVII", "i iv bVII bIII", "i bVII bVI V", "i iv i V"),
        ("bVI bVII i bIII", "bIII bVII i bVI", "iv bVII bIII V", "bVI bIII bVII i"),
    ),
    "dorian": Mode(
        (0, 2, 3, 5, 7, 9, 10),
        ("i IV i IV", "i bIII IV i", "i ii bIII IV"),
        ("bVII IV i IV", "bIII IV i bVII", "ii bIII IV i"),
    ),
    "mixolydian": Mode(
        (0, 2, 4, 5, 7, 9, 10),
        ("I bVII IV I", "I v bVII IV", "I IV bVII IV"),
        ("bVII IV I v", "IV bVII I IV", "IV I bVII v"),
    ),
    "blues": Mode(
        (0, 2, 4, 5, 7, 9, 10),
        ("I7 IV7 I7 V7", "I7 I7 IV7 I7", "I7 VI7 ii V7"),
        ("IV7 I7 V7 I7", "IV7 IV7 I7 V7", "V7 IV7 I7 V7"),
    ),
}
NUMERALS = {"I": 0, "II": 2, "III": 4, "IV": 5, "V": 7, "VI": 9, "VII": 11}
# fmt: off
MAJOR_TONICS = (
    "C", "D flat", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
MINOR_TONICS = (
    "C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "G sharp", "A", "B flat", "B")
# fmt: on

# Program, lowest and highest pitch of the tune: choir, oohs, synth voice, solo voice, then tenor
# saxophone, clarinet, flute and violin. Left out because this soundfont has them out of tune, off
# centre or shrill: harmonica, accordion, alto and soprano saxophone.
VOICES = (
    (52, 57, 74), (53, 57, 74), (54, 57, 74), (85, 55, 72),
    (66, 53, 70), (71, 55, 72), (73, 62, 79), (40, 57, 75),
)  # fmt: skip
BACKING_VOICES = (52, 53)

# What a beat of the tune may be, by steps in a beat and pace: ``x`` a new note, ``.`` hold.
CELLS = {
    (4, "slow"): ("x.x.", "x.x.", "x..x", "..x.", "x.xx", "xx..", "x..."),
    (4, "fast"): ("x...", "x...", "x.x.", "x.x.", "....", "..x.", "x..x"),
    (3, "slow"): ("x.x", "x.x", "xxx", "..x", "x.."),
    (3, "fast"): ("x..", "x..", "x.x", "x.x", "...", "..x"),
}

FILL_CELLS = {4: ("xxxx", "xxxx", "x.xx", "x.x.", "xx.x"), 3: ("xxx", "xxx", "x.x", ".xx")}
# Snare (38) and toms from the highest (50) to the floor (41): a fill runs down the kit.
FILL_PATHS = ((38, 50, 47, 43), (38, 48, 45), (50, 48, 45, 41), (38,), (38, 47, 38, 43))
# Velocity of a stroke by its mark, ``g`` a ghost note; and what is added to a hat's by its step
# within the beat.
STROKES = {"X": 112, "x": 98, "o": 70, "g": 36}
HAT_ACCENTS = {4: (12, -12, 0, -12), 3: (12, -10, 0)}
KICK, SNARE, CLOSED_HAT, OPEN_HAT, RIDE, CRASHES = 36, 38, 42, 46, 51, (49, 57)

INTROS = (("other",), ("drums", "other"), ("bass", "drums"), SOURCES[:3])
SECTION_VELOCITY = {"intro": -6, "verse": 0, "chorus": 8, "ending": 4}
BASS_RANGE = (28, 55)  # E1, the lowest string, to G3
CHORD_RANGE = (52, 76)  # above the bass and around the tune
GUITARS = range(24, 30)  # strummed: STRUM seconds from string to string
STRUM = 0.012
DRAWBAR_ORGANS = (16, 17)  # also sound the octave below, so they are written an octave higher

# RMS of the stems against each other [dB], as in a plain pop mix.
LEVELS = {"bass": 0.0, "drums": 0.0, "other": -2.0, "vocals": 0.0}
SLOW_BAR = 2.4  # seconds; beyond, a phrase has two bars instead of four, and more notes a beat

PEAK = 0.9  # of the mixture, or of the loudest stem where that is higher
RING = 2.0  # seconds after the last bar, in which the last chord dies away
FADE = 0.8  # seconds at the end of these


# ---------------------------------------------------------------------------------------------
# The score


@dataclass(frozen=True)
class Note:
    """One note; times here and below are in beats from the song's beginning."""

    start: float
    stop: float
    pitch: int  # and velocity: as in MIDI
    velocity: int


@dataclass(frozen=True)
class Part:
    """What one instrument plays."""

    source: str
    program: int
    notes: tuple[Note, ...]  # in order of time
    volume: int = 127
    pan: int = 64  # the middle
    sung: bool = False  # phrases begin with a slide, long notes have vibrato


@dataclass(frozen=True)
class Chord:
    """A chord, in pitch classes: 0 for C."""

    numeral: str  # in capitals where the third is major
    start: float
    stop: float
    tones: tuple[int, ...]  # the root first
    scale: frozenset[int]


@dataclass(frozen=True)
class Section:
    """An intro, verse, chorus or ending; its bars repeat one groove."""

    name: str
    start: float
    stop: float
    groove: Groove
    sources: tuple[str, ...]  # who plays


@dataclass(frozen=True)
class Song:
    """A score.

    Parameters
    ----------
    style_name : str
        Key of `STYLES`.
    tonic : int
        Pitch class, 0 for C.
    mode : str
        Key of `MODES`.
    tempo : float
        Beats a minute.
    sections : tuple of Section
        Without a gap, as are the chords.
    chords : tuple of Chord
        The harmony.
    levels : dict
        Source to the RMS of its stem, against the other stems [dB].
    parts : tuple of Part
        One or more for each source.
    """

    style_name: str
    tonic: int
    mode: str
    tempo: float
    sections: tuple[Section, ...]
    chords: tuple[Chord, ...]
    levels: dict[str, float]
    parts: tuple[Part, ...] = ()

    @property
    def style(self) -> Style:
        """The style that gives the score its grid."""
        return STYLES[self.style_name]

    @property
    def key(self) -> str:
        """Tonic and mode in words."""
        tonics = MINOR_TONICS if 3 in MODES[self.mode].scale else MAJOR_TONICS
        return f"{tonics[self.tonic]} {self.mode}"

    @property
    def name(self) -> str:
        """Style, key and tempo in words."""
        return f"{self.style_name} in {self.key}, {self.tempo:.0f} bpm"

    @property
    def duration(self) -> float:
        """Seconds until the last chord has died away."""
        return self.sections[-1].stop * 60 / self.tempo + RING


# ---------------------------------------------------------------------------------------------
# Composing


def compose(seed: int, index: int = 0, *, duration: float = 25.0) -> Song:
    """Compose one song.

    The first nine songs of a seed are in nine styles, as are the next nine, and so on; songs or
    seeds that follow each other are in different keys.

    Parameters
    ----------
    seed : int
        Names a set of songs; not negative.
    index : int
        The song's place in the set, which may have any size; not negative.
    duration : float
        About how long it is to be [s]: whole phrases of about eight seconds.

    Returns
    -------
    Song
        The score.

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
    style_name = names[order[index % len(names)]]
    style = STYLES[style_name]
    tempo = round(rng.uniform(*style.tempos), 1)
    mode = _pick(rng, style.modes)
    tonic = (seed + 7 * index) % 12  # song by song in fifths, which go round all twelve keys
    sections = _form(rng, style, tempo, duration)
    chords = _harmony(rng, style, tonic, mode, sections)
    levels = {source: level + rng.uniform(-2.5, 2.5) for source, level in LEVELS.items()}
    song = Song(style_name, tonic, mode, tempo, sections, chords, levels)
    bass, kit = _pick(rng, style.basses), _pick(rng, style.kits)
    comp, pad = _pick(rng, style.comps), _pick(rng, style.pads)
    left, right = rng.permutation([36, 92]).tolist()
    voice, low, high = _pick(rng, VOICES)
    tune = _tune(rng, song, low, high)
    parts = (
        Part("bass", bass, _bass(song)),
        Part("drums", kit, _drums(rng, song)),
        Part("other", comp, _comp(song, comp), volume=120, pan=left),
        Part("other", pad, _pad(song, pad), volume=88, pan=right),
        Part("vocals", voice, tune, sung=True),
        Part("vocals", _pick(rng, BACKING_VOICES), _backing(song, tune), volume=84, pan=76),
    )
    return replace(song, parts=tuple(_perform(rng, song, part) for part in parts))


def _pick(rng: Generator, items: Sequence[T]) -> T:
    return items[rng.integers(len(items))]


def _at(spans: Sequence[T], beat: float) -> T:
    """Find the section or chord at a beat; after the end, the last one."""
    return next((span for span in spans if beat < span.stop), spans[-1])


def _pitches(classes: Sequence[int] | frozenset[int], low: int, high: int) -> list[int]:
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in classes]


def _form(rng: Generator, style: Style, tempo: float, duration: float) -> tuple[Section, ...]:
    """Lay out an intro, verses and choruses in turn (a chorus last), and a bar to end on."""
    bar = style.beats * 60 / tempo
    phrase = 2 if bar > SLOW_BAR else 4
    n_phrases = max(1, round(((duration - RING) / bar - phrase // 2 - 1) / phrase))
    names = ["chorus" if (n_phrases - i) % 2 else "verse" for i in range(n_phrases)]
    bounds = np.cumsum([0, phrase // 2, *[phrase] * n_phrases, 1]) * float(style.beats)
    verse, chorus = (_vary(rng, style.grooves[i], style) for i in rng.permutation(2))
    grooves = {"intro": verse, "verse": verse, "chorus": chorus, "ending": chorus}
    sources = {"intro": _pick(rng, INTROS)}
    return tuple(
        Section(name, start, stop, grooves[name], sources.get(name, SOURCES))
        for name, (start, stop) in zip(
            ["intro", *names, "ending"], pairwise(bounds.tolist()), strict=True
        )
    )


def _vary(rng: Generator, groove: Groove, style: Style) -> Groove:
    """Make the groove the song's own: another kick with its bass note, ghost notes, an open hat."""
    lines = {name: list(line) for name, line in vars(groove).items()}
    weak = [i for i in range(len(groove.kick)) if i % style.steps]
    end = (groove.bass + "a").index("a")  # what leads to the next root stays the last note
    step = _pick(rng, [i for i in weak if i < end and groove.kick[i] == groove.bass[i] == "."])
    lines["kick"][step], lines["bass"][step] = "o", _pick(rng, "158")
    quiet = [i for i in weak if groove.snare[i] == "."]
    for i in rng.choice(quiet, size=rng.integers(1, 4), replace=False):
        lines["snare"][i] = "g"
    if rng.random() < 0.5:
        lines["hat"][groove.hat.rindex("x")] = "o"
    return Groove(**{name: "".join(line) for name, line in lines.items()})


def _harmony(
    rng: Generator, style: Style, tonic: int, mode: str, sections: Sequence[Section]
) -> tuple[Chord, ...]:
    """Give verses one progression and choruses another, each chord an even part of the section."""
    verse = _pick(rng, MODES[mode].verses).split()
    chorus = _pick(rng, MODES[mode].choruses).split()
    home = MODES[mode].verses[0].split()[:1]
    numerals = {"intro": verse[:2], "verse": verse, "chorus": chorus, "ending": home}
    chords = []
    for section in sections:
        bounds = np.linspace(section.start, section.stop, len(numerals[section.name]) + 1)
        for numeral, (start, stop) in zip(
            numerals[section.name], pairwise(bounds.tolist()), strict=True
        ):
            tones, scale = _spell(numeral, MODES[mode].scale, style.sevenths)
            tones = tuple((tone + tonic) % 12 for tone in tones)
            scale = frozenset((tone + tonic) % 12 for tone in scale)
            chords.append(Chord(numeral, start, stop, tones, scale))
    return tuple(chords)


def _spell(numeral: str, scale: Sequence[int], sevenths: bool) -> tuple[list[int], set[int]]:
    """Return a Roman numeral's tones and its scale, in semitones above the tonic."""
    flat, degree, seventh = re.fullmatch(r"(b?)([IViv]+)(7?)", numeral).groups()
    root = NUMERALS[degree.upper()] - bool(flat)
    tones = [root, root + (4 if degree.isupper() else 3), root + 7]
    if seventh or sevenths:
        tones.append(root + (10 if seventh or (root + 10) % 12 in scale else 11))
    tones = [tone % 12 for tone in tones]
    # A tone foreign to the scale (the leading note of a minor key) displaces its neighbours.
    displaced = {(tone + side) % 12 for tone in set(tones) - set(scale) for side in (-1, 1)}
    return tones, set(scale) - displaced | set(tones)


def _bars(song: Song, source: str) -> Iterator[tuple[Section, float]]:
    """Yield the section and the first beat of each bar in which a source plays."""
    for section in song.sections:
        if source in section.sources:
            for start in np.arange(section.start, section.stop, song.style.beats):
                yield section, float(start)


def _events(song: Song, tab: str, start: float, struck: str) -> Iterator[tuple[str, float, float]]:
    """Yield symbol, start and stop of a tab's notes, with `struck` where a chord begins in a hold.

    A `struck` of ``.`` leaves holds alone.
    """
    changes = {chord.start for chord in song.chords}
    beats = [start + i / song.style.steps for i in range(len(tab) + 1)]
    symbols = [
        struck if symbol == "." and beat in changes else symbol
        for symbol, beat in zip(tab, beats, strict=False)
    ]
    marks = [i for i, symbol in enumerate(symbols) if symbol != "."]
    for i, end in zip(marks, [*marks[1:], len(tab)], strict=True):
        if symbols[i] != "_":
            yield symbols[i], beats[i], beats[end]


def _drums(rng: Generator, song: Song) -> tuple[Note, ...]:
    """Play the grooves, a crash where a section begins, and a fill where it ends."""
    style, intro = song.style, song.sections[0]
    keepers = dict(zip(("verse", "chorus"), rng.permutation([CLOSED_HAT, RIDE]), strict=True))
    notes = []
    if "drums" not in intro.sources:
        notes += _fill(rng, song, intro.stop - 1, 1)
    for section, start in _bars(song, "drums"):
        touch = style.touch + SECTION_VELOCITY[section.name]
        if start == section.start and section != intro:
            notes.append(Note(start, start + 2, _pick(rng, CRASHES), 100 + touch))
        if section.name == "ending":
            notes.append(Note(start, start + 1, KICK, 105 + touch))
            continue
        fill = 0
        if start + style.beats == section.stop:
            fill = _pick(rng, (1, 1, 2, style.beats if start > section.start else 1))
        for i in range((style.beats - fill) * style.steps):
            groove, beat = section.groove, start + i / style.steps
            stop = beat + 1 / style.steps
            if groove.kick[i] != ".":
                notes.append(Note(beat, stop, KICK, STROKES[groove.kick[i]] + touch))
            if groove.snare[i] != ".":
                drum = SNARE if groove.snare[i] == "g" else style.snare
                notes.append(Note(beat, stop, drum, STROKES[groove.snare[i]] + touch))
            if groove.hat[i] != ".":
                hat = OPEN_HAT if groove.hat[i] == "o" else keepers.get(section.name, CLOSED_HAT)
                accent = HAT_ACCENTS[style.steps][i % style.steps]
                notes.append(Note(beat, stop, int(hat), 96 + accent + touch))
        notes += _fill(rng, song, start + style.beats - fill, fill)
    return tuple(notes)


def _fill(rng: Generator, song: Song, start: float, beats: int) -> list[Note]:
    """Run down the kit, ever louder, over the kick on the beat."""
    steps, touch = song.style.steps, song.style.touch
    rhythm = "".join(_pick(rng, FILL_CELLS[steps]) for _ in range(beats))
    path = _pick(rng, FILL_PATHS)
    notes = [Note(start + i, start + i + 1, KICK, 84 + touch) for i in range(beats)]
    for i, symbol in enumerate(rhythm):
        if symbol == "x":
            beat, progress = start + i / steps, i / len(rhythm)
            drum, velocity = path[int(progress * len(path))], 78 + round(30 * progress) + touch
            notes.append(Note(beat, beat + 1 / steps, drum, velocity))
    return notes


def _bass(song: Song) -> tuple[Note, ...]:
    low, high = BASS_RANGE
    notes = []
    root = low + 6

    def nearest_root(chord: Chord) -> int:
        roots = _pitches(chord.tones[:1], low, high - 12)  # the octave above must be there too
        return min(roots, key=lambda p: abs(p - root))

    for section, start in _bars(song, "bass"):
        tab = section.groove.bass
        if section.name == "ending":
            tab = "1" + "." * (len(tab) - 1)
        for symbol, beat, stop in _events(song, tab, start, struck="1"):
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
            notes.append(Note(beat, stop - 0.05, pitch, velocity))
    return tuple(notes)


def _voicings(song: Song, program: int) -> dict[Chord, list[int]]:
    """Voice each chord in close position, in the inversion that lies nearest to the last chord."""
    low, high = (pitch + 12 * (program in DRAWBAR_ORGANS) for pitch in CHORD_RANGE)
    voicings = {}
    centre = (low + high) / 2
    for chord in song.chords:
        choices = [
            sorted(bottom + (tone - bottom) % 12 for tone in chord.tones)
            for bottom in _pitches(chord.tones, low, high - 11)
        ]
        # Half way back to the middle each time, or a descent would never turn.
        voicings[chord] = min(choices, key=lambda pitches: abs(np.mean(pitches) - centre))
        centre = (np.mean(voicings[chord]) + (low + high) / 2) / 2
    return voicings


def _comp(song: Song, program: int) -> tuple[Note, ...]:
    """Accompany in the groove's rhythm."""
    voicings = _voicings(song, program)
    late = STRUM * song.tempo / 60 if program in GUITARS else 0.0
    notes = []
    for section, start in _bars(song, "other"):
        tab = section.groove.comp
        if section.name == "ending":
            tab = "x" + "." * (len(tab) - 1)
        for symbol, beat, stop in _events(song, tab, start, struck="x" if "x" in tab else "0"):
            voicing = voicings[_at(song.chords, beat)]
            velocity = (76 if symbol == "o" else 92) + SECTION_VELOCITY[section.name]
            if symbol.isdigit():
                notes.append(Note(beat, stop + 0.5, voicing[int(symbol) % len(voicing)], velocity))
            else:
                notes += [
                    Note(beat + i * late, stop - 0.03, pitch, velocity - 3 * i)
                    for i, pitch in enumerate(voicing)
                ]
    return tuple(notes)


def _pad(song: Song, program: int) -> tuple[Note, ...]:
    """Hold the chords in choruses and ending, and in an intro without bass."""
    notes = []
    for chord, voicing in _voicings(song, program).items():
        section = _at(song.sections, chord.start)
        opening = section.name == "intro" and "bass" not in section.sources
        if opening or section.name in ("chorus", "ending"):
            velocity = 78 + SECTION_VELOCITY[section.name]
            notes += [Note(chord.start, chord.stop - 0.03, pitch, velocity) for pitch in voicing]
    return tuple(notes)


def _motif(rng: Generator, song: Song, beats: int) -> tuple[list[str], list[str]]:
    """Return a question and its answer, a cell a beat; they begin alike and end in a breath."""
    style = song.style
    pace = "slow" if beats == style.beats else "fast"
    hold = "." * (style.steps - 1)
    held, rest, short = ["x" + hold], ["_" + hold], ["x" + hold[1:] + "_"]
    cells = [_pick(rng, CELLS[style.steps, pace]) for _ in range(beats)]
    cells[0] = "x" + cells[0][1:]
    if pace == "slow":
        return cells[:-1] + short, cells[:-2] + held + rest
    return cells[:-2] + held + rest, cells[:-3] + held + ["." + hold] + rest


def _contour(rng: Generator, length: int) -> list[int]:
    """Return steps along the scale: mostly single ones, and the further off, the likelier back."""
    moves, height = [], 0
    for _ in range(length):
        up = rng.random() < 1 / (1 + np.exp(0.5 * height))
        size = int(rng.choice([0, 1, 2, 3], p=[0.12, 0.7, 0.14, 0.04]))
        moves.append(size if up else -size)
        height += moves[-1]
    return moves


def _tune(rng: Generator, song: Song, low: int, high: int) -> tuple[Note, ...]:
    """Ask and answer: one motif for verses and one, higher, for choruses, bent to the chords."""
    style = song.style
    beats = style.beats * (1 if style.beats * 60 / song.tempo > SLOW_BAR else 2)
    motifs = {name: _motif(rng, song, beats) for name in ("verse", "chorus")}
    contours = {name: _contour(rng, beats * style.steps) for name in motifs}
    notes = []
    for section in song.sections[1:-1]:
        for start in np.arange(section.start, section.stop, beats).tolist():
            question, answer = motifs[section.name]
            cells = answer if start + beats == section.stop else question
            pitch = low + (10 if section.name == "chorus" else 6)
            moves = iter([0, *contours[section.name]])
            for symbol, beat, stop in _events(song, "".join(cells), start, struck="."):
                if symbol == "x":
                    # A note just ahead of a chord belongs to it.
                    chord = _at(song.chords, min(beat + 0.5, stop - 0.01))
                    strong = beat % (2 if style.beats == 4 else 3) == 0 or stop - beat > 1
                    pitch = _next_pitch(chord, pitch, next(moves), strong, low, high)
                    if pitch % 12 not in _at(song.chords, stop - 0.01).tones:
                        stop = min(stop, max(chord.stop, beat + 0.5))
                    velocity = 86 + 6 * strong + SECTION_VELOCITY[section.name]
                    notes.append(Note(beat, stop - 0.04, pitch, velocity))
    ending, chord = song.sections[-1], song.chords[-1]
    rest = replace(chord, tones=chord.tones[:3])  # no seventh to rest on
    pitch = _next_pitch(rest, pitch, 0, True, low, high)
    return (*notes, Note(ending.start, ending.stop, pitch, 92))


def _next_pitch(chord: Chord, pitch: int, move: int, strong: bool, low: int, high: int) -> int:
    """Move along the chord's scale, back where the range ends; on strong beats, to a chord tone."""
    ladder = _pitches(chord.scale, low, high)
    rung = int(np.argmin([abs(p - pitch) for p in ladder]))
    if not 0 <= rung + move < len(ladder):
        move = -move
    if not strong:
        return ladder[rung + move]
    tones = _pitches(chord.tones, low, high)
    goal = ladder[rung + move]
    return min(tones, key=lambda p: abs(p - goal) + 2 * (p == pitch and move != 0))


def _backing(song: Song, tune: Sequence[Note]) -> tuple[Note, ...]:
    """Sing along in choruses, on the chord's next tone at least a third below the tune."""
    notes = []
    for note in tune:
        if _at(song.sections, note.start).name == "chorus":
            tones = _at(song.chords, (note.start + note.stop) / 2).tones
            below = _pitches(tones, note.pitch - 12, note.pitch - 3)[-1]
            notes.append(replace(note, pitch=below, velocity=note.velocity - 8))
    return tuple(notes)


def _perform(rng: Generator, song: Song, part: Part) -> Part:
    """Swing, hurry, drag and stress as people do; end a note where its pitch is struck again."""
    second = song.tempo / 60
    swing = song.style.swing

    def swung(beat: float) -> float:
        return float(np.interp(beat % 0.5, [0, 0.25, 0.5], [0, swing / 2, 0.5])) + beat // 0.5 / 2

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


# ---------------------------------------------------------------------------------------------
# Playing


def render(song: Song) -> dict[str, np.ndarray]:
    """Play a song, stem by stem.

    Parameters
    ----------
    song : Song
        As `compose` returns it.

    Returns
    -------
    dict of str to ndarray, float32, (n_samples, 2)
        A stereo stem at 44,100 Hz for each of bass, drums, other and vocals, all of one length.
        Their sum, the mixture, and each of them stay below 1.

    Raises
    ------
    MissingPackageError
        When a package of the extra ``band`` is not installed.
    """
    synthesiser, midi = _package("midirenderer"), _package("pretty_midi")
    soundfont = (files(midi) / "TimGM6mb.sf2").read_bytes()
    n_samples = int(song.duration * RATE)
    fade = np.ones((n_samples, 1))
    n_fade = int(FADE * RATE)
    fade[-n_fade:, 0] = 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, n_fade))
    # The soundfont's samples are partly off centre, its basses bright and its cymbals faint.
    centre = scipy.signal.butter(2, 20, "highpass", fs=RATE, output="sos")
    dark = scipy.signal.butter(1, 300, fs=RATE, output="sos")
    treble, poles = scipy.signal.butter(1, 2000, "highpass", fs=RATE)
    bright = scipy.signal.tf2sos(poles + 2 * treble, poles)
    tones = {"bass": np.vstack([centre, dark]), "drums": np.vstack([centre, bright])}
    stems = {}
    for source in SOURCES:
        wave = synthesiser.render_wave_from(soundfont, _midi_bytes(song, source, midi))
        audio, rate = soundfile.read(io.BytesIO(wave), dtype="float32", always_2d=True)
        audio = resample(audio, rate, RATE)[:n_samples]
        audio = scipy.signal.sosfilt(tones.get(source, centre), audio, axis=0) * fade
        stems[source] = audio * 10 ** (song.levels[source] / 20) / np.sqrt(np.mean(audio**2))
    peak = max(np.abs(audio).max() for audio in (*stems.values(), sum(stems.values())))
    return {source: (audio * PEAK / peak).astype(np.float32) for source, audio in stems.items()}


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"{name} is not installed; install it with: pip install 'sepkit[band]'"
        ) from error


def _midi_bytes(song: Song, source: str, midi: Any) -> bytes:
    """Write one stem's parts as a MIDI file that lasts the song's whole duration."""
    score = midi.PrettyMIDI(initial_tempo=song.tempo, resolution=960)
    beat = 60 / song.tempo
    for part in song.parts:
        if part.source != source:
            continue
        instrument = midi.Instrument(part.program, is_drum=source == "drums")
        instrument.notes = [
            midi.Note(note.velocity, note.pitch, note.start * beat, note.stop * beat)
            for note in part.notes
        ]
        # The synthesiser stops at the last event, hence one after the ring.
        instrument.control_changes = [
            midi.ControlChange(7, part.volume, 0.0),
            midi.ControlChange(10, part.pan, 0.0),
            midi.ControlChange(10, part.pan, song.duration + 0.1),
        ]
        if part.sung:
            instrument.pitch_bends = [
                midi.PitchBend(round(cents * 8192 / 200), time)
                for time, cents in _inflection(part.notes, beat)
            ]
        score.instruments.append(instrument)
    file = io.BytesIO()
    score.write(file)
    return file.getvalue()


def _inflection(notes: Sequence[Note], beat: float) -> Iterator[tuple[float, float]]:
    """Yield times in seconds and cents: a slide into each phrase, vibrato late in long notes."""
    silent_since = -1.0
    for note in notes:
        start, stop = note.start * beat, note.stop * beat
        slides = start - silent_since > 0.2
        silent_since = stop
        for time in np.arange(start, stop, 0.02):
            slide = -70 * max(0.0, 1 - (time - start) / 0.1) if slides else 0.0
            depth = 20 * np.clip((time - start - 0.3) / 0.4, 0, 1)
            yield float(time), slide + depth * np.sin(2 * np.pi * 5.5 * (time - start))
