"""Experiments as data, and their training."""

import dataclasses
import errno
import hashlib
import json
import tempfile
from functools import partial

import numpy as np
import pytest
from helpers import one_line

from sepkit import weights
from sepkit.errors import ModelError, ParameterError, SepkitError
from sepkit.stft import Transform
from sepkit.study import experiments
from sepkit.study.remix import Remix
from sepkit.tracks import SOURCES, Track


def stems(seed, n_samples=35_000):
    rng = np.random.default_rng(seed)
    return {s: 0.1 * rng.standard_normal((n_samples, 2)).astype(np.float32) for s in SOURCES}


def track(seed, **options):
    return Track(f"noise {seed}", "noise", "MIT", 44100, partial(stems, seed, **options))


def test_experiments_1_and_2_differ_in_channels_alone_and_are_frozen():
    first, second = (experiments.get_experiment(f"experiment{i}") for i in (1, 2))
    changed = {
        field.name
        for field in dataclasses.fields(first)
        if getattr(first, field.name) != getattr(second, field.name)
    }
    assert changed == {"name", "description", "channels"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.epochs = 1


def test_experiment_1_has_the_reports_settings():
    first = experiments.get_experiment("experiment1")
    assert (first.learning_rate, first.rho, first.epsilon) == (0.01, 0.95, 1.0)
    assert (first.alpha, first.beta, first.gamma) == (0.001, 0.01, 0.03)
    assert (first.block_size, first.block_step, first.epochs, first.repetitions) == (10, 5, 10, 3)
    assert (first.batch_size, first.channels, first.segment_length) == (32, 1, 7168)


def test_an_unknown_experiment_is_refused():
    with pytest.raises(ParameterError, match="experiment 'x': unknown"):
        experiments.get_experiment("x")


TINY = experiments.Experiment(
    "tiny", "Two songs.", sizes=weights.Sizes(4, 3, 12, 8), block_size=2, block_step=2, epochs=2,
    repetitions=1, batch_size=4,
)  # fmt: skip


def test_a_card_says_what_made_the_weights(tmp_path):
    pytest.importorskip("tensorflow")
    songs = [track(seed) for seed in range(2)]
    path = experiments.train(TINY, songs, output=tmp_path / "new", seed=3)
    assert path == tmp_path / "new" / "tiny.weights.h5"
    card = json.loads((tmp_path / "new" / "tiny.json").read_text())
    assert card["experiment"]["epochs"] == 2 and card["seed"] == 3
    assert card["parameters"] == weights.count_parameters(weights.load(path))
    assert card["steps"] == sum(row["steps"] for row in card["history"]) == 2 * (10 // 4)
    assert [song["sha256"] for song in card["data"]["songs"]] == [s.sha256() for s in songs]
    assert card["data"]["licences"] == ["MIT"] and card["scores"] == {}
    written = sorted(p.name for p in (tmp_path / "new").iterdir())
    assert written == ["tiny.json", "tiny.weights.h5"]


CHANGES = {
    "name": "other", "description": "Other.", "channels": 2, "sizes": weights.Sizes(5, 3, 12, 8),
    "tie": "input scale", "transform": Transform(window="blackman-harris"), "block_size": 1,
    "block_step": 1, "epochs": 3, "repetitions": 2, "segment_step": 20, "remix": Remix(2, 4),
    "effects": True, "batch_size": 8, "optimizer": "adam", "learning_rate": 0.02, "rho": 0.9,
    "epsilon": 0.5, "ema_momentum": 0.9, "objective": "magnitude", "loss": "complete",
    "alpha": 0.002, "beta": 0.02, "gamma": 0.06,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The checkpoint of a finished training."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("checkpoint")
    experiments.train(TINY, [track(0), track(1)], output=folder, checkpoint=folder / "state.h5")
    return folder / "state.h5"


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TINY)])
def test_a_checkpoint_is_refused_when_one_setting_differs(checkpoint, tmp_path, name):
    changed = dataclasses.replace(TINY, **{name: CHANGES[name]})
    assert getattr(changed, name) != getattr(TINY, name)
    with pytest.raises(ModelError, match=f"experiment {name}") as error:
        experiments.train(changed, [track(0), track(1)], output=tmp_path, checkpoint=checkpoint)
    assert "checkpoint of another run" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not [*tmp_path.iterdir()]


def test_a_checkpoint_is_refused_when_seed_or_samples_differ(checkpoint, tmp_path):
    def touched():
        changed = stems(1)
        changed["drums"][99, 0] += 1e-3
        return changed

    songs = [track(0), Track("noise 1", "noise", "MIT", 44100, touched)]
    with pytest.raises(ModelError, match="songs noise 1"):
        experiments.train(TINY, songs, output=tmp_path, checkpoint=checkpoint)
    with pytest.raises(ModelError, match="seed is 0 there and 1 here"):
        experiments.train(
            TINY, [track(0), track(1)], seed=1, output=tmp_path, checkpoint=checkpoint
        )


def test_a_finished_training_is_resumed_to_the_same_weights(checkpoint, tmp_path):
    path = experiments.train(TINY, [track(0), track(1)], output=tmp_path, checkpoint=checkpoint)
    first, again = weights.load(checkpoint.with_name("tiny.weights.h5")), weights.load(path)
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)


def test_a_folder_that_cannot_be_made_is_named_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SepkitError, match="file"):
        experiments.train(
            experiments.get_experiment("experiment1"), [track(0)], output=tmp_path / "file" / "x"
        )


def unread():
    raise AssertionError("songs are read before the places are tried")


@pytest.mark.parametrize("named", ["output", "checkpoint"])
def test_a_place_that_cannot_be_written_is_named_before_songs_are_read(tmp_path, named):
    (tmp_path / "file").write_text("")
    places = {"output": tmp_path / "new", "checkpoint": tmp_path / "new" / "state.h5"}
    places[named] = tmp_path / "file" / "x"
    song = Track("noise", "noise", "MIT", 44100, unread)
    with pytest.raises(SepkitError, match="cannot be written to") as error:
        experiments.train(TINY, [song], **places)
    one_line(error, places[named])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_the_place_of_a_file_is_named_before_songs_are_read(tmp_path):
    (tmp_path / "tiny.json").mkdir()
    song = Track("noise", "noise", "MIT", 44100, unread)
    with pytest.raises(SepkitError, match="Is a directory") as error:
        experiments.train(TINY, [song], output=tmp_path)
    one_line(error, tmp_path / "tiny.json")


def test_weights_that_find_no_room_at_the_end_are_not_lost(checkpoint, tmp_path, monkeypatch):
    songs, save = [track(0), track(1)], weights.save
    place = tmp_path / "new" / "tiny.weights.h5"

    def full(values, path):
        if path == place:
            raise OSError(errno.ENOSPC, "")
        save(values, path)

    monkeypatch.setattr(weights, "save", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SepkitError, match="No space left") as error:
        experiments.train(TINY, songs, output=tmp_path / "new", checkpoint=checkpoint)
    one_line(error, place, checkpoint)
    assert not (tmp_path / "new").exists()
    # Without a checkpoint they go elsewhere.
    with pytest.raises(SepkitError, match="No space left") as error:
        experiments.train(TINY, songs, output=tmp_path / "new")
    (kept,) = tmp_path.glob("sepkit-*/tiny.weights.h5")
    one_line(error, place, kept)
    wanted, got = weights.load(checkpoint.with_name("tiny.weights.h5")), weights.load(kept)
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, atol=1e-6)


def test_songs_that_go_away_in_training_do_not_cost_the_card(tmp_path):
    pytest.importorskip("tensorflow")
    path = tmp_path / "song"
    path.write_bytes(b"a song")

    def reader():
        path.unlink()
        return stems(0)

    song = Track("noise", "noise", "MIT", 44100, reader, (path,))
    experiments.train(TINY, [song, track(1)], output=tmp_path)
    card = json.loads((tmp_path / "tiny.json").read_text())
    assert card["data"]["songs"][0]["sha256"] == hashlib.sha256(b"a song").hexdigest()
