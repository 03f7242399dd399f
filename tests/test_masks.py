"""Masks of a song: the mean over the contexts that overlap."""

import numpy as np
import pytest
from helpers import random_network
from hypothesis import given
from hypothesis import strategies as st

from sepkit import masks, network, stft
from sepkit.weights import Sizes

# Small, so that a song takes milliseconds; no two sizes alike, so that none stands for another.
SIZES = {
    context: Sizes(n_timbres=6, n_patterns=4, pattern=pattern, n_shared=8, context=context)
    for context, pattern in [(25, 12), (9, 3), (7, 7)]
}
NETWORKS = {
    (context, channels): random_network(sizes, channels)
    for context, sizes in SIZES.items()
    for channels in (1, 2)
}


def magnitudes(n_frames, channels=1):
    rng = np.random.default_rng(n_frames)
    return rng.random((n_frames, 513, channels), dtype=np.float32)


def loop(values, frames, hop, frame_weights):
    """The mean, context by context, as its definition says."""
    contexts = stft.split_contexts(frames, hop, length=len(frame_weights))
    n_padded = (len(contexts) - 1) * hop + len(frame_weights)
    total, count = np.zeros((4, n_padded, *frames.shape[1:])), np.zeros((n_padded, 1, 1))
    for i, context in enumerate(contexts):
        part = slice(i * hop, i * hop + len(frame_weights))
        weights = frame_weights[:, np.newaxis, np.newaxis]
        total[:, part] += weights * network.masks(values, context[np.newaxis])[:, 0]
        count[part] += weights
    return (total / count)[:, : len(frames)]


@st.composite
def songs(draw):
    """Context, channels, hop and number of frames."""
    context, channels = draw(st.sampled_from(list(NETWORKS)))
    return context, channels, draw(st.integers(1, context)), draw(st.integers(1, 4 * context))


@given(song=songs(), weighted=st.booleans())
def test_the_mean_is_that_of_a_loop_over_all_contexts(song, weighted):
    context, channels, hop, n_frames = song
    values, frames = NETWORKS[context, channels], magnitudes(n_frames, channels)
    weights = np.arange(1, context + 1, dtype=np.float32) if weighted else None
    mean = masks.mean_masks(network.prepare(values), frames, hop, frame_weights=weights)
    wanted = loop(values, frames, hop, np.ones(context) if weights is None else weights)
    assert mean.shape == wanted.shape and mean.dtype == np.float32
    np.testing.assert_allclose(mean, wanted, atol=2e-5)


@given(song=songs(), level=st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 1e6]))
def test_masks_are_non_negative_and_sum_to_one_in_every_bin(song, level):
    context, channels, hop, n_frames = song
    frames = np.float32(level) * magnitudes(n_frames, channels)
    mean = masks.mean_masks(network.prepare(NETWORKS[context, channels]), frames, hop)
    assert mean.min() >= 0
    np.testing.assert_allclose(mean.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("n_frames", [1, 25, 26, 110])
def test_contexts_end_to_end_are_masked_each_by_itself(n_frames):
    values, frames = NETWORKS[25, 1], magnitudes(n_frames)
    mean = masks.mean_masks(network.prepare(values), frames, 25)
    alone = network.masks(values, stft.split_contexts(frames, 25)).reshape(4, -1, 513, 1)
    np.testing.assert_allclose(mean, alone[:, :n_frames], atol=1e-5)


@pytest.mark.parametrize("hop", [1, 7, 25])
def test_a_long_song_is_masked_as_its_parts_are(hop):
    """It is decoded in several steps; far from the ends of a part, none of them shows."""
    prepared, frames = network.prepare(NETWORKS[25, 1]), magnitudes(50 * 7)
    whole = masks.mean_masks(prepared, frames, hop)
    part = masks.mean_masks(prepared, frames[175:], hop)
    np.testing.assert_allclose(whole[:, 200:], part[:, 25:], atol=1e-5)
