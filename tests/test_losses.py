"""The report's loss: each term, sign and weight, and the divisor."""

import numpy as np
import pytest

from sepkit import losses
from sepkit.errors import ParameterError

BASS, DRUMS, OTHER, VOCALS = range(4)


def squared(a, b):
    return float(((a.astype(np.float64) - b) ** 2).sum())


def transcription(y, e, alpha=0.001, beta=0.01, gamma=0.03):
    """The report's loss, written out, from arrays with the sources last."""
    y = [y[..., i] for i in range(4)]
    e = [e[..., i] for i in range(4)]
    total = squared(y[DRUMS], e[DRUMS]) + squared(y[BASS], e[BASS]) + squared(y[VOCALS], e[VOCALS])
    total -= alpha * squared(e[VOCALS], e[DRUMS])
    total -= alpha * squared(e[VOCALS], e[BASS])
    total -= alpha * squared(e[BASS], e[DRUMS])
    total -= alpha * squared(e[VOCALS], e[OTHER])
    total -= alpha * squared(e[OTHER], e[DRUMS])
    total -= alpha * squared(e[BASS], e[OTHER])
    total -= beta * squared(e[BASS], y[OTHER])
    total -= beta * squared(e[DRUMS], y[OTHER])
    total -= gamma * squared(e[VOCALS], y[OTHER])
    return total / y[0].shape[0]


@pytest.fixture
def segments():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 3, 7168, 2, 4)).astype(np.float32)


def test_it_equals_the_formula_written_out(segments):
    truth, estimate = segments
    np.testing.assert_allclose(
        losses.report_loss(truth, estimate), transcription(truth, estimate), rtol=1e-5
    )
    weights = {"alpha": 0.2, "beta": 0.3, "gamma": 0.5}
    np.testing.assert_allclose(
        losses.report_loss(truth, estimate, **weights),
        transcription(truth, estimate, **weights),
        rtol=1e-4,
    )


# Sources as orthogonal units, so that each of the twelve squares is known: what is set, by
# (array, source, axis), and the loss that follows for a batch of one.
CASES = {
    "reconstruction of bass": ([("y", BASS, 0)], 1.0),
    "reconstruction of drums": ([("y", DRUMS, 0)], 1.0),
    "reconstruction of vocals": ([("y", VOCALS, 0)], 1.0),
    "no reconstruction of other": ([("y", OTHER, 0)], -2 * 0.01 - 0.03),
    "estimated other is never set against the true one": ([("e", OTHER, 0)], -3 * 0.001),
    "estimated bass alone": ([("e", BASS, 0)], 1 - 3 * 0.001 - 0.01),
    "estimated drums alone": ([("e", DRUMS, 0)], 1 - 3 * 0.001 - 0.01),
    "estimated vocals alone": ([("e", VOCALS, 0)], 1 - 3 * 0.001 - 0.03),
    "bass and drums alike": ([("e", BASS, 0), ("e", DRUMS, 0)], 2 - 4 * 0.001 - 0.02),
    "bass and vocals alike": ([("e", BASS, 0), ("e", VOCALS, 0)], 2 - 4 * 0.001 - 0.04),
    "drums and vocals alike": ([("e", DRUMS, 0), ("e", VOCALS, 0)], 2 - 4 * 0.001 - 0.04),
    "bass and other alike": ([("e", BASS, 0), ("e", OTHER, 0)], 1 - 4 * 0.001 - 0.01),
    "drums and other alike": ([("e", DRUMS, 0), ("e", OTHER, 0)], 1 - 4 * 0.001 - 0.01),
    "vocals and other alike": ([("e", VOCALS, 0), ("e", OTHER, 0)], 1 - 4 * 0.001 - 0.03),
    "bass is the true other": ([("e", BASS, 0), ("y", OTHER, 0)], 1 - 0.003 - 0.01 - 0.03),
    "drums is the true other": ([("e", DRUMS, 0), ("y", OTHER, 0)], 1 - 0.003 - 0.01 - 0.03),
    "vocals is the true other": ([("e", VOCALS, 0), ("y", OTHER, 0)], 1 - 0.003 - 0.02),
    "opposite signs count four times": ([("e", BASS, 0), ("y", BASS, -1)], 4 - 0.003 - 0.01),
}


@pytest.mark.parametrize("case", CASES)
def test_each_term_has_its_sign_and_weight(case):
    places, wanted = CASES[case]
    arrays = {"y": np.zeros((1, 8, 1, 4)), "e": np.zeros((1, 8, 1, 4))}
    for array, source, sign in places:
        arrays[array][0, 0, 0, source] = -1 if sign == -1 else 1
    assert losses.report_loss(arrays["y"], arrays["e"]) == pytest.approx(wanted, abs=1e-12)


def test_there_are_twelve_named_terms_and_any_change_of_one_changes_the_loss(segments):
    truth, estimate = segments
    terms = losses.report_loss_terms(truth, estimate)
    assert len(terms) == 12
    values = [float(value) for value in terms.values()]
    assert len(set(values)) == 12 and min(values) > 0


def test_it_divides_by_the_batch_and_by_nothing_else(segments):
    truth, estimate = segments
    once = losses.report_loss(truth, estimate)
    twice = losses.report_loss(np.tile(truth, (2, 1, 1, 1)), np.tile(estimate, (2, 1, 1, 1)))
    longer = losses.report_loss(np.tile(truth, (1, 2, 1, 1)), np.tile(estimate, (1, 2, 1, 1)))
    np.testing.assert_allclose(twice, once, rtol=1e-5)
    np.testing.assert_allclose(longer, 2 * once, rtol=1e-5)


def test_tensorflow_computes_the_same(segments):
    tf = pytest.importorskip("tensorflow")
    truth, estimate = segments
    theirs = float(losses.report_loss(tf.constant(truth), tf.constant(estimate)))
    np.testing.assert_allclose(theirs, losses.report_loss(truth, estimate), rtol=1e-5)


def test_shapes_that_do_not_fit_are_refused(segments):
    truth, estimate = segments
    with pytest.raises(ParameterError, match="loss of shapes"):
        losses.report_loss(truth[..., :3], estimate[..., :3])
    with pytest.raises(ParameterError, match="loss of shapes"):
        losses.report_loss(truth[:, :100], estimate)


def test_the_axis_of_the_sources_does_not_change_the_loss(segments):
    truth, estimate = segments
    first = [np.moveaxis(y, -1, 1) for y in segments]
    np.testing.assert_allclose(
        losses.report_loss(*first, axis=1), losses.report_loss(truth, estimate), rtol=1e-6
    )
    with pytest.raises(ParameterError, match="axis 2"):
        losses.report_loss(*first, axis=2)
