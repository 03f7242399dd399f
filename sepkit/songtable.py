"""A table of songs and their scores that a reader sorts and filters.

The table is a custom element, ``<song-table>``, brought to life by ``static/song_table.js``;
without the script it is a plain table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from IPython.display import HTML

from sepkit import media
from sepkit.errors import ParameterError


def anchor(name: str) -> str:
    """Name the place of a song in a page, to link to.

    Parameters
    ----------
    name : str
        Artist and title.

    Returns
    -------
    str
        ``song-`` and the name's letters and digits, lower case, joined by hyphens.
    """
    return "song-" + "-".join(re.findall(r"[^\W_]+", name.lower()))


def song_table(
    songs: Sequence[Mapping[str, str | float]], *, caption: str, anchors: bool = False
) -> HTML:
    """Lay songs out as a table with a button on every heading and a filter.

    Parameters
    ----------
    songs : sequence of dict
        A row each, all with the same keys: first the song's name, then texts and numbers by
        heading. Numbers are shown with one decimal and sort as numbers; NaN is shown as a dash
        and comes last.
    caption : str
        What the table holds.
    anchors : bool
        Whether each row can be linked to by its `anchor`; for one table of a page.

    Returns
    -------
    HTML
        To be the last line of a cell.

    Raises
    ------
    ParameterError
        When there is no song or their keys differ.
    """
    if not songs or any(song.keys() != songs[0].keys() for song in songs):
        raise ParameterError("songs: give at least one, and the same keys for all of them")
    headings = "".join(
        f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in songs[0]
    )
    rows = "".join(_row(song, anchors) for song in songs)
    label = escape(caption, quote=True)
    html = (
        '<song-table><label class="song-filter" hidden>Show songs with '
        '<input type="search"></label><p class="song-count" role="status"></p>'
        f'<div class="song-scroll" role="region" aria-label="{label}" tabindex="0"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{headings}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div></song-table>"
    )
    if media.site_directory():
        return HTML(html)
    static = resources.files("sepkit") / "static"
    script = (static / "song_table.js").read_text(encoding="utf-8")
    style = (static / "song_table.css").read_text(encoding="utf-8")
    return HTML(f"<style>{style}</style>{html}<script>{script}</script>")


def _row(song: Mapping[str, str | float], anchors: bool) -> str:
    name, *values = song.values()
    place = f' id="{escape(anchor(str(name)), quote=True)}"' if anchors else ""
    cells = "".join(map(_cell, values))
    return f'<tr{place}><th scope="row">{escape(str(name))}</th>{cells}</tr>'


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    if value != value:
        return '<td class="song-number" data-value="">–</td>'
    shown = f"{value:.1f}".replace("-", "−")
    return f'<td class="song-number" data-value="{value:.4f}">{shown}</td>'
