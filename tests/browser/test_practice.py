"""What stands behind "More" of a player, in Chromium: loop, tempo, files, spectrograms, keys."""

import base64
import io
import shutil

import numpy as np
import pytest
import soundfile
import test_browser
from matplotlib import image
from test_browser import (
    BYTES,
    RATE,
    STATIC,
    STEMS,
    assert_plays,
    audible,
    button,
    document,
    nine_tracks,
    play,
    rendered,
    seconds,
    wait_for,
)

from sepkit.notebook.media import SITE_DIRECTORY
from sepkit.notebook.player import empty_player, stem_player

chromium, page, serve = test_browser.chromium, test_browser.page, test_browser.serve

FREQUENCY = 441.0
ATTACKS = 0.1 + 0.125 * np.arange(15) + 0.011 * (np.arange(15) % 3)


def tone():
    return 0.3 * np.sin(2 * np.pi * FREQUENCY * np.arange(2 * RATE) / RATE)


def attacks():
    """Short sounds that begin at once, above a soft tone."""
    sound = tone() / 15
    for attack in ATTACKS:
        time = np.arange(RATE // 30) / RATE
        start = round(attack * RATE)
        sound[start : start + len(time)] += (
            0.6 * np.exp(-time / 0.005) * np.sin(2 * np.pi * 2500 * time)
        )
    return sound


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Make a site whose one page has players of nine tracks, of four, and of two sounds."""
    folder = tmp_path_factory.mktemp("practice")
    shutil.copytree(STATIC, folder / "_static")
    tracks, licence = nine_tracks(), "Nobody: Noise, CC0"
    sounds = {"tone": tone()[:, None], "attacks": attacks()[:, None]}
    stems = tracks["True stems"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SITE_DIRECTORY, str(folder / "_static" / "audio"))
        outputs = [
            stem_player(tracks, RATE, title="Nine", licence=licence),
            stem_player(stems, RATE, title="Four", licence=licence),
            stem_player(stems, RATE, title="Drawn", licence=licence, spectrogram=True),
            stem_player(sounds, RATE, title="Sounds", licence=licence),
        ]
    (folder / "chapter").mkdir()
    (folder / "chapter" / "page.html").write_text(
        document(
            "<main><h1>Players</h1>" + "".join(output.html for output in outputs) + "</main>",
            '<meta name="color-scheme" content="light dark">'
            '<link rel="stylesheet" href="../_static/stem_player.css">'
            '<script src="../_static/stem_player.js?v=1"></script>',
        )
    )
    return folder


def named(page, title):
    return page.get_by_role("group", name=f"Stem player: {title}", exact=True)


def opened(page, title):
    player = named(page, title)
    button(player, "More").click()
    button(player, "Set A").wait_for()
    return player


@pytest.fixture
def served(page, site, serve):
    page.goto(serve(site) + "/chapter/page.html")
    return page


def at(player, time):
    slider(player, "Position").fill(str(time))


def slider(player, name):
    return player.get_by_role("slider", name=name)


def loop(player, a, b):
    at(player, a)
    button(player, "Set A").click()
    at(player, b)
    button(player, "Set B").click()


def set_tempo(player, tempo):
    slider(player, "Tempo").fill(str(tempo))
    assert player.locator(".stem-value").inner_text() == f"{100 * tempo:.0f} %"


def passage(player):
    return player.evaluate("player => player.passage")


RECORD = """player => {
  player.pieces = [];
  const start = AudioBufferSourceNode.prototype.start;
  AudioBufferSourceNode.prototype.start = function (when) {
    player.pieces.push([when, this.buffer.getChannelData(0).slice()]);
    start.apply(this, arguments);
  };
}"""
PIECES = """player => player.pieces.map(([when, samples]) => {
  const bytes = new Uint8Array(samples.buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768)
    text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return [when, btoa(text)];
})"""


def test_a_loop_plays_its_passage_again_and_again_to_the_sample(served):
    four = opened(served, "Four")
    loop(four, 0.5, 0.9)
    assert four.get_by_role("status").inner_text() == "Loop from 0:00.5 to 0:00.9"
    assert button(four, "Loop").get_attribute("aria-pressed") == "true"
    four.evaluate(RECORD)
    play(four)
    positions = four.evaluate(
        """async (player) => {
          const seen = [];
          for (let end = performance.now() + 1500; performance.now() < end; ) {
            await new Promise(requestAnimationFrame);
            seen.push(player.position);
          }
          return seen;
        }"""
    )
    assert 0.49 <= min(positions) < 0.53 and 0.87 < max(positions) <= 0.91
    assert (np.diff(positions) < -0.3).sum() >= 3
    pieces = [
        (when, np.frombuffer(base64.b64decode(text), "<f4")) for when, text in four.evaluate(PIECES)
    ]
    part = slice(round(0.5 * RATE), round(0.9 * RATE))
    inside = slice(RATE // 100, -RATE // 100)  # but for the fades, in which nothing steps
    for track, name in enumerate(STEMS):
        own = pieces[track :: len(STEMS)]
        whens = np.array([when for when, _ in own])
        lengths = [len(samples) for _, samples in own]
        np.testing.assert_allclose(np.diff(whens) * RATE, lengths[:-1], atol=1e-3)
        heard = np.concatenate([samples for _, samples in own])
        rounds = heard[: len(heard) // 8820 * 8820].reshape(-1, 8820)
        assert len(rounds) >= 4 and part.stop - part.start == 8820
        wanted = nine_tracks()["True stems"][name][part, 0]
        for round_ in rounds:
            np.testing.assert_allclose(round_[inside], wanted[inside], rtol=0, atol=1e-4)
        assert np.abs(rounds[1:, 0]).max() == np.abs(rounds[:, -1]).max() == 0


def test_marks_are_set_moved_and_cleared_by_keys(served):
    four = named(served, "Four")
    assert not [url for url in served.requested if "practice" in url]
    at(four, 0.6)
    slider(four, "Position").press("a")  # what it needs is loaded now
    wait_for(served, lambda: passage(four) == [pytest.approx(0.6), 2])
    at(four, 1.2)
    slider(four, "Position").press("b")
    wait_for(served, lambda: passage(four) == [pytest.approx(0.6), pytest.approx(1.2)])
    a, b = slider(four, "A: start of the loop"), slider(four, "B: end of the loop")
    a.press("ArrowRight")
    b.press("ArrowLeft")
    b.press("ArrowLeft")
    assert passage(four) == [pytest.approx(0.65), pytest.approx(1.1)]
    assert b.get_attribute("aria-valuetext") == "0:01.1"
    b.press("Home")  # before A, which then is the start
    assert passage(four) == [0, pytest.approx(0.1)]
    button(four, "More").click()
    clear = button(four, "Clear")
    clear.focus()
    clear.press("Enter")
    assert passage(four) is None and a.count() == 0 and not clear.is_visible()
    assert button(four, "Loop").get_attribute("aria-pressed") == "false"


def test_marks_are_dragged(served):
    four = opened(served, "Four")
    loop(four, 0.5, 1.5)
    play(four)
    bar = four.locator(".stem-seek").bounding_box()
    mark = slider(four, "A: start of the loop").bounding_box()
    x, y = bar["x"] + 7 + 0.25 * (bar["width"] - 14), mark["y"] + mark["height"] / 2
    served.mouse.move(x, y)
    served.mouse.down()
    served.mouse.move(x + 0.25 * (bar["width"] - 14), y, steps=5)
    served.mouse.up()
    assert passage(four) == [pytest.approx(1, abs=0.03), pytest.approx(1.5)]
    wait_for(served, lambda: 1 <= seconds(four) < 1.2)
    assert four.evaluate("player => player.started")


def test_b_at_the_place_that_plays_goes_back_to_a(served):
    four = opened(served, "Four")
    at(four, 0.4)
    button(four, "Set A").click()
    play(four)
    wait_for(served, lambda: seconds(four) > 0.8)
    button(four, "Set B").click()
    wait_for(served, lambda: seconds(four) < 0.8)
    end = passage(four)[1]
    assert 0.8 <= end < 1.6
    at(four, 1.9)  # beyond B
    wait_for(served, lambda: 0.4 <= seconds(four) < 0.8)
    # Without the loop, what plays leaves the passage.
    button(four, "Loop").click()
    wait_for(served, lambda: seconds(four) > end)


def crossings(samples):
    """Times at which a sound rises through zero, between samples too [samples]."""
    rises = np.flatnonzero((samples[:-1] < 0) & (samples[1:] >= 0))
    return rises - samples[rises] / (samples[rises + 1] - samples[rises])


@pytest.mark.parametrize("tempo", [0.5, 0.75, 1.5])
def test_another_tempo_takes_its_time_and_keeps_the_pitch(served, tempo):
    sounds = opened(served, "Sounds")
    button(sounds, "tone: solo").click()
    set_tempo(sounds, tempo)
    mix, rate = rendered(sounds)
    assert len(mix) == round(2 * RATE / tempo)
    heard = crossings(mix[rate // 20 : -rate // 20, 0].astype(float))
    frequency = rate * (len(heard) - 1) / (heard[-1] - heard[0])
    assert abs(1200 * np.log2(frequency / FREQUENCY)) < 1
    # No wave is cut or doubled: all periods are alike, to a sample.
    assert np.abs(np.diff(heard) - rate / FREQUENCY).max() < 1
    assert np.abs(mix[rate // 20 : -rate // 20]).max() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("tempo", [0.5, 0.75, 1.5])
def test_attacks_are_neither_doubled_nor_lost_nor_late(served, tempo):
    sounds = opened(served, "Sounds")
    button(sounds, "attacks: solo").click()
    set_tempo(sounds, tempo)
    mix, rate = rendered(sounds)
    loud = np.flatnonzero(np.abs(mix[:, 0]) > 0.2) / rate
    begun = loud[np.diff(loud, prepend=-1) > 0.015]
    assert len(begun) == len(ATTACKS)
    np.testing.assert_allclose(begun, ATTACKS / tempo, atol=0.05)


def test_playing_at_half_tempo_takes_twice_as_long(served):
    four = opened(served, "Four")
    set_tempo(four, 0.5)
    at(four, 0.5)
    play(four)
    wait_for(served, lambda: four.evaluate("player => player.position") > 0.6)
    pace = four.evaluate(
        """async (player) => {
          const [from, since] = [player.position, player.tracks.context.currentTime];
          await new Promise((resolve) => setTimeout(resolve, 1500));
          return (player.position - from) / (player.tracks.context.currentTime - since);
        }"""
    )
    assert pace == pytest.approx(0.5, abs=0.01)
    wait_for(served, lambda: button(four, "Play").is_visible())
    assert seconds(four) == 0


def test_stems_add_up_to_the_mixture_at_any_tempo(served):
    opened(served, "Four")
    largest = served.evaluate(
        """() => {
          const length = 22050;
          const one = Float32Array.from({ length }, (_, i) => Math.sin(i / 20) / 3);
          const two = Float32Array.from({ length }, (_, i) => Math.sin(i * i / 1e5) / 3);
          const tracks = [one, two, one.map((x, i) => x + two[i])];
          const read = (track, channel, start, stop) => tracks[track].subarray(start, stop);
          const sound = { rate: 22050, length, n_channels: 1, ready: length, read };
          const stretch = new sepkitPractice.Stretch(sound, 0.7, () => [0, 0, 1], 0, length);
          const [[a], [b], [sum]] = stretch.read(30000);
          return Math.max(...sum.map((x, i) => Math.abs(x - a[i] - b[i])));
        }"""
    )
    assert largest < 1e-6


def saved(player, what, tmp_path):
    player.get_by_role("combobox", name="What to save").select_option(what)
    with player.page.expect_download() as download:
        button(player, "Save").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_the_mix_that_is_heard_is_saved(served, tmp_path):
    four, stems = opened(served, "Four"), nine_tracks()["True stems"]
    button(four, "drums: mute").click()
    slider(four, "bass: volume").fill("0.5")
    path = saved(four, "mix", tmp_path)
    assert path.name == "Four - mix.wav"
    mix, rate = soundfile.read(path)
    assert rate == RATE
    expected = 0.5 * stems["bass"] + stems["other"] + stems["vocals"]
    assert_plays(mix, expected, 1e-4)
    loop(four, 0.5, 1.5)
    path = saved(four, "mix", tmp_path)
    assert path.name == "Four - mix, 0.50 to 1.50 s.wav"
    mix, _ = soundfile.read(path)
    assert_plays(mix, expected[RATE // 2 : 3 * RATE // 2], 1e-4)
    set_tempo(four, 0.5)
    path = saved(four, "mix", tmp_path)
    assert path.name == "Four - mix, 0.50 to 1.50 s, tempo 50 %.wav"
    assert soundfile.info(path).frames == 2 * RATE


def test_each_stem_is_saved_as_it_is(served, tmp_path):
    nine = opened(served, "Nine")
    path = saved(nine, "8", tmp_path)
    assert path.name == "Nine - vocals (True stems).flac"
    address = nine.evaluate("player => player.urls[8].href")
    assert path.read_bytes() == base64.b64decode(served.evaluate(BYTES, address))
    stem, _ = soundfile.read(path)
    gain = 1 / max(1.0, np.abs(nine_tracks()["Mixture"]).max())
    np.testing.assert_allclose(stem, gain * nine_tracks()["True stems"]["vocals"], atol=1e-4)


def test_the_sound_of_a_script_is_rendered_and_saved(served, tmp_path):
    served.evaluate(
        """(html) => {
          const shell = document.createElement("template");
          shell.innerHTML = html;
          const player = shell.content.firstElementChild;
          player.setAttribute("aria-label", "Stem player: Script");
          const value = (track, channel, i) => 0.1 * Math.sin((i * (track + 1)) / 40 + channel);
          player.sound = {
            rate: 22050, length: 33075, n_channels: 2, ready: 33075,
            read: (track, channel, from, to) =>
              Float32Array.from({ length: to - from }, (_, i) => value(track, channel, from + i)),
          };
          document.body.append(player);
        }""",
        empty_player({"": ["Mixture"], "Stems": ["one", "two"]}, RATE),
    )
    script = opened(served, "Script")
    assert script.locator(".stem-time").inner_text() == "0:00.0 / 0:01.5"
    button(script, "Stems: hear all together").click()
    place = np.arange(33075)[:, None] / 40
    tracks = [0.1 * np.sin(place * (track + 1) + np.arange(2)) for track in range(3)]
    mix, rate = rendered(script)
    assert rate == RATE
    assert_plays(mix, tracks[1] + tracks[2], 1e-5)
    stem, _ = soundfile.read(saved(script, "2", tmp_path))
    np.testing.assert_allclose(stem, tracks[2], atol=1e-6)


def test_a_spectrogram_is_computed_as_the_library_draws_it(served, site):
    four = opened(served, "Four")
    toggle = button(four, "Spectrogram")
    assert toggle.get_attribute("aria-pressed") == "false"
    toggle.click()
    four.locator("canvas").first.wait_for()
    names = (
        named(served, "Drawn")
        .locator(".stem-track")
        .evaluate_all("rows => rows.map((row) => row.dataset.spectrogram)")
    )
    drawn = four.locator("canvas").evaluate_all("all => all.map((e) => e.toDataURL())")
    assert len(drawn) == len(names) == 4
    for name, address in zip(names, drawn, strict=True):
        wanted = image.imread(site / "_static" / "audio" / name)[..., :3]
        seen = image.imread(io.BytesIO(base64.b64decode(address.partition(",")[2])))[..., :3]
        inside = slice(25, -25)  # frames that the fades at both ends do not reach
        assert np.abs(seen - wanted)[:, inside].max() < 0.03
    toggle.click()
    assert four.locator("svg").nth(1).is_visible() and not four.locator("canvas").first.is_visible()
    assert toggle.get_attribute("aria-pressed") == "false"


def focused(player):
    return player.page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_arrow_keys_go_through_the_list_which_is_one_stop_of_tab(served):
    nine, keys = named(served, "Nine"), served.keyboard
    button(nine, "More").focus()
    keys.press("Tab")
    assert focused(nine) == "Mixture: solo"
    assert "Keys: ↑ ↓ track" in nine.locator(".stem-hint:visible").inner_text()
    keys.press("ArrowDown")
    assert focused(nine) == "Estimates: hear all together"
    keys.press("ArrowDown")
    keys.press("ArrowRight")
    assert focused(nine) == "bass (Estimates): mute"
    keys.press("ArrowDown")
    assert focused(nine) == "drums (Estimates): mute"
    keys.press("s")
    assert audible(nine) == ["drums (Estimates)"]
    keys.press("ArrowRight")
    keys.press("ArrowLeft")  # a slider's own keys
    volume = slider(nine, "drums (Estimates): volume")
    assert volume.input_value() == "0.95"
    keys.press("ArrowUp")
    assert focused(nine) == "bass (Estimates): volume"
    keys.press("Escape")
    assert focused(nine) == "bass (Estimates): solo"
    keys.press("End")
    assert focused(nine) == "vocals (True stems): solo"
    keys.press("ArrowDown")
    assert focused(nine) == "vocals (True stems): solo"
    keys.press("Tab")
    assert focused(named(served, "Four")) == "Play"
    keys.press("Shift+Tab")
    assert focused(nine) == "vocals (True stems): solo"


def test_the_last_of_two_moves_in_a_row_counts(served):
    four = named(served, "Four")
    play(four)
    place = four.evaluate(
        """async (player) => {
          player.seek(1.5);
          player.seek(0.2);
          while (!player.started) await new Promise((resolve) => setTimeout(resolve));
          return player.position;
        }"""
    )
    assert place == pytest.approx(0.2, abs=0.1)


def test_what_is_missing_is_said(page, site, serve, tmp_path):
    copy = shutil.copytree(site, tmp_path / "site")
    (copy / "_static" / "stem_practice.js").unlink()
    page.goto(serve(copy) + "/chapter/page.html")
    four = named(page, "Four")
    button(four, "More").click()
    wait_for(page, lambda: "stem_practice.js is missing" in four.get_by_role("status").inner_text())
    play(four)


def test_a_page_from_disk_loops_and_changes_its_tempo(page, site):
    page.goto((site / "chapter" / "page.html").as_uri())
    four = opened(page, "Four")
    assert "Opened from disk" in four.locator(".stem-help").inner_text()
    options = four.get_by_role("combobox").locator("option").all_inner_texts()
    assert options == [f"{name} (flac)" for name in STEMS]
    assert button(four, "Spectrogram").count() == 0
    assert button(opened(page, "Drawn"), "Spectrogram").is_visible()
    loop(four, 0.5, 1.0)
    set_tempo(four, 0.5)
    play(four)
    wait_for(page, lambda: four.evaluate("player => Boolean(player.tracks)"))
    state = "player => player.tracks.players.map((p) => [p.playbackRate, p.preservesPitch])"
    assert four.evaluate(state) == [[0.5, True]] * 4
    wait_for(page, lambda: seconds(four) > 0.8)
    wait_for(page, lambda: seconds(four) < 0.7)
    assert four.evaluate("player => player.tracks.constructor.name") == "MediaTracks"


def test_a_notebook_has_all_of_it_in_its_output(page, tmp_path, monkeypatch):
    monkeypatch.delenv(SITE_DIRECTORY, raising=False)
    stems = nine_tracks()["True stems"]
    path = tmp_path / "notebook.html"
    path.write_text(document(stem_player(stems, RATE, title="Four").html))
    page.goto(path.as_uri())
    four = opened(page, "Four")
    loop(four, 0.5, 1.5)
    mix, _ = soundfile.read(saved(four, "mix", tmp_path))
    assert_plays(mix, sum(stems.values())[RATE // 2 : 3 * RATE // 2], 2e-4)
    assert saved(four, "1", tmp_path).name == "Four - drums.flac"
    button(four, "Spectrogram").click()
    four.locator("canvas").first.wait_for()
    asked = [url for url in page.requested if not url.startswith(("data:", "blob:"))]
    assert asked == [path.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_an_open_player(scheme, served):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    served.emulate_media(color_scheme=scheme)
    loop(opened(served, "Nine"), 0.5, 1.5)
    found = axe.run(served).response["violations"]
    assert [item["id"] for item in found if item["impact"] in ("serious", "critical")] == []


def test_an_open_player_fits_a_phone_and_its_seek_bar_stays_in_sight(served):
    served.set_viewport_size({"width": 375, "height": 700})
    nine = opened(served, "Nine")
    everyday = [button(nine, name).bounding_box() for name in ("Play", "Loop", "More")]
    middles = [box["y"] + box["height"] / 2 for box in everyday]
    assert max(middles) - min(middles) < 2
    loop(nine, 0.5, 1.5)
    assert served.evaluate("document.documentElement.scrollWidth") <= 375
    frame = nine.bounding_box()
    for control in nine.locator(".stem-more :is(button, select, input), .stem-mark").all():
        box = control.bounding_box()
        assert box["x"] >= frame["x"] and box["height"] >= 36
        assert box["x"] + box["width"] <= frame["x"] + frame["width"]
    nine.locator(".stem-track").last.scroll_into_view_if_needed()
    bar = slider(nine, "Position").bounding_box()
    assert 0 <= bar["y"] < 200
