"""A figure and a sound controlled by sliders: by a kernel, or as precomputed steps in a page.

The static form is a custom element, ``<step-explorer>``, of ``static/stepper.js``; its pictures and
sounds are files of the site.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, display
from matplotlib.figure import Figure
from PIL import Image

from sepkit.errors import ParameterError
from sepkit.notebook import media
from sepkit.notebook.dark import dark
from sepkit.notebook.plotting import with_fallback
from sepkit.tracks import RATE

MOST_STEPS = 24
"""Most steps of one figure in a page."""

DPI = 110
"""Resolution of the pictures [dots per inch]."""


@dataclass(frozen=True)
class Step:
    """Picture and sound of one setting of the controls.

    Attributes
    ----------
    figure : Figure
        The picture, closed by `explore`.
    alt : str
        Description of the picture, for readers who cannot see it.
    sound : ndarray of shape (n_samples, n_channels), float, optional
        The sound.
    rate : int
        Sample rate of the sound [Hz].
    """

    figure: Figure
    _: KW_ONLY
    alt: str
    sound: np.ndarray | None = None
    rate: int = RATE


def explore(
    step: Callable[..., Step],
    controls: Mapping[str, Sequence],
    *,
    start: Mapping[str, Any] | None = None,
    title: str = "Explore",
    licence: str | None = None,
    licence_link: str | None = None,
):
    """Show a function that draws a figure and makes a sound, with sliders for its arguments.

    Parameters
    ----------
    step : callable
        Takes one positional argument per control and returns a `Step`.
    controls : mapping of str to sequence
        Label of a control (``"hop [frames]"``) to its values, numbers or text. The settings are all
        combinations, at most 24.
    start : mapping of str to value, optional
        Initial values of controls; the first value by default.
    title : str
        Heading, also for screen readers.
    licence : str, optional
        Line below the sound: artist, title, licence. Required in a page of a site.
    licence_link : str, optional
        Address of the licence (http or https).

    Returns
    -------
    object
        The last expression of a cell shows it. While a site is built (``SEPKIT_PLAYER_DIRECTORY``
        names its folder), all steps under HTML sliders; else sliders that call ``step`` in a
        kernel, with the initial step alone in a saved notebook.

    Raises
    ------
    AudioError
        When a sound holds NaN or infinite samples, or a file cannot be written.
    ParameterError
        When there is no control, one without values, more than 24 steps, an initial value that
        is not among the values, a result that is no `Step`, or a site's page without a licence.

    Notes
    -----
    If a sound exceeds full scale, one gain lowers the sounds of all steps; with a kernel, which
    computes one step at a time, that step's alone.
    """
    firsts = {name: values[0] for name, values in controls.items() if len(values)}
    start = {**firsts, **(start or {})}
    _check(controls, start)
    opening = tuple(start[name] for name in controls)

    @functools.cache
    def taken(setting: tuple) -> _Shown:
        return _Shown.of(step(*setting), _describe(controls, setting))

    first = taken(opening)
    if first.sound is not None:
        media.check_licence(title, licence, licence_link)
    directory = media.site_directory()
    if directory:
        steps = [taken(setting) for setting in itertools.product(*controls.values())]
        gain = _gain(steps)
        data = [_data(shown, gain, directory) for shown in steps]
        foot = media.foot(licence, licence_link, gain)
        return HTML(_page(title, _controls(controls, start), first, data, foot))

    def alone(setting: tuple) -> str:
        shown = taken(setting)
        gain = _gain([shown])
        return _alone(title, shown, gain) + media.foot(licence, licence_link, gain)

    return with_fallback(_form(controls, start, alone), html=alone(opening))


def _check(controls: Mapping[str, Sequence], start: Mapping[str, Any]) -> None:
    if not controls:
        raise ParameterError("controls: there is none; give a dict of name -> values")
    for name, values in controls.items():
        if not len(values):
            raise ParameterError(f"{name}: a control without values; give at least one")
        if start[name] not in list(values):
            shown = ", ".join(map(_text, values))
            raise ParameterError(f"start: {name}={start[name]!r} is not one of {shown}")
    if unknown := [name for name in start if name not in controls]:
        raise ParameterError(
            f"start: {unknown[0]!r} is no control; there are {', '.join(controls)}"
        )
    n_steps = math.prod(map(len, controls.values()))
    if n_steps > MOST_STEPS:
        raise ParameterError(
            f"controls: {n_steps} steps, but a page carries {MOST_STEPS} at most; give fewer values"
        )


def _text(value: Any) -> str:
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{value:g}"
    return str(value)


def _describe(controls: Mapping[str, Sequence], setting: tuple) -> str:
    pairs = zip(controls, setting, strict=True)
    return ", ".join(f"{name}: {_text(value)}" for name, value in pairs)


@dataclass(frozen=True)
class _Shown:
    """A step, drawn."""

    setting: str
    picture: bytes
    size: tuple[int, int]
    figure: Figure
    alt: str
    sound: np.ndarray | None
    rate: int

    @classmethod
    def of(cls, step: Step, setting: str) -> _Shown:
        if not isinstance(step, Step):
            raise ParameterError(
                f"step: gave {type(step).__name__} at {setting}; return Step(figure, alt=...)"
            )
        if not step.alt.strip():
            raise ParameterError(f"step: alt is empty at {setting}; say what the picture shows")
        if step.sound is not None:
            media.check_sound(f"sound at {setting}", step.sound, step.rate)
        return cls(
            setting, *draw_picture(step.figure), step.figure, step.alt, step.sound, step.rate
        )

    def dark(self) -> bytes:
        """Draw the picture for the dark theme."""
        with dark(self.figure):
            return draw_picture(self.figure)[0]

    def flac(self, gain: float) -> bytes:
        return media.flac(self.sound * gain, self.rate)


def draw_picture(figure: Figure) -> tuple[bytes, tuple[int, int]]:
    """Draw a figure as WebP, lossless where that is smaller, as for lines.

    Parameters
    ----------
    figure : Figure
        The figure, which is closed.

    Returns
    -------
    picture : bytes
        The file.
    size : tuple of int
        Its width and height [pixels].
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    plt.close(figure)
    image = Image.open(drawn).convert("RGB")
    forms = []
    for options in ({"lossless": True}, {"quality": 80}):
        file = io.BytesIO()
        image.save(file, format="webp", **options)
        forms.append(file.getvalue())
    return min(forms, key=len), image.size


def _gain(steps: list[_Shown]) -> float:
    peaks = [float(np.abs(step.sound).max()) for step in steps if step.sound is not None]
    return 1 / max([1.0, *peaks])


def _image(shown: _Shown) -> str:
    width, height = shown.size
    return (
        f'<img class="step-picture dark-light" src="{media.embedded(shown.picture, "image/webp")}" '
        f'alt="{escape(shown.alt)}" width="{width}" height="{height}" '
        'style="max-width: 100%; height: auto">'
    )


def _alone(title: str, shown: _Shown, gain: float) -> str:
    html = f"<p><strong>{escape(title)}</strong> ({escape(shown.setting)})</p>{_image(shown)}"
    if shown.sound is not None:
        source = media.embedded(shown.flac(gain), "audio/flac")
        html += f'<audio controls preload="none" src="{source}" style="display: block"></audio>'
    return html


def _form(
    controls: Mapping[str, Sequence], start: Mapping[str, Any], html: Callable[[tuple], str]
) -> ipywidgets.Widget:
    sliders = {
        name: ipywidgets.SelectionSlider(
            options=[(_text(value), value) for value in values],
            value=start[name],
            description=name,
            continuous_update=False,
            style={"description_width": "initial"},
        )
        for name, values in controls.items()
    }

    def show(**setting):
        display(HTML(html(tuple(setting.values()))))

    return ipywidgets.VBox([*sliders.values(), ipywidgets.interactive_output(show, sliders)])


def _page(title: str, controls: str, first: _Shown, data: list[str], foot: str) -> str:
    name = escape(title)
    sound = f'<audio controls preload="none" aria-label="{name}: sound"></audio>'
    return (
        f'<step-explorer role="group" aria-label="{name}"><p class="step-title">{name}</p>'
        f'<div class="step-controls">{controls}</div><p class="step-status" role="status"></p>'
        f"{_image(first)}{sound if first.sound is not None else ''}{''.join(data)}{foot}"
        "</step-explorer>"
    )


def _controls(controls: Mapping[str, Sequence], start: Mapping[str, Any]) -> str:
    html = ""
    for name, values in controls.items():
        texts = [_text(value) for value in values]
        place = list(values).index(start[name])
        html += (
            f'<div class="step-control"><label><span class="step-name">{escape(name)}</span>'
            f'<input type="range" min="0" max="{len(values) - 1}" value="{place}" '
            f'autocomplete="off" aria-valuetext="{escape(texts[place])}" '
            f'data-values="{escape(json.dumps(texts))}"></label>'
            f'<span class="step-value" aria-hidden="true">{escape(texts[place])}</span></div>'
        )
    return html


def _data(shown: _Shown, gain: float, directory: Path) -> str:
    picture = media.saved(shown.picture, "image/webp", directory)
    dark_picture = media.saved(shown.dark(), "image/webp", directory)
    width, height = shown.size
    sound = ""
    if shown.sound is not None:
        sound = f' data-audio="{media.saved(shown.flac(gain), "audio/flac", directory)}"'
    return (
        f'<span hidden class="step-data" data-picture="{picture}" '
        f'data-dark-picture="{dark_picture}" data-width="{width}" '
        f'data-height="{height}" data-alt="{escape(shown.alt)}"{sound}></span>'
    )
