"""Songs separated, scored and summarised."""

import json
from functools import partial

import numpy as np
import pytest

from sepkit import metrics, separation, weights
from sepkit.errors import DatasetError, SepkitError
from sepkit.study import evaluation
from sepkit.study.evaluation import Evaluation, SongScores
from sepkit.tracks import SOURCES, Track


def stems(seed, n_samples=44100):
    rng = np.random.default_rng(seed)
    return {s: 0.1 * rng.standard_normal((n_samples, 2)).astype(np.float32) for s in SOURCES}


def track(seed, **options):
    return Track(f"noise {seed}", "noise", "MIT", 44100, partial(stems, seed, **options))


@pytest.fixture(scope="module")
def network():
    return weights.initialize(seed=1)


def test_a_model_of_one_channel_is_scored_on_the_left_channel(network):
    song = track(0)
    (scored,) = evaluation.evaluate(network, [song], hop=25, n_jobs=1).songs
    references = np.stack([stem[:, 0] for stem in song.stems.values()])
    estimates = separation.separate(references.sum(axis=0), 44100, model=network, hop=25)
    wanted = metrics.report_scores(references, np.stack(list(estimates.values())))
    assert scored.scores["report"].shape == (1, 3, 4)
    np.testing.assert_allclose(scored.scores["report"][0], wanted, atol=1e-4)


def test_a_stereo_model_is_scored_on_each_channel():
    network = weights.initialize(channels=2)
    (scored,) = evaluation.evaluate(network, [track(0)], hop=25, n_jobs=1).songs
    assert scored.scores["report"].shape == (2, 3, 4)
    assert scored.scores["bsseval"].shape == (1, 3, 4)


def test_songs_are_scored_in_parallel_as_one_by_one_and_in_order(network):
    songs = [track(seed) for seed in (3, 1, 2)]
    together = evaluation.evaluate(network, songs, hop=25, n_jobs=2)
    assert [song.name for song in together.songs] == ["noise 3", "noise 1", "noise 2"]
    for song, scored in zip(songs, together.songs, strict=True):
        (alone,) = evaluation.evaluate(network, [song], hop=25, n_jobs=1).songs
        for measure in evaluation.MEASURES:
            np.testing.assert_allclose(scored.scores[measure], alone.scores[measure], atol=1e-3)


def test_several_separators_are_scored_on_the_same_songs():
    separators = {
        "the truth": lambda references, rate: references,
        "half of it": lambda references, rate: 0.5 * references[:, :30000],
        "the mixture": lambda references, rate: np.tile(references.sum(axis=0), (4, 1, 1)),
    }
    scored = evaluation.score_songs(
        [track(0), track(1)], separators, measures=("report",), n_jobs=1
    )
    assert list(scored) == list(separators)
    for songs in scored.values():
        assert [song.name for song in songs] == ["noise 0", "noise 1"]
    sdr = {name: songs[0].scores["report"][0, 0] for name, songs in scored.items()}
    assert sdr["the truth"].min() > 100 and sdr["half of it"].min() > 100
    assert sdr["the mixture"].max() < 0


def test_museval_gives_the_scores_of_bss_eval(network):
    pytest.importorskip("museval")
    measures = ("bsseval", "museval")
    (song,) = evaluation.evaluate(network, [track(5)], hop=25, measures=measures, n_jobs=1).songs
    np.testing.assert_allclose(song.scores["bsseval"], song.scores["museval"], atol=1e-5)


@pytest.mark.parametrize("silent", ["references", "estimates"])
def test_museval_and_bss_eval_agree_on_a_silent_stem(silent):
    pytest.importorskip("museval")
    rng = np.random.default_rng(0)
    rate = 4000
    sounds = {"references": rng.standard_normal((4, 3 * rate, 2))}
    sounds["estimates"] = sounds["references"] + 0.5 * rng.standard_normal((4, 3 * rate, 2))
    sounds[silent][3] = 0
    before = {name: sound.copy() for name, sound in sounds.items()}
    theirs = evaluation.museval_scores(**sounds, rate=rate)
    assert np.isnan(theirs).all(axis=0).tolist() == [False, False, False, True]
    np.testing.assert_allclose(metrics.bss_eval_scores(**sounds, rate=rate), theirs, atol=1e-6)
    for name, sound in sounds.items():
        np.testing.assert_array_equal(sound, before[name])
    sounds[silent][:] = 0
    assert np.isnan(evaluation.museval_scores(**sounds, rate=rate)).all()


def broken():
    raise DatasetError("noise 1: broken; mend it")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_broken_song_costs_no_other_its_scores(network, n_jobs):
    songs = [track(0), Track("noise 1", "noise", "MIT", 44100, broken), track(2)]
    options = {"hop": 25, "measures": ("report",), "n_jobs": n_jobs}
    first, error, last = evaluation.evaluate_each(network, songs, **options)
    assert (first.name, str(error), last.name) == ("noise 0", "noise 1: broken; mend it", "noise 2")
    alone = evaluation.evaluate(network, [track(2)], **options).songs[0]
    np.testing.assert_allclose(last.scores["report"], alone.scores["report"], atol=1e-3)
    with pytest.raises(DatasetError, match="noise 1: broken"):
        evaluation.evaluate(network, songs, **options)


def test_a_song_too_short_for_the_reports_procedure_is_named(network):
    with pytest.raises(SepkitError, match=r"noise 0: .*32"):
        evaluation.evaluate(network, [track(0)], mode="report", n_jobs=1)


def test_a_summary_counts_channels_as_the_report_does():
    two = np.full((2, 3, 4), [[[1.0]], [[2.0]]])
    songs = [
        SongScores("a", {"report": two, "bsseval": np.ones((1, 3, 4))}),
        SongScores("b", {"report": np.full((2, 3, 4), 6.0), "bsseval": np.full((1, 3, 4), np.nan)}),
    ]
    scored = Evaluation("song", 5, songs)
    np.testing.assert_allclose(scored.summary("report").mean, 3.75)
    np.testing.assert_allclose(scored.summary("bsseval").mean, 1.0)
    values = scored.as_dict()
    assert values["bsseval"]["dropped"]["SDR"] == [1, 1, 1, 1]
    assert values["songs"][1]["bsseval"][0]["SDR"] == [None] * 4
    json.dumps(values, allow_nan=False)
    table = evaluation.format_table(scored, "bsseval")
    assert "1.00 ±  0.00" in table and "12 scores" in table


def test_a_summary_leaves_out_and_counts_what_is_not_finite():
    scores = np.array([[1.0, 2.0], [3.0, np.nan], [8.0, np.inf], [np.nan, np.nan]])
    summary = evaluation.summarize(scores)
    np.testing.assert_allclose(summary.mean, [4, 2])
    np.testing.assert_allclose(summary.deviation, [np.std([1, 3, 8]), 0])
    np.testing.assert_allclose(summary.median, [3, 2])
    np.testing.assert_array_equal(summary.n, [3, 1])
    np.testing.assert_array_equal(summary.dropped, [1, 3])
    nothing = evaluation.summarize(np.full((2, 1), np.nan))
    assert np.isnan(nothing.mean).all() and nothing.dropped == [2]
