"""Statistics of the study: errors over songs and seeds, correction, verdicts."""

import json

import numpy as np
import pytest
import scipy.stats

from sepkit.metrics import METRICS
from sepkit.study import statistics
from sepkit.study.arms import ARMS


def card(scores):
    """A card of scores (n_songs, 3, 4), the same in both modes."""
    songs = [
        {"name": str(i), "report": [{m: list(row) for m, row in zip(METRICS, song, strict=True)}]}
        for i, song in enumerate(scores)
    ]
    return {"scores": {mode: {"songs": songs} for mode in ("report", "song")}}


def trainings(rng, n_seeds, *, n_songs=10, gain=0.0, songs=0.5, seeds=0.2):
    """Scores of an arm from several seeds: a gain, scatter over songs and over seeds."""
    by_song = gain + songs * rng.standard_normal((n_songs, 1, 1))
    return [
        by_song + seeds * rng.standard_normal() + 0.01 * rng.standard_normal((n_songs, 3, 4))
        for _ in range(n_seeds)
    ]


def results_of(**arms):
    """Cards by arm and seed from scores by arm; underscores are hyphens."""
    return {
        (name.replace("_", "-"), seed): card(scores)
        for name, runs in arms.items()
        for seed, scores in enumerate(runs)
    }


NO_SCATTER = statistics.SeedScatter(np.zeros((3, 5)), 0)


def test_gains_of_one_training_each_are_tested_over_songs_as_scipy_does():
    rng = np.random.default_rng(0)
    found = results_of(adam=trainings(rng, 1, gain=0.4), baseline=trainings(rng, 1))
    effect = statistics.compare(found, "adam", "baseline", NO_SCATTER)
    assert effect.seeds == (1, 1) and effect.gain.shape == (10, 3, 4)
    songs = effect.gain[:, 1].mean(axis=1)
    theirs = scipy.stats.ttest_1samp(songs, 0)
    assert effect.total.mean[1] == pytest.approx(songs.mean())
    assert effect.total.p[1] == pytest.approx(theirs.pvalue)
    np.testing.assert_allclose(
        effect.total.interval()[:, 1], theirs.confidence_interval(0.95), atol=1e-12
    )
    by_source = scipy.stats.ttest_1samp(effect.gain[:, 2, 3], 0)
    assert effect.by_source.p[2, 3] == pytest.approx(by_source.pvalue)


def test_the_scatter_of_seeds_is_the_pooled_variance_of_the_mean_scores():
    rng = np.random.default_rng(1)
    arms = {"adam": trainings(rng, 3), "baseline": trainings(rng, 5), "remix": trainings(rng, 1)}
    scatter = statistics.seed_scatter(results_of(**arms), arms)
    means = [[run[:, 0].mean() for run in arms[name]] for name in ("adam", "baseline")]
    pooled = (2 * np.var(means[0], ddof=1) + 4 * np.var(means[1], ddof=1)) / 6
    assert scatter.freedom == 6
    assert scatter.variance[0, -1] == pytest.approx(pooled)
    one_source = [[run[:, 2, 1].mean() for run in arms[name]] for name in ("adam", "baseline")]
    pooled = (2 * np.var(one_source[0], ddof=1) + 4 * np.var(one_source[1], ddof=1)) / 6
    assert scatter.variance[2, 1] == pytest.approx(pooled)


def test_more_seeds_make_the_error_smaller_by_their_share_alone():
    scatter = statistics.SeedScatter(np.full((3, 5), 0.09), 8)
    steady = [np.zeros((10, 3, 4))]
    errors = [
        statistics.compare(
            results_of(adam=steady * n, baseline=steady * m), "adam", "baseline", scatter
        ).total
        for n, m in ((1, 1), (3, 5))
    ]
    np.testing.assert_allclose(errors[0].error, 0.3 * np.sqrt(2))
    np.testing.assert_allclose(errors[1].error, 0.3 * np.sqrt(1 / 3 + 1 / 5))
    np.testing.assert_allclose(errors[0].freedom, 8)


def test_intervals_hold_the_true_gain_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        arms = {"adam": trainings(rng, 3, gain=0.5), "baseline": trainings(rng, 5)}
        others = {f"other{i}": trainings(rng, 3) for i in range(4)}
        found = results_of(**arms, **others)
        scatter = statistics.seed_scatter(found, [*arms, *others])
        # Both arms drew their songs' scatter: the gain is the difference of their levels.
        effect = statistics.compare(found, "adam", "baseline", scatter)
        low, high = effect.total.interval()[:, 0]
        held += low <= 0.5 <= high
    assert 0.92 <= held / 400 <= 0.98


def effect_of(mean, deviation, n_songs=10):
    """An effect whose gains over songs have a mean and a deviation."""
    steps = np.linspace(-1, 1, n_songs)
    gain = mean + deviation * steps / steps.std(ddof=1)
    return statistics.Effect("a", "b", (3, 3), np.tile(gain[:, None, None], (1, 3, 4)), NO_SCATTER)


def test_verdicts_are_corrected_for_the_family():
    judged = statistics.verdicts(
        {
            "strong": effect_of(1.0, 0.1),
            "weak": effect_of(0.5, 0.5),  # p = 0.01
            "none": effect_of(0.01, 0.2),
            "unclear": effect_of(0.3, 1.0),
        }
    )
    assert judged == {
        "strong": ("effect",) * 3,
        "weak": ("likely",) * 3,
        "none": ("none",) * 3,
        "unclear": ("open",) * 3,
    }
    assert statistics.verdicts({"weak": effect_of(0.5, 0.5)})["weak"][0] == "effect"
    # Among many that show nothing, the same weak one proves nothing.
    many = {str(i): effect_of(0.0, 1.0) for i in range(40)} | {"weak": effect_of(0.5, 0.5)}
    assert statistics.verdicts(many)["weak"][0] == "open"


def test_chance_alone_seldom_makes_an_effect():
    rng = np.random.default_rng(3)
    families = 0
    for _ in range(100):
        arms = {name: trainings(rng, 1, seeds=0.05) for name in list(ARMS)[:15]}
        arms["baseline"] = trainings(rng, 3, seeds=0.05)
        found = results_of(**{name.replace("-", "_"): runs for name, runs in arms.items()})
        scatter = statistics.seed_scatter(found, arms)
        compared = {
            name: statistics.compare(found, name, "baseline", scatter)
            for name in arms
            if name != "baseline"
        }
        words = np.array(list(statistics.verdicts(compared).values()))
        families += (words == "effect").any()
    assert families <= 12


def test_effects_are_against_the_base_by_song_with_all_seeds(tmp_path):
    for name, gain in {"baseline-0": 0, "baseline-1": 1, "adam-0": 3, "adam-steps-x4-0": 2}.items():
        scores = gain + np.arange(2.0)[:, None, None] + np.zeros((2, 3, 4))
        (tmp_path / f"{name}.json").write_text(json.dumps(card(scores)))
    found = statistics.effects(tmp_path)
    assert [(e.arm, e.base, e.seeds) for e in found.values()] == [
        ("adam", "baseline", (1, 2)),
        ("adam-steps-x4", "adam", (1, 1)),
    ]
    np.testing.assert_allclose(found["adam"].total.mean, 2.5)
    np.testing.assert_allclose(found["adam-steps-x4"].total.mean, -1)


def test_songs_that_only_one_side_has_are_left_out():
    found = results_of(adam=[np.ones((3, 3, 4))], baseline=[np.zeros((2, 3, 4))])
    np.testing.assert_array_equal(
        statistics.compare(found, "adam", "baseline", NO_SCATTER).gain, np.ones((2, 3, 4))
    )


def reported(mean, deviation):
    """Figures of the report: the same mean and deviation for all."""
    return {
        f"report_experiment{n}": {
            part: {m: [value] * 4 for m in METRICS}
            for part, value in (("mean", mean), ("deviation", deviation))
        }
        for n in (1, 2)
    }


def test_a_figure_of_the_report_agrees_if_it_is_near_and_differs_if_significantly_far():
    songs = np.linspace(-4, 4, 50)[:, None, None] + np.zeros((50, 3, 4))  # deviation 2.4
    words = {}
    for gap in (0.0, 0.9, 1.1, 3.0):
        run = songs.copy()
        run[:, 1, 2] += gap
        found = results_of(experiment1=[run], experiment2=[songs])
        made = statistics.reproductions(found, reported(0.0, 2.4))
        assert made["experiment1"].difference[1, 2] == pytest.approx(gap)
        error = np.sqrt(songs[:, 0, 0].var(ddof=1) / 50 + 2.4**2 / 50)
        assert made["experiment1"].z[1, 2] == pytest.approx(gap / error)
        words[gap] = made["experiment1"].words[1][2]
        others = {word for row in made["experiment2"].words for word in row}
        assert others == {"agrees"}
    assert words == {0.0: "agrees", 0.9: "agrees", 1.1: "open", 3.0: "differs"}
    assert set(statistics.reproductions(results_of(experiment2=[songs]), reported(0, 1))) == {
        "experiment2"
    }


def test_a_mixed_model_finds_what_the_closed_form_finds():
    """Where all arms scatter alike, pooling is right, and both tell the same arms."""
    pytest.importorskip("statsmodels")
    rng = np.random.default_rng(4)
    names = ["baseline", "epochs-20", "epochs-40", "alpha-0", "beta-0", "gamma-0", "adam"]
    arms = {name: trainings(rng, 3, gain=1.2 if name == "adam" else 0.0) for name in names}
    found = results_of(**{name.replace("-", "_"): runs for name, runs in arms.items()})
    p = statistics.mixed_model_p(found, "SDR")
    assert set(p) == {*names} - {"baseline"}
    scatter = statistics.seed_scatter(found, names)
    for name, value in p.items():
        ours = statistics.compare(found, name, "baseline", scatter).total.p[0]
        assert (value < 0.01) == (name == "adam") == (ours < 0.01), name
