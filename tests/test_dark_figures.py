"""The dark copies of the book's figures: what is grey changes places, colors and data stay."""

import base64
import hashlib
import importlib.util
import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from sepkit.notebook.dark import GROUND, LETTERS, dark, darken

EXTENSIONS = Path(__file__).parents[1] / "book" / "_extensions"


@pytest.fixture(scope="module")
def dark_figures():
    spec = importlib.util.spec_from_file_location("dark_figures", EXTENSIONS / "dark_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def figure():
    figure, (lines, picture) = plt.subplots(2)
    lines.plot([0, 1], color="black")
    lines.plot([1, 0], "o", color="#0072b2", markeredgecolor="black", markerfacecolor="none")
    lines.bar(0.5, 0.5, color="#d55e00")
    lines.set_title("a title")
    picture.imshow(np.eye(4), cmap="gray")
    picture.text(1, 1, "on the picture", color="white")
    yield figure
    plt.close(figure)


def _colors(figure):
    lines, picture = figure.axes
    return {
        "ground": figure.get_facecolor()[:3],
        "line": to_rgb(lines.lines[0].get_color()),
        "edge": to_rgb(lines.lines[1].get_markeredgecolor()),
        "blue": to_rgb(lines.lines[1].get_color()),
        "bar": lines.patches[0].get_facecolor()[:3],
        "title": to_rgb(lines.title.get_color()),
        "on the picture": to_rgb(picture.texts[0].get_color()),
    }


def test_white_becomes_the_dark_ground_and_black_the_light_letters(figure):
    before = _colors(figure)
    with dark(figure):
        after = _colors(figure)
        assert figure.axes[0].lines[1].get_markerfacecolor() == "none"
    np.testing.assert_allclose(after["ground"], GROUND)
    for name in ("line", "edge", "title"):
        np.testing.assert_allclose(after[name], LETTERS, err_msg=name)
    for name in ("blue", "bar", "on the picture"):
        np.testing.assert_allclose(after[name], before[name], err_msg=name)
    assert _colors(figure) == before


def test_letters_can_be_read_on_the_dark_ground():
    def luminance(color):
        linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    greys = [to_rgb(str(level)) for level in (0.0, 0.2, 0.4)]
    for grey in greys:  # those of labels
        light = luminance(darken(grey)[0, :3])
        assert (light + 0.05) / (luminance(GROUND) + 0.05) > 4.5


@pytest.mark.parametrize("coded", [True, False])
def test_both_drawings_have_one_size_and_the_light_ones_name(dark_figures, figure, coded, tmp_path):
    def print_figure(figure, fmt="png", base64=False):
        assert not base64
        drawn = io.BytesIO()
        figure.savefig(drawn, format=fmt)
        return drawn.getvalue()

    shown = dark_figures.draw_both(print_figure, tmp_path)(figure, base64=coded)
    if coded:
        shown = base64.b64decode(shown)
    (other,) = tmp_path.iterdir()
    assert other.name == f"{hashlib.sha256(shown).hexdigest()}.png"
    light, drawn = Image.open(io.BytesIO(shown)), Image.open(other)
    assert light.size == drawn.size
    assert light.convert("L").getpixel((1, 1)) > 250 and drawn.convert("L").getpixel((1, 1)) < 40
