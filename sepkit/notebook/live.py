"""Explorers that compute in the page: their HTML, with a picture and a sound of their first state.

Each is a custom element whose script, ``static/NAME.js``, stands on ``static/kit.js`` and on the
engine of `sepkit.notebook.web`. In a notebook, and in a page without scripts, the picture and the
sound remain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import HTML

from sepkit.errors import ParameterError
from sepkit.notebook import media
from sepkit.notebook.dark import dark
from sepkit.notebook.explorer import Step, draw_picture


def live(
    element: str,
    first: Step,
    *,
    title: str,
    licence: str | None = None,
    licence_link: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> HTML:
    """Show an explorer.

    Parameters
    ----------
    element : str
        Name of its element, such as ``"loss-simplex"``, which ``static/loss_simplex.js`` defines.
    first : sepkit.notebook.explorer.Step
        Picture of its first state, with a description, and if there is one its sound.
    title : str
        Heading of the picture.
    licence, licence_link : str, optional
        Line below a sound, and address of the licence, as for
        `sepkit.notebook.explorer.explore`.
    attributes : mapping, optional
        Attributes of the element, for its script; values that are no text are written as JSON.

    Returns
    -------
    IPython.display.HTML
        The last expression of a cell shows it.

    Raises
    ------
    ParameterError
        When the picture has no description, or a site's page with a sound has no licence.
    AudioError
        When the sound holds NaN or infinite samples, or a file cannot be written.
    """
    if not first.alt.strip():
        raise ParameterError(f"{title}: alt is empty; say what the picture shows")
    directory = media.site_directory()
    sound = ""
    if first.sound is not None:
        media.check_sound(title, first.sound, first.rate)
        media.check_licence(title, licence, licence_link)
        content = media.flac(first.sound, first.rate)
        if directory:
            source = f"_static/audio/{media.saved(content, 'audio/flac', directory)}"
        else:
            source = media.embedded(content, "audio/flac")
        sound = f'<audio controls preload="none" src="{source}"></audio>'
    pictures = _picture(first, "only-light" if directory else "")
    if directory:
        with dark(first.figure):
            pictures += _picture(first, "only-dark")
    plt.close(first.figure)
    values = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in (attributes or {}).items()
    }
    written = "".join(f' {name}="{escape(value)}"' for name, value in values.items())
    foot = media.foot(licence, licence_link, 1.0)
    return HTML(
        f'<{element} class="kit"{written}><div class="kit-fallback">'
        f"<p><strong>{escape(title)}</strong></p>{pictures}{sound}</div></{element}>{foot}"
    )


def _picture(step: Step, theme: str) -> str:
    picture, (width, height) = draw_picture(step.figure)
    return (
        f'<img class="{theme} dark-light" src="{media.embedded(picture, "image/webp")}" '
        f'alt="{escape(step.alt)}" width="{width}" height="{height}" '
        'style="max-width: 100%; height: auto">'
    )
