"""Arms: what each changes, how they are trained and scored."""

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
from helpers import noise, noise_track, one_line

from sepkit import masks, network, separation, weights
from sepkit.errors import ParameterError, SepkitError
from sepkit.stft import REPORT_TRANSFORM, Transform
from sepkit.study import arms, evaluation, experiments
from sepkit.weights import Sizes


def changed(name, base):
    one, other = (arms.get_arm(n).experiment for n in (name, base))
    fields = {f.name for f in dataclasses.fields(one)}
    return {f for f in fields if getattr(one, f) != getattr(other, f)} - {"name", "description"}


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_an_arm_of_the_loss_changes_one_weight(name):
    first = experiments.get_experiment("experiment1")
    for suffix, factor in (("0", 0), ("double", 2)):
        assert changed(f"{name}-{suffix}", "experiment1") == {name}
        arm = arms.get_arm(f"{name}-{suffix}").experiment
        assert getattr(arm, name) == factor * getattr(first, name)


def test_the_baseline_is_experiment_1_and_the_last_arm_experiment_3():
    assert changed("baseline", "experiment1") == set()
    assert changed("experiment3-chosen", "experiment3") == set()


def test_every_arm_differs_from_its_base_and_none_is_like_another():
    seen = set()
    for name, arm in arms.ARMS.items():
        assert arm.experiment.name == name and arm.group
        options = {"channels": arm.experiment.channels, "sizes": arm.experiment.sizes}
        weights.initialize(**options)
        seen.add(str((dataclasses.replace(arm.experiment, name="", description=""), arm.songs)))
        if name != "baseline":
            base = arms.ARMS[arm.base]
            assert changed(name, arm.base) or arm.songs != base.songs
    assert len(seen) == len(arms.ARMS)
    with pytest.raises(ParameterError, match="arm 'x': unknown"):
        arms.get_arm("x")


def test_choices_are_made_on_songs_of_dev_and_experiments_are_scored_on_test(monkeypatch):
    songs = {split: [noise_track(i) for i in range(4)] for split in ("train", "validation")}
    songs |= {"dev": ["dev"], "test": ["test"]}
    monkeypatch.setattr(arms.datasets, "dsd100", songs.get)
    assert arms.get_arm("adam").songs() == (songs["train"], songs["validation"])
    assert arms.get_arm("experiment2").songs() == (["dev"], ["test"])
    assert arms.get_arm("half-of-dev").songs() == (songs["train"][::2], songs["validation"])
    band = arms.get_arm("band").songs()[0]
    assert band[:4] == songs["train"] and {t.artist for t in band[4:]} == {"sepkit band"}
    for mixed, stereo in zip(arms.get_arm("down-mix").songs()[0], songs["train"], strict=True):
        for source, stem in mixed.stems.items():
            assert stem.shape[1] == 1
            np.testing.assert_allclose(stem[:, 0], stereo.stems[source].mean(axis=1))


@pytest.mark.parametrize("sizes", [Sizes(25, 60, 15, 64), Sizes(100, 15, 1, 256)])
def test_networks_of_other_sizes_separate(sizes):
    values = weights.initialize(sizes=sizes)
    assert weights.infer_sizes(values) == sizes
    sound = np.random.default_rng(0).standard_normal((20_000, 1)).astype(np.float32)
    stems = separation.separate(sound, 44100, model=values)
    np.testing.assert_allclose(sum(stems.values()), sound, atol=1e-5)


def test_arms_are_trained_and_scored_once(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    songs = [noise_track(seed, n_segments=34) for seed in range(2)]
    monkeypatch.setattr(arms.datasets, "dsd100", lambda split: songs)
    names = ["baseline", "fifth-output"]  # test_recipes has the others, whose networks are alike
    short_arms = []
    for name in names:
        arm = arms.get_arm(name)
        short = dataclasses.replace(arm.experiment, epochs=1, repetitions=1)
        short_arms.append(dataclasses.replace(arm, experiment=short))
    paths = arms.run([(arm, 0) for arm in short_arms], output=tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert [path.name for path in paths] == [f"{name}-0.json" for name in names]
    results = [json.loads(path.read_text()) for path in paths]
    for result in results:
        assert result["steps"] == 2 and result["experiment"]["epochs"] == 1
        assert result["parameters"] == 489_142
        for mode in evaluation.MODES:
            assert result["scores"][mode]["report"]["n"]["SDR"] == [2, 2, 2, 2]
            assert "bsseval" not in result["scores"][mode]
    # Every change changes what comes out.
    scores = [result["scores"]["song"]["report"]["mean"]["SDR"] for result in results]
    assert len({tuple(row) for row in scores}) == len(names)
    paths[0].write_text("kept")
    arms.run([(short_arms[0], 0)], output=tmp_path)
    assert paths[0].read_text() == "kept"


def test_two_trainings_at_once_give_what_they_give_one_after_the_other(tmp_path):
    pytest.importorskip("tensorflow")
    short = dataclasses.replace(arms.get_arm("baseline").experiment, epochs=1, repetitions=1)
    arm = arms.Arm(short, songs=two_songs)
    both = [(arm, 1), (arm, 2)]
    at_once = arms.run(both, output=tmp_path / "a", n_jobs=2)
    in_turn = arms.run(both, output=tmp_path / "b")
    assert [path.name for path in at_once] == ["baseline-1.json", "baseline-2.json"]
    for one, other in zip(at_once, in_turn, strict=True):
        assert {p.name for p in one.parent.iterdir()} == {p.name for p in other.parent.iterdir()}
        scores = [json.loads(path.read_text())["scores"]["song"]["report"] for path in (one, other)]
        for metric, values in scores[0]["mean"].items():
            np.testing.assert_allclose(values, scores[1]["mean"][metric], atol=0.01)
    with pytest.raises(ParameterError, match="--jobs 0"):
        arms.run(both, output=tmp_path, n_jobs=0)


def two_songs():
    songs = [noise_track(seed, n_segments=34) for seed in range(2)]
    return songs, songs


def test_the_study_takes_seeds_but_for_the_weights_that_come_with_the_library():
    assert list(arms.seeds(arms.get_arm("epochs-40"))) == [0]
    assert list(arms.seeds(arms.get_arm("baseline"))) == [0, 1, 2, 3, 4]
    assert list(arms.seeds(arms.get_arm("experiment1"))) == [1, 2, 3, 4]


def test_a_folder_of_results_that_cannot_be_written_is_named_before_songs_are_read(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "baseline-0.json").write_text("kept")

    def unread():
        raise AssertionError("songs are read before the folder is tried")

    arm = dataclasses.replace(arms.get_arm("baseline"), songs=unread)
    with pytest.raises(SepkitError, match="cannot be written to") as error:
        arms.run([(arm, 0)], output=tmp_path / "file" / "x")
    one_line(error, tmp_path / "file" / "x")
    # Where all results are there, nothing is written.
    arms.run([(arm, 0)], output=tmp_path)


def test_a_result_that_finds_no_room_leaves_the_training(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    songs = [noise_track(seed, n_segments=34) for seed in range(2)]
    short = dataclasses.replace(arms.get_arm("baseline").experiment, epochs=1, repetitions=1)

    def full(value, path, remedy):
        raise SepkitError(f"{path}: full; {remedy}")

    monkeypatch.setattr(arms, "write_json", full)
    monkeypatch.setattr(arms, "_score", lambda *_: [])
    with pytest.raises(SepkitError, match="full") as error:
        arms.run([(arms.Arm(short, songs=lambda: (songs, songs)), 0)], output=tmp_path)
    checkpoint = tmp_path / "baseline-0.checkpoint.h5"
    one_line(error, tmp_path / "baseline-0.json", checkpoint)
    assert list(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.parametrize("name", ["hop-512", "contexts-30"])
def test_arms_of_another_transform_or_other_contexts_are_trained_and_scored(name, tmp_path):
    pytest.importorskip("tensorflow")
    songs = [noise_track(seed, n_segments=34) for seed in range(2)]
    arm = arms.get_arm(name).experiment
    assert changed(name, "baseline") <= {"transform", "sizes", "segment_step", "epochs"}
    short = dataclasses.replace(arm, epochs=1, repetitions=1, batch_size=16)
    quick = arms.Arm(short, songs=lambda: (songs, songs))
    (path,) = arms.run([(quick, 0)], output=tmp_path)
    result = json.loads(path.read_text())
    assert result["experiment"]["transform"] == dataclasses.asdict(arm.transform)
    for mode in evaluation.MODES:
        assert result["scores"][mode]["report"]["n"]["SDR"] == [2, 2, 2, 2]
        assert np.isfinite(result["scores"][mode]["songs"][1]["report"][0]["SAR"]).all()


def test_scoring_with_the_report_s_own_transform_is_the_library_s(tmp_path):
    pytest.importorskip("tensorflow")
    values = weights.initialize(seed=3)
    weights.save(values, tmp_path / "some.weights.h5")
    tracks = [noise_track(seed, n_segments=34) for seed in range(2)]
    scored = arms.score_as_trained(tracks, tmp_path / "some.weights.h5", transform=REPORT_TRANSFORM)
    for ours, mode in zip(scored, evaluation.MODES, strict=True):
        theirs = evaluation.evaluate(values, tracks, mode=mode, measures=("report",), n_jobs=1)
        assert (ours.mode, ours.hop) == (mode, theirs.hop if mode == "song" else 0)
        for a, b in zip(ours.songs, theirs.songs, strict=True):
            np.testing.assert_allclose(a.scores["report"], b.scores["report"], atol=1e-3)


@pytest.mark.parametrize("hop_length", [256, 512])
@pytest.mark.parametrize("context", [25, 30])
def test_stems_sum_to_the_song_with_another_transform_and_other_contexts(hop_length, context):
    prepared = network.prepare(weights.initialize(sizes=Sizes(context=context), seed=1))
    mixture = noise(30_001, 1)
    estimate = partial(masks.mean_masks, prepared, hop=5)
    transform = Transform(hop_length, "blackman-harris")
    stems = separation.separate_song(mixture, estimate, transform=transform)
    assert stems.shape == (4, 30_001, 1)
    assert np.abs(stems.sum(axis=0) - mixture).max() <= 1e-5 * np.abs(mixture).max()


def test_only_whole_batches_of_the_reports_segments_are_scored():
    batch = 32 * 7168
    assert [arms.reported_samples(n) for n in (batch - 1, batch, 2 * batch + 1)] == [
        0,
        batch,
        2 * batch,
    ]
