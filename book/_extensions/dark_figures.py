"""Draw every figure of a page once more, in the colors of the dark theme.

The build's kernels run this first (``PYTHONSTARTUP``). For each figure that a notebook shows, its
copy is ``SHA-256 OF THE FIGURE.png`` in the folder of ``BOOK_DARK_FIGURES``. `publish` puts both
into the page, and the theme shows one of them.
"""

import contextlib
import hashlib
import os
from binascii import b2a_base64
from pathlib import Path

import numpy as np

GROUND = np.array([0x12, 0x12, 0x12]) / 255  # the theme's background
LETTERS = np.array([0xCE, 0xD6, 0xDD]) / 255  # the theme's text


def darken(colors):
    """Map white to the dark theme's background, black to its text, and grey between them.

    Parameters
    ----------
    colors : color or sequence of colors
        In any form of Matplotlib's.

    Returns
    -------
    ndarray of shape (n, 4)
        RGBA. What is not grey stays as it is.
    """
    from matplotlib.colors import to_rgba_array

    rgba = to_rgba_array(colors)
    light = rgba[:, :3].mean(axis=1, keepdims=True)
    grey = np.ptp(rgba[:, :3], axis=1) < 0.1
    rgba[grey, :3] = (light * GROUND + (1 - light) * LETTERS)[grey]
    return rgba


def _colors(artist):
    """List the properties of an artist that are colors."""
    from matplotlib.collections import Collection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.text import Text

    if isinstance(artist, Text):
        axes = artist.axes
        on_image = (
            axes is not None and artist in axes.texts and any(map(_is_image, axes.get_children()))
        )
        return [] if on_image else ["color"]
    if isinstance(artist, Line2D):
        return ["color", "markerfacecolor", "markeredgecolor", "markerfacecoloralt"]
    if isinstance(artist, Patch):
        return ["facecolor", "edgecolor"]
    if isinstance(artist, Collection) and artist.get_array() is None:
        return ["facecolor", "edgecolor"]
    return []


def _is_image(artist):
    from matplotlib.collections import QuadMesh
    from matplotlib.image import AxesImage

    return isinstance(artist, AxesImage | QuadMesh)


@contextlib.contextmanager
def dark(figure):
    """Give a figure the colors of the dark theme, and take them back afterwards."""
    # All first: an edge's color may be that of its line until it is given one.
    old = [
        (artist, name, getattr(artist, f"get_{name}")())
        for artist in figure.findobj()
        for name in _colors(artist)
    ]
    old = [place for place in old if len(place[2]) and str(place[2]) not in ("none", "auto")]
    for artist, name, color in old:
        new = darken(color)
        getattr(artist, f"set_{name}")(new if len(new) > 1 else tuple(new[0].tolist()))
    try:
        yield
    finally:
        for artist, name, color in old:
            getattr(artist, f"set_{name}")(color)


def draw_both(print_figure, folder):
    """Wrap IPython's function that draws a figure."""

    def print_both(figure, fmt="png", base64=False, **options):
        drawn = print_figure(figure, fmt=fmt, **options)
        if fmt != "png" or drawn is None:
            return drawn
        with dark(figure):
            other = print_figure(figure, fmt=fmt, **options)
        (folder / f"{hashlib.sha256(drawn).hexdigest()}.png").write_bytes(other)
        return b2a_base64(drawn, newline=False).decode("ascii") if base64 else drawn

    return print_both


if "BOOK_DARK_FIGURES" in os.environ:
    from IPython.core import pylabtools

    _folder = Path(os.environ["BOOK_DARK_FIGURES"])
    _folder.mkdir(parents=True, exist_ok=True)
    pylabtools.print_figure = draw_both(pylabtools.print_figure, _folder)
    del _folder, pylabtools
