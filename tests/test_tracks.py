"""Tracks: laziness, sums, excerpts, hashes, licences."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import check_track, noise, one_line

from sepkit import datasets
from sepkit.errors import ParameterError
from sepkit.tracks import LICENCE_URLS, SOURCES, Track


class Reader:
    """Four stems of noise; counts how often it is asked for them."""

    def __init__(self, n_samples=1000):
        self.n_samples, self.calls = n_samples, 0

    def __call__(self):
        self.calls += 1
        return {source: noise(self.n_samples, seed=i) for i, source in enumerate(SOURCES)}


def track(reader, **fields):
    return Track(name="A - B", artist="A", licence="CC0-1.0", rate=100, reader=reader, **fields)


def test_a_track_reads_nothing_until_asked_and_then_once():
    reader = Reader()
    song = track(reader)
    excerpt = song.excerpt(1.0, 2.0)
    assert reader.calls == 0
    assert song.stems is song.stems and song.mixture is song.mixture
    assert reader.calls == 1
    assert excerpt.mixture.shape == (100, 2)
    assert reader.calls == 2


def test_the_mixture_is_the_sum_of_the_stems():
    check_track(track(Reader()), n_samples=1000, rate=100)


@pytest.mark.parametrize(
    ("limits", "part"),
    [((), slice(0, 1000)), ((2.5,), slice(250, 1000)), ((0, 1), slice(0, 100)),
     ((2.504, 3.006), slice(250, 301)), ((9, 99), slice(900, 1000))],
)  # fmt: skip
def test_an_excerpt_is_that_part_of_every_stem(limits, part):
    song = track(Reader(), genre="Jazz", files=(Path("x"),))
    excerpt = song.excerpt(*limits)
    for source in SOURCES:
        np.testing.assert_array_equal(excerpt.stems[source], song.stems[source][part])
    assert excerpt.name == song.name and excerpt.genre == "Jazz" and excerpt.files == song.files


def test_an_excerpt_of_an_excerpt_counts_from_its_start():
    song = track(Reader())
    np.testing.assert_array_equal(song.excerpt(2, 8).excerpt(1, 3).mixture, song.mixture[300:500])


@pytest.mark.parametrize("limits", [(-1, 2), (2, 1), (2, 2)])
def test_an_excerpt_of_no_length_is_refused_at_once(limits):
    with pytest.raises(ParameterError, match="start < stop") as error:
        track(Reader()).excerpt(*limits)
    one_line(error)


def test_an_excerpt_after_the_end_is_refused():
    with pytest.raises(ParameterError, match="the song is shorter") as error:
        _ = track(Reader()).excerpt(10.0).stems
    one_line(error)


def test_tracks_cannot_be_changed():
    with pytest.raises(AttributeError):
        track(Reader()).name = "C"


def test_the_hash_is_that_of_the_files_or_of_the_samples(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    song = track(Reader(), files=(tmp_path / "a", tmp_path / "b"))
    assert song.sha256() == hashlib.sha256(b"onetwo").hexdigest()
    assert track(Reader()).sha256() == track(Reader()).sha256() != track(Reader(999)).sha256()


def test_tracks_can_be_sent_to_other_processes(falcon, stems_folder):
    songs = [falcon.excerpt(1, 2), *datasets.folder(stems_folder("A - B")), track(Reader())]
    for song in songs:
        copy = pickle.loads(pickle.dumps(song))
        np.testing.assert_array_equal(copy.mixture, song.mixture)


def test_read_returns_the_stems_in_order_and_keeps_none_of_them():
    reader = Reader()
    song = track(reader)
    stems = song.read()
    assert stems.shape == (4, 1000, 2) and stems.dtype == np.float32
    song.read()
    assert reader.calls == 2 and "stems" not in vars(song)
    np.testing.assert_array_equal(stems, list(song.stems.values()))


def test_every_free_licence_has_an_address_and_a_restricted_one_has_none():
    licences = {row["licence"] for row in datasets.musdb_table()}
    licences |= {song.licence for song in datasets.open_stems()}
    assert licences - {"restricted: academic use"} <= LICENCE_URLS.keys()
    song = track(Reader())
    assert song.licence_url == LICENCE_URLS["CC0-1.0"]
    assert Track("a", "a", "restricted: academic use", 100, Reader()).licence_url == ""
