"""Sliders over steps: which are made, what a page and a kernel are given of them."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile
from helpers import noise
from PIL import Image

from sepkit.errors import AudioError, ParameterError, SepkitError
from sepkit.notebook import explorer
from sepkit.notebook.dark import GROUND
from sepkit.notebook.explorer import Step, explore
from sepkit.notebook.media import SITE_DIRECTORY

LICENCE = "Nobody: Noise, CC0"
VIEW = "application/vnd.jupyter.widget-view+json"
TWO = {"hop [frames]": [1, 5, 10], "window": ["Hann", "none"]}


class Elements(HTMLParser):
    """Every start tag."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def __call__(self, tag, name=""):
        return [a for t, a in self.found if t == tag and name in (a.get("class") or name)]


@pytest.fixture(autouse=True)
def in_a_notebook(monkeypatch):
    monkeypatch.delenv(SITE_DIRECTORY, raising=False)
    plt.close("all")


@pytest.fixture
def site(monkeypatch, tmp_path):
    directory = tmp_path / "_static" / "audio"
    monkeypatch.setenv(SITE_DIRECTORY, str(directory))
    return directory


def draw(colour="white"):
    figure = plt.figure(figsize=(2, 1))
    figure.set_facecolor(colour)
    return figure


def silent(*setting):
    return Step(draw(), alt=f"white at {setting}")


def loud(*setting):
    return Step(draw(), alt=f"loud at {setting}", sound=noise(2000, 1), rate=22050)


class Calls:
    """A step that notes how it was called; its colour and level follow the first argument."""

    def __init__(self):
        self.settings = []

    def __call__(self, hop, window):
        self.settings.append((hop, window))
        sound = np.full((1000, 1), hop / 20, np.float32) if window == "Hann" else None
        return Step(draw((hop / 10, 0, 0)), alt=f"{hop} {window}", sound=sound)


def steps_of(site, html):
    """Each step's picture's red, alt text and sound's level."""
    for data in Elements(html)("span", "step-data"):
        picture = np.asarray(Image.open(site / data["data-picture"]))
        size = (int(data["data-width"]), int(data["data-height"]))
        assert picture.shape == (size[1], size[0], 3) == (110, 220, 3)
        name = data.get("data-audio")
        level = soundfile.read(site / name)[0].mean() if name else None
        yield picture[:, :, 0].mean() / 255, data["data-alt"], level


def test_a_page_holds_each_picture_for_the_dark_theme_too(site):
    def step(hop):
        return Step(draw("white" if hop == 1 else (0, 0.2, 0.9)), alt=f"{hop}")

    html = explore(step, {"hop": [1, 2]})._repr_html_()
    pictures = [
        np.asarray(Image.open(site / data[f"data-{theme}picture"])).mean(axis=(0, 1)) / 255
        for data in Elements(html)("span", "step-data")
        for theme in ("", "dark-")
    ]
    np.testing.assert_allclose(pictures[0], [1, 1, 1], atol=0.02)
    np.testing.assert_allclose(pictures[1], GROUND, atol=0.02)
    np.testing.assert_allclose(pictures[3], pictures[2], atol=0.02)  # a color stays


def test_page_holds_every_step_with_its_own_picture_text_and_sound(site):
    html = explore(Calls(), TWO, licence=LICENCE)._repr_html_()
    found = list(steps_of(site, html))
    expected = [(hop, window) for hop in (1, 5, 10) for window in ("Hann", "none")]
    for (red, alt, level), (hop, window) in zip(found, expected, strict=True):
        assert red == pytest.approx(hop / 10, abs=0.02)
        assert alt == f"{hop} {window}"
        assert level == (pytest.approx(hop / 20, abs=1e-4) if window == "Hann" else None)
    assert "<script" not in html and "data:audio" not in html


def test_every_step_is_made_once(site):
    calls = Calls()
    explore(calls, TWO, start={"hop [frames]": 5}, licence=LICENCE)
    assert sorted(calls.settings) == sorted({*calls.settings}) and len(calls.settings) == 6


def test_page_opens_at_the_start(site):
    html = explore(
        Calls(), TWO, start={"hop [frames]": 5, "window": "Hann"}, title="Hops", licence=LICENCE
    )._repr_html_()
    elements = Elements(html)
    hop, window = elements("input")
    assert (hop["type"], hop["min"], hop["max"], hop["value"]) == ("range", "0", "2", "1")
    assert json.loads(hop["data-values"]) == ["1", "5", "10"] and hop["aria-valuetext"] == "5"
    assert (window["value"], window["aria-valuetext"]) == ("0", "Hann")
    assert re.findall(r'step-name">(.*?)<', html) == list(TWO)
    (picture,) = elements("img")
    assert picture["alt"] == "5 Hann" and (picture["width"], picture["height"]) == ("220", "110")
    red = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["src"].partition(",")[2]))))
    assert red[:, :, 0].mean() == pytest.approx(127.5, abs=5)
    (audio,) = elements("audio")
    assert audio["preload"] == "none" and "src" not in audio
    assert ("p", {"class": "step-status", "role": "status"}) in elements.found
    assert LICENCE in html


def test_steps_without_sound_need_no_licence_and_show_no_audio(site):
    html = explore(silent, {"a": [0.1, 0.30000000000000004]})._repr_html_()
    assert "<audio" not in html and "data-audio" not in html
    assert json.loads(Elements(html)("input")[0]["data-values"]) == ["0.1", "0.3"]


def test_one_gain_for_all_steps_when_one_would_clip(site):
    def step(peak):
        return Step(draw(), alt="x", sound=np.full((100, 1), peak, np.float32))

    html = explore(step, {"peak": [0.5, 2.0]}, licence=LICENCE)._repr_html_()
    assert [level for *_, level in steps_of(site, html)] == pytest.approx([0.25, 1.0], abs=1e-4)
    assert "lowered by 6.0 dB" in html


def test_page_of_a_site_names_whose_sound_it_plays(site):
    with pytest.raises(ParameterError, match="licence"):
        explore(loud, {"a": [1]})


def test_24_pictures_of_a_song_stay_small(site):
    from sepkit import stft
    from sepkit.notebook import plotting

    sound = noise(6 * 44100, 1)

    def step(seed):
        ax = plt.subplots(figsize=(plotting.WIDTH, 2.2), layout="constrained")[1]
        spectrum = stft.stft(np.roll(sound, 1000 * seed) * np.float32(0.9**seed))
        plotting.spectrogram(spectrum, ax=ax)
        return Step(ax.figure, alt="noise")

    explore(step, {"seed": range(4)})
    assert 24 / 4 * sum(path.stat().st_size for path in site.iterdir()) < 1.5e6


def test_notebook_shows_sliders_and_beside_them_the_start_alone():
    calls = Calls()
    shown = explore(calls, TWO, start={"hop [frames]": 5}, licence=LICENCE, title="Hops")
    bundle = shown._repr_mimebundle_()
    assert bundle[VIEW]["model_id"] == shown.widget.model_id
    assert calls.settings == [(5, "Hann")]
    elements = Elements(bundle["text/html"])
    assert elements("img")[0]["alt"] == "5 Hann" and not elements("input")
    source = elements("audio")[0]["src"].partition(",")[2]
    assert soundfile.read(io.BytesIO(base64.b64decode(source)))[0].mean() == pytest.approx(0.25)
    assert LICENCE in bundle["text/html"] and "Hops" in bundle["text/html"]


def test_sliders_of_a_notebook_call_the_step_with_their_values():
    calls = Calls()
    hop, window, _ = explore(calls, TWO, start={"hop [frames]": 5}).widget.children
    assert (hop.description, window.description) == tuple(TWO)
    assert (hop.value, window.value) == (5, "Hann")
    hop.value = 10
    window.value = "none"
    assert calls.settings == [(5, "Hann"), (10, "Hann"), (10, "none")]


def test_figures_are_closed():
    explore(silent, {"a": [1, 2]})
    assert plt.get_fignums() == []


def test_text_cannot_become_markup(site):
    attack = '"><script>alert(1)</script>'

    def step(value):
        return Step(draw(), alt=attack, sound=noise(100, 1))

    html = explore(step, {attack: [attack]}, title=attack, licence=attack)._repr_html_()
    assert attack not in html and "alert(1)" in html
    assert not Elements(html)("script")
    assert json.loads(Elements(html)("input")[0]["data-values"]) == [attack]


@pytest.mark.parametrize(
    ("controls", "options", "reason"),
    [
        ({}, {}, "there is none"),
        ({"a": []}, {}, "a: a control without values"),
        ({"a": range(25)}, {}, "25 steps, but a page carries 24"),
        ({"a": range(5), "b": range(5)}, {}, "25 steps"),
        ({"a": [1, 2]}, {"start": {"a": 3}}, "a=3 is not one of 1, 2"),
        ({"a": [1, 2]}, {"start": {"b": 3}}, "'b' is no control; there are a"),
        ({"a": [1, 2]}, {"licence_link": "javascript:alert(1)"}, "not a web address"),
    ],
)  # fmt: skip
def test_controls_that_cannot_be_are_one_clear_line(controls, options, reason):
    with pytest.raises(SepkitError, match=reason) as caught:
        explore(loud, controls, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (None, "gave NoneType at a: 1; return Step"),
        ({"alt": " "}, "alt is empty at a: 1"),
        ({"sound": np.zeros(10, np.float32)}, r"sound at a: 1: float32 of shape \(10,\)"),
        ({"sound": np.full((10, 1), np.nan)}, "sound at a: 1: holds NaN"),
        ({"sound": noise(10, 1), "rate": 100}, "rate=100"),
    ],
)  # fmt: skip
def test_step_that_cannot_be_shown_is_one_clear_line(made, reason):
    def step(_):
        return made and Step(draw(), **{"alt": "x", **made})

    with pytest.raises((ParameterError, AudioError), match=reason) as caught:
        explore(step, {"a": [1]})
    assert "\n" not in str(caught.value)


def test_as_many_steps_as_a_page_carries_are_allowed():
    explore(silent, {"a": range(6), "b": range(4)})
    assert explorer.MOST_STEPS == 24
