"""The explorer that builds a frame wave by wave, in Chromium: its numbers are NumPy's."""

import base64

import numpy as np
import pytest
import scipy.fft
from helpers import assert_usable_on_a_phone, set_theme
from scipy.signal import windows
from test_loss_simplex import drag

from sepkit.notebook import media

LENGTH = 22_050
START = 11_025


@pytest.fixture(scope="module")
def excerpt(falcon):
    """Half a second of the song's left channel, as 16 bits give it."""
    first = round(4.25 * falcon.rate)
    return np.round(falcon.mixture[first : first + LENGTH, 0] * 32768) / 32768


@pytest.fixture
def explorer(live_page, excerpt):
    """Open the explorer in a page."""
    sound = base64.b64encode(media.flac(excerpt[:, np.newaxis], 44100)).decode()
    body = f'<build-frame class="kit" start="{START}" sound="{sound}"></build-frame>'

    def open_explorer(**options):
        page = live_page(body, "build_frame", **options)
        page.wait_for_selector("build-frame[data-ready]")
        return page

    return open_explorer


def window_of(name, length):
    if name == "Blackman-Harris":
        return windows.blackmanharris(length)
    if name == "triangle":
        return 1 - np.abs(2 * np.arange(length) / length - 1)
    return windows.hann(length, sym=False) if name == "Hann" else np.ones(length)


def settle(page):
    page.evaluate("() => new Promise(requestAnimationFrame)")


def told(page):
    settle(page)
    return page.locator("build-frame .kit-scores").inner_text().replace("−", "-")


def state(page, name):
    """An array of the explorer."""
    settle(page)
    return np.array(page.evaluate(f"[...document.querySelector('build-frame').{name}]"))


def press(page, label, *keys):
    slider = page.get_by_role("slider", name=label)
    for key in keys:
        slider.press(key)


def strongest(frame, count):
    """The sum of a frame's strongest waves, and the energy of the rest relative to the frame."""
    spectrum = scipy.fft.rfft(frame)
    kept = np.zeros_like(spectrum)
    best = np.argsort(np.abs(spectrum))[::-1][:count]
    kept[best] = spectrum[best]
    part = scipy.fft.irfft(kept, len(frame))
    return part, 10 * np.log10(np.sum((frame - part) ** 2) / np.sum(frame**2))


def test_the_transform_is_scipys(live_page):
    page = live_page("<p>nothing</p>")
    rng = np.random.default_rng(0)
    for size in (256, 512, 1024, 2048, 4096):
        frame = rng.uniform(-1, 1, size)
        re, im, back = page.evaluate(
            """(frame) => {
              const fourier = new sepkitKit.Fourier(frame.length);
              const bins = fourier.forward(frame);
              return [[...bins.re], [...bins.im], [...fourier.inverse(bins)]];
            }""",
            frame.tolist(),
        )
        expected = scipy.fft.rfft(frame)
        gap = np.abs(np.array(re) + 1j * np.array(im) - expected).max()
        assert gap < 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(back, frame, atol=1e-4)


@pytest.mark.parametrize(
    ("length", "name", "count"),
    [(1024, "Hann", 5), (256, "none (rectangular)", 12), (4096, "Blackman-Harris", 25)],
)
def test_sum_and_error_of_the_strongest_waves_are_numpys(length, name, count, explorer, excerpt):
    page = explorer()
    press(page, "Frame length", "Home", *int(np.log2(length / 256)) * ["ArrowRight"])
    page.get_by_role("combobox", name="Window").select_option(name)
    press(page, "Waves", "Home", *min(count - 1, 20) * ["ArrowRight"])
    start = int(page.evaluate("document.querySelector('build-frame').start"))
    frame = window_of(name, length) * excerpt[start : start + length]
    part, error = strongest(frame, count)
    np.testing.assert_allclose(state(page, "windowed"), frame, atol=1e-4)
    assert np.abs(state(page, "sum") - part).max() < 1e-4 * np.abs(part).max()
    assert f"{count} of {length // 2 + 1} waves" in told(page)
    shown = float(told(page).partition("has ")[2].partition(" dB")[0])
    assert shown == pytest.approx(error, abs=0.01)


@pytest.mark.parametrize("name", ["Hann", "triangle"])
def test_the_half_second_of_all_waves_is_overlap_add_of_the_library(name, explorer, excerpt):
    page = explorer()
    page.get_by_role("combobox", name="Window").select_option(name)
    press(page, "Waves", "End")
    press(page, "Hop", *3 * ["ArrowRight"])  # 768
    settle(page)
    sound = np.array(
        page.evaluate("async () => [...(await document.querySelector('build-frame').rebuild())]")
    )
    taper = window_of(name, 1024)
    padded, total, gain = (np.zeros(LENGTH + 4096) for _ in range(3))
    padded[2048 : 2048 + LENGTH] = excerpt
    for first in range(0, LENGTH + 2048, 768):
        piece = slice(first, first + 1024)
        total[piece] += taper**2 * padded[piece]
        gain[piece] += taper**2
    mean = np.sum(taper**2) / 768
    np.testing.assert_allclose(sound, total[2048 : 2048 + LENGTH] / mean, atol=1e-4)
    gain = gain[2048 : 2048 + 10 * 768] / mean
    assert f"Gain: {gain.min():.2f} to {gain.max():.2f}" in told(page)


def test_the_keyboard_moves_the_window_and_the_status_tells_it(explorer):
    page = explorer(served=False)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "CANVAS"
    places = []
    for key in ("ArrowRight", "Shift+ArrowLeft", "Home", "ArrowLeft", "End"):
        page.keyboard.press(key)
        settle(page)
        places.append(page.evaluate("document.querySelector('build-frame').start"))
    assert places == [START + 256, START + 255, 0, 0, LENGTH - 1024]
    page.wait_for_function("document.querySelector('.kit-status').textContent.includes('477 ms')")
    page.get_by_role("button", name="Play").press("Enter")
    page.get_by_role("button", name="Stop").wait_for()
    for heard in ("frame", "sum"):
        page.get_by_role("combobox", name="Listen").select_option(heard)
        name = "windowed" if heard == "frame" else "sum"
        page.wait_for_function(
            f"""() => {{
              const e = document.querySelector("build-frame");
              return e.loop.channels[0].every((x, n) => Math.abs(x - e.{name}[n]) < 1e-6);
            }}"""
        )


def test_a_drag_moves_the_window_by_as_much_as_the_pointer(explorer):
    page = explorer()
    box = page.locator("build-frame canvas").first.bounding_box()
    x = box["x"] + box["width"] * (START + 300) / LENGTH
    page.mouse.move(x, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(x + 100, box["y"] + 60, steps=3)
    page.mouse.up()
    settle(page)
    start = page.evaluate("document.querySelector('build-frame').start")
    assert start == pytest.approx(START + 100 * LENGTH / box["width"], abs=2)


MICROPHONE = """(hertz) => {
  const context = new AudioContext();
  const source = new OscillatorNode(context, { frequency: hertz });
  const stream = new MediaStreamAudioDestinationNode(context);
  source.connect(stream);
  source.start();
  window.asked = 0;
  navigator.mediaDevices.getUserMedia = async () => {
    asked++;
    return stream.stream;
  };
}"""


def test_the_microphone_is_asked_for_by_a_click_shown_and_held(explorer):
    page = explorer()
    page.evaluate(MICROPHONE, 3000)
    page.get_by_role("slider", name="Waves").press("ArrowRight")
    assert page.evaluate("asked") == 0
    page.get_by_role("button", name="Use the microphone").press("Enter")
    page.wait_for_function(
        """() => {
          const e = document.querySelector("build-frame");
          return Math.abs((e.chosen[0] * e.rate) / e.N - 3000) < 60;
        }"""
    )
    page.get_by_role("button", name="Hold").press("Enter")
    held = state(page, "samples")
    page.wait_for_timeout(100)
    np.testing.assert_array_equal(state(page, "samples"), held)
    page.get_by_role("button", name="Back to the song").press("Enter")
    np.testing.assert_array_equal(state(page, "samples"), state(page, "song"))
    assert page.evaluate("asked") == 1


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ("getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') }", "Allow"),
        ("getUserMedia = async () => { throw new DOMException('', 'NotFoundError') }", "Connect"),
        ("getUserMedia = undefined", "https"),
    ],
)
def test_without_a_microphone_the_status_says_what_to_do(change, advice, explorer):
    page = explorer(served=False)
    page.evaluate(f"() => {{ navigator.mediaDevices.{change} }}")
    page.wait_for_timeout(300)
    page.get_by_role("button", name="Use the microphone").click()
    status = page.locator("build-frame .kit-status")
    page.wait_for_timeout(300)
    assert advice in status.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_phone_needs_no_sideways_scroll(scheme, explorer):
    page = explorer(width=375, color_scheme=scheme)
    set_theme(page, scheme)
    page.locator("summary").first.click()
    assert_usable_on_a_phone(page, "build-frame")


def test_a_drag_keeps_sixty_frames_a_second(explorer):
    page = explorer()
    press(page, "Frame length", "End")
    median, longest = drag(page, [100, 50, 700, 50])
    assert page.evaluate("document.querySelector('build-frame').start") > START
    assert median <= 20 and longest <= 100, (median, longest)
