"""The explorer of the loss in one bin, in Chromium: its numbers are the library's."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
from helpers import assert_usable_on_a_phone, set_theme

from sepkit import losses, metrics
from sepkit.study import oracles
from sepkit.tracks import SOURCES

BODY = '<loss-simplex class="kit"></loss-simplex>'
CHAPTER = Path(__file__).parents[2] / "book" / "loss.ipynb"


@pytest.fixture(scope="module")
def chapter():
    """The chapter's functions, as its cells define them."""
    space = {"np": np, "SOURCES": SOURCES, "OTHER": 2, "NAMED": [0, 1, 3]}
    space |= {name: getattr(losses, name) for name in ("ALPHA", "BETA", "GAMMA")}
    exec("from itertools import combinations\nfrom scipy.linalg import null_space", space)
    wanted = {"true_shares", "best_masks", "reachable_masks", "curvatures"}
    for cell in nbformat.read(CHAPTER, as_version=4).cells:
        if cell.cell_type != "code" or "%pip" in cell.source:
            continue
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef) and node.name in wanted:
                exec(ast.unparse(node), space)
    space["E"] = space["null_space"](np.ones((1, 4)))
    return space


@pytest.fixture
def explorer(live_page):
    """Open the explorer in a page."""

    def open_explorer(**options):
        page = live_page(BODY, "loss_simplex", **options)
        page.wait_for_selector("loss-simplex[data-ready]")
        return page

    return open_explorer


def number(text):
    return float(text.replace("−", "-"))


def numbers_of(page):
    """The table: shares, best masks, masks without limits, each followed by its loss."""
    page.evaluate("() => new Promise(requestAnimationFrame)")
    table = page.locator("loss-simplex .kit-table").first
    rows = table.locator("tbody tr").evaluate_all(
        "rows => rows.map((row) => [...row.cells].slice(1).map((cell) => cell.textContent))"
    )
    return np.array([[number(text) for text in row] for row in rows]).T


def set_slider(page, name, *keys):
    """Move a slider by keys and return its value."""
    handle = page.get_by_role("slider", name=name)
    for key in keys:
        handle.press(key)
    return float(handle.get_attribute("aria-valuetext").replace("−", "-"))


def weights_of(page):
    return {
        name: set_slider(page, f"Weight {letter}")
        for name, letter in {"alpha": "α", "beta": "β", "gamma": "γ"}.items()
    }


def library_loss(masks, shares, weights):
    """The report's loss of one bin whose mixture is 1, as a waveform of one sample."""
    truth, estimate = (np.reshape(x, (1, 1, 1, 4)) for x in (shares, masks))
    return losses.report_loss(truth, estimate, **weights)


@pytest.mark.parametrize(
    ("preset", "keys", "moves"),
    [
        ("The report's", [], {}),
        ("All zero", ["ArrowUp"] * 3, {}),
        ("Strong", ["Shift+ArrowRight"] * 2, {"Weight α": 3 * ["ArrowLeft"]}),
        (
            "The report's",
            ["Shift+ArrowLeft"] * 8,
            {"Share of drums": ["PageUp"], "Weight γ": ["PageUp"]},
        ),
        ("No minimum", ["ArrowDown"] * 4, {"Weight α": 2 * ["ArrowRight"]}),
        ("The report's", ["ArrowRight"], {"Weight β": ["End"], "Weight γ": ["End"]}),
    ],
)
def test_optimum_and_loss_are_the_librarys(preset, keys, moves, explorer, chapter):
    page = explorer()
    page.get_by_role("button", name=preset).press("Enter")
    page.locator("loss-simplex canvas").first.focus()
    for key in keys:
        page.keyboard.press(key)
    for name, pressed in moves.items():
        set_slider(page, name, *pressed)
    weights = weights_of(page)
    shares, held, free = numbers_of(page)
    assert shares[:4].sum() == pytest.approx(1, abs=1e-9)
    expected = chapter["reachable_masks"](shares[:4, np.newaxis], **weights)[:, 0]
    np.testing.assert_allclose(held[:4], expected, atol=1e-6)
    np.testing.assert_allclose(free[:4], chapter["best_masks"](shares[:4], **weights), atol=1e-6)
    for masks, shown in ((shares[:4], shares[4]), (expected, held[4])):
        assert shown == pytest.approx(library_loss(masks, shares[:4], weights), abs=1e-6)


def test_the_limit_of_alpha_is_where_the_smallest_curvature_is_zero(explorer, chapter):
    page = explorer()
    for keys in ([], 3 * ["PageUp"]):
        set_slider(page, "Weight γ", *keys)
        numbers_of(page)
        shown = page.locator("loss-simplex .kit-scores").first.inner_text()
        limit = float(shown.rpartition(" ")[2].rstrip("."))
        weights = weights_of(page)
        below, above = (
            chapter["curvatures"](limit + step, weights["beta"], weights["gamma"])[0]
            for step in (-1e-4, 1e-4)
        )
        assert below > 0 > above


def test_the_keyboard_moves_the_shares_and_the_status_tells_the_border(explorer):
    page = explorer(served=False)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "CANVAS"
    for key, expected in (
        ("ArrowRight", [0.49, 0.1, 0.3, 0.11]),
        ("ArrowUp", [0.48, 0.1, 0.32, 0.1]),
        ("Shift+ArrowLeft", [0.53, 0.1, 0.32, 0.05]),
        ("Shift+ArrowDown", [0.58, 0.1, 0.22, 0.1]),
    ):
        page.keyboard.press(key)
        np.testing.assert_allclose(numbers_of(page)[0][:4], expected, atol=1e-9)
    for _ in range(5):
        page.keyboard.press("Shift+ArrowLeft")
    status = page.locator("loss-simplex .kit-status")
    page.wait_for_function("document.querySelector('.kit-status').textContent.includes('border')")
    assert "no vocals" in status.inner_text()
    label = page.locator("loss-simplex canvas").first.get_attribute("aria-label")
    assert "vocals −0.15" in label and "Arrow keys" in label


def test_a_drag_moves_the_share_under_the_pointer(explorer):
    page = explorer()
    box = page.locator("loss-simplex canvas").first.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 170, steps=3)
    shares = numbers_of(page)[0][:4]  # before the button is up, which is a click as well
    page.mouse.up()
    assert shares[0] == pytest.approx(shares[3], abs=0.011)
    assert shares.sum() == pytest.approx(1)


def test_a_song_is_separated_by_the_best_masks_from_disk(explorer, falcon, chapter):
    page = explorer(served=False)
    page.get_by_role("button", name="Strong").click()
    page.get_by_role("button", name="Hear these weights").click()
    table = page.locator("loss-simplex .kit-table").nth(1)
    table.locator("tbody tr").first.wait_for(state="attached", timeout=20_000)
    rows = table.locator("tbody tr").evaluate_all(
        "rows => rows.map((row) => [...row.cells].slice(1).map((cell) => cell.textContent))"
    )
    start = int(2.8 * falcon.rate)
    stems = np.stack([stem[start : start + 3 * falcon.rate, :1] for stem in falcon.stems.values()])

    def scores(**weights):
        def make_masks(spectra):
            shares = chapter["true_shares"](spectra)
            masks = chapter["reachable_masks"](shares.reshape(4, -1), **weights)
            return masks.reshape(shares.shape).astype(np.float32)

        sounds = oracles.apply_to_song(make_masks, stems)
        return metrics.report_scores(stems[..., 0], sounds[..., 0])

    strong = scores(alpha=0.03, beta=0.3, gamma=0.5)
    change = strong - scores(alpha=0, beta=0, gamma=0)
    shown = np.array([[number(cell.split(" ")[0]) for cell in row] for row in rows])
    np.testing.assert_allclose(shown, strong.T, atol=0.051)  # shown with one decimal
    shown = np.array([[number(cell.split("(")[1].rstrip(")")) for cell in row] for row in rows])
    np.testing.assert_allclose(shown, change.T, atol=0.051)
    page.get_by_role("button", name="Play").press("Enter")
    page.get_by_role("button", name="Stop").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_phone_needs_no_sideways_scroll(scheme, explorer):
    page = explorer(width=375, color_scheme=scheme)
    set_theme(page, scheme)
    page.locator("summary").first.click()
    assert_usable_on_a_phone(page, "loss-simplex")


DRAG = """async ([left, top, right, bottom]) => {
  let longest = 0;
  const watch = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
  });
  watch.observe({ type: "longtask" });
  const frame = () => new Promise(requestAnimationFrame);
  const gaps = [];
  const target = [...document.querySelectorAll("main *")].find((e) => e.hasPointerCapture(1));
  let last = await frame();
  for (let i = 0; i < 60; i++) {
    const place = {
      clientX: left + ((right - left) * i) / 60, clientY: top + ((bottom - top) * i) / 60,
    };
    const event = new PointerEvent("pointermove", { pointerId: 1, bubbles: true, ...place });
    target.dispatchEvent(event);
    const now = await frame();
    gaps.push(now - last);
    last = now;
  }
  watch.disconnect();
  return [gaps.sort((a, b) => a - b)[30], longest];
}"""
"""Moves a pointer that is down, one step a frame: median time between frames, longest task."""


def drag(page, places):
    """The best of five drags between places of the first picture, [left, top, right, bottom]."""
    box = page.locator("canvas").first.bounding_box()
    left, top, right, bottom = places
    path = [box["x"] + left, box["y"] + top, box["x"] + right, box["y"] + bottom]
    runs = []
    for _ in range(5):
        page.mouse.move(path[0], path[1])
        page.mouse.down()
        runs.append(page.evaluate(DRAG, path))
        page.mouse.up()
    return np.min(runs, axis=0)


def test_a_drag_keeps_sixty_frames_a_second(explorer):
    page = explorer()
    before = numbers_of(page)[0]
    median, longest = drag(page, [60, 220, 300, 100])
    assert abs(numbers_of(page)[0] - before).max() > 0.2
    assert median <= 20 and longest <= 100, (median, longest)
