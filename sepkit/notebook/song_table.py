"""A table of songs and scores that a reader can sort and filter.

It is a custom element, ``<song-table>``, of ``static/song_table.js``; without the script it is a
plain table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
from IPython.display import HTML

from sepkit import datasets
from sepkit.errors import ParameterError
from sepkit.metrics import METRICS
from sepkit.notebook import media
from sepkit.tracks import SOURCES


def anchor(name: str) -> str:
    """Return the id of a song's row: ``song-`` and its letters and digits joined by hyphens."""
    return "song-" + "-".join(re.findall(r"[^\W_]+", name.lower()))


def song_rows(scored: Mapping) -> list[dict[str, str | float]]:
    """Convert a card's scores, ``card["scores"][mode]``, to rows for `song_table`.

    A row holds the song, its genre if MUSDB18's table has one, and the report's scores of the left
    channel by metric and source [dB].
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

    A line per metric and source that has such songs, lowest score first. `scored` is
    ``card["scores"][mode]``; `page` is the page with the table (the same page by default).
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
    """Make a table of songs that sorts by any column and filters by text.

    Parameters
    ----------
    songs : sequence of dict
        A row each, all with the same keys: first the song's name, then texts and numbers by
        heading. Numbers are shown with one decimal and sort as numbers; NaN is shown as a dash
        and comes last.
    caption : str
        Caption of the table.
    anchors : bool
        Give each row its `anchor` as id; for one table per page.
    links : dict of str to str, optional
        Addresses of names that are links.

    Returns
    -------
    HTML
        The last expression of a cell shows it.

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
    return HTML(html + media.script_and_style("song_table"))


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
