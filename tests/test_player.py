"""The player's HTML: what it carries, what it links to, what it refuses."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from sepkit.errors import AudioError, ParameterError
from sepkit.notebook.media import COLOURS, SITE_DIRECTORY
from sepkit.notebook.player import FULL_SCALE, stem_player

RATE = 22050
LICENCE = "Nobody: Noise, CC0"
HALF_STEP = 0.5 / 2**15


class Elements(HTMLParser):
    """Every start tag, and the text inside of buttons."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of_class(self, name):
        return [a for _, a in self.found if name in (a.get("class") or "").split()]


@pytest.fixture(autouse=True)
def in_a_notebook(monkeypatch):
    monkeypatch.delenv(SITE_DIRECTORY, raising=False)


@pytest.fixture
def site(monkeypatch, tmp_path):
    directory = tmp_path / "_static" / "audio"
    monkeypatch.setenv(SITE_DIRECTORY, str(directory))
    return directory


def noise(seed, *, n_samples=RATE // 4, n_channels=2, peak=0.5):
    samples = np.random.default_rng(seed).uniform(-1, 1, (n_samples, n_channels))
    return (peak * samples / np.abs(samples).max()).astype(np.float32)


def nine_tracks():
    stems = {name: noise(seed) for seed, name in enumerate(("bass", "drums", "other", "vocals"))}
    estimates = {name: 0.8 * stem for name, stem in stems.items()}
    return {"Mixture": sum(stems.values()), "Estimates": estimates, "True stems": stems}


def embedded(html):
    """Audio of every track of a notebook's output, in order."""
    return [
        soundfile.read(io.BytesIO(base64.b64decode(track["data-audio"].partition(",")[2])))[0]
        for track in Elements(html).of_class("stem-track")
    ]


def test_notebook_output_carries_its_sound_to_half_a_16_bit_step():
    tracks = {"one": noise(1), "two": noise(2, n_channels=1)}
    one, two = embedded(stem_player(tracks, RATE).html)
    np.testing.assert_allclose(one, tracks["one"], rtol=0, atol=HALF_STEP)
    np.testing.assert_allclose(two[:, None], tracks["two"], rtol=0, atol=HALF_STEP)


def test_notebook_output_loads_nothing():
    player = stem_player(nine_tracks(), RATE, licence=LICENCE, spectrogram=True)
    html = player._repr_html_()
    assert "<script>" in html and "<style>" in html
    assert "customElements.define(" in html
    for _, attributes in Elements(html).found:
        for name in ("src", "href", "srcset", "poster"):
            assert name not in attributes
        for name in ("data-audio", "data-spectrogram"):
            assert attributes.get(name, "data:").startswith("data:")
    assert not re.search(r"https?://|@import|url\((?!\"\$)", html)


def test_one_gain_for_all_tracks_when_one_would_clip():
    loud, quiet = noise(1, peak=2.0), noise(2, peak=0.5)
    player = stem_player({"Loud": {"loud": loud}, "Quiet": {"quiet": quiet}}, RATE)
    heard = embedded(player.html)
    np.testing.assert_allclose(heard[0], FULL_SCALE * loud / 2, rtol=0, atol=HALF_STEP)
    np.testing.assert_allclose(heard[1], FULL_SCALE * quiet / 2, rtol=0, atol=HALF_STEP)
    assert "lowered by 6.0 dB" in player.html


def played(html):
    """Every track as it is heard, by group: at matched loudness, and at true levels."""
    (player,) = [a for tag, a in Elements(html).found if tag == "stem-player"]
    rows = Elements(html).of_class("stem-track")
    headroom = float(player["data-headroom"])
    gains = [10 ** (float(row.get("data-gain", 0)) / 20) for row in rows]
    sounds = [headroom * sound for sound in embedded(html)]
    matched = [gain * sound for gain, sound in zip(gains, sounds, strict=True)]
    return [row["aria-label"] for row in rows], matched, sounds


def n_clipped(sound):
    return int((np.abs(sound) > 1 - 2**-15).sum())


def test_batch_of_segments_mixed_anew_clips_nowhere_alone_or_together():
    # Segments side by side, each source at a level of its own: together they exceed full scale.
    rng = np.random.default_rng(0)
    levels = np.repeat(rng.uniform(0.1, 0.6, (4, 32)), 1000, axis=1)[..., None]
    sources = (levels * rng.uniform(-1, 1, (4, 32_000, 1))).astype(np.float32)
    assert n_clipped(sources.sum(axis=0)) > 0
    stems = dict(zip(("bass", "drums", "other", "vocals"), sources, strict=True))
    html = stem_player({"Mixture": sources.sum(axis=0), "Sources": stems}, RATE).html
    _, _, (mixture, *heard) = played(html)
    assert [n_clipped(sound) for sound in (mixture, sum(heard), *heard)] == [0] * 6


def test_sum_of_a_group_that_would_clip_lowers_all_but_not_their_files():
    halves = {"a": noise(1, peak=0.8), "b": noise(1, peak=0.8)}
    html = stem_player(halves, RATE).html
    np.testing.assert_allclose(embedded(html)[0], halves["a"], rtol=0, atol=HALF_STEP)
    _, _, heard = played(html)
    assert 0.999 < np.abs(sum(heard)).max() < 1
    assert "lowered by 4.1 dB" in html


def tone(decibels, *, seconds=1.0, channels=2, frequency=1000):
    """A sine whose peak is so many decibels from full scale."""
    wave = np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)
    return np.repeat(10 ** (decibels / 20) * wave[:, None], channels, axis=1).astype(np.float32)


def gains_of(tracks, **options):
    html = stem_player(tracks, RATE, **options).html
    rows = Elements(html).of_class("stem-track")
    return {row["aria-label"]: row.get("data-gain") for row in rows}


def test_stems_of_one_name_play_as_loud_as_the_true_one_by_the_library_s_own_measure():
    pyloudnorm = pytest.importorskip("pyloudnorm")
    tracks = {
        "Mixture": tone(-6),
        "Estimates": {"bass": tone(-26.4, frequency=100), "vocals": tone(-17.7)},
        "Others": {"bass": noise(1, n_samples=RATE, peak=0.2), "vocals": tone(-23)},
        "True stems": {"bass": tone(-20, frequency=100), "vocals": tone(-20)},
    }
    html = stem_player(tracks, RATE).html
    names, matched, true = played(html)
    meter = pyloudnorm.Meter(RATE)
    loudness = {
        n: meter.integrated_loudness(sound) for n, sound in zip(names, matched, strict=True)
    }
    for source in ("bass", "vocals"):
        wanted = loudness[f"{source} (True stems)"]
        assert loudness[f"{source} (Estimates)"] == pytest.approx(wanted, abs=0.06)
        assert loudness[f"{source} (Others)"] == pytest.approx(wanted, abs=0.06)
    before = meter.integrated_loudness(true[names.index("bass (Estimates)")])
    assert loudness["bass (True stems)"] - before == pytest.approx(6.4, abs=0.06)
    gains = gains_of(tracks)
    assert gains["Mixture"] is None and gains["vocals (True stems)"] == "0.0"
    assert gains["vocals (Estimates)"] == "-2.3" and gains["vocals (Others)"] == "3.0"
    assert ">+6.4 dB</span>" in html and ">−2.3 dB</span>" in html
    assert 'data-action="levels"' in html


def test_first_group_sets_the_loudness_where_no_stem_is_true():
    groups = {
        "One": {"a": tone(-20)},
        "Two": {"a": tone(-22), "b": tone(-22)},
        "Three": {"b": tone(-24)},
    }
    wanted = {"a (One)": "0.0", "a (Two)": "2.0", "b (Two)": "0.0", "b (Three)": "2.0"}
    assert gains_of(groups) == wanted
    assert gains_of(groups, reference="Two")["a (One)"] == "-2.0"


def test_one_channel_is_as_loud_as_two_that_are_alike():
    gains = gains_of({"One": {"a": tone(-20, channels=1)}, "Two": {"a": tone(-23)}})
    assert gains["a (Two)"] == "3.0"


def test_gain_has_a_limit():
    gains = gains_of({"One": {"a": tone(-20)}, "Two": {"a": tone(-50)}, "Three": {"a": tone(0)}})
    assert gains == {"a (One)": "0.0", "a (Two)": "12.0", "a (Three)": "-12.0"}


@pytest.mark.parametrize(
    "unmeasured", [0 * tone(0), tone(-100), tone(-20, seconds=0.3), tone(-20, channels=6)]
)
def test_what_cannot_be_measured_has_no_gain(unmeasured):
    audible = tone(-20, seconds=len(unmeasured) / RATE)
    for groups in ([unmeasured, audible], [audible, unmeasured]):
        html = stem_player({n: {"a": x} for n, x in zip("12", groups, strict=True)}, RATE).html
        assert "data-gain" not in html and "True levels" not in html


def test_rate_too_low_for_the_filters_has_no_gain():
    loud, soft = (np.sin(np.arange(8000))[:, None] * gain for gain in (0.5, 0.1))
    assert "data-gain" not in stem_player({"1": {"a": loud}, "2": {"a": soft}}, 4000).html


def test_matched_sound_does_not_clip():
    true = {"a": tone(-2), "b": tone(-30, frequency=900)}
    estimates = {"a": tone(-12), "b": noise(1, n_samples=RATE, peak=0.001)}
    spiky = tone(-14)
    spiky[RATE // 2] = 0.9  # as loud as a tone of -14 dB, and near full scale in one sample
    html = stem_player({"1": {"a": spiky}, "2": estimates, "True stems": true}, RATE).html
    names, matched, true = played(html)
    assert float(gains_of({"1": {"a": spiky}, "True stems": {"a": tone(-2)}})["a (1)"]) > 11
    for heard in (matched, true):
        groups = {}
        for name, sound in zip(names, heard, strict=True):
            group = name.split(" (")[1]
            groups[group] = groups.get(group, 0) + sound
        assert max(np.abs(sound).max() for sound in [*heard, *groups.values()]) < 1
    assert max(np.abs(sound).max() for sound in matched) > 0.99
    assert "All sounds are lowered by" in html


def test_players_without_namesakes_measure_nothing(monkeypatch):
    monkeypatch.setattr("sepkit.notebook.loudness.integrated_loudness", None)
    html = stem_player(nine_tracks()["True stems"], RATE).html
    assert "True levels" not in html and "data-gain" not in html and "equally loud" not in html


def test_full_scale_keeps_its_level():
    square = np.sign(noise(1)).astype(np.float32)
    player = stem_player({"square": square}, RATE)
    np.testing.assert_allclose(embedded(player.html)[0], square, rtol=0, atol=2 * HALF_STEP)
    assert "lowered" not in player.html


def test_page_of_a_site_links_to_files_that_hold_the_audio(site):
    tracks = nine_tracks()
    player = stem_player(tracks, RATE, licence=LICENCE, spectrogram=True)
    assert "base64" not in player.html and "<script" not in player.html
    rows = Elements(player.html).of_class("stem-track")
    stems = [tracks["Mixture"], *tracks["Estimates"].values(), *tracks["True stems"].values()]
    gain = FULL_SCALE / np.abs(tracks["Mixture"]).max()
    assert gain < 1 and len(rows) == 9
    for row, stem in zip(rows, stems, strict=True):
        audio, rate = soundfile.read(site / row["data-audio"])
        assert rate == RATE
        np.testing.assert_allclose(audio, gain * stem, rtol=0, atol=2 * HALF_STEP)
        assert (site / row["data-spectrogram"]).read_bytes().startswith(b"\x89PNG")


def test_file_is_shared_by_players_and_not_written_again(site):
    first = stem_player({"a": noise(1)}, RATE, licence=LICENCE)
    (file,) = site.iterdir()
    written = file.stat().st_mtime_ns
    second = stem_player({"b": noise(1), "c": noise(2)}, RATE, licence=LICENCE)
    assert file.name in first.html and file.name in second.html
    assert file.stat().st_mtime_ns == written
    assert sorted(path.suffix for path in site.iterdir()) == [".flac", ".flac"]


def test_same_samples_at_another_rate_are_another_file(site):
    stem_player({"a": noise(1)}, RATE, licence=LICENCE)
    stem_player({"a": noise(1)}, 2 * RATE, licence=LICENCE)
    assert len(list(site.iterdir())) == 2


def test_page_of_a_site_names_whose_sound_it_plays(site):
    with pytest.raises(ParameterError, match="licence"):
        stem_player({"a": noise(1)}, RATE)
    assert not site.exists()


def test_unwritable_folder_is_one_clear_line(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(SITE_DIRECTORY, str(tmp_path / "file" / "audio"))
    with pytest.raises(AudioError, match="cannot be written") as caught:
        stem_player({"a": noise(1)}, RATE, licence=LICENCE)
    assert "\n" not in str(caught.value)


def test_licence_line_is_shown_with_its_link():
    html = stem_player(
        {"a": noise(1)}, RATE, licence=LICENCE, licence_link="https://example.org/cc0?a&b"
    ).html
    assert f'<a href="https://example.org/cc0?a&amp;b" rel="license">{LICENCE}</a>' in html


def test_text_from_data_cannot_become_markup():
    attack = '"><script>alert(1)</script>'
    html = stem_player(
        {attack: {attack: noise(1), "b": noise(2)}}, RATE, title=attack, licence=attack
    ).html
    assert attack not in html
    assert "alert(1)" in html
    assert [tag for tag, _ in Elements(html).found].count("script") == 1


def test_link_that_runs_code_is_refused():
    with pytest.raises(ParameterError, match="not a web address"):
        stem_player({"a": noise(1)}, RATE, licence=LICENCE, licence_link="javascript:alert(1)")


def test_every_control_and_group_has_a_name_of_its_own():
    player = stem_player(nine_tracks(), RATE, title="Song", licence=LICENCE, spectrogram=True)
    html = player.html
    named = [
        attributes
        for tag, attributes in Elements(html).found
        if tag in ("button", "input") or attributes.get("role") == "group"
    ]
    # Song; play, position; nine tracks of a group, three controls; two headed groups, one button.
    names = [attributes["aria-label"] for attributes in named if "aria-label" in attributes]
    assert len(names) == len(set(names)) == 1 + 2 + 9 * (1 + 3) + 2 * (1 + 1)
    assert all(name.strip() for name in names)
    unnamed = [a["data-action"] for a in named if "aria-label" not in a]
    assert unnamed == ["loop", "more"]
    assert ">Loop</button>" in html and ">More</button>" in html
    assert "bass (Estimates): solo" in names and "bass (True stems): solo" in names


def test_only_the_first_group_sounds_at_the_start():
    def muted(tracks):
        rows = Elements(stem_player(tracks, RATE).html).of_class("stem-mute")
        return [row["aria-pressed"] for row in rows]

    assert muted(nine_tracks()) == ["false"] + 8 * ["true"]
    assert muted(nine_tracks()["True stems"]) == 4 * ["false"]


def test_waveform_shows_level_and_place_of_sound():
    click = np.zeros((RATE, 1), np.float32)
    click[RATE // 2] = 1.0
    loud, empty = (
        re.findall(r"M([\d.]+) (-?\d+)V(-?\d+)", path)
        for path in re.findall(r'<path d="(M0 [^"]*)"', stem_player(
            {"click": click, "silence": 0 * click}, RATE
        ).html)
    )  # fmt: skip
    tall = [float(column) for column, top, bottom in loud if int(bottom) - int(top) > 2]
    assert tall == [len(loud) / 2]
    assert all(0 <= int(top) < int(bottom) <= 100 for _, top, bottom in loud + empty)
    assert len(loud) == len(empty)


def test_spectrogram_is_brightest_at_the_tone(site):
    from matplotlib import image

    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)[:, None]
    html = stem_player(
        {"tone": tone, "soft": tone / 1000}, RATE, licence=LICENCE, spectrogram=True
    ).html
    tone_picture, soft_picture = (
        image.imread(site / row["data-spectrogram"])[..., :3].sum(2)
        for row in Elements(html).of_class("stem-track")
    )
    height = len(tone_picture)
    expected = height * (1 - np.log(1000 / 40) / np.log(RATE / 2 / 40))
    middle = tone_picture.shape[1] // 2
    assert abs(tone_picture[:, middle].argmax() - expected) <= 1
    assert soft_picture[:, middle].max() < 0.5 * tone_picture[:, middle].max()


def test_player_shows_itself_by_title():
    player = stem_player({"a": noise(1)}, RATE, title="Song")
    assert repr(player) == "StemPlayer('Song')"
    assert player._repr_html_() == player.html


def test_silence_of_one_sample_is_playable():
    assert embedded(stem_player({"a": np.zeros((1, 1), np.float32)}, RATE).html)[0].shape == (1,)


@pytest.mark.parametrize(
    ("tracks", "reason"),
    [
        ({}, "none to play"),
        ({"Stems": {}}, "none to play"),
        ({"a": np.zeros((0, 2), np.float32)}, "a: holds no samples"),
        ({"a": np.zeros(100, np.float32)}, r"a: float32 of shape \(100,\)"),
        ({"a": np.zeros((100, 2), np.int16)}, "a: int16"),
        ({"a": np.zeros((2, 100), np.float32)}, "a: 100 channels"),
        ({"a": noise(1), "b": noise(2)[:-1]}, "b: .* samples, but a has"),
        ({"Estimates": {"a": np.full((9, 1), np.nan)}}, r"a \(Estimates\): holds NaN"),
        ({"a": np.full((9, 1), np.inf)}, "a: holds NaN"),
        ({" ": noise(1)}, "no label"),
    ],
)  # fmt: skip
def test_unusable_track_is_one_clear_line(tracks, reason):
    with pytest.raises((AudioError, ParameterError), match=reason) as caught:
        stem_player(tracks, RATE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, 2999, 192_001])
def test_rate_that_browsers_refuse_is_refused(rate):
    with pytest.raises(ParameterError, match="rate="):
        stem_player({"a": noise(1)}, rate)


def test_sound_too_long_for_a_notebook_is_refused(monkeypatch):
    monkeypatch.setattr("sepkit.notebook.player.LARGEST_OUTPUT", 1000)
    with pytest.raises(AudioError, match="give an excerpt"):
        stem_player({"a": noise(1)}, RATE)


def test_what_is_named_after_a_source_has_its_colour():
    html = stem_player({"Vocals": noise(0), "The rest": noise(1)}, RATE).html
    colours = re.findall(r'style="--stem-colour: ([^"]+)"', html)
    assert colours[0] == COLOURS["vocals"] and colours[1] not in COLOURS.values()


def test_no_label_borrows_the_colour_of_a_source_that_it_does_not_name():
    labels = ["True vocals", "Estimate", "Difference", "Clipped", "Mixture", "the drums"]
    html = stem_player({label: noise(i) for i, label in enumerate(labels)}, RATE).html
    colours = re.findall(r'style="--stem-colour: ([^"]+)"', html)
    named = {0: "vocals", 4: "mixture", 5: "drums"}
    assert all(colours[i] == COLOURS[name] for i, name in named.items())
    assert not {*colours[1:4]} & {*COLOURS.values()} and len({*colours}) == 6


def test_a_stem_alone_in_its_group_has_its_colour_and_a_mixture_that_of_text():
    html = stem_player({"Mixture": noise(0), "True stems": {"vocals": noise(1)}}, RATE).html
    colours = re.findall(r'style="--stem-colour: ([^"]+)"', html)
    assert colours == ["currentColor", COLOURS["vocals"]]


def test_stems_have_the_same_colours_whatever_stands_above_them():
    stems = nine_tracks()["Estimates"]

    def colours(tracks):
        html = stem_player(tracks, RATE).html
        return dict(
            re.findall(r'aria-label="(\w+ \(Stems\))" style="--stem-colour: ([^"]+)"', html)
        )

    alone = colours({"Mixture": noise(0), "Stems": stems})
    assert len({*alone.values()}) == 4
    assert colours({"Loud": noise(0), "Soft": noise(1), "Stems": stems}) == alone
