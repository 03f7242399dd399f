"""Random remixes: where their sources come from, levels, equalisers, speeds, effects."""

import dataclasses
import json

import numpy as np
import pytest
from helpers import noise_track as track

from sepkit.batches import SongStore
from sepkit.errors import ParameterError
from sepkit.study import experiments
from sepkit.study.remix import Remix, RemixBatches, _equalize
from sepkit.tracks import SOURCES


@pytest.fixture(scope="module")
def songs():
    return [track(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def store(songs):
    return SongStore(songs, channels=2)


def remixed(store, seed=0, channels=1, **options):
    return RemixBatches(store, Remix(2, 3, **options), channels=channels, batch_size=8, seed=seed)


def test_a_batch_depends_on_its_position_and_the_seed_alone(store):
    batches = remixed(store, equalizer=3.0)
    batch = batches.read(1, 2)
    assert batch.shape == batches.shape == (8, 4, 7168, 1)
    assert batch.dtype == np.float32 and np.isfinite(batch).all()
    np.testing.assert_array_equal(batch, remixed(store, equalizer=3.0).read(1, 2))
    others = [batches.read(1, 1), batches.read(0, 2), remixed(store, 1, equalizer=3.0).read(1, 2)]
    assert not any(np.array_equal(batch, other) for other in others)


def test_every_setting_and_the_songs_are_in_the_identity(songs, store):
    changes = {
        "epochs": 3, "steps": 4, "p_coherent": 0.1, "gain": 1.0, "equalizer": 1.0,
        "speeds": (1.0, 2.0), "sides": False,
    }  # fmt: skip
    assert changes.keys() == {field.name for field in dataclasses.fields(Remix)}
    remix = Remix(2, 3)
    remixes = [remix, *(dataclasses.replace(remix, **{k: v}) for k, v in changes.items())]
    different = [RemixBatches(store, one, batch_size=8) for one in remixes]
    different += [
        RemixBatches(store, remix, batch_size=8, seed=1),
        RemixBatches(store, remix, batch_size=8, channels=2),
        RemixBatches(SongStore(songs[:3], channels=2), remix, batch_size=8),
        RemixBatches(SongStore(songs, channels=2, length=13312), remix, batch_size=8),
    ]
    assert len({json.dumps(batches.identity()) for batches in different}) == len(different)


def test_segments_may_have_any_length(songs):
    batches = remixed(SongStore(songs, channels=2, length=13312))
    assert batches.read(0, 0).shape == batches.shape == (8, 4, 13312, 1)


def test_sources_come_from_one_place_when_coherent_and_from_anywhere_else(songs, store):
    stems = [song.stems for song in songs]

    def places(batches):
        found = []
        for segment in batches.read(0, 0)[..., 0]:
            at = []
            for source, sound in zip(SOURCES, segment, strict=True):
                for j, song in enumerate(stems):
                    for side in (song[source][:, 0], song[source][:, 1], song[source].mean(axis=1)):
                        hits = np.flatnonzero(np.isclose(side[:-7167], sound[0], atol=1e-7))
                        at += [(j, int(h)) for h in hits
                               if np.allclose(side[h : h + 7168], sound, atol=1e-5)]  # fmt: skip
            found.append(at)
        return found

    for at in places(remixed(store, gain=0.0, p_coherent=1.0)):
        assert len(at) == 4 and len(set(at)) == 1
    apart = places(remixed(store, gain=0.0, p_coherent=0.0))
    assert all(len(at) == 4 for at in apart)
    assert sum(len(set(at)) == 4 for at in apart) >= 6


def test_gains_stay_within_their_range_and_differ_by_source(store):
    plain = np.linalg.norm(remixed(store, gain=0.0).read(0, 0), axis=2)
    levels = 20 * np.log10(np.linalg.norm(remixed(store, gain=6.0).read(0, 0), axis=2) / plain)
    assert 4 < np.abs(levels).max() <= 6.001
    assert np.ptp(levels, axis=1).min() > 0.1


def test_an_equaliser_changes_the_timbre_and_a_flat_one_nothing(store):
    batch = remixed(store, gain=0.0).read(0, 0)
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(_equalize(batch, rng, 0.0), batch, atol=1e-5)
    before, after = (np.abs(np.fft.rfft(x, axis=2)) for x in (batch, _equalize(batch, rng, 6.0)))
    strong = before > 0.3 * before.max(axis=2, keepdims=True)
    assert np.std(20 * np.log10(after[strong] / before[strong])) > 1


def test_two_channels_stay_apart_or_change_sides(store):
    batch = remixed(store, channels=2, gain=0.0, p_coherent=1.0).read(0, 0)
    assert batch.shape == (8, 4, 7168, 2)
    correlation = [np.corrcoef(s[0, :, 0], s[0, :, 1])[0, 1] for s in batch]
    assert np.abs(correlation).max() < 0.2  # these songs' channels are independent


def test_without_sides_the_channels_are_as_stored(songs, store):
    plain = {"gain": 0.0, "p_coherent": 1.0, "sides": False}
    batch = remixed(store, **plain).read(0, 0)
    lefts = np.concatenate([song[0, :, 0] for song in store.songs])
    rights = np.concatenate([song[0, :, 1] for song in store.songs])
    for segment in batch[:, 0, :, 0]:
        assert np.isin(segment, lefts).all() and not np.isin(segment, rights).all()


def test_speeds_change_length_and_pitch(songs):
    remix = Remix(1, 1, speeds=(1.0, 0.5))
    store = SongStore(songs[:1], variants=remix.variants)
    fast, slow = store.songs
    assert abs(slow.shape[1] - 2 * fast.shape[1]) <= 7168

    def centroid(sound):
        power = np.abs(np.fft.rfft(sound)) ** 2
        return np.sum(np.linspace(0, 1, len(power)) * power) / power.sum()

    assert centroid(slow[1, :, 0]) == pytest.approx(centroid(fast[1, :, 0]) / 2, rel=0.05)


def test_effects_store_every_version_dry_and_processed(songs):
    pytest.importorskip("pedalboard", reason="pedalboard is not installed")
    remix = Remix(1, 1, speeds=(1.0, 1.1))
    experiment = experiments.Experiment("x", "x", remix=remix, effects=True)
    dry = experiments.open_store(dataclasses.replace(experiment, effects=False), songs[:2])
    both = experiments.open_store(experiment, songs[:2])
    assert len(both.songs) == 2 * len(dry.songs)
    for i, song in enumerate(dry.songs):
        np.testing.assert_array_equal(both.songs[2 * i], song)
        assert not np.allclose(both.songs[2 * i + 1], song, atol=1e-3)
    again = experiments.open_store(experiment, songs[:2])
    for a, b in zip(both.songs, again.songs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_remix_out_of_range_is_refused(songs, store):
    with pytest.raises(ParameterError, match="remix"):
        remixed(store, p_coherent=1.5)
    with pytest.raises(ParameterError, match="remix"):
        RemixBatches(store, dataclasses.replace(Remix(1, 1), steps=0))
    with pytest.raises(ParameterError, match="stereo"):
        RemixBatches(SongStore(songs), Remix(1, 1))
