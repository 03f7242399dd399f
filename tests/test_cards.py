"""Cards: complete, consistent with the weights, reproduced by the code."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from helpers import one_line

from sepkit import datasets, metrics, weights
from sepkit.errors import SepkitError
from sepkit.study import arms, cards, evaluation, experiments, results, tables
from sepkit.study.evaluation import Evaluation, SongScores


def as_json(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", weights.list_models())
def test_each_card_is_complete(name):
    card = weights.read_card(name)
    values = weights.load(weights.find_weights(name))
    assert card["parameters"] == weights.count_parameters(values)
    assert card["experiment"]["channels"] == weights.check_shapes(values)[0]
    assert len(card["data"]["songs"]) == 50
    assert all(len(song["sha256"]) == 64 for song in card["data"]["songs"])
    assert card["weights_licence"] and card["commit"] and card["data"]["licences"]
    for mode in evaluation.MODES:
        scored = card["scores"][mode]
        assert len(scored["songs"]) == 50
        for measure in evaluation.MEASURES:
            scores = np.concatenate(list(cards.score_arrays(scored, measure).values()))
            summary = evaluation.summarize(scores)
            for i, metric in enumerate(metrics.METRICS):
                mean, deviation = (scored[measure][p][metric] for p in ("mean", "deviation"))
                np.testing.assert_allclose(mean, summary.mean[i], atol=2e-4)
                np.testing.assert_allclose(deviation, summary.deviation[i], atol=2e-4)


@pytest.mark.parametrize("name", weights.list_models())
def test_the_training_songs_are_dev_songs_with_the_tables_hashes(name):
    table = {row["track"]: row for row in datasets.musdb_table()}
    for song in weights.read_card(name)["data"]["songs"]:
        assert table[song["name"]]["dsd100_split"] == "Dev"
        assert table[song["name"]]["sha256"] == song["sha256"]


def settings(experiment):
    return {k: v for k, v in as_json(asdict(experiment)).items() if k != "description"}


def test_cards_and_results_hold_the_settings_of_their_experiments():
    """A changed setting would leave weights and scores that no longer belong to their name."""
    for name in weights.list_models():
        card = weights.read_card(name)["experiment"]
        card.pop("description")
        assert card == settings(experiments.EXPERIMENTS[name])
    found = results.read_results()
    assert len(found) > 40
    for (name, seed), card in found.items():
        card["experiment"].pop("description")
        assert card["experiment"] == settings(arms.get_arm(name).experiment), name
        assert card["seed"] == seed


def test_scores_are_compared_with_those_of_a_card():
    values = np.arange(12.0).reshape(1, 3, 4)

    def scored(mode, hop, *songs):
        return Evaluation(
            mode, hop, [SongScores(n, {"report": a, "bsseval": b}) for n, a, b in songs]
        )

    both = scored("song", 5, ("a", values, values - 1), ("b", values, values - 1))
    card = {"scores": {"song": both.as_dict()}}
    assert cards.compare_with_card(both, card) == (2, 0.0)

    other = values.copy()
    other[0, 1, 2] += 0.25
    changed = scored("song", 5, ("b", values, other - 1))
    assert cards.compare_with_card(changed, card) == (1, 0.25)
    other[0, 0, 0] = np.nan
    silent = scored("song", 5, ("b", values, other))
    assert cards.compare_with_card(silent, card) == (1, np.inf)
    assert cards.compare_with_card(silent, {"scores": {"song": silent.as_dict()}}) == (1, 0.0)

    # Other songs, another hop and another mode are not the same.
    assert cards.compare_with_card(scored("song", 5, ("c", values, values)), card) == (0, 0.0)
    assert cards.compare_with_card(scored("song", 1, ("a", values, values)), card)[0] == 0
    report = scored("report", 1, ("a", values, values))
    assert cards.compare_with_card(report, card)[0] == 0
    # The report's procedure has no hop.
    card["scores"]["report"] = scored("report", 5, ("a", values, values)).as_dict()
    assert cards.compare_with_card(report, card) == (1, 0.0)


def test_scores_are_added_to_a_card_that_exists(tmp_path):
    evaluation_ = Evaluation("song", 5, [SongScores("a", {"report": np.ones((1, 3, 4))})])
    with pytest.raises(SepkitError, match="no such card"):
        cards.add_scores(tmp_path / "card.json", [evaluation_])
    (tmp_path / "card.json").write_text('{"scores": {"report": 1}}')
    cards.add_scores(tmp_path / "card.json", [evaluation_])
    scores = json.loads((tmp_path / "card.json").read_text())["scores"]
    assert scores == {"report": 1, "song": evaluation_.as_dict()}


@pytest.mark.parametrize(
    ("text", "says"), [("{", "not JSON"), ("[]", "not a card"), ('{"scores": 1}', "not a card")]
)
def test_a_file_that_is_no_card_is_named(tmp_path, text, says):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(SepkitError, match=says) as error:
        cards.read_card(tmp_path / "card.json")
    one_line(error, tmp_path / "card.json")


@pytest.mark.parametrize("name", weights.list_models())
def test_scores_of_the_card_are_reproduced(name):
    """Three of the Test songs here; `sepkit evaluate --dataset dsd100` does all of them."""
    root = Path(os.environ.get("SEPKIT_DATA", "")) / "musdb18-7"
    if not os.environ.get("SEPKIT_DATA") or not root.is_dir():
        pytest.skip("needs MUSDB18's 7 s sample in SEPKIT_DATA")
    card = weights.read_card(name)
    songs = [datasets.dsd100("test")[i] for i in (0, 20, 49)]
    for mode in evaluation.MODES:
        scored = evaluation.evaluate(name, songs, mode=mode, n_jobs=1)
        n_songs, difference = cards.compare_with_card(scored, card)
        assert n_songs == 3 and difference <= 0.01


def test_the_readmes_table_is_what_the_cards_say():
    published = cards.published_scores()
    rows = {"equalizer, whole song": results.read_analysis("floors")["equalizer"]["report"]}
    rows[published["report_experiment1"]["label"]] = published["report_experiment1"]
    first = weights.read_card("experiment1")["scores"]
    rows["Experiment 1 here, the report's procedure"] = first["report"]["report"]
    for number in (1, 2, 3):
        scores = weights.read_card(f"experiment{number}")["scores"]
        rows[f"Experiment {number} here, whole song"] = scores["song"]["report"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, after = readme.partition("<!-- results: ")
    table = after.partition("-->\n")[2].partition("\n<!-- /results -->")[0]
    assert table == tables.scores_table(rows)
