"""The benchmarks' own arithmetic: limits, what counts as slower, rows measured again."""

import numpy as np
import pytest

pytest.importorskip("joblib")
pytest.importorskip("museval")
pytest.importorskip("keras")

from benchmarks import __main__ as benchmarks  # noqa: E402
from benchmarks import elsewhere, measure  # noqa: E402


def row(ratio=0.5, *, against=benchmarks.PRODUCTS, group="song", limit="", fraction=None):
    found = measure.Row(
        group, "a song", 1.0, "s", ratio, None, against=against, limit=limit, fraction=fraction
    )
    return found.as_dict()


def test_a_smaller_part_of_a_limit_is_slower_and_less_gain_on_others_is_not():
    assert benchmarks.regressions([row(0.41)], [row(0.5)], 0.8) == []
    (line,) = benchmarks.regressions([row(0.39)], [row(0.5)], 0.8)
    assert "a song" in line and "0.39" in line and "0.5" in line
    other = {"against": "the report's Conv2D"}
    assert benchmarks.regressions([row(2.0, **other)], [row(30.0, **other)], 0.8) == []
    cores = {"against": "one core", "limit": "2 times"}
    fell = [row(fraction=0.6, **cores)], [row(fraction=0.9, **cores)]
    assert len(benchmarks.regressions(*fell, 0.8)) == 1
    memory = {"against": "museval", "limit": benchmarks.BANDWIDTH}
    less = [row(fraction=0.1, **memory)], [row(fraction=0.9, **memory)]
    assert benchmarks.regressions(*less, 0.8) == []


def test_rows_of_another_machine_are_not_replaced():
    machine = {"cpu": "a", "system": "b", "cores": 2, "blas": ["c"], "threads": 2}
    about = {"date": "2026-01-01", "commit": "1", "machine": machine}
    before = {**about, "rows": [row(0.1), row(0.2, group="start")]}
    some = {**about, "date": "2026-01-02", "rows": [row(0.3, group="start")], "imports": {}}
    found = benchmarks.replaced(some, before)
    assert [r["ratio"] for r in found["rows"]] == [0.3, 0.1]
    assert found["date"] == "2026-01-01"
    assert found["measured_again"] == {"start": {"date": "2026-01-02", "commit": "1"}}
    assert benchmarks.replaced({**some, "machine": {**machine, "cores": 4}}, before) == {}


def test_limits_are_compared_turn_by_turn_and_others_by_medians():
    times = [2.0, 3.0, 10.0], [1.0, 1.8, 9.0]
    near = measure.near_limit("song", "a song", *times, benchmarks.PRODUCTS, 0.7)
    assert (near.ratio, near.upper, near.met) == (0.6, pytest.approx(0.75), False)
    assert measure.against("song", "a song", *times, "another", None).ratio == pytest.approx(0.6)
    with pytest.raises(ValueError, match="zip"):
        measure.near_limit("song", "a song", times[0], times[1][:2], benchmarks.PRODUCTS, None)


def test_a_fraction_has_fallen_if_even_its_upper_quartile_has():
    noisy, slower = ({**row(0.3), "upper": upper} for upper in (0.45, 0.35))
    assert benchmarks.regressions([noisy], [row(0.5)], 0.8) == []
    assert len(benchmarks.regressions([slower], [row(0.5)], 0.8)) == 1


def test_the_products_of_a_run_are_recorded_with_those_of_its_gradients():
    a, b, c = np.ones((3, 2, 5)), np.ones((3, 5, 4)), np.ones((4, 7))
    shapes = benchmarks.products_of(lambda: np.matmul(np.matmul(a, b), c))
    assert shapes == [((3, 2, 5), (3, 5, 4)), ((3, 2, 4), (4, 7))]
    assert measure.operations(shapes) == 2 * (3 * 2 * 5 * 4 + 3 * 2 * 4 * 7)
    needed = measure.with_gradients(shapes)
    # The first factor of all is the input, which needs no gradient.
    assert needed[:2] == [shapes[0], ((3, 5, 2), (3, 2, 4))]
    assert needed[2:] == [shapes[1], ((3, 4, 2), (3, 2, 7)), ((3, 2, 7), (3, 7, 4))]


def test_all_ways_are_told_the_fastest_first():
    times = {"oneDNN": 0.115, "XLA": 5.72, "Eigen": 0.0127}
    assert elsewhere.told(times) == "Eigen 12.7 ms, oneDNN 115 ms, XLA 5.72 s"
