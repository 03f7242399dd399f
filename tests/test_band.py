import hashlib
import os
import subprocess
import sys
import time
from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy.signal import welch

from sepkit.datasets import RATE, SOURCES
from sepkit.errors import MissingPackageError, ParameterError, SepkitError
from sepkit.study import band

CLOSE = 0.1  # beats: more than a musician's lateness and less than a step


@pytest.fixture(scope="module")
def songs():
    return [band.compose(1, i) for i in range(36)]


@pytest.fixture(scope="module")
def short_songs():
    """Give ten songs of one phrase each, with their stems."""
    shorts = [band.compose(2, i, duration=8) for i in range(10)]
    return [(song, band.render(song)) for song in shorts]


def part_of(song, source):
    return next(part for part in song.parts if part.source == source)


def tune_of(song):
    return next(part for part in song.parts if part.sung)


def on_grid(song, note):
    """Give the note's step as written, without the player's lateness and swing."""
    steps = song.style.steps
    swing = (song.style.swing - 0.5) / 2 if round(note.start * steps) % 2 else 0.0
    return round((note.start - swing) * steps) / steps


def chord_at(song, beat):
    return next((chord for chord in song.chords if beat < chord.stop), song.chords[-1])


def fills(song):
    """Give what the kit plays in the last beat of each section: places in the beat and drums."""
    return [
        [
            (round((note.start - section.stop) * song.style.steps), note.pitch)
            for note in part_of(song, "drums").notes
            if section.stop - 1 - CLOSE < note.start < section.stop - CLOSE
        ]
        for section in song.sections[:-1]
    ]


def bars(song):
    """Give the first and last sample of each bar."""
    edges = np.arange(0, song.sections[-1].stop + 1, song.style.beats) * 60 / song.tempo * RATE
    return list(pairwise(edges.astype(int)))


def decibels(audio):
    return 10 * np.log10(np.mean(np.square(audio)) + 1e-20)


def digest(stems):
    return hashlib.sha256(b"".join(stem.tobytes() for stem in stems.values())).hexdigest()


# The score.


@pytest.mark.parametrize("name", band.STYLES)
def test_every_line_of_a_groove_fills_its_bar_with_known_signs(name):
    style = band.STYLES[name]
    signs = {"kick": "Xxo.", "snare": "Xxo.", "hat": "xo.", "bass": "135678a._", "comp": "xo0123._"}
    for groove in style.grooves:
        for line, known in signs.items():
            tab = getattr(groove, line)
            assert len(tab) == style.beats * style.steps
            assert set(tab) <= set(known)
            assert line in ("kick", "snare", "hat") or tab[0] != "."


def test_a_song_does_not_depend_on_those_before_it(songs):
    assert band.compose(1, 3) == songs[3]
    assert band.compose(1, 3) != songs[2]


def test_following_songs_and_seeds_differ_in_key(songs):
    assert all(one.key != two.key for one, two in pairwise(songs))
    assert all(band.compose(seed).key != band.compose(seed + 1).key for seed in range(9))


def test_any_two_seeds_differ_in_tempo_patches_drum_pattern_and_fills():
    seeds = [band.compose(seed) for seed in range(1, 9)]
    for one, two in combinations(seeds, 2):
        assert one.tempo != two.tempo
        assert [part.program for part in one.parts] != [part.program for part in two.parts]
        grooves = [song.sections[1].groove for song in (one, two)]
        drums = [(groove.kick, groove.snare, groove.hat) for groove in grooves]
        assert drums[0] != drums[1]
        assert fills(one) != fills(two)


def test_songs_of_one_seed_and_style_differ(songs):
    alike = [pair for pair in combinations(songs, 2) if pair[0].style_name == pair[1].style_name]
    assert len(alike) == 9 * 6
    for one, two in alike:
        assert one.tempo != two.tempo
        assert one.sections[1].groove != two.sections[1].groove
        assert fills(one) != fills(two)


def test_nine_songs_have_nine_styles(songs):
    assert {song.style_name for song in songs[:9]} == set(band.STYLES)


def test_songs_last_twenty_to_thirty_seconds_unless_asked_otherwise(songs):
    assert all(20 < song.duration < 30 for song in songs)
    assert all(50 < band.compose(1, i, duration=60).duration < 70 for i in range(9))


def test_chords_follow_each_other_without_a_gap_and_end_at_home(songs):
    for song in songs:
        assert song.chords[0].start == 0
        assert all(one.stop == two.start for one, two in pairwise(song.chords))
        assert song.chords[-1].stop == song.sections[-1].stop
        assert song.chords[-1].tones[0] == song.tonic
        assert all(set(chord.tones) <= chord.scale for chord in song.chords)


def test_a_minor_dominant_takes_the_leading_note_in_place_of_its_neighbours():
    tones, scale = band._spell("V", band.MODES["minor"].scale, sevenths=False)
    assert tones == [7, 11, 2]
    assert 11 in scale and not {10, 0} & scale


def test_sevenths_come_from_the_scale_unless_the_numeral_says_so():
    major = band.MODES["major"].scale
    assert band._spell("I", major, sevenths=True)[0] == [0, 4, 7, 11]
    assert band._spell("V", major, sevenths=True)[0] == [7, 11, 2, 5]
    assert band._spell("IV7", major, sevenths=False)[0] == [5, 9, 0, 3]


def test_the_tune_keeps_to_the_scale_and_strong_beats_to_the_chord(songs):
    for song in songs:
        half_bar = 3 if song.style.beats == 3 else 2
        for note in tune_of(song).notes:
            beat = on_grid(song, note)
            here, ahead = chord_at(song, beat), chord_at(song, beat + 0.5)
            assert note.pitch % 12 in here.scale | ahead.scale
            if beat % half_bar == 0:
                assert note.pitch % 12 in here.tones


def test_no_note_of_the_tune_is_held_over_a_chord_that_it_clashes_with(songs):
    for song in songs:
        for note in tune_of(song).notes:
            beat = on_grid(song, note)
            last = chord_at(song, note.stop - 0.5 - CLOSE)
            if last.start > beat + 0.5:
                assert note.pitch % 12 in last.tones


def test_the_tune_is_singable(songs):
    leaps = []
    for song in songs:
        notes = tune_of(song).notes
        assert all(53 <= note.pitch <= 79 for note in notes)  # 175 to 784 Hz
        assert all(one.stop <= two.start for one, two in pairwise(notes))
        leaps += [abs(two.pitch - one.pitch) for one, two in pairwise(notes)]
        breaths = [two.start - one.stop for one, two in pairwise(notes)]
        phrases = [section for section in song.sections if section.name in ("verse", "chorus")]
        assert sum(breath * 60 / song.tempo > 0.15 for breath in breaths) >= len(phrases)
        assert len({note.pitch for note in notes}) >= 4
    assert np.mean(np.array(leaps) <= 2) > 0.55
    assert max(leaps) <= 12


def test_a_verse_that_returns_has_the_same_rhythm():
    song = band.compose(1, 0, duration=60)
    verses = [section for section in song.sections if section.name == "verse"]
    rhythms = [
        [
            round(on_grid(song, note) - verse.start, 3)
            for note in tune_of(song).notes
            if verse.start - CLOSE < note.start < verse.stop - CLOSE
        ]
        for verse in verses
    ]
    assert len(verses) > 1
    assert rhythms[0] and all(rhythm == rhythms[0] for rhythm in rhythms)


def test_the_bass_keeps_its_range_plays_one_note_at_a_time_and_sets_out_from_the_root(songs):
    for song in songs:
        notes = part_of(song, "bass").notes
        assert all(28 <= note.pitch <= 55 for note in notes)
        assert all(one.stop <= two.start for one, two in pairwise(notes))
        for chord in song.chords:
            if chord.start > notes[0].start - CLOSE:
                onset = [note for note in notes if on_grid(song, note) == chord.start]
                assert [note.pitch % 12 for note in onset] == [chord.tones[0]]


def test_kick_and_bass_lock(songs):
    for song in songs:
        bass = np.array([note.start for note in part_of(song, "bass").notes])
        groove_kicks = [
            note.start
            for note in part_of(song, "drums").notes
            if note.pitch == 36
            and song.sections[0].stop - CLOSE < note.start
            and all(not -4 - CLOSE < note.start - s.stop < -CLOSE for s in song.sections)
        ]
        assert np.mean([np.abs(bass - kick).min() < CLOSE for kick in groove_kicks]) > 0.8


def test_sections_begin_with_a_crash_and_end_with_a_fill(songs):
    for song in songs:
        drums = part_of(song, "drums").notes
        for section in song.sections[1:]:
            hits = [n.pitch for n in drums if abs(n.start - section.start) < CLOSE]
            assert set(hits) & {49, 57}
        assert all(sum(pitch != 36 for _, pitch in fill) >= 2 for fill in fills(song))


def test_drums_have_ghost_notes_and_strokes_of_uneven_force(songs):
    for song in songs:
        snare = [note.velocity for note in part_of(song, "drums").notes if note.pitch == 38]
        assert min(snare) < 55 < max(snare)
        assert len(set(snare)) > 5


def test_no_part_strikes_a_pitch_that_it_still_holds(songs):
    for song in songs:
        for part in song.parts:
            notes = sorted(part.notes, key=lambda note: (note.pitch, note.start))
            assert all(note.start < note.stop and 0 < note.velocity < 128 for note in notes)
            for one, two in pairwise(notes):
                assert one.pitch != two.pitch or one.stop < two.start


def test_chords_move_by_small_steps(songs):
    for song in songs:
        voicings = list(band._voicings(song, 0).values())
        moves = [abs(np.mean(two) - np.mean(one)) for one, two in pairwise(voicings)]
        assert max(moves) < 5
        assert all(52 <= pitch <= 76 for voicing in voicings for pitch in voicing)


@pytest.mark.parametrize("numbers", [(-1, 0), (0, -1)])
def test_negative_numbers_are_refused(numbers):
    with pytest.raises(ParameterError, match="from 0 up"):
        band.compose(*numbers)


# The sound.


def test_stems_are_float32_stereo_of_one_length_in_the_order_of_the_sources(short_songs):
    for song, stems in short_songs:
        assert tuple(stems) == SOURCES
        for stem in stems.values():
            assert stem.dtype == np.float32
            assert stem.shape == (int(song.duration * RATE), 2)
            assert np.isfinite(stem).all()
        assert all(np.abs(stems[s][:, 0] - stems[s][:, 1]).max() > 1e-3 for s in SOURCES)


def test_neither_mixture_nor_stem_reaches_full_scale(short_songs):
    for _, stems in short_songs:
        peaks = [np.abs(sound).max() for sound in (*stems.values(), sum(stems.values()))]
        assert 0.85 < max(peaks) < 0.95


def test_nothing_is_clipped(short_songs):
    for _, stems in short_songs:
        for stem in stems.values():
            at_peak = np.abs(stem) > 0.999 * np.abs(stem).max()
            assert not (at_peak[1:] & at_peak[:-1] & (stem[1:] == stem[:-1])).any()


def test_no_stem_is_off_centre(short_songs):
    for _, stems in short_songs:
        assert all(np.abs(stem.mean(axis=0)).max() < 1e-4 for stem in stems.values())


def test_each_stem_sounds_in_at_least_half_of_the_bars(short_songs):
    for song, stems in short_songs:
        for stem in stems.values():
            sounding = [decibels(stem[start:stop]) > -50 for start, stop in bars(song)]
            assert np.mean(sounding) >= 0.5


def test_no_stem_drowns_another(short_songs):
    for _, stems in short_songs:
        levels = [decibels(stem) for stem in stems.values()]
        assert max(levels) - min(levels) < 12


def test_songs_die_away_without_a_cut(short_songs):
    for song, stems in short_songs:
        last = max(note.stop for part in song.parts for note in part.notes) * 60 / song.tempo
        assert song.duration - last > 1.5
        for stem in stems.values():
            assert np.abs(stem[-10:]).max() < 1e-4
            assert decibels(stem[-RATE // 20 :]) < -60


def test_each_stem_has_its_own_part_of_the_spectrum(short_songs):
    for _, stems in short_songs:
        powers = {}
        for source, stem in stems.items():
            frequencies, powers[source] = welch(stem.mean(axis=1), RATE, nperseg=8192)
        low = {s: power[frequencies < 250].sum() / power.sum() for s, power in powers.items()}
        assert low["bass"] > 0.6
        assert low["other"] < 0.5 and low["vocals"] < 0.5
        assert powers["drums"][frequencies > 2000].sum() > 0.1 * powers["drums"].sum()
        assert 150 < frequencies[powers["vocals"].argmax()] < 2000


def test_the_sound_has_the_pitch_and_the_time_of_the_score(short_songs):
    for song, stems in short_songs:
        last = part_of(song, "bass").notes[-1]
        start = int((last.start * 60 / song.tempo + 0.1) * RATE)
        sound = stems["bass"][start : start + RATE].mean(axis=1) * np.hanning(RATE)
        spectrum = np.abs(np.fft.rfft(sound, 8 * RATE))
        harmonic = spectrum.argmax() / 8 / (440 * 2 ** ((last.pitch - 69) / 12))
        assert abs(harmonic - round(harmonic)) < 0.03 * harmonic
        kicks = [n.start for n in part_of(song, "drums").notes if n.pitch == 36]
        rises = []
        for kick in kicks:
            at = int(kick * 60 / song.tempo * RATE)
            if at > RATE // 20:
                window = stems["drums"][at - RATE // 40 : at + RATE // 20]
                rises.append(decibels(window[RATE // 40 :]) - decibels(window[: RATE // 40]))
        assert np.median(rises) > 6


def test_the_same_song_gives_the_same_bytes_in_another_process(short_songs):
    script = (
        "import hashlib; from sepkit import band;"
        "stems = band.render(band.compose(2, 0, duration=8));"
        "print(hashlib.sha256(b''.join(s.tobytes() for s in stems.values())).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    song, stems = short_songs[0]
    assert digest(stems) == other.stdout.strip() == digest(band.render(song))


def test_rendering_is_many_times_faster_than_the_music(songs):
    start = time.process_time()  # which other processes do not lengthen
    band.render(band.compose(1, 0))
    assert time.process_time() - start < songs[0].duration / 10


@pytest.mark.parametrize("package", ["midirenderer", "pretty_midi"])
def test_a_missing_package_is_named_with_its_remedy_in_one_line(songs, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"{package}.*pip install 'sepkit\[band\]'") as e:
        band.render(songs[0])
    assert isinstance(e.value, SepkitError)
    assert "\n" not in str(e.value)


def test_composing_needs_neither_package():
    script = (
        "import sys; from sepkit import band; band.compose(1);"
        "assert not {'midirenderer', 'pretty_midi', 'mido'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
