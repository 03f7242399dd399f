"""Results of arms and analyses: read, compared, committed."""

import json

import numpy as np
import pytest
import scipy.stats

from sepkit import metrics
from sepkit.errors import ParameterError, SepkitError
from sepkit.study import analyses, evaluation, results


def card(gain):
    """A result of two songs whose scores are `gain` above 0, and 1 dB more on the second."""
    songs = [
        {"name": str(i), "report": [{m: [gain + i] * 4 for m in metrics.METRICS}]} for i in range(2)
    ]
    mean = {m: [gain + 0.5] * 4 for m in metrics.METRICS}
    scores = {"report": {"mean": mean}, "songs": songs}
    return {"scores": {mode: scores for mode in evaluation.MODES}}


def test_effects_are_against_the_base_with_the_standard_error_over_songs(tmp_path):
    (tmp_path / "baseline-0.json").write_text(json.dumps(card(0)))
    (tmp_path / "adam-0.json").write_text(json.dumps(card(2)))
    (tmp_path / "adam-steps-x4-0.json").write_text(json.dumps(card(1)))
    found = results.effects(tmp_path)
    bases = {name: effect.base for name, effect in found.items()}
    assert bases == {"adam": "baseline", "adam-steps-x4": "adam"}
    np.testing.assert_allclose(found["adam-steps-x4"].mean, [-1, -1, -1])
    gain = np.array([1.0, 4.0])[:, np.newaxis, np.newaxis] + np.zeros((2, 3, 4))
    effect = results.Effect("adam", "baseline", 0, gain)
    np.testing.assert_allclose(effect.error, [1.5] * 3)


def test_differences_are_taken_song_by_song():
    other = card(5)
    other["scores"]["song"]["songs"].reverse()
    gain = results.differences(card(2), other, "song")
    np.testing.assert_array_equal(gain, np.full((2, 3, 4), -3.0))
    other["scores"]["song"]["songs"].pop()
    with pytest.raises(ParameterError, match="different songs"):
        results.differences(card(2), other, "song")


def test_an_interval_is_student_s():
    gains = np.random.default_rng(0).standard_normal((50, 4)) + 1
    mean, half = results.interval(gains)
    wanted = scipy.stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    np.testing.assert_allclose([mean - half, mean + half], [wanted.low, wanted.high])


@pytest.mark.parametrize("name", analyses.ANALYSES)
def test_every_analysis_has_a_committed_result(name):
    assert results.read_analysis(name)


def test_the_committed_benchmarks_have_what_the_book_shows():
    found = results.read_benchmarks()
    groups = {row["group"] for row in found["rows"]}
    assert {"song", "network", "training", "evaluation", "start", "growth"} <= groups
    fields = {"name", "ours", "unit", "ratio", "goal", "met", "theirs", "against", "limit",
              "fraction"}  # fmt: skip
    assert all(fields <= row.keys() for row in found["rows"])
    assert [point["seconds"] for point in found["growth"]] == [10, 60, 600, 3600]


def test_missing_benchmarks_are_reported_with_the_command_that_makes_them(tmp_path):
    with pytest.raises(SepkitError, match="make bench"):
        results.read_benchmarks(tmp_path / "none.json")
