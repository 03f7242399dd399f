"""Experiments, evaluations and cards."""

import dataclasses
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sepkit import datasets, experiments, metrics, parameters, separation
from sepkit.errors import DatasetError, ParameterError, SepkitError


def stems(seed, n_samples=44100):
    rng = np.random.default_rng(seed)
    return {
        s: 0.1 * rng.standard_normal((n_samples, 2)).astype(np.float32) for s in datasets.SOURCES
    }


def track(seed, **options):
    return datasets.Track(f"noise {seed}", "noise", "MIT", 44100, partial(stems, seed, **options))


@pytest.fixture(scope="module")
def network():
    return parameters.initialize(seed=1)


def test_experiment_1_and_2_differ_in_channels_alone_and_are_frozen():
    first, second = (experiments.get_experiment(f"experiment{i}") for i in (1, 2))
    changed = {
        field.name
        for field in dataclasses.fields(first)
        if getattr(first, field.name) != getattr(second, field.name)
    }
    assert changed == {"name", "description", "channels"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.epochs = 1


def test_experiment_1_has_the_report_s_settings():
    first = experiments.get_experiment("experiment1")
    assert (first.learning_rate, first.rho, first.epsilon) == (0.01, 0.95, 1.0)
    assert (first.alpha, first.beta, first.gamma) == (0.001, 0.01, 0.03)
    assert (first.block_size, first.block_step, first.epochs, first.repetitions) == (10, 5, 10, 3)
    assert (first.batch_size, first.channels) == (32, 1)


def test_unknown_names_are_refused():
    with pytest.raises(ParameterError, match="experiment 'x': unknown"):
        experiments.get_experiment("x")
    with pytest.raises(DatasetError, match="data set 'x': unknown"):
        experiments.load_tracks("x")


def test_a_model_of_one_channel_is_scored_on_the_left_channel(network):
    song = track(0)
    scored = experiments.score_song(song, network, hop=25)
    references = np.stack([stem[:, 0] for stem in song.stems.values()])
    estimates = separation.separate(references.sum(axis=0), 44100, model=network, hop=25)
    wanted = metrics.report_scores(references, np.stack(list(estimates.values())))
    assert scored.report.shape == (1, 3, 4)
    np.testing.assert_allclose(scored.report[0], wanted, atol=1e-4)


def test_a_stereo_model_is_scored_on_each_channel():
    network = parameters.initialize(channels=2)
    scored = experiments.score_song(track(0), network, hop=25)
    assert scored.report.shape == (2, 3, 4)
    assert scored.museval.shape == (1, 3, 4)


def test_songs_are_scored_in_parallel_as_one_by_one_and_in_order(network):
    songs = [track(seed) for seed in (3, 1, 2)]
    together = experiments.evaluate(network, songs, hop=25, n_jobs=2)
    assert [song.name for song in together.songs] == ["noise 3", "noise 1", "noise 2"]
    for song, scored in zip(songs, together.songs, strict=True):
        alone = experiments.score_song(song, network, hop=25)
        np.testing.assert_allclose(scored.report, alone.report, atol=1e-3)


def test_the_report_s_mode_refuses_short_songs(network):
    with pytest.raises(SepkitError, match="32"):
        experiments.score_song(track(0), network, mode="report")


def test_a_summary_counts_channels_as_the_report_does():
    songs = [
        experiments.SongScores("a", np.full((2, 3, 4), [[[1.0]], [[2.0]]]), np.ones((1, 3, 4))),
        experiments.SongScores("b", np.full((2, 3, 4), 6.0), np.full((1, 3, 4), np.nan)),
    ]
    evaluation = experiments.Evaluation("song", 5, songs)
    np.testing.assert_allclose(evaluation.summary("report").mean, 3.75)
    np.testing.assert_allclose(evaluation.summary("museval").mean, 1.0)
    told = evaluation.as_dict()
    assert told["museval"]["dropped"]["SDR"] == [1, 1, 1, 1]
    assert told["songs"][1]["museval"][0]["SDR"] == [None] * 4
    json.dumps(told, allow_nan=False)
    table = experiments.format_table(evaluation, "museval")
    assert "1.00 ±  0.00" in table and "left out, NaN or infinite: 12 scores" in table


def test_a_card_tells_what_made_the_weights_and_scores_are_added_to_it(tmp_path, network):
    pytest.importorskip("tensorflow")
    songs = [track(seed, n_samples=250_000) for seed in range(2)]
    short = dataclasses.replace(
        experiments.get_experiment("experiment1"), name="short", epochs=2, repetitions=1
    )
    path = experiments.train(short, songs, output=tmp_path / "new", seed=3)
    assert path == tmp_path / "new" / "short.weights.h5"
    card = json.loads((tmp_path / "new" / "short.json").read_text())
    assert card["experiment"]["epochs"] == 2 and card["seed"] == 3
    assert card["parameters"] == 489_142
    assert card["steps"] == sum(row["steps"] for row in card["history"]) == 2 * 2
    assert [song["sha256"] for song in card["data"]["songs"]] == [s.sha256() for s in songs]
    assert card["data"]["licences"] == ["MIT"]
    evaluations = [
        experiments.evaluate(path, songs, mode=mode, hop=25) for mode in experiments.MODES
    ]
    experiments.add_scores(tmp_path / "new" / "short.json", evaluations)
    card = json.loads((tmp_path / "new" / "short.json").read_text())
    assert card["scores"]["song"]["report"]["n"]["SDR"] == [2, 2, 2, 2]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "short.json",
        "short.weights.h5",
    ]


def test_a_folder_that_cannot_be_made_is_named_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SepkitError, match="cannot be made"):
        experiments.train(
            experiments.get_experiment("experiment1"), [track(0)], output=tmp_path / "file" / "x"
        )


@pytest.mark.parametrize("name", parameters.list_models())
def test_each_card_is_whole(name):
    card = parameters.read_card(name)
    values = parameters.load(parameters.find(name))
    assert card["parameters"] == parameters.count(values)
    assert card["experiment"]["channels"] == parameters.dimensions(values)[0]
    assert len(card["data"]["songs"]) == 50
    assert all(len(song["sha256"]) == 64 for song in card["data"]["songs"])
    assert card["weights_licence"] and card["commit"] and card["data"]["licences"]
    for mode in experiments.MODES:
        scored = card["scores"][mode]
        assert len(scored["songs"]) == 50
        for measure in experiments.MEASURES:
            rows = [row for song in scored["songs"] for row in song[measure]]
            for metric in metrics.METRICS:
                summary = metrics.summarize([row[metric] for row in rows])
                np.testing.assert_allclose(scored[measure]["mean"][metric], summary.mean, atol=2e-4)
                np.testing.assert_allclose(
                    scored[measure]["deviation"][metric], summary.deviation, atol=2e-4
                )


@pytest.mark.parametrize("name", parameters.list_models())
def test_the_training_songs_are_dev_songs_with_the_table_s_hashes(name):
    table = {row["track"]: row for row in datasets.table()}
    for song in parameters.read_card(name)["data"]["songs"]:
        assert table[song["name"]]["dsd100_split"] == "Dev"
        assert table[song["name"]]["sha256"] == song["sha256"]


def test_scores_are_compared_with_those_of_the_card():
    values = np.arange(12.0).reshape(1, 3, 4)
    songs = [experiments.SongScores(name, values, values - 1) for name in ("a", "b")]
    evaluation = experiments.Evaluation("song", 5, songs)
    card = {"scores": {"song": evaluation.as_dict()}}
    assert experiments.compare_with_card(evaluation, card) == (2, 0.0)

    other = values.copy()
    other[0, 1, 2] += 0.25
    changed = experiments.Evaluation("song", 5, [experiments.SongScores("b", values, other - 1)])
    assert experiments.compare_with_card(changed, card) == (1, 0.25)

    other[0, 0, 0] = np.nan
    silent = experiments.Evaluation("song", 5, [experiments.SongScores("b", values, other)])
    assert experiments.compare_with_card(silent, card) == (1, np.inf)
    card_of_silence = {"scores": {"song": silent.as_dict()}}
    assert experiments.compare_with_card(silent, card_of_silence) == (1, 0.0)

    # Other songs, another hop and another mode are not the same.
    strange = experiments.Evaluation("song", 5, [experiments.SongScores("c", values, values)])
    assert experiments.compare_with_card(strange, card) == (0, 0.0)
    assert experiments.compare_with_card(experiments.Evaluation("song", 1, songs), card)[0] == 0
    report = experiments.Evaluation("report", 1, songs)
    assert experiments.compare_with_card(report, card)[0] == 0
    # The report's procedure knows no hop.
    card["scores"]["report"] = experiments.Evaluation("report", 5, songs).as_dict()
    assert experiments.compare_with_card(report, card) == (2, 0.0)


@pytest.mark.parametrize("name", parameters.list_models())
def test_scores_of_the_card_come_out_again(name):
    """Three of the Test songs here; `sepkit evaluate --dataset dsd100` makes all of them."""
    root = Path(os.environ.get("SEPKIT_DATA", "")) / "musdb18-7"
    if not os.environ.get("SEPKIT_DATA") or not root.is_dir():
        pytest.skip("needs MUSDB18's 7 s sample in SEPKIT_DATA")
    card = parameters.read_card(name)
    for i in (0, 20, 49):
        song = datasets.dsd100("test")[i]
        for mode in experiments.MODES:
            scored = experiments.score_song(song, name, mode=mode)
            kept = card["scores"][mode]["songs"][i]
            assert kept["name"] == song.name
            for measure in experiments.MEASURES:
                again = getattr(scored, measure)
                for row, fresh in zip(kept[measure], again, strict=True):
                    wanted = np.array([row[metric] for metric in metrics.METRICS])
                    np.testing.assert_allclose(fresh, wanted, atol=0.01)


def test_the_readme_s_table_is_what_the_cards_say():
    published = experiments.published_scores()
    rows = {published["report_experiment1"]["label"]: published["report_experiment1"]}
    first = parameters.read_card("experiment1")["scores"]
    rows["Experiment 1 here, the report's procedure"] = first["report"]["report"]
    for number in (1, 2, 3):
        scores = parameters.read_card(f"experiment{number}")["scores"]
        rows[f"Experiment {number} here, whole song"] = scores["song"]["report"]
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    _, _, after = readme.partition("they differ -->\n")
    assert after.partition("\n<!-- /results -->")[0] == experiments.markdown_table(rows)
