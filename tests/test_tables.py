"""Tables in Markdown."""

import json

import numpy as np
import pytest

pytest.importorskip("tabulate")
from test_statistics import NO_SCATTER, card  # noqa: E402

from sepkit.study import results, statistics, tables  # noqa: E402


def cells(table):
    """The body of a table, row by row."""
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_arms_are_set_against_their_base_with_all_their_seeds(tmp_path):
    for name, gain in {"baseline-0": 0, "adam-0": 2, "adam-99": 4, "alpha-0-0": 1}.items():
        scores = gain + np.array([0.0, 1.0])[:, None, None] + np.zeros((2, 3, 4))
        (tmp_path / f"{name}.json").write_text(json.dumps(card(scores)))
    rows = cells(tables.arms_table(tmp_path))
    assert [(row[1], row[3]) for row in rows] == [
        ("baseline", "1"), ("alpha-0", "1"), ("adam", "2")
    ]  # fmt: skip
    assert rows[2][4:8] == ["3.50", "3.50", "3.50", "baseline"]
    assert rows[2][8].startswith("+3.00 [")
    assert not any(rows[0][7:])


def test_an_arm_alone_in_its_folder_is_set_against_the_base_that_comes_along(tmp_path):
    new = results.read_results()["epochs-20", 0]
    (tmp_path / "epochs-20-0.json").write_text(json.dumps(new))
    (row,) = cells(tables.arms_table(tmp_path))
    (known,) = (row for row in cells(tables.arms_table()) if row[1] == "epochs-20")
    assert row[:8] == known[:8] and row[7] == "baseline"
    # The same gains; verdicts differ, for a family of one is corrected for itself alone.
    assert [cell.split("]")[0] for cell in row[8:]] == [cell.split("]")[0] for cell in known[8:]]


def effect(*gains):
    gain = np.array(gains)[:, np.newaxis, np.newaxis] + np.zeros((len(gains), 3, 4))
    return statistics.Effect("adam", "baseline", (3, 5), gain, NO_SCATTER)


def test_an_effects_row_has_gain_interval_verdict_and_seeds():
    judged = {"adam": ("likely", "open", "none")}
    (row,) = cells(tables.effects_table([effect(-1.0, -2.0, -3.0)], judged))
    assert row[1:6] == [
        "baseline", "−2.00 [−4.48,\xa0+0.48] likely", "−2.00 [−4.48,\xa0+0.48]",
        "−2.00 [−4.48,\xa0+0.48] none", "3 and 5",
    ]  # fmt: skip
    assert row[-1] == "`adam`"


def test_gains_by_source_have_their_own_intervals():
    gains = effect(-1.0, -2.0, -3.0)
    gains.gain[:, 0, 1] = [0.5, 0.6, 0.7]
    first, *_ = cells(tables.by_source_table(gains))
    assert first[:3] == [
        "SDR",
        "−2.00 [−4.48,\xa0+0.48]",
        "+0.60 [+0.35,\xa0+0.85]",
    ]
    assert first[-1].startswith("−1.35 [")


def test_scores_are_shown_by_metric_and_label():
    scores = {part: {"SDR": [-1.26, 2, 3, 4], "SIR": [5] * 4, "SAR": [6] * 4}
              for part in ("mean", "deviation")}  # fmt: skip
    rows = cells(tables.scores_table({"a": scores, "b": scores}))
    assert [row[:2] for row in rows[:3]] == [["SDR", "a"], ["", "b"], ["SIR", "a"]]
    assert rows[0][2] == "−1.3 ± −1.3"
    scores["mean"] |= {"SDR": [None, 0.0, 139.9, 0.0]}
    first, *_ = cells(tables.scores_table({"a": scores}))
    assert first[2] == "–" and first[4] == "∞"


ROW = {
    "group": "song", "name": "a song", "ours": 1.5, "unit": "s", "ratio": 20.04, "goal": 20.0,
    "met": True, "theirs": 1234.4, "against": "a peer", "limit": "the peak", "fraction": 0.504,
}  # fmt: skip


def test_a_benchmark_shows_what_was_measured_and_its_goal():
    alone = ROW | {"theirs": None, "against": "", "unit": "", "met": False, "goal": 1.0}
    alone["fraction"] = None
    free = ROW | {"goal": None, "met": None}
    assert cells(tables.benchmarks_table([ROW, alone, free])) == [
        ["a song, against a peer", "1.5 s", "1,234 s", "20", "20", "50 %"],
        ["a song", "1.5", "–", "20", "1, **missed**", "–"],
        ["a song, against a peer", "1.5 s", "1,234 s", "20", "–", "50 %"],
    ]
