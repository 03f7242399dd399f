"""The arms: experiments that differ in one thing."""

import dataclasses
import json

import numpy as np
import pytest
from helpers import noise, noise_track

from sepkit import ablations, experiments, metrics, network, parameters, separation
from sepkit.errors import ParameterError
from sepkit.parameters import Sizes
from sepkit.spectral import REPORT_TRANSFORM, Transform


def changed(name, base):
    one, other = (ablations.get_arm(n).experiment for n in (name, base))
    fields = {f.name for f in dataclasses.fields(one)}
    return {f for f in fields if getattr(one, f) != getattr(other, f)} - {"name", "description"}


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_an_arm_of_the_loss_changes_one_weight(name):
    first = experiments.get_experiment("experiment1")
    for suffix, factor in (("0", 0), ("double", 2)):
        assert changed(f"{name}-{suffix}", "experiment1") == {name}
        arm = ablations.get_arm(f"{name}-{suffix}").experiment
        assert getattr(arm, name) == factor * getattr(first, name)


def test_the_baseline_is_experiment_1_and_the_last_arm_experiment_3():
    assert changed("baseline", "experiment1") == set()
    assert changed("experiment3-chosen", "experiment3") == set()


def test_every_arm_differs_from_its_base_and_none_is_like_another():
    seen = set()
    for name, arm in ablations.ARMS.items():
        assert arm.experiment.name == name and arm.group
        options = {"channels": arm.experiment.channels, "sizes": arm.experiment.sizes}
        parameters.initialize(**options)
        seen.add(str((dataclasses.replace(arm.experiment, name="", description=""), arm.songs)))
        if name != "baseline":
            base = ablations.ARMS[arm.base]
            assert changed(name, arm.base) or arm.songs != base.songs
    assert len(seen) == len(ablations.ARMS)
    with pytest.raises(ParameterError, match="arm 'x': unknown"):
        ablations.get_arm("x")


def test_choices_are_made_on_songs_of_dev_and_experiments_are_scored_on_test(monkeypatch):
    songs = {split: [noise_track(i) for i in range(4)] for split in ("train", "validation")}
    songs |= {"dev": ["dev"], "test": ["test"]}
    monkeypatch.setattr(ablations.datasets, "dsd100", songs.get)
    assert ablations.get_arm("adam").songs() == (songs["train"], songs["validation"])
    assert ablations.get_arm("experiment2").songs() == (["dev"], ["test"])
    assert ablations.get_arm("half-of-dev").songs() == (songs["train"][::2], songs["validation"])
    band = ablations.get_arm("band").songs()[0]
    assert band[:4] == songs["train"] and {t.artist for t in band[4:]} == {"sepkit band"}
    for mixed, stereo in zip(ablations.get_arm("down-mix").songs()[0], songs["train"], strict=True):
        for source, stem in mixed.stems.items():
            assert stem.shape[1] == 1
            np.testing.assert_allclose(stem[:, 0], stereo.stems[source].mean(axis=1))


@pytest.mark.parametrize("sizes", [Sizes(25, 60, 15, 64), Sizes(100, 15, 1, 256)])
def test_networks_of_other_sizes_separate(sizes):
    values = parameters.initialize(sizes=sizes)
    assert parameters.layer_sizes(values) == sizes
    sound = np.random.default_rng(0).standard_normal((20_000, 1)).astype(np.float32)
    stems = separation.separate(sound, 44100, model=values)
    np.testing.assert_allclose(sum(stems.values()), sound, atol=1e-5)


def test_arms_are_trained_scored_and_left_alone_when_their_results_are_there(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    songs = [noise_track(seed, n_segments=34) for seed in range(2)]
    monkeypatch.setattr(ablations.datasets, "dsd100", lambda split: songs)
    names = ["baseline", "input-scale", "tied-decoders", "shared-bass-other", "fifth-output"]
    arms = []
    for name in names:
        arm = ablations.get_arm(name)
        short = dataclasses.replace(arm.experiment, epochs=1, repetitions=1)
        arms.append(dataclasses.replace(arm, experiment=short))
    paths = ablations.run(arms, output=tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert [path.name for path in paths] == [f"{name}-0.json" for name in names]
    results = [json.loads(path.read_text()) for path in paths]
    for result in results:
        assert result["steps"] == 2 and result["experiment"]["epochs"] == 1
        assert result["parameters"] == 489_142
        for mode in experiments.MODES:
            assert result["scores"][mode]["report"]["n"]["SDR"] == [2, 2, 2, 2]
            assert "museval" not in result["scores"][mode]
    # Every change changes what comes out.
    scores = [result["scores"]["song"]["report"]["mean"]["SDR"] for result in results]
    assert len({tuple(row) for row in scores}) == len(names)
    paths[0].write_text("kept")
    ablations.run(arms[:1], output=tmp_path)
    assert paths[0].read_text() == "kept"


def told(gain):
    """A result of two songs whose scores are `gain` above 0, and 1 dB more on the second."""
    songs = [
        {"name": str(i), "report": [{m: [gain + i] * 4 for m in metrics.METRICS}]} for i in range(2)
    ]
    mean = {m: [gain + 0.5] * 4 for m in metrics.METRICS}
    scores = {"report": {"mean": mean}, "songs": songs}
    return {"scores": {mode: scores for mode in experiments.MODES}}


def test_the_table_sets_each_arm_against_its_base_with_the_same_seed(tmp_path):
    for name, gain in {"baseline-0": 0, "adam-0": 2, "adam-1": 3, "alpha-0-0": 1}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(told(gain)))
    lines = [line.split(" | ") for line in ablations.table(tmp_path).splitlines()[2:]]
    assert [(line[1], line[3]) for line in lines] == [
        ("baseline", "0"), ("alpha-0", "0"), ("adam", "0"), ("adam", "1")
    ]  # fmt: skip
    assert lines[2][4:9] == ["2.50", "2.50", "2.50", "baseline", "+2.00 ± 0.00"]
    assert not any(lines[3][7:-1])


def test_effects_have_the_standard_error_of_their_songs(tmp_path):
    (tmp_path / "baseline-0.json").write_text(json.dumps(told(0)))
    (tmp_path / "adam-0.json").write_text(json.dumps(told(2)))
    (tmp_path / "adam-steps-x4-0.json").write_text(json.dumps(told(1)))
    found = ablations.effects(tmp_path)
    assert {name: effect.base for name, effect in found.items()} == {
        "adam": "baseline", "adam-steps-x4": "adam"
    }  # fmt: skip
    np.testing.assert_allclose(found["adam-steps-x4"].mean, [-1, -1, -1])
    gain = np.array([1.0, 4.0])[:, np.newaxis, np.newaxis] + np.zeros((2, 3, 4))
    effect = ablations.Effect("adam", "baseline", 0, gain)
    np.testing.assert_allclose(effect.error, [1.5] * 3)
    (line,) = ablations.effects_table([effect]).splitlines()[2:]
    assert line.split(" | ")[1:3] == ["baseline", "+2.50 ± 1.50"] and "`adam`" in line


def test_differences_are_taken_song_by_song():
    other = told(5)
    other["scores"]["song"]["songs"].reverse()
    gain = ablations.differences(told(2), other, "song")
    np.testing.assert_array_equal(gain, np.full((2, 3, 4), -3.0))
    other["scores"]["song"]["songs"].pop()
    with pytest.raises(ParameterError, match="different songs"):
        ablations.differences(told(2), other, "song")


@pytest.mark.parametrize("name", ["blackman-harris", "hop-512", "contexts-every-5", "contexts-30"])
def test_arms_of_another_transform_or_other_contexts_are_trained_and_scored(name, tmp_path):
    pytest.importorskip("tensorflow")
    songs = [noise_track(seed, n_segments=34) for seed in range(2)]
    arm = ablations.get_arm(name).experiment
    assert changed(name, "baseline") <= {"transform", "sizes", "segment_step", "epochs"}
    short = dataclasses.replace(arm, epochs=1, repetitions=1, batch_size=16)
    quick = ablations.Arm(short, songs=lambda: (songs, songs))
    (path,) = ablations.run([quick], output=tmp_path)
    result = json.loads(path.read_text())
    assert result["experiment"]["transform"] == dataclasses.asdict(arm.transform)
    for mode in experiments.MODES:
        assert result["scores"][mode]["report"]["n"]["SDR"] == [2, 2, 2, 2]
        assert np.isfinite(result["scores"][mode]["songs"][1]["report"][0]["SAR"]).all()


def test_scoring_with_the_report_s_own_transform_is_the_library_s(tmp_path):
    pytest.importorskip("tensorflow")
    values = parameters.initialize(seed=3)
    parameters.save(values, tmp_path / "some.weights.h5")
    tracks = [noise_track(seed, n_segments=34) for seed in range(2)]
    scored = ablations.score_as_trained(
        tracks, tmp_path / "some.weights.h5", transform=REPORT_TRANSFORM
    )
    for ours, mode in zip(scored, experiments.MODES, strict=True):
        theirs = experiments.evaluate(values, tracks, mode=mode, measures=("report",), n_jobs=1)
        assert (ours.mode, ours.hop) == (mode, theirs.hop if mode == "song" else 0)
        for a, b in zip(ours.songs, theirs.songs, strict=True):
            np.testing.assert_allclose(a.report, b.report, atol=1e-3)


@pytest.mark.parametrize("hop", [256, 512])
@pytest.mark.parametrize("context", [25, 30])
def test_a_song_is_taken_apart_exactly_with_another_transform(hop, context):
    pairs = network.matrices(parameters.initialize(sizes=Sizes(context=context), seed=1))
    mixture = noise(30_001, 1)
    transform = Transform(hop, "blackman-harris")
    stems = ablations.separate_song(pairs, mixture, transform=transform, hop=5)
    assert stems.shape == (4, 30_001, 1)
    assert np.abs(stems.sum(axis=0) - mixture).max() <= 1e-5 * np.abs(mixture).max()
