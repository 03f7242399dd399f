"""Paint a mask, in Chromium: its scores beside the library's, pointer, keys, files."""

import base64
import gzip
import json
import re

import numpy as np
import pytest

from sepkit import metrics, stft
from sepkit.study import oracles
from sepkit.tracks import SOURCES

BANDS = {"bass": [0, 300], "drums": [0, 150], "other": [300, 4000], "vocals": [300, 4000]}
BEST = {source: [10.0, 20.0, 11.0] for source in SOURCES}
BODY = f"<paint-mask bands='{json.dumps(BANDS)}' best='{json.dumps(BEST)}'></paint-mask>"
EXPLORER = "document.querySelector('paint-mask')"


def start(page):
    """Start the explorer and wait until it can be used."""
    page.get_by_role("button", name="Start (loads").click()
    page.wait_for_selector("paint-mask[data-ready]", timeout=30_000)
    return page


def mask_of(page):
    """Return the mask as the explorer holds it: (frames, 513), 0 to 1."""
    text = page.evaluate(
        """() => {
          const { work, source } = document.querySelector("paint-mask");
          const { mask } = work[source];
          let text = "";
          for (let i = 0; i < mask.length; i += 32768)
            text += String.fromCharCode(...mask.subarray(i, i + 32768));
          return btoa(text);
        }"""
    )
    values = np.frombuffer(base64.b64decode(text), np.uint8)
    return values.reshape(-1, stft.N_BINS) / np.float32(255)


def said(page):
    """Wait until the scores of a change are announced; return the text."""
    status = page.locator(".kit-status")
    status.filter(has_text="painted mask").wait_for()
    text = status.inner_text()
    page.evaluate(f"{EXPLORER}.say('')")
    return text


def shown(page, row):
    """Return SDR, SIR and SAR in a row of the table."""
    cells = page.get_by_role("row", name=re.compile(f"^{row}")).get_by_role("cell")
    texts = (text.replace("−", "-").replace("> 90", "inf") for text in cells.all_inner_texts())
    return [float(text) for text in texts]


def drag(page, *places, steps=20):
    """Drag the pointer over the picture, from place to place in parts of its size."""
    box = page.locator("canvas").bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=steps)
    page.mouse.up()


@pytest.fixture(scope="module")
def song(falcon):
    """True stems of the left channel (4, n_samples), as 16 bits give them, and their spectra."""
    stems = np.stack([falcon.stems[source][:, 0] for source in SOURCES])
    stems = (np.round(stems * 32768) / 32768).astype(np.float32)
    return stems, np.stack([stft.stft(stem[:, np.newaxis]) for stem in stems])


def scores_of(song, mask, source):
    """SDR, SIR and SAR of a mask (frames, 513) by the library."""
    stems, spectra = song
    index = SOURCES.index(source)
    estimates = stems.copy()
    mixed = spectra.sum(axis=0)
    estimates[index] = stft.istft(mask[..., np.newaxis] * mixed, stems.shape[1])[:, 0]
    return metrics.report_scores(stems, estimates)[:, index]


def test_the_scores_are_those_of_the_librarys_inverse_stft(live_page, song):
    page = start(live_page(BODY, "paint_mask"))
    frequencies = np.arange(stft.N_BINS) * 44100 / 1024
    band = np.tile((frequencies >= 300) & (frequencies <= 4000), (song[1].shape[1], 1))
    np.testing.assert_array_equal(mask_of(page), band)
    np.testing.assert_allclose(shown(page, "Painted"), scores_of(song, band, "vocals"), atol=0.01)
    ratio = oracles.ideal_ratio_masks(song[1])[..., 0]
    expected = scores_of(song, ratio[3], "vocals")
    np.testing.assert_allclose(shown(page, "Ideal ratio"), expected, atol=0.01)
    assert shown(page, "Best") == BEST["vocals"]

    page.get_by_role("slider", name="Value").fill("0.3")
    page.get_by_role("slider", name="Hardness").fill("0.2")
    drag(page, (0.3, 0.4), (0.6, 0.7), (0.5, 0.9))
    text = said(page)
    painted = mask_of(page)
    assert 0.25 < painted[band].min() < 0.35 and len(np.unique(painted)) > 20
    expected = scores_of(song, painted, "vocals")
    np.testing.assert_allclose(shown(page, "Painted"), expected, atol=0.01)
    assert f"SDR {expected[0]:.2f}".replace("-", "−") in text

    page.get_by_role("combobox", name="Source").select_option("drums")
    said(page)
    expected = scores_of(song, mask_of(page), "drums")
    np.testing.assert_allclose(shown(page, "Painted"), expected, atol=0.01)
    expected = scores_of(song, ratio[1], "drums")
    np.testing.assert_allclose(shown(page, "Ideal ratio"), expected, atol=0.01)


def test_the_lens_paints_the_ideal_mask_and_harmonics_follow_a_tone(live_page, song):
    page = start(live_page(BODY, "paint_mask"))
    page.get_by_role("button", name="What would the ideal mask do here?").click()
    page.get_by_role("slider", name="Hardness").fill("1")
    drag(page, (0.5, 0.7), (0.6, 0.7))
    said(page)
    ratio = oracles.ideal_ratio_masks(song[1])[3, ..., 0]
    changed = mask_of(page)
    inside = slice(len(ratio) // 2 + 10, int(0.6 * len(ratio)) - 10)
    middle = round(page.evaluate(f"{EXPLORER}.axis.bin(210, 300)"))
    np.testing.assert_allclose(changed[inside, middle], ratio[inside, middle], atol=0.003)

    page.get_by_role("button", name="What would the ideal mask do here?").click()
    page.get_by_role("button", name="Clear").click()
    said(page)
    page.get_by_role("slider", name="Size").fill("6")
    page.get_by_role("combobox", name="Tool").select_option("tone")
    drag(page, (0.5, 0.8), (0.55, 0.8))
    said(page)
    column = mask_of(page)[int(0.525 * len(ratio))]
    tone = page.evaluate(f"{EXPLORER}.axis.bin(240, 300)")
    for harmonic in (1, 2, 3, 5):
        assert column[round(harmonic * tone)] == 1
        assert column[round((harmonic + 0.5) * tone)] == 0


def test_keys_alone_reach_and_change_everything(live_page, song):
    page = start(live_page(BODY, "paint_mask"))
    first = mask_of(page)
    reached = []
    page.locator("body").press("Tab")
    for _ in range(30):
        tag = page.evaluate("document.activeElement.tagName")
        name = page.evaluate(
            "document.activeElement.closest('label')?.querySelector('.kit-label')?.textContent"
            " ?? document.activeElement.textContent"
        )
        reached.append("canvas" if tag == "CANVAS" else name)
        page.keyboard.press("Tab")
    for name in ("canvas", "Source", "Play", "Network", "Tool", "Eraser", "Value", "Size"):
        assert name in reached
    for name in ("Hardness", "Undo", "Redo", "Clear", "Keep all", "Start again", "Save", "Load"):
        assert name in reached

    canvas = page.get_by_role("application")
    assert "arrow keys" in canvas.get_attribute("aria-label")
    canvas.focus()
    canvas.press("e")
    canvas.press(" ")
    said(page)
    dab = np.argwhere(mask_of(page) != first)
    assert len(dab) > 100 and abs(dab[:, 0].mean() - len(first) / 2) < 2
    canvas.press("z")
    said(page)
    np.testing.assert_array_equal(mask_of(page), first)
    canvas.press("y")
    said(page)
    np.testing.assert_array_equal(np.argwhere(mask_of(page) != first), dab)

    canvas.press("ArrowRight")
    assert re.match(r"\d\.\d\d s, \d+ Hz: painted 0\.00, ideal", page.inner_text("[aria-live]"))
    assert len(np.argwhere(mask_of(page) != first)) == len(dab)  # the cursor alone has moved
    for _ in range(5):
        canvas.press("Shift+ArrowRight")
    said(page)
    stroke = np.argwhere(mask_of(page) != first)
    assert stroke[:, 0].max() > dab[:, 0].max() + 20

    canvas.press("+")
    assert page.get_by_role("slider", name="Size").input_value() == "18"
    canvas.press("b")
    assert page.get_by_role("button", name="What would", pressed=True).count()


def test_a_saved_mask_is_loaded_and_another_file_is_not(live_page, tmp_path):
    page = start(live_page(BODY, "paint_mask"))
    drag(page, (0.2, 0.2), (0.4, 0.3))
    said(page)
    painted = mask_of(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    assert download.value.suggested_filename == "falcon-69-vocals-mask.gz"
    saved = tmp_path / "saved.gz"
    download.value.save_as(saved)
    content = np.frombuffer(gzip.decompress(saved.read_bytes()), np.uint8).reshape(-1, 513)
    np.testing.assert_array_equal(content / np.float32(255), painted)

    page.get_by_role("button", name="Start again").click()
    said(page)
    short, text = tmp_path / "short.gz", tmp_path / "text.gz"
    short.write_bytes(gzip.compress(content[1:].tobytes()))
    text.write_text("no mask")
    for path in (short, text):
        page.set_input_files("input[type=file]", path)
        page.get_by_text(f"{path.name} is not a mask of this excerpt").wait_for()
    assert mask_of(page).min() == 0 and (mask_of(page) != painted).any()
    page.set_input_files("input[type=file]", saved)
    said(page)
    np.testing.assert_array_equal(mask_of(page), painted)


def test_what_is_painted_is_there_when_the_reader_comes_back(live_page):
    page = start(live_page(BODY, "paint_mask"))
    page.get_by_role("combobox", name="Source").select_option("bass")
    said(page)
    drag(page, (0.2, 0.2), (0.4, 0.3))
    said(page)
    page.evaluate(
        f"""async () => {{
          const text = btoa(String.fromCharCode(...(await {EXPLORER}.pack("bass"))));
          while (!localStorage["sepkit-paint-mask"]?.includes(text))
            await new Promise((done) => setTimeout(done, 50));
        }}"""
    )
    painted = mask_of(page)
    page.reload()
    start(page)
    assert page.get_by_role("combobox", name="Source").input_value() == "bass"
    np.testing.assert_array_equal(mask_of(page), painted)


def test_the_loop_plays_what_is_chosen_and_changes_with_the_mask(live_page):
    page = start(live_page(BODY, "paint_mask"))
    page.get_by_role("button", name="Play").click()
    playing = f"{EXPLORER}.loop.channels[0]"
    sounds = f"{EXPLORER}.work.vocals.sounds"
    keys = {"Network": "network", "True stem": "truth", "Mixture": "mixture", "Ideal": "ideal"}
    for name, key in keys.items():
        page.get_by_role("button", name=name, exact=True).click()
        assert page.evaluate(f"{playing} === {sounds}.{key}")
    page.get_by_role("button", name="Painted", exact=True).click()
    page.evaluate(f"window.last = {playing}")
    page.get_by_role("button", name="Clear").click()
    said(page)
    assert page.evaluate(f"{playing} !== last && {playing}.every((x) => Math.abs(x) < 1e-6)")


def test_painting_is_smooth(live_page):
    page = start(live_page(BODY, "paint_mask"))
    runs = []
    for _ in range(5):
        page.evaluate(
            """() => {
              Object.assign(window, { gaps: [], tasks: [0], dragging: true });
              const watch = new PerformanceObserver((list) =>
                tasks.push(...list.getEntries().map((entry) => entry.duration)));
              watch.observe({ type: "longtask" });
              let last = performance.now();
              const step = (now) => {
                gaps.push(now - last);
                last = now;
                if (dragging) requestAnimationFrame(step);
                else watch.disconnect();
              };
              requestAnimationFrame(step);
            }"""
        )
        drag(page, (0.1, 0.3), (0.9, 0.8), steps=50)
        gaps, tasks = page.evaluate("(dragging = false, [gaps, tasks])")
        runs.append((float(np.median(gaps[1:])), max(tasks)))
        if runs[-1][0] <= 20 and runs[-1][1] <= 100:
            return
    pytest.fail(f"median time between frames and longest task, in ms: {runs}")


def test_it_works_from_disk_and_fits_a_phone(live_page):
    page = start(live_page(BODY, "paint_mask", width=375, served=False, has_touch=True))
    page.get_by_role("button", name="Keep all").click()
    said(page)
    assert shown(page, "Painted")[:2] == shown(page, "Mixture")[:2]
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    for handle in page.locator("paint-mask :is(button, select):visible").all():
        assert handle.bounding_box()["height"] >= 36


def test_axe_finds_nothing_serious(live_page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = start(live_page(BODY, "paint_mask"))
    found = []
    for theme, style in (
        ("light", "body {}"),
        ("dark", "body { background: #121212; color: #ddd }"),
    ):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        page.add_style_tag(content=style)
        for finding in axe.run(page).response["violations"]:
            if finding["impact"] in ("serious", "critical"):
                found.append((theme, finding["id"]))
    assert found == []
