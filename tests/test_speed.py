"""The benchmarks as the book reads them."""

import pytest

from sepkit import speed
from sepkit.errors import SepkitError

ROW = {
    "group": "song", "name": "a song", "ours": 1.5, "unit": "s", "ratio": 20.04, "goal": 20.0,
    "met": True, "theirs": 1234.4, "against": "a peer", "limit": "the peak", "fraction": 0.504,
}  # fmt: skip


def test_a_row_says_what_was_measured_and_how_far_its_goal_is():
    alone = ROW | {"theirs": None, "against": "", "unit": "", "met": False, "goal": 1.0}
    alone["fraction"] = None
    free = ROW | {"goal": None, "met": None}
    _, _, *lines = speed.table([ROW, alone, free]).splitlines()
    assert lines == [
        "| a song, against a peer | 1.5 s | 1,234 s | 20 | 20 | 50 % |",
        "| a song | 1.5 | – | 20 | 1, **missed** | – |",
        "| a song, against a peer | 1.5 s | 1,234 s | 20 | – | 50 % |",
    ]


def test_the_committed_results_have_what_the_book_shows():
    results = speed.read_results()
    groups = {row["group"] for row in results["rows"]}
    assert {"song", "network", "training", "evaluation", "start", "growth"} <= groups
    assert all(ROW.keys() <= row.keys() for row in results["rows"])
    assert [point["seconds"] for point in results["growth"]] == [10, 60, 600, 3600]
    assert len(speed.table(results["rows"]).splitlines()) == 2 + len(results["rows"])


def test_missing_results_are_said_in_one_line(tmp_path):
    with pytest.raises(SepkitError, match="`make bench` measures them"):
        speed.read_results(tmp_path / "none.json")
