"""SDR, SIR, SAR against museval at one tap and against cases with known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepkit import metrics
from sepkit.errors import ParameterError

N = 4096


@pytest.fixture
def sources():
    """Four orthogonal sources of unit power."""
    rng = np.random.default_rng(0)
    return np.linalg.qr(rng.standard_normal((N, 4)))[0].T


@st.composite
def mixtures(draw):
    """True sources that are not orthogonal, and estimates that hold some of each and noise."""
    n_sources, n_samples = draw(st.integers(2, 5)), draw(st.integers(20, 400))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    references = rng.standard_normal((n_sources, n_samples))
    references += 0.5 * np.roll(references, 1, axis=0)
    leaks = np.eye(n_sources) + 0.3 * rng.standard_normal((n_sources, n_sources))
    return references, leaks @ references + 0.3 * rng.standard_normal(references.shape)


# A stem may hold nothing but the last bit of a few samples.
GAINS = st.lists(st.sampled_from([-7.5, 1e-9, -1e-3, 0.5, 100.0]), min_size=10, max_size=10)


@given(sounds=mixtures(), gains=GAINS)
def test_the_level_and_sign_of_no_source_or_estimate_matter(sounds, gains):
    references, estimates = sounds
    once = metrics.report_scores(references, estimates)
    own, theirs = np.array(gains).reshape(2, 5, 1)[:, : len(references)]
    again = metrics.report_scores(own * references, theirs * estimates)
    np.testing.assert_allclose(again, once, atol=1e-6)


@given(sounds=mixtures(), seed=st.integers(0, 99))
def test_scores_follow_their_sources_in_any_order(sounds, seed):
    references, estimates = sounds
    order = np.random.default_rng(seed).permutation(len(references))
    once = metrics.report_scores(references, estimates)
    again = metrics.report_scores(references[order], estimates[order])
    np.testing.assert_allclose(again, once[:, order], atol=1e-9)


@pytest.mark.parametrize("n_samples", [64, 40_000])
@given(seed=st.integers(0, 99), n_sources=st.integers(2, 4))
def test_target_interference_and_artifacts_of_known_energies(n_samples, seed, n_sources):
    """Of orthogonal parts, over several blocks of samples too."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((n_samples, 2 * n_sources)))[0].T
    sources, noise = basis[:n_sources], basis[n_sources:]
    target = rng.uniform(0.5, 2, n_sources)
    leaks = rng.uniform(-1, 1, (n_sources, n_sources)) * (1 - np.eye(n_sources))
    artifacts = rng.uniform(0.1, 1, n_sources)
    estimates = np.diag(target) @ sources + leaks @ sources + np.diag(artifacts) @ noise
    interference = (leaks**2).sum(axis=1)
    wanted = [
        target**2 / (interference + artifacts**2),
        target**2 / interference,
        (target**2 + interference) / artifacts**2,
    ]
    scores = metrics.report_scores(sources, estimates)
    np.testing.assert_allclose(scores, 10 * np.log10(wanted), atol=1e-6)


def test_a_scaled_source_is_perfect(sources):
    scores = metrics.report_scores(sources, 0.25 * sources)
    assert (scores > 250).all()


def test_a_pure_interferer_costs_sir_and_sdr_alike(sources):
    estimates = sources + 0.1 * np.roll(sources, 1, axis=0)
    sdr, sir, sar = metrics.report_scores(sources, estimates)
    np.testing.assert_allclose(sdr, 20, atol=1e-9)
    np.testing.assert_allclose(sir, 20, atol=1e-9)
    assert (sar > 250).all()


def test_pure_noise_costs_sar_and_sdr_and_no_sir(sources):
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((4, N))
    noise -= noise @ sources.T @ sources
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    sdr, sir, sar = metrics.report_scores(sources, sources + 10 ** (-6 / 20) * noise)
    np.testing.assert_allclose(sdr, 6, atol=1e-9)
    np.testing.assert_allclose(sar, 6, atol=1e-9)
    assert (sir > 250).all()


def test_correlated_sources_are_projected_on_their_span_not_one_by_one():
    """The other sources are not orthogonal in music: the inverse of their products counts."""
    first = np.zeros(N)
    first[0] = 1
    second = np.zeros(N)
    second[:2] = [0.8, 0.6]
    references = np.stack([first, second, np.eye(N)[2], np.eye(N)[3]])
    estimates = references.copy()
    estimates[0] = second  # wholly within the span: no artifacts
    sdr, sir, sar = metrics.report_scores(references, estimates)
    assert sar[0] > 250
    # target 0.8 along the first source, interference 0.6 across it
    np.testing.assert_allclose([sdr[0], sir[0]], 20 * np.log10(0.8 / 0.6), atol=1e-6)


def test_it_equals_museval_with_one_tap():
    museval = pytest.importorskip("museval")
    rng = np.random.default_rng(3)
    references = rng.standard_normal((4, N))
    references[1] += 0.5 * references[0]
    estimates = references @ np.eye(N) + 0.4 * rng.standard_normal((4, N))
    estimates += 0.3 * references[::-1]
    sdr, _, sir, sar, _ = museval.metrics.bss_eval(
        references[:, :, np.newaxis],
        estimates[:, :, np.newaxis],
        window=np.inf,
        filters_len=1,
        bsseval_sources_version=True,
    )
    ours = metrics.report_scores(references, estimates)
    np.testing.assert_allclose(ours, np.stack([sdr, sir, sar])[:, :, 0], atol=1e-6)


def test_the_references_are_cut_to_the_estimates():
    rng = np.random.default_rng(4)
    references = rng.standard_normal((4, N))
    estimates = references + 0.1 * rng.standard_normal((4, N))
    whole = metrics.report_scores(references[:, :1000], estimates[:, :1000])
    np.testing.assert_array_equal(metrics.report_scores(references, estimates[:, :1000]), whole)
    with pytest.raises(ParameterError, match="shorter"):
        metrics.report_scores(references[:, :1000], estimates)


def test_a_silent_source_gives_nan_and_leaves_the_others_alone(sources):
    references = sources.copy()
    references[2] = 0
    estimates = sources + 0.1 * np.roll(sources, 1, axis=0)
    scores = metrics.report_scores(references, estimates)
    assert np.isnan(scores[:2, 2]).all()
    assert np.isfinite(scores[:, [0, 1, 3]][:2]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_audio_of_lower_precision_is_scored_in_double(sources, dtype):
    references = (1000 * np.sqrt(N) * sources).astype(dtype)
    estimates = (references + 0.1 * np.roll(references, 1, axis=0)).astype(dtype)
    exact = metrics.report_scores(references.astype(float), estimates.astype(float))
    np.testing.assert_allclose(metrics.report_scores(references, estimates), exact, rtol=1e-12)


def test_shapes_that_do_not_fit_are_refused(sources):
    with pytest.raises(ParameterError, match="scores of shapes"):
        metrics.report_scores(sources[:3], sources)
    with pytest.raises(ParameterError, match="scores of shapes"):
        metrics.report_scores(sources[0], sources[0])
    for shapes in [(sources, sources[..., np.newaxis]), (sources[..., np.newaxis], sources)]:
        with pytest.raises(ParameterError, match="scores of shapes"):
            metrics.report_scores(*shapes)


def test_bss_eval_scores_are_musevals_medians_over_windows():
    museval = pytest.importorskip("museval")
    rng = np.random.default_rng(5)
    rate = 4000
    references = rng.standard_normal((4, 3 * rate, 1))
    estimates = references + 0.5 * rng.standard_normal(references.shape)
    ours = metrics.bss_eval_scores(references, estimates, rate)
    sdr, _, sir, sar = museval.evaluate(references, estimates, win=rate, hop=rate)
    np.testing.assert_allclose(ours, np.median([sdr, sir, sar], axis=-1), atol=1e-6)
    longer = np.pad(references, [(0, 0), (0, 99), (0, 0)])
    np.testing.assert_allclose(metrics.bss_eval_scores(longer, estimates, rate), ours)
    references[1] = 0
    scores = metrics.bss_eval_scores(references, estimates, rate)
    assert np.isnan(scores).all(axis=0).tolist() == [False, True, False, False]
    np.testing.assert_array_equal(np.isnan(scores).any(axis=0), np.isnan(scores).all(axis=0))


def test_the_median_leaves_out_windows_without_a_score_and_is_nan_where_none_has_one():
    windows = np.full((3, 2, 5), np.nan)
    windows[:, 0] = [[1, 2, 9, np.nan, np.nan], [4, np.nan, 2, np.nan, np.nan], [7] * 5]
    windows[2, 1, 3] = -1
    wanted = [[2, np.nan], [3, np.nan], [7, -1]]
    np.testing.assert_array_equal(metrics.medians_of_windows(windows), wanted)
