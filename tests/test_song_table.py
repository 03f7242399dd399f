"""The table of songs: its markup; what its script does is in browser/test_browser.py."""

import math
import re

import pytest

from sepkit import weights
from sepkit.errors import ParameterError
from sepkit.metrics import METRICS
from sepkit.notebook import plotting
from sepkit.notebook.media import SITE_DIRECTORY
from sepkit.notebook.song_table import anchor, box_dots, song_rows, song_table
from sepkit.tracks import SOURCES

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


def test_a_name_leads_where_its_song_can_be_heard():
    html = song_table(SONGS, caption="Two songs", links={"C - Two": "#hear-two"}).data
    assert '<th scope="row"><a href="#hear-two">C - Two</a></th>' in html
    assert html.count("<a ") == 1


def test_rows_of_a_card_hold_every_score_of_the_left_channel():
    scored = weights.read_card("experiment2")["scores"]["song"]
    rows = song_rows(scored)
    assert len(rows) == 50 and rows[0]["genre"]
    assert list(rows[0]) == ["song", "genre", *(f"{m} {s}" for m in METRICS for s in SOURCES)]
    for row, song in zip(rows, scored["songs"], strict=True):
        assert row["song"] == song["name"]
        assert row["SIR other"] == song["report"][0]["SIR"][2]


def test_songs_named_beside_a_box_plot_are_its_dots():
    scored = weights.read_card("experiment1")["scores"]["song"]
    html = box_dots(scored, page="listening.html").data
    drawn = [
        value
        for ax in plotting.scores({"one": scored}).axes
        for line in ax.lines
        if line.get_marker() == "o"
        for value in line.get_ydata()
    ]
    told = re.findall(r"\((−?)(\d+\.\d)\)", html)
    assert sorted(float(f"{'-' * bool(minus)}{digits}") for minus, digits in told) == sorted(
        float(f"{value:.1f}") for value in drawn
    )
    places = {anchor(song["name"]) for song in scored["songs"]}
    assert {*re.findall(r'href="listening.html#([^"]+)"', html)} <= places


def test_a_notebook_gets_the_script_a_site_has_its_own(monkeypatch, tmp_path):
    assert "<script>" in song_table(SONGS, caption="x").data
    monkeypatch.setenv(SITE_DIRECTORY, str(tmp_path))
    assert "<script>" not in song_table(SONGS, caption="x").data


@pytest.mark.parametrize("songs", [[], [{"song": "a"}, {"name": "b"}]])
def test_songs_without_common_headings_are_refused(songs):
    with pytest.raises(ParameterError, match="same keys"):
        song_table(songs, caption="x")
