"""Players and steppers in a real browser: what is heard is what was put in, controls work."""

import base64
import functools
import http.server
import io
import os
import shutil
import threading
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile

from sepkit.notebook.explorer import Step, explore
from sepkit.notebook.media import SITE_DIRECTORY
from sepkit.notebook.player import stem_player
from sepkit.notebook.song_table import song_table

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "sepkit" / "notebook" / "static"
SITE = Path(os.environ.get("SEPKIT_SITE", ROOT / "_build" / "html"))
RATE = 22050
DURATION = 2.0
STEMS = ("bass", "drums", "other", "vocals")
CHROMIUM_OPTIONS = [
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

RENDER = """
async (player) => {
  const mix = await player.renderMix();
  const channels = Array.from({ length: mix.numberOfChannels }, (_, i) => mix.getChannelData(i));
  return { rate: mix.sampleRate, channels: channels.map((channel) => {
    const bytes = new Uint8Array(channel.buffer, channel.byteOffset, channel.byteLength);
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768)
      text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
  }) };
}
"""

BYTES = """
async (address) => {
  const bytes = new Uint8Array(await (await fetch(address)).arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768)
    text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Serve a folder on this machine and yield its address."""
    servers = []

    def start(folder):
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def chromium(driver):
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if not executable:
        pytest.skip("no Chromium on this machine: install Debian's package chromium")
    browser = driver.chromium.launch(executable_path=executable, args=CHROMIUM_OPTIONS)
    yield browser
    browser.close()


@pytest.fixture
def page(chromium):
    """Yield a page that fails the test when one of its scripts raises an error."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors, page.requested = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: page.requested.append(request.url))
    yield page
    context.close()
    assert errors == []


def noise(seed):
    samples = np.random.default_rng(seed).uniform(-0.2, 0.2, (int(DURATION * RATE), 2))
    return samples.astype(np.float32)


def nine_tracks():
    stems = {name: noise(seed) for seed, name in enumerate(STEMS)}
    estimates = {name: noise(10 + seed) for seed, name in enumerate(STEMS)}
    return {"Mixture": sum(stems.values()), "Estimates": estimates, "True stems": stems}


def unequal():
    """One sound, of one level throughout, in two groups: 6 dB softer in the first."""
    steady = np.full((int(DURATION * RATE), 1), 0.4, np.float32)
    steady[1::2] *= -0.5
    return {"Estimates": {"vocals": steady / 2}, "True stems": {"vocals": steady}}


def document(body, head=""):
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Players</title>'
        '<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">'
        f"{head}</head><body>{body}</body></html>"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Make a site whose one page, in a folder, has players of nine tracks, of four, of two."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(STATIC, folder / "_static")
    tracks, licence = nine_tracks(), "Nobody: Noise, CC0"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SITE_DIRECTORY, str(folder / "_static" / "audio"))
        nine = stem_player(tracks, RATE, title="Nine", licence=licence)
        four = stem_player(
            tracks["True stems"], RATE, title="Four", licence=licence, spectrogram=True
        )
        two = stem_player(unequal(), RATE, title="Two", licence=licence)
    (folder / "chapter").mkdir()
    (folder / "chapter" / "page.html").write_text(
        document(
            nine.html + four.html + two.html,
            '<link rel="stylesheet" href="../_static/stem_player.css">'
            '<script src="../_static/stem_player.js?v=1"></script>',
        )
    )
    return folder


def step(hop, window):
    """Noise and a bar, both of which tell the setting."""
    figure = plt.figure(figsize=(6.8, 2), facecolor=(hop / 10, window == "none", 0))
    figure.text(0.5, 0.5, "black, or light in the dark theme")
    sound = noise(100 + hop)
    return Step(figure, alt=f"colour of {hop}, {window}", sound=sound, rate=RATE)


@pytest.fixture(scope="module")
def steppers(tmp_path_factory):
    """Make a site whose one page, in a folder, has two steppers and a player."""
    folder = tmp_path_factory.mktemp("steppers")
    shutil.copytree(STATIC, folder / "_static")
    licence = "Nobody: Noise, CC0"
    controls = {"hop [frames]": [1, 5, 10], "window": ["Hann", "none"]}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SITE_DIRECTORY, str(folder / "_static" / "audio"))
        start = {"hop [frames]": 5}
        outputs = [
            explore(step, controls, start=start, title="Two", licence=licence),
            explore(lambda hop: step(hop, "Hann"), {"hop": [1, 2]}, title="One", licence=licence),
            stem_player(nine_tracks(), RATE, title="Nine", licence=licence),
        ]
    (folder / "chapter").mkdir()
    (folder / "chapter" / "page.html").write_text(
        document(
            "".join(output._repr_html_() for output in outputs),
            "".join(
                f'<link rel="stylesheet" href="../_static/{name}.css">'
                f'<script src="../_static/{name}.js?v=1"></script>'
                for name in ("stem_player", "stepper")
            ),
        )
    )
    return folder


@pytest.fixture
def two(page, steppers, serve):
    page.goto(serve(steppers) + "/chapter/page.html")
    return page.get_by_role("group", name="Two", exact=True)


@pytest.fixture
def nine(page, site, serve):
    page.goto(serve(site) + "/chapter/page.html")
    return page.get_by_role("group", name="Stem player: Nine")


@pytest.fixture
def four(nine, page):
    return page.get_by_role("group", name="Stem player: Four")


@pytest.fixture
def pair(nine, page):
    return page.get_by_role("group", name="Stem player: Two")


def button(player, name):
    return player.get_by_role("button", name=name, exact=True)


def seconds(player):
    return float(player.locator(".stem-now").inner_text().removeprefix("0:"))


def wait_for(page, condition, timeout=8.0):
    for _ in range(int(timeout / 0.05)):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"did not come true in {timeout} s")


def play(player):
    button(player, "Play").click()
    wait_for(player.page, lambda: seconds(player) > 0.1)


def rendered(player):
    mix = player.evaluate(RENDER)
    channels = [np.frombuffer(base64.b64decode(text), "<f4") for text in mix["channels"]]
    return np.stack(channels, axis=1), mix["rate"]


def audible(player):
    """Names of the tracks whose gain is not zero."""
    gains = player.evaluate("player => player.gains")
    names = [row.get_attribute("aria-label") for row in player.locator(".stem-track").all()]
    return [name for name, gain in zip(names, gains, strict=True) if gain > 0]


def assert_plays(mix, expected, atol):
    """Check a rendered mix: the samples that were given, but for the fades at both ends."""
    inside = slice(RATE // 100, -RATE // 100)
    np.testing.assert_allclose(mix[inside], expected[inside], rtol=0, atol=atol)
    assert (np.abs(mix) <= np.abs(expected) + atol).all()


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def assert_each_track_alone_is_its_own_file(player, audio_folder, n_tracks):
    rows = player.locator(".stem-track").all()
    assert len(rows) == n_tracks
    names = [row.get_attribute("data-audio") for row in rows]
    files = [soundfile.read(audio_folder / name, dtype="float32", always_2d=True) for name in names]
    for index, row in enumerate(rows):
        if row.locator(".stem-solo").get_attribute("aria-pressed") != "true":
            row.locator(".stem-solo").click()
        mix, rate = rendered(player)
        assert rate == files[index][1]
        assert mix.shape == files[index][0].shape
        likeness = [correlation(mix, audio) for audio, _ in files]
        label = row.get_attribute("aria-label")
        assert likeness[index] > 0.99, label
        assert max(likeness[:index] + likeness[index + 1 :]) < 0.99, label


def assert_no_request_left(page, address):
    assert page.requested
    assert [url for url in page.requested if not url.startswith((address, "data:"))] == []


def test_each_track_alone_is_its_own_file_and_no_other(nine, site):
    assert_each_track_alone_is_its_own_file(nine, site / "_static" / "audio", 9)


def test_labels_name_the_sound_that_was_given_for_them(nine):
    tracks = nine_tracks()
    button(nine, "vocals (Estimates): solo").click()
    mix, _ = rendered(nine)
    gain = 1 / max(1.0, np.abs(tracks["Mixture"]).max())
    assert_plays(mix, gain * tracks["Estimates"]["vocals"], 1e-4)


def test_no_request_leaves_the_site_and_sound_waits_for_play(nine, page):
    address = page.url.removesuffix("/chapter/page.html")
    assert not [url for url in page.requested if url.endswith(".flac")]
    play(nine)
    sounds = [url for url in page.requested if url.endswith(".flac")]
    assert len(sounds) == 9
    assert all(url.startswith(f"{address}/_static/audio/") for url in sounds)
    assert_no_request_left(page, address)


def test_play_advances_and_pause_holds(nine, page):
    play(nine)
    button(nine, "Pause").click()
    held = seconds(nine)
    page.wait_for_timeout(300)
    assert seconds(nine) == held
    button(nine, "Play").click()
    wait_for(page, lambda: seconds(nine) > held)


def test_end_of_the_song_rewinds(four, page):
    play(four)
    wait_for(page, lambda: button(four, "Play").is_visible())
    assert seconds(four) == 0


def test_loop_goes_on_past_the_end(four, page):
    button(four, "Loop").click()
    play(four)
    wait_for(page, lambda: seconds(four) > 1.5)
    wait_for(page, lambda: seconds(four) < 1.0)
    wait_for(page, lambda: seconds(four) > 1.2)
    assert button(four, "Pause").is_visible()


def test_one_player_of_a_page_sounds_at_a_time(nine, four):
    play(nine)
    play(four)
    assert button(nine, "Play").is_visible()
    assert button(four, "Pause").is_visible()


def test_a_click_switches_between_tracks_and_keeps_the_time(nine, page):
    play(nine)
    assert audible(nine) == ["Mixture"]
    before = seconds(nine)
    button(nine, "vocals (Estimates): solo").click()
    assert audible(nine) == ["vocals (Estimates)"]
    button(nine, "vocals (True stems): solo").click()
    assert audible(nine) == ["vocals (True stems)"]
    assert before <= seconds(nine) < before + 1
    button(nine, "vocals (True stems): solo").click()
    assert audible(nine) == ["Mixture"]


def test_heading_plays_its_group(nine):
    button(nine, "Estimates: hear all together").click()
    assert audible(nine) == [f"{name} (Estimates)" for name in STEMS]
    mix, _ = rendered(nine)
    tracks = nine_tracks()
    gain = 1 / max(1.0, np.abs(tracks["Mixture"]).max())
    expected = gain * sum(tracks["Estimates"].values())
    assert_plays(mix, expected, 4e-4)


def test_mute_and_volume_shape_the_mix(four):
    stems = nine_tracks()["True stems"]
    button(four, "drums: mute").click()
    button(four, "other: mute").click()
    assert button(four, "drums: mute").get_attribute("aria-pressed") == "true"
    volume = four.get_by_role("slider", name="bass: volume")
    volume.fill("0.5")
    assert volume.get_attribute("aria-valuetext") == "50 %"
    mix, _ = rendered(four)
    assert_plays(mix, 0.5 * stems["bass"] + stems["vocals"], 1e-4)
    button(four, "drums: mute").click()
    assert audible(four) == ["bass", "drums", "vocals"]


def levels_heard(player):
    """Peak of the live sound of each group, [Estimates, True stems], by an AnalyserNode."""
    peak = """async (player) => {
      const analyser = new AnalyserNode(player.tracks.context, { fftSize: 2048 });
      player.tracks.fade.connect(analyser);
      await new Promise((resolve) => setTimeout(resolve, 250));
      const samples = new Float32Array(2048);
      analyser.getFloatTimeDomainData(samples);
      player.tracks.fade.disconnect(analyser);
      return Math.max(...samples.map(Math.abs));
    }"""
    levels = []
    for group in ("Estimates", "True stems"):
        button(player, f"{group}: hear all together").click()
        levels.append(player.evaluate(peak))
    return levels


def test_one_switch_takes_the_matching_gains_away_and_the_sound_goes_on(pair, page):
    switch = button(pair, "True levels")
    gains = pair.locator(".stem-gain")
    assert gains.all_inner_texts() == ["+6.0 dB", "0.0 dB"]
    button(pair, "Loop").click()
    play(pair)
    estimate, true = levels_heard(pair)
    assert 0.3 < true < 0.45
    assert estimate == pytest.approx(true, rel=0.02)
    pair.evaluate("player => { player.first = player.tracks.nodes[0].source; }")
    switch.focus()
    page.keyboard.press("Space")
    assert switch.get_attribute("aria-pressed") == "true" and not gains.first.is_visible()
    assert levels_heard(pair) == pytest.approx([true / 2, true], rel=0.02)
    # The sources that play are those that played before: nothing was stopped and begun again.
    assert pair.evaluate("player => player.tracks.nodes[0].source === player.first")
    # A pause and a move keep the choice.
    button(pair, "Pause").click()
    pair.get_by_role("slider", name="Position").fill("1")
    play(pair)
    button(pair, "Estimates: hear all together").click()
    mix, _ = rendered(pair)
    assert_plays(mix[:, :1], unequal()["Estimates"]["vocals"], 1e-4)
    switch.click()
    assert switch.get_attribute("aria-pressed") == "false" and gains.first.is_visible()
    mix, _ = rendered(pair)
    assert_plays(mix[:, :1], unequal()["True stems"]["vocals"], 2e-3)


def test_what_plays_rises_from_zero_and_falls_to_it(pair):
    button(pair, "True stems: hear all together").click()
    mix, rate = rendered(pair)
    steps = np.abs(mix[:, 0])
    assert steps[0] == steps[-1] == 0
    assert (steps[:20] < 0.02).all() and (steps[-20:] < 0.02).all()
    assert steps[rate // 100 : -rate // 100].min() == pytest.approx(0.2, abs=0.01)
    # The seam of a loop is its end and its start, both of them faded.
    assert (np.diff(steps[: rate // 100 : 2]) >= 0).all()


def test_sound_from_a_later_place_rises_from_zero_and_a_pause_lets_it_fall(pair, page):
    envelope = """player => new Promise((resolve) => {
      const { gain } = player.tracks.fade;
      const seen = [];
      const timer = setInterval(() => seen.push(gain.value), 2);
      setTimeout(() => { clearInterval(timer); resolve(seen); }, 250);
      player.querySelector("%s").click();
    })"""
    pair.get_by_role("slider", name="Position").fill("0.5")
    play(pair)
    wait_for(page, lambda: pair.evaluate("player => player.tracks.fade.gain.value") > 0.99)
    fading = pair.evaluate(envelope % ".stem-play")
    assert fading[-1] < 0.01
    pair.evaluate(
        """player => {
          const create = AudioBufferSourceNode.prototype.start;
          AudioBufferSourceNode.prototype.start = function (when, offset) {
            player.began = player.tracks.fade.gain.value;
            create.call(this, when, offset);
          };
        }"""
    )
    button(pair, "Play").click()
    wait_for(page, lambda: pair.evaluate("player => player.tracks.fade.gain.value") > 0.99)
    assert pair.evaluate("player => player.began") == 0


def test_live_gains_follow_the_choice(nine, page):
    play(nine)
    button(nine, "drums (True stems): solo").click()
    page.wait_for_timeout(200)
    gains = nine.evaluate("player => player.tracks.nodes.map(({ gain }) => gain.gain.value)")
    np.testing.assert_allclose(gains, [0] * 6 + [1] + [0] * 2, atol=1e-3)


def test_seek_by_waveform_and_by_keys(nine, page):
    picture = nine.locator(".stem-picture").first
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    assert seconds(nine) == pytest.approx(DURATION / 2, abs=0.1)
    slider = nine.get_by_role("slider", name="Position")
    slider.focus()
    page.keyboard.press("Home")
    assert seconds(nine) == 0
    for _ in range(11):
        page.keyboard.press("ArrowRight")
    assert seconds(nine) == pytest.approx(1.1)
    assert slider.get_attribute("aria-valuetext") == "0 min 1 s of 0 min 2 s"


def test_drag_while_playing_moves_the_sound_when_released(four, page):
    play(four)
    box = four.locator(".stem-picture").first.bounding_box()
    x, y = box["x"], box["y"] + box["height"] / 2
    page.mouse.move(x + 0.9 * box["width"], y)
    page.mouse.down()
    page.mouse.move(x + 0.2 * box["width"], y, steps=4)
    assert seconds(four) == pytest.approx(0.4, abs=0.1)
    page.mouse.up()
    wait_for(page, lambda: 0.45 < seconds(four) < 1)
    assert button(four, "Pause").is_visible()


def test_keyboard_alone_plays_solos_and_mutes(nine, page):
    button(nine, "Play").focus()
    page.keyboard.press("Space")
    wait_for(page, lambda: seconds(nine) > 0.1)
    page.keyboard.press("Enter")
    assert button(nine, "Play").is_visible()
    button(nine, "other (Estimates): mute").focus()
    page.keyboard.press("s")
    assert audible(nine) == ["other (Estimates)"]
    page.keyboard.press("m")
    assert audible(nine) == []
    page.keyboard.press("m")
    assert audible(nine) == ["other (Estimates)"]


def test_focus_is_visible(nine, page):
    button(nine, "Loop").focus()
    page.keyboard.press("Tab")
    style = "e => getComputedStyle(document.activeElement).outlineStyle"
    assert nine.evaluate(style) == "solid"


def test_phone_has_no_sideways_scroll(nine, page):
    page.set_viewport_size({"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    for control in nine.locator("button, input").all():
        box = control.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 375
        assert box["width"] >= 24 and box["height"] >= 24


def test_reduced_motion_moves_the_playhead_in_steps(nine, page):
    def positions():
        return nine.evaluate(
            """async (player) => {
              const seen = new Set();
              for (let i = 0; i < 30; i++) {
                await new Promise(requestAnimationFrame);
                seen.add(player.style.getPropertyValue("--stem-position"));
              }
              return seen.size;
            }"""
        )

    play(nine)
    assert positions() > 10
    page.emulate_media(reduced_motion="reduce")
    assert positions() <= 3


def test_view_changes_from_spectrogram_to_waveform(four):
    row = four.locator(".stem-picture").first
    image, waveform = row.locator(".stem-spectrogram"), row.locator("svg")
    width = image.evaluate(
        """async (element) => {
          const image = new Image();
          image.src = getComputedStyle(element).backgroundImage.slice(5, -2);
          await image.decode();
          return image.naturalWidth;
        }"""
    )
    assert width > 100
    assert image.is_visible() and not waveform.is_visible()
    button(four, "More").click()
    button(four, "Spectrogram").click()
    assert waveform.is_visible() and not image.is_visible()


def test_missing_file_is_said_and_play_tries_again(nine, page, site):
    lost = next(path for path in (site / "_static" / "audio").iterdir() if path.suffix == ".flac")
    content = lost.read_bytes()
    lost.unlink()
    button(nine, "Play").click()
    status = nine.get_by_role("status")
    wait_for(page, lambda: "cannot be played" in status.inner_text())
    assert lost.name in status.inner_text()
    assert button(nine, "Play").is_visible()
    lost.write_bytes(content)
    play(nine)
    assert status.inner_text() == ""


def test_waveforms_and_a_word_without_javascript(chromium, site, serve):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(serve(site) + "/chapter/page.html")
    assert page.get_by_text("This player needs JavaScript.").first.is_visible()
    assert page.locator(".stem-picture svg").count() == 15
    assert page.locator(".stem-picture svg").first.is_visible()
    assert not page.locator(".stem-play, .stem-mute, .stem-volume, .stem-seek").first.is_visible()
    context.close()


def test_page_from_disk_plays_in_step_by_the_fallback(page, site):
    page.goto((site / "chapter" / "page.html").as_uri())
    nine = page.get_by_role("group", name="Stem player: Nine")
    play(nine)
    assert "Opened from disk" in nine.get_by_role("status").inner_text()
    button(nine, "drums (Estimates): solo").click()
    wait_for(page, lambda: seconds(nine) > 0.6)
    state = nine.evaluate(
        "player => player.tracks.players.map((p) => [p.paused, p.muted, p.currentTime])"
    )
    paused, muted, times = zip(*state, strict=True)
    assert not any(paused)
    assert [index for index, silent in enumerate(muted) if not silent] == [2]
    assert max(times) - min(times) < 0.1
    nine.get_by_role("slider", name="Position").fill("1.5")
    wait_for(page, lambda: nine.evaluate("player => player.started"))
    assert nine.evaluate("player => player.position") > 1.45
    wait_for(page, lambda: button(nine, "Play").is_visible())
    assert seconds(nine) == 0


def test_page_from_disk_loops_and_says_what_is_missing(page, site, tmp_path):
    copy = shutil.copytree(site, tmp_path / "stick")
    page.goto((copy / "chapter" / "page.html").as_uri())
    four = page.get_by_role("group", name="Stem player: Four")
    button(four, "Loop").click()
    play(four)
    wait_for(page, lambda: seconds(four) > 1.5)
    wait_for(page, lambda: 0.1 < seconds(four) < 1)
    shutil.rmtree(copy / "_static" / "audio")
    page.reload()
    button(four, "Play").click()
    wait_for(page, lambda: "cannot be played" in four.get_by_role("status").inner_text())
    assert button(four, "Play").is_visible()


def test_outputs_of_a_notebook_play_alone_even_two_on_a_page(page, tmp_path, monkeypatch):
    monkeypatch.delenv(SITE_DIRECTORY, raising=False)
    stems = nine_tracks()["True stems"]
    outputs = [stem_player(stems, RATE, title=title, spectrogram=True) for title in ("A", "B")]
    path = tmp_path / "notebook.html"
    path.write_text(document("".join(output.html for output in outputs)))
    page.goto(path.as_uri())
    for title in ("A", "B"):
        player = page.get_by_role("group", name=f"Stem player: {title}")
        play(player)
        assert player.evaluate("player => player.tracks.constructor.name") == "DecodedTracks"
        button(player, "drums: solo").click()
        mix, _ = rendered(player)
        assert_plays(mix, stems["drums"], 1e-4)
    assert [url for url in page.requested if not url.startswith(("data:", path.as_uri()))] == []


def test_the_song_table_sorts_and_filters(page, tmp_path, monkeypatch):
    monkeypatch.delenv(SITE_DIRECTORY, raising=False)
    songs = [
        {"song": "B - one", "genre": "Rap", "SDR": 2.0},
        {"song": "a - two", "genre": "Pop", "SDR": float("nan")},
        {"song": "C - three", "genre": "Rap", "SDR": 10.0},
        {"song": "D - four", "genre": "Pop", "SDR": -3.0},
    ]
    path = tmp_path / "songs.html"
    path.write_text(document(song_table(songs, caption="Four songs").data))
    page.goto(path.as_uri())
    rows, status = page.locator("tbody tr"), page.get_by_role("status")

    def order():
        return "".join(name[0] for name in rows.locator("th").all_inner_texts())

    sdr = page.get_by_role("button", name="SDR")
    sdr.click()
    assert order() == "CBDa"
    heading = page.get_by_role("columnheader", name="SDR")
    assert heading.get_attribute("aria-sort") == "descending"
    sdr.press("Enter")
    assert order() == "DBCa" and heading.get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="song").click()
    assert order() == "aBCD" and heading.get_attribute("aria-sort") is None
    assert status.inner_text() == "Sorted by song, ascending"
    page.get_by_label("Show songs with").fill("rap three")
    assert [row.is_visible() for row in rows.all()] == [False, False, True, False]
    assert status.inner_text() == "1 of 4 songs"


def assert_shows(explorer, folder, hop, window):
    """Check picture, text and sound of a setting, by what is in their files."""
    image, audio = explorer.locator("img"), explorer.locator("audio")
    wait_for(explorer.page, lambda: image.evaluate("e => e.complete && e.naturalWidth > 0"))
    pixel = image.evaluate(
        """(image) => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
          canvas.getContext("2d").drawImage(image, 0, 0);
          return [...canvas.getContext("2d").getImageData(0, 0, 1, 1).data];
        }"""
    )
    np.testing.assert_allclose(pixel, [25.5 * hop, 255 * (window == "none"), 0, 255], atol=6)
    assert image.get_attribute("alt") == f"colour of {hop}, {window}"
    name = audio.evaluate("e => e.src").rpartition("/")[2]
    heard, _ = soundfile.read(folder / "_static" / "audio" / name)
    np.testing.assert_allclose(heard, noise(100 + hop), rtol=0, atol=1e-4)


def slider(explorer, name):
    return explorer.get_by_role("slider", name=name, exact=True)


def test_a_slider_changes_picture_text_and_sound(two, page, steppers):
    hop, window = slider(two, "hop [frames]"), slider(two, "window")
    status = two.get_by_role("status")
    assert status.inner_text() == ""
    hop.fill("2")
    assert hop.get_attribute("aria-valuetext") == "10"
    assert two.locator(".step-value").all_inner_texts() == ["10", "Hann"]
    assert_shows(two, steppers, 10, "Hann")
    window.focus()
    page.keyboard.press("ArrowRight")
    assert_shows(two, steppers, 10, "none")
    assert status.inner_text() == "hop [frames]: 10, window: none. colour of 10, none"
    hop.focus()
    page.keyboard.press("Home")
    assert_shows(two, steppers, 1, "none")
    one = page.get_by_role("group", name="One", exact=True)
    assert slider(one, "hop").input_value() == "0"
    assert one.locator("img").get_attribute("alt") == "colour of 1, Hann"


def test_the_picture_follows_the_theme_of_the_page(two, page):
    image, hop = two.locator("img"), slider(two, "hop [frames]")
    data = two.locator(".step-data")
    light, dark = (
        data.evaluate_all(f"all => all.map((e) => e.dataset.{name})")
        for name in ("picture", "darkPicture")
    )
    assert not set(light) & set(dark)
    theme = "document.documentElement.dataset.theme = "
    for name, expected in (("dark", dark), ("light", light), ("dark", dark)):
        page.evaluate(f"{theme}'{name}'")
        hop.fill("2")  # hop 10, Hann
        wait_for(page, lambda at=expected: image.get_attribute("src").endswith(at[4]))
        hop.fill("0")
        wait_for(page, lambda at=expected: image.get_attribute("src").endswith(at[0]))


def test_steps_load_nothing_from_elsewhere_and_no_sound_before_play(two, page):
    address = page.url.removesuffix("/chapter/page.html")
    slider(two, "hop [frames]").fill("0")
    page.wait_for_timeout(200)
    assert not [url for url in page.requested if url.endswith(".flac")]
    pictures = {url for url in page.requested if url.endswith(".webp")}
    assert len(pictures) == 6  # all of this stepper at the first touch, none of the other
    assert_no_request_left(page, address)


def test_sound_goes_on_at_its_place_when_the_step_changes(two, page):
    audio, hop = two.locator("audio"), slider(two, "hop [frames]")
    state = "e => [e.paused, e.currentTime]"
    audio.evaluate("e => e.play()")
    wait_for(page, lambda: audio.evaluate("e => e.currentTime") > 0.5)
    first = audio.evaluate("e => e.src")
    hop.fill("2")
    wait_for(
        page, lambda: audio.evaluate("(e, first) => e.src !== first && e.readyState > 0", first)
    )
    page.wait_for_timeout(100)
    paused, time = audio.evaluate(state)
    assert not paused and 0.5 < time < 1.5
    audio.evaluate("e => e.pause()")
    held = audio.evaluate("e => e.currentTime")
    # Two changes at once keep the place, too; the last one counts.
    hop.fill("1")
    hop.fill("0")
    page.wait_for_timeout(300)
    audio.evaluate("e => e.play()")
    wait_for(page, lambda: audio.evaluate("e => e.currentTime") > held)
    assert audio.evaluate("e => e.currentTime") < held + 0.5
    address = audio.evaluate("e => e.src")
    sound = base64.b64decode(page.evaluate(BYTES, address))
    heard, _ = soundfile.read(io.BytesIO(sound))
    np.testing.assert_allclose(heard, noise(101), rtol=0, atol=1e-4)


def test_one_sound_of_a_page_at_a_time_steppers_and_players(two, page):
    audio = two.locator("audio")
    other = page.get_by_role("group", name="One", exact=True).locator("audio")
    nine = page.get_by_role("group", name="Stem player: Nine")
    audio.evaluate("e => e.play()")
    other.evaluate("e => e.play()")
    wait_for(page, lambda: audio.evaluate("e => e.paused"))
    play(nine)
    assert other.evaluate("e => e.paused")
    audio.evaluate("e => e.play()")
    wait_for(page, lambda: button(nine, "Play").is_visible())


def test_steps_move_in_a_page_from_disk(page, steppers):
    page.goto((steppers / "chapter" / "page.html").as_uri())
    two = page.get_by_role("group", name="Two", exact=True)
    slider(two, "hop [frames]").fill("0")
    image, audio = two.locator("img"), two.locator("audio")
    wait_for(page, lambda: image.evaluate("e => e.complete && e.naturalWidth === 748"))
    assert image.get_attribute("alt") == "colour of 1, Hann"
    audio.evaluate("e => e.play()")
    wait_for(page, lambda: audio.evaluate("e => e.currentTime") > 0.1)


def test_steps_fit_a_phone(two, page):
    page.set_viewport_size({"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    for part in two.locator("input, img, audio, .step-value").all():
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 375
        assert box["height"] >= 20


def test_the_start_is_seen_without_javascript(chromium, steppers, serve):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(serve(steppers) + "/chapter/page.html")
    image = page.get_by_role("img", name="colour of 5, Hann")
    assert image.is_visible() and image.bounding_box()["width"] > 300
    assert not page.locator(".step-controls, step-explorer audio").first.is_visible()
    context.close()


@pytest.fixture
def landing(page, serve):
    if not (SITE / "index.html").is_file():
        pytest.skip(f"no built site at {SITE}: run `make book` first")
    page.address = serve(SITE)
    page.goto(page.address + "/index.html")
    return page.locator("stem-player").first


def test_landing_page_plays_its_tracks_each_its_own_file(landing, page):
    play(landing)
    # The mixture, and four stems each: the truth, this book's and the report's estimates.
    assert_each_track_alone_is_its_own_file(landing, SITE / "_static" / "audio", 13)
    assert_no_request_left(page, page.address)


def test_landing_page_names_whose_song_it_plays(landing):
    assert "CC BY" in landing.locator(".stem-licence").inner_text()


def test_landing_page_fits_a_phone(landing, page):
    page.set_viewport_size({"width": 375, "height": 700})
    box = landing.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 375
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_landing_page_keeps_its_seek_bar_in_sight_on_a_phone(landing, page):
    page.set_viewport_size({"width": 375, "height": 700})
    landing.evaluate("e => scrollTo({ top: e.offsetTop + e.offsetHeight, behavior: 'instant' })")
    landing.locator(".stem-track").last.scroll_into_view_if_needed()
    assert landing.bounding_box()["y"] < -100
    bar = landing.get_by_role("slider", name="Position").bounding_box()
    assert 0 < bar["y"] < 250


@pytest.fixture
def pages(serve):
    """Addresses of all pages of the built site."""
    if not (SITE / "index.html").is_file():
        pytest.skip(f"no built site at {SITE}: run `make book` first")
    names = [path.relative_to(SITE).as_posix() for path in sorted(SITE.rglob("*.html"))]
    address = serve(SITE)
    return [f"{address}/{name}" for name in names if not name.startswith("_static/")]


UNFOLD = """
async () => {
  const still = document.createElement("style");
  still.textContent = "* { animation: none !important; transition: none !important; }";
  document.head.append(still);
  for (const part of document.querySelectorAll("details")) part.open = true;
  for (const button of document.querySelectorAll(".toggle-hidden .toggle-button")) button.click();
  await new Promise((resolve) => setTimeout(resolve, 500)); // the theme waits before it reacts
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(scheme, chromium, pages):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = chromium.new_context(color_scheme=scheme, reduced_motion="reduce")
    page, found = context.new_page(), []
    for address in pages:
        page.goto(address)
        page.evaluate(UNFOLD)
        for finding in axe.run(page).response["violations"]:
            if finding["impact"] in ("serious", "critical"):
                places = [" ".join(map(str, node["target"])) for node in finding["nodes"]]
                found.append((address.rpartition("/")[2], finding["id"], places[:5]))
    context.close()
    assert found == []


def test_no_page_scrolls_sideways_on_a_phone(page, pages):
    page.set_viewport_size({"width": 375, "height": 700})
    widths = {}
    for address in pages:
        page.goto(address)
        page.evaluate(UNFOLD)
        widths[address.rpartition("/")[2]] = page.evaluate("document.documentElement.scrollWidth")
    assert {name: width for name, width in widths.items() if width > 375} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_caption_is_seen(theme, page, pages):
    count, unseen = 0, []
    for address in pages:
        page.goto(address)
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        page.evaluate(UNFOLD)
        heights = page.locator("figcaption").evaluate_all("all => all.map((e) => e.offsetHeight)")
        count += len(heights)
        unseen += [address.rpartition("/")[2]] * heights.count(0)
    assert count > 20 and unseen == []


def test_what_scrolls_on_a_phone_is_reached_by_keyboard(page, pages):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.set_viewport_size({"width": 375, "height": 700})
    found = []
    for address in pages:
        page.goto(address)
        page.evaluate(UNFOLD)
        results = axe.run(page, options={"runOnly": ["scrollable-region-focusable"]})
        for finding in results.response["violations"]:
            places = [" ".join(map(str, node["target"])) for node in finding["nodes"]]
            found.append((address.rpartition("/")[2], places[:5]))
    assert found == []
