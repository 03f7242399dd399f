"""The table of songs: its markup; what its script does is in test_browser.py."""

import math
import re

import pytest

from sepkit.errors import ParameterError
from sepkit.media import SITE_DIRECTORY
from sepkit.songtable import anchor, song_table

SONGS = [
    {"song": "A & B - One", "genre": "Pop <Rock>", "SDR": -1.25},
    {"song": "C - Two", "genre": "Rap", "SDR": math.nan},
]


def test_rows_hold_names_texts_and_numbers():
    html = song_table(SONGS, caption="Two songs").data
    assert html.count("<tr") == 3 and html.count('scope="row"') == 2
    assert "<caption>Two songs</caption>" in html
    assert "A &amp; B - One" in html and "Pop &lt;Rock&gt;" in html
    assert 'data-value="-1.2500">−1.2<' in html
    assert 'data-value="">–<' in html


def test_each_row_can_be_linked_to_where_wanted():
    html = song_table(SONGS, caption="Two songs", anchors=True).data
    assert re.findall(r'<tr id="([^"]+)"', html) == ["song-a-b-one", "song-c-two"]
    assert anchor("Cnoc An Tursa - Bannockburn") == "song-cnoc-an-tursa-bannockburn"
    assert " id=" not in song_table(SONGS, caption="Two songs").data


def test_a_notebook_gets_the_script_a_site_has_its_own(monkeypatch, tmp_path):
    assert "<script>" in song_table(SONGS, caption="x").data
    monkeypatch.setenv(SITE_DIRECTORY, str(tmp_path))
    assert "<script>" not in song_table(SONGS, caption="x").data


@pytest.mark.parametrize("songs", [[], [{"song": "a"}, {"name": "b"}]])
def test_songs_without_common_headings_are_refused(songs):
    with pytest.raises(ParameterError, match="same keys"):
        song_table(songs, caption="x")
