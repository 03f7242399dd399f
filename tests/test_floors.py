"""Scores of separation without training."""

import numpy as np
import pytest
from helpers import noise, noise_track

from sepkit import metrics
from sepkit.study import analyses, cards, classical, floors, results

pytest.importorskip("librosa")


def test_images_are_museval_s_and_silence_has_0_db():
    pytest.importorskip("museval")
    references = np.stack([noise(20_000, channels=1, seed=seed) for seed in range(4)])
    estimates = 0.5 * references + 0.1 * references.sum(axis=0)
    estimates += 0.1 * noise(20_000, channels=1, seed=4)
    have = floors.images_sdr(references, estimates)
    wanted = analyses.images_scores(references, estimates, 44_100)[0]
    np.testing.assert_allclose(have, wanted, atol=1e-4)
    np.testing.assert_array_equal(floors.images_sdr(references, 0 * references), 0)


def test_floors_have_the_scores_that_follow_from_their_definition():
    track = noise_track(0, n_segments=33)
    ways = floors.separators(np.full((4, 513), 0.25, np.float32))
    chosen = ["silence", "a quarter of the mixture", "the mixture", "equalizer"]
    ways = {name: ways[name] for name in (*chosen, "equalizer, segments")}
    scored = floors.score_floors([track], ways, n_jobs=1)
    report = {name: e.songs[0].scores["report"][0] for name, e in scored.items()}
    images = {name: e.songs[0].scores["images"][0] for name, e in scored.items()}
    assert np.isnan(report["silence"]).all() and (images["silence"][0] == 0).all()
    # One tap does not see the level: these three are the mixture.
    for name in ("a quarter of the mixture", "equalizer"):
        np.testing.assert_allclose(report[name][0], report["the mixture"][0], atol=1e-3)
    sources = track.read()[..., 0]
    for name, share in (("the mixture", 1.0), ("a quarter of the mixture", 0.25)):
        error = sources - share * sources.sum(axis=0)
        wanted = 10 * np.log10((sources**2).sum(axis=1) / (error**2).sum(axis=1))
        np.testing.assert_allclose(images[name][0], wanted, atol=1e-3)
    # What the report's procedure fades and cuts.
    assert (report["equalizer, segments"][2] < report["equalizer"][2]).all()


def test_the_search_goes_on_until_no_change_of_one_option_helps():
    def score(options):
        sdr = -((options["a"] - options["b"]) ** 2) / 4 - (options["b"] - 3) ** 2
        return np.full((3, 4), sdr, float)

    tried = floors.search(score, {"a": (0, 1, 2, 3), "b": (0, 1, 2, 3)})
    options = [options for options, _ in tried]
    assert options[0] == {"a": 0, "b": 0}
    assert all(options.count(one) == 1 for one in options)
    best, means = max(tried, key=lambda pair: pair[1][0].mean())
    assert best == {"a": 3, "b": 3} and means[0, 0] == 0


@pytest.mark.parametrize("method", floors.TRIED)
def test_defaults_are_the_best_that_was_tried_on_the_validation_songs(method):
    tried = results.read_analysis("floors-choices")[method]
    best = max(tried, key=lambda row: np.mean(row["mean"]["SDR"]))["options"]
    defaults = getattr(classical, method).__kwdefaults__ or {}
    assert {n: list(v) if isinstance(v, tuple) else v for n, v in defaults.items()} == best


def test_the_committed_equalizer_is_one():
    gains = floors.read_gains()
    assert gains.shape == (4, 513) and gains.min() >= 0
    np.testing.assert_allclose(gains.sum(axis=0), 1, atol=1e-4)


def test_committed_scores_are_of_the_test_songs_in_the_form_of_cards():
    scored = results.read_analysis("floors")
    assert {*floors.separators(floors.read_gains())} == {*scored}
    for name, evaluation in scored.items():
        songs = cards.score_arrays(evaluation)
        assert len(songs) == 50
        mean = np.mean([song[0] for song in songs.values()], axis=0)
        for i, metric in enumerate(metrics.METRICS):
            if name == "silence":
                assert evaluation["report"]["mean"][metric] == [None] * 4
            else:
                np.testing.assert_allclose(evaluation["report"]["mean"][metric], mean[i], atol=1e-3)


def test_songs_that_are_not_at_hand_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))
    pytest.importorskip("pretty_midi")
    assert all(not song.files for song in floors.whole_songs())
