"""A table of songs and their scores that a reader sorts and filters.

The table is a custom element, ``<song-table>``, brought to life by ``static/song_table.js``;
without the script it is a plain table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources

import numpy as np
from IPython.display import HTML

from sepkit import datasets
from sepkit.datasets import SOURCES
from sepkit.errors import ParameterError
from sepkit.metrics import METRICS
from sepkit.notebook import media


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


def song_rows(scored: Mapping) -> list[dict[str, str | float]]:
    """Lay the scores of a card out as rows for `song_table`.

    Parameters
    ----------
    scored : dict
        ``card["scores"][mode]``.

    Returns
    -------
    list of dict
        Song, genre where MUSDB18's table knows it, and the report's scores of the left channel
        by metric and source [dB].
    """
    genres = {row["track"]: row["genre"] for row in datasets.musdb_table()}
    return [
        {"song": song["name"], "genre": genres.get(song["name"], "")}
        | {
            f"{metric} {source}": np.nan if value is None else value
            for metric in METRICS
            for source, value in zip(SOURCES, song["report"][0][metric], strict=True)
        }
        for song in scored["songs"]
    ]


def box_dots(scored: Mapping, *, page: str = "") -> HTML:
    """List the songs that `sepkit.notebook.plotting.scores` draws as dots, linked to their rows.

    Parameters
    ----------
    scored : dict
        ``card["scores"][mode]``.
    page : str
        The page whose table has `anchor` places; the same page by default.

    Returns
    -------
    HTML
        A list with a line for each metric and source that has such songs, the lowest score first.
    """
    lines = ""
    for metric in METRICS:
        for j, source in enumerate(SOURCES):
            songs = ", ".join(
                f'<a href="{escape(page, quote=True)}#{anchor(name)}">{escape(name)}</a> '
                f"({_decibels(value)})"
                for value, name in sorted(_outside_whiskers(scored["songs"], metric, j))
            )
            if songs:
                lines += f"<li>{metric} of {source} [dB]: {songs}</li>"
    return HTML(f'<ul class="song-dots">{lines}</ul>')


def _outside_whiskers(
    songs: Sequence[Mapping], metric: str, source: int
) -> Iterator[tuple[float, str]]:
    scores = [
        (channel[metric][source], song["name"]) for song in songs for channel in song["report"]
    ]
    scores = [(value, name) for value, name in scores if value is not None]
    low, high = np.percentile([value for value, _ in scores], [25, 75])
    reach = 1.5 * (high - low)
    for value, name in scores:
        if not low - reach <= value <= high + reach:
            yield value, name


def _decibels(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def song_table(
    songs: Sequence[Mapping[str, str | float]],
    *,
    caption: str,
    anchors: bool = False,
    links: Mapping[str, str] | None = None,
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
    links : dict of str to str, optional
        Where names lead, for those that lead somewhere.

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
    rows = "".join(_row(song, anchors, links or {}) for song in songs)
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
    static = resources.files("sepkit.notebook") / "static"
    script = (static / "song_table.js").read_text(encoding="utf-8")
    style = (static / "song_table.css").read_text(encoding="utf-8")
    return HTML(f"<style>{style}</style>{html}<script>{script}</script>")


def _row(song: Mapping[str, str | float], anchors: bool, links: Mapping[str, str]) -> str:
    name, *values = song.values()
    place = f' id="{escape(anchor(str(name)), quote=True)}"' if anchors else ""
    heading = escape(str(name))
    if name in links:
        heading = f'<a href="{escape(links[name], quote=True)}">{heading}</a>'
    cells = "".join(map(_cell, values))
    return f'<tr{place}><th scope="row">{heading}</th>{cells}</tr>'


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    if value != value:
        return '<td class="song-number" data-value="">–</td>'
    return f'<td class="song-number" data-value="{value:.4f}">{_decibels(value)}</td>'
