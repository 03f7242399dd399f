"""The report's blocks of songs, and the store that batches are read from."""

import errno
import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import noise_track as track
from helpers import one_line

from sepkit import batches as batches_module
from sepkit.batches import BlockBatches, Epoch, SongStore, report_schedule
from sepkit.errors import DatasetError, ParameterError, SepkitError
from sepkit.tracks import SOURCES


@pytest.fixture(scope="module")
def songs():
    return [track(seed) for seed in range(4)]


def test_the_reports_schedule_is_nine_half_overlapping_blocks_of_ten():
    schedule = report_schedule()
    assert len(schedule) == 3 * 9 * 10
    blocks = list(dict.fromkeys((epoch.first, epoch.last) for epoch in schedule))
    assert blocks == [(5 * i, 5 * i + 10) for i in range(9)]
    assert [e.repetition for e in schedule] == sorted(e.repetition for e in schedule)
    first = [(e.first, e.epoch) for e in schedule[:12]]
    assert first == [(0, i) for i in range(10)] + [(5, 0), (5, 1)]


def test_few_songs_make_one_block_and_zero_is_refused():
    assert {(e.first, e.last) for e in report_schedule(3)} == {(0, 3)}
    with pytest.raises(ParameterError):
        report_schedule(epochs=0)


def segments_of(batches, song):
    """All segments of one song, in order: (n, 4, length, channels)."""
    first, last = batches._before[song], batches._before[song + 1]
    batches.order = lambda epoch: np.arange(first, last)[np.newaxis]
    batches.shape = (last - first, *batches.shape[1:])
    return batches.read(0, 0)


def test_segments_keep_the_left_channel_and_the_sources_in_order(songs):
    batches = BlockBatches(SongStore(songs[:2]), report_schedule(2))
    np.testing.assert_array_equal(batches._before, [0, 20, 40])
    segments = segments_of(batches, 1)
    assert segments.shape == (20, 4, 7168, 1)
    for i, source in enumerate(SOURCES):
        left = np.pad(songs[1].stems[source][:, 0], (0, 100)).reshape(20, 7168)
        np.testing.assert_array_equal(segments[:, i, :, 0], left)


def test_overlapping_segments_cover_each_song_as_asked(songs):
    store = SongStore(songs[:2], length=8448)
    batches = BlockBatches(store, report_schedule(2), step=1280)
    n_segments = -(-(20 * 7168 - 100 - 8448) // 1280) + 1
    np.testing.assert_array_equal(batches._before, [0, n_segments, 2 * n_segments])
    segments = segments_of(batches, 1)
    vocals = np.pad(songs[1].stems["vocals"][:, 0], (0, 8448))
    for i in (0, 1, 57, n_segments - 1):
        np.testing.assert_array_equal(segments[i, 3, :, 0], vocals[1280 * i : 1280 * i + 8448])


def test_an_epoch_takes_its_blocks_segments_once_each_and_drops_the_same_tail(songs):
    schedule = [Epoch(0, 0, 0, 1, 3), Epoch(0, 0, 1, 1, 3)]
    batches = BlockBatches(SongStore(songs), schedule)
    order = batches.order(0)
    assert order.shape == (1, 32) and batches.count(0) == 1
    assert sorted(order.flat) == list(range(20, 52))
    assert not np.array_equal(order, batches.order(1))
    batch = batches.read(0, 0)
    assert batch.shape == batches.shape == (32, 4, 7168, 1) and batch.dtype == np.float32
    for segment, i in zip(batch, order[0], strict=True):
        start = i % 20 * 7168
        wanted = np.pad(songs[i // 20].stems["drums"][:, 0], (0, 100))[start : start + 7168]
        np.testing.assert_array_equal(segment[1, :, 0], wanted)


def test_unsuitable_songs_are_named(songs):
    with pytest.raises(DatasetError, match="noise 9: 1 channel"):
        SongStore([track(9, n_channels=1)], channels=2)
    with pytest.raises(DatasetError, match="noise 9: rate 48000 Hz"):
        SongStore([replace(track(9), rate=48000)])
    with pytest.raises(DatasetError, match="fills no batch"):
        BlockBatches(SongStore([track(9, n_segments=3)]), report_schedule(1))
    with pytest.raises(DatasetError, match="no songs"):
        SongStore([])


def test_a_missing_tmpdir_is_named_and_no_other_folder_taken(songs, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(SepkitError, match="No such file") as error:
        SongStore(songs[:1])
    one_line(error, f"{tmp_path / 'none'}: ", "set TMPDIR")


def test_a_full_tmpdir_is_named_and_nothing_stays_there(songs, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(batches_module, "open", full, raising=False)
    with pytest.raises(SepkitError, match="No space left") as error:
        SongStore(songs[:1])
    one_line(error, f"{tmp_path}: ", "set TMPDIR")
    del error
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_reading_a_song_is_not_blamed_on_tmpdir(songs):
    def fail():
        raise OSError(errno.EIO, "of the song's disk")

    with pytest.raises(OSError, match="of the song's disk"):
        SongStore([replace(songs[0], reader=fail)])


def test_all_that_decides_the_batches_is_in_their_identity(songs):
    schedule = report_schedule(4, epochs=1, repetitions=1)
    store = SongStore(songs)
    different = [
        BlockBatches(store, schedule, batch_size=8),
        BlockBatches(store, schedule, batch_size=16),
        BlockBatches(store, schedule, batch_size=8, seed=1),
        BlockBatches(store, schedule, batch_size=8, step=1280),
        BlockBatches(store, report_schedule(4, epochs=2, repetitions=1), batch_size=8),
        BlockBatches(SongStore(songs, length=8448), schedule, batch_size=8),
        BlockBatches(SongStore(songs, channels=2), schedule, batch_size=8),
        BlockBatches(SongStore(songs[::-1]), schedule, batch_size=8),
        BlockBatches(SongStore([*songs[:3], track(7)]), schedule, batch_size=8),
    ]
    texts = [json.dumps(batches.identity()) for batches in different]
    assert len(set(texts)) == len(texts)
    again = BlockBatches(SongStore([track(seed) for seed in range(4)]), schedule, batch_size=8)
    assert json.dumps(again.identity()) == texts[0]


def test_one_changed_sample_changes_the_hash_of_its_song_alone(songs):
    stems = {source: stem.copy() for source, stem in songs[1].stems.items()}
    stems["bass"][1234, 0] += 1e-3
    changed = [songs[0], track(1).__class__("noise 1", "noise", "MIT", 44100, lambda: stems)]
    a, b = SongStore(songs[:2]).sha256, SongStore(changed).sha256
    assert a["noise 0"] == b["noise 0"] and a["noise 1"] != b["noise 1"]
