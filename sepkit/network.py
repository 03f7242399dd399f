"""The network's forward pass: magnitudes in, masks out.

It is written once, for NumPy arrays and for the tensors of Keras. The report uses two-dimensional
convolutions; here the (1 x 513) one is a matrix product per frame, the (12 x 1) one a matrix
product per context, and so are their transposes. The report's convolutional form is in
`sepkit.study`.

`prepare` arranges the weights for these products. `vertical_convolution`, `encode`, `decode` and
`normalize` are the steps, and `masks` runs them all. `encode_song` does the work that overlapping
contexts of a song share only once; `decoder_dense`, `horizontal_deconvolution` and
`vertical_deconvolution` are the layers of `decode`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from sepkit.stft import CONTEXT, N_BINS
from sepkit.weights import DECODER, ENCODER, Weights, infer_sizes

SMALLEST_SUM = 1e-18
"""Smallest sum whose square, by which XLA divides in the gradient, is a normal float32."""

Prepared = dict[str, tuple[Any, Any]]
"""Matrix and bias of each layer, as `prepare` returns them."""


def array_namespace(array: Any) -> Any:
    """Return the module that computes with an array.

    Parameters
    ----------
    array : ndarray or tensor
        Any array.

    Returns
    -------
    module
        `numpy` for NumPy arrays, `keras.ops` for tensors.
    """
    if isinstance(array, np.ndarray | np.generic):
        return np
    import keras

    ops: ModuleType = keras.ops
    return ops


def convolution_matrix(kernel: Any, *, context: int = CONTEXT) -> Any:
    """Write a transposed convolution along the frames of a context as one matrix.

    Parameters
    ----------
    kernel : array of shape (taps, n, m), float32
        Connects n values of a frame with m values of a position, for each of `taps` frames.
    context : int
        Frames per context.

    Returns
    -------
    array of shape ((context + 1 - taps) * m, context * n), float32
        ``kernel[k, i, j]`` connects value j of position p with value i of frame p + k; all other
        elements are 0. Its transpose is the matrix of the convolution.
    """
    xp = array_namespace(kernel)
    taps, n, m = kernel.shape
    n_positions = context - taps + 1
    rows = xp.reshape(xp.transpose(kernel, (2, 0, 1)), (m, taps * n))
    # The same rows at each position, a frame further to the right each time.
    zeros_around = [(p * n, (n_positions - 1 - p) * n) for p in range(n_positions)]
    return xp.concatenate([xp.pad(rows, ((0, 0), zeros)) for zeros in zeros_around])


def prepare(weights: Weights) -> Prepared:
    """Arrange a network's weights as the matrices and biases of the forward pass.

    Parameters
    ----------
    weights : dict of str to array
        The network (`sepkit.weights`), with c channels and S sources.

    Returns
    -------
    dict of str to (matrix, bias)
        By layer: vertical_convolution ``(513 c, 50)``, horizontal_convolution ``(600, 30)`` (one
        position), horizontal_convolution_context ``(1250, 420)`` (all positions of a context),
        global_dense ``(420, 128)``, and stacked over sources single_dense ``(S, 128, 420)``,
        horizontal_deconvolution ``(S, 420, 1250)``, vertical_deconvolution ``(S, 50, 513 c)``.
    """
    kernel = {layer: weights[f"{layer}/kernel"] for layer in (*ENCODER, *DECODER)}
    bias = {layer: weights[f"{layer}/bias"] for layer in (*ENCODER, *DECODER)}
    xp = array_namespace(kernel["global_dense"])
    n_sources, _, channels, n_timbres = kernel["vertical_deconvolution"].shape
    sizes = infer_sizes(weights)
    context = sizes.context
    n_inputs = N_BINS * channels
    horizontal = kernel["horizontal_convolution"]
    vertical = xp.reshape(kernel["vertical_deconvolution"], (n_sources, n_inputs, n_timbres))
    deconvolutions = [
        convolution_matrix(kernel["horizontal_deconvolution"][i], context=context)
        for i in range(n_sources)
    ]
    return {
        "vertical_convolution": (
            xp.reshape(kernel["vertical_convolution"], (n_inputs, n_timbres)),
            bias["vertical_convolution"],
        ),
        "horizontal_convolution": (
            xp.reshape(horizontal, (sizes.pattern * n_timbres, -1)),
            bias["horizontal_convolution"],
        ),
        "horizontal_convolution_context": (
            xp.transpose(convolution_matrix(horizontal, context=context), (1, 0)),
            xp.tile(bias["horizontal_convolution"], (sizes.n_positions,)),
        ),
        "global_dense": (kernel["global_dense"], bias["global_dense"]),
        "single_dense": (kernel["single_dense"], bias["single_dense"][:, None]),
        "horizontal_deconvolution": (
            xp.stack(deconvolutions),
            xp.tile(bias["horizontal_deconvolution"], (1, context))[:, None],
        ),
        "vertical_deconvolution": (
            xp.transpose(vertical, (0, 2, 1)),
            xp.tile(bias["vertical_deconvolution"], (1, N_BINS))[:, None],
        ),
    }


def context_length(prepared: Prepared) -> int:
    """Return the number of frames per context: 25 for the report's network."""
    n_rows: int = prepared["horizontal_convolution_context"][0].shape[0]
    n_timbres: int = prepared["vertical_convolution"][0].shape[1]
    return n_rows // n_timbres


def _affine(layer: tuple[Any, Any], values: Any) -> Any:
    matrix, bias = layer
    product = array_namespace(values).matmul(values, matrix)
    product += bias  # in place for NumPy
    return product


def vertical_convolution(prepared: Prepared, magnitudes: Any) -> Any:
    """Apply the 50 timbre filters to each frame.

    Parameters
    ----------
    prepared : dict
        The network, of `prepare`.
    magnitudes : array of shape (..., 513, n_channels), float32
        Magnitudes of any number of frames.

    Returns
    -------
    array of shape (..., 50), float32
        Response of each filter in each frame.
    """
    flat = (*magnitudes.shape[:-2], prepared["vertical_convolution"][0].shape[0])
    shape = tuple(-1 if size is None else size for size in flat)
    xp = array_namespace(magnitudes)
    return _affine(prepared["vertical_convolution"], xp.reshape(magnitudes, shape))


def encode(prepared: Prepared, timbres: Any) -> Any:
    """Encode contexts: horizontal convolution and shared dense layer.

    Parameters
    ----------
    prepared : dict
        The network, of `prepare`.
    timbres : array of shape (n_contexts, 25, 50), float32
        `vertical_convolution` of the frames of each context.

    Returns
    -------
    array of shape (n_contexts, 128), float32
        The bottleneck, non-negative.
    """
    xp = array_namespace(timbres)
    layer = prepared["horizontal_convolution_context"]
    patterns = _affine(layer, xp.reshape(timbres, (-1, layer[0].shape[0])))
    return xp.maximum(_affine(prepared["global_dense"], patterns), 0.0)


def encode_song(prepared: Prepared, timbres: np.ndarray, hop: int) -> np.ndarray:
    """Encode all contexts of a song, with the horizontal convolution once per frame.

    Parameters
    ----------
    prepared : dict
        The network, of `prepare`.
    timbres : ndarray of shape (n_frames, 50), float32
        `vertical_convolution` of the frames of a song, at least one context.
    hop : int
        Frames between the starts of contexts.

    Returns
    -------
    ndarray of shape (n_contexts, 128), float32
        `encode` of every whole context.
    """
    n_taps = prepared["horizontal_convolution"][0].shape[0] // timbres.shape[1]
    n_positions = context_length(prepared) - n_taps + 1
    windows = np.lib.stride_tricks.sliding_window_view(timbres, n_taps, axis=0)
    windows = np.swapaxes(windows, 1, 2).reshape(len(windows), -1)
    patterns = _affine(prepared["horizontal_convolution"], windows)
    contexts = np.lib.stride_tricks.sliding_window_view(patterns, n_positions, axis=0)[::hop]
    contexts = np.swapaxes(contexts, 1, 2).reshape(len(contexts), -1)
    return np.maximum(_affine(prepared["global_dense"], contexts), 0.0)


def decode(prepared: Prepared, shared: Any) -> Any:
    """Decode contexts for all sources at once.

    Parameters
    ----------
    prepared : dict
        The network, of `prepare`, with S sources and c channels.
    shared : array of shape (n_contexts, 128), float32
        `encode` of each context.

    Returns
    -------
    array of shape (S, n_contexts, 25, 513, c), float32
        Non-negative; only the ratios between sources matter.
    """
    context = context_length(prepared)
    patterns = decoder_dense(prepared, shared)
    timbres = horizontal_deconvolution(prepared, patterns, 0, context)
    decoded = vertical_deconvolution(prepared, timbres)
    n_sources, _, n_inputs = prepared["vertical_deconvolution"][0].shape
    shape = (n_sources, -1, context, N_BINS, n_inputs // N_BINS)
    return array_namespace(decoded).reshape(decoded, shape)


def decoder_dense(prepared: Prepared, shared: Any) -> Any:
    """Apply the decoders' dense layers: from (n_contexts, 128) to (S, n_contexts, 420).

    The result is non-negative: 30 patterns at each of 14 positions.
    """
    return array_namespace(shared).maximum(_affine(prepared["single_dense"], shared), 0.0)


def horizontal_deconvolution(prepared: Prepared, patterns: Any, start: int, stop: int) -> Any:
    """Apply the horizontal deconvolution, for the frames from `start` up to `stop` of each context.

    From patterns (S, n_contexts, 420) to timbres (S, n_contexts * (stop - start), 50), a row per
    frame.
    """
    matrix, bias = prepared["horizontal_deconvolution"]
    n_sources, n_timbres, _ = prepared["vertical_deconvolution"][0].shape
    rows, n_patterns = prepared["horizontal_convolution"][0].shape
    n_taps = rows // n_timbres
    # Only positions that reach these frames: the matrix is 0 for the others.
    near = slice(max(0, start - n_taps + 1) * n_patterns, stop * n_patterns)
    frames = slice(start * n_timbres, stop * n_timbres)
    timbres = _affine((matrix[:, near, frames], bias[..., frames]), patterns[..., near])
    return array_namespace(timbres).reshape(timbres, (n_sources, -1, n_timbres))


def vertical_deconvolution(prepared: Prepared, timbres: Any) -> Any:
    """Apply the vertical deconvolution and the absolute value.

    From timbres (S, n_frames, 50) to magnitudes (S, n_frames, 513 c).
    """
    decoded = _affine(prepared["vertical_deconvolution"], timbres)
    if isinstance(decoded, np.ndarray):
        return np.abs(decoded, out=decoded)
    return array_namespace(decoded).abs(decoded)


def normalize(decoded: Any) -> Any:
    """Divide the decoders' outputs by their sum, which makes masks of them.

    Parameters
    ----------
    decoded : array of shape (S, ...), float32
        Non-negative values by source.

    Returns
    -------
    array of shape (S, ...), float32
        Masks with sum 1. They are 1/S where all values are zero, where the report divides zero by
        zero, or so small that float32 cannot hold the square of the sum, which the gradient needs.
    """
    if isinstance(decoded, np.ndarray):
        return normalize_in_place(decoded.copy())
    xp = array_namespace(decoded)
    total = xp.sum(decoded, axis=0)
    silent = total < SMALLEST_SUM
    # Both branches of `where` are differentiated: the divisor must never be zero.
    share = decoded / xp.where(silent, xp.ones_like(total), total)
    return xp.where(silent, xp.full_like(decoded, 1.0 / decoded.shape[0]), share)


def normalize_in_place(decoded: np.ndarray, total_mask: np.ndarray | float = 1.0) -> np.ndarray:
    """Normalise an array in place to masks whose sum is `total_mask`, and return it.

    It takes half the time of `normalize`, most of which goes to memory access.
    """
    total = decoded.sum(axis=0)
    if total.min(initial=1.0) < SMALLEST_SUM:
        silent = total < SMALLEST_SUM
        decoded[:, silent] = 1 / len(decoded)
        total[silent] = 1
    decoded *= np.divide(total_mask, total, out=total)
    return decoded


def masks(weights: Weights, magnitudes: Any) -> Any:
    """Compute the masks of contexts.

    Parameters
    ----------
    weights : dict of str to array
        The network, with S sources and c channels.
    magnitudes : array of shape (n_contexts, 25, 513, c), float32
        Magnitudes of the mixture.

    Returns
    -------
    array of shape (S, n_contexts, 25, 513, c), float32
        Non-negative, sum 1 over the sources.
    """
    prepared = prepare(weights)
    return normalize(decode(prepared, encode(prepared, vertical_convolution(prepared, magnitudes))))
