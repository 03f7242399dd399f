"""Results of arms, analyses and benchmarks: read, committed."""

import pytest

from sepkit import weights
from sepkit.errors import SepkitError
from sepkit.study import analyses, cards, results


def test_the_cards_of_the_weights_are_the_experiments_first_seed(tmp_path):
    found = results.read_results()
    for name in weights.list_models():
        assert found[name, 0] == weights.read_card(name)
    assert results.read_results(tmp_path) == {}


@pytest.mark.parametrize("name", analyses.ANALYSES)
def test_every_analysis_has_a_committed_result(name):
    assert results.read_analysis(name)


def test_the_committed_benchmarks_have_what_the_book_shows():
    found = results.read_benchmarks()
    groups = {row["group"] for row in found["rows"]}
    assert {"song", "network", "training", "evaluation", "start", "growth", "peers"} <= groups
    peers = {row["published"] for row in found["rows"] if row["group"] == "peers"}
    assert peers <= cards.published_scores().keys()
    assert found["imports"]["numpy"] > 0
    fields = {"name", "ours", "unit", "ratio", "goal", "met", "theirs", "against", "limit",
              "fraction"}  # fmt: skip
    assert all(fields <= row.keys() for row in found["rows"])
    assert [point["seconds"] for point in found["growth"]] == [10, 60, 600, 3600]


def test_missing_benchmarks_are_reported_with_the_command_that_makes_them(tmp_path):
    with pytest.raises(SepkitError, match="make bench"):
        results.read_benchmarks(tmp_path / "none.json")
