"""The arms of the diagnosis, and the ways back to sound."""

import dataclasses
import json

import numpy as np
import pytest
from helpers import noise_track

from sepkit import ablations, experiments, metrics, parameters, separation
from sepkit.errors import ParameterError
from sepkit.parameters import Sizes


def changed(arm, base):
    fields = dataclasses.fields(arm)
    return {f.name for f in fields if getattr(arm, f.name) != getattr(base, f.name)}


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_an_arm_of_the_loss_changes_one_weight(name):
    first = experiments.get_experiment("experiment1")
    for suffix, factor in (("0", 0), ("double", 2)):
        arm = ablations.get_arm(f"{name}-{suffix}")
        assert changed(arm, first) == {"name", "description", name}
        assert getattr(arm, name) == factor * getattr(first, name)


def test_the_baseline_is_experiment_1():
    first = experiments.get_experiment("experiment1")
    assert changed(ablations.get_arm("baseline"), first) == {"name", "description"}


def test_every_arm_can_be_built_and_none_is_like_another():
    seen = set()
    for name, arm in ablations.ARMS.items():
        assert arm.name == name
        parameters.initialize(channels=arm.channels, sizes=arm.sizes)
        seen.add(str(dataclasses.replace(arm, name="", description="")))
    assert len(seen) == len(ablations.ARMS)
    with pytest.raises(ParameterError, match="arm 'x': unknown"):
        ablations.get_arm("x")


@pytest.mark.parametrize("sizes", [Sizes(25, 60, 15, 64), Sizes(100, 15, 1, 256)])
def test_networks_of_other_sizes_separate(sizes):
    values = parameters.initialize(sizes=sizes)
    assert parameters.layer_sizes(values) == sizes
    sound = np.random.default_rng(0).standard_normal((20_000, 1)).astype(np.float32)
    stems = separation.separate(sound, 44100, model=values)
    np.testing.assert_allclose(sum(stems.values()), sound, atol=1e-5)


def test_an_arm_is_trained_scored_and_left_alone_when_its_result_is_there(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    songs = [noise_track(seed, n_segments=34) for seed in range(2)]
    monkeypatch.setattr(ablations.datasets, "dsd100", lambda split: songs)
    arm = dataclasses.replace(ablations.get_arm("baseline"), epochs=1, repetitions=1)
    path = ablations.run(arm, output=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["baseline-0.json"]
    result = json.loads(path.read_text())
    assert result["steps"] == 2 and result["experiment"]["epochs"] == 1
    for mode in experiments.MODES:
        assert result["scores"][mode]["report"]["n"]["SDR"] == [2, 2, 2, 2]
        assert "museval" not in result["scores"][mode]
    path.write_text("kept")
    assert ablations.run(arm, output=tmp_path).read_text() == "kept"


def test_ways_back_to_sound_are_those_of_the_separation():
    values = parameters.initialize(seed=3)
    track = noise_track(0, n_segments=33)
    stems = np.stack([stem[:, :1] for stem in track.stems.values()])
    ways = ablations.resyntheses(values)
    mixture = stems.sum(axis=0)
    song = np.stack(list(separation.separate(mixture, 44100, model=values).values()))
    np.testing.assert_allclose(ways["network, song, hop 5"](stems), song, atol=1e-5)
    report = separation.separate(mixture, 44100, model=values, mode="report")
    cut = ways["network, segments"](stems)[:, : len(report["bass"])]
    np.testing.assert_allclose(cut, np.stack(list(report.values())), atol=1e-5)
    faded = ways["network, song, hop 5, faded"](stems)
    assert np.abs(faded - song).max() > 1e-4
    np.testing.assert_allclose(faded.sum(axis=0), mixture, atol=1e-4)


def test_resyntheses_are_scored_on_what_the_report_s_procedure_keeps():
    track = noise_track(0, n_segments=33)
    scored = ablations.score_resyntheses([track], model=parameters.initialize())
    references = np.stack([stem[: 32 * 7168, 0] for stem in track.stems.values()])
    estimates = ablations._true_sources_in_segments(
        np.stack([stem[:, :1] for stem in track.stems.values()])
    )
    wanted = metrics.report_scores(references, estimates[:, : 32 * 7168, 0])
    evaluation = scored["true sources, segments"]
    np.testing.assert_allclose(evaluation.songs[0].report[0], wanted)
    assert evaluation.as_dict()["report"]["n"]["SAR"] == [1, 1, 1, 1]
