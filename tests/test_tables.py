"""Tables in Markdown."""

import json

import numpy as np
import pytest

pytest.importorskip("tabulate")
from test_results import card  # noqa: E402

from sepkit.study import results, tables  # noqa: E402


def cells(table):
    """The body of a table, row by row."""
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_arms_are_set_against_their_base_with_the_same_seed(tmp_path):
    for name, gain in {"baseline-0": 0, "adam-0": 2, "adam-99": 3, "alpha-0-0": 1}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(card(gain)))
    rows = cells(tables.arms_table(tmp_path))
    assert [(row[1], row[3]) for row in rows] == [
        ("baseline", "0"), ("alpha-0", "0"), ("adam", "0"), ("adam", "99")
    ]  # fmt: skip
    assert rows[2][4:9] == ["2.50", "2.50", "2.50", "baseline", "+2.00 ± 0.00"]
    assert not any(rows[3][7:])


def test_an_arm_alone_in_its_folder_is_set_against_the_base_that_comes_along(tmp_path):
    new = results.read_results()["adam", 0]
    (tmp_path / "adam-0.json").write_text(json.dumps(new))
    (row,) = cells(tables.arms_table(tmp_path))
    known = [row for row in cells(tables.arms_table()) if row[1] == "adam" and row[3] == "0"]
    assert [row] == known and row[7] == "baseline" and "±" in row[8]


def test_an_effects_row_names_change_base_and_arm():
    gain = np.array([1.0, 4.0])[:, np.newaxis, np.newaxis] + np.zeros((2, 3, 4))
    (row,) = cells(tables.effects_table([results.Effect("adam", "baseline", 0, -gain)]))
    assert row[1:3] == ["baseline", "−2.50 ± 1.50"] and row[-1] == "`adam`"


def test_scores_are_shown_by_metric_and_label():
    scores = {part: {"SDR": [-1.26, 2, 3, 4], "SIR": [5] * 4, "SAR": [6] * 4}
              for part in ("mean", "deviation")}  # fmt: skip
    rows = cells(tables.scores_table({"a": scores, "b": scores}))
    assert [row[:2] for row in rows[:3]] == [["SDR", "a"], ["", "b"], ["SIR", "a"]]
    assert rows[0][2] == "−1.3 ± −1.3"


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
