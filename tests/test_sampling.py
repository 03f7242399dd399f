"""What training sees: the report's blocks, and songs mixed anew."""

import dataclasses

import numpy as np
import pytest
from helpers import noise_track as track

from sepkit import datasets, sampling
from sepkit.errors import DatasetError, ParameterError


@pytest.fixture(scope="module")
def songs():
    return [track(seed) for seed in range(4)]


def test_the_report_s_schedule_is_nine_half_overlapping_blocks_of_ten():
    schedule = sampling.report_schedule()
    assert len(schedule) == 3 * 9 * 10
    blocks = list(dict.fromkeys((epoch.first, epoch.last) for epoch in schedule))
    assert blocks == [(5 * i, 5 * i + 10) for i in range(9)]
    assert [e.repetition for e in schedule] == sorted(e.repetition for e in schedule)
    assert [(e.first, e.epoch) for e in schedule[:12]] == [(0, i) for i in range(10)] + [
        (5, 0),
        (5, 1),
    ]


def test_few_songs_make_one_block_and_zero_is_refused():
    assert {(e.first, e.last) for e in sampling.report_schedule(3)} == {(0, 3)}
    with pytest.raises(ParameterError):
        sampling.report_schedule(epochs=0)


def test_segments_keep_the_left_channel_and_the_sources_in_order(songs):
    store = sampling.SegmentStore(songs[:2], channels=1)
    assert store.segments.shape == (40, 7168, 1, 4)
    np.testing.assert_array_equal(store.starts, [0, 20, 40])
    for i, source in enumerate(datasets.SOURCES):
        left = songs[1].stems[source][:7168, 0]
        np.testing.assert_array_equal(store.segments[20, :, 0, i], left)
    assert not store.segments[39, -100:].any()


def test_segments_overlap_as_asked_within_a_song(songs):
    store = sampling.SegmentStore(songs[:2], length=8448, step=1280)
    n_samples = 20 * 7168 - 100
    n_segments = -(-(n_samples - 8448) // 1280) + 1
    np.testing.assert_array_equal(store.starts, [0, n_segments, 2 * n_segments])
    assert store.segments.shape == (2 * n_segments, 8448, 1, 4)
    for song in range(2):
        vocals = np.pad(songs[song].stems["vocals"][:, 0], (0, 8448))
        for i in (0, 1, 57, n_segments - 1):
            wanted = vocals[1280 * i : 1280 * i + 8448]
            np.testing.assert_array_equal(store.segments[song * n_segments + i, :, 0, 3], wanted)


def test_overlapping_segments_are_another_sequence_of_batches(songs):
    schedule = sampling.report_schedule(4, epochs=1, repetitions=1)
    told = {
        sampling.BlockBatches(songs, schedule, batch_size=8, **options).fingerprint()
        for options in ({}, {"step": 1280}, {"step": 2560}, {"length": 8448})
    }
    assert len(told) == 4
    batches = sampling.BlockBatches(songs, schedule, batch_size=8, length=8448, step=1280)
    assert batches.shape == batches.read(0, 0).shape == (8, 8448, 1, 4)


def test_mixing_anew_makes_segments_of_any_length(songs):
    batches = sampling.RemixBatches(songs, sampling.Remix(2, 3), batch_size=8, length=13312)
    assert batches.read(0, 0).shape == batches.shape == (8, 13312, 1, 4)


def test_an_epoch_takes_its_block_s_segments_once_each_and_drops_the_same_tail(songs):
    schedule = [sampling.Epoch(0, 0, 0, 1, 3), sampling.Epoch(0, 0, 1, 1, 3)]
    batches = sampling.BlockBatches(songs, schedule)
    order = batches.order(0)
    assert order.shape == (1, 32) and batches.count(0) == 1
    assert sorted(order.flat) == list(range(20, 52))
    assert not np.array_equal(order, batches.order(1))
    np.testing.assert_array_equal(batches.read(0, 0), batches.store.segments[order[0]])
    assert batches.read(0, 0).shape == batches.shape


def test_songs_that_do_not_do_are_named(songs):
    schedule = sampling.report_schedule(1)
    with pytest.raises(DatasetError, match="noise 9: 1 channel"):
        sampling.BlockBatches([track(9, n_channels=1)], schedule, channels=2)
    with pytest.raises(DatasetError, match="fills no batch"):
        sampling.BlockBatches([track(9, n_segments=3)], schedule)
    with pytest.raises(DatasetError, match="no songs"):
        sampling.BlockBatches([], schedule)


def remixed(songs, seed=0, channels=1, **options):
    remix = sampling.Remix(2, 3, **options)
    return sampling.RemixBatches(songs, remix, channels=channels, batch_size=8, seed=seed)


def test_a_remixed_batch_depends_on_its_place_and_the_seed_alone(songs):
    batches = remixed(songs, tilt=3.0)
    batch = batches.read(1, 2)
    assert batch.shape == batches.shape == (8, 7168, 1, 4)
    assert batch.dtype == np.float32 and np.isfinite(batch).all()
    np.testing.assert_array_equal(batch, remixed(songs, tilt=3.0).read(1, 2))
    for other in (batches.read(1, 1), batches.read(0, 2), remixed(songs, 1, tilt=3.0).read(1, 2)):
        assert not np.array_equal(batch, other)
    assert batches.fingerprint() == remixed(songs, tilt=3.0).fingerprint()
    assert batches.fingerprint() != remixed(songs).fingerprint()


def test_songs_through_effects_stand_beside_the_dry_ones(songs):
    pytest.importorskip("pedalboard", reason="pedalboard is not installed")
    dry = sampling.SegmentStore(songs, channels=2, speeds=(1.0, 1.1))
    both = sampling.SegmentStore(songs, channels=2, speeds=(1.0, 1.1), processed=2)
    assert len(both.segments) == 3 * len(dry.segments)
    counts = np.diff(dry.starts)
    np.testing.assert_array_equal(np.diff(both.starts), np.repeat(counts, 3))
    for i, (start, stop) in enumerate(zip(dry.starts[:-1], dry.starts[1:], strict=True)):
        versions = [
            both.segments[both.starts[3 * i + k] : both.starts[3 * i + k + 1]] for k in range(3)
        ]
        np.testing.assert_array_equal(versions[0], dry.segments[start:stop])
        assert not np.allclose(versions[1], versions[0], atol=1e-3)
        assert not np.allclose(versions[1], versions[2], atol=1e-3)
    again = sampling.SegmentStore(songs, channels=2, speeds=(1.0, 1.1), processed=2)
    np.testing.assert_array_equal(again.segments, both.segments)


def test_sources_come_from_one_place_together_or_from_anywhere_apart(songs):
    stems = [song.stems for song in songs]

    def places(batches):
        found = []
        for segment in batches.read(0, 0):
            at = []
            for i, source in enumerate(datasets.SOURCES):
                for j, song in enumerate(stems):
                    for side in (song[source][:, 0], song[source][:, 1], song[source].mean(axis=1)):
                        hits = np.flatnonzero(np.isclose(side[:-7167], segment[0, 0, i], atol=1e-7))
                        at += [
                            (j, int(h))
                            for h in hits
                            if np.allclose(side[h : h + 7168], segment[:, 0, i], atol=1e-5)
                        ]
            found.append(at)
        return found

    for at in places(remixed(songs, gain=0.0, together=1.0)):
        assert len(at) == 4 and len(set(at)) == 1
    apart = places(remixed(songs, gain=0.0, together=0.0))
    assert all(len(at) == 4 for at in apart)
    assert sum(len(set(at)) == 4 for at in apart) >= 6


def test_gains_stay_within_their_range_and_differ_by_source(songs):
    plain = remixed(songs, gain=0.0).read(0, 0)
    levels = 20 * np.log10(
        np.linalg.norm(remixed(songs, gain=6.0).read(0, 0), axis=1) / np.linalg.norm(plain, axis=1)
    )
    assert np.abs(levels).max() <= 6.001 and np.abs(levels).max() > 4
    assert np.ptp(levels, axis=-1).min() > 0.1


def test_an_equalizer_changes_the_timbre_and_keeps_a_flat_curve_flat(songs):
    batch = remixed(songs, gain=0.0).read(0, 0)
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(sampling._equalize(batch, rng, 0.0), batch, atol=1e-5)
    changed = sampling._equalize(batch, rng, 6.0)
    before, after = (np.abs(np.fft.rfft(x, axis=1)) for x in (batch, changed))
    strong = before > 0.3 * before.max(axis=1, keepdims=True)
    assert np.std(20 * np.log10(after[strong] / before[strong])) > 1


def test_two_channels_stay_together_or_change_sides(songs):
    batches = remixed(songs, channels=2, gain=0.0, together=1.0)
    batch = batches.read(0, 0)
    assert batch.shape == (8, 7168, 2, 4)
    correlation = [np.corrcoef(s[:, 0, 0], s[:, 1, 0])[0, 1] for s in batch]
    assert np.abs(correlation).max() < 0.2  # these songs' sides are independent


def test_speeds_change_length_and_pitch(songs):
    store = sampling.SegmentStore(songs[:1], speeds=(1.0, 0.5))
    n_slow = store.starts[2] - store.starts[1]
    assert abs(n_slow - 2 * store.starts[1]) <= 1
    fast, slow = (
        store.segments[a:b].reshape(-1, 4)[:, 1]
        for a, b in zip(store.starts[:-1], store.starts[1:], strict=True)
    )

    def centroid(sound):
        power = np.abs(np.fft.rfft(sound)) ** 2
        return np.sum(np.linspace(0, 1, len(power)) * power) / power.sum()

    assert centroid(slow) == pytest.approx(centroid(fast) / 2, rel=0.05)


def test_a_remix_out_of_range_is_refused(songs):
    with pytest.raises(ParameterError, match="remix"):
        remixed(songs, together=1.5)
    with pytest.raises(ParameterError, match="remix"):
        sampling.RemixBatches(songs, dataclasses.replace(sampling.Remix(1, 1), steps=0))
