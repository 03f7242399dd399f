import sys
from itertools import combinations, pairwise

import numpy as np
import pytest
from helpers import one_line
from scipy.signal import welch

from sepkit.errors import MissingPackageError, ParameterError
from sepkit.study import band
from sepkit.tracks import RATE, SOURCES

MODES = band.TABLES["modes"]
CLOSE = 0.1  # [beats], more than the variation of timing and less than a step


@pytest.fixture(scope="module")
def songs():
    return [band.compose(1, i) for i in range(36)]


@pytest.fixture(scope="module")
def rendered():
    """Songs of one phrase each with their stems: soul, a waltz and reggae."""
    pytest.importorskip("midirenderer")
    pytest.importorskip("pretty_midi")
    shorts = [band.compose(2, i, duration=8) for i in (1, 4, 6)]
    return [(song, band.render(song)) for song in shorts]


def part_of(song, source):
    return next(part for part in song.parts if part.source == source)


def melody_of(song):
    return next(part for part in song.parts if part.sung)


def on_grid(song, note):
    """Beat of a note as written, without swing and variation of timing."""
    steps = song.style.steps
    swing = (song.style.swing - 0.5) / 2 if round(note.start * steps) % 2 else 0.0
    return round((note.start - swing) * steps) / steps


def chord_at(song, beat):
    return next((chord for chord in song.chords if beat < chord.stop), song.chords[-1])


def fills(song):
    """Step and drum of each stroke in the last beat of each section."""
    return [
        [
            (round((note.start - section.stop) * song.style.steps), note.pitch)
            for note in part_of(song, "drums").notes
            if section.stop - 1 - CLOSE < note.start < section.stop - CLOSE
        ]
        for section in song.sections[:-1]
    ]


def bars(song):
    """First and last sample of each bar."""
    edges = np.arange(0, song.sections[-1].stop + 1, song.style.beats) * 60 / song.tempo * RATE
    return list(pairwise(edges.astype(int)))


def decibels(audio):
    return 10 * np.log10(np.mean(np.square(audio)) + 1e-20)


# Score


@pytest.mark.parametrize("style", band.STYLES.values(), ids=band.STYLES)
def test_patterns_of_a_groove_fill_its_bar_with_known_symbols(style):
    symbols = {
        "kick": "Xxo.", "snare": "Xxo.", "hat": "xo.", "bass": "135678a._", "comp": "xo0123._",
    }  # fmt: skip
    for groove in style.grooves:
        assert set(groove) == set(symbols)
        for line, pattern in groove.items():
            assert len(pattern) == style.beats * style.steps
            assert set(pattern) <= set(symbols[line])
            assert line not in ("bass", "comp") or pattern[0] != "."


def test_a_song_depends_on_seed_and_index_alone(songs):
    assert band.compose(1, 3) == songs[3]
    assert band.compose(1, 3) != songs[2]


def test_the_first_song_is_the_one_of_earlier_versions():
    song = band.compose(0)
    assert (song.style.name, song.tonic, song.mode, song.tempo) == ("reggae", 0, "minor", 76.9)
    assert [part.program for part in song.parts] == [39, 8, 0, 17, 52, 52]
    melody = [note.pitch for note in melody_of(song).notes]
    assert melody[:12] == [67, 68, 67, 67, 70, 72, 70, 67, 68, 67, 67, 68]
    strokes = [(note.start, note.pitch, note.velocity) for note in part_of(song, "drums").notes]
    expected = [(0.0, 42, 107), (0.0008, 36, 86), (0.2807, 38, 39), (0.496, 42, 92)]
    np.testing.assert_allclose(strokes[:4], expected, atol=1e-4)


def test_consecutive_songs_and_seeds_differ_in_key(songs):
    assert all(one.tonic != two.tonic for one, two in pairwise(songs))
    seeds = [band.compose(seed) for seed in range(10)]
    assert all(one.tonic != two.tonic for one, two in pairwise(seeds))


def drum_patterns(song):
    groove = song.sections[1].groove
    return groove["kick"], groove["snare"], groove["hat"]


def test_any_two_seeds_differ_in_tempo_programs_drum_pattern_and_fills():
    for one, two in combinations([band.compose(seed) for seed in range(1, 9)], 2):
        assert one.tempo != two.tempo
        assert [part.program for part in one.parts] != [part.program for part in two.parts]
        assert drum_patterns(one) != drum_patterns(two)
        assert fills(one) != fills(two)


def test_songs_of_one_style_differ_in_tempo_groove_and_fills(songs):
    alike = [pair for pair in combinations(songs, 2) if pair[0].style == pair[1].style]
    assert len(alike) == 9 * 6
    for one, two in alike:
        assert one.tempo != two.tempo
        assert one.sections[1].groove != two.sections[1].groove
        assert fills(one) != fills(two)


def test_nine_songs_have_nine_styles(songs):
    assert {song.style.name for song in songs[:9]} == set(band.STYLES)


def test_songs_last_about_as_long_as_asked(songs):
    assert all(20 < song.duration < 30 for song in songs)
    assert all(50 < band.compose(1, i, duration=60).duration < 70 for i in range(9))


def test_chords_are_contiguous_and_end_on_the_tonic(songs):
    for song in songs:
        assert song.chords[0].start == 0
        assert all(one.stop == two.start for one, two in pairwise(song.chords))
        assert song.chords[-1].stop == song.sections[-1].stop
        assert song.chords[-1].tones[0] == song.tonic
        assert all(set(chord.tones) <= chord.scale for chord in song.chords)


def test_the_dominant_in_minor_replaces_the_neighbours_of_the_leading_note():
    tones, scale = band._spell("V", 0, MODES["minor"]["scale"], sevenths=False)
    assert tones == (7, 11, 2)
    assert 11 in scale and not {10, 0} & scale


@pytest.mark.parametrize(
    ("numeral", "tonic", "sevenths", "tones"),
    [
        ("I", 0, True, (0, 4, 7, 11)),
        ("V", 0, True, (7, 11, 2, 5)),
        ("V", 2, True, (9, 1, 4, 7)),
        ("ii", 0, False, (2, 5, 9)),
        ("IV7", 0, False, (5, 9, 0, 3)),
        ("bVII", 0, False, (10, 2, 5)),
    ],
)
def test_tones_of_a_numeral_in_major(numeral, tonic, sevenths, tones):
    assert band._spell(numeral, tonic, MODES["major"]["scale"], sevenths)[0] == tones


def test_the_melody_keeps_to_the_scale_and_on_strong_beats_to_the_chord(songs):
    for song in songs:
        half_bar = 3 if song.style.beats == 3 else 2
        for note in melody_of(song).notes:
            beat = on_grid(song, note)
            here, ahead = chord_at(song, beat), chord_at(song, beat + 0.5)
            assert note.pitch % 12 in here.scale | ahead.scale
            if beat % half_bar == 0:
                assert note.pitch % 12 in here.tones


def test_no_note_of_the_melody_is_held_into_a_chord_it_is_foreign_to(songs):
    for song in songs:
        for note in melody_of(song).notes:
            beat = on_grid(song, note)
            last = chord_at(song, note.stop - 0.5 - CLOSE)
            if last.start > beat + 0.5:
                assert note.pitch % 12 in last.tones


def test_the_melody_is_singable(songs):
    leaps = []
    for song in songs:
        notes = melody_of(song).notes
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
            for note in melody_of(song).notes
            if verse.start - CLOSE < note.start < verse.stop - CLOSE
        ]
        for verse in verses
    ]
    assert len(verses) > 1
    assert rhythms[0] and all(rhythm == rhythms[0] for rhythm in rhythms)


def test_the_bass_is_monophonic_in_range_and_starts_each_chord_on_the_root(songs):
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


def test_the_snare_has_ghost_notes_and_varied_velocities(songs):
    for song in songs:
        snare = [note.velocity for note in part_of(song, "drums").notes if note.pitch == 38]
        assert min(snare) < 55 < max(snare)
        assert len(set(snare)) > 5


def test_no_part_repeats_a_pitch_that_still_sounds(songs):
    for song in songs:
        for part in song.parts:
            notes = sorted(part.notes, key=lambda note: (note.pitch, note.start))
            assert all(note.start < note.stop and 0 < note.velocity < 128 for note in notes)
            for one, two in pairwise(notes):
                assert one.pitch != two.pitch or one.stop < two.start


def test_voicings_move_by_small_steps(songs):
    for song in songs:
        voicings = list(band._voicings(song, 0).values())
        moves = [abs(np.mean(two) - np.mean(one)) for one, two in pairwise(voicings)]
        assert max(moves) < 5
        assert all(52 <= pitch <= 76 for voicing in voicings for pitch in voicing)


@pytest.mark.parametrize("numbers", [(-1, 0), (0, -1)])
def test_compose_needs_nonnegative_numbers(numbers):
    with pytest.raises(ParameterError, match="from 0 up"):
        band.compose(*numbers)


# Rendering


def test_stems_are_float32_stereo_of_one_length_in_the_order_of_the_sources(rendered):
    for song, stems in rendered:
        assert tuple(stems) == SOURCES
        for stem in stems.values():
            assert stem.dtype == np.float32
            assert stem.shape == (int(song.duration * RATE), 2)
            assert np.isfinite(stem).all()
        assert all(np.abs(stems[s][:, 0] - stems[s][:, 1]).max() > 1e-3 for s in SOURCES)


def test_neither_mixture_nor_stem_reaches_full_scale(rendered):
    for _, stems in rendered:
        peaks = [np.abs(sound).max() for sound in (*stems.values(), sum(stems.values()))]
        assert 0.85 < max(peaks) < 0.95


def test_no_stem_is_clipped(rendered):
    for _, stems in rendered:
        for stem in stems.values():
            at_peak = np.abs(stem) > 0.999 * np.abs(stem).max()
            assert not (at_peak[1:] & at_peak[:-1] & (stem[1:] == stem[:-1])).any()


def test_no_stem_has_a_dc_offset(rendered):
    for _, stems in rendered:
        assert all(np.abs(stem.mean(axis=0)).max() < 1e-4 for stem in stems.values())


def test_each_stem_sounds_in_at_least_half_of_the_bars(rendered):
    for song, stems in rendered:
        for stem in stems.values():
            sounding = [decibels(stem[start:stop]) > -50 for start, stop in bars(song)]
            assert np.mean(sounding) >= 0.5


def test_no_stem_drowns_another(rendered):
    for _, stems in rendered:
        levels = [decibels(stem) for stem in stems.values()]
        assert max(levels) - min(levels) < 12


def test_songs_decay_to_silence(rendered):
    for song, stems in rendered:
        last = max(note.stop for part in song.parts for note in part.notes) * 60 / song.tempo
        assert song.duration - last > 1.5
        for stem in stems.values():
            assert np.abs(stem[-10:]).max() < 1e-4
            assert decibels(stem[-RATE // 20 :]) < -60


def test_the_spectrum_of_a_stem_is_that_of_its_source(rendered):
    for _, stems in rendered:
        powers = {}
        for source, stem in stems.items():
            frequencies, powers[source] = welch(stem.mean(axis=1), RATE, nperseg=8192)
        low = {s: power[frequencies < 250].sum() / power.sum() for s, power in powers.items()}
        assert low["bass"] > 0.6
        assert low["other"] < 0.5 and low["vocals"] < 0.5
        assert powers["drums"][frequencies > 2000].sum() > 0.1 * powers["drums"].sum()
        assert 150 < frequencies[powers["vocals"].argmax()] < 2000


def test_the_sound_has_the_pitch_and_the_time_of_the_score(rendered):
    for song, stems in rendered:
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


def test_rendering_is_deterministic(rendered):
    song, stems = rendered[1]
    for source, stem in band.render(song).items():
        np.testing.assert_array_equal(stem, stems[source])


def test_composing_is_the_same_in_another_process_and_needs_no_optional_package(songs, python):
    script = (
        "import sys; from sepkit.study import band; print(band.compose(1));"
        "assert not {'midirenderer', 'pretty_midi', 'mido'} & set(sys.modules)"
    )
    assert python("-c", script, PYTHONHASHSEED="7").stdout.strip() == repr(songs[0])


@pytest.mark.parametrize("package", ["midirenderer", "pretty_midi"])
def test_rendering_without_a_package_names_the_extra(songs, monkeypatch, package):
    if package == "pretty_midi":
        pytest.importorskip("midirenderer")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as error:
        band.render(songs[0])
    one_line(error, package, "pip install 'sepkit[band]'")


# Tracks


def test_band_songs_are_those_of_the_seed_and_the_index(monkeypatch):
    monkeypatch.setattr(band, "render", lambda song: song)
    tracks = band.band_songs(3, seed=4)
    assert [track.name for track in tracks] == [f"sepkit band - Song 4.{i}" for i in range(3)]
    assert [track.stems for track in tracks] == [band.compose(4, i) for i in range(3)]
    assert {(track.rate, track.licence, track.files) for track in tracks} == {(RATE, "MIT", ())}


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (-1, 0), (1, -1)])
def test_band_songs_need_a_positive_number_and_a_nonnegative_seed(n, seed):
    with pytest.raises(ParameterError) as error:
        band.band_songs(n, seed)
    one_line(error, n, seed)
