"""The report's loss: each term, sign and weight, and the divisor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@st.composite
def examples(draw):
    """True and estimated segments of any shape, sources last, and any weights of the terms."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 2)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    truth, estimate = rng.standard_normal((2, *shape, 4))
    names = ("alpha", "beta", "gamma")
    weights = {name: draw(st.sampled_from([0.0, 0.001, 0.03, 0.5])) for name in names}
    return truth, estimate, weights


@given(example=examples(), axis=st.sampled_from([1, 2, 3, -1, -2, -3]))
def test_it_equals_the_formula_for_any_shape_axis_and_weights(example, axis):
    truth, estimate, weights = example
    moved = (np.moveaxis(y, -1, axis) for y in (truth, estimate))
    value = losses.report_loss(*moved, axis=axis, **weights)
    np.testing.assert_allclose(value, transcription(truth, estimate, **weights), atol=1e-10)


@given(example=examples())
def test_without_what_is_subtracted_the_true_sources_are_the_minimum(example):
    truth, estimate, _ = example
    plain = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0}
    estimate[..., OTHER] = truth[..., OTHER]
    assert losses.report_loss(truth, truth, **plain) == 0
    assert losses.report_loss(truth, estimate, **plain) > 0


@given(example=examples(), step=st.floats(0.1, 1.0))
def test_the_gradient_is_zero_where_the_normal_equations_say(example, step):
    """The loss is quadratic: differences to either side are its gradient, without an error."""
    truth, direction, weights = example
    alpha, beta, gamma = weights["alpha"], weights["beta"], weights["gamma"]
    # Of half the gradient by each estimate: what multiplies estimates, and what does not.
    own = np.array([1 - beta, 1 - beta, 0, 1 - gamma])
    matrix = np.diag(own - 4 * alpha) + alpha
    constant = truth * [1, 1, 0, 1] - truth[..., [OTHER]] * [beta, beta, 0, gamma]
    if not alpha:  # then nothing depends on the estimated other
        matrix[OTHER, OTHER] = 1
    estimate = np.linalg.solve(matrix, constant[..., np.newaxis])[..., 0]
    change = step * direction
    ahead, behind = (
        losses.report_loss(truth, estimate + sign * change, **weights) for sign in (1, -1)
    )
    scale = max(1.0, np.abs(estimate).max()) ** 2
    assert abs(ahead - behind) <= 1e-8 * scale * change.size


@given(example=examples(), order=st.permutations([BASS, DRUMS, VOCALS]))
def test_relabelling_sources_of_equal_weight_changes_nothing(example, order):
    truth, estimate, weights = example
    weights["gamma"] = weights["beta"]
    relabelled = [*order[:2], OTHER, order[2]]
    once = losses.report_loss(truth, estimate, **weights)
    again = losses.report_loss(truth[..., relabelled], estimate[..., relabelled], **weights)
    np.testing.assert_allclose(again, once, atol=1e-10)


def test_infinities_of_terms_that_weigh_nothing_do_not_matter(segments):
    truth, estimate = segments
    truth[..., OTHER] = np.inf
    value = losses.report_loss(truth, estimate, beta=0.0, gamma=0.0)
    assert np.isfinite(value)


def test_tensorflow_computes_the_same(segments):
    tf = pytest.importorskip("tensorflow")
    truth, estimate = segments
    theirs = float(losses.report_loss(tf.constant(truth), tf.constant(estimate)))
    np.testing.assert_allclose(theirs, losses.report_loss(truth, estimate), rtol=1e-5)


def test_a_graph_divides_by_the_batch_size_that_it_learns_when_it_runs(segments):
    tf = pytest.importorskip("tensorflow")
    anything = tf.TensorSpec((None, *segments.shape[2:]), tf.float32)
    compiled = tf.function(losses.report_loss, input_signature=[anything] * 2, autograph=False)
    for n in (1, 3):
        truth, estimate = segments[:, :n]
        theirs = float(compiled(tf.constant(truth), tf.constant(estimate)))
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
