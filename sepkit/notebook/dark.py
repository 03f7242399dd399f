"""Colors of a figure in the dark theme of the book's site."""

from __future__ import annotations

import contextlib

import numpy as np
from matplotlib.collections import Collection, QuadMesh
from matplotlib.colors import to_rgba_array
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

GROUND = np.array([0x12, 0x12, 0x12]) / 255
"""Background of the dark theme, RGB."""

LETTERS = np.array([0xCE, 0xD6, 0xDD]) / 255
"""Text of the dark theme, RGB."""


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
    rgba = to_rgba_array(colors)
    light = rgba[:, :3].mean(axis=1, keepdims=True)
    grey = np.ptp(rgba[:, :3], axis=1) < 0.1
    rgba[grey, :3] = (light * GROUND + (1 - light) * LETTERS)[grey]
    return rgba


def _colors(artist):
    """List the properties of an artist that are colors."""
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
    return isinstance(artist, AxesImage | QuadMesh)


@contextlib.contextmanager
def dark(figure):
    """Draw a figure in the colors of the dark theme, and restore its own afterwards.

    Parameters
    ----------
    figure : Figure
        A figure with a light background. Images, and text upon them, stay as they are.
    """
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
